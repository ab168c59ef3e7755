"""Copies of a structure: rattled, strained, with vacancies."""

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from numpy.random import Generator

from alflow.errors import StructureError
from alflow.sampling.starts.molecules import units
from alflow.sampling.starts.settings import Rattled, Strained, Vacancies
from alflow.structures import is_alone

_FEWEST = 4  # atoms of a periodic structure whose displacement says something
_WITH_VACANCY = 8  # atoms, or molecules, of a periodic structure that may lack one


def rattled(atoms: Atoms, section: Rattled, rng: Generator) -> Atoms:
    """A copy with displaced atoms; of a cell with very few, a supercell."""
    return displaced(repeated(atoms, _FEWEST, len), section.displacement, rng)


def strained(atoms: Atoms, section: Strained, rng: Generator) -> Atoms:
    """A copy with a strained cell.

    Every component of a symmetric strain is drawn evenly from both signs; what is along no periodic direction is left
    out, so that a slab is strained in its plane. Molecules are moved and not strained.
    """
    if not atoms.pbc.any():
        msg = "has no periodic direction, nothing to strain: leave strained out"
        raise StructureError(msg)
    draw = rng.uniform(-section.strain, section.strain, (3, 3))
    strain = np.triu(draw) + np.triu(draw, 1).T
    plane = np.linalg.qr(atoms.cell.array[atoms.pbc].T)[0]
    inside = plane @ plane.T
    deformation = np.eye(3) + inside @ strain @ inside
    copy = repeated(atoms, _FEWEST, len)
    found = units(copy)
    moved = found.centres @ deformation
    copy.set_cell(np.where(copy.pbc[:, None], copy.cell.array @ deformation, copy.cell.array))
    # Fixed atoms go with the cell: elsewhere they would no longer fit their own images.
    copy.set_positions(found.positions + (moved - found.centres)[found.of_atom], apply_constraint=False)
    return displaced(copy, section.displacement, rng)


def with_vacancies(atoms: Atoms, section: Vacancies, rng: Generator) -> Atoms:
    """A copy without some of its atoms, or molecules; those that are fixed stay."""
    if atoms.info.get("charge"):
        msg = f"has a charge of {atoms.info['charge']}, and nobody knows whose it is: leave vacancies out"
        raise StructureError(msg)
    if not _only_fixed_atoms(atoms):
        msg = "has constraints other than fixed atoms, which say nothing of fewer atoms: leave vacancies out"
        raise StructureError(msg)
    copy = repeated(atoms, _WITH_VACANCY, lambda frame: units(frame).count)
    found = units(copy)
    held = _held(copy)
    free = np.setdiff1d(np.arange(found.count), found.of_atom[held])
    if section.vacant >= found.count or section.vacant > len(free):
        msg = f"of {found.count} atoms or molecules {len(free)} may go: vacant = {section.vacant} leaves none"
        raise StructureError(msg)
    gone = rng.choice(free, section.vacant, replace=False)
    del copy[np.flatnonzero(np.isin(found.of_atom, gone)).tolist()]
    return displaced(copy, section.displacement, rng)


def displaced(atoms: Atoms, displacement: float, rng: Generator) -> Atoms:
    """A copy with normally distributed displacements; constraints hold in it, too."""
    copy: Atoms = atoms.copy()
    if displacement:
        copy.set_positions(copy.positions + rng.normal(scale=displacement, size=copy.positions.shape))
    return copy


def repeated(atoms: Atoms, least: int, size: Callable[[Atoms], int]) -> Atoms:
    """A structure or, where it is a small crystal, its smallest supercell with so many atoms.

    Molecules, what has a charge, and what has constraints other than fixed atoms is never repeated.
    """
    copy: Atoms = atoms.copy()
    if atoms.info.get("charge") or not _only_fixed_atoms(atoms) or not _is_crystal(atoms):
        return copy
    while size(copy) < least:
        lengths = np.where(copy.pbc, copy.cell.lengths(), np.inf)
        info = copy.info
        copy = copy.repeat(tuple(2 if axis == np.argmin(lengths) else 1 for axis in range(3)))
        copy.info = info
    return copy


def _is_crystal(atoms: Atoms) -> bool:
    """Whether it is periodic, and no molecules, nor an atom alone in a box."""
    return bool(atoms.pbc.any()) and not units(atoms).are_molecules and not is_alone(atoms)


def _only_fixed_atoms(atoms: Atoms) -> bool:
    return all(isinstance(constraint, FixAtoms) for constraint in atoms.constraints)


def _held(atoms: Atoms) -> list[int]:
    """Atoms that are fixed."""
    return sorted({int(index) for constraint in atoms.constraints for index in constraint.get_indices()})
