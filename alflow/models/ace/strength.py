"""How strong the ridge is, and which of several priors it goes with: by cross-validation, or the evidence."""

from collections.abc import Callable, Sequence
from functools import cache
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from alflow.committee.judgement import knows
from alflow.models.ace.equations import Energies
from alflow.models.ace.packed import solution, times, with_diagonal
from alflow.models.ace.scaled import Scaled
from alflow.models.ace.threads import AT_ONCE, each

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]

_FOLDS = 4
_COUNTS = (3.0, 1.0, 1.0)  # forces, energies and stresses in the score
_FEWEST = 2 * _FOLDS  # structures that do not nearly coincide, below which the evidence decides on the strength
_CLEARLY, _USUAL = 0.64, -8.0  # of a squared error; strength
_LEAST, _LARGEST = -12.0, 0.0  # log10 of the strength relative to the mean eigenvalue
_COARSE, _STEP, _FINE = 3.0, 1.5, 0.375  # steps of it: to look at all, to go downhill, and near the bottom


def lowest(
    function: Callable[[float, int], float], rough: Callable[[float, int], float], choices: int, threads: int = 1
) -> tuple[float, int]:
    """Where a function of x, which may have several valleys, and of a choice is lowest.

    ``rough`` tells in which valley. Between quarter steps by a parabola, so that a little more data does not make it
    jump.
    """
    # With few data the error of cross-validation often has two valleys: with little ridge what is said is interpolated,
    # with much it is averaged. A search that goes downhill ends in either, so every strength is looked at.
    places = [(float(x), k) for k in range(choices) for x in np.arange(_LEAST, _LARGEST + _STEP, _COARSE)]
    x, choice = places[int(np.argmin(each(lambda place: rough(*place), places, threads)))]
    # All folds then decide: they cost four times as much. All of them from here on: where structures are few one fold
    # ends in another valley.
    valley = _Valley(lambda x: function(x, choice), threads)
    x = valley.bottom(x, _STEP)
    x = valley.bottom(x + _FINE * round(valley.vertex(x, _STEP) / _FINE), _FINE)
    return x + valley.vertex(x, _FINE), choice


class _Valley:
    """A function of x in which one goes downhill; every value is computed once, and several at once."""

    def __init__(self, function: Callable[[float], float], threads: int) -> None:
        self.function = function
        self.threads = threads
        self.known: dict[float, float] = {}

    def at(self, *places: float) -> list[float]:
        """The values there, infinite beyond the range."""
        new = [x for x in places if x not in self.known and _LEAST <= x <= _LARGEST]
        self.known.update(zip(new, each(self.function, new, self.threads), strict=True))
        return [self.known.get(x, np.inf) for x in places]

    def bottom(self, x: float, step: float) -> float:
        """Downhill from x, where it is lower than one step to either side."""
        while True:
            below, here, above = self.at(x - step, x, x + step)
            if not min(below, above) < here:
                return x
            x += step if above < below else -step

    def vertex(self, x: float, step: float) -> float:
        """Where, counted from such an x, the parabola through these three points is lowest."""
        below, here, above = self.at(x - step, x, x + step)
        bend = below - 2 * here + above
        return 0.5 * step * (below - above) / bend if 0 < bend < np.inf else 0.0


def criterion(
    system: Scaled, common: Flags, n_apart: int, threads: int
) -> tuple[Callable[[float, int], float], Callable[[float, int], float]]:
    """What is to be low, as a function of the logarithm of the strength and the number of the penalty.

    The decimal logarithm, relative to the mean eigenvalue. And an estimate of it that costs a quarter. It is the score
    of four-fold cross-validation (:func:`score`) or, of few structures, minus the logarithm of the evidence.
    """
    # A fold of a single structure says nothing of the others, and twins are all in one; the evidence needs no fold.
    if not enough_to_judge(system, common, n_apart):
        evidence = _evidence(system)
        return evidence, evidence
    folds = _Folds(system, common, threads)

    @cache
    def of_fold(fold: int, log_strength: float, prior: int) -> list[Array] | None:
        return folds.errors(fold, log_strength, prior)

    def error(log_strength: float, prior: int) -> float:
        return score(each(lambda fold: of_fold(fold, log_strength, prior), range(_FOLDS), threads))

    return error, lambda log_strength, prior: score([of_fold(0, log_strength, prior)])


