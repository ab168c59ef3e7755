"""ML_AB and ML_ABN: what the force fields of VASP learn from.

The energy is VASP's free energy, TOTEN (its manual asks for energies of atoms from the F= of OSZICAR, to be subtracted
from it): the one that the forces are the gradient of. The stress is in kbar with the sign and the order of OUTCAR:
positive where matter is compressed, xx yy zz, then xy yz zx. Both were seen in 82 configurations of water, whose
molecules' own forces times positions follow it, component by component, with slopes of 0.93 to 1.11.

Files that scripts make from other calculations look the same, and may hold any energy.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from ase.units import bar
from numpy.typing import NDArray

from alflow.data.formats.base import Entries, Entry, Format, Unusable, opened
from alflow.data.formats.species import are_symbols

_RULE = re.compile(r"\s*(?:\*{10,}|={10,}|-{10,})\s*")
_SYMBOL = re.compile(r"[A-Z][a-z]?")
_TITLES = {
    "system name": "name",
    "atom types and atom numbers": "types",
    "primitive lattice vectors (ang.)": "cell",
    "atomic positions (ang.)": "positions",
    "total energy (ev)": "energy",
    "forces (ev ang.^-1)": "forces",
    "xx yy zz": "diagonal",
    "xy yz zx": "rest",
}
_BEGINNING = ("the number of configurations", "the maximum number of atom type")


def entries(path: Path) -> Entries:
    """The configurations of a file."""
    with opened(path) as file:
        for sections in _configurations(file):
            try:
                yield _entry(sections)
            except (ValueError, KeyError) as error:
                yield Unusable(f"cannot be read ({error})")


def _configurations(file: TextIO) -> Iterator[dict[str, list[str]]]:
    """The lines of each section of each configuration: between rules of stars, equals signs or dashes."""
    sections: dict[str, list[str]] | None = None
    title, lines = "", list[str]()
    for line in file:
        if not _RULE.fullmatch(line):
            lines.append(line.strip())
            continue
        title, sections, ended = _section(title, lines, sections)
        if ended is not None:
            yield ended
        lines = []
    _, sections, ended = _section(title, lines, sections)
    if ended is not None:
        yield ended
    if sections is not None:
        yield sections


_Sections = dict[str, list[str]]


def _section(
    title: str, lines: list[str], sections: _Sections | None
) -> tuple[str, _Sections | None, _Sections | None]:
    """What stands between two rules is a title, or what follows one: the next title, and sections begun and ended."""
    text = " ".join(lines).lower()
    if text.startswith("configuration num"):
        return "", {}, sections
    if title and sections is not None:
        sections[title] = [line for line in lines if line]
        return "", sections, None
    return _TITLES.get(text, ""), sections, None


def _entry(sections: _Sections) -> Entry:
    if missing := [title for title, name in _TITLES.items() if name in {"types", "cell", "positions"} - set(sections)]:
        msg = f"nothing under {missing[0]!r}: is the file cut?"
        raise ValueError(msg)
    symbols = [symbol for line in sections["types"] for symbol in _symbols(line)]
    atoms = Atoms(
        symbols,
        positions=_numbers(sections["positions"], (len(symbols), 3), "atomic positions"),
        cell=_numbers(sections["cell"], (3, 3), "primitive lattice vectors"),
        pbc=True,
    )
    if name := " ".join(sections.get("name", [])):
        atoms.info["system_name"] = name
    said: dict[str, Any] = {}
    if sections.get("energy"):
        said["energy"] = float(_numbers(sections["energy"], (1,), "total energy")[0])
    if sections.get("diagonal") and sections.get("rest"):
        xx, yy, zz = _numbers(sections["diagonal"], (3,), "stress")
        xy, yz, zx = _numbers(sections["rest"], (3,), "stress")
        said["stress"] = -1e3 * bar * np.array([xx, yy, zz, yz, zx, xy])
    if not sections.get("forces"):
        return Entry(atoms, said)
    return Entry(atoms, said, {"forces": _numbers(sections["forces"], (len(symbols), 3), "forces")})


def _symbols(line: str) -> list[str]:
    """Of one type: those of an element that is there as several have a digit after it, or a name of their own."""
    name, number = line.split()
    symbol = _SYMBOL.match(name)
    if symbol is None or not are_symbols([symbol[0]]):
        msg = f"atom types and atom numbers: expected a chemical symbol and a number, found {line!r}"
        raise ValueError(msg)
    return [symbol[0]] * int(number)


def _numbers(lines: list[str], shape: tuple[int, ...], what: str) -> NDArray[np.float64]:
    numbers = np.array([float(word) for line in lines for word in line.split()])
    if numbers.size != np.prod(shape):
        msg = f"{what}: expected {np.prod(shape)} numbers, found {numbers.size}"
        raise ValueError(msg)
    return numbers.reshape(shape)


ML_AB = Format("ML_AB of VASP", lambda _path, head: all(title in head.lower() for title in _BEGINNING), entries)
