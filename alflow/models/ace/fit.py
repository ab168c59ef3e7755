"""Fitting all members at once: sums over the structures of a training set, and the solution that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.committee.judgement import judge, share_of_whole
from alflow.committee.protocol import Fitted
from alflow.committee.resampling import Resampling
from alflow.committee.training import TrainingSet
from alflow.models.ace.basis import make_basis
from alflow.models.ace.core import inner_distances, repelling
from alflow.models.ace.environment import Descriptor, Environment
from alflow.models.ace.extrapolation import Leverage
from alflow.models.ace.jury import Jury
from alflow.models.ace.kernels.core import Core
from alflow.models.ace.regression import NormalEquations
from alflow.models.ace.repulsion import fitted_core, rows_of_pairs
from alflow.models.ace.settings import AceSettings, lengths

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

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
    """

    coefficients: Array
    constants: Array
    core: Core | None
    leverages: list[Leverage]
    fitted: Fitted


def make_descriptor(settings: AceSettings, numbers: tuple[int, ...]) -> Descriptor:
    """The descriptor for some species, as sorted atomic numbers."""
    n_species = len(numbers)
    n_features, n_pair = settings.features_of(n_species), settings.pairs_of(n_species)
    basis = make_basis(n_species, int(settings.n_max), int(settings.l_max), n_features, n_pair)
    return Descriptor(numbers, settings.cutoff, basis, lengths(numbers))


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

    Attributes
    ----------
    descriptor : Descriptor
        With the distances at which the radial functions come to rest in the structures added.
    """

    def __init__(self, settings: AceSettings, n_groups: int, training: TrainingSet) -> None:
        self.settings = settings
        self.descriptor = make_descriptor(settings, training.numbers)
        n_species = len(training.numbers)
        n_features = self.descriptor.basis.n_features
        self.equations = NormalEquations.empty(n_groups, n_species, n_features)
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
        inner = inner_distances(self.descriptor.numbers, self.shortest, self.settings.cutoff)
        self.descriptor = self.descriptor.with_inner(inner)
        for index in range(begin, len(training)):
            self._add(training, index, resampling)

    def _add(self, training: TrainingSet, index: int, resampling: Resampling) -> None:
        """Add a structure of the training set to the sums."""
        atoms, _, forces = training[index]
        group = int(resampling.groups[index])
        env = self.descriptor.environment(atoms)
        features = self.descriptor.features(env)
        by_species = [features[:, env.pairs.species == s] for s in range(len(self.descriptor.numbers))]
        counts = self.descriptor.composition(env)
        summed = np.concatenate([*(mine.sum(axis=1) for mine in by_species), counts])
        self.jury.add(summed, len(atoms), group)
        rows, targets = self.weighted(env, summed, forces)
        if forces is not None and self.settings.force_weight > 0:
            size = rows.shape[0] - len(counts)
            plain = rows[:size, 1:] / self.settings.force_weight
            self.jury.add_forces(plain, forces.ravel(), resampling.draws(index))
        self.equations.add(group, rows, targets, summed, by_species)

    def energy_weight(self, n_atoms: IntArray | int) -> Array:
        """Of the energies of structures: errors of independent atoms add up to the square root of their number.

        Divided by that, an energy of a large structure counts as much as one of a small structure.
        """
        return np.asarray(self.settings.energy_weight / np.sqrt(n_atoms))

    def weighted(self, env: Environment, summed: Array, forces: Array | None) -> tuple[Array, Array]:
        """Rows (D, n), side by side, and targets (n,) of a structure, multiplied with their weights.

        The energy, which comes first, is zero among the targets.
        """
        weight = self.energy_weight(len(env.slot_of))
        f = self.settings.force_weight
        if forces is None or f == 0:
            return (weight * summed)[:, None], np.zeros(1)
        rows = np.zeros((len(summed), 1 + forces.size))
        rows[:, 0] = weight * summed
        rows[: len(summed) - len(self.descriptor.numbers), 1:] = self.descriptor.force_rows(env)
        rows[:, 1:] *= f
        return rows, np.concatenate([[0.0], f * forces.ravel()])

    @property
    def penalties(self) -> Array:
        """By what the prior may expect features' coefficients to be smaller, shape (2, F): they grow with the degree.

        With the second that of pair terms grows up to the third degree only, for pair forces that are steep or have
        fine detail, as those of rare gases: the data decide (:meth:`NormalEquations.solve`).
        """
        basis = self.descriptor.basis
        steep = np.where(basis.order == 1, np.minimum(basis.degree, _STEEP), basis.degree)
        return np.array([basis.degree, steep], dtype=float) ** self.settings.smoothness

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
        rows = rows_of_pairs(self.descriptor, training.frames, self.shortest)
        found = equations.solve(seen, self.penalties, rows, resampling.n_apart, self.descriptor.threads)
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
        judgement = judge(statements, seen, share)
        n_species, n_features = equations.atomic.shape[:2]
        parts = coefficients[:, :-n_species].reshape(len(seen), n_species, n_features)
        of_features = np.ascontiguousarray(parts.transpose(1, 2, 0))
        means, atom_error = equations.atoms(coefficients.mean(axis=0))
        return Solution(
            coefficients=of_features,
            constants=coefficients[:, -n_species:].T + origin[:, None],
            core=self._core(training, of_features) if repels else None,
            leverages=self._leverages(),
            fitted=Fitted(judgement, found.strength, means + origin, atom_error, resampling.remarks(training.kinds())),
        )

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
        n_species, n_features = equations.atomic.shape[:2]
        totals = equations.total[:-n_species].reshape(n_species, n_features)
        counts = equations.total[-n_species:]
        return [Leverage.of(*of_species) for of_species in zip(equations.atomic, totals, counts, strict=True)]
