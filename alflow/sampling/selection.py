"""Which sampled frames go to the reference method: candidates in, chosen out, with the reason for each.

Arrays in, arrays out: this module knows neither files nor settings nor potentials.

How far apart two structures are is told in the scale of their own kind, by which is meant composition and system: the
distance from one labelled structure of that kind to the next is 1. A scale taken over everything at once would be the
distance between compositions, phases or volumes, beside which all that happens within one of them is nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_SAME = 1e-3  # of the scale: rounding, another order of atoms or another origin make no more of a difference
_ROUNDING = 1e-6  # of the length of a structure's features: closer, structures coincide, whatever the scale
_ASKED = 256  # structures of a kind, at most, whose nearest neighbours give its scale: a median needs no more


@dataclass(frozen=True, eq=False)
class Places:
    """Where structures lie.

    Attributes
    ----------
    features : ndarray, shape (K, F)
        Distances between them tell how different structures are.
    kinds : ndarray of int, shape (K,)
        Numbers that are equal for structures of one composition and system.
    """

    features: Array
    kinds: IntArray

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, which: IntArray | BoolArray) -> "Places":
        return Places(self.features[which], self.kinds[which])


@dataclass(frozen=True, eq=False)
class Selection:
    """The outcome of a selection.

    Attributes
    ----------
    indices : ndarray of int, shape (S,)
        Chosen candidates, in the order in which they were chosen.
    distances : ndarray, shape (S,)
        Distance of each, when it was chosen, from the nearest structure already known or chosen, in the scale of its
        kind; infinite where there is nothing to compare it with.
    n_sigma, n_unphysical, n_duplicate : int
        How many candidates fell out because the committee is sure of them, because they are not physical, and because
        they coincide with a known or chosen structure. What is left over only exceeded the budget.
    """

    indices: NDArray[np.intp]
    distances: Array
    n_sigma: int
    n_unphysical: int
    n_duplicate: int


def select_fps(
    candidates: Places,
    known: Places,
    sigma: Array,
    sane: BoolArray,
    *,
    sigma_min: float,
    budget: int,
    duplicate_distance: float,
    unsure: BoolArray | None = None,
    settled: BoolArray | None = None,
) -> Selection:
    """Choose uncertain and diverse structures by farthest-point sampling, measured from what is known already.

    Farthest-point sampling takes, again and again, the candidate whose nearest neighbour among the known and the
    chosen structures is farthest away. It starts from the training set, not from an arbitrary candidate, so what
    resembles the training set is taken last; what is closer than ``duplicate_distance`` to another is never taken,
    unless the other is known and the committee is unsure of this one all the same.

    Parameters
    ----------
    candidates : Places, K structures
        The candidates.
    known : Places, T structures
        The training set.
    sigma : ndarray, shape (K,)
        Uncertainty of each candidate.
    sane : ndarray of bool, shape (K,)
        Whether the candidate is a structure that the reference method can be asked about.
    sigma_min : float
        Candidates below this uncertainty are not chosen, same unit as ``sigma``.
    budget : int
        Largest number chosen.
    duplicate_distance : float
        Closer than this, two structures count as one; 1 is the median distance of a known structure of the kind from
        the nearest other one. Of a kind with fewer than two known structures candidates count for that, too.
    unsure : ndarray of bool, shape (K,), optional
        Candidates that are no duplicates of a known structure however near it they are, unless they are that
        structure itself; none by default.
    settled : ndarray of bool, shape (K,), optional
        Candidates whose calculation has been done, or has failed: duplicates in any case; none by default.

    Returns
    -------
    Selection
        Never more than ``budget`` candidates; none when none is uncertain, sane and new.
    """
    uncertain = sigma >= sigma_min
    eligible = np.flatnonzero(uncertain & sane)
    mine = candidates[eligible]
    scales = _scales(mine, known)
    nearest = np.full(len(mine), np.inf)
    for other in known.features:
        np.minimum(nearest, _apart(mine.features, other, scales), out=nearest)

    free = nearest >= _least(duplicate_distance, None if unsure is None else unsure[eligible], len(mine))
    if settled is not None:
        free &= ~settled[eligible]
    chosen: list[int] = []
    distances: list[float] = []
    while len(chosen) < budget and free.any():
        best = int(np.argmax(np.where(free, nearest, -np.inf)))
        chosen.append(best)
        distances.append(float(nearest[best]))
        apart = _apart(mine.features, mine.features[best], scales)
        nearest = np.minimum(nearest, apart)
        free &= apart >= duplicate_distance  # of two candidates one is enough, however unsure the committee is of both
        free[best] = False  # chosen once, even when duplicate_distance is zero
    return Selection(
        indices=eligible[chosen].astype(np.intp),
        distances=np.array(distances),
        n_sigma=int(np.sum(~uncertain)),
        n_unphysical=int(np.sum(uncertain & ~sane)),
        n_duplicate=len(mine) - len(chosen) - int(np.sum(free)),
    )


def _least(duplicate_distance: float, unsure: BoolArray | None, n: int) -> Array:
    """How far from every known structure each candidate has to be, shape (n,).

    A small distance says that a label would tell nothing new. Where the committee is unsure all the same, the distance
    is wrong: it is summed over all atoms, so one that is far from home in a large structure hardly shows.
    """
    least = np.full(n, duplicate_distance)
    return least if unsure is None else np.where(unsure, np.minimum(least, _SAME), least)


def _scales(mine: Places, known: Places) -> Array:
    """Scale of the kind of each candidate, shape (K,); 0 where nothing tells it, and any difference is a large one."""
    scales = np.zeros(len(mine))
    for kind in np.unique(mine.kinds):
        here, alike = mine.kinds == kind, known.features[known.kinds == kind]
        # Known structures first: they were chosen to be different. Candidates may be one walk, frame by frame, whose
        # neighbours are as near as the stride makes them, and none would be a duplicate of another.
        scales[here] = _step(alike) or _step(np.concatenate([alike, mine.features[here]]))
    return scales


def _step(points: Array) -> float:
    """Median distance from one point to the nearest that does not coincide with it; 0 where there is none.

    The nearest, and not the mean: of a solid at six volumes, or of two phases, it is the distance within one of them.
    """
    if len(points) < 2:
        return 0.0
    spread = np.sqrt(np.mean(np.sum((points - points.mean(axis=0)) ** 2, axis=1)))
    asked = np.unique(np.linspace(0, len(points) - 1, min(len(points), _ASKED)).round().astype(int))
    nearest = []
    for k in asked:
        distances = np.linalg.norm(points - points[k], axis=1)
        others = distances[distances > max(_SAME * spread, _ROUNDING * float(np.linalg.norm(points[k])))]
        nearest += [float(others.min())] if len(others) else []
    return float(np.median(nearest)) if nearest else 0.0


def _apart(points: Array, other: Array, scales: Array) -> Array:
    """Distance of each point from another, each in its own scale, shape (K,)."""
    distances = np.linalg.norm(points - other, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(distances > _ROUNDING * np.linalg.norm(other), distances / scales, 0.0)
