"""Which sampled frames go to the reference method: candidates in, chosen out, with the reason for each.

Arrays in, arrays out: this module knows neither files nor settings nor potentials.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Selection:
    """The outcome of a selection.

    Attributes
    ----------
    indices : ndarray of int, shape (S,)
        Chosen candidates, in the order in which they were chosen.
    distances : ndarray, shape (S,)
        Distance of each, when it was chosen, from the nearest structure already known or chosen; in units of the
        training set's own spread.
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
    candidates: Array,
    known: Array,
    sigma: Array,
    sane: NDArray[np.bool_],
    *,
    sigma_min: float,
    budget: int,
    duplicate_distance: float,
) -> Selection:
    """Choose uncertain and diverse structures by farthest-point sampling, measured from what is known already.

    Farthest-point sampling takes, again and again, the candidate whose nearest neighbour among the known and the
    chosen structures is farthest away. It starts from the training set, not from an arbitrary candidate, so what
    resembles the training set is taken last; it ends when that distance falls below ``duplicate_distance``, so
    duplicates of each other and of the training set never are.

    Parameters
    ----------
    candidates : ndarray, shape (K, F)
        Features of the candidates.
    known : ndarray, shape (T, F)
        Features of the training set.
    sigma : ndarray, shape (K,)
        Uncertainty of each candidate.
    sane : ndarray of bool, shape (K,)
        Whether the candidate is a structure that the reference method can be asked about.
    sigma_min : float
        Candidates below this uncertainty are not chosen, same unit as ``sigma``.
    budget : int
        Largest number chosen.
    duplicate_distance : float
        Closer than this, two structures count as one; in units of the training set's root-mean-square distance from
        its mean.

    Returns
    -------
    Selection
        Never more than ``budget`` candidates; none when none is uncertain, sane and new.
    """
    uncertain = sigma >= sigma_min
    eligible = np.flatnonzero(uncertain & sane)
    n_sigma = int(np.sum(~uncertain))
    n_unphysical = int(np.sum(uncertain & ~sane))
    features = candidates[eligible] / _spread(known)
    nearest = _nearest(features, known / _spread(known))
    chosen: list[int] = []
    distances: list[float] = []
    while len(chosen) < min(budget, len(eligible)):
        best = int(np.argmax(nearest))
        if nearest[best] < duplicate_distance:
            break
        chosen.append(best)
        distances.append(float(nearest[best]))
        nearest = np.minimum(nearest, np.linalg.norm(features - features[best], axis=1))
        nearest[best] = -1.0  # chosen once, even when duplicate_distance is zero
    n_duplicate = int(np.sum(nearest < duplicate_distance)) - sum(1 for i in chosen if nearest[i] < duplicate_distance)
    return Selection(
        indices=eligible[chosen].astype(np.intp),
        distances=np.array(distances),
        n_sigma=n_sigma,
        n_unphysical=n_unphysical,
        n_duplicate=n_duplicate,
    )


def _spread(known: Array) -> float:
    """Root-mean-square distance of the training set from its mean; 1 where all its structures coincide."""
    if len(known) < 2:
        return 1.0
    spread = float(np.sqrt(np.mean(np.sum((known - known.mean(axis=0)) ** 2, axis=1))))
    return spread if spread > 0 else 1.0


def _nearest(points: Array, known: Array) -> Array:
    """Distance of each point from the nearest known one, shape (K,); infinite where nothing is known."""
    nearest = np.full(len(points), np.inf)
    for other in known:
        np.minimum(nearest, np.linalg.norm(points - other, axis=1), out=nearest)
    return nearest
