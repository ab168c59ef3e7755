"""Trajectories of i-PI with a committee (``ffcommittee``): PREFIX.out, PREFIX.committee_pot_0 and positions.

The frames of the three files are matched by their step; strides may differ. ``committee_pot`` holds the members as i-PI
has rescaled them by its ``alpha``. With a weighted baseline these are corrections, and ``baseline_pot`` must have been
written beside them. The driving energy is ``potential`` of PREFIX.out, and ``ensemble_bias`` where it is there.
"""

import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from alflow.averages.measuring import Batch, Source
from alflow.averages.statistics import inefficiency
from alflow.data.formats.base import Unusable
from alflow.data.formats.ipi import entries as structures
from alflow.errors import AverageError, StructureError

Array = NDArray[np.float64]

_BATCH = 256
_COLUMN = re.compile(r"#\s*(?:column|cols\.)\s+(\d+)(?:-(\d+))?\s+-->\s+([^\s:{]+)(?:\{([^}]*)\})?")
_STEP = re.compile(r"Step:\s*(\d+)")
_ENERGIES = {
    "atomic_unit": units.Hartree,
    "hartree": units.Hartree,
    "": units.Hartree,
    "electronvolt": 1.0,
    "kelvin": units.kB,
    "kilocal/mol": units.kcal / units.mol,
    "kj/mol": units.kJ / units.mol,
    "j/mol": units.J / units.mol,
    "cal/mol": units.kcal / units.mol / 1000,
}
_FAR = 0.05  # of kT: how much the driving energy may wander from the mean of the members without a baseline
_SAME_VOLUME = 1e-4  # relative: i-PI writes five decimals of cell lengths
_NEAR = 0.1  # of the temperature, that the mean kinetic one may be off without a word


def ipi_source(prefix: str, temperature: float, pressure: float | None = None) -> Source:
    """A run of i-PI.

    Parameters
    ----------
    prefix : str
        Path of the files up to the dot: ``run/simulation`` for ``run/simulation.out``.
    temperature : float
        Of its thermostat, K.
    pressure : float, optional
        Of its barostat, eV/Å^3; constant volume by default.

    Raises
    ------
    AverageError
        Files or columns that are missing or cannot be read; a path-integral run; a temperature that is not that of the
        run; driving energies that are not those of the members. While it is read: a cell that changes in a run that is
        not said to be at constant pressure.
    """
    files = _Files.find(prefix)
    scalars = _scalars(files)
    _check(files, scalars, temperature)
    return Source(
        name=f"{prefix} (i-PI)",
        temperature=temperature,
        pressure=pressure,
        n_walkers=1,
        batches=lambda: _batches(files, scalars, constant=pressure is None),
    )


@dataclass(frozen=True)
class _Files:
    """The files of a run; ``baseline`` and ``positions`` need not be there."""

    out: Path
    energies: Path
    baseline: Path | None
    positions: Path | None

    @classmethod
    def find(cls, prefix: str) -> "_Files":
        out = Path(f"{prefix}.out")
        if not out.is_file():
            msg = f"{out}: no such file: give the prefix of i-PI's output, as in its <output prefix='...'>"
            raise AverageError(msg)
        energies = _numbered(prefix, "committee_pot")
        if energies is None:
            msg = (
                f"{prefix}.committee_pot_0: no such file: i-PI writes it with <trajectory filename='committee_pot' "
                "extra_type='committee_pot'> extras </trajectory>"
            )
            raise AverageError(msg)
        return cls(out, energies, _numbered(prefix, "baseline_pot"), _numbered(prefix, "pos", ".xyz"))


def _numbered(prefix: str, name: str, suffix: str = "") -> Path | None:
    """The file of bead 0; AverageError when there are more beads."""
    pattern = re.compile(re.escape(f"{Path(prefix).name}.{name}_") + r"0*(\d+)" + re.escape(suffix))
    found = {int(m[1]): path for path in Path(prefix).parent.glob("*") if (m := pattern.fullmatch(path.name))}
    if len(found) > 1:
        msg = f"{prefix}.{name}_*: found {len(found)} beads, expected one: averages are of classical runs only"
        raise AverageError(msg)
    return found.get(0)


@dataclass(frozen=True, eq=False)
class _Scalars:
    """Columns of PREFIX.out and the members, of the steps that both have: energies in eV.

    These are some numbers for each frame, so they are held in memory; structures are not.
    """

    steps: NDArray[np.int64]
    potential: Array
    driving: Array
    energies: Array
    kinetic: Array | None


def _scalars(files: _Files) -> _Scalars:
    columns = _properties(files.out)
    if "step" not in columns or "potential" not in columns:
        missing = " and ".join(name for name in ("step", "potential") if name not in columns)
        msg = f"{files.out} has no column {missing}: driving energies are needed; let i-PI write step and potential"
        raise AverageError(msg)
    steps = columns["step"].astype(np.int64)
    driving = columns["potential"] + columns.get("ensemble_bias", 0.0)
    member_steps, energies = _extras(files.energies)
    if files.baseline is not None:
        baseline_steps, baseline = _extras(files.baseline)
        _, i, j = np.intersect1d(member_steps, baseline_steps, return_indices=True)
        member_steps, energies = member_steps[i], energies[i] + baseline[j]
    common, i, j = np.intersect1d(steps, member_steps, return_indices=True)
    if len(common) < 2:
        msg = f"{files.out} and {files.energies} have {len(common)} steps in common: expected two or more"
        raise AverageError(msg)
    kinetic = columns.get("temperature")
    return _Scalars(common, columns["potential"][i], driving[i], energies[j], None if kinetic is None else kinetic[i])


