"""The structures a committee was fitted to, as plain arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from alflow.errors import PotentialError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Labelled structures; energies and forces are what is to be learned (without the baseline).

    Attributes
    ----------
    frames : tuple of Atoms
        Bare structures.
    energies : ndarray, shape (n,)
        eV.
    forces : tuple of ndarray, shape (N, 3), or None
        eV/Å; None where there are none.
    """

    frames: tuple[Atoms, ...]
    energies: Array
    forces: tuple[Array | None, ...]

    @classmethod
    def empty(cls) -> "TrainingSet":
        """No structures."""
        return cls((), np.zeros(0), ())

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Atoms, float, Array | None]:
        return self.frames[index], float(self.energies[index]), self.forces[index]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers of all species, sorted."""
        return tuple(sorted({int(z) for frame in self.frames for z in frame.numbers}))

    def joined(self, other: "TrainingSet") -> "TrainingSet":
        """These structures, then the others."""
        energies = np.concatenate([self.energies, other.energies])
        return TrainingSet(self.frames + other.frames, energies, self.forces + other.forces)

    def energy_zero(self) -> Array:
        """Energy of an atom of each species that fits the energies best, shape (species,), of minimal norm, eV."""
        counts = np.array([[np.sum(frame.numbers == z) for z in self.numbers] for frame in self.frames], dtype=float)
        return np.asarray(np.linalg.lstsq(counts, self.energies, rcond=1e-8)[0])

    def write(self, group: h5py.Group) -> None:
        """Write as concatenated arrays; the structures' lengths tell them apart."""
        group["length"] = np.array([len(frame) for frame in self.frames])
        group["numbers"] = np.concatenate([frame.numbers for frame in self.frames])
        group["positions"] = np.concatenate([frame.positions for frame in self.frames])
        group["cell"] = np.array([frame.cell.array for frame in self.frames])
        group["pbc"] = np.array([frame.pbc for frame in self.frames])
        group["energies"] = self.energies
        group["has_forces"] = np.array([f is not None for f in self.forces])
        group["forces"] = np.concatenate([np.zeros((0, 3)), *(f for f in self.forces if f is not None)])

    @classmethod
    def read(cls, group: h5py.Group) -> "TrainingSet":
        """Read what :meth:`write` wrote."""
        lengths, has_forces = group["length"][()], group["has_forces"][()]
        cuts = np.cumsum(lengths)[:-1]
        parts = zip(
            np.split(group["numbers"][()], cuts),
            np.split(group["positions"][()], cuts),
            group["cell"][()],
            group["pbc"][()],
            strict=True,
        )
        frames = tuple(Atoms(numbers=n, positions=x, cell=c, pbc=p) for n, x, c, p in parts)
        pieces = iter(np.split(group["forces"][()], np.cumsum(lengths[has_forces])[:-1]))
        return cls(frames, group["energies"][()], tuple(next(pieces) if has else None for has in has_forces))


def make_training_set(frames: Sequence[Atoms], baseline: Calculator | None) -> TrainingSet:
    """Take energies and forces from the structures' calculators and subtract the baseline.

    Raises
    ------
    PotentialError
        No structures; or one without atoms, without an energy, or with anything that is not finite.
    """
    if len(frames) == 0:
        msg = "no structures to fit: expected at least one labelled structure"
        raise PotentialError(msg)
    bare: list[Atoms] = []
    energies: list[float] = []
    all_forces: list[Array | None] = []
    for index, frame in enumerate(frames):
        energy, forces = _labels(frame, index)
        structure = Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
        if baseline is not None:
            structure.info = dict(frame.info)  # a baseline may need the charge
            energy -= float(baseline.get_potential_energy(structure))
            forces = None if forces is None else forces - baseline.get_forces(structure)
            structure.info = {}
        bare.append(structure)
        energies.append(energy)
        all_forces.append(forces)
    return TrainingSet(tuple(bare), np.array(energies), tuple(all_forces))


def check_separate(training: TrainingSet) -> None:
    """Refuse structures in which atoms coincide: PotentialError, before anything is changed by them."""
    for index, frame in enumerate(training.frames):
        distance = neighbor_list("d", frame, 0.1)
        if len(distance) and distance.min() < 1e-6:
            msg = f"structure {index} ({frame.get_chemical_formula()}) has two atoms at the same place: remove one"
            raise PotentialError(msg)


def _labels(frame: Atoms, index: int) -> tuple[float, Array | None]:
    """Energy and forces that a structure carries, checked."""
    where = f"structure {index} ({frame.get_chemical_formula()})"
    if len(frame) == 0:
        msg = f"structure {index} has no atoms: remove it"
        raise PotentialError(msg)
    if frame.calc is None:
        msg = f"{where} has no energy: expected a labelled structure, with energy (eV) and, if possible, forces (eV/Å)"
        raise PotentialError(msg)
    try:
        energy = float(frame.get_potential_energy())
    except (PropertyNotImplementedError, RuntimeError) as error:
        msg = f"{where} has no energy ({error}): label it first"
        raise PotentialError(msg) from error
    try:
        forces = np.array(frame.get_forces(apply_constraint=False), dtype=float)
    except (PropertyNotImplementedError, RuntimeError):
        forces = None
    for what, value in (("energy", energy), ("forces", forces), ("positions", frame.positions)):
        if value is not None and not np.isfinite(value).all():
            msg = f"{where}: its {what} are not finite: correct or remove the structure"
            raise PotentialError(msg)
    return energy, forces
