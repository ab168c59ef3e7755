"""Neighbours of a structure and what the basis makes of them: everything the kernels need, computed once."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray
from sphericart import SphericalHarmonics
from vesin import NeighborList

from alflow.errors import PotentialError
from alflow.potentials.ace import kernels
from alflow.potentials.ace.basis import Basis

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Environment:
    """A structure as the kernels see it.

    Attributes
    ----------
    species : ndarray of int, shape (N,)
        Index of each atom's species.
    i, j, species_j : ndarray of int, shape (P,)
        Pairs of atoms within the cutoff, each in both directions, periodic images included; ordered by ``i``.
    vector, unit : ndarray, shape (P, 3)
        From i to j, Å, and the same of length one.
    value, slope : ndarray, shape (P, n_max)
        Radial functions and their derivatives, 1/Å.
    y, dy : ndarray, shape (P, lm) and (P, 3, lm)
        Real spherical harmonics and their gradients, 1/Å.
    a : ndarray, shape (N, K)
        Densities.
    """

    species: IntArray
    i: IntArray
    j: IntArray
    species_j: IntArray
    vector: Array
    unit: Array
    value: Array
    slope: Array
    y: Array
    dy: Array
    a: Array


class Descriptor:
    """From a structure to the features of its atoms, and back from gradients of features to forces.

    Parameters
    ----------
    numbers : tuple of int
        Atomic numbers of the species, sorted.
    cutoff : float
        Å.
    basis : Basis
        Index tables for that many species.
    """

    def __init__(self, numbers: tuple[int, ...], cutoff: float, basis: Basis) -> None:
        self.numbers = numbers
        self.cutoff = cutoff
        self.basis = basis
        self._tables = (basis.first, basis.second, basis.third, basis.coefficient, basis.start)
        self._harmonics = SphericalHarmonics(basis.l_max)
        self._neighbours = NeighborList(cutoff=cutoff, full_list=True, sorted=True)
        self._index = np.full(len(chemical_symbols), -1)
        self._index[list(numbers)] = np.arange(len(numbers))

    def environment(self, atoms: Atoms) -> Environment:
        """Neighbours, radial functions, harmonics and densities of a structure.

        Raises
        ------
        PotentialError
            Empty structure, positions that are not finite, a species the potential does not know, atoms that coincide.
        """
        self._check(atoms)
        i, j, vector, distance = self._pairs(atoms)
        species = self._index[atoms.numbers].astype(np.int64)
        value, slope = kernels.radial(distance, self.cutoff, self.basis.n_max)
        y, dy = self._harmonics.compute_with_gradients(vector)
        species_j = species[j]
        a = kernels.densities(i, species_j, value, y, len(atoms), self.basis.n_species)
        return Environment(species, i, j, species_j, vector, vector / distance[:, None], value, slope, y, dy, a)

    def features(self, env: Environment) -> Array:
        """Features of every atom, shape (N, F)."""
        return np.asarray(kernels.features(env.a, *self._tables))

    def gradient(self, env: Environment, db: Array) -> tuple[Array, Array]:
        """Forces (N, 3), eV/Å, and derivative with respect to the strain (3, 3), eV, from dE/dB, shape (N, F)."""
        da = kernels.features_adjoint(env.a, np.ascontiguousarray(db), *self._tables)
        g = kernels.pair_gradients(env.i, env.species_j, env.unit, env.value, env.slope, env.y, env.dy, da)
        forces, strain = kernels.collect(env.i, env.j, env.vector, g, len(env.species))
        return forces, strain

    def force_rows(self, env: Environment) -> Array:
        """Minus the derivatives of the summed features with respect to the positions, shape (3 N, species x F).

        Features of atoms of different species stand in different columns.
        """
        n_features = self.basis.n_features
        rows = np.zeros((3 * len(env.species), self.basis.n_species * n_features))
        width = self.basis.n_densities // self.basis.n_species
        ends = np.searchsorted(env.i, np.arange(len(env.species) + 1))
        for atom, species in enumerate(env.species):
            jacobian = kernels.jacobian(env.a[atom], *self._tables)
            mine = slice(ends[atom], ends[atom + 1])
            for s in range(self.basis.n_species):
                pairs = np.arange(mine.start, mine.stop)[env.species_j[mine] == s]
                if len(pairs) == 0:
                    continue
                gradient = kernels.density_gradients(
                    env.unit[pairs], env.value[pairs], env.slope[pairs], env.y[pairs], env.dy[pairs]
                )
                block = gradient @ jacobian[s * width : (s + 1) * width]
                kernels.scatter(rows, block, atom, env.j[pairs], species * n_features)
        return rows

    def summed(self, env: Environment) -> Array:
        """Features summed over the atoms of each species, shape (species x F,): the energy row of a structure."""
        features = self.features(env)
        return np.concatenate([features[env.species == s].sum(axis=0) for s in range(self.basis.n_species)])

    def composition(self, env: Environment) -> Array:
        """Number of atoms of each species, shape (species,)."""
        return np.bincount(env.species, minlength=self.basis.n_species).astype(float)

    def _pairs(self, atoms: Atoms) -> tuple[IntArray, IntArray, Array, Array]:
        cell = atoms.cell.complete() if atoms.pbc.any() else np.zeros((3, 3))
        i, j, vector, distance = self._neighbours.compute(
            points=atoms.positions, box=np.asarray(cell), periodic=np.asarray(atoms.pbc), quantities="ijDd"
        )
        if distance.size and distance.min() < 1e-6:
            k = int(np.argmin(distance))
            msg = f"atoms {i[k]} and {j[k]} are at the same place: separate them, or remove one"
            raise PotentialError(msg)
        return i.astype(np.int64), j.astype(np.int64), np.ascontiguousarray(vector), distance

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
