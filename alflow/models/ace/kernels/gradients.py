"""Back from energies to densities, to neighbours, and to forces."""

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.basis import Tables
from alflow.models.ace.kernels.compiled import compiled, part
from alflow.models.ace.kernels.densities import load_neighbours, most_neighbours
from alflow.models.ace.kernels.features import compute_vectors, products
from alflow.models.ace.kernels.functions import Functions, Work, pair_functions, polynomial_gradient
from alflow.models.ace.kernels.mixing import gather
from alflow.models.ace.kernels.pairs import Pairs
from alflow.models.ace.lanes import LANES, fill, fused, load, root, store

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@compiled
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

    The rest as in :func:`alflow.models.ace.kernels.features.member_energies`, but coefficients (S, M, F); weights (N,
    M), or (1, M) if all atoms have the same. Room: vectors (V, LANES), grad (V, LANES), d (F, LANES), ours (M, LANES).
    """
    zero = fill(0.0)
    for block in range(begin, end):
        compute_vectors(a[block], tables, vectors)
        for lane in range(LANES):
            atom = min(max(slots[block, lane], 0), weights.shape[0] - 1)  # of a slot left over: any
            for member in range(ours.shape[0]):
                ours[member, lane] = weights[atom, member]
        # The members are summed up here, before anything is differentiated: what follows costs the same for any number
        # of them. (The coefficients are in the other order, members first, so that this reads them along their rows.)
        products(coefficients[species[block]], ours, d)
        for k in range(grad.shape[0]):
            store(grad, k, zero)
        # Back-propagation: every product passes on to each factor what the other is times what it received; features
        # first, then the nodes, which are products of densities only.
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


@compiled
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
    start, one, mixed = pairs.start, w.one, functions.mixing.shape[0] > 0
    for block in range(begin, end):
        for s in range(n_species):
            r0, inner = functions.length[species[block], s], functions.inner[species[block], s]
            count = most_neighbours(s, n_species, slots[block], pairs)
            into, shift = (one, 0) if mixed else (da[block], s * width)
            if mixed and count > 0:
                gather(s, functions.mixing, da[block], tables, one)
            for k in range(count):
                load_neighbours(k, s, n_species, slots[block], pairs, functions.cutoff, w)
                pair_functions(r0, inner, functions, w)
                _vector_gradient(into, shift, functions, tables, w, out)
                for lane in range(LANES):
                    atom = slots[block, lane]
                    if atom >= 0:
                        p = start[atom * n_species + s] + k
                        if p < start[atom * n_species + s + 1]:
                            g[p, 0], g[p, 1], g[p, 2] = out[0, lane], out[1, lane], out[2, lane]


@part
def _vector_gradient(da: Array, shift: int, functions: Functions, tables: Tables, w: Work, out: Array) -> None:
    """Gradient with respect to the vectors ``w.d``, into out (3, LANES), from dE/dA, which begins at row ``shift``."""
    # R_n(r) Y_lm = (R_n / r^l) (r^l Y_lm): the second factor is a polynomial, whose gradient is known, and the first
    # changes along the vector only. So sums over n come first, and each lm is differentiated once, not for every n.
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
            px, py, pz = polynomial_gradient(l, m, norm[l, m] * even, norm[l, m] * odd, unit, c, s, q)
            gx += px
            gy += py
            gz += pz
    ux, uy, uz = load(unit, 0), load(unit, 1), load(unit, 2)
    one_over_r = 1.0 / root(load(d, 0) * load(d, 0) + load(d, 1) * load(d, 1) + load(d, 2) * load(d, 2))
    radial = along - across * one_over_r
    store(out, 0, gx * one_over_r + radial * ux)
    store(out, 1, gy * one_over_r + radial * uy)
    store(out, 2, gz * one_over_r + radial * uz)


@compiled
def collect_forces(
    first: int, last: int, pairs: Pairs, n_species: int, g: Array, forces: Array, strains: Array
) -> None:
    """Forces (N, 3) on atoms first .. last - 1, and what they add to dE/d(strain), (N, 3, 3); both hold zeros.

    From the gradients g (P, 3) with respect to the pair vectors.
    """
    # Each thread gathers what its own atoms receive, from all pairs, instead of scattering what its pairs give: no atom
    # is written to by two threads, and its sum has one order.
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
