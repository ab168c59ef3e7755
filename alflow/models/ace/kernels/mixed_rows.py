"""Derivatives of every single feature as of :mod:`alflow.models.ace.kernels.rows`, by densities of pseudo-species."""

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.basis import Tables
from alflow.models.ace.kernels.compiled import compiled, part
from alflow.models.ace.kernels.functions import Functions, Work
from alflow.models.ace.kernels.pairs import Pairs
from alflow.models.ace.kernels.rows import feature_gradient, forget_gradient, scatter, set_vectors, steepness, strain
from alflow.models.ace.lanes import LANES, fill, fused, load, store

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@compiled
def add_mixed_rows(
    first: int,
    last: int,
    slot_of: IntArray,
    pairs: Pairs,
    functions: Functions,
    tables: Tables,
    a: Array,
    w: Work,
    room: Array,
    steep: Array,
    share: Array,
    g: Array,
    vectors: Array,
    grad: Array,
    rows: Array,
    column: int,
    strains: Array,
) -> None:
    """As :func:`alflow.models.ace.kernels.rows.add_rows`.

    Room: ``room`` and ``steep`` (3 I, C, LANES) for the I densities of one species and C LANES neighbours of all
    species; share (C' + S, C, LANES) for C' pseudo-species.
    """
    # A product of pseudo-species sees the neighbours of all species. They stand side by side, whatever their species,
    # or most lanes would be empty: of ten species there are few neighbours each. What a density of pseudo-species c
    # changes by is that of the neighbour's species times the neighbour's share in c.
    n_species, n_features = functions.length.shape[0], tables.left.size
    for atom in range(pairs.species.size):
        begin, end = pairs.start[atom * n_species], pairs.start[(atom + 1) * n_species]
        if begin == end:
            continue
        for s in range(n_species):
            p, q = pairs.start[atom * n_species + s], pairs.start[atom * n_species + s + 1]
            if q > p:
                steepness(p, q - p, pairs.species[atom], s, 0, pairs, functions, tables, w, room)
                _put(p - begin, q - p, room, steep)
        _set_shares(atom, pairs.start, functions.mixing, share)
        set_vectors(slot_of[atom], a, tables, vectors)
        for f in range(first, last):
            feature_gradient(f, vectors, tables, grad)
            row = pairs.species[atom] * n_features + f
            _chain(f, end - begin, functions.mixing.shape[0], grad, steep, share, tables, g)
            scatter(atom, pairs.j[begin:end], g, rows[pairs.species[atom], f, column:])
            strain(pairs.vector[begin:end], g, strains[row : row + 1])
            forget_gradient(f, tables, grad)


@part
def _put(place: int, count: int, room: Array, steep: Array) -> None:
    """Copy what is of ``count`` neighbours in ``room`` to their place in ``steep``."""
    for row in range(steep.shape[0]):
        for p in range(count):
            steep[row, (place + p) // LANES, (place + p) % LANES] = room[row, p // LANES, p % LANES]


@part
def _set_shares(atom: int, start: IntArray, mixing: Array, share: Array) -> None:
    """What of each neighbour counts in each pseudo-species, and behind these in each species."""
    n_pseudo, n_species = mixing.shape
    begin = start[atom * n_species]
    share[:] = 0.0
    for s in range(n_species):
        for p in range(start[atom * n_species + s] - begin, start[atom * n_species + s + 1] - begin):
            for c in range(n_pseudo):
                share[c, p // LANES, p % LANES] = mixing[c, s]
            share[n_pseudo + s, p // LANES, p % LANES] = 1.0


@part
def _chain(
    f: int, count: int, n_pseudo: int, grad: Array, steep: Array, share: Array, tables: Tables, g: Array
) -> None:
    """Gradients of feature f by the vectors to all ``count`` neighbours, into g (C, 3, LANES)."""
    start, n_own, channel = tables.radial_start, tables.n_own, tables.channel
    width = start[-1]
    for chunk in range(-(-count // LANES)):
        here, part_of, out = steep[:, chunk], share[:, chunk], g[chunk]
        x, y, z = fill(0.0), fill(0.0), fill(0.0)
        for e in range(tables.channel_start[f], tables.channel_start[f + 1]):
            behind = channel[e] - n_pseudo * width
            if behind < 0:
                which, row = channel[e] // width, channel[e] % width
            else:
                which, row = n_pseudo + behind // n_own, start[behind % n_own]
            sx, sy, sz = fill(0.0), fill(0.0), fill(0.0)
            for m in range(tables.channel_length[e]):
                d = grad[channel[e] + m]
                sx = fused(d, load(here, 3 * (row + m)), sx)
                sy = fused(d, load(here, 3 * (row + m) + 1), sy)
                sz = fused(d, load(here, 3 * (row + m) + 2), sz)
            counts = load(part_of, which)
            x = fused(counts, sx, x)
            y = fused(counts, sy, y)
            z = fused(counts, sz, z)
        store(out, 0, x)
        store(out, 1, y)
        store(out, 2, z)
