"""XYZ as i-PI writes it: units and cell in the comment, ``CELL(abcABC): ... positions{angstrom} cell{atomic_unit}``.

What is not said is in atomic units, as i-PI 3 takes it itself; the text may stand anywhere in the comment.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms, units
from ase.geometry import cellpar_to_cell
from numpy.typing import NDArray

from alflow.data.formats.base import Entries, Entry, Format, Unusable, opened
from alflow.errors import StructureError

Array = NDArray[np.float64]

_HEADER = re.compile(r"\s*\d+[ \t]*\n(?![^\n]*Properties\s*=)[^\n]*(?:CELL[([{](?:abcABC|H|GENH)[)\]}]:|\bpositions\{)")
_CELL = re.compile(r"CELL[([{](abcABC|H|GENH)[)\]}]:((?:\s+[-+.\deE]+)+)")
_SAID = re.compile(r"\b(\w+)\{([^}]*)\}")
_PLACES = ("positions", "x_centroid", "x_centroid_even", "x_centroid_odd")
_OTHERS = re.compile(r"velocities|momenta|bec[xyz]|E?forces|[vpf]_centroid|kinetic_(?:cv|od)|isotope|r_gyration")
_STEP, _BEAD = re.compile(r"Step:\s*(\d+)"), re.compile(r"Bead:\s*(\d+)")
_LENGTHS = {"": units.Bohr, "automatic": units.Bohr, "atomic_unit": units.Bohr, "angstrom": 1.0, "meter": 1e10}
_PREFIXES = {"": 1.0, "milli": 1e-3, "micro": 1e-6, "nano": 1e-9, "pico": 1e-12, "femto": 1e-15}
_UNIT = re.compile(rf"({'|'.join(filter(None, _PREFIXES))}|)({'|'.join(filter(None, _LENGTHS))}|)")
_ISOTOPES: dict[str, tuple[str, float | None]] = {"D": ("H", 2.0141), "T": ("H", 3.016049)}  # amu, as i-PI has them
_ISOTOPE = re.compile(r"([A-Z][a-z]?)(\d{2,3})")  # C13, O18


def entries(path: Path) -> Entries:
    """The structures of a file, ``step`` and ``bead`` in their info.

    Raises
    ------
    StructureError
        A line is no number of atoms that should be one.
    """
    with opened(path) as file:
        for comment, rows, count in _frames(file, path):
            if len(rows) < count:
                yield Unusable(f"the file ends in it: expected {count} atoms, found {len(rows)}")
                continue
            try:
                yield Entry(_structure(comment, rows))
            except (ValueError, KeyError, IndexError) as error:
                yield Unusable(f"cannot be read as i-PI writes structures ({type(error).__name__}: {error})")


def _frames(file: TextIO, path: Path) -> Iterator[tuple[str, list[list[str]], int]]:
    """Comment and words of the lines of each structure, and how many lines there should be."""
    number = 0
    while (line := file.readline()).strip():
        if not line.strip().isdigit():
            found = line.strip()[:40]
            msg = f"{path} line {number + 1}: expected a number of atoms, with which XYZ begins, found {found!r}"
            raise StructureError(msg)
        count = int(line)
        comment = file.readline()
        yield comment, [row.split() for row in islice(file, count)], count
        number += count + 2


def _structure(comment: str, rows: list[list[str]]) -> Atoms:
    """ValueError, KeyError or IndexError for what i-PI does not write."""
    said = dict(_SAID.findall(comment))
    if others := [name for name in said if _OTHERS.match(name)]:
        msg = f"it holds {others[0]}: expected positions"
        raise ValueError(msg)
    length = _length(next((said[name] for name in _PLACES if name in said), ""))
    positions = length * np.array([row[1:4] for row in rows], dtype=float).reshape(len(rows), 3)
    kinds = [_isotope(row[0]) for row in rows]
    atoms = Atoms([symbol for symbol, _ in kinds], positions=positions)
    if any(mass for _, mass in kinds):
        atoms.set_masses([mass or usual for (_, mass), usual in zip(kinds, atoms.get_masses(), strict=True)])
    if found := _CELL.search(comment):
        atoms.cell, atoms.pbc = _length(said.get("cell", "")) * _vectors(found[1], found[2].split()), True
    for key, pattern in (("step", _STEP), ("bead", _BEAD)):
        if number := pattern.search(comment):
            atoms.info[key] = int(number[1])
    return atoms


def _isotope(name: str) -> tuple[str, float | None]:
    """Element, and mass (amu) where the name says it: D, O18."""
    if found := _ISOTOPE.fullmatch(name):
        return found[1], float(found[2])
    return _ISOTOPES.get(name, (name, None))


def _vectors(kind: str, words: list[str]) -> Array:
    """Rows are vectors: in H they are columns, in GENH rows."""
    numbers = np.array(words, dtype=float)
    if kind == "abcABC":
        if len(numbers) != 6:
            msg = f"CELL(abcABC) has {len(numbers)} numbers: expected 6"
            raise ValueError(msg)
        return np.asarray(cellpar_to_cell(numbers))
    return numbers.reshape(3, 3).T if kind == "H" else numbers.reshape(3, 3)


def _length(unit: str) -> float:
    """In Å."""
    found = _UNIT.fullmatch(unit)
    if found is None:
        msg = f"unknown unit {unit!r}: expected atomic_unit, angstrom or nanometer"
        raise ValueError(msg)
    return _PREFIXES[found[1]] * _LENGTHS[found[2]]


IPI = Format("XYZ of i-PI", lambda _path, head: bool(_HEADER.match(head)), entries)
