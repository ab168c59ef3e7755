"""Neighbours of a structure and what the basis makes of them: from atoms to energies, and back to forces."""

import copy
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import factorial

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray
from vesin import NeighborList

from alflow.errors import PotentialError
from alflow.models.ace.basis import Basis
from alflow.models.ace.kernels.core import Core, add_repulsion
from alflow.models.ace.kernels.densities import add_densities
from alflow.models.ace.kernels.features import compute_features, member_energies
from alflow.models.ace.kernels.functions import Functions, make_work
from alflow.models.ace.kernels.gradients import collect_forces, density_gradients, pair_gradients
from alflow.models.ace.kernels.mixed_rows import add_mixed_rows
from alflow.models.ace.kernels.pairs import (
    Pairs,
    count_pairs,
    first_coincident,
    largest_closeness,
    shortest_distances,
    sort_pairs,
)
from alflow.models.ace.kernels.rows import add_rows
from alflow.models.ace.lanes import LANES, aligned

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_MANY = 50_000  # pairs from which on several threads, each of which reads all of them, sort or collect them
_SMALL = 4  # blocks of atoms below which a second thread costs more than it brings


@dataclass(frozen=True, eq=False)
class Environment:
    """A structure as the kernels see it.

    Attributes
    ----------
    pairs : Pairs
        Atoms and their neighbours.
    slots : ndarray of int, shape (blocks, LANES)
        Atoms, those of one species together; -1 where a block is not full.
    slot_of : ndarray of int, shape (N,)
        Place of each atom among the slots.
    species : ndarray of int, shape (blocks,)
        Index of the species of a block.
    a : ndarray, shape (blocks, K, LANES)
        Densities.
    """

    pairs: Pairs
    slots: IntArray
    slot_of: IntArray
    species: IntArray
    a: Array

    def per_atom(self, values: Array) -> Array:
        """From (..., blocks, LANES) to (..., N)."""
        return np.asarray(values.reshape(*values.shape[:-2], -1)[..., self.slot_of])


