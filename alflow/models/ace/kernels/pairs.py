"""Atoms and their neighbours: sorted, searched, measured."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.kernels.compiled import compiled, makes_arrays

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


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


@compiled
def count_pairs(first: int, last: int, pairs: IntArray, species: IntArray, n_species: int, counts: IntArray) -> None:
    """How many pairs (P, 2) atoms first .. last - 1 have with each species, added to counts (N S,)."""
    for p in range(pairs.shape[0]):
        i = pairs[p, 0]
        if first <= i < last:
            counts[i * n_species + species[pairs[p, 1]]] += 1


@compiled
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
    # A counting sort: linear in the pairs, stable, and every thread writes where no other does. It reads all pairs for
    # that, which is cheap beside what is computed of them.
    for p in range(pairs.shape[0]):
        i = pairs[p, 0]
        if first <= i < last:
            kind = i * n_species + species[pairs[p, 1]]
            place = free[kind]
            free[kind] += 1
            j[place] = pairs[p, 1]
            out[place, 0], out[place, 1], out[place, 2] = vector[p, 0], vector[p, 1], vector[p, 2]


@compiled
def first_coincident(vector: Array) -> int:
    """First pair (P, 3) of atoms at the same place, -1 if there is none."""
    for p in range(vector.shape[0]):
        if vector[p, 0] ** 2 + vector[p, 1] ** 2 + vector[p, 2] ** 2 < 1e-12:
            return p
    return -1


@makes_arrays
def shortest_distances(pairs: Pairs, n_species: int) -> Array:
    """Shortest distance of each pair of species (S, S), Å; infinite where there is no pair."""
    # Squares are compared, and one root taken of each result: pairs are many, pairs of species few.
    out = np.full((n_species, n_species), np.inf)
    for i in range(pairs.species.size):
        for s in range(n_species):
            for p in range(pairs.start[i * n_species + s], pairs.start[i * n_species + s + 1]):
                r2 = pairs.vector[p, 0] ** 2 + pairs.vector[p, 1] ** 2 + pairs.vector[p, 2] ** 2
                out[pairs.species[i], s] = min(out[pairs.species[i], s], r2)
    return np.sqrt(out)  # type: ignore[no-any-return]


@makes_arrays
def largest_closeness(pairs: Pairs, inner: Array) -> Array:
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
