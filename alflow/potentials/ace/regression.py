"""Ridge regression of all members at once from sums over structures.

Every structure adds to the normal equations of the members that see it and is then forgotten: adding structures later
gives what fitting all at once would have. Nothing that depends on all of the data (column scales, atomic energies,
strength of the ridge) enters the sums; it is taken from them when the equations are solved.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh

Array = NDArray[np.float64]

_FREE = 10.0  # prior standard deviation of the atomic energies relative to that of a feature: they are all but free
_STRENGTHS = np.logspace(-12, 2, 71)  # candidates for the ridge, relative to the mean eigenvalue


@dataclass(eq=False)
class NormalEquations:
    """Sums over structures, for M members and D columns: features, then one column per species (its atom count).

    Attributes
    ----------
    gram : ndarray, shape (M, D, D)
        Sum of X^T X over the rows each member sees, counted so often that the mean over the members is the sum over
        all rows.
    moment : ndarray, shape (M, D)
        Sum of X^T y.
    square : float
        Sum of y^2 over all rows.
    n_rows : float
        Rows in all.
    total : ndarray, shape (D,)
        Sum of the plain energy rows: of each feature over all atoms, and the number of atoms of each species.
    """

    gram: Array
    moment: Array
    square: float
    n_rows: float
    total: Array

    @classmethod
    def empty(cls, n_members: int, n_columns: int) -> "NormalEquations":
        """No structures yet."""
        return cls(
            gram=np.zeros((n_members, n_columns, n_columns)),
            moment=np.zeros((n_members, n_columns)),
            square=0.0,
            n_rows=0.0,
            total=np.zeros(n_columns),
        )

    def add(self, summed: Array, rows: Array, targets: Array, seen: NDArray[np.bool_]) -> None:
        """Add a structure.

        Parameters
        ----------
        summed : ndarray, shape (D,)
            Its features summed over atoms, and its atom counts.
        rows : ndarray, shape (n, D)
            Its rows, already multiplied with their weights.
        targets : ndarray, shape (n,)
            Energy and forces to be reproduced, multiplied likewise.
        seen : ndarray of bool, shape (M,)
            The members that see it.
        """
        gram = rows.T @ rows
        moment = rows.T @ targets
        weight = len(seen) / np.sum(seen)
        gram_weighted, moment_weighted = weight * gram, weight * moment
        for m in np.flatnonzero(seen):
            self.gram[m] += gram_weighted
            self.moment[m] += moment_weighted
        self.square += float(targets @ targets)
        self.n_rows += len(targets)
        self.total += summed

    def solve(self, penalty: Array, n_species: int) -> tuple[Array, float]:
        """Solve for all members.

        Features count from their mean over all atoms of their species, so that an atom's energy is its species'
        constant plus what its surroundings make different, not the difference of two large numbers that no energy of a
        structure can tell apart. The prior of a coefficient is a normal distribution of mean zero whose standard
        deviation is inversely proportional to the root mean square of its column and to ``penalty``. Its strength
        maximises the evidence of the full data (MacKay, Neural Comput. 4, 415 (1992)), the same for all members.

        Parameters
        ----------
        penalty : ndarray, shape (F,)
            Larger for features that should be smaller: those of higher degree.
        n_species : int
            Number of the last columns, the atom counts, which are left all but free.

        Returns
        -------
        coefficients : ndarray, shape (M, D)
            Of each member, for features that count from zero.
        strength : float
            The ridge in scaled columns.
        """
        means = self._means(n_species)
        full, moment = _centred(self.gram.mean(axis=0), self.moment.mean(axis=0), means)
        shift = _atomic_energies(full, moment, n_species)
        rms = np.sqrt(np.diagonal(full) / max(self.n_rows, 1.0))
        scale = np.divide(1.0, rms, out=np.zeros_like(rms), where=rms > 1e-9 * rms.max(initial=0.0))
        scale[:-n_species] /= penalty
        scale[-n_species:] *= _FREE
        strength = self._evidence(full, moment, scale, shift)
        coefficients = np.zeros_like(self.moment)
        for m, member in enumerate(zip(self.gram, self.moment, strict=True)):
            gram, moment = _centred(*member, means)
            scaled = scale[:, None] * gram * scale
            scaled[np.diag_indices_from(scaled)] += strength
            right = scale * (moment - gram[:, -n_species:] @ shift)
            coefficients[m] = scale * cho_solve(cho_factor(scaled, lower=True, overwrite_a=True), right)
            coefficients[m, -n_species:] += shift - means @ coefficients[m, :-n_species]
        return coefficients, strength

    def _means(self, n_species: int) -> Array:
        """Mean of each feature over the atoms of its species, each species' in a row of its own, shape (species, F)."""
        features, atoms = self.total[:-n_species].reshape(n_species, -1), self.total[-n_species:]
        means = np.zeros((n_species, n_species, features.shape[1]))
        means[np.arange(n_species), np.arange(n_species)] = features / np.maximum(atoms, 1.0)[:, None]
        return means.reshape(n_species, -1)

    def _evidence(self, full: Array, moment: Array, scale: Array, shift: Array) -> float:
        """The ridge of largest evidence; the variance of the noise is eliminated."""
        counts = full[:, -len(shift) :]
        square = float(self.square - 2 * shift @ moment[-len(shift) :] + shift @ counts[-len(shift) :] @ shift)
        values, vectors = eigh(scale[:, None] * full * scale)
        values = np.maximum(values, 0.0)
        projected = (vectors.T @ (scale * (moment - counts @ shift))) ** 2
        strengths = np.multiply(_STRENGTHS, max(float(values.sum()) / len(values), 1e-300))
        residual = np.array([square - np.sum(projected / (values + s)) for s in strengths])
        residual = np.maximum(residual, 1e-14 * max(square, 1e-300))
        volume = np.array([np.sum(np.log1p(values / s)) for s in strengths])
        return float(strengths[np.argmax(-0.5 * self.n_rows * np.log(residual) - 0.5 * volume)])


def _centred(gram: Array, moment: Array, means: Array) -> tuple[Array, Array]:
    """The normal equations of features that count from ``means`` (species, F); the last columns are the atom counts."""
    n = len(means)
    cross = gram[:-n, -n:] @ means
    gram, moment = gram.copy(), moment.copy()
    gram[:-n, :-n] += means.T @ (gram[-n:, -n:] @ means) - cross - cross.T
    gram[:-n, -n:] -= means.T @ gram[-n:, -n:]
    gram[-n:, :-n] = gram[:-n, -n:].T
    moment[:-n] -= means.T @ moment[-n:]
    return gram, moment


def _atomic_energies(full: Array, moment: Array, n_species: int) -> Array:
    """Least squares of the energies on the composition alone, of minimal norm: where the ridge is centred."""
    inverse = np.linalg.pinv(full[-n_species:, -n_species:], rcond=1e-10, hermitian=True)
    return np.asarray(inverse @ moment[-n_species:])
