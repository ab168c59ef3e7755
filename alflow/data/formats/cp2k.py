"""Outputs of CP2K: of one structure, and of the steps of a run.

The energy is what CP2K calls Total FORCE_EVAL: with smearing the free energy, whose gradient the forces are. Cell and
positions are printed from PRINT_LEVEL MEDIUM on, positions of the first step of a run only: the others are in files
beside the output (:mod:`alflow.data.formats.cp2k_steps`).
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import cellpar_to_cell
from numpy.typing import NDArray

from alflow.data.formats.base import Entries, Entry, Format, Unusable, text_of
from alflow.data.formats.cp2k_steps import STEPS, Run, steps
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
_STARTED = re.compile(r"^.*PROGRAM STARTED AT", re.MULTILINE)
_RESTRAINED = re.compile(r"^ RESTRAINT\| Active|^ DOF\| Number of \w+ restraints +[1-9]", re.MULTILINE)
_SINGLE = {"ENERGY", "ENERGY_FORCE", "WFN_OPT"}
_ROUNDED = 6e-4  # Å: vectors have three decimals, lengths and angles six


def entries(path: Path) -> Entries:
    """The structure of an output, or those of its steps.

    Raises
    ------
    StructureError
        It does not say where the atoms are, or is of a run of another type.
    """
    runs: list[Run] = []
    for text in _runs(text_of(path)):
        found = _RUN.search(text)
        kind = found[1] if found else "ENERGY"
        if kind not in _SINGLE | STEPS:
            msg = f"{path} is of a run of type {kind}: expected ENERGY_FORCE, MD, GEO_OPT or CELL_OPT"
            raise StructureError(msg)
        cell, atoms = _cell(text), _atoms(text)
        if cell is None or (atoms is None and kind in _SINGLE):
            msg = f"{path} does not say where the atoms are: let CP2K print them and the cell, with PRINT_LEVEL MEDIUM"
            raise StructureError(msg)
        if reason := _unusable(text):
            yield Unusable(reason)
        elif kind in STEPS:
            runs.append(Run(path, text, kind, cell, _periodic(text), atoms))
        elif atoms is not None:
            yield _entry(text, atoms)
    if runs:
        yield from steps(runs)


def _runs(text: str) -> list[str]:
    """What each run has printed: CP2K appends to an output that is there."""
    begins = [found.start() for found in _STARTED.finditer(text)]
    return [text[begin:end] for begin, end in zip([0, *begins[1:]], [*begins[1:], len(text)], strict=True)]


def _unusable(text: str) -> str:
    """Why nothing of a run is a label; empty where something may be."""
    if _SYMMETRY.search(text):
        return "its k-points were reduced by symmetry (SYMMETRY T of &KPOINTS), which CP2K does wrongly"
    if _RESTRAINED.search(text):
        return "its energies and forces have those of restraints (&RESTRAINT) in them"
    return ""


def _entry(text: str, atoms: Atoms) -> Entry | Unusable:
    if unconverged(text):
        return Unusable("its self-consistent field did not converge", "not_converged")
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
    return Atoms(symbols, positions=positions, cell=cell, pbc=_periodic(text))


def _periodic(text: str) -> list[bool]:
    found = _PERIODIC.search(text)
    axes = found[1] if found else "XYZ"
    return [axis in axes for axis in "XYZ"]


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
