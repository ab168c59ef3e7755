"""Sums over the structures of a training set, from which all members are fitted.

Every structure adds to the normal equations of one of G groups and is then forgotten: adding structures later gives
what fitting all at once would have, and costs in proportion to the new ones. Nothing that depends on all of the data
(means, column scales, strength of the ridge, the zero of energies) enters the sums; it is taken from them when the
equations are solved (:mod:`alflow.models.ace.regression`). So no digit depends on in how many pieces the structures
came.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace import lapack, packed
from alflow.models.ace.threads import each

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]

_SMALL = 200  # columns up to which other threads cost more than they bring


@dataclass(frozen=True, eq=False)
class Energies:
    """Rows of structures (n, D) and their energies (n,), multiplied with their weights, and of which group each is."""

    groups: IntArray
    rows: Array
    targets: Array

    def square_error(self, coefficients: Array) -> float:
        """Of a model with these coefficients (D,)."""
        return float(np.sum((self.targets - self.rows @ coefficients) ** 2))


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of some force components of structures, or of their stresses, by which fits that lack them are judged.

    Attributes
    ----------
    groups : ndarray of int, shape (n,)
        To which each structure belongs.
    rows, targets : list of ndarray, shapes (m, S F) and (m,)
        Of each structure, without weights.
    """

    groups: IntArray
    rows: list[NDArray[np.float32]]
    targets: list[Array]

    def less(self, coefficients: Array) -> "Sample":
        """The same with what a model with these coefficients (D,) says taken off the targets."""
        return replace(self, targets=[y - x @ coefficients[: x.shape[1]] for x, y in self._pairs()])

    def square_errors(self, coefficients: Array, groups: Flags) -> Array:
        """Mean over the rows of each structure of some of the groups (G,), of a model with these coefficients (D,)."""
        mine = [pair for pair, group in zip(self._pairs(), self.groups, strict=True) if groups[group]]
        return np.array([np.mean((y - x @ coefficients[: x.shape[1]]) ** 2) for x, y in mine])

    def _pairs(self) -> Iterable[tuple[NDArray[np.float32], Array]]:
        return zip(self.rows, self.targets, strict=True)


