"""The structures a committee was fitted to, as plain arrays."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from alflow.committee.kinds import origin_of
from alflow.errors import ConfigError, PotentialError, PotentialWarning
from alflow.structures import charge_and_multiplicity, distance_ratio
from alflow.workers import server

Array = NDArray[np.float64]

BaselineResult = tuple[float, Array] | tuple[float, Array, Array | None]
"""Energy (eV), forces (eV/Å, (N, 3)) and, where there is one, stress (eV/Å^3, (6,)) of a structure by the baseline."""

_SAME_ENERGY = 1e-6  # eV
_NEUTRAL = (0, 1)  # charge, e, and multiplicity
_WILD, _WILD_RATIO = 1.0, 20.0  # eV/atom; of the median
_STRONGEST, _TOUCHING = 200.0, 0.6  # eV/Å; of the sum of two covalent radii


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Labelled structures; energies, forces and stresses are what is to be learned (without the baseline).

    Attributes
    ----------
    frames : tuple of Atoms
        Bare structures; ``info`` holds charge (e) and multiplicity, where these are not 0 and 1.
    energies : ndarray, shape (n,)
        eV.
    forces : tuple of ndarray, shape (N, 3), or None
        eV/Å; None where there are none.
    baseline : tuple of (float, ndarray, ndarray or None), optional
        What was subtracted from each; kept for members that are fitted to whole energies.
    origins : tuple of str, optional
        Where each structure comes from: its system, its cycle, the ``config_type`` of a file; empty where nothing is
        known. Without any, none is.
    stresses : tuple of ndarray, shape (6,), or None, optional
        eV/Å^3, ASE's sign and Voigt order; None where there are none. Without any, none is.
    """

    frames: tuple[Atoms, ...]
    energies: Array
    forces: tuple[Array | None, ...]
    baseline: tuple[tuple[float, Array, Array | None], ...] = ()
    origins: tuple[str, ...] = ()
    stresses: tuple[Array | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.origins:
            object.__setattr__(self, "origins", ("",) * len(self.frames))
        if not self.stresses:
            object.__setattr__(self, "stresses", (None,) * len(self.frames))

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
        return tuple(np.unique(np.concatenate([np.zeros(0, int), *(f.numbers for f in self.frames)])).tolist())

    def subset(self, indices: Sequence[int]) -> "TrainingSet":
        """Some of the structures."""
        kept = list(indices)
        return TrainingSet(
            tuple(self.frames[k] for k in kept),
            self.energies[kept],
            tuple(self.forces[k] for k in kept),
            tuple(self.baseline[k] for k in kept) if self.baseline else (),
            tuple(self.origins[k] for k in kept),
            tuple(self.stresses[k] for k in kept),
        )

    def joined(self, other: "TrainingSet") -> "TrainingSet":
        """These structures, then the others."""
        energies = np.concatenate([self.energies, other.energies])
        baseline = self.baseline + other.baseline
        return TrainingSet(
            self.frames + other.frames,
            energies,
            self.forces + other.forces,
            baseline,
            self.origins + other.origins,
            self.stresses + other.stresses,
        )

    def whole(self) -> "TrainingSet":
        """With what was subtracted, where that was kept."""
        if not self.baseline:
            return self
        return TrainingSet(
            self.frames,
            self.energies + [energy for energy, _, _ in self.baseline],
            tuple(
                None if forces is None else forces + below
                for forces, (_, below, _) in zip(self.forces, self.baseline, strict=True)
            ),
            origins=self.origins,
            stresses=tuple(
                None if stress is None or below is None else stress + below
                for stress, (_, _, below) in zip(self.stresses, self.baseline, strict=True)
            ),
        )

    def composition(self) -> Array:
        """Number of atoms of each species in each structure, shape (n, species)."""
        numbers = np.array(self.numbers)
        return np.array([np.sum(frame.numbers == numbers[:, None], axis=1) for frame in self.frames], dtype=float)

    def kinds(self) -> list[tuple[str, str, int, int]]:
        """By what structures are told apart when they are dealt to members: origin, composition and electrons."""
        return [
            (origin, frame.get_chemical_formula(), *charge_and_multiplicity(frame))
            for origin, frame in zip(self.origins, self.frames, strict=True)
        ]

    def names_of_kinds(self) -> list[str]:
        """By what errors are told apart: where structures come from or, if all come from one place, composition."""
        if len(set(self.origins)) > 1:
            return [origin or "others" for origin in self.origins]
        return [frame.get_chemical_formula() for frame in self.frames]

    def energy_zero(self) -> Array:
        """Energy of an atom of each species that fits the energies best, shape (species,), of minimal norm, eV."""
        return np.asarray(np.linalg.lstsq(self.composition(), self.energies, rcond=1e-8)[0])

    def scatter(self) -> tuple[Array, float]:
        """That, and the standard deviation of the energies from it over the square root of the number of atoms, eV.

        Energies more than 20 times as far off as the median are left out; NaN without more structures than parameters.
        """
        counts = self.composition()
        root = np.sqrt(counts.sum(axis=1))
        kept = np.ones(len(self), dtype=bool)
        # Repeated, as a wild energy moves the zero, and with it every other residual, before it is left out.
        for _ in range(3):
            zero = np.asarray(np.linalg.lstsq(counts[kept], self.energies[kept], rcond=1e-8)[0])
            residuals = np.asarray(np.abs(self.energies - counts @ zero) / root)
            kept = residuals <= max(_WILD_RATIO * float(np.median(residuals)), 1e-9)
        free = int(np.sum(kept)) - int(np.linalg.matrix_rank(counts[kept], rtol=1e-8))
        return zero, float(np.sqrt(np.sum(residuals[kept] ** 2) / free)) if free > 0 else float("nan")

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
        if any(stress is not None for stress in self.stresses):
            group["stresses"] = _filled(self.stresses)
        states = np.array([charge_and_multiplicity(frame) for frame in self.frames])
        if len(states) and np.any(states != _NEUTRAL):
            group["charge_and_multiplicity"] = states
        if any(self.origins):
            group["origins"] = np.array([origin.encode() for origin in self.origins])
        if self.baseline:
            group["baseline_energies"] = np.array([energy for energy, _, _ in self.baseline])
            group["baseline_forces"] = np.concatenate([forces for _, forces, _ in self.baseline])
            group["baseline_stresses"] = _filled([stress for _, _, stress in self.baseline])

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
        if "charge_and_multiplicity" in group:
            for frame, state in zip(frames, group["charge_and_multiplicity"][()].tolist(), strict=True):
                frame.info = _state(*state)
        forces = tuple(next(pieces) if has else None for has in has_forces)
        baseline: tuple[tuple[float, Array, Array | None], ...] = ()
        if "baseline_energies" in group:
            parts_of, below = np.split(group["baseline_forces"][()], cuts), _stresses(group, "baseline_stresses")
            below = below or (None,) * len(frames)
            baseline = tuple(zip(group["baseline_energies"][()].tolist(), parts_of, below, strict=True))
        origins = tuple(origin.decode() for origin in group["origins"][()]) if "origins" in group else ()
        return cls(frames, group["energies"][()], forces, baseline, origins, _stresses(group, "stresses"))


def _filled(stresses: Sequence[Array | None]) -> Array:
    """Shape (n, 6), NaN where there is none."""
    return np.array([np.full(6, np.nan) if stress is None else stress for stress in stresses])


def _stresses(group: h5py.Group, name: str) -> tuple[Array | None, ...]:
    """What :func:`_filled` made of them; nothing where nothing was written."""
    return tuple(x if np.isfinite(x).all() else None for x in group[name][()]) if name in group else ()


def make_training_set(
    frames: Sequence[Atoms],
    baseline: Calculator | None,
    baseline_results: Sequence[BaselineResult | None] | None = None,
    origins: Sequence[str] | None = None,
    *,
    keep: bool = False,
) -> TrainingSet:
    """Take energies, forces and stresses from the structures' calculators and subtract the baseline.

    Of which the results may be known already for some structures; with ``keep`` they are kept. A stress counts with a
    full cell that is periodic in three directions, and where the baseline has one as well. What ``info`` says of
    the ``system`` and the ``config_type`` of a structure is added to its origin.

    Raises
    ------
    PotentialError
        No structures; or one without atoms, without an energy, or with anything that is not finite; results without a
        baseline, or not one for each structure; not one origin for each; a baseline that fails.
    """
    if len(frames) == 0:
        msg = "no structures to fit: expected at least one labelled structure"
        raise PotentialError(msg)
    if baseline_results is not None and (baseline is None or len(baseline_results) != len(frames)):
        what = "no baseline" if baseline is None else f"{len(baseline_results)} of them for {len(frames)} structures"
        msg = f"baseline_results: expected one of a baseline for each structure, None if not known, found {what}"
        raise PotentialError(msg)
    if origins is not None and len(origins) != len(frames):
        msg = f"origins: expected one for each of {len(frames)} structures, found {len(origins)}"
        raise PotentialError(msg)
    known = [None] * len(frames) if baseline_results is None else baseline_results
    bare: list[Atoms] = []
    energies: list[float] = []
    all_forces: list[Array | None] = []
    stresses: list[Array | None] = []
    subtracted: list[tuple[float, Array, Array | None]] = []
    for index, (frame, result) in enumerate(zip(frames, known, strict=True)):
        energy, forces, stress = _labels(frame, index)
        structure = Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
        if baseline is not None:
            structure.info = dict(frame.info)  # a baseline may need the charge, and begins from the same as in walks
            for name in ("initial_charges", "initial_magmoms"):
                if name in frame.arrays:
                    structure.arrays[name] = frame.arrays[name].copy()
            wanted = stress is not None
            below, pull, *rest = evaluated(baseline, structure, stress=wanted) if result is None else result
            pressed = None if not rest or rest[0] is None or np.isnan(rest[0]).any() else rest[0]
            subtracted.append((below, pull, pressed))
            energy -= below
            forces = None if forces is None else forces - pull
            stress = None if stress is None or pressed is None else stress - pressed
            structure = Atoms(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
        structure.info = _state(*charge_and_multiplicity(frame))
        bare.append(structure)
        energies.append(energy)
        all_forces.append(forces)
        stresses.append(stress)
    whole = [""] * len(frames) if origins is None else origins
    return TrainingSet(
        tuple(bare),
        np.array(energies),
        tuple(all_forces),
        tuple(subtracted) if keep else (),
        tuple(origin_of(frame, origin) for frame, origin in zip(frames, whole, strict=True)),
        tuple(stresses),
    )


def _state(charge: int, multiplicity: int) -> dict[str, int]:
    """What is kept of a structure's electrons: nothing of a neutral singlet."""
    given = zip(("charge", "multiplicity"), (charge, multiplicity), _NEUTRAL, strict=True)
    return {name: value for name, value, usual in given if value != usual}


def evaluated(baseline: Calculator, structure: Atoms, *, stress: bool = False) -> tuple[float, Array, Array | None]:
    """Energy, forces and, if asked for and there is one, stress by a baseline; PotentialError when it fails."""
    try:
        found = server.evaluated(baseline, structure, stress=stress)
        energy, forces = float(found["energy"]), np.array(found["forces"])
    except ConfigError:  # of one that cannot be made: no structure is to blame
        raise
    except Exception as error:  # calculators raise whatever they like
        reason = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"the baseline failed on {structure.get_chemical_formula()}: {reason}"
        raise PotentialError(msg) from error
    return energy, forces, found.get("stress")


def without_duplicates(training: TrainingSet, new: TrainingSet) -> TrainingSet:
    """Those of the new structures that are neither in the training set nor twice among themselves; warns of the others.

    A structure that came twice would count twice, and be judged by members that have seen it.
    """
    known = {_identity(frame): (index, training.energies[index]) for index, frame in enumerate(training.frames)}
    keep: list[int] = []
    for index, frame in enumerate(new.frames):
        place = len(training) + index
        first, energy = known.setdefault(_identity(frame), (place, new.energies[index]))
        if first == place:
            keep.append(index)
            continue
        differ = abs(energy - new.energies[index]) > _SAME_ENERGY
        but = f", but their energies are {energy:.6g} and {new.energies[index]:.6g} eV: correct one" if differ else ""
        _warn(f"structure {place} ({frame.get_chemical_formula()}) is the same as structure {first}, and left out{but}")
    return new.subset(keep)


def without_wild_forces(frames: Sequence[Atoms], first: int) -> list[Atoms]:
    """Structures without forces, and a stress, that nothing in them can exert; warns of these.

    Above 200 eV/Å with no two atoms closer than 0.6 of the sum of their covalent radii. One such structure would rule
    the fit of all. Nothing else decides, so that it does not matter what is known when a structure comes. ``first`` is
    the number of the first one in messages.
    """
    usual, wild = list(frames), dict[int, float]()
    for index, frame in enumerate(frames):
        forces = getattr(frame.calc, "results", {}).get("forces")
        largest = 0.0 if forces is None else float(np.abs(forces).max(initial=0.0))
        if np.isfinite(largest) and largest > _STRONGEST and distance_ratio(frame) > _TOUCHING:
            bare = frame.copy()
            bare.calc = SinglePointCalculator(bare, energy=_energy(frame))
            usual[index], wild[index] = bare, largest
    if wild:
        k, largest = next(iter(wild.items()))
        which = f"structure {first + k} ({frames[k].get_chemical_formula()})"
        which += f" and {len(wild) - 1} more" if len(wild) > 1 else ""
        _warn(
            f"{which}: forces of up to {largest:.3g} eV/Å, though no atoms are closer than {_TOUCHING} of their "
            "covalent radii: left out, but not the energy; check their unit"
        )
    return usual


def warn_of_outliers(training: TrainingSet, first: int, isolated: Sequence[int]) -> None:
    """Warn of structures from ``first`` on whose energy disagrees wildly with what their composition lets expect.

    Not of isolated atoms, which nothing binds.

    The energy of an atom of each species is fitted to all structures by least absolute deviations, which a few wrong
    labels do not move; a residual counts as wild beyond 1 eV/atom and 20 times the median residual.
    """
    counts = training.composition()
    n_atoms = counts.sum(axis=1)
    shares, energies = counts / n_atoms[:, None], training.energies / n_atoms
    residuals, weights = energies, np.ones(len(energies))
    for _ in range(50):  # iteratively reweighted least squares
        root = np.sqrt(weights)
        zero = np.linalg.lstsq(shares * root[:, None], energies * root, rcond=1e-8)[0]
        residuals = np.abs(energies - shares @ zero)
        weights = 1.0 / np.maximum(residuals, 1e-6)
    wild = np.flatnonzero(residuals > max(_WILD, _WILD_RATIO * float(np.median(residuals))))
    for index in np.setdiff1d(wild[wild >= first], isolated):
        formula = training.frames[index].get_chemical_formula()
        _warn(
            f"structure {index} ({formula}): its energy of {training.energies[index]:.6g} eV is {residuals[index]:.3g} "
            "eV/atom away from that of the other structures: check its unit and its label, or remove it"
        )


def _warn(message: str) -> None:
    warnings.warn(message, PotentialWarning, stacklevel=5)


def _identity(frame: Atoms) -> bytes:
    """Of a bare structure, to the last bit."""
    parts = (frame.numbers, frame.positions + 0.0, frame.cell.array + 0.0, frame.pbc)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).digest()


def _labels(frame: Atoms, index: int) -> tuple[float, Array | None, Array | None]:
    """Energy, forces and stress that a structure carries, checked."""
    where = f"structure {index} ({frame.get_chemical_formula()})"
    if len(frame) == 0:
        msg = f"structure {index} has no atoms: remove it"
        raise PotentialError(msg)
    _check_finite("positions", frame.positions, where)
    _check_finite("cell vectors", frame.cell.array, where)
    if frame.calc is None:
        msg = f"{where} has no energy: expected a labelled structure, with energy (eV) and, if possible, forces (eV/Å)"
        raise PotentialError(msg)
    try:
        energy = _energy(frame)
    except (PropertyNotImplementedError, RuntimeError) as error:
        msg = f"{where} has no energy ({error}): label it first"
        raise PotentialError(msg) from error
    try:
        forces = np.array(frame.get_forces(apply_constraint=False), dtype=float)
    except (PropertyNotImplementedError, RuntimeError):
        forces = None
    _check_finite("energy", energy, where)
    if forces is not None:
        if forces.shape != (len(frame), 3):
            msg = f"{where}: expected forces of shape ({len(frame)}, 3), found {forces.shape}: correct the label"
            raise PotentialError(msg)
        _check_finite("forces", forces, where)
    return energy, forces, _stress(frame, where)


def _energy(frame: Atoms) -> float:
    """The energy whose gradient the forces are: of two the free energy, eV; errors as of the calculator."""
    try:
        energy = frame.get_potential_energy(apply_constraint=False)
    except PropertyNotImplementedError:  # a file may have the free energy alone
        return float(frame.get_potential_energy(force_consistent=True, apply_constraint=False))
    # asking for it is refused by calculators that have it
    free = getattr(frame.calc, "results", {}).get("free_energy")
    return float(energy if free is None else free)


def _stress(frame: Atoms, where: str) -> Array | None:
    """The stress that a structure carries, shape (6,); none is asked for that would have to be calculated."""
    given = getattr(frame.calc, "results", {}).get("stress")
    if given is None or not frame.pbc.all() or not frame.cell.volume > 0:
        return None
    stress = np.array(given, dtype=float)
    if stress.shape == (3, 3):
        stress = full_3x3_to_voigt_6_stress((stress + stress.T) / 2)
    if stress.shape != (6,):
        msg = f"{where}: expected a stress of shape (6,) or (3, 3), found {stress.shape}: correct the label"
        raise PotentialError(msg)
    if np.isnan(stress).all():  # how programs say that there is none
        return None
    _check_finite("stress", stress, where)
    return stress


def _check_finite(what: str, value: Any, where: str) -> None:
    if not np.isfinite(value).all():
        verb = "is" if what in {"energy", "stress"} else "are"
        msg = f"{where}: its {what} {verb} not finite: correct or remove the structure"
        raise PotentialError(msg)
