"""The normal equations in columns that count from their means and are scaled like the prior, and their solution."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import cho_solve, get_lapack_funcs

from alflow.models.ace.equations import NormalEquations

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FREE = 10.0  # prior standard deviation of the atomic energies relative to that of a feature: they are all but free
_LOATH = 1e-3  # squared weight of what may be used only where nothing else fits, relative to all of its rows
_ROUNDING = 1e-7  # of a column, of what is left of it when its mean is taken off
_ATOM = 1e-4  # squared weight of what an atom's energy differs from its species' mean by, relative to forces; see
# :func:`alflow.models.ace.regression.solve`


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
    """

    equations: NormalEquations
    means: Array
    scale: Array
    ridges: Array
    shift: Array
    prior: Array
    loath: Flags
    mean_eigenvalue: float

    @classmethod
    def of(
        cls, equations: NormalEquations, penalties: Array, loath: Flags | None = None, *, willing: bool = False
    ) -> "Scaled":
        """Of sums, and penalties as of :func:`alflow.models.ace.regression.solve`.

        Features (F,) that are ``loath`` to be used are, if at all, where ``willing``.
        """
        n_species, n_features = equations.atomic.shape[:2]
        atoms = equations.total[-n_species:]
        means = equations.total[:-n_species] / np.repeat(np.maximum(atoms, 1.0), n_features)
        no_prior, ones = np.zeros_like(equations.atomic), np.ones(len(equations.total))
        # Scales are taken from columns that count from their means: a first, unscaled system is put together for them.
        columns = np.zeros(len(ones), dtype=bool)
        if loath is not None:
            columns[:-n_species] = np.tile(loath, n_species)
        rough = cls(equations, means, ones, ones[None], np.zeros(n_species), no_prior, columns, 1.0)
        every = np.ones(len(equations.gram))
        full, right, _ = rough.assemble(every, 0.0 * ones)
        rms = np.sqrt(np.maximum(np.diagonal(full), 0.0) / max(equations.n_rows.sum(), 1.0))
        # A column that is all zero, of a species that never meets another, has no scale: its coefficient is zero. Nor
        # has one of which rounding is all that is left, as of an atom that sees none of its kind but its own images.
        plain = np.sqrt(np.einsum("gii->i", equations.gram) / max(equations.n_rows.sum(), 1.0))
        least = np.maximum(1e-9 * rms.max(initial=0.0), _ROUNDING * plain)
        scale = np.divide(1.0, rms, out=np.zeros_like(rms), where=rms > least)
        scale[:-n_species] /= np.tile(penalties[0], n_species)
        scale[-n_species:] *= _FREE
        if not willing:
            scale[columns] = 0.0
        # Compositions are often proportional to each other (pure water: H2O), so energies of atoms are not unique: the
        # pseudo-inverse takes the smallest.
        counts = full[-n_species:, -n_species:]
        counts = np.triu(counts) + np.triu(counts, 1).T
        shift = np.linalg.pinv(counts, rcond=1e-10, hermitian=True) @ right[-n_species:]
        # The covariance of the features over atoms: rows that pull every atom's energy to the mean of its species.
        prior = np.empty_like(equations.atomic)
        for s, n in enumerate(atoms):
            here = slice(s * n_features, (s + 1) * n_features)
            prior[s] = equations.atomic[s] - n * np.outer(means[here], means[here])
            prior[s] *= _ATOM * scale[here, None] * scale[here]
            if loath is not None:
                prior[s][loath, loath] += _LOATH * (np.diagonal(full) * scale**2)[here][loath]
        mean_eigenvalue = float(np.sum(np.diagonal(full) * scale**2) / len(scale))
        # Other penalties are other ridges for the same columns: one matrix serves them all.
        ridges = np.ones((len(penalties), len(scale)))
        ridges[:, :-n_species] = np.tile((penalties / penalties[0]) ** 2, n_species)
        return cls(equations, means, scale, ridges, shift, prior, columns, max(mean_eigenvalue, 1e-300))

    def without_stress(self, ridge: Array) -> tuple[Array, Array]:
        """Matrix and right-hand side, as of :meth:`assemble`, of all groups, but for their stresses."""
        e = self.equations
        matrix, right, _ = self.assemble(np.ones(len(e.gram)), ridge)
        if not e.n_stresses:
            return matrix, right
        # These rows have no counts: nothing of them is shifted.
        matrix -= self.scale[:, None] * e.stress_gram * self.scale
        return matrix, right - self.scale * e.stress_moment

    def assemble(self, weights: Array, ridge: Array) -> tuple[Array, Array, float]:
        """Matrix (D, D; its upper triangle), right-hand side (D,) and sum of y^2 of a weighted sum of groups.

        With the ridge (D,) on the diagonal.
        """
        e = self.equations
        # The columns are shifted to their means on the sums, by rank-one corrections with the columns of the counts
        # (the crosses): the means depend on all of the data, and rows that were added long ago are not there to shift.
        n_species = len(self.shift)
        crosses = np.tensordot(weights, e.gram[:, :, -n_species:], axes=1)
        counts = np.triu(crosses[-n_species:]) + np.triu(crosses[-n_species:], 1).T
        crosses[-n_species:] = counts
        moment = weights @ e.moment
        square = float(weights @ e.square - 2 * self.shift @ moment[-n_species:] + self.shift @ counts @ self.shift)
        moment -= crosses @ self.shift
        moment[:-n_species] -= self.means * np.repeat(moment[-n_species:], len(self.means) // n_species)
        matrix = np.empty(e.gram.shape[1:])
        _assemble(e.gram, weights, self.means, self.scale, crosses, self.prior, ridge, matrix)
        return matrix, self.scale * moment, square

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


def solution(matrix: Array, right: Array) -> tuple[Array, float]:
    """Solution and logarithm of the determinant, from the upper triangle of a matrix, which is overwritten.

    NaN both where rounding has made the matrix indefinite.
    """
    (potrf,) = get_lapack_funcs(("potrf",), (matrix,))
    factor, info = potrf(matrix.T, lower=True, overwrite_a=True, clean=False)
    if info > 0:
        return np.full_like(right, np.nan), float("nan")
    solution = cho_solve((factor, True), right, check_finite=False)
    return np.asarray(solution), 2.0 * float(np.sum(np.log(np.diagonal(factor))))


def with_diagonal(matrix: Array, ridge: Array) -> Array:
    """A copy of a matrix with the ridge (D,) on its diagonal."""
    out = matrix.copy()
    out[np.diag_indices_from(out)] += ridge
    return out


@njit(nogil=True)  # not cached: a part of the next
def _weighted_row(gram: Array, weights: Array, i: int, row: Array) -> None:
    """Row i of a weighted sum of matrices, from the diagonal on."""
    row[i:] = 0.0
    for g in range(gram.shape[0]):
        if weights[g] != 0.0:
            weight, mine = weights[g], gram[g, i]
            for j in range(i, len(row)):
                row[j] += weight * mine[j]


@njit(cache=True, nogil=True)
def _assemble(
    gram: Array,
    weights: Array,
    means: Array,
    scale: Array,
    crosses: Array,
    prior: Array,
    ridge: Array,
    out: Array,
) -> None:
    """Upper triangle of the scaled matrix; ``crosses`` (D, S) are the weighted sum's last columns."""
    n_species, n_features = prior.shape[0], prior.shape[1]
    last = n_species * n_features
    for i in range(out.shape[0]):
        row = out[i]
        _weighted_row(gram, weights, i, row)
        if i < last:
            s = i // n_features
            for j in range(i, last):
                t = j // n_features
                both = means[i] * means[j] * crosses[last + s, t]
                row[j] -= means[i] * crosses[j, s] + means[j] * crosses[i, t] - both
            for j in range(last, out.shape[0]):
                row[j] -= means[i] * crosses[last + s, j - last]
        for j in range(i, out.shape[0]):
            row[j] *= scale[i] * scale[j]
        if i < last:
            s, k = i // n_features, i % n_features
            for j in range(k, n_features):
                row[s * n_features + j] += prior[s, k, j]
        row[i] += ridge[i]
