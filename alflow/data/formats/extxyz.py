"""Extended XYZ, as anybody writes it: MACE, GAP, GPUMD, alflow.

ASE parses, and is kept from taking anything for a result: of ``energy``, ``stress`` and their kin it would lose some,
refuse others, and believe words. Names that it knows in one spelling only (``lattice``, ``properties``) may have any.
"""

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.io.extxyz import read_xyz

from alflow.data.formats.base import Entries, Entry, Format, Unusable, opened, suffix
from alflow.errors import StructureError

UNNAMED = "unnamed_columns"
"""Numbers after the positions in a file that does not say what they are."""

_APART = "__said"  # ending under which results pass ASE unseen (findings/extxyz-columns-taken-for-results.sh)
_RESULTS = {*all_properties, "virial"}
_SPELLING = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
_QUOTED = r"""\\.|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\{[^}]*\}|\[[^]]*\]"""
_KEY = re.compile(rf"{_QUOTED}|(?<!\S)([A-Za-z_][\w-]*)(?=\s*=)")
_COLUMNS = re.compile(rf'{_QUOTED}|(?<!\S)Properties\s*=\s*"?([^\s"]+)"?')
_FORTRAN = re.compile(r"(?<!\S)[-+]?(?:\d+\.?\d*|\.\d+)[dD][-+]?\d+(?!\S)")
_CELLS = {"cell", "box", "unit_cell", "unitcell", "lattice_vectors", "cell_vectors", "cellpar", "latticevectors"}
_HEADER = re.compile(r"\s*\d+\s*\n")


def entries(path: Path) -> Entries:
    """The structures of a file; StructureError where it does not begin with a number of atoms."""
    some = False
    with opened(path) as file:
        try:
            for lines in _frames(file):
                some = True
                yield _read(lines)
        except _NoNumberError as error:
            if not some:
                msg = f"{path} cannot be read ({error}): expected extended XYZ"
                raise StructureError(msg) from error
            yield Unusable(f"and all after it cannot be read ({error})")


def _read(lines: list[str]) -> Entry | Unusable:
    try:
        return _entry(lines)
    except Exception as error:  # noqa: BLE001 - ASE's parser raises whatever a malformed line makes it raise
        return Unusable(f"cannot be read ({type(error).__name__}: {error})")


def count(path: Path) -> int:
    """How many structures a file has; what is no XYZ ends the count."""
    number = 0
    with opened(path) as file:
        while (line := file.readline()).strip().isdigit():
            number += 1
            for _ in range(int(line) + 1):
                file.readline()
    return number


def _frames(file: TextIO) -> Iterator[list[str]]:
    """The lines of each structure; fewer than it should have of the last, if the file ends in it."""
    number = 0
    while line := file.readline():
        number += 1
        if not line.strip():
            continue
        if not line.strip().isdigit():
            raise _NoNumberError(number, line)
        lines = [line, *(following for _ in range(int(line) + 1) if (following := file.readline()))]
        number += len(lines) - 1
        yield lines


class _NoNumberError(ValueError):
    """A structure begins with something else than its number of atoms."""

    def __init__(self, number: int, line: str) -> None:
        super().__init__(f"expected a number of atoms in line {number}, found {line.strip()[:40]!r}")


def _entry(lines: list[str]) -> Entry | Unusable:
    expected = int(lines[0])
    if len(lines) < expected + 2:
        return Unusable(
            f"cannot be read: the file ends in it, expected {expected} atoms, found {max(len(lines) - 2, 0)}"
        )
    comment = _apart(_spelled(lines[1].rstrip("\n")), lines[2:])
    atoms = _parsed([lines[0], f"{comment}\n", *lines[2:]])
    info, arrays = atoms.info, atoms.arrays
    for name, value in info.items():
        info[name] = _number(value)
    cells = [name for name in info if name.lower() in _CELLS and np.size(info[name]) > 2]
    if cells and not atoms.cell.any():
        return Unusable(f'has no Lattice, but {cells[0]}: write the cell as Lattice="ax ay az bx by bz cx cy cz"')
    said = {name.removesuffix(_APART): info.pop(name) for name in list(info) if name.endswith(_APART)}
    of_atoms = {name.removesuffix(_APART): arrays.pop(name) for name in list(arrays) if name.endswith(_APART)}
    others = {} if atoms.calc is None else dict(atoms.calc.results)  # a column "charge", which ASE calls charges
    atoms.calc = None
    return Entry(atoms, said, others | of_atoms)


def _parsed(lines: list[str]) -> Atoms:
    try:
        atoms: Atoms = next(read_xyz(StringIO("".join(lines)), 0))
    except ValueError:  # perhaps of numbers as Fortran writes them
        rows = [_FORTRAN.sub(lambda number: re.sub("[dD]", "e", number[0]), row) for row in lines[2:]]
        if rows == lines[2:]:
            raise
        atoms = next(read_xyz(StringIO("".join([*lines[:2], *rows])), 0))
    return atoms


def _spelled(comment: str) -> str:
    """With the names that ASE knows as it writes them, where none is so written already."""
    found = {match[1] for match in _KEY.finditer(comment) if match[1]}

    def as_known(match: re.Match[str]) -> str:
        known = _SPELLING.get((match[1] or "").lower())
        return match[0] if known is None or known in found else known

    return _KEY.sub(as_known, comment)


def _apart(comment: str, rows: list[str]) -> str:
    """With the names of results so that ASE takes them for none, and a name for columns that have none."""

    def key(match: re.Match[str]) -> str:
        return f"{match[1]}{_APART}" if match[1] in _RESULTS else match[0]

    def columns(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        fields = match[1].split(":")
        fields[::3] = [f"{name}{_APART}" if name in _RESULTS else name for name in fields[::3]]
        return f"Properties={':'.join(fields)}"

    named = any(match[1] for match in _COLUMNS.finditer(comment))
    more = 0 if named or not rows else len(rows[0].split()) - 4
    if more > 0 and all(len(row.split()) == more + 4 and _numeric(row.split()[4:]) for row in rows):
        comment += f" Properties=species:S:1:pos:R:3:{UNNAMED}:R:{more}"
    return _COLUMNS.sub(columns, _KEY.sub(key, comment))


def _numeric(words: list[str]) -> bool:
    try:
        [float(word) for word in words]
    except ValueError:
        return False
    return True


def _number(value: Any) -> Any:
    """Numbers as Fortran writes them, ``-1.0D+02``, are numbers."""
    if isinstance(value, str) and (words := value.replace(",", " ").split()) and all(map(_FORTRAN.fullmatch, words)):
        numbers = np.array([float(re.sub("[dD]", "e", word)) for word in words])
        return float(numbers[0]) if len(numbers) == 1 else numbers
    return value


EXTXYZ = Format(
    "extended XYZ",
    lambda path, head: suffix(path) in {".xyz", ".extxyz"} or bool(_HEADER.match(head) and "Properties=" in head),
    entries,
    units="assumed",
    count=count,
)
