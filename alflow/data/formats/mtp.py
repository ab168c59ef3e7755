"""Configurations of moment tensor potentials, as MLIP-2, MLIP-3 and motep have them: BEGIN_CFG ... END_CFG.

Energy is the one that the forces are the gradient of. ``PlusStress`` is minus the stress times the volume, in eV, in
the order that its line says (xx yy zz yz xz xy). As many directions are periodic as ``Supercell`` has vectors.

Atoms have types 0, 1, ..., and no program writes their chemical symbols. alflow does, as a ``Feature`` that all of
these programs read as any other: ``species``, with the symbols of types 0, 1, ... separated by commas. In other files,
where it, ``elements`` or ``type_map`` is missing, the user has to say.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.data.formats.base import Entries, Entry, Format, Unusable, opened
from alflow.data.formats.out import Labelled, labelled, types_of, write_text
from alflow.data.formats.species import species_of_types, symbols_of

SPECIES = "species"
"""The Feature that alflow writes."""

_NAMING = (SPECIES, "elements", "type_map")
_FIELDS = ("Size", "Supercell", "SuperCell", "AtomData:", "Atomic_data:", "Energy", "PlusStress:", "Feature")
_OTHER = ("Stress:", "Virial:", "Features:")  # of old versions: signs and units are not what they seem
_POSITIONS = {"cartes": ("cartes_x", "cartes_y", "cartes_z"), "direct": ("direct_x", "direct_y", "direct_z")}
_FORCES = ("fx", "fy", "fz")
_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_OF_ATOMS = {"site_en": "energies", "charge": "charges"}
_HEAD = re.compile(r"^\s*BEGIN_CFG\s*$", re.MULTILINE)


def entries(path: Path, species: tuple[str, ...] = ()) -> Entries:
    """The configurations of a file; ``species``: of types 0, 1, ..., where the file does not say.

    Raises
    ------
    StructureError
        Nobody says of which chemical elements the types are, or the file says something else.
    """
    with opened(path) as file:
        for lines in _blocks(file):
            if lines is None:
                yield Unusable("has no END_CFG: the file is cut, or was written by two programs at once")
                continue
            try:
                block = _Block(lines)
            except (ValueError, IndexError, KeyError) as error:
                yield Unusable(f"cannot be read ({error})")
                continue
            known = species_of_types(str(path), block.named, species)
            try:
                yield block.entry(known)
            except (ValueError, IndexError, KeyError) as error:
                yield Unusable(f"cannot be read ({error})")


def _blocks(file: TextIO) -> Iterator[list[str] | None]:
    """The lines between BEGIN_CFG and END_CFG; None for what does not end."""
    lines: list[str] | None = None
    for line in file:
        word = line.strip()
        if word == "BEGIN_CFG":
            if lines is not None:
                yield None
            lines = []
        elif word == "END_CFG" and lines is not None:
            yield lines
            lines = None
        elif lines is not None and word:
            lines.append(word)
    if lines is not None:
        yield None


class _Block:
    """A configuration as it is written, before anybody knows its elements."""

    def __init__(self, lines: list[str]) -> None:
        self.features: dict[str, str] = {}
        self.values: dict[str, tuple[list[str], list[list[str]]]] = {}
        name = ""
        for line in lines:
            first, *tail = line.split(maxsplit=1)
            rest = tail[0] if tail else ""
            if first == "Feature":
                self._feature(rest)
                name = first
            elif first in {*_FIELDS, *_OTHER}:
                name = first.replace("SuperCell", "Supercell").replace("Atomic_data:", "AtomData:")
                self.values[name] = (rest.split(), [])
            elif name in self.values and not first[:1].isalpha():
                self.values[name][1].append(line.split())
            else:
                msg = f"expected one of {', '.join(_FIELDS)}, found {line[:40]!r}"
                raise ValueError(msg)
        found = [self.features[key] for key in _NAMING if key in self.features]
        self.named = re.split(r"[,\s]+", found[0].strip()) if found else []

    def _feature(self, rest: str) -> None:
        key, *value = re.split(r"\s+", rest.strip(), maxsplit=1)
        text = value[0] if value else ""
        self.features[key] = f"{self.features[key]}\n{text}" if key in self.features else text

    def entry(self, species: tuple[str, ...]) -> Entry:
        columns = self._columns()
        count = len(next(iter(columns.values())))
        types = [int(word) for word in columns.get("type", ["0"] * count)]
        vectors = self._numbers("Supercell").reshape(-1, 3)
        cell = np.zeros((3, 3))
        cell[: len(vectors)] = vectors
        kind = next((kind for kind, names in _POSITIONS.items() if set(names) <= set(columns)), None)
        if kind is None:
            msg = "expected cartes_x, cartes_y, cartes_z or direct_x, ... under AtomData"
            raise ValueError(msg)
        if kind == "direct" and len(vectors) < 3:
            msg = f"direct_x, ...: expected three vectors under Supercell, found {len(vectors)}"
            raise ValueError(msg)
        positions = _table(columns, _POSITIONS[kind])
        atoms = Atoms(
            symbols_of(types, species),
            positions=positions if kind == "cartes" else positions @ cell,
            cell=cell,
            pbc=[number < len(vectors) for number in range(3)],
        )
        atoms.info = {key: _value(text) for key, text in self.features.items() if key not in _NAMING}
        of_atoms: dict[str, Any] = {"forces": _table(columns, _FORCES)} if set(_FORCES) <= set(columns) else {}
        of_atoms |= {ours: _table(columns, (theirs,))[:, 0] for theirs, ours in _OF_ATOMS.items() if theirs in columns}
        return Entry(atoms, self._said(full=len(vectors) == 3), of_atoms)

    def _said(self, *, full: bool) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if "Energy" in self.values:
            said["energy"] = float(self._numbers("Energy")[0])
        if "PlusStress:" in self.values and full:
            order, rows = self.values["PlusStress:"]
            words = [word for row in rows for word in row]
            if sorted(order) != sorted(_VOIGT) or len(words) != 6:
                msg = f"PlusStress: expected xx, yy, zz, yz, xz, xy in any order, found {' '.join(words)[:60]!r}"
                raise ValueError(msg)
            numbers = dict(zip(order, map(float, words), strict=True))
            said["virial"] = np.array([numbers[part] for part in _VOIGT])
        return said

    def _columns(self) -> dict[str, list[str]]:
        names, rows = self.values["AtomData:"]
        size = int(self._numbers("Size")[0])
        if size != len(rows) or not rows:
            msg = f"expected {size} atoms, found {len(rows)}"
            raise ValueError(msg)
        if wrong := [row for row in rows if len(row) != len(names)]:
            msg = f"expected {len(names)} columns of atoms, found {len(wrong[0])}"
            raise ValueError(msg)
        return {name: [row[number] for row in rows] for number, name in enumerate(names)}

    def _numbers(self, name: str) -> NDArray[np.float64]:
        first, rows = self.values.get(name, ([], []))
        return np.array([float(word) for words in [first, *rows] for word in words])


def _table(columns: dict[str, list[str]], names: tuple[str, ...]) -> NDArray[np.float64]:
    """Columns of numbers side by side, shape (N, columns)."""
    return np.array([columns[name] for name in names], dtype=float).T


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


MTP = Format(
    "MTP configurations (MLIP, motep)",
    lambda _path, head: bool(_HEAD.search(head)),
    entries,
    of_types=entries,
)


def write(path: Path, frames: Sequence[Atoms], species: Sequence[str] = ()) -> None:
    """Write structures with energy and forces, and stress where they have one; ``species``: of types 0, 1, ....

    Raises
    ------
    StructureError
        Labels are missing, atoms are of none of the species, or the file cannot be written.
    """
    known = types_of(frames, species)
    write_text(path, [_text(frame, known) for frame in labelled(frames)])


def _text(frame: Labelled, species: tuple[str, ...]) -> str:
    atoms = frame.atoms
    lines = ["BEGIN_CFG", " Size", f"    {len(atoms)}"]
    if atoms.pbc.any():
        # vectors of periodic directions only: the number of vectors is all that says which directions are periodic
        lines += [" Supercell", *(f"    {_decimal(vector)}" for vector in atoms.cell.array[atoms.pbc])]
    lines.append(" AtomData:  id type       cartes_x      cartes_y      cartes_z           fx          fy          fz")
    for number, (symbol, row) in enumerate(zip(atoms.symbols, np.hstack([atoms.positions, frame.forces]), strict=True)):
        lines.append(f"    {number + 1} {species.index(symbol)} {_decimal(row)}")
    lines += [" Energy", f"    {_decimal([frame.energy])}"]
    if frame.virial is not None:
        lines.append(" PlusStress:  xx          yy          zz          yz          xz          xy")
        lines.append(f"    {_decimal(frame.virial.ravel()[[0, 4, 8, 5, 2, 1]])}")
    lines += [f" Feature   {SPECIES}\t{','.join(species)}", "END_CFG", "", ""]
    return "\n".join(lines)


def _decimal(values: Any) -> str:
    """With as many digits as it takes to read the same again, and no exponent: motep 0.2.0 stops at one.

    (findings/motep-writes-slabs-without-cell.sh)
    """
    return " ".join(np.format_float_positional(value, unique=True, trim="0") for value in values)