def score(errors: Sequence[list[Array] | None]) -> float:
    """Of squared errors of structures by fits that lack them; infinite where there is no such fit.

    Of forces, energies and stresses each the mean of ``log <e^2>`` and ``<log(e^2 + m/16)>``, over structures with
    errors e and their median m; forces count three times as much as the others. The first alone is decided by few
    structures that are unlike all others, as walks that run away and compressed crystals give them: they have errors of
    a hundred times the usual with any ridge, and most of it with the wrong one. (30 crystals of copper and gold, one of
    them 11 eV/atom above the others: 310 meV/Å in the median of new ones, now 14, and 504 and 130 in the root mean
    square.) By the second alone these would not count at all.

    Parameters
    ----------
    errors : sequence of list of ndarray
        Of each fold those of forces, of energies and of stresses, a number for each structure.
    """
    if any(of_fold is None for of_fold in errors):
        return np.inf
    total = counted = 0.0
    for weight, *parts in zip(_COUNTS, *(of_fold for of_fold in errors if of_fold is not None), strict=True):
        squares = np.concatenate(parts) + np.finfo(float).tiny
        if len(squares):
            usual = np.mean(np.log(squares + np.median(squares) / 16))
            total += weight * float(np.log(np.mean(squares)) + usual) / 2
            counted += weight
    return total / max(counted, 1.0)


class _Folds:
    """Fits to all folds but one of them."""

    def __init__(self, system: Scaled, common: Flags, threads: int) -> None:
        self.system = system
        self.unknown, self.apart, _ = _left_out(system, common)
        # What is left out is all less what is not: no matrix of its own.
        every = np.ones((1, len(self.unknown)))
        weights = np.concatenate([every, self.unknown != np.arange(_FOLDS)[:, None]])
        self.sums = system.assemble_several(weights, np.zeros(len(system.scale)), threads)
        self.rooms: SimpleQueue[Array] = SimpleQueue()
        for room in np.empty((min(threads, AT_ONCE, _FOLDS), *self.sums[0].shape[1:])):
            self.rooms.put(room)

    def solution(self, fold: int, log_strength: float, prior: int) -> Array:
        """In scaled columns; not finite where there is none."""
        matrices, rights, _ = self.sums
        # Room that the system takes again: of a new one every page costs as much as to copy the matrix to it.
        room = self.rooms.get()
        try:
            ridge = self.system.ridge(log_strength, prior)
            return solution(with_diagonal(matrices[1 + fold], ridge, room), rights[1 + fold])[0]
        finally:  # others wait for it
            self.rooms.put(room)

    def errors(self, fold: int, log_strength: float, prior: int) -> list[Array] | None:
        """Squared errors of the structures of the fold: of forces, of energies and of stresses."""
        w = self.solution(fold, log_strength, prior)
        if not np.isfinite(w).all():
            return None
        equations, coefficients = self.system.equations, self._plain(w)
        energies, mine = equations.energies, self.unknown == fold
        of_energies = np.zeros(0)
        if energies is not None:
            n_species = len(self.system.shift)
            others = self.unknown[energies.groups][:, None] != np.arange(_FOLDS)
            told = mine[energies.groups] & knows(energies.rows[:, -n_species:], others)[:, fold]
            of_energies = (energies.targets[told] - energies.rows[told] @ coefficients) ** 2
        forces, *stresses = (sample.square_errors(coefficients, mine) for sample in equations.samples)
        return [forces, of_energies, *stresses]

    def square_error(self, fold: int, log_strength: float, prior: int) -> float:
        """Sum over all rows of the fold, but for energies that the others cannot tell."""
        w = self.solution(fold, log_strength, prior)
        if not np.isfinite(w).all():
            return np.inf
        (full, right, square), (matrix, mine, y2) = ([part[k] for part in self.sums] for k in (0, 1 + fold))
        total = float((square - y2) - 2 * w @ (right - mine) + w @ times(full, w) - w @ times(matrix, w))
        if not self.apart or not len(self.apart[fold].targets):
            return total
        return total - self.apart[fold].square_error(self._plain(w))

    def _plain(self, w: Array) -> Array:
        coefficients = self.system.plain(w[:, None])[:, 0]
        coefficients[-len(self.system.shift) :] += self.system.shift
        return np.asarray(coefficients)


def squares(system: Scaled, common: Flags, found: tuple[float, int], threads: int) -> float:
    """Squared error of four-fold cross-validation, over all rows, with the strength and penalty that were ``found``."""
    folds = _Folds(system, common, threads)
    return float(np.sum(each(lambda fold: folds.square_error(fold, *found), range(_FOLDS), threads)))


def square_error(system: Scaled, common: Flags, n_apart: int, found: tuple[float, int], threads: int) -> float:
    """Mean square error of the rows of structures that a fit has not seen, with the strength that was ``found``.

    Where these are too few, the variance of the noise that goes with the evidence. Rounding is left of none at least.
    """
    least = 1e-14 * float(system.equations.square.sum()) / max(float(system.equations.n_rows.sum()), 1.0)
    if enough_to_judge(system, common, n_apart):
        error = squares(system, common, found, threads) / _left_out(system, common)[2]
    else:
        error = _residual(system)(*found)[0] / max(float(system.equations.n_rows.sum()), 1.0)
    return max(error, least, np.finfo(float).tiny)


