"""The loops, compiled: from neighbours to densities, features and energies, and back.

Every atom's work is independent of every other's and done in a fixed order, so that results do not depend on the number
of threads. :data:`LANES` atoms of one species, a *block*, are worked on at once: the k-th neighbours of all of them
together, then their densities and features. Slots of a block that are left over hold atom -1.

Symbols: N atoms, P pairs, S species, K densities and V vectors of an atom, F features of an atom, M members; lm runs
over (l_max + 1)^2 real spherical harmonics.
"""

from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from alflow.models.ace.basis import Tables
from alflow.models.ace.lanes import LANES, Lanes, aligned, fill, fused, least, load, most, root, store

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

SOFT = 0.15
"""Share of the shortest distance over which the radial functions come to rest, see :func:`_radial`."""

_options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_makes_arrays = njit(cache=True, **_options)
_compiled = njit(cache=True, _nrt=False, **_options)  # without counting references to arrays, which it does not make
# What others call is compiled with them, never read from the cache: only then can it be inlined well.
_part = njit(_nrt=False, **_options)


class Pairs(NamedTuple):
    """Atoms and their neighbours within the cutoff, each pair in both directions, periodic images included.

    Attributes
    ----------
    species : ndarray of int, shape (N,)
        Index of each atom's species.
    start : ndarray of int, shape (N S + 1,)
        Pairs ``start[i * S + s]`` to ``start[i * S + s + 1] - 1`` are those of atom i with atoms of species s.
    j : ndarray of int, shape (P,)
        The other atom.
    vector : ndarray, shape (P, 3)
        From i to j, Å.
    """

    species: IntArray
    start: IntArray
    j: IntArray
    vector: Array


class Functions(NamedTuple):
    """The functions of a pair vector.

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
    """

    n_max: int
    cutoff: float
    length: Array
    inner: Array
    norm: Array


