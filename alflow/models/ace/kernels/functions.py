"""The functions of one neighbour's vector: radial functions, real spherical harmonics, and their derivatives."""

from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.kernels.compiled import part
from alflow.models.ace.lanes import LANES, Lanes, aligned, fill, least, load, most, root, store

Array = NDArray[np.float64]

SOFT = 0.15
"""Share of the shortest distance over which the radial functions come to rest, see :func:`pair_functions`."""


class Functions(NamedTuple):
    """The functions of a pair vector, and what they add to which densities.

    Attributes
    ----------
    n_max : int
        Number of radial functions.
    cutoff : float
        Å.
    length : ndarray, shape (S, S)
        r_0 of each pair of species, Å.
    inner : ndarray, shape (S, S)
        Distance below which the radial functions come to rest, Å.
    norm : ndarray, shape (l_max + 1, l_max + 1)
        N_lm of the real spherical harmonics.
    mixing : ndarray, shape (C, S)
        Weight of each species in each pseudo-species; (0, S) where every species is one.
    """

    n_max: int
    cutoff: float
    length: Array
    inner: Array
    norm: Array
    mixing: Array


class Work(NamedTuple):
    """Room for what is known of one neighbour of each atom of a block, in rows of LANES numbers; see :func:`make_work`.

    Attributes
    ----------
    d : ndarray, shape (3, LANES)
        Vector to the neighbour, Å.
    unit : ndarray, shape (3, LANES)
        Direction.
    value, slope : ndarray, shape (n_max, LANES)
        R_n and dR_n/dr.
    c, s : ndarray, shape (l_max + 1, LANES)
        Real and imaginary part of (x + iy)^m.
    q : ndarray, shape ((l_max + 1)^2, LANES)
        Q_lm, row l (l_max + 1) + m.
    y : ndarray, shape (lm, LANES)
        Real spherical harmonics.
    one : ndarray, shape (n_max (l_max + 1)^2, LANES)
        Densities of one species, before they are mixed; or their gradients; (0, LANES) where they are not.
    """

    d: Array
    unit: Array
    value: Array
    slope: Array
    c: Array
    s: Array
    q: Array
    y: Array
    one: Array


def make_work(functions: Functions) -> Work:
    """Room for one thread."""
    n_max, n_l = functions.n_max, len(functions.norm)
    n_one = n_max * n_l * n_l if len(functions.mixing) else 0
    ends = list(accumulate([0, 3, 3, n_max, n_max, n_l, n_l, n_l * n_l, n_l * n_l, n_one]))
    rows = aligned((ends[-1], LANES))
    return Work(*(rows[begin:end] for begin, end in pairwise(ends)))


