"""Averages with their errors, as tables, plain data and plots."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from ase import units
from numpy.typing import NDArray

from alflow.averages.results import Average, MembersMethod, Method, Reweighted
from alflow.averages.reweighting import reweight
from alflow.errors import AverageError
from alflow.report.plots import new_figure, save

if TYPE_CHECKING:
    from alflow.averages.measuring import Source
    from alflow.averages.observables.base import Observable
    from alflow.averages.sources.arrays import Arrays

Array = NDArray[np.float64]

_METHODS = {
    "direct": "direct reweighting",
    "cea": "cumulant expansion (CEA)",
    "mbar": "each drove walkers of its own, reweighted from all (MBAR)",
    "own": "each drove walkers of its own, averaged by itself",
}

ROWS = 60
"""Values of one observable that a table shows; of longer ones it shows some."""


@dataclass(frozen=True, eq=False)
class Row:
    """An observable and its average: ``grid`` is the abscissa of a curve, shape (D,), None for anything else."""

    text: str
    unit: str
    grid: Array | None
    grid_name: str
    average: Average


@dataclass(frozen=True, eq=False)
class Report:
    """What ``alflow average`` says of a source."""

    source: str
    temperature: float
    rows: tuple[Row, ...]
    result: Reweighted
    notes: tuple[str, ...]


def asked(
    source: Path | None,
    *,
    texts: Sequence[str] = (),
    temperature: float | None = None,
    pressure: float | None = None,
    system: str | None = None,
    method: Method | MembersMethod | None = None,
    drop: float | None = None,
    ipi: str | None = None,
    energies: Sequence[str] = (),
    driving: Sequence[str] = (),
    values: Sequence[str] = (),
    unit: str | None = None,
    values_unit: str | None = None,
    models: bool = False,
) -> Report:
    """What the command line asks for: its arguments, checked.

    Raises
    ------
    AverageError
        Not exactly one source, or something that it needs is missing; as of :func:`of_source` and :func:`of_arrays`.
    """
    given = [name for name, value in (("SOURCE", source), ("--ipi", ipi), ("--energies", energies)) if value]
    if len(given) != 1:
        msg = f"expected one source: SOURCE, --ipi or --energies; found {' and '.join(given) or 'none'}"
        raise AverageError(msg)
    if source is None and temperature is None:
        msg = f"{given[0]} needs --temperature: that of the thermostat, in K"
        raise AverageError(msg)
    foreign = {
        "--driving": (driving, "--energies"),
        "--values": (values, "--energies"),
        "--models": (models, "--energies"),
        "--unit": (unit, "--energies"),
        "--values-unit": (values_unit, "--energies"),
        "--pressure": (pressure is not None, "--ipi"),
        "--system": (system, "SOURCE"),
    }
    for option, (value, of) in foreign.items():
        if value and of != given[0]:
            msg = f"{option} belongs to {of}, found {given[0]}: leave it out"
            raise AverageError(msg)
    if energies and temperature is not None:
        if method in get_args(MembersMethod):
            msg = f"method {method}: expected direct or cea, as one potential drove these energies"
            raise AverageError(msg)
        arrays = _arrays(energies, driving, values, unit or "eV", models, texts)
        return of_arrays(arrays, temperature, values_unit or "", cast("Method | None", method), drop)
    from alflow.averages.sources.ipi import ipi_source
    from alflow.averages.sources.opening import open_source

    found = (
        ipi_source(ipi, temperature, None if pressure is None else pressure * units.GPa)
        if ipi and temperature is not None
        else open_source(source or Path(), temperature, system)
    )
    return of_source(found, observables(texts, source or Path()), method, drop)


def observables(texts: Sequence[str], place: Path) -> "list[Observable]":
    """The observables that texts describe, with the user's own from the alflow.toml in or above ``place``.

    Raises
    ------
    AverageError
        None is given.
    ObservableError
        One is not known.
    ConfigError
        An alflow.toml that cannot be read, or a function that cannot be imported.
    """
    if not texts:
        msg = "no observable is given: expected --observable potential_energy, 'rdf O-O', ...; --help lists them"
        raise AverageError(msg)
    from alflow import config
    from alflow.averages.observables.functions import user_functions
    from alflow.averages.observables.parsing import parse

    folders = [folder for folder in (place, *place.absolute().parents) if (folder / config.FILE).is_file()]
    own = user_functions(config.load_observables(folders[0] / config.FILE), folders[0]) if folders else {}
    return [parse(text, own, config.installed().observables) for text in texts]


def _arrays(
    energies: Sequence[str],
    driving: Sequence[str],
    values: Sequence[str],
    unit: str,
    models: bool,
    texts: Sequence[str],
) -> "Arrays":
    from alflow.averages.sources.arrays import Arrays, energy_unit

    if not driving:
        msg = (
            "--energies needs --driving: the energies of the potential that drove the run, from which members are "
            "reweighted; `--driving mean` if that was the mean of the members"
        )
        raise AverageError(msg)
    other = [text for text in texts if text != "potential_energy" or values]
    if other:
        msg = f"plain arrays have no structures to measure {other[0]} on: give its values in each frame with --values"
        if other[0] == "potential_energy":
            msg = "potential_energy is the observable of plain arrays without --values: leave out one of them"
        raise AverageError(msg)
    return Arrays(energies, driving, values, energy_unit(unit), models)


def walks(folder: Path) -> list[str]:
    """How far each walker of a production run is, one line each."""
    from alflow.averages.sources.productions import read_beginning, walked

    record = read_beginning(folder)
    return [
        f"walker {k}: {steps} steps, {steps * record.timestep / 1000:g} ps, {frames} frames"
        f"{f'; stopped: {stop}' if stop else ''}"
        for k, (steps, frames, stop) in enumerate(walked(folder))
    ]


def of_source(
    source: "Source",
    observables: Sequence["Observable"],
    method: Method | MembersMethod | None = None,
    drop: float | None = None,
) -> Report:
    """Averages of observables over a source; errors as of :func:`alflow.averages.measuring.average`."""
    from alflow.averages.measuring import average

    result = average(source, observables, method=method, drop=drop)
    rows = [Row(o.text, o.unit, o.grid, o.grid_name, a) for o, a in zip(observables, result.averages, strict=True)]
    return Report(source.name, source.temperature, tuple(rows), result, (*source.notes, *result.notes))


def of_arrays(
    arrays: "Arrays", temperature: float, unit: str = "", method: Method | None = None, drop: float | None = None
) -> Report:
    """Averages of columns of arrays, in ``unit``; errors as of :class:`alflow.averages.sources.arrays.Arrays`."""
    result = reweight(
        arrays.chunks(), arrays.quantities(), units.kB * temperature, method=method, drop=drop,
        n_walkers=len(arrays.energies),
    )  # fmt: skip
    text = arrays.values[0] if arrays.values else "potential_energy"
    row = Row(text, unit if arrays.values else "eV", None, "", result.averages[0])
    return Report(", ".join(arrays.energies), temperature, (row,), result, result.notes)


def as_dict(report: Report) -> dict[str, Any]:
    """Everything as plain data: what ``--json`` prints; NaN becomes None."""
    r = report.result
    return {
        "source": report.source,
        "temperature": report.temperature,
        "method": r.method,
        "reason": r.reason,
        "n_frames": r.n_frames,
        "n_dropped": r.n_dropped,
        "n_walkers": r.n_walkers,
        "n_members": r.n_members,
        "inefficiency": r.inefficiency,
        "independent": r.independent,
        "effective": r.kept * r.independent,
        "kept": r.kept,
        "h_spread": _plain(r.h_spread),
        "notes": list(report.notes),
        "averages": [_row_dict(row) for row in report.rows],
    }


def _row_dict(row: Row) -> dict[str, Any]:
    a = row.average
    names = (
        "value",
        "statistical",
        "model",
        "model_noise",
        "total",
        "driven",
        "driven_statistical",
        "sigma_a",
        "sigma_aV",
    )
    return {
        "observable": row.text,
        "unit": row.unit,
        "grid_name": row.grid_name,
        "grid": None if row.grid is None else _plain(row.grid),
        **{name: _plain(getattr(a, name)) for name in names},
        "members": _plain(a.members),
    }


def _plain(value: Array) -> Any:
    """Nested lists, None for what is not a number."""
    return [_plain(x) for x in value] if np.ndim(value) else float(value) if math.isfinite(value) else None


def lines(report: Report) -> list[str]:
    """How the averages were found, one line each."""
    r = report.result
    walkers = f"{r.n_walkers} walkers" if r.n_walkers > 1 else "1 walker"
    name = _METHODS[r.method]
    spread = f"{np.sort(r.h_spread)[len(r.h_spread) // 2]:.2g} (median), {r.h_spread.max():.2g} (largest)"
    drove = r.method in get_args(MembersMethod)
    of, whose = ("(V - mean)/kT", "for a member, at least") if drove else ("h = (V - U)/kT", "of direct reweighting")
    return [
        f"{report.source}, {report.temperature:g} K",
        (
            f"{r.n_frames} frames of {walkers}; {r.n_dropped} at the beginning dropped; "
            f"{r.independent:.0f} independent ({r.inefficiency:.3g} frames count as one)"
        ),
        f"{r.n_members} members, {name}: {r.reason}",
        f"spread of {of}: {spread}; effective sample size {whose} {r.kept * r.independent:.0f}",
        *(f"note: {note}" for note in report.notes),
    ]


def text_table(report: Report) -> str:
    """Averages as aligned text: value, statistical error, model error, both, and the plain average of the run."""
    head = ["observable", "", "mean", "statistical", "model", "+-", "sigma_a", "sigma_aV", "total", "driven", "unit"]
    shown = dict.fromkeys(head, True)
    shown["+-"] = report.result.method in get_args(MembersMethod)  # there noise was taken off, and may be most of it
    shown["sigma_a"] = shown["sigma_aV"] = any(row.average.members.shape[1] > 1 for row in report.rows)
    body = [cells for row in report.rows for cells in _cells(row)]
    table = [[cell for cell, name in zip(cells, head, strict=True) if shown[name]] for cells in (head, *body)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left = {0, len(widths) - 1}
    return "\n".join(
        "  ".join(
            c.ljust(w) if k in left else c.rjust(w) for k, (c, w) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    )


def _cells(row: Row) -> list[list[str]]:
    a = row.average
    count = len(a.value)
    shown = range(count) if count <= ROWS else np.unique(np.linspace(0, count - 1, ROWS).round().astype(int))
    out = []
    for k in shown:
        place = f"{row.grid[k]:.4g}" if row.grid is not None else f"[{k}]" if count > 1 else ""
        errors = (a.statistical[k], a.model[k], a.model_noise[k], a.sigma_a[k], a.sigma_aV[k], a.total[k])
        digits = _digits(float(a.total[k]))
        numbers = [_fixed(a.value[k], digits), *(f"{e:.2g}" for e in errors), _fixed(a.driven[k], digits)]
        out.append([row.text if k == 0 else "", place, *numbers, row.unit if k == 0 else ""])
    return out


def _fixed(value: float, digits: int) -> str:
    """With so many decimals; zero without a sign."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}"


