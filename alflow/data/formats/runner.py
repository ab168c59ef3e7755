"""input.data of RuNNer and n2p2, the training sets of Behler-Parrinello networks: begin ... end.

Nothing in a file says in which units its numbers are: those of RuNNer are bohr and hartree, n2p2 takes any. So numbers
come as they are, and the user says. Energy is the one that the forces are the gradient of; charges and energies of
atoms that are all zero are columns that nobody filled.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms

from alflow.data.formats.base import Entries, Entry, Format, Unusable, opened
from alflow.data.formats.species import are_symbols

_LAYOUT = (("charge", 1), ("atom_energy", 1), ("force", 3))
"""Columns after position and element, where ``begin`` does not say."""

_COLUMN = re.compile(r"([\w-]+)(?:\((\d+)\))?")
_NAMES = {
    "force": "forces",
    "forces": "forces",
    "charge": "charges",
    "charges": "charges",
    "atom_energy": "energies",
}
_HEAD = re.compile(
    r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]*begin\b[^\n]*\n(?:[ \t]*(?:#[^\n]*)?\r?\n)*"
    r"[ \t]*(?:lattice|atom|comment|energy|charge|c)\b",
    re.IGNORECASE,
)


def entries(path: Path) -> Entries:
    """The structures of a file."""
    with opened(path) as file:
        for lines in _blocks(file):
            if lines[-1] != "end":
                yield Unusable("has no end: the file is cut, or was written by two programs at once")
                continue
            try:
                yield _entry(lines[0], lines[1:-1])
            except (ValueError, IndexError) as error:
                yield Unusable(f"cannot be read ({error})")


def _blocks(file: TextIO) -> Iterator[list[str]]:
    """The lines from begin to end, comments of the file left out; the last is not ``end`` of one that does not end."""
    lines: list[str] = []
    for line in file:
        text = line.strip()
        word = text.split(maxsplit=1)[0].lower() if text else "#"
        if word == "begin":
            if lines:
                yield lines
            lines = [text]
        elif lines and word == "end":
            yield [*lines, "end"]
            lines = []
        elif lines and not word.startswith("#"):
            lines.append(text)
    if lines:
        yield lines


def _entry(begin: str, lines: list[str]) -> Entry:
    atoms, lattice = list[list[str]](), list[list[float]]()
    said, info = dict[str, Any](), dict[str, Any]()
    for line in lines:
        keyword, *tail = line.split(maxsplit=1)
        rest = tail[0] if tail else ""
        match keyword.lower():
            case "atom":
                atoms.append(rest.split())
            case "lattice":
                lattice.append([float(word) for word in rest.split()])
            case "energy":
                said["energy"] = float(rest.split()[0])
            case "charge":
                info |= _charge(float(rest.split()[0]))
            case "comment" | "c":
                info["comment"] = f"{info['comment']}\n{rest}" if "comment" in info else rest
            case other:
                info[other] = rest
    if len(lattice) not in {0, 3} or any(len(vector) != 3 for vector in lattice):
        msg = f"expected three vectors lattice, or none, found {len(lattice)}"
        raise ValueError(msg)
    structure, of_atoms = _of_atoms(atoms, _layout(begin))
    if lattice:
        structure.cell, structure.pbc = np.array(lattice), True
    structure.info = info
    return Entry(structure, said, of_atoms)


def _charge(charge: float) -> dict[str, Any]:
    """Of the structure; 0 is what everything has that says nothing."""
    if charge == 0:
        return {}
    return {"charge": int(charge)} if charge.is_integer() else {"total_charge": charge}


def _layout(begin: str) -> list[tuple[str, int]]:
    """Columns after position and element: names, and numbers of each."""
    fields = begin.split()[1:]
    if not fields:
        return list(_LAYOUT)
    found = [match for field in fields[2:] if (match := _COLUMN.fullmatch(field))]
    if len(found) != len(fields) - 2:
        msg = f"expected 'begin', or 'begin position(3) element charge force(3)', found {begin[:60]!r}"
        raise ValueError(msg)
    return [(match[1], int(match[2] or 1)) for match in found]


def _of_atoms(rows: list[list[str]], layout: list[tuple[str, int]]) -> tuple[Atoms, dict[str, Any]]:
    width = 4 + sum(length for _, length in layout)
    if wrong := [row for row in rows if len(row) != width]:
        msg = f"expected {width} columns of atoms, found {len(wrong[0])}"
        raise ValueError(msg)
    symbols = [row[3] for row in rows]
    if not are_symbols(symbols):
        msg = f"expected chemical symbols, found {', '.join(sorted(set(symbols))) or 'no atoms'}"
        raise ValueError(msg)
    structure = Atoms(symbols, positions=[[float(word) for word in row[:3]] for row in rows])
    of_atoms: dict[str, Any] = {}
    start = 4
    for name, length in layout:
        numbers = np.array([row[start : start + length] for row in rows], dtype=float)
        numbers = numbers[:, 0] if length == 1 else numbers
        start += length
        ours = _NAMES.get(name)
        if ours is None:
            structure.arrays[name] = numbers
        elif ours == "forces" or numbers.any():
            of_atoms[ours] = numbers
    return structure, of_atoms


RUNNER = Format("input.data of RuNNer or n2p2", lambda _path, head: bool(_HEAD.match(head)), entries, units="asked")