def enough_to_judge(system: Scaled, common: Flags, n_apart: int) -> bool:
    """Whether cross-validation decides; otherwise the evidence does."""
    return n_apart >= _FEWEST and _left_out(system, common)[2] >= _FEWEST


def energies_ask(system: Scaled, other: Scaled, common: Flags, found: tuple[float, int], threads: int) -> bool:
    """Whether energies that a fold has not seen are clearly better known by another system: by a fifth of their error.

    With the strength that was ``found`` (and the number of the penalty), or a usual one, whichever is better for each:
    where labels contradict each other the strength is that of the least evil.
    """
    unknown, given = _folds(system, common), system.equations.energies
    if given is None or np.sum(unknown[given.groups] >= 0) < _FEWEST:
        return False
    told = knows(given.rows[:, -len(system.shift) :], unknown[given.groups][:, None] != np.arange(_FOLDS))
    known = {one: one.energies() for one in (system, other)}

    def square_error(place: tuple[Scaled, float, int]) -> float:
        one, log_strength, fold = place
        matrix, right, _ = one.assemble(1.0 * (unknown != fold), one.ridge(log_strength, found[1]))
        w, _ = solution(matrix, right)
        rows, targets = known[one]
        mine = (unknown[given.groups] == fold) & told[:, fold]
        return float(np.sum((targets[mine] - rows[mine] @ w) ** 2))

    strengths = (found[0], _USUAL)
    places = [(one, x, fold) for one in (system, other) for x in strengths for fold in range(_FOLDS)]
    errors = np.reshape(each(square_error, places, threads), (2, len(strengths), _FOLDS)).sum(axis=2)
    here, there = np.where(np.isfinite(errors), errors, np.inf).min(axis=1)
    return bool(there < _CLEARLY * here)


def _folds(system: Scaled, common: Flags) -> IntArray:
    """To which of the folds each group belongs (G,), -1 for none."""
    e = system.equations
    # Groups with more structures first, so that the folds are as equal as can be where some groups are empty.
    unknown = np.full(len(e.gram), -1)
    order = np.argsort(-e.n_structures, kind="stable")
    order = order[~common[order]]
    unknown[order] = np.arange(len(order)) % _FOLDS
    return unknown


def _left_out(system: Scaled, common: Flags) -> tuple[IntArray, list[Energies], float]:
    """Folds as of :func:`_folds`, energies that the others of each cannot tell, and how many rows are left to judge."""
    e, unknown = system.equations, _folds(system, common)
    # The energy of the only structure with some species says nothing of a model that has not seen it.
    apart = _not_told(e.energies, len(system.shift), unknown) if e.energies is not None else []
    return unknown, apart, float(e.n_rows[~common].sum()) - sum(len(part.targets) for part in apart)


def _residual(system: Scaled) -> Callable[[float, int], tuple[float, float]]:
    """Squared errors and penalty of a fit to all, and the log determinant of its matrix less that of its ridge."""
    equations = system.equations
    matrix, right, square = system.assemble(np.ones(len(equations.gram)), np.zeros(len(system.scale)))

    def at(log_strength: float, prior: int) -> tuple[float, float]:
        ridge = system.ridge(log_strength, prior)
        found, log_determinant = solution(with_diagonal(matrix, ridge), right)
        residual = max(square - float(right @ found), 1e-14 * max(square, 1e-300))
        return residual, log_determinant - np.sum(np.log(ridge[system.free]))

    return at


def _evidence(system: Scaled) -> Callable[[float, int], float]:
    """Minus the logarithm of the evidence; the variance of the noise is eliminated."""
    n, at = float(system.equations.n_rows.sum()), _residual(system)

    def minus_log(log_strength: float, prior: int) -> float:
        residual, log_determinant = at(log_strength, prior)
        if not np.isfinite(log_determinant):
            return np.inf
        return float(0.5 * n * np.log(residual) + 0.5 * log_determinant)

    return minus_log


def _not_told(energies: Energies, n_species: int, unknown: IntArray) -> list[Energies]:
    """Those of each fold that the other folds cannot tell, as nothing there has such a composition.

    ``unknown`` (G,) is the fold to which each group belongs, -1 for none.
    """
    fold = unknown[energies.groups]
    told = knows(energies.rows[:, -n_species:], fold[:, None] != np.arange(_FOLDS))
    parts = [(fold == k) & ~told[:, k] for k in range(_FOLDS)]
    return [Energies(energies.groups[mine], energies.rows[mine], energies.targets[mine]) for mine in parts]
