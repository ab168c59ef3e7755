"""What holds atoms apart where nothing is known: at distances shorter than any in the training set.

Below the shortest distance d of a pair of species the radial functions come to rest within ``h = SOFT d``, and with
them whatever the features would have extrapolated. In their place stands, with t = (d - r)/h,

``phi(r) = C h (5/2 t^4 - 3 t^5 + t^6) + ZBL(r) - [ZBL(d) + ZBL'(d) (r - d) + ZBL''(d) (r - d)^2 / 2]``,

the first term going on as a straight line of slope -C from t = 1. Its force takes over the force C with which the pair
was pushed apart at d in the same measure as the features give it up; what ZBL adds is positive and rises monotonically,
as do all of its derivatives (it is completely monotone). Both vanish at d with their first two derivatives, so that
nothing changes for the structures of the training set. ZBL: Ziegler, Biersack, Littmark, The Stopping and Range of Ions
in Matter (Pergamon, 1985).
"""

import numpy as np
from ase import units
from numpy.typing import NDArray

from alflow.potentials.ace.kernels import Core, pair_core, zbl
from alflow.potentials.ace.settings import covalent

Array = NDArray[np.float64]

WEAKEST = 1.0
"""Smallest C, eV/Å."""

_STRONGEST = 20.0

_FAR = 2.5  # sums of covalent radii: a pair seen only beyond that was not seen close
_UNSEEN = 1.5  # sums of covalent radii: where the core of such a pair begins


def inner_distances(numbers: tuple[int, ...], shortest: Array, cutoff: float) -> Array:
    """Where the core of each pair of species begins, shape (S, S), Å, from the shortest distances seen."""
    radii = covalent(numbers)
    return np.asarray(np.minimum(np.where(shortest <= _FAR * radii, shortest, _UNSEEN * radii), cutoff))


def repulsion(z_a: int, z_b: int, r: float) -> float:
    """Force with which two atoms alone are taken to repel each other where nothing else is known, eV/Å.

    That of the ZBL potential, but never less than :data:`WEAKEST` and never more than 20 eV/Å: a force, not a wall.
    """
    core = make_core((z_a, z_b), np.full((2, 2), r), np.zeros((2, 2)))
    return float(np.clip(-core.taylor[0, 1, 1], WEAKEST, _STRONGEST))


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
