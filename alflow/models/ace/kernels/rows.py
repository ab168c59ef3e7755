"""Derivatives of every single feature, summed over atoms: the rows of a fit to forces and stress."""

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.basis import Tables
from alflow.models.ace.kernels.compiled import compiled, part
from alflow.models.ace.kernels.functions import Functions, Work, pair_functions, polynomial_gradient
from alflow.models.ace.kernels.pairs import Pairs
from alflow.models.ace.lanes import LANES, fill, fused, load, root, store

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@compiled
def add_rows(
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
    column: int,
    strains: Array,
) -> None:
    """Minus the derivatives of the features first .. last - 1, summed over atoms, with respect to positions.

    Added to rows (S, F or more, ..) of the species of the atoms, from ``column`` on. Those with respect to the strain
    (xx, yy, zz, yz, xz, xy) are added to strains (S F, 6), or (0, 6) where none are wanted. ``slot_of`` (N,) is the
    slot of each atom in a (blocks, K, LANES). Room: steep (3 K, C, LANES), g (C, 3, LANES) for C LANES neighbours of a
    species, vectors (V,), and grad (V,), which holds zeros.
    """
    # A gradient of its own for every feature, where density_gradients sums the features up first. What the densities
    # change by with each neighbour (steep) is common to all of them: computed once an atom, then multiplied with the
    # derivatives of each feature by the densities.
    n_species, n_features = functions.length.shape[0], tables.left.size
    for atom in range(pairs.species.size):
        for s in range(n_species):
            begin, end = pairs.start[atom * n_species + s], pairs.start[atom * n_species + s + 1]
            shift = s * tables.radial_start[-1]
            steepness(begin, end - begin, pairs.species[atom], s, shift, pairs, functions, tables, w, steep)
        set_vectors(slot_of[atom], a, tables, vectors)
        for f in range(first, last):
            feature_gradient(f, vectors, tables, grad)
            row = pairs.species[atom] * n_features + f
            for s in range(n_species):
                begin, end = pairs.start[atom * n_species + s], pairs.start[atom * n_species + s + 1]
                count = end - begin
                if count > 0 and _chain(f, s, -(-count // LANES), grad, steep, tables, g):
                    scatter(atom, pairs.j[begin:end], g, rows[pairs.species[atom], f, column:])
                    strain(pairs.vector[begin:end], g, strains[row : row + 1])
            forget_gradient(f, tables, grad)


@part
def set_vectors(slot: int, a: Array, tables: Tables, vectors: Array) -> None:
    """Densities of the atom in a slot, from a (blocks, K, LANES), and nodes: vectors (V,)."""
    block, lane = slot // LANES, slot % LANES
    for k in range(vectors.size):
        vectors[k] = a[block, k, lane] if k < a.shape[1] else 0.0
    for t in range(tables.target.size):
        vectors[tables.target[t]] += tables.coefficient[t] * vectors[tables.first[t]] * vectors[tables.second[t]]
    vectors[-1] = 1.0


@part
def steepness(
    begin: int,
    count: int,
    s_i: int,
    s: int,
    shift: int,
    pairs: Pairs,
    functions: Functions,
    tables: Tables,
    w: Work,
    steep: Array,
) -> None:
    """Gradients of what pairs begin .. begin + count - 1 add to the densities of species s, into steep (.., C, LANES).

    Three rows for each density; ``shift`` densities before them stay as they are.
    """
    norm, n_max, start = functions.norm, functions.n_max, tables.radial_start
    value, slope, d, unit, c, sine, q, y = w.value, w.slope, w.d, w.unit, w.c, w.s, w.q, w.y
    vector, r0, inner = pairs.vector, functions.length[s_i, s], functions.inner[s_i, s]
    for chunk in range(0, count, LANES):
        for lane in range(LANES):
            p = begin + min(chunk + lane, count - 1)
            for x in range(3):
                d[x, lane] = vector[p, x]
        pair_functions(r0, inner, functions, w)
        ux, uy, uz = load(unit, 0), load(unit, 1), load(unit, 2)
        one_over_r = 1.0 / root(load(d, 0) * load(d, 0) + load(d, 1) * load(d, 1) + load(d, 2) * load(d, 2))
        for l in range(norm.shape[0]):
            for m in range(-l, l + 1):
                scale, lm = norm[l, abs(m)], l * l + l + m
                even, odd = fill(scale if m >= 0 else 0.0), fill(scale if m < 0 else 0.0)
                gx, gy, gz = polynomial_gradient(l, abs(m), even, odd, unit, c, sine, q)
                here = load(y, lm)
                for n in range(n_max):
                    if start[n] + lm >= start[n + 1]:
                        break  # the higher n, the fewer l
                    across = load(value, n) * one_over_r
                    along = here * load(slope, n) - l * (here * across)
                    row = 3 * (shift + start[n] + lm)
                    place = steep[:, chunk // LANES]
                    store(place, row, gx * across + ux * along)
                    store(place, row + 1, gy * across + uy * along)
                    store(place, row + 2, gz * across + uz * along)


@part
def scatter(atom: int, neighbours: IntArray, g: Array, row: Array) -> None:
    """Add forces to a row (3 N,) from the gradients g (C, 3, LANES) by the vectors from an atom to its neighbours."""
    # The three sums side by side: each of them waits for its last addition.
    sum_x, sum_y, sum_z = 0.0, 0.0, 0.0
    for p in range(neighbours.size):
        here, lane, first = g[p // LANES], p % LANES, 3 * neighbours[p]
        gx, gy, gz = here[0, lane], here[1, lane], here[2, lane]
        sum_x += gx
        sum_y += gy
        sum_z += gz
        row[first] -= gx
        row[first + 1] -= gy
        row[first + 2] -= gz
    row[3 * atom] += sum_x
    row[3 * atom + 1] += sum_y
    row[3 * atom + 2] += sum_z


@part
def strain(vectors: Array, g: Array, rows: Array) -> None:
    """Add to a row (1, 6), if there is one, products of vectors to neighbours (n, 3) and gradients g (C, 3, LANES)."""
    if rows.shape[0] == 0:
        return
    row = rows[0]
    xx, yy, zz, yz, xz, xy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for p in range(vectors.shape[0]):
        here, lane = g[p // LANES], p % LANES
        gx, gy, gz = here[0, lane], here[1, lane], here[2, lane]
        x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        xx += gx * x
        yy += gy * y
        zz += gz * z
        yz += gy * z + gz * y
        xz += gx * z + gz * x
        xy += gx * y + gy * x
    row[0] += xx
    row[1] += yy
    row[2] += zz
    row[3] += 0.5 * yz
    row[4] += 0.5 * xz
    row[5] += 0.5 * xy


@part
def feature_gradient(f: int, vectors: Array, tables: Tables, grad: Array) -> None:
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


@part
def forget_gradient(f: int, tables: Tables, grad: Array) -> None:
    """Set grad (V,) back to zero after feature f."""
    # Only what the feature touched: most densities it never sees.
    for e in range(tables.channel_start[f], tables.channel_start[f + 1]):
        for m in range(tables.channel_length[e]):
            grad[tables.channel[e] + m] = 0.0


@part
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
