"""Text dumps and data files of LAMMPS.

A dump has forces at most: its energy is in the log, where ASE's reader does not look (it says 0:
findings/ase-lammps-dump-has-energy-zero.sh). Numbers of types are
no elements: these come from names in the file, or from masses that only one element has. What says its units is
converted. Velocities are left out.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.lammps import convert
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from ase.io.lammpsdata import read_lammps_data
from numpy.typing import NDArray

from alflow.data.formats.base import Entries, Entry, Format, Unusable, opened, text_of
from alflow.data.formats.species import check_symbols
from alflow.errors import StructureError

Array = NDArray[np.float64]

STYLES = ("metal", "real", "electron", "si", "cgs", "micro", "nano")
"""Sets of units of LAMMPS that are those of something; ``lj`` has none."""

_POSITIONS = (("x", "y", "z"), ("xu", "yu", "zu"))
_FRACTIONS = (("xs", "ys", "zs"), ("xsu", "ysu", "zsu"))
_FORCES = ("fx", "fy", "fz")
_NAMES = ("element", "typelabel", "type")  # columns that may have symbols of elements, the likeliest first
_CUSTOM = re.compile(r"(?:[cfvd]_|d2_|q$)")
_DUMP = re.compile(r"\s*ITEM: (?:UNITS|TIMESTEP|TIME)\s")
_DATA = re.compile(r"^\s*\d+\s+atoms\s*(?:#.*)?$.*^\s*\d+\s+atom types\b", re.MULTILINE | re.DOTALL)
_DATA_UNITS = re.compile(r"\bunits\s*=\s*(\w+)")
_SECTION = re.compile(r"^[ \t]*(Masses|Atom Type Labels|Atoms)\b.*$", re.MULTILINE)
_NEAR = 0.1  # amu: within it masses of a force field are those of its elements
_REMEDY = "dump_modify ID element, with a name for each type"


def dump_entries(path: Path, species: tuple[str, ...] = ()) -> Entries:
    """Structures of a text dump, atoms sorted by their id, with forces where they are.

    ``species`` are the chemical symbols of types 1, 2, ..., where the file does not say them.

    Raises
    ------
    StructureError
        Of the first: nobody says its elements, the file and the user differ in them, or it is in units of nothing
        (``lj``).
    """
    check_symbols(str(path), species)
    frame = _Frame(species)
    number = 0
    with opened(path) as file:
        for name, rows in _items(file):
            frame.add(name, rows)
            if not name.startswith("ATOMS"):
                continue
            try:
                yield frame.entry()
            except _UntoldError as error:
                if number == 0:
                    msg = f"{path}: {error}"
                    raise StructureError(msg) from error
                yield Unusable(str(error))
            except (ValueError, IndexError, KeyError) as error:
                yield Unusable(f"cannot be read as LAMMPS writes dumps ({type(error).__name__}: {error})")
            frame, number = _Frame(species, frame.units), number + 1
    if frame.items:
        yield Unusable(f"the file ends in it, after ITEM: {list(frame.items)[-1]}")


class _UntoldError(ValueError):
    """Nobody knows what is needed: the elements, or what its units are."""


def _items(lines: Iterator[str]) -> Iterator[tuple[str, list[str]]]:
    """What follows each ``ITEM:``, with its lines."""
    name, rows = "", list[str]()
    for line in lines:
        if line.startswith("ITEM:"):
            if name:
                yield name, rows
            name, rows = line[5:].strip(), []
        elif line.strip():
            rows.append(line)
    if name:
        yield name, rows


@dataclass
class _Frame:
    """The items of a structure, by their first words; ``units`` once said hold for all that follow."""

    species: tuple[str, ...]
    units: str = ""
    items: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)

    def add(self, name: str, rows: list[str]) -> None:
        if name == "UNITS":
            self.units = rows[0].strip() if rows else ""
            return
        key = next((key for key in ("BOX BOUNDS", "ATOMS") if name.startswith(key)), name)
        self.items[key] = (name[len(key) :].split(), rows)

    def entry(self) -> Entry | Unusable:
        if missing := {"TIMESTEP", "NUMBER OF ATOMS", "BOX BOUNDS"} - set(self.items):
            return Unusable(f"has no ITEM: {min(missing)}")
        names, lines = self.items["ATOMS"]
        count = int(self.items["NUMBER OF ATOMS"][1][0])
        if len(lines) != count:
            return Unusable(f"expected {count} atoms, found {len(lines)}: the file ends in it, or is damaged")
        columns = dict(zip(names, zip(*(line.split() for line in lines), strict=True), strict=True))
        if "id" in columns:
            order = np.argsort(np.array(columns["id"], dtype=int), kind="stable")
            columns = {name: tuple(values[i] for i in order) for name, values in columns.items()}
        self._check_units()
        cell, origin, pbc = _box(*self.items["BOX BOUNDS"])
        positions = _positions(columns, cell, origin)
        atoms = Atoms(self._symbols(columns), self._converted(positions, "distance"), pbc=pbc)
        atoms.cell = self._converted(cell, "distance")
        atoms.info["timestep"] = int(self.items["TIMESTEP"][1][0])
        for name in columns:
            if _CUSTOM.match(name):
                atoms.arrays[name] = np.array(columns[name], dtype=float)
        forces = _vectors(columns, _FORCES)
        return Entry(atoms, {}, {} if forces is None else {"forces": self._converted(forces, "force")})

    def _symbols(self, columns: Mapping[str, Sequence[str]]) -> list[str]:
        if not self.species or not all(word.isdigit() for word in columns.get("type", "-")):
            return _symbols(columns, self.units)
        types = [int(word) for word in columns["type"]]
        if beyond := [kind for kind in types if not 1 <= kind <= len(self.species)]:
            msg = f"has atoms of type {max(beyond)}, --species names types 1 to {len(self.species)}: add the others"
            raise _UntoldError(msg)
        given = [self.species[kind - 1] for kind in types]
        try:
            said = _symbols(columns, self.units)
        except _UntoldError:
            return given
        for kind, mine, yours in zip(types, said, given, strict=True):
            if mine != yours:
                msg = f"calls atoms of type {kind} {mine}, --species says {yours}: leave that out, or correct it"
                raise _UntoldError(msg)
        return given

    def _check_units(self) -> None:
        if self.units and self.units not in STYLES:
            msg = f"its units are {self.units!r}, which are those of no atoms: expected one of {', '.join(STYLES)}"
            raise _UntoldError(msg)

    def _converted(self, values: Array, quantity: str) -> Array:
        """In eV and Å; as it is where the file does not say its units."""
        return np.asarray(convert(values, quantity, self.units, "ASE")) if self.units else values


def _box(words: Sequence[str], rows: Sequence[str]) -> tuple[Array, Array, list[bool]]:
    """Cell, origin and periodic directions."""
    numbers = np.array([row.split() for row in rows], dtype=float)
    pbc = [word.startswith("p") for word in words[-3:]] if len(words) >= 3 else [False] * 3
    if words[:1] == ["abc"]:  # three vectors, and the origin beside them
        return numbers[:, :3], numbers[:, 3], pbc
    low, high = numbers[:, 0].copy(), numbers[:, 1].copy()
    xy, xz, yz = numbers[:, 2] if numbers.shape[1] > 2 else np.zeros(3)
    # bounds of a tilted box are those of the box around it
    low[0] -= min(0.0, xy, xz, xy + xz)
    high[0] -= max(0.0, xy, xz, xy + xz)
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    cell = np.diag(high - low)
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    return cell, low, pbc


def _vectors(columns: Mapping[str, Sequence[str]], names: Sequence[str]) -> Array | None:
    if not set(names) <= set(columns):
        return None
    return np.array([columns[name] for name in names], dtype=float).T


def _positions(columns: Mapping[str, Sequence[str]], cell: Array, origin: Array) -> Array:
    for names in _POSITIONS:
        if (found := _vectors(columns, names)) is not None:
            return found
    for names in _FRACTIONS:
        if (found := _vectors(columns, names)) is not None:
            return np.asarray(origin + found @ cell)
    msg = f"has no positions: expected columns x y z, xs ys zs, xu yu zu or xsu ysu zsu, found {' '.join(columns)}"
    raise _UntoldError(msg)


def _symbols(columns: Mapping[str, Sequence[str]], units: str) -> list[str]:
    """Elements of the atoms; an error where only numbers of types tell them apart."""
    for name in _NAMES:
        words = columns.get(name, ())
        if words and set(words) <= set(chemical_symbols[1:]):
            types = set(columns.get("type", ()))
            if name == "element" and set(words) == {"C"} and len(types) > 1 and "mass" not in columns:
                msg = (
                    f"all atoms are C, of {len(types)} types: LAMMPS writes C where it was told no elements: expected "
                    f"{_REMEDY}; if it is carbon, leave the column type out"
                )
                raise _UntoldError(msg)
            return list(words)
    if "mass" in columns and units in {"", "metal", "real", "electron"}:
        of_mass = {mass: element_of_mass(float(mass)) for mass in set(columns["mass"])}
        if all(of_mass.values()):
            return [str(of_mass[mass]) for mass in columns["mass"]]
    strange = sorted(set(columns.get("element", ())) - set(chemical_symbols[1:]))
    found = f"element {strange[0]!r}" if strange else f"columns {' '.join(columns)}"
    msg = f"does not say its elements: expected a column element ({_REMEDY}) or --species, found {found}"
    raise _UntoldError(msg)


def element_of_mass(mass: float) -> str | None:
    """The only element with a mass (amu), of the first 103; None where there is none, or more than one."""
    if mass == 1.0:  # that of everything in reduced units
        return None
    near = np.flatnonzero(np.abs(atomic_masses[1:104] - mass) < _NEAR) + 1
    return str(chemical_symbols[near[0]]) if len(near) == 1 else None


def data_entries(path: Path, species: tuple[str, ...] = ()) -> Entries:
    """The structure of a data file, taken for periodic: it does not say.

    ``species`` are the chemical symbols of types 1, 2, ..., where the file does not say them.

    Raises
    ------
    StructureError
        Nobody says its elements, the file and the user differ in them, it does not say its style or units, or cannot
        be read.
    """
    check_symbols(str(path), species)
    text = text_of(path)
    said = _DATA_UNITS.search(text.partition("\n")[0])
    units = said[1] if said else ""
    if units and units not in STYLES:
        msg = f"{path}: its units are {units!r}, which are those of no atoms: expected one of {', '.join(STYLES)}"
        raise StructureError(msg)
    elements = _elements(path, text, units, species)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # without units they are as they come: lengths of "metal" are Å
            found: Any = read_lammps_data(StringIO(text), Z_of_type=elements, units=units or "metal")
    except Exception as error:  # it raises whatever a malformed line makes it raise
        msg = (
            f"{path} cannot be read as data of LAMMPS ({type(error).__name__}: {error}): expected atoms of style "
            "atomic, charge, bond, angle, molecular or full, said as in 'Atoms # charge'"
        )
        raise StructureError(msg) from error
    atoms = Atoms(found.numbers, found.positions, cell=found.cell, pbc=True)
    if np.abs(found.get_masses() - atoms.get_masses()).max(initial=0.0) > _NEAR:
        atoms.set_masses(found.get_masses())
    yield Entry(atoms)


def _elements(path: Path, text: str, units: str, species: tuple[str, ...]) -> dict[int, int]:
    """Atomic number of each type: from labels of types, comments of masses, masses, or what the user says."""
    labels = {int(row[0]): row[1] for row, _ in _section(text, "Atom Type Labels") if len(row) > 1}
    elements: dict[int, int] = {}
    # Names go before masses, as ASE has it the other way round (findings/ase-lammps-data-guesses-elements-by-mass.sh).
    masses = _section(text, "Masses")
    by_label = {label: number for number, label in labels.items()}
    for row, comment in masses:
        kind = by_label.get(row[0]) or int(row[0])
        mass = float(convert(float(row[1]), "mass", units, "ASE")) if units else float(row[1])
        said, weighed = _symbol(labels.get(kind, comment)), element_of_mass(mass)
        if said and weighed and said != weighed:
            msg = f"{path}: type {kind} is said to be {said}, and has the mass of {weighed}, {mass:g}: correct one"
            raise StructureError(msg)
        if symbol := said or weighed:
            elements[kind] = atomic_numbers[symbol]
    elements.update({kind: atomic_numbers[label] for kind, label in labels.items() if _symbol(label)})
    for kind, symbol in enumerate(species, start=1):
        number = elements.setdefault(kind, atomic_numbers[symbol])
        if number != atomic_numbers[symbol]:
            found = chemical_symbols[number]
            msg = f"{path} calls type {kind} {found}, --species says {symbol}: leave that out, or correct it"
            raise StructureError(msg)
    count = int(re.findall(r"^\s*(\d+)\s+atom types", text, re.MULTILINE)[0])
    if missing := sorted(set(range(1, count + 1)) - set(elements)):
        msg = (
            f"{path} does not say which element type {missing[0]} is: expected its mass, in amu, under Masses with its "
            f"symbol behind it, '{missing[0]} 28.0855 # Si', or --species with the symbols of all types"
        )
        raise StructureError(msg)
    return elements


def _symbol(words: str) -> str | None:
    first = words.split(maxsplit=1)[:1]
    return first[0] if first and first[0] in chemical_symbols[1:] else None


def _section(text: str, name: str) -> list[tuple[list[str], str]]:
    """Words and comment of each line of a section, up to the next one."""
    heads = [head for head in _SECTION.finditer(text) if head[1] == name]
    if not heads:
        return []
    rows: list[tuple[list[str], str]] = []
    for line in text[heads[0].end() :].splitlines():
        content, _, comment = line.partition("#")
        if not content.strip():
            continue
        if re.match(r"\s*[A-Z][a-z]+(?:\s+[A-Z]\w*)*\s*$", content):  # the name of the next section
            break
        rows.append((content.split(), comment))
    return rows


DUMP = Format(
    "LAMMPS dump",
    lambda _path, head: bool(_DUMP.match(head)),
    dump_entries,
    units="assumed",
    of_types=dump_entries,
)
DUMP_WITH_UNITS = Format(
    "LAMMPS dump",
    lambda _path, head: bool(_DUMP.match(head) and "ITEM: UNITS" in head),
    dump_entries,
    of_types=dump_entries,
)
DATA = Format(
    "LAMMPS data", lambda _path, head: bool(_DATA.search(head)), data_entries, units="assumed", of_types=data_entries
)
DATA_WITH_UNITS = Format(
    "LAMMPS data",
    lambda _path, head: bool(_DATA.search(head) and _DATA_UNITS.search(head.partition("\n")[0])),
    data_entries,
    of_types=data_entries,
)
