"""vasprun.xml and OUTCAR of VASP 5 and 6.

Energies are E0, without smearing, and the free energy, whose gradient the forces are. A step whose electrons did not
converge has an energy and forces all the same, and so has one that VASP's machine-learned force field predicted: both
are told apart here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO
from xml.etree import ElementTree as ET

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms, FixScaled
from ase.io.formats import open_with_compression
from numpy.typing import NDArray

from alflow.data.formats.base import Entries, Entry, Format, Unusable, opened
from alflow.data.formats.by_ase import entry
from alflow.data.formats.quiet import quietly
from alflow.data.outputs.vasp import nelm_of, unconverged
from alflow.errors import StructureError

Array = NDArray[np.float64]

_END = "FREE ENERGIE OF THE ION-ELECTRON SYSTEM"
_AFTER = 4  # lines of energies below it
_KBAR = -0.1 * units.GPa  # eV/Å^3, in ASE's sign
_ENERGY = 1e-22 * units.J  # kbar Å^3, eV
_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
_LEARNED = "of VASP's machine-learned force field, no calculation: its labels would teach what that field knows"
_CUT = "the file ends in it: VASP was stopped, or still runs"


def outcar_entries(path: Path) -> Entries:
    """The ionic steps of OUTCAR; constraints are those of a CONTCAR or POSCAR beside it.

    Raises
    ------
    StructureError
        Its beginning, with elements and atoms, cannot be read.
    """
    yield from quietly(_of_outcar(path))


def _of_outcar(path: Path) -> Entries:
    from ase.io.vasp_parsers.vasp_outcar_parsers import OUTCARChunk, OutcarChunkParser, OutcarHeaderParser

    with opened(path) as file:
        first = list(_until(file, ("- Iteration", "ML FORCE on cell")))
        try:
            header = OutcarHeaderParser(workdir=path.parent).build(first)
        except Exception as error:  # it raises whatever a malformed line makes it raise
            found = f"{type(error).__name__}: {error}"
            msg = f"{path} cannot be read as OUTCAR of VASP ({found}): expected a whole beginning"
            raise StructureError(msg) from error
        nelm = nelm_of("".join(first))

        def step(lines: list[str]) -> Entry | Unusable:
            if reason := unconverged("".join(lines), nelm):
                return Unusable(reason)
            try:
                return entry(OUTCARChunk(lines, header, parser=OutcarChunkParser()).build())
            except Exception as error:  # noqa: BLE001 - it raises whatever a malformed line makes it raise
                return Unusable(f"cannot be read as VASP writes it ({type(error).__name__}: {error})")

        learned = False  # a prediction stands before: that of a step of its own, unless a calculation follows
        for lines, whole in _steps(file, first[-1:]):
            begun = any("- Iteration" in line for line in lines)
            if learned and (_is_learned(lines) if whole else not begun):
                yield Unusable(f"is {_LEARNED}")
            learned = whole and _is_learned(lines)
            if whole and not learned:
                yield step(lines)
            elif not whole and begun:
                yield Unusable(_CUT)


def _until(file: TextIO, marks: Sequence[str]) -> Iterator[str]:
    for line in file:
        yield line
        if any(mark in line for mark in marks):
            return


def _steps(file: TextIO, first: list[str]) -> Iterator[tuple[list[str], bool]]:
    """The lines of each step, and whether they are all there: what is left in the end is not, if only timings."""
    while True:
        lines = [*first, *_until(file, (_END,))]
        first = []
        energies = list(islice(file, _AFTER)) if lines and _END in lines[-1] else []
        yield [*lines, *energies], len(energies) == _AFTER
        if len(energies) < _AFTER:
            return


def _is_learned(lines: Sequence[str]) -> bool:
    return f"ML {_END}" in lines[-_AFTER - 1]


def xml_entries(path: Path) -> Entries:
    """The ionic steps of vasprun.xml, up to where it ends.

    Raises
    ------
    StructureError
        It ends, or is damaged, before the first step.
    """
    run, some = _Run(), False
    depth = 0  # of a step that has begun
    try:
        for event, element in _elements(path):
            if element.tag == "calculation":
                depth = event == "start"
            if event == "start":
                continue
            if element.tag == "calculation":
                some = True
                yield run.step(element)
                element.clear()  # eigenvalues of a long run need not stay in memory
            elif not depth:
                run.add(element)
    except ET.ParseError as error:
        if not some and not depth:
            msg = f"{path} cannot be read as vasprun.xml ({error}): expected steps of VASP; it was stopped early"
            raise StructureError(msg) from error
        if depth:
            yield Unusable(_CUT)


def _elements(path: Path) -> Iterator[tuple[str, ET.Element]]:
    with open_with_compression(str(path), "rb") as file:
        yield from ET.iterparse(file, events=("start", "end"))  # noqa: S314 - of the user's own


@dataclass
class _Run:
    """What a file says of all its steps."""

    symbols: list[str] = field(default_factory=list)
    nelm: int | None = None
    pressure: float = 0.0
    """PSTRESS, kbar: the energies of steps hold it times the volume."""
    fixed: Array | None = None
    learns: bool = False
    """Whether there may be steps of its own force field, which have no electronic steps."""

    def add(self, element: ET.Element) -> None:
        if element.tag == "atominfo":
            symbols = [(row[0].text or "").strip() for row in element.findall("array[@name='atoms']/set/rc")]
            self.symbols = ["Zr" if name == "r" else name for name in symbols]  # as VASP 5 spells it
        elif element.tag == "i" and element.get("name") == "NELM":
            self.nelm = int(element.text or 0)
        elif element.tag == "i" and element.get("name") == "PSTRESS":
            self.pressure = float(element.text or 0)
        elif element.tag == "i" and element.get("name") == "ML_LMLFF":
            self.learns = "T" in (element.text or "")
        elif element.tag == "structure" and element.get("name") == "initialpos":
            rows = [(row.text or "").split() for row in element.findall("varray[@name='selective']/v")]
            self.fixed = np.array([[word.startswith("F") for word in row] for row in rows]) if rows else None

    def step(self, calculation: ET.Element) -> Entry | Unusable:
        loops = calculation.findall("scstep")
        if not loops:
            return Unusable(f"is {_LEARNED}" if self.learns else "has no electronic steps: expected a calculation")
        if self.nelm is not None and len(loops) >= self.nelm:
            return Unusable(f"did not converge in its {self.nelm} electronic steps")
        try:
            return self._entry(calculation, loops)
        except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
            return Unusable(f"cannot be read as VASP writes it ({type(error).__name__}: {error})")

    def _entry(self, calculation: ET.Element, loops: Sequence[ET.Element]) -> Entry:
        cell = _rows(calculation, "structure/crystal/varray[@name='basis']")
        places = _rows(calculation, "structure/varray[@name='positions']")
        atoms = Atoms(self.symbols, cell=cell, pbc=True, scaled_positions=places)
        atoms.set_constraint(self._constraints(atoms))
        free = _number(calculation, "e_fr_energy") - self.pressure * _ENERGY * atoms.get_volume()
        # E0 of the whole step is wrong in some versions, and the loop lacks dispersion: differences are right
        said: dict[str, Any] = {
            "free_energy": free,
            "energy": free + _number(loops[-1], "e_0_energy") - _number(loops[-1], "e_fr_energy"),
        }
        if calculation.find("varray[@name='stress']") is not None:
            said["stress"] = _KBAR * _rows(calculation, "varray[@name='stress']")[_VOIGT]
        forces = calculation.find("varray[@name='forces']")
        return Entry(atoms, said, {} if forces is None else {"forces": _rows(calculation, "varray[@name='forces']")})

    def _constraints(self, atoms: Atoms) -> list[Any]:
        if self.fixed is None:
            return []
        whole = np.flatnonzero(self.fixed.all(axis=1))
        parts = np.flatnonzero(self.fixed.any(axis=1) & ~self.fixed.all(axis=1))
        fixed = [FixAtoms(whole)] if len(whole) else []
        return [*fixed, *(FixScaled(int(i), self.fixed[i].tolist(), atoms.cell) for i in parts)]


def _rows(element: ET.Element, path: str) -> Array:
    return np.array([(row.text or "").split() for row in element.findall(f"{path}/v")], dtype=float)


def _number(element: ET.Element, name: str) -> float:
    found = element.find(f"energy/i[@name='{name}']")
    if found is None:
        msg = f"no {name}"
        raise ValueError(msg)
    return float(found.text or "")


VASPRUN = Format("vasprun.xml of VASP", lambda _path, head: "<modeling>" in head, xml_entries)
OUTCAR = Format("OUTCAR of VASP", lambda _path, head: bool(re.match(r"\s*vasp\.\d", head)), outcar_entries)
