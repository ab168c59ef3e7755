"""From densities to features, and to the energies of all members."""

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.basis import Tables
from alflow.models.ace.kernels.compiled import compiled, part
from alflow.models.ace.lanes import LANES, fill, fused, load, store

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@part
def compute_vectors(a: Array, tables: Tables, vectors: Array) -> None:
    """Densities a (K, LANES), then the nodes and the number one behind them: vectors (V, LANES)."""
    # Nodes are computed once and used by all features that share them: a product of four densities is then no more than
    # a dot product of two nodes.
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


@part
def features_of_block(vectors: Array, tables: Tables, b: Array) -> None:
    """Features of a block into b (F, LANES), from its vectors (V, LANES)."""
    for f in range(tables.left.size):
        u, v = tables.left[f], tables.right[f]
        total = load(vectors, u) * load(vectors, v)
        for m in range(1, tables.length[f]):
            total = fused(load(vectors, u + m), load(vectors, v + m), total)
        store(b, f, total)


@part
def products(c: Array, x: Array, out: Array) -> None:
    """``out[a] = sum_k c[k, a] x[k]``, eight a at a time: c (K, A), x (K, LANES), out (A, LANES)."""
    # Eight sums stay in registers while a row of x is read once for all of them. A library's matrix product would add
    # in an order of its own, which may differ between processors and numbers of threads.
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


@compiled
def compute_features(begin: int, end: int, a: Array, vectors: Array, tables: Tables, b: Array) -> None:
    """Features of the blocks begin .. end - 1 of a (blocks, K, LANES), into b (blocks, F, LANES); room: vectors."""
    for block in range(begin, end):
        compute_vectors(a[block], tables, vectors)
        features_of_block(vectors, tables, b[block])


@compiled
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
    # Features go through a small room of their own, block after block, and never leave the cache.
    for block in range(begin, end):
        s = species[block]
        compute_vectors(a[block], tables, vectors)
        features_of_block(vectors, tables, b)
        products(coefficients[s], b, e)
        for lane in range(LANES):
            atom = slots[block, lane]
            if atom >= 0:
                for member in range(e.shape[0]):
                    out[atom, member] = constants[s, member] + e[member, lane]
