"""What a structure is: what can be used, how near its atoms are, and the name of its calculation."""

import hashlib
import json
import math
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import complete_cell
from numpy.typing import NDArray
from vesin import NeighborList

from alflow.errors import StructureError

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

OF_ATOMS = ("masses", "initial_charges", "initial_magmoms")
"""What a structure may say of its atoms besides, by the names of ``Atoms.arrays``."""

DISTANCE_RATIO_MIN = 0.5
"""Two atoms closer than this share of the sum of their covalent radii overlap: no reference method converges."""

_STATE = {"charge": 0, "multiplicity": 1}  # of info, and what it is where nothing is said
_NEARLY = 0.01  # as much a charge may be off that is a sum
_COINCIDE = 0.1  # the same of atoms that stand in the same place, where nobody can mean it
_HEIGHT_MIN = 0.3  # Å, between opposite faces of a cell
_ALONE = 6.0  # Å, within which an atom that is alone has no other
_NEAR = 4.0  # Å; pairs closer than this always count, farther ones only where they can touch, see distance_ratio


def check_structure(atoms: Atoms, where: str, *, close: bool = False) -> None:
    """Refuse a structure that no calculation can use.

    With ``close`` its atoms may be as close as they like, but for the same place: labels of hot or dense matter are
    data, about one in a hundred of which has a pair below half of its covalent radii.

    Raises
    ------
    StructureError
        No atoms, unknown elements, positions or a cell that are not finite, a periodic structure without a volume,
        a cell too thin for anything, a charge or multiplicity that is none, overlapping atoms. The message begins with
        ``where``.
    """
    if len(atoms) == 0:
        msg = f"{where} has no atoms: expected at least one"
        raise StructureError(msg)
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(bad):
        msg = f"{where}: the position of atom {bad[0]} is not finite ({atoms.positions[bad[0]]}): correct or remove it"
        raise StructureError(msg)
    strange = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers >= len(chemical_symbols)))
    if len(strange):
        msg = (
            f"{where}: atom {strange[0]} is of no known element (Z = {atoms.numbers[strange[0]]}): expected an element"
        )
        raise StructureError(msg)
    if not np.isfinite(atoms.cell.array).all():
        msg = f"{where}: its cell is not finite ({atoms.cell.array.tolist()}): correct or remove it"
        raise StructureError(msg)
    vectors = atoms.cell.array[atoms.pbc]
    if len(vectors) and np.linalg.matrix_rank(vectors, tol=1e-3) < len(vectors):
        msg = (
            f"{where}: periodic, but its cell has no volume ({atoms.cell.cellpar().round(3)}): give a cell, or pbc = F"
        )
        raise StructureError(msg)
    # In a cell this thin there are so many images within reach that nobody waits for the end of their search.
    thin = float(_heights(atoms).min(initial=np.inf))
    if thin < _HEIGHT_MIN:
        msg = f"{where}: periodic after only {thin:.3g} Å: expected at least {_HEIGHT_MIN:g} Å; correct the cell"
        raise StructureError(msg)
    for name in _STATE:
        if name in atoms.info and _whole(atoms.info[name]) is None:
            msg = f"{where}: {name} = {atoms.info[name]!r}: expected a whole number; correct it, or call it otherwise"
            raise StructureError(msg)
    ratio, i, j, distance = _closest(atoms)
    least = _COINCIDE if close else DISTANCE_RATIO_MIN
    if ratio < least:
        names = f"{chemical_symbols[atoms.numbers[i]]}{i} and {chemical_symbols[atoms.numbers[j]]}{j}"
        limit = least * (_radii(atoms)[i] + _radii(atoms)[j])
        msg = f"{where}: atoms {names} overlap: {distance:.3f} Å apart, expected at least {limit:.3f} Å; correct it"
        raise StructureError(msg)


def distance_ratio(atoms: Atoms) -> float:
    """Smallest distance of two atoms, periodic images included, over the sum of their covalent radii.

    Distances are searched up to 4 Å or, where that is more, up to twice the largest covalent radius of the structure.
    So a ratio of 1 or less is always the smallest there is; infinite when no two atoms are within that distance.
    """
    return _closest(atoms)[0]