def _digits(error: float) -> int:
    """Decimals of a value, so that two digits of its error are seen."""
    return min(12, max(0, 1 - math.floor(math.log10(error)))) if math.isfinite(error) and error > 0 else 6


def document(report: Report) -> str:
    """The report as one JSON document."""
    return json.dumps(as_dict(report), indent=2, allow_nan=False)


def plot(report: Report, path: Path) -> None:
    """A panel for each observable: curves with bands of the model error and of both errors, numbers with bars.

    Raises
    ------
    ConfigError
        matplotlib is not installed, or the file cannot be written.
    """
    count = len(report.rows)
    columns = min(count, 3)
    lines_of = math.ceil(count / columns)
    figure = new_figure(4.8 * columns, 3.6 * lines_of)
    axes = figure.subplots(lines_of, columns, squeeze=False).ravel()
    for row, ax in zip(report.rows, axes, strict=False):
        (_curve if row.grid is not None else _numbers)(row, ax)
    for ax in axes[count:]:
        ax.set_axis_off()
    figure.suptitle(f"{report.source}, {report.temperature:g} K", fontsize="medium")
    save(figure, path)


def _curve(row: Row, ax: Any) -> None:
    a, x = row.average, row.grid
    ax.fill_between(x, a.value - a.total, a.value + a.total, color="tab:blue", alpha=0.25, lw=0, label="total error")
    ax.fill_between(x, a.value - a.model, a.value + a.model, color="tab:blue", alpha=0.5, lw=0, label="model error")
    ax.plot(x, a.value, color="tab:blue", lw=1.2)
    ax.set_xlabel(row.grid_name)
    ax.set_ylabel(f"{row.text}{f' / {row.unit}' if row.unit else ''}")
    ax.legend(frameon=False, fontsize="small")


def _numbers(row: Row, ax: Any) -> None:
    a = row.average
    x = np.arange(len(a.value))
    for k, (label, error) in enumerate([("total error", a.total), ("model error", a.model)]):
        ax.errorbar(x, a.value, error, fmt="o", color="tab:blue", ms=4, lw=1 + 3 * k, alpha=1 - 0.5 * k, label=label)
    ax.set_xticks(x if len(x) > 1 else [])
    ax.set_title(row.text, fontsize="medium")
    ax.set_ylabel(row.unit or "value")
    ax.legend(frameon=False, fontsize="small")
