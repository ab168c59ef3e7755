"""Disordered cells at a given density: atoms, or molecules in any direction, put anywhere and moved apart."""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from ase.units import _amu
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alflow.errors import StructureError
from alflow.sampling.starts.molecules import Units, units
from alflow.sampling.starts.settings import Packed
from alflow.structures import OF_ATOMS

Array = NDArray[np.float64]

_USUAL = (1.0, 0.9, 1.1)  # of the density of the structure
_ATOMS, _MOLECULES = 0.95, 1.6  # distances to be reached, in sums of covalent radii
_ENOUGH = 0.8  # of these distances, with which a cell is taken
_DRAWS, _STEPS = 10, 200
_GRAM = 1e24 * 1e3 * _amu  # g/cm^3 in amu/Å^3


def packed(atoms: Atoms, section: Packed, number: int, rng: Generator) -> Atoms:
    """The ``number``-th disordered cell of the atoms of a structure.

    Raises
    ------
    StructureError
        The structure has no density, and none is given; at this density atoms overlap however they are put.
    """
    density = _density(atoms, section, number)
    found = units(atoms)
    times = max(1, -(-section.atoms // len(atoms)))
    radical = found.are_molecules and atoms.info.get("multiplicity", 1) != 1
    if times > 1 and (atoms.info.get("charge") or radical):
        msg = f"has a charge or an open shell, and {times} of it would have others: give packed atoms = {len(atoms)}"
        raise StructureError(msg)
    mass = times * float(atoms.get_masses().sum())
    length = (mass * _GRAM / density) ** (1 / 3)
    best, reached = None, 0.0
    for _ in range(_DRAWS if _have_room(atoms, found, times, length) else 0):
        cell = _apart(_scattered(atoms, found, times, length, rng), found, times)
        ratio = _closest(cell, found, times)
        if ratio > reached:
            best, reached = cell, ratio
        if reached >= _ENOUGH:
            break
    if best is None or reached < _ENOUGH:
        msg = (
            f"cannot be packed at {density:.3g} g/cm^3: atoms come nearer than {_ENOUGH:g} of the distances that they "
            "should have; lower the density"
        )
        raise StructureError(msg)
    best.wrap()
    return best


def _have_room(atoms: Atoms, found: Units, times: int, length: float) -> bool:
    """Whether spheres of half the least distances fit in, as they would in close packing; of molecules nobody knows."""
    diameters = 2 * _ENOUGH * _ATOMS * covalent_radii[atoms.numbers]
    spheres = times * float((np.pi / 6 * diameters**3).sum())
    return found.are_molecules or spheres < np.pi / np.sqrt(18) * length**3


def _density(atoms: Atoms, section: Packed, number: int) -> float:
    if section.density:
        return section.density[number % len(section.density)]
    if not atoms.pbc.all():
        msg = "is not periodic, and has no density: give packed a density, g/cm^3"
        raise StructureError(msg)
    own = float(atoms.get_masses().sum() * _GRAM / atoms.cell.volume)
    return own * _USUAL[number % len(_USUAL)]


def _scattered(atoms: Atoms, found: Units, times: int, length: float, rng: Generator) -> Atoms:
    """All units anywhere, turned at random."""
    positions = []
    for _ in range(times):
        centres = rng.uniform(0, length, (found.count, 3))
        turns = Rotation.random(found.count, rng=rng).as_matrix()
        within = found.positions - found.centres[found.of_atom]
        positions.append(centres[found.of_atom] + np.einsum("nij,nj->ni", turns[found.of_atom], within))
    cell = Atoms(np.tile(atoms.numbers, times), positions=np.concatenate(positions), cell=[length] * 3, pbc=True)
    for name in OF_ATOMS:
        if name in atoms.arrays:
            values = atoms.arrays[name]
            cell.arrays[name] = np.tile(values, (times,) + (1,) * (values.ndim - 1))
    return cell


def _apart(cell: Atoms, found: Units, times: int) -> Atoms:
    """Move units whose atoms are too near away from each other, step by step, until none are."""
    number = _number(found, times)
    sums = _MOLECULES if found.are_molecules else _ATOMS
    for _ in range(_STEPS):
        i, j, distance, way = _pairs(cell, number, sums)
        if not len(i):
            break
        wanted = sums * (covalent_radii[cell.numbers[i]] + covalent_radii[cell.numbers[j]])
        push = np.zeros((int(number.max()) + 1, 3))
        np.add.at(push, number[i], -0.25 * ((wanted - distance) / np.maximum(distance, 1e-3))[:, None] * way)
        cell.positions += push[number]
    return cell


def _closest(cell: Atoms, found: Units, times: int) -> float:
    """The smallest distance of atoms of different units, in those that are to be reached; at most 1."""
    number = _number(found, times)
    sums = _MOLECULES if found.are_molecules else _ATOMS
    i, j, distance, _ = _pairs(cell, number, sums)
    wanted = sums * (covalent_radii[cell.numbers[i]] + covalent_radii[cell.numbers[j]])
    return float((distance / wanted).min(initial=1.0))


def _number(found: Units, times: int) -> NDArray[np.int64]:
    """Of the unit that each atom of a cell belongs to."""
    return np.concatenate([found.of_atom + k * found.count for k in range(times)])


def _pairs(
    cell: Atoms, number: NDArray[np.int64], sums: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, Array]:
    """Atoms of different units that are too near, how far they are apart, and the way from the first to the second."""
    i, j, distance, way = neighbor_list("ijdD", cell, sums * covalent_radii[cell.numbers])
    other = number[i] != number[j]
    return i[other], j[other], distance[other], way[other]