def as_given(atoms: Atoms) -> Atoms:
    """What a file says of a structure and of how it is to be treated: no momenta, no results, no tags, no info.

    Constraints, masses, initial charges and initial magnetic moments are kept where the structure has them.
    """
    kept = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in OF_ATOMS:
        if name in atoms.arrays:
            kept.arrays[name] = np.array(atoms.arrays[name], dtype=float)
    kept.set_constraint([constraint.copy() for constraint in atoms.constraints])
    return kept


def charge_and_multiplicity(atoms: Atoms) -> tuple[int, int]:
    """Charge (e) and spin multiplicity of a structure: of its system, 0 and 1 where nothing is said."""
    charge, multiplicity = (_whole(atoms.info.get(name, usual)) for name, usual in _STATE.items())
    return (0 if charge is None else charge), (1 if multiplicity is None else multiplicity)


def _whole(value: Any) -> int | None:
    """A whole number, as files write it, or sum it from those of atoms; None for what is none."""
    try:
        number = float(np.asarray(value, dtype=float).reshape(()))
    except (TypeError, ValueError):
        return None
    whole = math.isfinite(number) and abs(number - round(number)) < _NEARLY and not isinstance(value, bool)
    return round(number) if whole else None


def structure_id(atoms: Atoms, method: str) -> str:
    """Name of the reference calculation of a structure: 24 hexadecimal digits of a SHA-256.

    Depends on species, positions, cell, periodicity, charge and multiplicity, to the last bit, and on the identity of
    the method; where the structure has them, on constraints, masses, initial charges and magnetic moments too; not on
    momenta, results or anything else.
    """
    digest = hashlib.sha256()
    charge, multiplicity = charge_and_multiplicity(atoms)
    state = {"charge": charge, "multiplicity": multiplicity, "method": method}
    digest.update(json.dumps(state, sort_keys=True).encode())
    for array, kind in (
        (atoms.numbers, "<i8"),
        (atoms.positions, "<f8"),
        (atoms.cell.array, "<f8"),
        (atoms.pbc, "|b1"),
    ):
        digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    # Only where they are there: most structures have none of them, and keep the names that they always had.
    for name in OF_ATOMS:
        if name in atoms.arrays:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(atoms.arrays[name], dtype="<f8").tobytes())
    if atoms.constraints:
        said = [constraint.todict() for constraint in atoms.constraints]
        digest.update(json.dumps(said, sort_keys=True, default=lambda value: np.asarray(value).tolist()).encode())
    return digest.hexdigest()[:24]


def _heights(atoms: Atoms) -> Array:
    """Distances between opposite faces of the cell along periodic directions, Å."""
    if not atoms.pbc.any():
        return np.zeros(0)
    cell = complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0))
    return np.asarray((1 / np.linalg.norm(np.linalg.inv(cell), axis=0))[atoms.pbc])


def _radii(atoms: Atoms) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(covalent_radii[atoms.numbers], dtype=float)


def _closest(atoms: Atoms) -> tuple[float, int, int, float]:
    """Smallest ratio, the two atoms, and their distance in Å; infinity when nothing is near."""
    radii = _radii(atoms)
    i, j, distance = neighbours(atoms, max(_NEAR, 2 * float(radii.max())), full=False)
    if not len(i):
        return math.inf, 0, 0, math.inf
    ratio = distance / (radii[i] + radii[j])
    k = int(np.argmin(ratio))
    return float(ratio[k]), int(i[k]), int(j[k]), float(distance[k])


def neighbours(atoms: Atoms, cutoff: float, *, full: bool) -> tuple[IntArray, IntArray, Array]:
    """Pairs of atoms (i, j) within a cutoff, periodic images included, and their distances, Å; ``full``: and (j, i)."""
    # Cell vectors of directions that are not periodic mean nothing, and may depend on the others: they are replaced.
    cell = complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)) if atoms.pbc.any() else np.zeros((3, 3))
    i, j, distance = NeighborList(cutoff=cutoff, full_list=full).compute(
        points=atoms.positions, box=cell, periodic=np.asarray(atoms.pbc), quantities="ijd"
    )
    return i, j, distance


def is_alone(atoms: Atoms) -> bool:
    """Whether this is an atom with no other, and no image, within 6 Å: its energy is the zero of its element."""
    return len(atoms) == 1 and not len(neighbours(atoms, _ALONE, full=False)[0])


def bits(atoms: Atoms) -> tuple[bytes, ...]:
    """All that a structure's evaluation depends on."""
    state = repr(charge_and_multiplicity(atoms)).encode()
    return (*(array.tobytes() for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)), state)
