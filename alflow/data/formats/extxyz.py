"""Extended XYZ, as anybody writes it: MACE, GAP, GPUMD, alflow.

ASE parses, and is kept from taking anything for a result: of ``energy``, ``stress`` and their kin it would lose some,
refuse others, and believe words. Names that it knows in one spelling only (``lattice``, ``properties``) may have any.
"""

import re
from collections import deque
from collections.abc import Iterator
from io import StringIO
from itertools import islice
from lzma import LZMAError
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.io.extxyz import read_xyz

from alflow.data.formats.base import Entries, Entry, Format, Unusable, opened, suffix
from alflow.data.names import understood
from alflow.errors import StructureError

UNNAMED = "unnamed_columns"
"""Numbers after the positions in a file that does not say what they are."""

_APART = "__said"  # ending under which results pass ASE unseen (findings/extxyz-columns-taken-for-results.sh)
_RESULTS = {*all_properties, "virial"}
_SPELLING = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
_QUOTED = r"""\\.|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\{[^}]*\}|\[[^]]*\]"""
_KEY = re.compile(rf"{_QUOTED}|(?<!\S)([A-Za-z_][\w-]*)(?=\s*=)")
_COLUMNS = re.compile(rf'{_QUOTED}|(?<!\S)Properties\s*=\s*"?([^\s"]+)"?')
_VALUE = r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\{[^}]*\}|\[[^]]*\]|\([^)]*\)|[^\s"'{\[]\S*)"""
_PAIR = re.compile(rf"{_QUOTED}|(?<!\S)([A-Za-z_][\w-]*)\s*=\s*{_VALUE}")
_PBC = re.compile(rf"{_QUOTED}|(?<!\S)pbc\s*=\s*{_VALUE}")
_DIRECTIONS = {
    **dict.fromkeys(("t", "true", "1", "1.0", "p", "y", "yes"), "T"),
    **dict.fromkeys(("f", "false", "0", "0.0", "n", "no"), "F"),
}
"""What people write for a direction that is periodic, or is not; any other word is true for ASE."""
_FORTRAN = re.compile(r"(?<!\S)[-+]?(?:\d+\.?\d*|\.\d+)[dD][-+]?\d+(?!\S)")
_COLUMN = (
    dict.fromkeys(("species", "symbol", "symbols", "element", "elements"), "species")
    | dict.fromkeys(("pos", "position", "positions"), "pos")
    | {"mass": "masses"}
)
_CELLS = {"cell", "box", "unit_cell", "unitcell", "lattice_vectors", "cell_vectors", "cellpar", "latticevectors"}
_CELLS |= {"super_cell", "supercell"}
_HEADER = re.compile(r"\s*\d+\s*\n")


def entries(path: Path) -> Entries:
    """The structures of a file; StructureError where it does not begin with a number of atoms."""
    some = False
    with opened(path) as file:
        try:
            for lines in _frames(file):
                some = True
                yield _read(lines)
        except (_NoNumberError, OSError, EOFError, LZMAError) as error:  # the last three of damaged compressed files
            if not some:
                msg = f"{path} cannot be read ({error}): expected extended XYZ"
                raise StructureError(msg) from error
            yield Unusable(f"and all after it cannot be read ({error})")


def _read(lines: list[str]) -> Entry | Unusable:
    try:
        return _entry(lines)
    except KeyError as error:  # of the table of elements
        return Unusable(f"has {error.args[0]!r} under species: expected chemical symbols, H for D and T")
    except Exception as error:  # noqa: BLE001 - ASE's parser raises whatever a malformed line makes it raise
        return Unusable(f"cannot be read ({type(error).__name__}: {error})")


def count(path: Path) -> int:
    """How many structures a file has; what is no XYZ ends the count."""
    number = 0
    with opened(path) as file:
        while (line := file.readline()).strip().isdecimal():
            number += 1
            deque(islice(iter(file.readline, ""), int(line) + 1), maxlen=0)
    return number


def _frames(file: TextIO) -> Iterator[list[str]]:
    """The lines of each structure; fewer than it should have of the last, if the file ends in it.

    What follows a structure is the number of atoms of the next, or nothing: else that structure has more atoms than it
    says, and is not given either.
    """
    number, lines = 0, list[str]()
    while line := file.readline():
        number += 1
        if not line.strip():
            continue
        if not line.strip().isdecimal():
            raise _NoNumberError(number, line)
        if lines:
            yield lines
        lines = [line, *islice(iter(file.readline, ""), int(line) + 1)]
        number += len(lines) - 1
    if lines:
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
    spelled = _spelled(lines[1].rstrip("\n"))
    if twice := _said_twice(spelled):
        return Unusable(f"says {twice} twice, and not the same: correct it")
    comment = _apart(_PBC.sub(_directions, spelled), lines[2:])
    atoms = _parsed([lines[0], f"{comment}\n", *lines[2:]])
    info, arrays = atoms.info, atoms.arrays
    for name, value in info.items():
        info[name] = _number(value)
    cells = [name for name in info if name.lower() in _CELLS and np.size(info[name]) > 2]
    if cells and not atoms.cell.any():
        return Unusable(f'has no Lattice, but {cells[0]}: write the cell as Lattice="ax ay az bx by bz cx cy cz"')
    said = {name.removesuffix(_APART): info.pop(name) for name in list(info) if name.endswith(_APART)}
    of_atoms = {name.removesuffix(_APART): arrays.pop(name) for name in list(arrays) if name.endswith(_APART)}
    if any((of_atoms.pop(name, atoms.numbers) != atoms.numbers).any() for name in ("Z", "numbers")):
        return Unusable("has other elements under Z than under species: correct one")
    if "forces" not in of_atoms:
        of_atoms |= _joined(arrays)
    others = {} if atoms.calc is None else dict(atoms.calc.results)  # a column "charge", which ASE calls charges
    atoms.calc = None
    # plain XYZ, which says nothing in the words of extended XYZ, has energies as quantum chemistry has them: in hartree
    return Entry(atoms, said, others | of_atoms, in_units=_has_columns(spelled) or bool(atoms.cell.any()))


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


def _said_twice(comment: str) -> str | None:
    """A name of the structure, or of a label, that stands there twice with different values: ASE takes the last."""
    values: dict[str, str] = {}
    for match in _PAIR.finditer(comment):
        name, value = match[1], match[2]
        if name and (name in _SPELLING.values() or understood(name)) and values.setdefault(name, value) != value:
            return name
    return None


def _directions(match: re.Match[str]) -> str:
    """``pbc`` as ASE knows it; ValueError for words that say nothing."""
    if match[1] is None:
        return match[0]
    text = match[1].strip("\"'{}[]()").lower()
    words = re.findall(r"[^\s,]+", text)
    words = list(words[0]) if len(words) == 1 and len(words[0]) == 3 else words
    said = [_DIRECTIONS.get(word, "") for word in words]
    if not all(said) or len(said) not in {1, 3}:
        msg = f"pbc: expected T or F for each of three directions, found {match[1]}"
        raise ValueError(msg)
    return f'pbc="{" ".join(said * (3 // len(said)))}"'


def _apart(comment: str, rows: list[str]) -> str:
    """With the names of results so that ASE takes them for none, and a name for columns that have none."""

    def key(match: re.Match[str]) -> str:
        return f"{match[1]}{_APART}" if match[1] in _RESULTS else match[0]

    def columns(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        fields = match[1].split(":")
        if len(fields) % 3:
            msg = f"Properties: expected name:type:number of each column, found {match[1]}"
            raise ValueError(msg)
        names = _as_known(fields[::3])
        if "species" in names and fields[1::3][names.index("species")] == "I":
            names[names.index("species")] = "Z"
        _check_columns(names, fields[2::3], rows)
        numbers = {"Z", "numbers"} if "species" in names else set[str]()
        fields[::3] = [f"{name}{_APART}" if name in _RESULTS | numbers else name for name in names]
        return f"Properties={':'.join(fields)}"

    more = 0 if _has_columns(comment) or not rows else len(rows[0].split()) - 4
    if more > 0 and all(len(row.split()) == more + 4 and _numeric(row.split()[4:]) for row in rows):
        comment += f" Properties=species:S:1:pos:R:3:{UNNAMED}:R:{more}"
    return _COLUMNS.sub(columns, _KEY.sub(key, comment))


def _has_columns(comment: str) -> bool:
    return any(match[1] for match in _COLUMNS.finditer(comment))


def _as_known(names: list[str]) -> list[str]:
    """Names of columns; what a structure is, as ASE writes it, where none is so written already."""
    known = [_COLUMN.get(name.lower(), name) for name in names]
    return [name if new in names or known.count(new) > 1 else new for name, new in zip(names, known, strict=True)]


def _check_columns(names: list[str], widths: list[str], rows: list[str]) -> None:
    """ValueError for columns that do not say where atoms are, or what, and for rows that have others."""
    for what, found in (("species", {"species", "symbols", "Z", "numbers"}), ("pos", {"pos", "positions"})):
        if not found & set(names):
            msg = f"Properties has no {what}, but {', '.join(names)}: expected species:S:1:pos:R:3"
            raise ValueError(msg)
    if rows and all(map(str.isdigit, widths)) and len(rows[0].split()) != (width := sum(map(int, widths))):
        msg = f"Properties says {width} words for each atom, the first has {len(rows[0].split())}"
        raise ValueError(msg)


def _joined(arrays: dict[str, Any]) -> dict[str, Any]:
    """Forces that are in three columns, one for each direction."""
    for name in ("f", "force", "forces", "f_", "force_", "forces_"):
        if all(f"{name}{axis}" in arrays for axis in "xyz"):
            return {"forces": np.array([arrays.pop(f"{name}{axis}") for axis in "xyz"]).T}
    return {}


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
