"""Steps of dynamics and optimisations of CP2K: of an output, and of the files with positions, forces and cells by it.

A step is the calculation in the output that has its energy to the last digit of the trajectory. Conjugate gradients
write positions and forces of one calculation of a line search, and the energy of another
(findings/cp2k-cg-writes-the-energy-of-another-point.sh): there the calculation is the one that has its forces.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols
from numpy.typing import NDArray

from alflow.data.formats.base import Entries, Entry, Unusable, opened
from alflow.data.outputs.cp2k import NUMBER, Evaluation, evaluations, number
from alflow.errors import StructureError

Array = NDArray[np.float64]

STEPS = {"MD", "MOL_DYN", "MOLECULAR_DYNAMICS", "GEO_OPT", "GEOMETRY_OPTIMIZATION", "CELL_OPT"}
"""Types of runs that have them."""

_PROJECT = re.compile(r"^ GLOBAL\| Project name\s+(\S+)", re.MULTILINE)
_ENSEMBLE = re.compile(r"^ MD(?:_PAR)?\| Ensemble [Tt]ype\s+(\S+)", re.MULTILINE)
_LINE_SEARCHES = re.compile(r"\*\*\*\s+CONJUGATE GRADIENTS\s+\*\*\*")
_COMMENT = re.compile(rf"\s*i =\s*(\d+),(?: time =\s*{NUMBER},)? E =\s*({NUMBER})")
_CONSTRAINTS = re.compile(r"^ DOF\| Number of \w+ constraints +[1-9]", re.MULTILINE)
_SEVERAL = 3  # steps in which what is always zero is held
_SAME_BEGINNING = 2e-3  # Å: an output has three decimals of vectors
_SAME_CELL = {"NVE", "NVT", "NVT_ADIABATIC", "LANGEVIN", "ISOKIN"}
_FORCE = units.Hartree / units.Bohr
_NONE = "no calculation in the output has its energy: it is of another run, or a bias is in it"
_ROUNDED = 1e-6  # eV/Å: forces in the output have eight decimals, in hartree/bohr
_RATIO = 1.5  # of the size of a step and of the start, from which on its lengths are taken for those of another unit

_Key = tuple[int, str]  # number and energy, as written, of a step


@dataclass(frozen=True)
class _Step:
    """A frame of a trajectory: of positions, or of forces."""

    number: int
    energy: str
    symbols: list[str]
    values: Array

    @property
    def key(self) -> _Key:
        return self.number, self.energy


@dataclass
class Run:
    """A run of many steps.

    Attributes
    ----------
    path : Path
        Its output.
    text : str
        That in full.
    kind : str
        Its type, one of :data:`STEPS`.
    cell : array, shape (3, 3)
        At its beginning, Å.
    periodic : list of bool
        Directions in which it is.
    start : Atoms, optional
        At its beginning, where the output says it.
    """

    path: Path
    text: str
    kind: str
    cell: Array
    periodic: list[bool]
    start: Atoms | None

    @property
    def positions(self) -> Path:
        """The trajectory beside the output; StructureError where there is none."""
        path = self._beside("pos-1.xyz")
        if not path.is_file():
            msg = f"{self.path} is of a run of type {self.kind}: expected its positions in {path.name} beside it"
            raise StructureError(msg)
        return path

    def entry(self, step: _Step, mine: Evaluation) -> Entry | Unusable:
        """A step of this run, and its calculation."""
        symbols = self._symbols(step)
        if not set(symbols) <= set(chemical_symbols[1:]):
            return Unusable(f"has an atom {min(set(symbols) - set(chemical_symbols[1:]))!r}, which is no element")
        cell = self.cell if self.cells is None else self.cells.get(step.number)
        if cell is None:
            return Unusable(f"has no cell: expected one line of step {step.number} in {self._beside('1.cell').name}")
        atoms = Atoms(symbols, step.values, cell=cell, pbc=self.periodic)
        if not mine.converged:
            return Unusable("its self-consistent field did not converge", "not_converged")
        try:
            found, written = mine.forces(len(atoms)), self._forces.get(step.key)
            stress = mine.stress() if atoms.pbc.all() else None
        except ValueError as error:
            return Unusable(f"cannot be read as CP2K writes it ({error})")
        if found is None:
            found = written
        elif written is not None and (found.shape != written.shape or np.abs(found - written).max() > _ROUNDED):
            return Unusable(f"has other forces in {self._beside('frc-1.xyz').name} than in the output")
        said = {"energy": mine.energy, "free_energy": mine.energy, **({} if stress is None else {"stress": stress})}
        if self._constrained:
            found = None
        return Entry(atoms, said, {} if found is None else {"forces": found})

    @cached_property
    def _constrained(self) -> bool:
        """Whether coordinates were held, by which CP2K sets forces to zero: no reader can tell which are true."""
        if _CONSTRAINTS.search(self.text):
            return True
        # Optimisations do not say so: the same numbers are exactly 0 in every step, and not by a symmetry of all.
        try:
            every = [one.forces(len(self.start)) for one in self._evaluations] if self.start is not None else []
        except ValueError:
            return False
        there = np.array([forces for forces in every if forces is not None])
        if len(there) < _SEVERAL:
            return False
        zero = (there == 0).all(axis=0)
        return bool((zero.any(axis=0) & ~zero.all(axis=0)).any() or zero.all(axis=1).any())

    def evaluation(self, step: _Step) -> Evaluation | Unusable:
        """The calculation of a step, where it is of this run."""
        if not self._has_line_searches:
            mine = self._by_energy.get(step.energy)
            return mine or Unusable(_NONE)
        written = self._forces.get(step.key)
        if written is not None:
            for one in reversed(self._evaluations):
                found = one.forces(len(written))
                if found is not None and np.abs(found - written).max() <= _ROUNDED:
                    return one
        return Unusable(
            "which calculation of a line search (conjugate gradients) it is cannot be told: expected forces in the "
            f"output and in {self._beside('frc-1.xyz').name}"
        )

    @cached_property
    def _has_line_searches(self) -> bool:
        return bool(_LINE_SEARCHES.search(self.text))

    @cached_property
    def _evaluations(self) -> list[Evaluation]:
        return evaluations(self.text)

    @cached_property
    def _by_energy(self) -> dict[str, Evaluation]:
        return {f"{one.hartree:.10f}": one for one in self._evaluations}

    @cached_property
    def _forces(self) -> dict[_Key, Array]:
        """In eV/Å, of the file beside the output."""
        path = self._beside("frc-1.xyz")
        found: dict[_Key, Array] = {}
        for step in _frames(path) if path.is_file() else ():
            if not isinstance(step, Unusable):
                found[step.key] = _FORCE * step.values
        return found

    @cached_property
    def cells(self) -> dict[int, Array] | None:
        """Of each step, Å; None where it never changes, whatever an older run has left beside it."""
        ensemble = _ENSEMBLE.search(self.text)
        if self.kind.startswith("GEO") or (ensemble and ensemble[1] in _SAME_CELL):
            return None
        path = self._beside("1.cell")
        if not path.is_file():
            msg = f"{self.path} is of a run in which the cell changes: expected its cells in {path.name} beside it"
            raise StructureError(msg)
        found: dict[int, Array] = {}
        twice: set[int] = set()
        with opened(path) as file:
            for line in file:
                words = line.split()
                if len(words) != 12 or line.lstrip().startswith("#"):  # step, time, vectors, volume
                    continue
                cell = np.array(words[2:11], dtype=float).reshape(3, 3)
                if int(words[0]) in found and not np.array_equal(found[int(words[0])], cell):
                    twice.add(int(words[0]))
                found[int(words[0])] = cell
        if 0 in found and np.abs(found[0] - self.cell).max() > _SAME_BEGINNING:
            msg = f"{path} begins with another cell than {self.path}: it is of another run"
            raise StructureError(msg)
        return {step: cell for step, cell in found.items() if step not in twice}

    def _beside(self, ending: str) -> Path:
        project = _PROJECT.search(self.text)
        return self.path.parent / f"{project[1] if project else 'PROJECT'}-{ending}"

    def _symbols(self, step: _Step) -> list[str]:
        """The output has elements, where a trajectory may have names of kinds."""
        if self.start is None or len(self.start) != len(step.symbols):
            return step.symbols
        return list(self.start.symbols)

    def check_unit(self, atoms: Atoms) -> None:
        """StructureError where a trajectory is in another unit of length: no file says which."""
        if self.start is None or len(self.start) != len(atoms) or len(atoms) == 1:
            return
        ratio = _size(atoms) / _size(self.start)
        if not 1 / _RATIO < ratio < _RATIO:
            msg = f"{self.positions} is {ratio:.3g} times as large as what {self.path} begins with: expected Å"
            raise StructureError(msg)


def steps(runs: Sequence[Run]) -> Entries:
    """All steps of the trajectory of a run, or of several that follow each other in one output.

    Raises
    ------
    StructureError
        A file that is needed is missing, is of another run, or is in another unit; the runs have other trajectories.
    """
    trajectory = runs[0].positions
    if any(run.positions != trajectory for run in runs):
        msg = f"{runs[0].path} has runs of several projects: give each an output of its own"
        raise StructureError(msg)
    for run in runs:
        _ = run.cells  # what is wrong with them is told before anything is read
    unit_known = False
    for step in _frames(trajectory):
        if isinstance(step, Unusable):
            yield step
            continue
        try:
            found = [(run, run.evaluation(step)) for run in reversed(runs)]
        except ValueError as error:
            yield Unusable(f"cannot be read as CP2K writes it ({error})")
            continue
        run, mine = next((one for one in found if not isinstance(one[1], Unusable)), found[0])
        if isinstance(mine, Unusable):
            yield mine
            continue
        entry = run.entry(step, mine)
        if isinstance(entry, Entry) and not unit_known:
            run.check_unit(entry.atoms)
            unit_known = True
        yield entry


def _frames(path: Path) -> Iterator[_Step | Unusable]:
    """Those of a trajectory in CP2K's XYZ; what is no number ends it."""
    with opened(path) as file:
        while line := file.readline().strip():
            try:
                said = _COMMENT.match(file.readline())
                if said is None:
                    yield Unusable("does not begin as CP2K writes it: expected 'i = NUMBER, E = ENERGY' in its comment")
                    return
                rows = [file.readline().split() for _ in range(int(line))]
                values = np.array([row[1:4] for row in rows], dtype=float).reshape(-1, 3)
                yield _Step(int(said[1]), f"{number(said[2]):.10f}", [row[0] for row in rows], values)
            except (ValueError, IndexError) as error:
                yield Unusable(f"cannot be read from here on ({error})")
                return


def _size(atoms: Atoms) -> float:
    """Root mean square distance from the centre, Å."""
    return float(np.sqrt(((atoms.positions - atoms.positions.mean(axis=0)) ** 2).sum(axis=1).mean()))