@part
def pair_functions(r0: float, inner: float, functions: Functions, w: Work) -> None:
    """Radial functions and harmonics of the vectors ``w.d``.

    ``R_n(r) = T_n(x) (1 - (r/r_c)^2)^3``; x is linear in 1/(1 + (r/r_0)^2), from 1 to -1. Below the shortest distance d
    of the training set nothing is known, and r is replaced by ``d - h q((d - r)/h)``, ``q(t) = t - 5/2 t^4 + 3 t^5 -
    t^6``, h = SOFT d: three times differentiable at d, and at rest from d - h on.

    ``Y_lm(x, y, z) = N_lm Q_lm(z) c_m(x, y)``, s_m for negative m, with the recursions of Bigi et al., J. Chem. Phys.
    159, 064802 (2023), doi:10.1063/5.0156307.
    """
    values, slopes, norm, n_max, cutoff = w.value, w.slope, functions.norm, functions.n_max, functions.cutoff
    d, unit, cosines, sines, qs, ys = w.d, w.unit, w.c, w.s, w.q, w.y
    x, y, z = load(d, 0), load(d, 1), load(d, 2)
    r = root(x * x + y * y + z * z)
    one_over_r = 1.0 / r
    ux, uy, uz = x * one_over_r, y * one_over_r, z * one_over_r
    store(unit, 0, ux)
    store(unit, 1, uy)
    store(unit, 2, uz)

    # Radial functions. Below the shortest distance of the training set they would be extrapolated by polynomials, whose
    # energies go anywhere: r is replaced by a distance that comes to rest, so that features and forces do, too.
    h = SOFT * inner + 1e-300  # not zero where there is no such distance
    t = most(least((inner - r) / h, 1.0), 0.0)
    t3 = t * t * t
    stretch = 1.0 - t3 * (10.0 - t * (15.0 - 6.0 * t))
    r = most(r, inner) - h * (t - t * t3 * (2.5 - t * (3.0 - t)))
    low = 1.0 / (1.0 + (cutoff / r0) ** 2)
    u = 1.0 / (1.0 + r * r * (1.0 / r0**2))
    edge = 1.0 - r * r * (1.0 / cutoff**2)
    place = (u - low) * (2.0 / (1.0 - low)) - 1.0
    move = u * u * r * stretch * (-4.0 / ((1.0 - low) * r0**2))
    before, dbefore = edge * edge * edge, edge * edge * r * stretch * (-6.0 / cutoff**2)
    # Chebyshev polynomials by their recursion, times what ends them smoothly at the cutoff; the factor is taken in at
    # the start, as the recursion is linear. Derivatives go along: a second pass would compute all of it again.
    store(values, 0, before)
    store(slopes, 0, dbefore)
    if n_max > 1:
        value, slope = place * before, place * dbefore + move * before
        store(values, 1, value)
        store(slopes, 1, slope)
        for n in range(2, n_max):
            following = 2.0 * place * value - before
            dfollowing = 2.0 * (place * slope + move * value) - dbefore
            before, dbefore, value, slope = value, slope, following, dfollowing
            store(values, n, value)
            store(slopes, n, slope)

    # Harmonics as polynomials of the unit vector, not of angles: no trigonometric function, and no pole at the z axis.
    n_l = norm.shape[0]
    c, s = fill(1.0), fill(0.0)
    store(cosines, 0, c)
    store(sines, 0, s)
    for m in range(1, n_l):
        c, s = ux * c - uy * s, ux * s + uy * c
        store(cosines, m, c)
        store(sines, m, s)
    diagonal = 1.0
    for m in range(n_l):
        if m > 0:
            diagonal *= 1.0 - 2.0 * m
        lower, q = fill(0.0), fill(diagonal)
        for l in range(m, n_l):
            if l > m:
                lower, q = q, ((2.0 * l - 1.0) * uz * q - (l + m - 1.0) * lower) * (1.0 / (l - m))
            store(qs, l * n_l + m, q)
            scaled = norm[l, m] * q
            store(ys, l * l + l + m, scaled * load(cosines, m))
            if m > 0:
                store(ys, l * l + l - m, scaled * load(sines, m))


@part
def polynomial_gradient(
    l: int, m: int, even: Lanes, odd: Lanes, unit: Array, c: Array, s: Array, q: Array
) -> tuple[Lanes, Lanes, Lanes]:
    """Gradient of the homogeneous polynomials ``even r^l Q_lm c_m + odd r^l Q_lm s_m`` at r = 1."""
    # The derivatives of Q_lm c_m are again products of Q and c of lower l and m, which are there already.
    n_l = c.shape[0]
    gx, gy, gz = fill(0.0), fill(0.0), fill(0.0)
    both = even * load(c, m) + odd * load(s, m)
    if m <= l - 1:
        gz = (l + m) * both * load(q, (l - 1) * n_l + m)
    if m + 1 <= l - 1:
        side = both * load(q, (l - 1) * n_l + m + 1)
        gx = load(unit, 0) * side
        gy = load(unit, 1) * side
    if m > 0:
        here = m * load(q, l * n_l + m)
        below_c, below_s = load(c, m - 1), load(s, m - 1)
        gx = gx + here * (even * below_c + odd * below_s)
        gy = gy + here * (odd * below_c - even * below_s)
    return gx, gy, gz