def _properties(path: Path) -> dict[str, Array]:
    """Columns of PREFIX.out by name, those that are energies in eV."""
    places: dict[str, tuple[int, str]] = {}
    with path.open(errors="replace") as file:
        for line in file:
            if not line.startswith("#"):
                break
            if match := _COLUMN.match(line):
                places[match[3]] = (int(match[1]) - 1, (match[4] or "").lower())
    rows = _numbers(path)
    if rows.shape[1] <= max((column for column, _ in places.values()), default=0):
        msg = f"{path}: expected the columns that its first lines name, found {rows.shape[1]}"
        raise AverageError(msg)
    columns: dict[str, Array] = {}
    for name in ("step", "potential", "ensemble_bias", "temperature"):
        if name in places:
            column, unit = places[name]
            factor = _factor(_ENERGIES, unit, path) if name in {"potential", "ensemble_bias"} else 1.0
            columns[name] = rows[:, column] * factor
    if "temperature" in places and places["temperature"][1] != "kelvin":
        columns["temperature"] = columns["temperature"] * units.Hartree / units.kB
    return columns


def _factor(known: dict[str, float], unit: str, path: Path) -> float:
    if unit not in known:
        msg = f"{path}: unknown unit {unit!r}: expected one of {', '.join(name for name in known if name)}"
        raise AverageError(msg)
    return known[unit]


def _numbers(path: Path) -> Array:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file without numbers
            return np.loadtxt(io.StringIO(_whole_lines(path)), ndmin=2)
    except ValueError as error:  # a decoding error is one too
        msg = f"{path} cannot be read: {' '.join(str(error).split())}"
        raise AverageError(msg) from error


def _whole_lines(path: Path) -> str:
    """A file without its last line if that is not finished: the run goes on, or was killed."""
    text = path.read_text()
    return text[: text.rfind("\n") + 1]


def _extras(path: Path) -> tuple[NDArray[np.int64], Array]:
    """Steps and numbers, in eV, of a file of extras."""
    with path.open(errors="replace") as file:
        steps = [int(match[1]) for line in file if "#EXTRAS" in line and (match := _STEP.search(line))]
    rows = _numbers(path)
    steps = steps[: max(len(rows), len(steps) - 1)]  # the row of the last may not be written yet
    if len(rows) != len(steps):
        msg = f"{path}: expected one row for each of its {len(steps)} steps, found {len(rows)}"
        raise AverageError(msg)
    return np.array(steps, dtype=np.int64), rows * units.Hartree


def _check(files: _Files, scalars: _Scalars, temperature: float) -> None:
    if scalars.kinetic is not None:
        late = scalars.kinetic[len(scalars.kinetic) // 2 :]
        mean, g = float(late.mean()), float(inefficiency([late - late.mean()]))
        error = float(late.std()) * np.sqrt(g / len(late)) if np.isfinite(g) else 0.0
        if abs(mean - temperature) > max(_NEAR * temperature, 5 * error):
            msg = (
                f"{files.out} is of a run at {mean:.0f} K by its kinetic energy, found --temperature {temperature:g}: "
                "give that of its thermostat"
            )
            raise AverageError(msg)
    away = scalars.potential - scalars.energies.mean(axis=1)
    if files.baseline is None and away.std() > _FAR * units.kB * temperature:
        msg = (
            f"{files.out}: the potential is not the mean of the members (they differ by {1e3 * away.std():.3g} meV, "
            "rms): with a weighted baseline let i-PI write extra_type='baseline_pot' too; other forces must be members"
        )
        raise AverageError(msg)


def _batches(files: _Files, scalars: _Scalars, *, constant: bool) -> Iterator[Batch]:
    if files.positions is None:
        for first in range(0, len(scalars.steps), _BATCH):
            part = slice(first, first + _BATCH)
            yield Batch(0, scalars.energies[part], scalars.driving[part], None)
        return
    rows: list[int] = []
    frames: list[Atoms] = []
    last, volume = -1, 0.0
    for step, atoms in _structures(files.positions):
        volume = volume or float(atoms.get_volume())
        if constant and abs(atoms.get_volume() / volume - 1) > _SAME_VOLUME:
            msg = f"{files.positions}: the cell changes until step {step}: give the --pressure of the barostat"
            raise AverageError(msg)
        if step <= last:
            msg = f"{files.positions}: step {step} comes after step {last}: expected each once; remove one of them"
            raise AverageError(msg)
        last = step
        row = int(np.searchsorted(scalars.steps, step))
        if row < len(scalars.steps) and scalars.steps[row] == step:
            rows.append(row)
            frames.append(atoms)
        if len(frames) == _BATCH:
            yield Batch(0, scalars.energies[rows], scalars.driving[rows], frames)
            rows, frames = [], []
    if frames:
        yield Batch(0, scalars.energies[rows], scalars.driving[rows], frames)


def _structures(path: Path) -> Iterator[tuple[int, Atoms]]:
    """Step and structure (Å) of every frame of i-PI's xyz."""
    expected = "expected positions, a step, a cell and units as i-PI writes"
    number = 0
    try:
        for found in structures(path):
            if isinstance(found, Unusable) or "step" not in found.atoms.info or not found.atoms.pbc.all():
                reason = found.reason if isinstance(found, Unusable) else "it has no step, or no cell"
                msg = f"{path} frame {number}: {expected}: {reason}"
                raise AverageError(msg)
            yield found.atoms.info["step"], found.atoms
            number += 1
    except StructureError as error:
        msg = f"{path} frame {number}: {expected} ({error})"
        raise AverageError(msg) from error