class Descriptor:
    """From a structure to the features and energies of its atoms, and back from energies to forces.

    Parameters
    ----------
    numbers : tuple of int
        Atomic numbers of the species, sorted.
    cutoff : float
        Å.
    basis : Basis
        Index tables for that many species.
    length : ndarray, shape (S, S)
        r_0 of the radial functions of each pair of species, Å.
    mixing : ndarray, shape (C, S), optional
        Weight of each species in each pseudo-species of the basis; by default every species is one.

    Attributes
    ----------
    threads : int
        How many threads work at once; results do not depend on it.
    """

    def __init__(
        self, numbers: tuple[int, ...], cutoff: float, basis: Basis, length: Array, mixing: Array | None = None
    ) -> None:
        self.numbers = numbers
        self.basis = basis
        self.threads = available_threads()
        mixing = np.zeros((0, len(numbers))) if mixing is None else mixing
        self.functions = Functions(basis.n_max, cutoff, length, np.zeros_like(length), _norm(basis.l_max), mixing)
        self._neighbours = NeighborList(cutoff=cutoff, full_list=True)
        self._index = np.full(len(chemical_symbols), -1)
        self._index[list(numbers)] = np.arange(len(numbers))

    def with_inner(self, inner: Array) -> "Descriptor":
        """The same with other distances below which the radial functions come to rest, shape (S, S), Å."""
        other = copy.copy(self)
        other.functions = self.functions._replace(inner=inner)
        return other

    def with_mixing(self, mixing: Array) -> "Descriptor":
        """The same with other weights of the species in the pseudo-species, shape (C, S)."""
        other = copy.copy(self)
        other.functions = self.functions._replace(mixing=mixing)
        return other

    def environment(self, atoms: Atoms) -> Environment:
        """Neighbours and densities of a structure.

        Raises
        ------
        PotentialError
            Empty structure, positions that are not finite, a species the potential does not know, atoms that coincide.
        """
        # Atoms of one species fill blocks of their own: all lanes then read the same coefficients and lengths.
        pairs = self.pairs(atoms)
        n_species = len(self.numbers)
        counts = np.bincount(pairs.species, minlength=n_species)
        blocks = -(-counts // LANES)
        species = np.repeat(np.arange(n_species), blocks)
        order = np.argsort(pairs.species, kind="stable")
        before = LANES * (np.cumsum(blocks) - blocks) - (np.cumsum(counts) - counts)
        slot_of = np.empty(len(order), dtype=np.int64)
        slot_of[order] = np.arange(len(order)) + np.repeat(before, counts)
        slots = np.full((len(species), LANES), -1)
        slots.flat[slot_of] = np.arange(len(order))
        a = aligned((len(species), self.basis.n_densities, LANES))
        tables = self.basis.tables
        self._share(
            len(species),
            lambda x, y: add_densities(
                x, y, slots, species, pairs, self.functions, tables, make_work(self.functions), a
            ),
            self.threads,
        )
        return Environment(pairs, slots, slot_of, species, a)

    def features(self, env: Environment) -> Array:
        """Features of every atom, shape (F, N)."""
        basis, shape = self.basis, env.slots.shape
        b = aligned((shape[0], basis.n_features, LANES))
        self._share(
            len(env.a),
            lambda x, y: compute_features(x, y, env.a, aligned((basis.n_vectors, LANES)), basis.tables, b),
            self.threads,
        )
        return env.per_atom(b.swapaxes(0, 1))

    def atom_energies(self, env: Environment, coefficients: Array, constants: Array) -> Array:
        """Energies of every atom, shape (N, M), from coefficients (S, F, M) and constants (S, M)."""
        basis, n_members = self.basis, coefficients.shape[2]
        out = np.empty((len(env.slot_of), n_members))

        def work(x: int, y: int) -> None:
            vectors, b, e = (aligned((n, LANES)) for n in (basis.n_vectors, basis.n_features, n_members))
            member_energies(
                x, y, env.a, env.slots, env.species, coefficients, constants, basis.tables, vectors, b, e, out
            )

        self._share(len(env.a), work, self.threads)
        return out

    def core_energies(self, env: Environment, core: Core) -> Array:
        """Energy of every atom by the core, shape (N,), eV."""
        energies = np.zeros(len(env.pairs.species))
        add_repulsion(env.pairs, core, energies, energies, np.empty((0, 3)))
        return energies

    def closeness(self, env: Environment) -> Array:
        """Largest d/r of the neighbours of every atom, or 0 below 1, shape (N,); d is that of :meth:`with_inner`."""
        return np.asarray(largest_closeness(env.pairs, self.functions.inner))

    def gradient(
        self, env: Environment, coefficients: Array, weights: Array, core: Core | None = None
    ) -> tuple[Array, Array]:
        """Forces (N, 3), eV/Å, and derivative with respect to the strain (3, 3), eV, of a weighted sum of energies.

        Parameters
        ----------
        coefficients : ndarray, shape (S, M, F)
            Of the members; not the order of :meth:`atom_energies`.
        weights : ndarray, shape (M,) or (N, M)
            Of the members, or of the members of each atom.
        core : Core, optional
            Added to every member.
        """
        g = self.vector_gradient(env, coefficients, weights)
        if core is not None:
            ones = np.full(len(env.pairs.species), weights.sum()) if weights.ndim == 1 else weights.sum(axis=1)
            add_repulsion(env.pairs, core, np.zeros_like(ones), ones, g)
        n_atoms = len(env.slot_of)
        forces, strains = np.zeros((n_atoms, 3)), np.zeros((n_atoms, 3, 3))
        threads = self.threads if len(g) > _MANY else 1
        self._share(
            n_atoms, lambda x, y: collect_forces(x, y, env.pairs, len(self.numbers), g, forces, strains), threads
        )
        return forces, strains.sum(axis=0)

    def vector_gradient(self, env: Environment, coefficients: Array, weights: Array) -> Array:
        """The same sum's derivatives with respect to the vectors of all pairs, shape (P, 3), eV/Å; without the core."""
        basis = self.basis
        if weights.ndim == 1:
            coefficients = (weights @ coefficients)[:, None, :]
            weights = np.ones((1, 1))
        da, g = aligned(env.a.shape), np.empty_like(env.pairs.vector)

        def work(x: int, y: int) -> None:
            vectors, grad = aligned((2, basis.n_vectors, LANES))
            d, ours, out = (aligned((n, LANES)) for n in (basis.n_features, weights.shape[1], 3))
            density_gradients(
                x, y, env.a, env.slots, env.species, coefficients, weights, basis.tables, vectors, grad, d, ours, da
            )
            w = make_work(self.functions)
            pair_gradients(x, y, env.slots, env.species, env.pairs, self.functions, basis.tables, w, out, da, g)

        self._share(len(env.a), work, self.threads)
        return g

    def rows(self, env: Environment, *, strain: bool) -> tuple[Array, Array]:
        """Derivatives of the summed features; those of atoms of different species stand in different rows.

        Returns
        -------
        positions : ndarray, shape (S F, 3 N)
            Minus those with respect to the positions, 1/Å.
        strains : ndarray, shape (S F, 6)
            Those with respect to the strain (xx, yy, zz, yz, xz, xy), symmetrised; (0, 6) unless ``strain``.
        """
        rows = np.zeros((len(self.numbers), self.basis.n_features, 3 * len(env.slot_of)))
        strains = self.add_rows(env, rows, 0, strain=strain)
        return rows.reshape(-1, rows.shape[2]), strains

    def add_rows(self, env: Environment, rows: Array, column: int, *, strain: bool) -> Array:
        """Add the derivatives with respect to positions to ``rows`` (S, F or more, ..), from a column on.

        And return those with respect to the strain, both as of :meth:`rows`.
        """
        basis, mixing = self.basis, self.functions.mixing
        strains = np.zeros((len(self.numbers) * basis.n_features if strain else 0, 6))
        neighbours = env.pairs.start[:: len(self.numbers)] if len(mixing) else env.pairs.start
        chunks = -(-int(np.diff(neighbours).max(initial=1)) // LANES)

        sizes = [basis.n_of_one] * 2 if len(mixing) else [basis.n_densities]

        def work(x: int, y: int) -> None:
            room = [aligned((3 * n, chunks, LANES)) for n in sizes]
            g = aligned((chunks, 3, LANES))
            vectors, grad = np.zeros((2, basis.n_vectors))
            given = (x, y, env.slot_of, env.pairs, self.functions, basis.tables, env.a, make_work(self.functions))
            if len(mixing):
                share = aligned((sum(mixing.shape), chunks, LANES))
                add_mixed_rows(*given, *room, share, g, vectors, grad, rows, column, strains)
            else:
                add_rows(*given, *room, g, vectors, grad, rows, column, strains)

        self._share(basis.n_features, work, self.threads)
        return strains

    def composition(self, env: Environment) -> Array:
        """Number of atoms of each species, shape (S,)."""
        return np.bincount(env.pairs.species, minlength=len(self.numbers)).astype(float)

    def shortest(self, pairs: Pairs) -> Array:
        """Shortest distance of each pair of species within the cutoff, shape (S, S), Å; infinite if there is none."""
        return np.asarray(shortest_distances(pairs, len(self.numbers)))

    def pairs(self, atoms: Atoms) -> Pairs:
        """Atoms and their neighbours; errors as of :meth:`environment`."""
        self._check(atoms)
        cell = atoms.cell.complete() if atoms.pbc.any() else np.zeros((3, 3))
        self._neighbours.n_threads = self.threads
        pairs, vector = self._neighbours.compute(
            points=atoms.positions,
            box=np.asarray(cell),
            periodic=np.asarray(atoms.pbc),
            quantities="PD",
            copy=False,
        )
        species = self._index[atoms.numbers]
        found = self._sorted(pairs.view(np.int64), vector, species)
        p = first_coincident(found.vector)
        if p >= 0:
            i = (int(np.searchsorted(found.start, p, side="right")) - 1) // len(self.numbers)
            msg = f"atoms {i} and {found.j[p]} are at the same place: separate them, or remove one"
            raise PotentialError(msg)
        return found

    def _sorted(self, pairs: IntArray, vector: Array, species: IntArray) -> Pairs:
        """From pairs (P, 2) and vectors (P, 3) in any order."""
        n_atoms, n_species = len(species), len(self.numbers)
        start = np.zeros(n_atoms * n_species + 1, dtype=np.int64)
        threads = self.threads if len(pairs) > _MANY else 1  # each of them reads all pairs
        self._share(n_atoms, lambda x, y: count_pairs(x, y, pairs, species, n_species, start[1:]), threads)
        np.cumsum(start, out=start)
        found = Pairs(species, start, np.empty(len(pairs), dtype=np.int64), np.empty((len(pairs), 3)))
        free = start[:-1].copy()
        self._share(
            n_atoms,
            lambda x, y: sort_pairs(x, y, pairs, vector, species, n_species, free, found.j, found.vector),
            threads,
        )
        return found

    def _check(self, atoms: Atoms) -> None:
        if len(atoms) == 0:
            msg = "the structure has no atoms: expected at least one"
            raise PotentialError(msg)
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
            what = f"the position of atom {bad[0]}" if len(bad) else "the cell"
            msg = f"{what} is not finite: expected numbers, found {atoms.positions[bad[0]] if len(bad) else atoms.cell}"
            raise PotentialError(msg)
        unknown = sorted({chemical_symbols[z] for z in atoms.numbers[self._index[atoms.numbers] < 0]})
        if unknown:
            known = ", ".join(chemical_symbols[z] for z in self.numbers)
            msg = (
                f"{', '.join(unknown)} in {atoms.get_chemical_formula()}: not in the training set, which has {known}; "
                f"train on structures with {', '.join(unknown)} first"
            )
            raise PotentialError(msg)

    @staticmethod
    def _share(n: int, work: Callable[[int, int], None], threads: int) -> None:
        """Call ``work(begin, end)`` for pieces of range(n), several at once."""
        if threads < 2 or n < _SMALL:
            work(0, n)
            return
        cuts = np.linspace(0, n, min(n, threads) + 1).astype(int).tolist()
        pool = _pool(threads - 1, os.getpid())
        others = [pool.submit(work, *piece) for piece in pairwise(cuts[1:])]
        work(*cuts[:2])
        for other in others:
            other.result()


@lru_cache(maxsize=4)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - a fork has none of its parent's threads
    return ThreadPoolExecutor(threads, thread_name_prefix="alflow")


def available_threads() -> int:
    """OMP_NUM_THREADS where it is set, else the number of cores this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _norm(l_max: int) -> Array:
    """N_lm of the real spherical harmonics, shape (l_max + 1, l_max + 1)."""
    norm = np.zeros((l_max + 1, l_max + 1))
    for l in range(l_max + 1):
        for m in range(l + 1):
            squared = (2 * l + 1) / (4 * np.pi) * factorial(l - m) / factorial(l + m)
            norm[l, m] = (-1) ** m * np.sqrt(squared * (2 if m else 1))
    return norm
