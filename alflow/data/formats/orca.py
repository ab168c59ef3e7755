"""Outputs of ORCA, single points and optimisations, and its files of gradients (.engrad)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from alflow.data.formats.base import Entries, Entry, Format, Unusable, opened, text_of
from alflow.data.outputs.orca import END, NOT_CONVERGED
from alflow.errors import StructureError

Array = NDArray[np.float64]

_TITLE = re.compile(r"\* O +R +C +A \*")
_STEP_END = ("ORCA GEOMETRY RELAXATION STEP", END)
_ENERGY = re.compile(r"^FINAL SINGLE POINT ENERGY\D*?\s(-?\d+\.\d+)\s*$", re.MULTILINE)
_WORKS = re.compile(r"SCF ITERATIONS|FINAL SINGLE POINT ENERGY|SCF NOT CONVERGED")
_PLACES = "CARTESIAN COORDINATES (ANGSTROEM)"
_GRADIENT = re.compile(r"^CARTESIAN GRADIENT.*$", re.MULTILINE)
_ROW = re.compile(r"^\s*\d+\s+[A-Z][A-Za-z]?\s*:\s+(-?\d+\.\d+)\s+(-?\d+\.\d+)\s+(-?\d+\.\d+)\s*$", re.MULTILINE)
_FORCE = -units.Hartree / units.Bohr


def entries(path: Path) -> Entries:
    """The structures that were calculated.

    Raises
    ------
    StructureError
        There are none.
    """
    some = False
    with opened(path) as file:
        for text, whole in _steps(file):
            if _WORKS.search(text):
                some = True
                yield _entry(text, whole=whole)
    if not some:
        msg = f"{path} has no energy: expected an output of ORCA with a single point or an optimisation"
        raise StructureError(msg)


def _steps(file: TextIO) -> Iterator[tuple[str, bool]]:
    """The text of each structure, and whether it is all there."""
    lines: list[str] = []
    for line in file:
        lines.append(line)
        if any(end in line for end in _STEP_END):
            yield "".join(lines), True
            lines = []
    yield "".join(lines), False


def _entry(text: str, *, whole: bool) -> Entry | Unusable:
    if NOT_CONVERGED.search(text):
        return Unusable("its self-consistent field did not converge")
    energies = _ENERGY.findall(text)
    if not whole or not energies:
        return Unusable("the file ends in it: ORCA was stopped, or still runs")
    if len(energies) > 1:
        return Unusable(f"has {len(energies)} energies, of dynamics, a scan or several jobs: expected one structure's")
    try:
        atoms = _atoms(text)
        forces = _forces(text, len(atoms))
    except (ValueError, KeyError, IndexError) as error:
        return Unusable(f"cannot be read as ORCA writes it ({type(error).__name__}: {error})")
    said = dict.fromkeys(("energy", "free_energy"), float(energies[0]) * units.Hartree)
    return Entry(atoms, said, {} if forces is None else {"forces": forces})


def _atoms(text: str) -> Atoms:
    rows: list[list[str]] = []
    for line in text[text.rindex(_PLACES) :].splitlines()[2:]:
        if len(words := line.split()) != 4:
            break
        rows.append(words)
    return Atoms([row[0] for row in rows], positions=np.array([row[1:] for row in rows], dtype=float))


def _forces(text: str, count: int) -> Array | None:
    gradients = list(_GRADIENT.finditer(text))
    if not gradients:
        return None
    if len(gradients) > 1:
        msg = f"{len(gradients)} gradients, of several states: expected one"
        raise ValueError(msg)
    rows = np.array(_ROW.findall(text, gradients[0].end())[:count], dtype=float)
    return _FORCE * rows.reshape(count, 3)


def engrad_entries(path: Path) -> Entries:
    """The structure of a file of gradients; an output beside it says whether it converged.

    Raises
    ------
    StructureError
        It cannot be read.
    """
    output = path.with_suffix(".out")
    if output.is_file() and NOT_CONVERGED.search(output.read_text(errors="replace")):
        yield Unusable(f"its self-consistent field did not converge ({output.name})")
        return
    lines = [line for line in text_of(path).splitlines() if line.strip() and line[0] != "#"]
    try:
        count = int(lines[0])
        forces = _FORCE * np.array(lines[2 : 2 + 3 * count], dtype=float).reshape(count, 3)
        rows = np.array([line.split() for line in lines[2 + 3 * count : 2 + 4 * count]], dtype=float).reshape(count, 4)
        said = dict.fromkeys(("energy", "free_energy"), float(lines[1]) * units.Hartree)
        atoms = Atoms(rows[:, 0].astype(int), positions=rows[:, 1:] * units.Bohr)
    except (ValueError, IndexError) as error:
        msg = f"{path} cannot be read as a file of gradients of ORCA ({error}): expected a whole one"
        raise StructureError(msg) from error
    yield Entry(atoms, said, {"forces": forces})


ORCA = Format("output of ORCA", lambda _path, head: bool(_TITLE.search(head)), entries)
ENGRAD = Format(
    "gradients of ORCA", lambda _path, head: bool(re.match(r"#\s*\n# Number of atoms", head)), engrad_entries
)
