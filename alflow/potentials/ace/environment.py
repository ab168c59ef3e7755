"""Neighbours of a structure and what the basis makes of them: from atoms to energies, and back to forces."""

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
from alflow.potentials.ace import kernels
from alflow.potentials.ace.basis import Basis
from alflow.potentials.ace.kernels import Core, Functions, Pairs
from alflow.potentials.ace.lanes import LANES, aligned

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

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

    def per_slot(self, values: Array) -> Array:
        """From (N, M) to (blocks, M, LANES); zero where a block is not full."""
        out = np.zeros((self.slots.size, values.shape[1]))
        out[self.slot_of] = values
        return np.ascontiguousarray(out.reshape(*self.slots.shape, -1).swapaxes(1, 2))


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

    Attributes
    ----------
    threads : int
        How many threads work at once; results do not depend on it.
    """

    def __init__(self, numbers: tuple[int, ...], cutoff: float, basis: Basis, length: Array) -> None:
        self.numbers = numbers
        self.basis = basis
        self.threads = available_threads()
        self.functions = Functions(basis.n_max, cutoff, length, np.zeros_like(length), _norm(basis.l_max))
        self._neighbours = NeighborList(cutoff=cutoff, full_list=True)
        self._index = np.full(len(chemical_symbols), -1)
        self._index[list(numbers)] = np.arange(len(numbers))

    def set_inner(self, inner: Array) -> None:
        """Set where the radial functions come to rest, shape (S, S), Å."""
        self.functions = self.functions._replace(inner=inner)

    def environment(self, atoms: Atoms) -> Environment:
        """Neighbours and densities of a structure.

        Raises
        ------
        PotentialError
            Empty structure, positions that are not finite, a species the potential does not know, atoms that coincide.
        """
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
            lambda x, y: kernels.densities(
                x, y, slots, species, pairs, self.functions, tables, kernels.make_work(self.functions), a
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
            lambda x, y: kernels.features(x, y, env.a, aligned((basis.n_vectors, LANES)), basis.tables, b),
            self.threads,
        )
        return env.per_atom(b.swapaxes(0, 1))

    def atom_energies(self, env: Environment, coefficients: Array) -> Array:
        """Energies of every atom, shape (M, N), from coefficients (S, F, M)."""
        basis = self.basis
        e = aligned((len(env.a), coefficients.shape[2], LANES))

        def work(x: int, y: int) -> None:
            vectors, b = aligned((basis.n_vectors, LANES)), aligned((basis.n_features, LANES))
            kernels.member_energies(x, y, env.a, env.species, coefficients, basis.tables, vectors, b, e)

        self._share(len(env.a), work, self.threads)
        return env.per_atom(e.swapaxes(0, 1))

    def core_energies(self, env: Environment, core: Core) -> Array:
        """Energy of every atom by the core, shape (N,), eV."""
        energies = np.zeros(len(env.pairs.species))
        kernels.repulsion(env.pairs, core, energies, energies, np.empty((0, 3)))
        return energies

    def closeness(self, env: Environment) -> Array:
        """Largest d/r of the neighbours of every atom, or 0 below 1, shape (N,); d is that of :meth:`set_inner`."""
        return np.asarray(kernels.closeness(env.pairs, self.functions.inner))

    def gradient(
        self, env: Environment, coefficients: Array, weights: Array, core: Core | None = None
    ) -> tuple[Array, Array]:
        """Forces (N, 3), eV/Å, and derivative with respect to the strain (3, 3), eV, of a weighted sum of energies.

        Parameters
        ----------
        coefficients : ndarray, shape (S, F, M)
            Of the members.
        weights : ndarray, shape (M,) or (N, M)
            Of the members, or of the members of each atom.
        core : Core, optional
            Added to every member.
        """
        g = self.vector_gradient(env, coefficients, weights)
        if core is not None:
            ones = np.full(len(env.pairs.species), weights.sum()) if weights.ndim == 1 else weights.sum(axis=1)
            kernels.repulsion(env.pairs, core, np.zeros_like(ones), ones, g)
        forces, strain = kernels.collect(env.pairs, len(self.numbers), g)
        return forces, strain

    def vector_gradient(self, env: Environment, coefficients: Array, weights: Array) -> Array:
        """The same sum's derivatives with respect to the vectors of all pairs, shape (P, 3), eV/Å; without the core."""
        basis = self.basis
        if weights.ndim == 1:
            coefficients = (coefficients @ weights)[:, None, :]
            slot_weights = np.ones((1, 1, LANES))
        else:
            coefficients = np.ascontiguousarray(coefficients.swapaxes(1, 2))
            slot_weights = env.per_slot(weights)
        da, g = aligned(env.a.shape), np.empty_like(env.pairs.vector)

        def work(x: int, y: int) -> None:
            vectors, grad = aligned((2, basis.n_vectors, LANES))
            d, out = aligned((basis.n_features, LANES)), aligned((3, LANES))
            kernels.density_gradients(
                x, y, env.a, env.species, coefficients, slot_weights, basis.tables, vectors, grad, d, da
            )
            w = kernels.make_work(self.functions)
            kernels.pair_gradients(x, y, env.slots, env.species, env.pairs, self.functions, basis.tables, w, out, da, g)

        self._share(len(env.a), work, self.threads)
        return g

    def force_rows(self, env: Environment) -> Array:
        """Minus the derivatives of the summed features with respect to the positions, shape (S F, 3 N).

        Features of atoms of different species stand in different rows.
        """
        basis = self.basis
        rows = np.zeros((len(self.numbers) * basis.n_features, 3 * len(env.slot_of)))

        most = int(np.diff(env.pairs.start).max(initial=1))
        chunks = -(-most // LANES)

        def work(x: int, y: int) -> None:
            steep, g = aligned((3 * basis.n_densities, chunks, LANES)), aligned((chunks, 3, LANES))
            vectors, grad = np.zeros((2, basis.n_vectors))
            w = kernels.make_work(self.functions)
            kernels.force_rows(
                x, y, env.slot_of, env.pairs, self.functions, basis.tables, env.a, w, steep, g, vectors, grad, rows
            )

        self._share(basis.n_features, work, self.threads)
        return rows

    def composition(self, env: Environment) -> Array:
        """Number of atoms of each species, shape (S,)."""
        return np.bincount(env.pairs.species, minlength=len(self.numbers)).astype(float)

    def shortest(self, pairs: Pairs) -> Array:
        """Shortest distance of each pair of species within the cutoff, shape (S, S), Å; infinite if there is none."""
        return np.asarray(kernels.shortest(pairs, len(self.numbers)))

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
        start, j, vector = kernels.sort_pairs(pairs.view(np.int64), vector, species, len(self.numbers))
        found = Pairs(species, start, j, vector)
        p = kernels.coincident(vector)
        if p >= 0:
            i = (int(np.searchsorted(start, p, side="right")) - 1) // len(self.numbers)
            msg = f"atoms {i} and {j[p]} are at the same place: separate them, or remove one"
            raise PotentialError(msg)
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
        others = [_pool(threads - 1).submit(work, *piece) for piece in pairwise(cuts[1:])]
        work(*cuts[:2])
        for other in others:
            other.result()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="alflow")


def available_threads() -> int:
    """OMP_NUM_THREADS where it is set, else the number of cores this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else len(os.sched_getaffinity(0))


def _norm(l_max: int) -> Array:
    """N_lm of the real spherical harmonics, shape (l_max + 1, l_max + 1)."""
    norm = np.zeros((l_max + 1, l_max + 1))
    for l in range(l_max + 1):
        for m in range(l + 1):
            squared = (2 * l + 1) / (4 * np.pi) * factorial(l - m) / factorial(l + m)
            norm[l, m] = (-1) ** m * np.sqrt(squared * (2 if m else 1))
    return norm
