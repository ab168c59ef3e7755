"""The normal equations in columns that count from their means and are scaled like the prior."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace import packed
from alflow.models.ace.equations import NormalEquations
from alflow.models.ace.kernels.assembly import assemble
from alflow.models.ace.threads import pieces

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FREE = 10.0  # prior standard deviation of the atomic energies relative to that of a feature: they are all but free
_LOATH = 1e-3  # squared weight of what may be used only where nothing else fits, relative to all of its rows
_HARDLY = 1e-6  # ridge, relative to others, of what has one of its own: for columns of zeros
_ROUNDING = 1e-7  # of a column, of what is left of it when its mean is taken off
_ATOM = 1e-4  # squared weight of what an atom's energy differs from its species' mean by, relative to forces; see
# :func:`alflow.models.ace.regression.solve`


@dataclass(frozen=True, eq=False)
class FixedRidge:
    """A ridge that some columns have instead of the one that is to be found.

    Attributes
    ----------
    columns : ndarray of bool, shape (D,)
        Which.
    scale : ndarray, shape (D,)
        By which they are scaled; a coefficient is zero where that is.
    matrix : ndarray, shape (S, F, F)
        Of the plain coefficients; zero of others.
    """

    columns: Flags
    scale: Array
    matrix: Array

    def times(self, vectors: Array) -> Array:
        """The matrix times vectors (D, n)."""
        n_species, n_features = self.matrix.shape[:2]
        parts = vectors[:-n_species].reshape(n_species, n_features, -1)
        out = np.zeros_like(vectors)
        out[:-n_species] = (self.matrix @ parts).reshape(len(out) - n_species, -1)
        return out


@dataclass(frozen=True, eq=False)
class Scaled:
    """The normal equations in columns that count from the means and are scaled like the prior.

    Attributes
    ----------
    equations : NormalEquations
        As they are.
    means : ndarray, shape (S F,)
        Of each feature over the atoms of its species.
    scale : ndarray, shape (D,)
        Standard deviation of the prior of each coefficient, with the first of the penalties.
    ridges : ndarray, shape (K, D)
        What a ridge of 1 is in these columns with each of the penalties.
    shift : ndarray, shape (S,)
        Least squares of the energies on the composition alone, of minimal norm: where the ridge is centred.
    prior : ndarray, shape (S, F, F)
        Of the energies of atoms, and of features that are used unwillingly, scaled.
    loath : ndarray of bool, shape (D,)
        Columns of the latter.
    mean_eigenvalue : float
        Of all groups together.
    crosses : ndarray, shape (G, D, S)
        The last columns of the sums of each group, with the atom counts.
    free : ndarray of bool, shape (D,)
        Columns whose ridge is to be found.
    """

    equations: NormalEquations
    means: Array
    scale: Array
    ridges: Array
    shift: Array
    prior: Array
    loath: Flags
    mean_eigenvalue: float
    crosses: Array
    free: Flags

    @classmethod
    def of(
        cls,
        equations: NormalEquations,
        penalties: Array,
        loath: Flags | None = None,
        *,
        willing: bool = False,
        fixed: FixedRidge | None = None,
    ) -> "Scaled":
        """Of sums, and penalties as of :func:`alflow.models.ace.regression.solve`.

        Features (F,) that are ``loath`` to be used are, if at all, where ``willing``. Some columns may have a ridge
        that is ``fixed``.
        """
        n_species, n_features = equations.atomic.shape[:2]
        atoms = equations.total[-n_species:]
        means = equations.total[:-n_species] / np.repeat(np.maximum(atoms, 1.0), n_features)
        columns = np.zeros(len(equations.total), dtype=bool)
        if loath is not None:
            columns[:-n_species] = np.tile(loath, n_species)
        # Scales are taken from columns that count from their means.
        by_group, of_counts = packed.diagonal(equations.gram), packed.last_columns(equations.gram, n_species)
        crosses, plain = of_counts.sum(axis=0), by_group.sum(axis=0)
        counts, own = crosses[-n_species:], np.repeat(np.arange(n_species), n_features)
        full = plain.copy()
        full[:-n_species] += means * (means * counts[own, own] - 2 * crosses[np.arange(len(own)), own])
        n_rows = max(equations.n_rows.sum(), 1.0)
        rms = np.sqrt(np.maximum(full, 0.0) / n_rows)
        # A column that is all zero, of a species that never meets another, has no scale: its coefficient is zero. Nor
        # has one of which rounding is all that is left, as of an atom that sees none of its kind but its own images.
        least = np.maximum(1e-9 * rms.max(initial=0.0), _ROUNDING * np.sqrt(plain / n_rows))
        scale = np.divide(1.0, rms, out=np.zeros_like(rms), where=rms > least)
        scale[:-n_species] /= np.tile(penalties[0], n_species)
        scale[-n_species:] *= _FREE
        if not willing:
            scale[columns] = 0.0
        if fixed is not None:
            scale[fixed.columns] = fixed.scale[fixed.columns]
        # Compositions are often proportional to each other (pure water: H2O), so energies of atoms are not unique: the
        # pseudo-inverse takes the smallest.
        shift = np.linalg.pinv(counts, rcond=1e-10, hermitian=True) @ equations.moment[:, -n_species:].sum(axis=0)
        # The covariance of the features over atoms: rows that pull every atom's energy to the mean of its species.
        prior = np.empty_like(equations.atomic)
        for s, n in enumerate(atoms):
            here = slice(s * n_features, (s + 1) * n_features)
            prior[s] = np.triu(equations.atomic[s]) + np.triu(equations.atomic[s], 1).T
            prior[s] -= n * np.outer(means[here], means[here])
            prior[s] *= _ATOM * scale[here, None] * scale[here]
            if loath is not None:
                prior[s][loath, loath] += _LOATH * (full * scale**2)[here][loath]
            if fixed is not None:
                prior[s] += scale[here, None] * scale[here] * fixed.matrix[s]
        mean_eigenvalue = float(np.sum(full * scale**2) / len(scale))
        # Other penalties are other ridges for the same columns: one matrix serves them all.
        ridges = np.ones((len(penalties), len(scale)))
        ridges[:, :-n_species] = np.tile((penalties / penalties[0]) ** 2, n_species)
        free = np.ones(len(scale), dtype=bool) if fixed is None else ~fixed.columns
        ridges[:, ~free] = _HARDLY
        least = max(mean_eigenvalue, 1e-300)
        return cls(equations, means, scale, ridges, shift, prior, columns, least, of_counts, free)

    def without_stress(self, ridge: Array) -> tuple[Array, Array]:
        """Matrix and right-hand side, as of :meth:`assemble`, of all groups, but for their stresses."""
        e = self.equations
        matrix, right, _ = self.assemble(np.ones(len(e.gram)), ridge)
        if not e.n_stresses:
            return matrix, right
        # These rows have no counts: nothing of them is shifted.
        matrix -= packed.scaled(e.stress_gram, self.scale)
        return matrix, right - self.scale * e.stress_moment

    def assemble(self, weights: Array, ridge: Array) -> tuple[Array, Array, float]:
        """Matrix (D, D; see :mod:`alflow.models.ace.packed`), right-hand side (D,) and sum of y^2 of a weighted sum.

        With weights (G,) of the groups, and the ridge (D,) on the diagonal.
        """
        matrices, right, square = self.assemble_several(weights[None], ridge)
        return matrices[0], right[0], float(square[0])

    def assemble_several(
        self, weights: Array, ridge: Array, threads: int = 1, room: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Matrices (K, h, w), right-hand sides (K, D) and sums of y^2 (K,) of sums with weights (K, G), as of one each.

        Several cost little more than one: the sums of the groups are read once. The matrices take the place of ``room``
        (K or more, h, w), where that is given.
        """
        e = self.equations
        # The columns are shifted to their means on the sums, by rank-one corrections with the columns of the counts
        # (the crosses): the means depend on all of the data, and rows that were added long ago are not there to shift.
        sums = [self._sums(mine) for mine in weights]
        crosses, right, square = (np.array(found) for found in zip(*sums, strict=True))
        used = (weights != 0.0) & (e.n_structures > 0)
        some = np.argsort(~used, axis=1, kind="stable")
        of_some = np.take_along_axis(weights, some, axis=1)
        means = np.pad(self.means, (0, len(self.shift)))
        out = np.empty((len(weights), *e.gram.shape[1:])) if room is None else room[: len(weights)]
        given = (e.gram, used.sum(axis=1), some, of_some, means, self.scale, crosses, self.prior, ridge, out)
        pieces(lambda begin, end: assemble(begin, end, *given), out.shape[1], threads)
        return out, right, square

    def _sums(self, weights: Array) -> tuple[Array, Array, float]:
        """Last columns of a weighted sum, as rows (S, D), its right-hand side (D,) and sum of y^2."""
        e, n_species = self.equations, len(self.shift)
        crosses = np.tensordot(weights, self.crosses, axes=1)
        moment = weights @ e.moment
        of_counts = self.shift @ crosses[-n_species:] - 2 * moment[-n_species:]
        square = float(weights @ e.square + of_counts @ self.shift)
        moment -= crosses @ self.shift
        moment[:-n_species] -= self.means * np.repeat(moment[-n_species:], len(self.means) // n_species)
        return np.ascontiguousarray(crosses.T), self.scale * moment, square

    def energies(self) -> tuple[Array, Array]:
        """Rows of the energies (n, D), in these columns, and what they are to be (n,); both with their weights."""
        given, n_species = self.equations.energies, len(self.shift)
        if given is None:
            return np.zeros((0, len(self.scale))), np.zeros(0)
        counts, rows = given.rows[:, -n_species:], given.rows.copy()
        rows[:, :-n_species] -= np.repeat(counts, len(self.means) // n_species, axis=1) * self.means
        return rows * self.scale, given.targets - counts @ self.shift

    def plain(self, solutions: Array) -> Array:
        """Coefficients for plain columns, but for the shift, from those for scaled ones (D, n)."""
        n_species = len(self.shift)
        out = self.scale[:, None] * solutions
        parts = (self.means[:, None] * out[:-n_species]).reshape(n_species, -1, out.shape[1])
        out[-n_species:] -= parts.sum(axis=1)
        return out

    def ridge(self, log_strength: float, prior: int) -> Array:
        """Of that strength relative to the mean eigenvalue, shape (D,)."""
        return np.asarray(self.mean_eigenvalue * 10.0**log_strength * self.ridges[prior])
