"""Members that share nothing: M ASE calculators, each of which is evaluated for itself, in the interpreter it needs.

Energy, forces and stress of all members are calculated at once, when they are first asked for; every weighted sum of
members follows from these. So one forward pass costs M evaluations, and a backward pass nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alflow.committee.calibration import Calibration
from alflow.committee.judgement import Judgement, Statements, judge
from alflow.committee.protocol import Forward, Gradient
from alflow.committee.resampling import Resampling
from alflow.committee.training import TrainingSet
from alflow.errors import ConfigError, PotentialError
from alflow.models.ace.fingerprint import Fingerprint
from alflow.randomness import generator
from alflow.structures import bits
from alflow.workers.interpreters import CalculatorError, Evaluations, default_threads, evaluate
from alflow.workers.recipe import Recipe

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_AT_ONCE = 16  # structures that are sent to an interpreter together
_FORCES = 48  # force components by which a structure is judged
_FRAMES, _COPIES = 2, 4  # structures by which noise is measured, and copies of each
_CELLS, _MANY = 8, 512  # cells of a further one, a repeated crystal, and its atoms at most: noise grows with them
_STEPS, _REACH = 9, 2e-3  # of a path along which an energy is smooth: structures, and Å of a mean atom from its middle
_EXACT = 1e-7  # eV and eV/Å: noise below this is that of double precision, and not worth telling
_NOISE = 0x6E6F6973  # first element of a random key, no cycle's number: how copies are turned and moved


_UNTRUSTED = (
    "its members are calculators that the file names, programs of others: if you trust whoever wrote it, say so with "
    "alflow.load(path, trust=True) or `alflow predict --trust`"
)


@dataclass(frozen=True, eq=False)
class Said:
    """What all members say of one structure.

    Attributes
    ----------
    energies : ndarray, shape (M,)
        eV, as the calculators count them.
    forces : ndarray, shape (M, N, 3)
        eV/Å.
    stress : ndarray, shape (M, 6), or None
        eV/Å^3; None unless all members give one.
    atom_energies : ndarray, shape (N, M), or None
        eV; None unless all members tell them.
    """

    energies: Array
    forces: Array
    stress: Array | None
    atom_energies: Array | None


@dataclass(frozen=True)
class Noise:
    """What members say differently of structures that are the same, or nearly so.

    Attributes
    ----------
    energy : float
        Root mean square over members, eV per square root of the number of atoms; NaN if nothing could be measured.
    force : float
        Of a force component, eV/Å.
    """

    energy: float = 0.0
    force: float = 0.0


class IndependentMembers:
    """The part of a model that is the same wherever its members come from.

    Attributes
    ----------
    numbers : tuple of int
        Atomic numbers of the species in the training set, sorted.
    zeros : ndarray, shape (S, M)
        What is added to a member's energy for each atom of a species, eV.
    fingerprint : Fingerprint
        Where structures lie among those of the training set: of alflow's own descriptor.
    threads : int
        Of each interpreter; by default OMP_NUM_THREADS where it is set, else 1, as packages give other last digits with
        more.
    trusted : bool
        Whether calculators may be run; not those that a file names, unless the user says so.
    """

    fingerprint: Fingerprint

    def __init__(self) -> None:
        self.numbers: tuple[int, ...] = ()
        self.zeros: Array = np.zeros((0, 0))
        self.trusted = True
        self._recipes: tuple[Recipe, ...] | None = None
        self.threads = default_threads()
        self._last: tuple[tuple[bytes, ...], Atoms, Said] | None = None

    @property
    def n_members(self) -> int:
        """M."""
        raise NotImplementedError

    def recipes(self) -> Sequence[Recipe]:
        """How the calculator of each member is made; ConfigError when a file of one is missing or is another."""
        raise NotImplementedError

    def forward(self, atoms: Atoms) -> Forward:
        """Energies of all members.

        Raises
        ------
        PotentialError
            Unknown species, no atoms, positions that are not finite, atoms that coincide; a member that fails.
        ConfigError
            A member that cannot be made: no structure is to blame.
        """
        said = self._say(atoms)
        zeros = self.zeros[np.searchsorted(self.numbers, atoms.numbers)]
        of_atoms = None if said.atom_energies is None else said.atom_energies + zeros
        return Forward(said.energies + zeros.sum(axis=0), of_atoms)

    def backward(self, weights: Array) -> Gradient:
        """Forces and stress of a weighted sum of the member energies of the last :meth:`forward`.

        Parameters
        ----------
        weights : ndarray, shape (M,)
            Of each member.
        """
        if self._last is None:
            msg = "backward before forward: call forward(atoms) first"
            raise PotentialError(msg)
        _, atoms, said = self._last
        weights = np.asarray(weights, dtype=float)
        if weights.shape != (self.n_members,):
            by_atom = weights.shape == (len(atoms), self.n_members)
            why = ", as calculators give no gradients of the energies of atoms" if by_atom else ""
            msg = f"weights of shape {weights.shape}: expected ({self.n_members},){why}"
            raise PotentialError(msg)
        stress = None if said.stress is None else weights @ said.stress
        return Gradient.of(atoms, np.einsum("m,mix->ix", weights, said.forces), stress)

    def grade(self, atoms: Atoms) -> Array:
        """Extrapolation grade of every atom, shape (N,), as of :class:`alflow.models.ace.fingerprint.Fingerprint`."""
        return self.fingerprint.grade(self.fingerprint.descriptor.environment(atoms))

    def features(self, atoms: Atoms) -> Array:
        """A structure's place in feature space, shape (D,): by alflow's own descriptor."""
        return self.fingerprint.features(self.fingerprint.descriptor.environment(atoms))

    def _say(self, atoms: Atoms) -> Said:
        """What the members say of a structure; of the last one it is remembered."""
        key = bits(atoms)
        if self._last is None or self._last[0] != key:
            self.fingerprint.descriptor.pairs(atoms)  # raises for what is no structure of these species
            (said,) = self.say([atoms])
            self._last = key, atoms.copy(), said
        return self._last[2]

    def say(self, frames: Sequence[Atoms]) -> list[Said]:
        """What the members say of structures; errors as of :meth:`forward`, for the first that one fails for."""
        found, failed = self.try_to_say(frames)
        if failed:
            raise PotentialError(next(iter(failed.values())))
        return found

    def try_to_say(self, frames: Sequence[Atoms]) -> tuple[list[Said], dict[int, str]]:
        """What the members say of structures, and why there is nothing by the number of a structure, NaN then.

        Raises
        ------
        ConfigError
            A calculator that cannot be made.
        PotentialError
            An interpreter that died.
        """
        if not self.trusted:
            raise ConfigError(_UNTRUSTED)
        if self._recipes is None:  # verified once: what an interpreter has loaded stays as it is
            self._recipes = tuple(self.recipes())
        recipes = self._recipes
        found: list[Said] = []
        failed: dict[int, str] = {}
        for begin in range(0, len(frames), _AT_ONCE):
            batch = [_bare(frame) for frame in frames[begin : begin + _AT_ONCE]]
            try:
                told = evaluate(recipes, batch, self.threads)
            except CalculatorError as error:
                raise PotentialError(str(error)) from error
            ends = np.cumsum([len(frame) for frame in batch])
            for k, (frame, end) in enumerate(zip(batch, ends, strict=True)):
                said = _joined(told, k, int(end) - len(frame), int(end))
                found.append(said)
                wrong = next(((m, one.errors[k]) for m, one in enumerate(told) if k in one.errors), None)
                if wrong is None and not np.isfinite(said.energies).all():
                    wrong = int(np.flatnonzero(~np.isfinite(said.energies))[0]), "its energy is not finite"
                if wrong is None and not np.isfinite(said.forces).all():
                    bad = np.flatnonzero(~np.isfinite(said.forces).all(axis=(1, 2)))
                    wrong = int(bad[0]), "its forces are not finite"
                if wrong is not None:
                    member, why = wrong
                    formula = frame.get_chemical_formula()
                    elements = ", ".join(sorted(set(frame.get_chemical_symbols())))
                    failed[begin + k] = (
                        f"member {member} ({recipes[member].name}) failed on {formula}: {why}; expected one that knows "
                        f"{elements} and takes such a structure"
                    )
        return found, failed

    def judged(
        self, training: TrainingSet, members: Array, said: Sequence[Said], resampling: Resampling, seen: Flags | None,
    ) -> tuple[Judgement, Noise]:  # fmt: skip
        """Errors and calibration, no uncertainty of energies and forces below the members' own noise, and that noise.

        Parameters
        ----------
        training : TrainingSet
            Labels.
        members : ndarray, shape (n, M)
            Energies that the members give, from where the labels count; NaN of a structure that cannot be judged.
        said : sequence of Said
            What the members say of each structure.
        resampling : Resampling
            To which group each structure was dealt; it draws the force components that are judged, too.
        seen : ndarray of bool, shape (M, G), or None
            Which groups each member has seen; None of members that were there before.
        """
        chosen = {
            k: np.sort(resampling.draws(k).permutation(forces.size)[:_FORCES])
            for k, forces in enumerate(training.forces)
            if forces is not None
        }
        stresses = {
            k: stress for k, stress in enumerate(training.stresses) if stress is not None and said[k].stress is not None
        }
        statements = Statements(
            composition=training.composition(),
            groups=resampling.groups.tolist(),
            energies=training.energies.tolist(),
            members=members,
            with_forces=list(chosen),
            forces=[np.asarray(training.forces[k]).ravel()[kept] for k, kept in chosen.items()],
            force_members=(
                said[k].forces.reshape(self.n_members, -1).T[kept] for k, kept in chosen.items()
            ),
            with_stress=list(stresses),
            stresses=list(stresses.values()),
            stress_sizes=[np.sqrt(len(training.frames[k])) / training.frames[k].get_volume() for k in stresses],
            stress_members=[np.asarray(said[k].stress).T for k in stresses],
        )  # fmt: skip
        noise = self.noise(training.frames)
        judgement = judge(statements, seen, kinds=training.names_of_kinds())
        return replace(
            judgement,
            energy=_not_below(judgement.energy, noise.energy),
            force=_not_below(judgement.force, noise.force),
            noise=float(np.fmax(noise.energy, 0.0)),
        ), noise

    def noise(self, frames: Sequence[Atoms]) -> Noise:
        """Measure it on the largest structures, where it is largest, in two ways, of which the larger counts.

        Turned, moved and reordered they are the same, and everything that changes is noise. Along a path of thousandths
        of an Å an energy is a polynomial of third order, and what is left of it is noise: that of a number with few
        digits, which may come out the same for all copies.
        """
        by_copies: list[Array] = []
        by_paths: list[Array] = []
        forces: list[Array] = []
        largest = sorted(range(len(frames)), key=lambda k: -len(frames[k]))[:_FRAMES]
        tried = [frames[k] for k in largest]
        if tried and tried[0].pbc.all() and _CELLS * len(tried[0]) <= _MANY:
            tried.append(tried[0].repeat(2))
        for number, atoms in enumerate(tried):
            copies = [_copy(atoms, number, k) for k in range(_COPIES)]
            found, failed = self.try_to_say([atoms, *(copy for copy, _, _ in copies), *_path(atoms, number)])
            root = np.sqrt(len(atoms))
            for k, (_, matrix, order) in enumerate(copies, start=1):
                if not failed.keys() & {0, k}:
                    by_copies.append((found[k].energies - found[0].energies) / (np.sqrt(2) * root))
                    forces.append(((found[k].forces @ matrix - found[0].forces[:, order]) / np.sqrt(2)).ravel())
            if not any(k > _COPIES for k in failed):
                by_paths.append(_roughness(np.array([one.energies for one in found[1 + _COPIES :]])) / root)
        return Noise(float(np.fmax(_rms(by_copies), _rms(by_paths))), _rms(forces))

    def remarks(self, noise: Noise) -> tuple[str, ...]:
        """What the user should know of the members, in lines."""
        found = [f"{self.n_members} members share nothing: a structure takes {self.n_members} evaluations"]
        if np.isnan(noise.energy):
            found.append(
                "noise of the members could not be measured: they fail for structures turned or moved a little"
            )
        elif np.fmax(noise.energy, noise.force) > _EXACT:
            found.append(
                f"noise of the members: {noise.energy:.2g} eV of an energy per square root of "
                f"the number of atoms, {noise.force:.2g} eV/Å of a force; no sigma is below it (single precision? "
                "calculators often take a parameter for double)"
            )
        return tuple(found)


def _bare(atoms: Atoms) -> Atoms:
    """What members are told, of labels and in simulations alike: no charges or moments of single atoms."""
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=atoms.info)


def _joined(told: Sequence[Evaluations], k: int, begin: int, end: int) -> Said:
    """What all members say of the k-th structure, whose atoms stand from ``begin`` to ``end``."""
    stress = np.array([one.stress[k] for one in told])
    of_atoms = np.array([one.energies[begin:end] for one in told]).T
    return Said(
        energies=np.array([one.energy[k] for one in told]),
        forces=np.array([one.forces[begin:end] for one in told]),
        stress=stress if np.isfinite(stress).all() else None,
        atom_energies=of_atoms if np.isfinite(of_atoms).all() else None,
    )


def _not_below(calibration: Calibration, noise: float) -> Calibration:
    """With the noise as the least uncertainty there is."""
    return replace(calibration, floor=float(np.fmax(calibration.floor, noise)))


def _copy(atoms: Atoms, *key: int) -> tuple[Atoms, Array, NDArray[np.intp]]:
    """The same structure elsewhere, what turns its forces back (they are multiplied with it), and the atoms' order."""
    rng = generator(0, _NOISE, *key)
    matrix = Rotation.random(random_state=rng).as_matrix()
    order = rng.permutation(len(atoms))
    copy: Atoms = atoms[order]
    copy.set_cell(atoms.cell.array @ matrix.T)
    copy.positions = copy.positions @ matrix.T + rng.normal(size=3)
    return copy, matrix, order


def _path(atoms: Atoms, *key: int) -> list[Atoms]:
    """The structure moved along a random direction, in equal steps."""
    direction = generator(0, _NOISE, *key).normal(size=atoms.positions.shape)
    frames = []
    for by in np.linspace(-_REACH, _REACH, _STEPS):
        frame: Atoms = atoms.copy()
        frame.positions += by * direction
        frames.append(frame)
    return frames


def _roughness(energies: Array) -> Array:
    """What is left of energies along a path, shape (K, M), without a polynomial of third order: of each, unbiased."""
    basis = np.vander(np.linspace(-1.0, 1.0, len(energies)), 4)
    rest = energies - basis @ np.linalg.lstsq(basis, energies, rcond=None)[0]
    return np.asarray(np.sqrt(np.sum(rest**2, axis=0) / (len(energies) - basis.shape[1])))


def _rms(parts: Sequence[Array]) -> float:
    """The largest root mean square of one of the parts: of the structure where it is most; NaN without any."""
    return max((float(np.sqrt(np.mean(part**2))) for part in parts), default=float("nan"))
