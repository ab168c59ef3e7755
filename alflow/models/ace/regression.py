"""Ridge regression of all members at once from sums over structures.

Every structure adds to the normal equations of one of G groups and is then forgotten: adding structures later gives
what fitting all at once would have, and costs in proportion to the new ones. A member is fitted to the sum of half of
the groups. Nothing that depends on all of the data (means, column scales, strength of the ridge, the zero of energies)
enters the sums; it is taken from them when the equations are solved. So no digit depends on in how many pieces the
structures came.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.linalg import cho_solve, get_lapack_funcs
from scipy.linalg.blas import dsymv, dsyrk

from alflow.committee.judgement import knows
from alflow.errors import PotentialError

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]
T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE = 8  # systems solved at once, at most: each needs a matrix of its own
_LEFT_OUT = 16  # parts that are left out in turn, at most
_FREE = 10.0  # prior standard deviation of the atomic energies relative to that of a feature: they are all but free
_LOATH = 1e-2  # squared weight of what may be used only where nothing else fits, relative to all of its rows
_ATOM = 1e-4  # squared weight of what an atom's energy differs from its species' mean by, relative to forces; see solve
_FOLDS = 4
_FEWEST = 2 * _FOLDS  # structures that do not nearly coincide, below which the evidence decides on the strength
_LEAST, _LARGEST = -12.0, 0.0  # log10 of the strength relative to the mean eigenvalue
_COARSE, _STEP = 3.0, 1.5  # steps of it: to look at all, and to go downhill


@dataclass(frozen=True, eq=False)
class Solutions:
    """What follows from the sums, for features that count from zero.

    Attributes
    ----------
    members : ndarray, shape (M, D)
        Fitted to the groups that each of them sees.
    whole : ndarray, shape (D,)
        Fitted to all groups.
    without : ndarray, shape (G, D)
        Fitted to all groups but this one, and perhaps some others.
    strength : float
        The ridge in scaled columns, the same for all.
    prior : int
        Which of the penalties it goes with.
    responses : ndarray, shape (D, n)
        How the coefficients of the fit to all groups change if it is pulled along each of n force rows.
    """

    members: Array
    whole: Array
    without: Array
    strength: float
    prior: int
    responses: Array


@dataclass(frozen=True, eq=False)
class Energies:
    """Rows of structures (n, D) and their energies (n,), multiplied with their weights, and of which group each is."""

    groups: IntArray
    rows: Array
    targets: Array

    def not_told(self, n_species: int, unknown: IntArray) -> list["Energies"]:
        """Those of each fold that the other folds cannot tell, as nothing there has such a composition.

        ``unknown`` (G,) is the fold to which each group belongs, -1 for none.
        """
        fold = unknown[self.groups]
        told = knows(self.rows[:, -n_species:], fold[:, None] != np.arange(_FOLDS))
        parts = [(fold == k) & ~told[:, k] for k in range(_FOLDS)]
        return [Energies(self.groups[mine], self.rows[mine], self.targets[mine]) for mine in parts]

    def square_error(self, coefficients: Array) -> float:
        """Of a model with these coefficients (D,)."""
        return float(np.sum((self.targets - self.rows @ coefficients) ** 2))


@dataclass(eq=False)
class NormalEquations:
    """Sums over structures, for G groups of them and D columns: S F features, then an atom count for each species.

    Attributes
    ----------
    gram : ndarray, shape (G, D, D)
        Sum of X^T X over the rows of a group; the upper triangle.
    moment : ndarray, shape (G, D)
        Sum of X^T y.
    square, n_rows, n_structures : ndarray, shape (G,)
        Sum of y^2, number of rows and of structures. In ``moment`` and ``square`` energies count as zero before
        :meth:`with_energies`.
    total : ndarray, shape (D,)
        Sum of the plain energy rows: of each feature over all atoms, and the number of atoms of each species.
    atomic : ndarray, shape (S, F, F)
        Sum of b b^T over the features b of all atoms of a species; the upper triangle.
    energies : Energies, optional
        Those of :meth:`with_energies`.
    """

    gram: Array
    moment: Array
    square: Array
    n_rows: Array
    n_structures: Array
    total: Array
    atomic: Array
    energies: "Energies | None" = None

    @classmethod
    def empty(cls, n_groups: int, n_species: int, n_features: int) -> "NormalEquations":
        """No structures yet."""
        n_columns = n_species * (n_features + 1)
        return cls(
            gram=np.zeros((n_groups, n_columns, n_columns)),
            moment=np.zeros((n_groups, n_columns)),
            square=np.zeros(n_groups),
            n_rows=np.zeros(n_groups),
            n_structures=np.zeros(n_groups),
            total=np.zeros(n_columns),
            atomic=np.zeros((n_species, n_features, n_features)),
        )

    def add(self, group: int, rows: Array, targets: Array, summed: Array, features: list[Array]) -> None:
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
        """
        # Normal equations, not a factorisation of all rows: a structure's rows are forgotten once they are added, so
        # memory does not grow with the data. They square the condition number, which the ridge bounds.
        _add_square(self.gram[group], rows)
        self.moment[group] += rows @ targets
        self.square[group] += targets @ targets
        self.n_rows[group] += len(targets)
        self.n_structures[group] += 1
        self.total += summed
        for atomic, mine in zip(self.atomic, features, strict=True):
            if mine.shape[1]:  # BLAS complains aloud of a matrix without columns
                _add_square(atomic, np.ascontiguousarray(mine))

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

    def atoms(self, coefficients: Array) -> tuple[Array, float]:
        """Mean energy of the atoms of each species (S,), and their root mean square deviation from it, eV.

        By one model, with ``coefficients`` (D,), over all atoms added.
        """
        n_species, n_features = self.atomic.shape[:2]
        numbers = self.total[-n_species:]
        totals, parts = (x[:-n_species].reshape(n_species, n_features) for x in (self.total, coefficients))
        means = np.sum(totals * parts, axis=1) / np.maximum(numbers, 1.0)
        squares = [float(c @ _times(square, c)) for square, c in zip(self.atomic, parts, strict=True)]
        variance = (sum(squares) - float(numbers @ means**2)) / max(float(numbers.sum()), 1.0)
        return means + coefficients[-n_species:], float(np.sqrt(max(variance, 0.0)))

    def solve(
        self, seen: Flags, penalties: Array, rows: Array, n_apart: int, threads: int = 1, loath: Flags | None = None
    ) -> Solutions:
        """Solve for all members, for all groups together, and for all but each of up to 16 parts of them.

        Features count from their mean over all atoms of their species, so that an atom's energy is its species'
        constant plus what its surroundings make different. The prior of a coefficient is a normal distribution of mean
        zero whose standard deviation is inversely proportional to the root mean square of its column and to one of the
        ``penalties``. Which one, and its strength, the same for all members, are those with the least squared error of
        four-fold cross-validation over the groups: with more, all members would err alike, which no spread shows. With
        fewer than eight structures, twins counted once, they maximise the evidence (MacKay, Neural Comput. 4, 415
        (1992), doi:10.1162/neco.1992.4.3.415).

        Independent of it, the energies of the atoms of a species are expected to be near their mean: what labels do not
        say, how neighbours share their energy, members then agree on. The weight is so small that errors of prediction
        do not show it, but where a sum of pair potentials is learned almost without error: there it decides on the
        error (Lennard-Jones liquid, 12 structures: 0.023 kT with 1e-3, 0.006 kT with 1e-4), and without it the energies
        of atoms say nothing (ethanol: sigma of 0.13 eV with 1e-3, 0.46 eV with 1e-6, 1.5 eV without).

        Parameters
        ----------
        seen : ndarray of bool, shape (M, G)
            Which groups each member is fitted to. What all of them see is in every fit, and in no fold.
        penalties : ndarray, shape (K, F)
            To choose from, each larger for features that should be smaller.
        rows : ndarray, shape (D, n)
            Force rows that members may have to reproduce besides.
        n_apart : int
            How many structures there are that do not nearly coincide.
        threads : int
            How many members are solved for at once. BLAS is expected to use a single thread: then results do not depend
            on how many there are.
        loath : ndarray of bool, shape (F,), optional
            Features that are no part of energies or forces, to be used only where all others together cannot fit what
            they are in.

        """
        system, common = _Scaled.of(self, penalties, loath), np.asarray(seen.all(axis=0))
        choices = len(penalties)
        log_strength, prior = _lowest(*system.criterion(common, n_apart, threads), choices, threads)
        strength = system.mean_eigenvalue * 10.0**log_strength
        n_members, n_groups = seen.shape
        # Of many groups both of a pair, or more, are left out at once. What lacks groups without structures lacks
        # nothing: it is the solution of all.
        left_out = np.where(common, -1, np.arange(n_groups) // -(-int(np.sum(~common)) // _LEFT_OUT))
        lacking = np.unique(left_out[~common & (self.n_structures > 0)])
        every = np.ones((1, n_groups), dtype=bool)
        fitted_to = np.concatenate([seen, every, left_out != lacking[:, None]])
        # One strength for all members: were it each member's own, their differences would be those of their priors too.
        # A member sees less than all together did, and its matrix may be indefinite by rounding where theirs was not.
        found = self._fitted(system, fitted_to, n_members, strength * system.ridges[prior], rows, threads)
        while not all(np.isfinite(solution).all() for solution in found):
            if strength > system.mean_eigenvalue:
                msg = "the fit has no finite solution: look for labels that are many orders of magnitude off"
                raise PotentialError(msg)
            strength *= 10.0
            found = self._fitted(system, fitted_to, n_members, strength * system.ridges[prior], rows, threads)
        coefficients = np.array([solution[:, 0] for solution in found])
        coefficients[:, -len(system.shift) :] += system.shift
        without = np.tile(coefficients[n_members], (n_groups, 1))
        for part, its in zip(lacking, coefficients[n_members + 1 :], strict=True):
            without[left_out == part] = its
        members, whole = coefficients[:n_members], coefficients[n_members]
        return Solutions(members, whole, without, strength, prior, found[n_members][:, 1:])

    def _fitted(
        self, system: "_Scaled", fitted_to: Flags, n_members: int, ridge: Array, rows: Array, threads: int
    ) -> list[Array]:
        """Solutions of fits to some groups each, without the shift: (D, 1), of that to all and responses (D, 1 + n)."""
        scaled = system.scale[:, None] * rows
        common = fitted_to.all(axis=0)

        def one(index: int) -> Array:
            groups = fitted_to[index]
            # Scaled up to the number of all groups: against the same ridge a member then weighs its data like all.
            more = np.sum(~common) / max(float(np.sum(groups & ~common)), 1.0)
            weights = np.where(common, 1.0, groups * more)
            matrix, right, _ = system.assemble(weights, ridge)
            wanted = np.column_stack([right, scaled]) if index == n_members else right[:, None]
            return system.plain(_solve(matrix, wanted)[0])

        return _each(one, range(len(fitted_to)), threads)


@dataclass(frozen=True, eq=False)
class _Scaled:
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
    mean_eigenvalue : float
        Of all groups together.
    """

    equations: NormalEquations
    means: Array
    scale: Array
    ridges: Array
    shift: Array
    prior: Array
    mean_eigenvalue: float

    @classmethod
    def of(cls, equations: NormalEquations, penalties: Array, loath: Flags | None = None) -> "_Scaled":
        n_species, n_features = equations.atomic.shape[:2]
        atoms = equations.total[-n_species:]
        means = equations.total[:-n_species] / np.repeat(np.maximum(atoms, 1.0), n_features)
        no_prior, ones = np.zeros_like(equations.atomic), np.ones(len(equations.total))
        # Scales are taken from columns that count from their means: a first, unscaled system is put together for them.
        rough = cls(equations, means, ones, ones[None], np.zeros(n_species), no_prior, 1.0)
        every = np.ones(len(equations.gram))
        full, right, _ = rough.assemble(every, 0.0 * ones)
        rms = np.sqrt(np.maximum(np.diagonal(full), 0.0) / max(equations.n_rows.sum(), 1.0))
        # A column that is all zero, of a species that never meets another, has no scale: its coefficient is zero.
        scale = np.divide(1.0, rms, out=np.zeros_like(rms), where=rms > 1e-9 * rms.max(initial=0.0))
        scale[:-n_species] /= np.tile(penalties[0], n_species)
        scale[-n_species:] *= _FREE
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
        return cls(equations, means, scale, ridges, shift, prior, max(mean_eigenvalue, 1e-300))

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

    def plain(self, solutions: Array) -> Array:
        """Coefficients for plain columns, but for the shift, from those for scaled ones (D, n)."""
        n_species = len(self.shift)
        out = self.scale[:, None] * solutions
        parts = (self.means[:, None] * out[:-n_species]).reshape(n_species, -1, out.shape[1])
        out[-n_species:] -= parts.sum(axis=1)
        return out

    def criterion(
        self, common: Flags, n_apart: int, threads: int
    ) -> tuple[Callable[[float, int], float], Callable[[float, int], float]]:
        """What is to be low, as a function of the logarithm of the strength and the number of the penalty.

        The decimal logarithm, relative to the mean eigenvalue. And an estimate of it that costs a quarter.
        """
        e, n_species = self.equations, len(self.shift)
        every, none = np.ones(len(e.gram)), np.zeros(len(self.scale))
        # Groups with more structures first, so that the folds are as equal as can be where some groups are empty.
        unknown = np.full(len(e.gram), -1)
        order = np.argsort(-e.n_structures, kind="stable")
        order = order[~common[order]]
        unknown[order] = np.arange(len(order)) % _FOLDS
        # The energy of the only structure with some species says nothing of a model that has not seen it.
        apart = e.energies.not_told(n_species, unknown) if e.energies is not None else []
        n_left = e.n_rows[~common].sum() - sum(len(part.targets) for part in apart)
        # A fold of a single structure says nothing of the others, and twins are all in one; the evidence needs no fold.
        if n_apart < _FEWEST or n_left < _FEWEST:
            evidence = self._evidence(*self.assemble(every, none))
            return evidence, evidence
        # What is left out is all less what is not: no matrix of its own.
        full, right, square = self.assemble(every, none)
        known = [self.assemble(1.0 * (unknown != k), none) for k in range(_FOLDS)]

        def of_fold(fold: int, log_strength: float, prior: int) -> float:
            matrix, mine, y2 = known[fold]
            w, log_determinant = _solve(_with_diagonal(matrix, self._ridge(log_strength, prior)), mine)
            if not np.isfinite(log_determinant):
                return np.inf
            quadratic = w @ _times(full, w) - w @ _times(matrix, w)
            total = float((square - y2) - 2 * w @ (right - mine) + quadratic)
            if not apart or not len(apart[fold].targets):
                return total
            coefficients = self.plain(w[:, None])[:, 0]
            coefficients[-n_species:] += self.shift
            return total - apart[fold].square_error(coefficients)

        def error(log_strength: float, prior: int) -> float:
            return float(np.sum(_each(lambda fold: of_fold(fold, log_strength, prior), range(_FOLDS), threads)))

        return error, lambda log_strength, prior: of_fold(0, log_strength, prior)

    def _ridge(self, log_strength: float, prior: int) -> Array:
        """Of that strength relative to the mean eigenvalue, shape (D,)."""
        return np.asarray(self.mean_eigenvalue * 10.0**log_strength * self.ridges[prior])

    def _evidence(self, matrix: Array, right: Array, square: float) -> Callable[[float, int], float]:
        """Minus the logarithm of the evidence; the variance of the noise is eliminated."""
        n = float(self.equations.n_rows.sum())

        def minus_log(log_strength: float, prior: int) -> float:
            ridge = self._ridge(log_strength, prior)
            solution, log_determinant = _solve(_with_diagonal(matrix, ridge), right)
            if not np.isfinite(log_determinant):
                return np.inf
            residual = max(square - float(right @ solution), 1e-14 * max(square, 1e-300))
            return float(0.5 * n * np.log(residual) + 0.5 * (log_determinant - np.sum(np.log(ridge))))

        return minus_log


def _each(function: Callable[[T], R], items: Iterable[T], threads: int) -> list[R]:
    """What a function gives for each of several items, some of them at once."""
    with ThreadPoolExecutor(min(threads, _AT_ONCE)) as pool:
        return list(pool.map(function, items))


def _lowest(
    function: Callable[[float, int], float], rough: Callable[[float, int], float], choices: int, threads: int = 1
) -> tuple[float, int]:
    """Where a function of x, which may have several valleys, and of a choice is lowest.

    ``rough`` tells in which valley. Between quarter steps by a parabola, so that a little more data does not make it
    jump.
    """
    # With few data the error of cross-validation often has two valleys: with little ridge what is said is interpolated,
    # with much it is averaged. A search that goes downhill ends in either, so every strength is looked at.
    places = [(float(x), k) for k in range(choices) for x in np.arange(_LEAST, _LARGEST + _STEP, _COARSE)]
    x, choice = places[int(np.argmin(_each(lambda place: rough(*place), places, threads)))]
    known: dict[float, float] = {}

    def value(x: float) -> float:
        if x not in known:
            known[x] = function(x, choice) if _LEAST <= x <= _LARGEST else np.inf
        return known[x]

    # All folds then decide, in quarter steps in the end: they cost four times as much.
    for step in (_STEP, _STEP / 2, _STEP / 4):
        while value(better := min((x - step, x + step), key=value)) < value(x):
            x = better
    below, here, above = value(x - step), value(x), value(x + step)
    bend = below - 2 * here + above
    vertex = x + 0.5 * step * (below - above) / bend if 0 < bend < np.inf else x
    return (vertex if value(vertex) <= here else x), choice


def _solve(matrix: Array, right: Array) -> tuple[Array, float]:
    """Solution and logarithm of the determinant, from the upper triangle of a matrix, which is overwritten.

    NaN both where rounding has made the matrix indefinite.
    """
    (potrf,) = get_lapack_funcs(("potrf",), (matrix,))
    factor, info = potrf(matrix.T, lower=True, overwrite_a=True, clean=False)
    if info > 0:
        return np.full_like(right, np.nan), float("nan")
    solution = cho_solve((factor, True), right, check_finite=False)
    return np.asarray(solution), 2.0 * float(np.sum(np.log(np.diagonal(factor))))


def _with_diagonal(matrix: Array, ridge: Array) -> Array:
    out = matrix.copy()
    out[np.diag_indices_from(out)] += ridge
    return out


def _times(matrix: Array, vector: Array) -> Array:
    """Product of a symmetric matrix, of which only the upper triangle is there."""
    return np.asarray(dsymv(1.0, matrix.T, vector, lower=1))


def _add_square(matrix: Array, rows: Array) -> None:
    """Add ``rows rows^T`` to the upper triangle of a matrix; rows (D, n)."""
    dsyrk(1.0, rows.T, beta=1.0, c=matrix.T, trans=1, lower=1, overwrite_c=1)


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