@dataclass(eq=False)
class NormalEquations:
    """Sums over structures, for G groups of them and D columns: S F features, then an atom count for each species.

    Attributes
    ----------
    gram : ndarray, shape (G, h, w)
        Sum of X^T X over the rows of a group, a matrix (D, D) as of :mod:`alflow.models.ace.packed`.
    moment : ndarray, shape (G, D)
        Sum of X^T y.
    square, n_rows, n_structures : ndarray, shape (G,)
        Sum of y^2, number of rows and of structures. In ``moment`` and ``square`` energies count as zero before
        :meth:`with_energies`.
    total : ndarray, shape (D,)
        Sum of the plain energy rows: of each feature over all atoms, and the number of atoms of each species.
    atomic : ndarray, shape (S, F, F)
        Sum of b b^T over the features b of all atoms of a species; the upper triangle.
    stress_gram, stress_moment : ndarray, shape (h, w) and (D,)
        What of the sums over all groups is of stresses.
    n_stresses : float
        How many rows that are.
    energies : Energies, optional
        Those of :meth:`with_energies`.
    samples : tuple of Sample
        Of forces and of stresses.
    """

    gram: Array
    moment: Array
    square: Array
    n_rows: Array
    n_structures: Array
    total: Array
    atomic: Array
    stress_gram: Array
    stress_moment: Array
    n_stresses: float = 0.0
    energies: "Energies | None" = None
    samples: tuple[Sample, ...] = ()

    @classmethod
    def empty(cls, n_groups: int, n_species: int, n_features: int) -> "NormalEquations":
        """No structures yet."""
        n_columns = n_species * (n_features + 1)
        return cls(
            gram=np.zeros((n_groups, *packed.shape(n_columns))),
            moment=np.zeros((n_groups, n_columns)),
            square=np.zeros(n_groups),
            n_rows=np.zeros(n_groups),
            n_structures=np.zeros(n_groups),
            total=np.zeros(n_columns),
            atomic=np.zeros((n_species, n_features, n_features)),
            stress_gram=np.zeros(packed.shape(n_columns)),
            stress_moment=np.zeros(n_columns),
        )

    def add(
        self,
        group: int,
        rows: Array,
        targets: Array,
        summed: Array,
        features: list[Array],
        n_stresses: int = 0,
        threads: int = 1,
    ) -> None:
        """Add a structure.

        Parameters
        ----------
        group : int
            To which it belongs.
        rows : ndarray, shape (D, n)
            Its rows, side by side, already multiplied with their weights.
        targets : ndarray, shape (n,)
            Forces to be reproduced, multiplied likewise, and zero for the energy.
        summed : ndarray, shape (D,)
            Its features summed over atoms, and its atom counts.
        features : list of ndarray, shape (F, atoms)
            Features of the atoms of each species.
        n_stresses : int
            How many of the rows, the last ones, are of its stress.
        threads : int
            How many threads work at once. No digit depends on it where BLAS uses a single one.
        """
        # Normal equations, not a factorisation of all rows: a structure's rows are forgotten once they are added, so
        # memory does not grow with the data. They square the condition number, which the ridge bounds.
        pieces = packed.squares(self.gram[group], rows)
        self.moment[group] += rows @ targets
        self.square[group] += targets @ targets
        self.n_rows[group] += len(targets)
        self.n_structures[group] += 1
        self.total += summed
        if n_stresses:
            pieces += packed.squares(self.stress_gram, np.ascontiguousarray(rows[:, -n_stresses:]))
            self.stress_moment += rows[:, -n_stresses:] @ targets[-n_stresses:]
            self.n_stresses += n_stresses
        for atomic, mine in zip(self.atomic, features, strict=True):
            pieces.append(partial(lapack.add_square, atomic, np.ascontiguousarray(mine)))
        each(lambda add: add(), pieces, threads if len(rows) > _SMALL else 1)

    def with_energies(self, groups: IntArray, rows: Array, targets: Array) -> "NormalEquations":
        """The same with the energies to be reproduced.

        Parameters
        ----------
        groups : ndarray of int, shape (n,)
            To which each structure belongs.
        rows, targets : ndarray, shape (n, D) and (n,)
            Energy rows and energies, multiplied with their weights.
        """
        moment, square = self.moment.copy(), self.square.copy()
        for group in range(len(moment)):
            mine = groups == group
            moment[group] += targets[mine] @ rows[mine]
            square[group] += targets[mine] @ targets[mine]
        return replace(self, moment=moment, square=square, energies=Energies(groups, rows, targets))

    def with_weight(self, factor: float) -> "NormalEquations":
        """The same where energies count ``factor`` times as much as they did in :meth:`with_energies`, 1 at least."""
        energies = self.energies
        if energies is None or factor == 1.0:
            return self
        # In the sums they are there once.
        gram, moment, square, more = self.gram.copy(), self.moment.copy(), self.square.copy(), factor**2 - 1.0
        for group in range(len(moment)):
            mine = energies.groups == group
            rows, targets = energies.rows[mine], energies.targets[mine]
            for add in packed.squares(gram[group], np.ascontiguousarray(rows.T), more):
                add()
            moment[group] += more * (targets @ rows)
            square[group] += more * (targets @ targets)
        energies = Energies(energies.groups, factor * energies.rows, factor * energies.targets)
        return replace(self, gram=gram, moment=moment, square=square, energies=energies)

    def less(self, coefficients: Array) -> "NormalEquations":
        """The same with what a model with these coefficients (D,) says taken off the labels."""
        said = np.array([packed.times(gram, coefficients) for gram in self.gram])
        energies = self.energies
        if energies is not None:
            energies = replace(energies, targets=energies.targets - energies.rows @ coefficients)
        return replace(
            self,
            moment=self.moment - said,
            square=self.square - 2 * self.moment @ coefficients + said @ coefficients,
            stress_moment=self.stress_moment - packed.times(self.stress_gram, coefficients),
            energies=energies,
            samples=tuple(sample.less(coefficients) for sample in self.samples),
        )

    def atoms(self, coefficients: Array) -> tuple[Array, float]:
        """Mean energy of the atoms of each species (S,), and their root mean square deviation from it, eV.

        By one model, with ``coefficients`` (D,), over all atoms added.
        """
        n_species, n_features = self.atomic.shape[:2]
        numbers = self.total[-n_species:]
        totals, parts = (x[:-n_species].reshape(n_species, n_features) for x in (self.total, coefficients))
        means = np.sum(totals * parts, axis=1) / np.maximum(numbers, 1.0)
        squares = [_quadratic(square, c) for square, c in zip(self.atomic, parts, strict=True)]
        variance = (sum(squares) - float(numbers @ means**2)) / max(float(numbers.sum()), 1.0)
        return means + coefficients[-n_species:], float(np.sqrt(max(variance, 0.0)))


def _quadratic(matrix: Array, vector: Array) -> float:
    """``x^T A x``, of a symmetric matrix of which the upper triangle is there."""
    product = np.zeros_like(vector)
    lapack.add_times(product, matrix, vector)
    return float(vector @ product)
