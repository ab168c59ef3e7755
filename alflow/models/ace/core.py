"""What holds atoms apart where nothing is known: at distances shorter than any in the training set.

Below the shortest distance d of a pair of species the radial functions come to rest within ``h = SOFT d``, and with
them whatever the features would have extrapolated. In their place stands, with t = (d - r)/h,

``phi(r) = C h (5/2 t^4 - 3 t^5 + t^6) + ZBL(r) - T(r)``,

the first term going on as a straight line of slope -C from t = 1, T the Taylor polynomial of third order of ZBL at d.
The force of the first takes over the force C with which the pair was pushed apart at d in the same measure as the
features give it up; what ZBL adds is positive and rises monotonically, as do its derivatives (it is completely
monotone). Both vanish at d with their first three derivatives: nothing changes for the structures of the training set,
and a little below d the features go on alone. A committee with a baseline has no core: it is the baseline that
holds atoms apart then, and the learned difference comes to rest as well. ZBL: Ziegler, Biersack, Littmark, The Stopping
and Range of Ions in Matter (Pergamon, 1985).
"""

import numpy as np
from ase import units
from numpy.typing import NDArray

from alflow.models.ace.kernels.core import Core, pair_core, zbl
from alflow.models.ace.settings import covalent

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

WEAKEST = 1.0
"""Smallest C, eV/Å."""

_RISE = 1.05  # of that force from one to the next of three distances

_CLOSE = 0.75  # of the cutoff: farther away features fade, and tell nothing of what is nearer
_FAR = 3.0  # sums of covalent radii: where the core of a pair begins that was seen only beyond
_UNSEEN = 1.5  # the same of a pair that was never seen within the cutoff, at most


def close(shortest: Array, cutoff: float) -> Flags:
    """Which pairs of species have met at distances that count, shape (S, S); shortest (S, S): seen, or infinite."""
    return np.asarray(shortest < _CLOSE * cutoff)


def distant(shortest: Array, cutoff: float) -> Flags:
    """Which have met near the cutoff only, one of the two having met another closely: others tell what to expect."""
    met = close(shortest, cutoff)
    known = np.any(met, axis=1)
    return np.asarray(np.isfinite(shortest) & ~met & (known[:, None] | known[None, :]))


def inner_distances(numbers: tuple[int, ...], shortest: Array, cutoff: float) -> Array:
    """Where the core of each pair of species begins, shape (S, S), Å; shortest: seen in training, or infinite.

    A pair that was never seen, or near the cutoff only, may come as close, in sums of covalent radii, as the closest of
    those that have a species in common with it, or else of all.
    """
    radii, far = covalent(numbers), distant(shortest, cutoff)
    met = np.isfinite(shortest) & ~far
    closeness = np.where(met, shortest / radii, np.inf)
    of_one = closeness.min(axis=1, initial=np.inf)
    of_either = np.minimum(of_one[:, None], of_one)
    either = np.where(np.isfinite(of_either), of_either, of_one.min(initial=np.inf))
    inner = np.where(met, np.minimum(shortest, _FAR * radii), np.minimum(either, _UNSEEN) * radii)
    return np.asarray(np.minimum(inner, np.minimum(shortest, cutoff)))


def repelling(coefficients: Array, responses: Array, rows: Array) -> Array:
    """Coefficients changed as little as it takes to let two atoms alone repel each other at the distances not yet seen.

    Structures say little of two atoms alone, and an attraction left to chance would be a hole. Where the force of the
    mean is below :data:`WEAKEST`, or does not rise inwards, all members are constrained to one that does.

    Parameters
    ----------
    coefficients : ndarray, shape (M, D)
        Of the members.
    responses : ndarray, shape (D, 3 n)
        Of a fit to all structures to each row: the inverse of its normal equations times the row.
    rows : ndarray, shape (D, 3 n)
        Of the force, at three distances inwards, of each of n pairs.
    """
    # Of the mean, as that is what drives; and only of pairs where it is wrong, so that the others keep their fit.
    force = coefficients.mean(axis=0) @ rows
    wanted = force.reshape(-1, 3).copy()
    wanted[:, 0] = np.maximum(wanted[:, 0], WEAKEST)
    for k in (1, 2):
        wanted[:, k] = np.maximum(wanted[:, k], _RISE * wanted[:, k - 1])
    wrong = np.repeat((wanted > force.reshape(-1, 3)).any(axis=1), 3)
    if not wrong.any():
        return coefficients
    # The least change in the metric of the normal equations of all structures: where they say much, they give way last,
    # those that a member has not seen, too. Least squares, as rows of neighbouring distances may all but coincide.
    response = responses[:, wrong]
    lacking = wanted.ravel()[wrong] - coefficients @ rows[:, wrong]
    pulls = np.linalg.lstsq(rows[:, wrong].T @ response, lacking.T, rcond=1e-10)[0]
    return np.asarray(coefficients + (response @ pulls).T)


def rising(z_a: int, z_b: int, r: Array, features: Array, least: float) -> float:
    """The smallest C >= ``least`` with which the force between two atoms alone rises from d inwards, eV/Å.

    Parameters
    ----------
    r : ndarray, shape (n,)
        Distances from d to d - h, Å.
    features : ndarray, shape (n,)
        Force by the features there, eV/Å.
    least : float
        eV/Å; also what is returned where no C does.
    """
    for factor in np.geomspace(1.0, 3.0, 12):
        core = make_core((z_a, z_b), np.full((2, 2), r[0]), np.full((2, 2), factor * least))
        force = features - np.array([pair_core(x, 0, 1, core)[1] for x in r])
        if (np.diff(force) >= 0).all():
            return float(factor * least)
    return least


def make_core(numbers: tuple[int, ...], inner: Array, force: Array) -> Core:
    """The core of each pair of species, from d and C, both of shape (S, S).

    The screening length is ``0.8854 a_0 / (Z^0.23 + Z'^0.23)``.
    """
    z = np.array(numbers, dtype=float)
    charge = np.outer(z, z) * units.Hartree * units.Bohr
    screening = 0.8854 * units.Bohr / (z[:, None] ** 0.23 + z**0.23)
    taylor = np.array(
        [[zbl(inner[a, b], charge[a, b], screening[a, b]) for b in range(len(numbers))] for a in range(len(numbers))]
    )
    return Core(inner, force, charge, screening, taylor)