class Core(NamedTuple):
    """The repulsion of atoms closer than any in the training set, see :mod:`alflow.models.ace.core`.

    Attributes
    ----------
    inner, force, charge, screening : ndarray, shape (S, S)
        Distance d at which it begins, Å; force C that replaces that of the features, eV/Å; ``e^2 Z Z' / 4 pi eps_0``,
        eV Å; and screening length, Å, of the ZBL potential.
    taylor : ndarray, shape (S, S, 3)
        Value and first two derivatives of the ZBL potential at d.
    """

    inner: Array
    force: Array
    charge: Array
    screening: Array
    taylor: Array


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
    """

    d: Array
    unit: Array
    value: Array
    slope: Array
    c: Array
    s: Array
    q: Array
    y: Array


def make_work(functions: Functions) -> Work:
    """Room for one thread."""
    n_max, n_l = functions.n_max, len(functions.norm)
    ends = list(accumulate([0, 3, 3, n_max, n_max, n_l, n_l, n_l * n_l, n_l * n_l]))
    rows = aligned((ends[-1], LANES))
    return Work(*(rows[begin:end] for begin, end in pairwise(ends)))


@_compiled
def count_pairs(first: int, last: int, pairs: IntArray, species: IntArray, n_species: int, counts: IntArray) -> None:
    """How many pairs (P, 2) atoms first .. last - 1 have with each species, added to counts (N S,)."""
    for p in range(pairs.shape[0]):
        i = pairs[p, 0]
        if first <= i < last:
            counts[i * n_species + species[pairs[p, 1]]] += 1


@_compiled
def sort_pairs(
    first: int,
    last: int,
    pairs: IntArray,
    vector: Array,
    species: IntArray,
    n_species: int,
    free: IntArray,
    j: IntArray,
    out: Array,
) -> None:
    """Put the pairs (P, 2) of atoms first .. last - 1 in order, into j (P,) and out (P, 3).

    By atom, then by species of the other; what is equal keeps its order. ``free`` (N S,) is where each kind begins, and
    afterwards where it ends.
    """
    for p in range(pairs.shape[0]):
        i = pairs[p, 0]
        if first <= i < last:
            kind = i * n_species + species[pairs[p, 1]]
            place = free[kind]
            free[kind] += 1
            j[place] = pairs[p, 1]
            out[place, 0], out[place, 1], out[place, 2] = vector[p, 0], vector[p, 1], vector[p, 2]


@_compiled
def coincident(vector: Array) -> int:
    """First pair (P, 3) of atoms at the same place, -1 if there is none."""
    for p in range(vector.shape[0]):
        if vector[p, 0] ** 2 + vector[p, 1] ** 2 + vector[p, 2] ** 2 < 1e-12:
            return p
    return -1


@_makes_arrays
def shortest(pairs: Pairs, n_species: int) -> Array:
    """Shortest distance of each pair of species (S, S), Å; infinite where there is no pair."""
    out = np.full((n_species, n_species), np.inf)
    for i in range(pairs.species.size):
        for s in range(n_species):
            for p in range(pairs.start[i * n_species + s], pairs.start[i * n_species + s + 1]):
                r2 = pairs.vector[p, 0] ** 2 + pairs.vector[p, 1] ** 2 + pairs.vector[p, 2] ** 2
                out[pairs.species[i], s] = min(out[pairs.species[i], s], r2)
    return np.sqrt(out)  # type: ignore[no-any-return]


@_part
def _pair_functions(r0: float, inner: float, functions: Functions, w: Work) -> None:
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

    h = SOFT * inner + 1e-300
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


@_part
def _polynomial_gradient(
    l: int, m: int, even: Lanes, odd: Lanes, unit: Array, c: Array, s: Array, q: Array
) -> tuple[Lanes, Lanes, Lanes]:
    """Gradient of the homogeneous polynomials ``even r^l Q_lm c_m + odd r^l Q_lm s_m`` at r = 1."""
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


@_part
def _neighbours(k: int, s: int, n_species: int, atoms: IntArray, pairs: Pairs, cutoff: float, w: Work) -> None:
    """The vectors from the atoms of a block to their k-th neighbours of species s, into w.d; of length r_c for none."""
    start, vector, d = pairs.start, pairs.vector, w.d
    for lane in range(LANES):
        atom = atoms[lane]
        p = start[atom * n_species + s] + k if atom >= 0 else 0
        if atom >= 0 and p < start[atom * n_species + s + 1]:
            d[0, lane], d[1, lane], d[2, lane] = vector[p, 0], vector[p, 1], vector[p, 2]
        else:
            d[0, lane], d[1, lane], d[2, lane] = cutoff, 0.0, 0.0


@_part
def _most_neighbours(s: int, n_species: int, atoms: IntArray, pairs: Pairs) -> int:
    """Largest number of neighbours of species s of an atom of a block."""
    largest, start = 0, pairs.start
    for lane in range(LANES):
        atom = atoms[lane]
        if atom >= 0:
            largest = max(largest, start[atom * n_species + s + 1] - start[atom * n_species + s])
    return largest


@_compiled
def densities(
    begin: int,
    end: int,
    slots: IntArray,
    species: IntArray,
    pairs: Pairs,
    functions: Functions,
    tables: Tables,
    w: Work,
    a: Array,
) -> None:
    """A of the blocks begin .. end - 1 of ``slots`` (blocks, LANES), into a (blocks, K, LANES), which holds zeros."""
    n_species, n_max, start = functions.length.shape[0], functions.n_max, tables.radial_start
    values, y = w.value, w.y
    for block in range(begin, end):
        out = a[block]
        for s in range(n_species):
            r0, inner = functions.length[species[block], s], functions.inner[species[block], s]
            for k in range(_most_neighbours(s, n_species, slots[block], pairs)):
                _neighbours(k, s, n_species, slots[block], pairs, functions.cutoff, w)
                _pair_functions(r0, inner, functions, w)
                for n in range(n_max):
                    row, value = s * start[-1] + start[n], load(values, n)
                    for lm in range(start[n + 1] - start[n]):
                        store(out, row + lm, fused(value, load(y, lm), load(out, row + lm)))


@_part
def _vectors(a: Array, tables: Tables, vectors: Array) -> None:
    """Densities a (K, LANES), then the nodes and the number one behind them: vectors (V, LANES)."""
    for k in range(a.shape[0]):
        store(vectors, k, load(a, k))
    t = 0
    while t < tables.target.size:  # the terms of a target follow each other
        target, total = tables.target[t], fill(0.0)
        while t < tables.target.size and tables.target[t] == target:
            here = tables.coefficient[t] * load(vectors, tables.first[t])
            total = fused(here, load(vectors, tables.second[t]), total)
            t += 1
        store(vectors, target, total)
    store(vectors, vectors.shape[0] - 1, fill(1.0))


@_part
def _features(vectors: Array, tables: Tables, b: Array) -> None:
    """Features of a block into b (F, LANES), from its vectors (V, LANES)."""
    for f in range(tables.left.size):
        u, v = tables.left[f], tables.right[f]
        total = load(vectors, u) * load(vectors, v)
        for m in range(1, tables.length[f]):
            total = fused(load(vectors, u + m), load(vectors, v + m), total)
        store(b, f, total)


@_part
def _products(c: Array, x: Array, out: Array) -> None:
    """``out[a] = sum_k c[k, a] x[k]``, eight a at a time: c (K, A), x (K, LANES), out (A, LANES)."""
    eights = c.shape[1] // 8 * 8
    zero = fill(0.0)
    for a in range(0, eights, 8):
        t0, t1, t2, t3, t4, t5, t6, t7 = zero, zero, zero, zero, zero, zero, zero, zero
        for k in range(c.shape[0]):
            value = load(x, k)
            t0 = fused(c[k, a], value, t0)
            t1 = fused(c[k, a + 1], value, t1)
            t2 = fused(c[k, a + 2], value, t2)
            t3 = fused(c[k, a + 3], value, t3)
            t4 = fused(c[k, a + 4], value, t4)
            t5 = fused(c[k, a + 5], value, t5)
            t6 = fused(c[k, a + 6], value, t6)
            t7 = fused(c[k, a + 7], value, t7)
        store(out, a, t0)
        store(out, a + 1, t1)
        store(out, a + 2, t2)
        store(out, a + 3, t3)
        store(out, a + 4, t4)
        store(out, a + 5, t5)
        store(out, a + 6, t6)
        store(out, a + 7, t7)
    for a in range(eights, c.shape[1]):
        total = zero
        for k in range(c.shape[0]):
            total = fused(c[k, a], load(x, k), total)
        store(out, a, total)


@_compiled
def features(begin: int, end: int, a: Array, vectors: Array, tables: Tables, b: Array) -> None:
    """Features of the blocks begin .. end - 1 of a (blocks, K, LANES), into b (blocks, F, LANES); room: vectors."""
    for block in range(begin, end):
        _vectors(a[block], tables, vectors)
        _features(vectors, tables, b[block])


@_compiled
def member_energies(
    begin: int,
    end: int,
    a: Array,
    slots: IntArray,
    species: IntArray,
    coefficients: Array,
    constants: Array,
    tables: Tables,
    vectors: Array,
    b: Array,
    e: Array,
    out: Array,
) -> None:
    """Energies of the atoms of the blocks begin .. end - 1, into out (N, M).

    ``slots`` (blocks, LANES), ``species`` (blocks,), ``coefficients`` (S, F, M), ``constants`` (S, M); room: vectors
    (V, LANES), b (F, LANES), e (M, LANES).
    """
    for block in range(begin, end):
        s = species[block]
        _vectors(a[block], tables, vectors)
        _features(vectors, tables, b)
        _products(coefficients[s], b, e)
        for lane in range(LANES):
            atom = slots[block, lane]
            if atom >= 0:
                for member in range(e.shape[0]):
                    out[atom, member] = constants[s, member] + e[member, lane]


@_compiled
def density_gradients(
    begin: int,
    end: int,
    a: Array,
    slots: IntArray,
    species: IntArray,
    coefficients: Array,
    weights: Array,
    tables: Tables,
    vectors: Array,
    grad: Array,
    d: Array,
    ours: Array,
    da: Array,
) -> None:
    """dE/dA of the blocks begin .. end - 1, into da (blocks, K, LANES), of the energies weighted with ``weights``.

    The rest as in :func:`member_energies`, but coefficients (S, M, F); weights (N, M), or (1, M) if all atoms have the
    same. Room: vectors (V, LANES), grad (V, LANES), d (F, LANES), ours (M, LANES).
    """
    zero = fill(0.0)
    for block in range(begin, end):
        _vectors(a[block], tables, vectors)
        for lane in range(LANES):
            atom = min(max(slots[block, lane], 0), weights.shape[0] - 1)  # of a slot left over: any
            for member in range(ours.shape[0]):
                ours[member, lane] = weights[atom, member]
        _products(coefficients[species[block]], ours, d)
        for k in range(grad.shape[0]):
            store(grad, k, zero)
        for f in range(tables.left.size):
            u, v, here = tables.left[f], tables.right[f], load(d, f)
            for m in range(tables.length[f]):
                store(grad, u + m, fused(here, load(vectors, v + m), load(grad, u + m)))
                store(grad, v + m, fused(here, load(vectors, u + m), load(grad, v + m)))
        for t in range(tables.target.size):
            k1, k2 = tables.first[t], tables.second[t]
            here = tables.coefficient[t] * load(grad, tables.target[t])
            store(grad, k1, fused(here, load(vectors, k2), load(grad, k1)))
            store(grad, k2, fused(here, load(vectors, k1), load(grad, k2)))
        for k in range(a.shape[1]):
            store(da[block], k, load(grad, k))


@_compiled
def pair_gradients(
    begin: int,
    end: int,
    slots: IntArray,
    species: IntArray,
    pairs: Pairs,
    functions: Functions,
    tables: Tables,
    w: Work,
    out: Array,
    da: Array,
    g: Array,
) -> None:
    """dE/dD of the pairs of the blocks begin .. end - 1, into g (P, 3), from dE/dA (blocks, K, LANES); room: out."""
    n_species, width = functions.length.shape[0], tables.radial_start[-1]
    start = pairs.start
    for block in range(begin, end):
        for s in range(n_species):
            r0, inner = functions.length[species[block], s], functions.inner[species[block], s]
            for k in range(_most_neighbours(s, n_species, slots[block], pairs)):
                _neighbours(k, s, n_species, slots[block], pairs, functions.cutoff, w)
                _pair_functions(r0, inner, functions, w)
                _vector_gradient(da[block], s * width, functions, tables, w, out)
                for lane in range(LANES):
                    atom = slots[block, lane]
                    if atom >= 0:
                        p = start[atom * n_species + s] + k
                        if p < start[atom * n_species + s + 1]:
                            g[p, 0], g[p, 1], g[p, 2] = out[0, lane], out[1, lane], out[2, lane]


@_part
def _vector_gradient(da: Array, shift: int, functions: Functions, tables: Tables, w: Work, out: Array) -> None:
    """Gradient with respect to the vectors ``w.d``, into out (3, LANES), from dE/dA, which begins at row ``shift``."""
    norm, n_max, start = functions.norm, functions.n_max, tables.radial_start
    value, slope, d, unit, c, s, q, y = w.value, w.slope, w.d, w.unit, w.c, w.s, w.q, w.y
    zero = fill(0.0)
    gx, gy, gz, along, across = zero, zero, zero, zero, zero
    for l in range(norm.shape[0]):
        while n_max > 0 and start[n_max] - start[n_max - 1] <= l * l:  # the higher n, the fewer l
            n_max -= 1
        for m in range(l + 1):
            plus, minus = l * l + l + m, l * l + l - m
            even, dplus = zero, zero
            for n in range(n_max):
                here = load(da, shift + start[n] + plus)
                even = fused(here, load(value, n), even)
                dplus = fused(here, load(slope, n), dplus)
            along += dplus * load(y, plus)
            across += l * (even * load(y, plus))
            odd = zero
            if m > 0:
                dminus = zero
                for n in range(n_max):
                    here = load(da, shift + start[n] + minus)
                    odd = fused(here, load(value, n), odd)
                    dminus = fused(here, load(slope, n), dminus)
                along += dminus * load(y, minus)
                across += l * (odd * load(y, minus))
            px, py, pz = _polynomial_gradient(l, m, norm[l, m] * even, norm[l, m] * odd, unit, c, s, q)
            gx += px
            gy += py
            gz += pz
    ux, uy, uz = load(unit, 0), load(unit, 1), load(unit, 2)
    one_over_r = 1.0 / root(load(d, 0) * load(d, 0) + load(d, 1) * load(d, 1) + load(d, 2) * load(d, 2))
    radial = along - across * one_over_r
    store(out, 0, gx * one_over_r + radial * ux)
    store(out, 1, gy * one_over_r + radial * uy)
    store(out, 2, gz * one_over_r + radial * uz)


@_makes_arrays
def closeness(pairs: Pairs, inner: Array) -> Array:
    """Largest d/r of the neighbours of every atom, or 0 below 1, shape (N,); d of each pair of species (S, S)."""
    n_species = inner.shape[0]
    out = np.zeros(pairs.species.size)
    for i in range(pairs.species.size):
        for s in range(n_species):
            d = inner[pairs.species[i], s]
            for p in range(pairs.start[i * n_species + s], pairs.start[i * n_species + s + 1]):
                r2 = pairs.vector[p, 0] ** 2 + pairs.vector[p, 1] ** 2 + pairs.vector[p, 2] ** 2
                if r2 < d * d:
                    out[i] = max(out[i], d / np.sqrt(r2))
    return out


@_compiled
def repulsion(pairs: Pairs, core: Core, energies: Array, weights: Array, g: Array) -> None:
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


@_part
def _pair_core(r: float, s_i: int, s_j: int, core: Core) -> tuple[float, float]:
    """The core of a pair and its derivative, eV and eV/Å, for r < d; see :mod:`alflow.models.ace.core`."""
    d, c = core.inner[s_i, s_j], core.force[s_i, s_j]
    h = SOFT * d
    t = (d - r) / h
    if t < 1.0:
        value, slope = c * h * t**4 * (2.5 - t * (3.0 - t)), -c * t**3 * (10.0 - t * (15.0 - 6.0 * t))
    else:
        value, slope = c * h * (t - 0.5), -c
    bare, dbare, _ = _zbl(r, core.charge[s_i, s_j], core.screening[s_i, s_j])
    at = core.taylor[s_i, s_j]
    value += bare - at[0] - at[1] * (r - d) - 0.5 * at[2] * (r - d) ** 2
    slope += dbare - at[1] - at[2] * (r - d)
    return value, slope


@_part
def _zbl(r: float, charge: float, screening: float) -> tuple[float, float, float]:
    """The universal screened nuclear repulsion and its first two derivatives.

    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter (Pergamon, 1985).
    """
    value, slope, bend = 0.0, 0.0, 0.0
    for c, b in ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162)):
        k = b / screening
        part = charge * c * np.exp(-k * r) / r
        value += part
        slope -= part * (k + 1.0 / r)
        bend += part * (k * k + 2.0 * k / r + 2.0 / r**2)
    return value, slope, bend


@_compiled
def pair_core(r: float, s_i: int, s_j: int, core: Core) -> tuple[float, float]:
    """The core of a pair and its derivative, as the other kernels have it."""
    return _pair_core(r, s_i, s_j, core)  # type: ignore[no-any-return]


@_compiled
def zbl(r: float, charge: float, screening: float) -> tuple[float, float, float]:
    """The ZBL potential and its first two derivatives, as the other kernels have it."""
    return _zbl(r, charge, screening)  # type: ignore[no-any-return]


@_compiled
def collect(first: int, last: int, pairs: Pairs, n_species: int, g: Array, forces: Array, strains: Array) -> None:
    """Forces (N, 3) on atoms first .. last - 1, and what they add to dE/d(strain), (N, 3, 3); both hold zeros.

    From the gradients g (P, 3) with respect to the pair vectors.
    """
    start, j, vector = pairs.start, pairs.j, pairs.vector
    for i in range(first, last):
        for p in range(start[i * n_species], start[(i + 1) * n_species]):
            for x in range(3):
                forces[i, x] += g[p, x]
                for z in range(3):
                    strains[i, x, z] += g[p, x] * vector[p, z]
    for p in range(j.size):
        if first <= j[p] < last:
            for x in range(3):
                forces[j[p], x] -= g[p, x]


@_part
def _steep(
    begin: int,
    count: int,
    s_i: int,
    s: int,
    pairs: Pairs,
    functions: Functions,
    tables: Tables,
    w: Work,
    steep: Array,
) -> None:
    """Gradients of what pairs begin .. begin + count - 1 add to the densities of species s: steep (3 K, C, LANES)."""
    norm, n_max, start = functions.norm, functions.n_max, tables.radial_start
    value, slope, d, unit, c, sine, q, y = w.value, w.slope, w.d, w.unit, w.c, w.s, w.q, w.y
    vector, r0, inner = pairs.vector, functions.length[s_i, s], functions.inner[s_i, s]
    for chunk in range(0, count, LANES):
        for lane in range(LANES):
            p = begin + min(chunk + lane, count - 1)
            for x in range(3):
                d[x, lane] = vector[p, x]
        _pair_functions(r0, inner, functions, w)
        ux, uy, uz = load(unit, 0), load(unit, 1), load(unit, 2)
        one_over_r = 1.0 / root(load(d, 0) * load(d, 0) + load(d, 1) * load(d, 1) + load(d, 2) * load(d, 2))
        for l in range(norm.shape[0]):
            for m in range(-l, l + 1):
                scale, lm = norm[l, abs(m)], l * l + l + m
                even, odd = fill(scale if m >= 0 else 0.0), fill(scale if m < 0 else 0.0)
                gx, gy, gz = _polynomial_gradient(l, abs(m), even, odd, unit, c, sine, q)
                here = load(y, lm)
                for n in range(n_max):
                    if start[n] + lm >= start[n + 1]:
                        break  # the higher n, the fewer l
                    across = load(value, n) * one_over_r
                    along = here * load(slope, n) - l * (here * across)
                    row = 3 * (s * start[-1] + start[n] + lm)
                    place = steep[:, chunk // LANES]
                    store(place, row, gx * across + ux * along)
                    store(place, row + 1, gy * across + uy * along)
                    store(place, row + 2, gz * across + uz * along)


@_compiled
def force_rows(
    first: int,
    last: int,
    slot_of: IntArray,
    pairs: Pairs,
    functions: Functions,
    tables: Tables,
    a: Array,
    w: Work,
    steep: Array,
    g: Array,
    vectors: Array,
    grad: Array,
    rows: Array,
) -> None:
    """Minus the derivatives of the features first .. last - 1, summed over atoms, with respect to positions.

    Added to rows (S F, 3 N): features of atoms of different species in different rows. ``slot_of`` (N,) is the slot of
    each atom in a (blocks, K, LANES). Room: steep (3 K, C, LANES), g (C, 3, LANES) for C LANES neighbours of a species,
    vectors (V,), and grad (V,), which holds zeros.
    """
    n_species, n_features = functions.length.shape[0], tables.left.size
    for atom in range(pairs.species.size):
        for s in range(n_species):
            begin, end = pairs.start[atom * n_species + s], pairs.start[atom * n_species + s + 1]
            _steep(begin, end - begin, pairs.species[atom], s, pairs, functions, tables, w, steep)
        block, lane = slot_of[atom] // LANES, slot_of[atom] % LANES
        for k in range(vectors.size):
            vectors[k] = a[block, k, lane] if k < a.shape[1] else 0.0
        for t in range(tables.target.size):
            vectors[tables.target[t]] += tables.coefficient[t] * vectors[tables.first[t]] * vectors[tables.second[t]]
        vectors[-1] = 1.0
        for f in range(first, last):
            _feature_gradient(f, vectors, tables, grad)
            row = pairs.species[atom] * n_features + f
            for s in range(n_species):
                begin, end = pairs.start[atom * n_species + s], pairs.start[atom * n_species + s + 1]
                count = end - begin
                if count > 0 and _chain(f, s, -(-count // LANES), grad, steep, tables, g):
                    _scatter(atom, pairs.j[begin:end], g, rows[row])
            for e in range(tables.channel_start[f], tables.channel_start[f + 1]):
                for m in range(tables.channel_length[e]):
                    grad[tables.channel[e] + m] = 0.0


@_part
def _scatter(atom: int, neighbours: IntArray, g: Array, row: Array) -> None:
    """Add forces to a row (3 N,) from the gradients g (C, 3, LANES) by the vectors from an atom to its neighbours."""
    for x in range(3):
        total = 0.0
        for p in range(neighbours.size):
            slope = g[p // LANES, x, p % LANES]
            total += slope
            row[3 * neighbours[p] + x] -= slope
        row[3 * atom + x] += total


@_part
def _feature_gradient(f: int, vectors: Array, tables: Tables, grad: Array) -> None:
    """Derivative of feature f with respect to the densities, added to grad (V,); what is not a density stays zero."""
    u, v = tables.left[f], tables.right[f]
    for m in range(tables.length[f]):
        grad[u + m] += vectors[v + m]
        grad[v + m] += vectors[u + m]
    for side in range(2):
        for t in range(tables.node_terms[f, side, 0], tables.node_terms[f, side, 1]):
            d = tables.coefficient[t] * grad[tables.target[t]]
            grad[tables.first[t]] += d * vectors[tables.second[t]]
            grad[tables.second[t]] += d * vectors[tables.first[t]]
    for m in range(tables.length[f]):
        if tables.node_terms[f, 0, 1] > 0:
            grad[u + m] = 0.0
        if tables.node_terms[f, 1, 1] > 0:
            grad[v + m] = 0.0
    grad[-1] = 0.0


@_part
def _chain(f: int, s: int, chunks: int, grad: Array, steep: Array, tables: Tables, g: Array) -> bool:
    """Gradients of feature f by the vectors to the neighbours of species s, into g; False if it has none."""
    width, channel, length = tables.radial_start[-1], tables.channel, tables.channel_length
    first, last = tables.channel_start[f], tables.channel_start[f + 1]
    while first < last and channel[first] // width < s:  # channels are sorted
        first += 1
    while last > first and channel[last - 1] // width > s:
        last -= 1
    for chunk in range(chunks):
        here, out = steep[:, chunk], g[chunk]
        x, y, z = fill(0.0), fill(0.0), fill(0.0)
        for e in range(first, last):
            for k in range(channel[e], channel[e] + length[e]):
                d = grad[k]
                x = fused(d, load(here, 3 * k), x)
                y = fused(d, load(here, 3 * k + 1), y)
                z = fused(d, load(here, 3 * k + 2), z)
        store(out, 0, x)
        store(out, 1, y)
        store(out, 2, z)
    return bool(last > first)
