"""Fitting all members at once: sums over the structures of a training set, and the solution that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from alflow.committee import kinds
from alflow.committee.judgement import judge, share_of_whole
from alflow.committee.protocol import Fitted
from alflow.committee.resampling import Resampling
from alflow.committee.training import TrainingSet
from alflow.models.ace.basis import make_basis
from alflow.models.ace.consistency import remarks_on_labels
from alflow.models.ace.core import close, distant, inner_distances, repelling
from alflow.models.ace.distant import Distant, Expected, meeting
from alflow.models.ace.environment import Descriptor, Environment
from alflow.models.ace.equations import NormalEquations
from alflow.models.ace.extrapolation import Leverage
from alflow.models.ace.jury import Jury
from alflow.models.ace.kernels.core import Core
from alflow.models.ace.memory import check_memory
from alflow.models.ace.pseudo_species import layout, mixing
from alflow.models.ace.regression import solve
from alflow.models.ace.repulsion import fitted_core, rows_of_pairs
from alflow.models.ace.settings import AceSettings, lengths
from alflow.models.ace.threads import each
from alflow.models.ace.unmet import Guess, Rule, unmet
from alflow.progress import Progress, Silent
from alflow.randomness import generator

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]

_BOTH = np.array([1.0, 1.0, 1.0, *3 * [np.sqrt(2.0)]])  # xy counts for yx, too: a crystal may be turned as one likes
_ISOTROPIC = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
_UNMET = 0x756E6D74  # first element of a random key, no cycle's number: of what is drawn of features never met
_NAMED = 6  # pairs that never met, in words
_STEEP = 3  # degree from which the prior of a pair term falls no more


@dataclass(frozen=True, eq=False)
class Solution:
    """Members that were fitted, and what was learned beside them.

    Attributes
    ----------
    coefficients : ndarray, shape (S, F, M)
        Of the features of the atoms of each species, eV.
    constants : ndarray, shape (S, M)
        Energy of an atom without surroundings, eV.
    core : Core or None
        What holds atoms apart; None where a baseline does.
    leverages : list of Leverage, length S
        For the extrapolation grade.
    fitted : Fitted
        What the committee keeps.
    stresses_over_others : float
        Slope of the stresses (:func:`alflow.models.ace.consistency.stresses_over_others`).
    """

    coefficients: Array
    constants: Array
    core: Core | None
    leverages: list[Leverage]
    fitted: Fitted
    stresses_over_others: float


def make_descriptor(settings: AceSettings, numbers: tuple[int, ...]) -> Descriptor:
    """The descriptor for some species, as sorted atomic numbers."""
    n_species = len(numbers)
    sizes = int(settings.n_max), int(settings.l_max), settings.features_of(n_species), settings.pairs_of(n_species)
    n_pseudo, n_own = layout(n_species, *sizes, settings.n_pseudo_species)
    basis = make_basis(n_species, *sizes, n_pseudo, n_own)
    return Descriptor(numbers, settings.radius, basis, lengths(numbers), mixing(numbers, n_pseudo))


class Fit:
    """Sums over the structures of a training set, to which further structures are added.

    Parameters
    ----------
    settings : AceSettings
        Of the potential.
    n_groups : int
        To which structures are dealt.
    training : TrainingSet
        Decides on the species; its structures are added by :meth:`add`.
    stresses : bool
        Whether stresses are learned, where there are any.

    Attributes
    ----------
    descriptor : Descriptor
        With the distances at which the radial functions come to rest in the structures added.
    progress : Progress
        Told how far the fit is; nobody watches by default.
    """

    def __init__(self, settings: AceSettings, n_groups: int, training: TrainingSet, *, stresses: bool = True) -> None:
        self.settings = settings
        self.progress: Progress = Silent()
        self.stresses = stresses and settings.stress_weight > 0
        self.descriptor = make_descriptor(settings, training.numbers)
        n_species = len(training.numbers)
        n_features = self.descriptor.basis.n_features
        check_memory(n_groups, n_species, n_features + 1, self.descriptor.threads)
        # Besides the features of atoms a constant virial of the atoms of each species, see :attr:`penalties`.
        self.equations = NormalEquations.empty(n_groups, n_species, n_features + 1)
        self.jury = Jury()
        self.shortest = np.full((n_species, n_species), np.inf)
        self.closest = np.full((n_species, n_species), -1)

    def distances(self, frames: Sequence[Atoms]) -> list[Array]:
        """Shortest distance of each pair of species in each structure, shape (S, S), Å.

        Raises
        ------
        PotentialError
            Atoms that coincide; nothing was changed.
        """
        return [self.descriptor.shortest(self.descriptor.pairs(frame)) for frame in frames]

    def add(self, training: TrainingSet, begin: int, distances: Sequence[Array], resampling: Resampling) -> None:
        """Add the structures from ``begin`` on, with their :meth:`distances`."""
        # All distances first: where the radial functions come to rest has to be known before any feature is computed.
        # Structures added earlier need not be computed again: nothing in them is closer, so none of their pairs is
        # where the functions change.
        for index, shortest in enumerate(distances, start=begin):
            self.closest[shortest < self.shortest] = index
            self.shortest = np.minimum(self.shortest, shortest)
        inner = inner_distances(self.descriptor.numbers, self.shortest, self.settings.radius)
        self.descriptor = self.descriptor.with_inner(inner)
        self.progress.begin("add structures", len(training) - begin)
        for index in range(begin, len(training)):
            self._add(training, index, resampling)
            self.progress.advance()

    def _add(self, training: TrainingSet, index: int, resampling: Resampling) -> None:
        """Add a structure of the training set to the sums."""
        atoms, _, forces = training[index]
        stress = training.stresses[index] if self.stresses else None
        virial = None if stress is None else atoms.get_volume() * stress
        group = int(resampling.groups[index])
        env = self.descriptor.environment(atoms)
        features = np.pad(self.descriptor.features(env), ((0, 1), (0, 0)))
        by_species = [features[:, env.pairs.species == s] for s in range(len(self.descriptor.numbers))]
        counts = self.descriptor.composition(env)
        summed = np.concatenate([*(mine.sum(axis=1) for mine in by_species), counts])
        weight = kinds.weight(training.origins[index], self.settings.weights)
        self.jury.add(summed, len(atoms), group, weight)
        rows, targets = self.weighted(env, summed, forces, virial)
        size, end = rows.shape[0] - len(counts), rows.shape[1] - (0 if virial is None else virial.size)
        if forces is not None and self.settings.force_weight > 0:
            plain_forces = rows[:size, 1:end], forces.ravel()
            self.jury.add_forces(*plain_forces, resampling.draws(index), self.settings.force_weight)
        if stress is not None:
            volume = atoms.get_volume()
            plain = rows[:size, end:] / (volume * self.virial_weight(len(atoms)))
            self.jury.add_stress(plain, stress, np.sqrt(len(atoms)) / volume, resampling.draws(index))
        if weight != 1.0:  # what is judged has none
            rows *= weight
            targets *= weight
        self.equations.add(group, rows, targets, summed, by_species, rows.shape[1] - end, self.descriptor.threads)

    def energy_weight(self, n_atoms: IntArray | int) -> Array:
        """Of the energies of structures: errors of independent atoms add up to the square root of their number.

        Divided by that, an energy of a large structure counts as much as one of a small structure.
        """
        return np.asarray(self.settings.weight_of_energies / np.sqrt(n_atoms))

    def virial_weight(self, n_atoms: int) -> Array:
        """Of the stress times the volume of a structure, shape (6,): like that of its energy."""
        return np.asarray(self.settings.stress_weight / np.sqrt(n_atoms) * _BOTH)

    def weighted(
        self, env: Environment, summed: Array, forces: Array | None, virial: Array | None = None
    ) -> tuple[Array, Array]:
        """Rows (D, n), side by side, and targets (n,) of a structure, multiplied with their weights.

        The energy, which comes first, is zero among the targets. Forces follow, (N, 3), and the stress times the volume
        (6,), where these are learned.
        """
        n_atoms, f = len(env.slot_of), self.settings.force_weight
        n_forces = 0 if forces is None or f == 0 else forces.size
        rows = np.zeros((len(summed), 1 + n_forces + (0 if virial is None else virial.size)))
        targets = np.zeros(rows.shape[1])
        rows[:, 0] = self.energy_weight(n_atoms) * summed
        if rows.shape[1] == 1:
            return rows, targets
        n_species = len(self.descriptor.numbers)
        by_species = rows[:-n_species].reshape(n_species, -1, rows.shape[1])
        if forces is not None and n_forces:
            of_strain = self.descriptor.add_rows(env, by_species, 1, strain=virial is not None)
            if f != 1.0:
                by_species[:, :-1, 1 : 1 + n_forces] *= f
            targets[1 : 1 + n_forces] = f * forces.ravel()
        else:
            _, of_strain = self.descriptor.rows(env, strain=True)
        if virial is not None:
            weight = self.virial_weight(n_atoms)
            by_species[:, :-1, 1 + n_forces :] = weight * of_strain.reshape(n_species, -1, 6)
            by_species[:, -1, 1 + n_forces :] = weight * _ISOTROPIC * self.descriptor.composition(env)[:, None]
            targets[1 + n_forces :] = weight * virial
        return rows, targets

    @property
    def penalties(self) -> Array:
        """By what the prior may expect coefficients to be smaller, shape (2, F + 1): they grow with features' degree.

        With the second that of pair terms grows up to the third degree only, for pair forces that are steep or have
        fine detail, as those of rare gases: the data decide (:func:`alflow.models.ace.regression.solve`).

        The last is that of a constant virial of every atom of a species. It is no part of the potential, but of labels
        whose stress is not the derivative of their energy: with plane waves up to a given energy a crystal that is
        strained would have others (Pulay stress; Francis and Payne, J. Phys.: Condens. Matter 2, 4395 (1990),
        doi:10.1088/0953-8984/2/19/007), and the difference is about the same for all atoms of a species. Where energies
        do not speak against it, stresses are believed.
        """
        basis = self.descriptor.basis
        steep = np.where(basis.order == 1, np.minimum(basis.degree, _STEEP), basis.degree)
        penalties = np.array([basis.degree, steep], dtype=float) ** self.settings.smoothness
        return np.pad(penalties, ((0, 0), (0, 1)), constant_values=1.0)

    def solve(self, training: TrainingSet, resampling: Resampling, *, repels: bool) -> Solution:
        """Fit all members to what was added.

        Parameters
        ----------
        training : TrainingSet
            All structures added.
        resampling : Resampling
            Which of them each member sees.
        repels : bool
            Whether the members have to hold atoms apart where nothing is known.
        """
        seen = resampling.seen
        # Energies count from this zero, as sums of squares of thousands of eV would lose the digits that matter. It
        # depends on all structures, so the sums have forces only, and energies are added here.
        origin = training.energy_zero()
        composition = training.composition()
        energies = training.energies - composition @ origin
        equations = self.jury.with_energies(self.equations, energies, self.energy_weight)
        n_species, n_features = len(self.descriptor.numbers), self.descriptor.basis.n_features
        # Of pairs that met near the cutoff only the fit says nothing where their core begins, as of such as never met.
        told = np.where(distant(self.shortest, self.settings.radius), np.inf, self.shortest)
        of_features = rows_of_pairs(self.descriptor, training.frames, told)
        rows = np.zeros((len(self.equations.total), of_features.shape[1]))
        rows[:-n_species].reshape(n_species, n_features + 1, -1)[:, :-1] = of_features.reshape(
            n_species, n_features, -1
        )
        virial_of_atoms = np.arange(n_features + 1) == n_features
        stresses = self.jury.stress_rows_and_labels(len(equations.total))
        threads = self.descriptor.threads
        found = solve(
            equations,
            seen,
            self.penalties,
            rows,
            resampling.n_apart,
            threads,
            virial_of_atoms,
            stresses,
            self.progress,
            self._distant(training, len(seen), resampling.seed),
            _volumes(training),
        )
        # The estimate is that of the whole sample, and half-samples tell its error, as in survey statistics: where
        # little is known, half of it is much less. Where their mean is better, members keep it, wholly or in part.
        share = share_of_whole(self.jury.statements(found.members, found.without, energies, composition), seen)
        centred = found.members + share * (found.whole - found.members.mean(axis=0))
        coefficients = repelling(centred, found.responses, rows) if repels else centred
        # Judged as they are used, after that change: what it costs in accuracy shows.
        change = coefficients - centred
        statements = self.jury.statements(
            found.members + change, found.without + change.mean(axis=0), energies, composition
        )
        judgement = judge(statements, seen, share, training.names_of_kinds())
        if found.left_open.size:
            coefficients = coefficients + found.left_open.T / judgement.energy.factor
        parts = coefficients[:, :-n_species].reshape(len(seen), n_species, n_features + 1)
        of_features = np.ascontiguousarray(parts[:, :, :-1].transpose(1, 2, 0))
        self._add_unmet(of_features, judgement.energy.factor, resampling.seed)
        virial = parts[:, :, -1].mean(axis=0)
        means, atom_error = equations.atoms(coefficients.mean(axis=0))
        return Solution(
            coefficients=of_features,
            constants=coefficients[:, -n_species:].T + origin[:, None],
            core=self._core(training, of_features) if repels else None,
            leverages=self._leverages(),
            fitted=Fitted(
                judgement,
                found.strength,
                means + origin,
                atom_error,
                (
                    *resampling.remarks(training.kinds()),
                    *judgement.by_kind,
                    *self._blind(),
                    *self._apart(),
                    *remarks_on_labels(training, judgement, virial, found.energies_over_forces),
                ),
                virial if self.jury.with_stress else np.zeros(0),
            ),
            stresses_over_others=found.stresses_over_others,
        )

    def _blind(self) -> list[str]:
        """That angles are not seen, where the number of features that was given leaves no room for them."""
        if self.descriptor.basis.sees_angles or self.settings.l_max == 0:
            return []
        n = len(self.descriptor.numbers)
        there = self.settings.features_of(n)
        remedy = f"raise n_features above {there}, or lower n_max or n_pseudo_species"
        return [f"warning: with {n} species no feature depends on an angle: {remedy}"]

    def _distant(self, training: TrainingSet, n_members: int, seed: int) -> Distant | None:
        """Coefficients of pairs that met near the cutoff only; None where there are none."""
        apart = distant(self.shortest, self.settings.radius)
        if not apart.any():
            return None
        n_species, n_features = len(self.descriptor.numbers), self.descriptor.basis.n_features
        # Which have analogues does not depend on what these are.
        chosen = self._guess(np.zeros((n_species, n_features)), n_members, seed).guessed & (self._squares > 0)
        columns = np.flatnonzero(np.pad(chosen, ((0, 0), (0, 1))))

        def expect(coefficients: Array) -> Expected:
            parts = coefficients[:-n_species].reshape(n_species, n_features + 1)[:, :-1]
            found = self._guess(parts, n_members, seed)
            return Expected(found.mean[chosen], np.sqrt(found.variance[chosen]), found.deviations[chosen])

        together = np.pad(meeting(self.descriptor, training.frames, apart), ((0, 0), (0, 1), (0, 1)))
        return Distant(columns, expect, together)

    def _add_unmet(self, coefficients: Array, alpha: float, seed: int) -> None:
        """Add to coefficients (S, F, M) what is drawn of features that no structure has.

        Members are judged without it: there is nothing to judge it by. Over the alpha of energies, as it is no matter
        of how much of the data members share, and all that is made of their differences is multiplied with alpha. That
        of forces may be another, so their share of sigma is too wide or too narrow by the ratio of the two.
        """
        never = self._squares == 0
        if never.any():
            found = self._guess(coefficients.mean(axis=2), coefficients.shape[2], seed)
            coefficients += np.where(never[:, :, None], found.mean[:, :, None] + found.deviations / alpha, 0.0)

    @property
    def _squares(self) -> Array:
        """Mean square of each feature over the atoms of each species, shape (S, F)."""
        squares = np.einsum("sff->sf", self.equations.atomic)[:, :-1]
        return np.asarray(squares / np.maximum(self.equations.total[-len(squares) :, None], 1.0))

    def _guess(self, coefficients: Array, n_members: int, seed: int) -> Guess:
        """What coefficients (S, F) let expect of features that no structure has, or hardly."""
        numbers = (0, *self.descriptor.numbers)  # 0: of no species

        def draws(rule: Rule) -> Array:
            z = np.asarray(generator(seed, _UNMET, *(numbers[k + 1] for k in rule)).normal(size=n_members))
            z -= z.mean()
            return np.asarray(z / np.std(z, ddof=1))

        met = close(self.shortest, self.settings.radius)
        return unmet(self.descriptor.basis, self._squares, met, coefficients, draws)

    def _apart(self) -> list[str]:
        """Which species have never met, or only near the cutoff."""
        symbols = np.array(chemical_symbols)[list(self.descriptor.numbers)]
        pairs = []
        for a, b in zip(*np.nonzero(np.triu(~close(self.shortest, self.settings.radius))), strict=True):
            nearest = f" (nearest {self.shortest[a, b]:.1f} Å)" if np.isfinite(self.shortest[a, b]) else ""
            pairs.append(f"{symbols[a]}-{symbols[b]}{nearest}")
        if not pairs:
            return []
        more = f" and {len(pairs) - _NAMED} other pairs" if len(pairs) > _NAMED else ""
        named = ", ".join(pairs[:_NAMED]) + more
        return [f"never close to each other: {named}; what is expected of them is a guess from pairs that were"]

    def _core(self, training: TrainingSet, coefficients: Array) -> Core:
        """The core that takes over from the mean of members with these coefficients (S, F, M)."""
        by_member = np.ascontiguousarray(coefficients.swapaxes(1, 2))
        n_members = coefficients.shape[2]
        mean = np.full(n_members, 1.0 / n_members)

        def gradient(env: Environment) -> Array:
            return self.descriptor.vector_gradient(env, by_member, mean)

        return fitted_core(self.descriptor, gradient, training.frames, self.shortest, self.closest)

    def _leverages(self) -> list[Leverage]:
        """Of the atoms of each species."""
        equations = self.equations
        n_species = len(self.descriptor.numbers)
        totals = equations.total[:-n_species].reshape(n_species, -1)[:, :-1]
        counts = equations.total[-n_species:]
        atomic = [np.ascontiguousarray(square[:-1, :-1]) for square in equations.atomic]
        return each(lambda s: Leverage.of(atomic[s], totals[s], counts[s]), range(n_species), self.descriptor.threads)


def _volumes(training: TrainingSet) -> Array | None:
    """Of structures, per atom, Å^3, shape (n,); None if some are not periodic in three directions."""
    if not all(frame.pbc.all() for frame in training.frames):
        return None
    return np.array([frame.get_volume() / len(frame) for frame in training.frames])
