"""Outputs of pw.x of Quantum ESPRESSO: single points, relaxations, dynamics.

The energy is what pw.x marks by ``!``: with smearing the free energy, whose gradient the forces are.
"""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io.espresso import get_atomic_positions, get_cell_parameters, label_to_symbol, parse_pwo_start
from numpy.typing import NDArray

from alflow.data.formats.base import Entries, Entry, Format, Unusable, text_of
from alflow.data.outputs.espresso import free_energy, threshold_of, unconverged
from alflow.errors import StructureError

Array = NDArray[np.float64]

_CLAIM = "Program PWSCF"
_HEADER = re.compile(r"^\s+Program PWSCF v", re.MULTILINE)
_BEGINS = re.compile(r"\s+Program PWSCF v\.|ATOMIC_POSITIONS\b")
_FORCE = re.compile(r"^\s+atom\s+\d+\s+type\s+\d+\s+force =\s*(.*)$", re.MULTILINE)
_STRESS = re.compile(r"total\s+stress\s+\(Ry/bohr\*\*3\).*\n(.*)\n(.*)\n(.*)\n")
_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
_WORKS = re.compile(r"Self-consistent Calculation|iteration #|End of self-consistent|convergence NOT")


def entries(path: Path) -> Entries:
    """The structures that were calculated; those that are only printed again are none.

    Raises
    ------
    StructureError
        The beginning, with cell and atoms, cannot be read; or nothing was calculated.
    """
    lines = text_of(path).splitlines(keepends=True)
    start: dict[str, Any] = {}
    threshold: float | None = None
    some = False
    for first, last in _parts(lines):
        text = "".join(lines[first:last])
        if _CLAIM in lines[first]:
            start, threshold = _start(path, lines[first:last]), threshold_of(text)
        if not _WORKS.search(text):
            continue
        some = True
        yield _entry(lines[max(first - 6, 0) : first], lines[first:last], start, threshold)
    if not some:
        msg = f"{path} has no self-consistent calculation: expected an output of pw.x with energies"
        raise StructureError(msg)


def _parts(lines: list[str]) -> Iterator[tuple[int, int]]:
    """Where the text of each structure begins and ends."""
    begins = [index for index, line in enumerate(lines) if _BEGINS.match(line)]
    yield from zip(begins, [*begins[1:], len(lines)], strict=True)


def _start(path: Path, lines: list[str]) -> dict[str, Any]:
    try:
        return dict(parse_pwo_start(lines))
    except Exception as error:  # it raises whatever a malformed line makes it raise
        found = f"{type(error).__name__}: {error}"
        msg = f"{path} cannot be read as output of pw.x ({found}): expected cell and atoms at its beginning"
        raise StructureError(msg) from error


def _entry(before: list[str], lines: list[str], start: dict[str, Any], threshold: float | None) -> Entry | Unusable:
    text = "".join(lines)
    if reason := unconverged(text, threshold):
        return Unusable(f"did not converge: {reason.strip()}")
    energy = free_energy(text)
    if energy is None or "convergence has been achieved" not in text:
        return Unusable("the file ends in it, or its electrons are not self-consistent: pw.x was stopped")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = start["atoms"].copy() if _CLAIM in lines[0] else _moved(before, lines, start)
        forces, stress = _forces(text, len(atoms)), _STRESS.search(text)
        said: dict[str, Any] = dict.fromkeys(("energy", "free_energy"), energy * units.Ry)
        if stress:  # of the other sign
            tensor = -units.Ry / units.Bohr**3 * np.array([row.split()[:3] for row in stress.groups()], dtype=float)
            said["stress"] = tensor[_VOIGT]
    except Exception as error:  # noqa: BLE001 - it raises whatever a malformed line makes it raise
        return Unusable(f"cannot be read as pw.x writes it ({type(error).__name__}: {error})")
    return Entry(atoms, said, {} if forces is None else {"forces": forces})


def _moved(before: list[str], lines: list[str], start: dict[str, Any]) -> Atoms:
    """The structure of a step: its cell stands above its positions, if it changes; it stays for those that follow."""
    if any(line.startswith("CELL_PARAMETERS") for line in before):
        start["cell"], _ = get_cell_parameters(before)
    count = len(start["symbols"])
    rows = get_atomic_positions(lines[: count + 1], n_atoms=count, cell=start["cell"], alat=start["alat"])
    symbols, positions = [label_to_symbol(row[0]) for row in rows], [row[1] for row in rows]
    return Atoms(symbols, positions=positions, cell=start["cell"], pbc=True)


def _forces(text: str, count: int) -> Array | None:
    """The first list: those that follow it are parts of the forces."""
    rows = [row.split() for row in _FORCE.findall(text)[:count]]
    return np.array(rows, dtype=float).reshape(count, 3) * units.Ry / units.Bohr if rows else None


ESPRESSO = Format("output of pw.x", lambda _path, head: bool(_HEADER.search(head)), entries)
