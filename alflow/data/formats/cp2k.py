"""Outputs of CP2K of one structure.

The energy is what CP2K calls Total FORCE_EVAL: with smearing the free energy, whose gradient the forces are. Positions
and cell are printed from PRINT_LEVEL MEDIUM on, and of the first step of a run only: others are refused.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import cellpar_to_cell
from numpy.typing import NDArray

from alflow.data.formats.base import Entries, Entry, Format, Unusable, text_of
from alflow.data.outputs.cp2k import NUMBER, forces, free_energy, stress, unconverged
from alflow.errors import StructureError

Array = NDArray[np.float64]

_HEADER = re.compile(r"^ CP2K\| version string:|^ DBCSR\| |PROGRAM STARTED AT", re.MULTILINE)
_RUN = re.compile(r"^ GLOBAL\| Run type\s+(\S+)", re.MULTILINE)
_PLACES = re.compile(r"^ MODULE \w+: +ATOMIC COORDINATES IN +ANGSTROM", re.MULTILINE | re.IGNORECASE)
_PLACE = re.compile(rf"^\s+\d+\s+\d+\s+([A-Z][a-z]?)\s+\d+\s+({NUMBER})\s+({NUMBER})\s+({NUMBER})\s")
_VECTOR = re.compile(
    rf"^ CELL\| Vector [abc] \[angstrom\]:?\s+({NUMBER})\s+({NUMBER})\s+({NUMBER})\s+\|[abc]\| =\s+({NUMBER})",
    re.MULTILINE,
)
_ANGLE = re.compile(rf"^ CELL\| Angle \([abc],[abc]\), (?:alpha|beta|gamma)\s+\[degree\]:?\s+({NUMBER})", re.MULTILINE)
_PERIODIC = re.compile(r"^ (?:CELL|POISSON)\| Periodicity\s+(\S+)", re.MULTILINE)
_SYMMETRY = re.compile(r"point group symmetrization\s+ON", re.IGNORECASE)
_SINGLE = {"ENERGY", "ENERGY_FORCE", "WFN_OPT"}
_ROUNDED = 6e-4  # Å: vectors have three decimals, lengths and angles six


def entries(path: Path) -> Entries:
    """The structure of an output.

    Raises
    ------
    StructureError
        It is of a run of many, or does not say where the atoms are.
    """
    text = text_of(path)
    run = _RUN.search(text)
    if run and run[1] not in _SINGLE:
        msg = (
            f"{path} is of a run of type {run[1]}, and has no positions of its steps: expected RUN_TYPE ENERGY_FORCE, "
            "or a file with structures and labels"
        )
        raise StructureError(msg)
    atoms = _atoms(text)
    if atoms is None:
        msg = f"{path} does not say where the atoms are: let CP2K print them and the cell, with PRINT_LEVEL MEDIUM"
        raise StructureError(msg)
    yield _entry(text, atoms)


def _entry(text: str, atoms: Atoms) -> Entry | Unusable:
    if unconverged(text):
        return Unusable("its self-consistent field did not converge")
    if _SYMMETRY.search(text):
        return Unusable("its k-points were reduced by symmetry (SYMMETRY T of &KPOINTS), which CP2K does wrongly")
    energy = free_energy(text)
    if energy is None:
        return Unusable("the file ends in it: CP2K was stopped, or still runs")
    try:
        found, tensor = forces(text, len(atoms)), stress(text)
    except ValueError as error:
        return Unusable(f"cannot be read as CP2K writes it ({error})")
    said: dict[str, Any] = {"energy": energy, "free_energy": energy}
    if tensor is not None and atoms.pbc.all():
        said["stress"] = tensor
    return Entry(atoms, said, {} if found is None else {"forces": found})


def _atoms(text: str) -> Atoms | None:
    begin, cell = _PLACES.search(text), _cell(text)
    if begin is None or cell is None:
        return None
    symbols, positions = list[str](), list[list[float]]()
    for line in text[begin.end() :].splitlines():
        if found := _PLACE.match(line):
            symbols.append(found[1])
            positions.append([float(x) for x in found.groups()[1:]])
        elif symbols:
            break
    periodic = _PERIODIC.search(text)
    axes = periodic[1] if periodic else "XYZ"
    return Atoms(symbols, positions=positions, cell=cell, pbc=[axis in axes for axis in "XYZ"])


def _cell(text: str) -> Array | None:
    """By lengths and angles, which have more digits, where the vectors stand as those are usually taken."""
    rows, angles = _VECTOR.findall(text)[:3], _ANGLE.findall(text)[:3]
    if len(rows) < 3:
        return None
    vectors = np.array([row[:3] for row in rows], dtype=float)
    if len(angles) < 3:
        return vectors
    usual = np.asarray(cellpar_to_cell([*(float(row[3]) for row in rows), *map(float, angles)]))
    return usual if np.abs(usual - vectors).max() < _ROUNDED else vectors


CP2K = Format("output of CP2K", lambda _path, head: "CP2K|" in head and bool(_HEADER.search(head)), entries)
