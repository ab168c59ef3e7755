"""The repulsion of atoms closer than any in the training set; see :mod:`alflow.models.ace.core`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.kernels.compiled import compiled, part
from alflow.models.ace.kernels.functions import SOFT
from alflow.models.ace.kernels.pairs import Pairs

Array = NDArray[np.float64]


class Core(NamedTuple):
    """The repulsion of atoms closer than any in the training set, see :mod:`alflow.models.ace.core`.

    Attributes
    ----------
    inner, force, charge, screening : ndarray, shape (S, S)
        Distance d at which it begins, Å; force C that replaces that of the features, eV/Å; ``e^2 Z Z' / 4 pi eps_0``,
        eV Å; and screening length, Å, of the ZBL potential.
    taylor : ndarray, shape (S, S, 4)
        Value and first three derivatives of the ZBL potential at d.
    """

    inner: Array
    force: Array
    charge: Array
    screening: Array
    taylor: Array


@compiled
def add_repulsion(pairs: Pairs, core: Core, energies: Array, weights: Array, g: Array) -> None:
    """Add the core's energy to ``energies`` (N,), and its gradient to that of the pair vectors, g (P, 3) or (0, 3).

    Each atom has half of the energy of its pairs; ``weights`` (N,) multiply it in the gradient.
    """
    n_species = core.inner.shape[0]
    for i in range(pairs.species.size):
        s_i = pairs.species[i]
        for s in range(n_species):
            inner = core.inner[s_i, s]
            for p in range(pairs.start[i * n_species + s], pairs.start[i * n_species + s + 1]):
                r2 = pairs.vector[p, 0] ** 2 + pairs.vector[p, 1] ** 2 + pairs.vector[p, 2] ** 2
                if r2 >= inner * inner:
                    continue
                r = np.sqrt(r2)
                value, slope = _pair_core(r, s_i, s, core)
                energies[i] += 0.5 * value
                if g.shape[0] > 0:
                    for x in range(3):
                        g[p, x] += 0.5 * weights[i] * slope * pairs.vector[p, x] / r


@part
def _pair_core(r: float, s_i: int, s_j: int, core: Core) -> tuple[float, float]:
    """The core of a pair and its derivative, eV and eV/Å, for r < d; see :mod:`alflow.models.ace.core`."""
    d, c = core.inner[s_i, s_j], core.force[s_i, s_j]
    # In step with the functions that come to rest: the core's force grows as theirs fades, within the same h.
    h = SOFT * d
    t = (d - r) / h
    if t < 1.0:
        value, slope = c * h * t**4 * (2.5 - t * (3.0 - t)), -c * t**3 * (10.0 - t * (15.0 - 6.0 * t))
    else:
        value, slope = c * h * (t - 0.5), -c
    # ZBL less its Taylor polynomial at d: as long as the features go on, to the third order, it must not add to them.
    bare, dbare, _, _ = _zbl(r, core.charge[s_i, s_j], core.screening[s_i, s_j])
    at, x = core.taylor[s_i, s_j], r - d
    value += bare - (at[0] + x * (at[1] + x * (at[2] / 2 + x * at[3] / 6)))
    slope += dbare - (at[1] + x * (at[2] + x * at[3] / 2))
    return value, slope


@part
def _zbl(r: float, charge: float, screening: float) -> tuple[float, float, float, float]:
    """The universal screened nuclear repulsion and its first three derivatives.

    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter (Pergamon, 1985).
    """
    value, slope, bend, third = 0.0, 0.0, 0.0, 0.0
    for c, b in ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162)):
        k = b / screening
        part = charge * c * np.exp(-k * r) / r
        value += part
        slope -= part * (k + 1.0 / r)
        bend += part * (k**2 + 2.0 * k / r + 2.0 / r**2)
        third -= part * (k**3 + 3.0 * k**2 / r + 6.0 * k / r**2 + 6.0 / r**3)
    return value, slope, bend, third


@compiled
def pair_core(r: float, s_i: int, s_j: int, core: Core) -> tuple[float, float]:
    """The core of a pair and its derivative, as the other kernels have it."""
    return _pair_core(r, s_i, s_j, core)  # type: ignore[no-any-return]


@compiled
def zbl(r: float, charge: float, screening: float) -> tuple[float, float, float, float]:
    """The ZBL potential and its first three derivatives, as the other kernels have it."""
    return _zbl(r, charge, screening)  # type: ignore[no-any-return]
