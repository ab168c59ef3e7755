"""The same as tables for a terminal."""

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from alflow.records.assess import Assessment

_GPA = 160.21766208  # of 1 eV/Å^3


def show(table: Table) -> None:
    """Print a table; into a pipe or a file it is as wide as it needs to be."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def cycle_table(now: Assessment) -> Table:
    """One finished cycle: labels, failures, sigma, error before training, error after."""
    kinds = {kind: {"coverage_1": getattr(now, kind).coverage_1} for kind in ("energy", "force", "new_force")}
    return status_table([{**vars(now), "n_labelled": now.n_new, **kinds}])


def status_table(cycles: Sequence[dict[str, Any]]) -> Table:
    """Cycles, one a row; errors before -> after training, energies in meV/atom, forces and sigma in meV/Å.

    Stresses, where they are learned, in GPa.

    The coverage, the share of errors within one calibrated sigma (0.68 is ideal), is that of the new committee
    out-of-bag (energies, forces), and that of the one before on the forces of the new labels. Where ``[converge]``
    names an observable, its model error over the frames that were sampled, in its unit.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    observables = [c["observable"] for c in cycles if c["observable"]]
    stresses = any(_is_there(c["stress_rmse_after"]) for c in cycles)
    for name in ("cycle", "labels", "failed", "sigma max\nmeV/Å", "energy error\nmeV/atom", "force error\nmeV/Å",
                 "alpha\nenergy, force", "within sigma\nenergy, force, new", "steps"):  # fmt: skip
        if name.startswith("alpha") and stresses:
            table.add_column("stress error\nGPa", justify="right")
        if name == "steps" and observables:
            table.add_column(f"model error\n{observables[-1]}", justify="right")
        table.add_column(name, justify="right" if name != "steps" else "left")
    for c in cycles:
        steps = " ".join(f"{step}:{state}" for step, state in c.get("steps", {}).items() if state != "done")
        table.add_row(
            str(c["cycle"]),
            str(c["n_labelled"]),
            str(c["n_failed"]),
            _milli(c["largest_force_sigma"], 0),
            f"{_milli(c['energy_rmse'], 2)} -> {_milli(c['energy_rmse_after'], 2)}",
            f"{_milli(c['force_rmse'], 1)} -> {_milli(c['force_rmse_after'], 1)}",
            *([f"{_pressure(c['stress_rmse'])} -> {_pressure(c['stress_rmse_after'])}"] if stresses else []),
            f"{_plain(c['alpha_energy'])}, {_plain(c['alpha_force'])}",
            ", ".join(_plain((c[kind] or {}).get("coverage_1")) for kind in ("energy", "force", "new_force")),
            *([_short(c["observable_error"])] if observables else []),
            steps or "done",
        )
    return table


def calibration_table(cycles: Sequence[dict[str, Any]]) -> Table:
    """How well sigma describes errors, cycle by cycle.

    Of energies, forces and stresses out-of-bag, and of those of the labels that the committee before had not seen. The
    floor of a stress is that of its virial over the square root of the number of atoms.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("cycle", "of", "alpha", "floor\nmeV, meV/Å", "rms z", "within\n1 sigma", "within\n2 sigma",
                 "CRPS\nmeV, meV/Å", "rank\ncorrelation", "values"):  # fmt: skip
        table.add_column(name, justify="left" if name == "of" else "right")
    kinds = {"energy": "energies", "force": "forces", "stress": "stresses"}
    kinds |= {f"new_{kind}": f"new {text}" for kind, text in kinds.items()}
    for c in cycles:
        for kind, text in kinds.items():
            found, mine = c[kind], kind.removeprefix("new_")
            if not found or not found["n"]:
                continue
            own = mine == kind
            table.add_row(
                str(c["cycle"]),
                text,
                _plain(c[f"alpha_{mine}"]) if own else "",
                _milli(c[f"floor_{mine}"], 1) if own else "",
                *(_plain(found[name]) for name in ("rms_z", "coverage_1", "coverage_2")),
                _milli(found["crps"], 1),
                _plain(found["spearman"]),
                f"{found['n']:.0f}",
            )
    return table


def inspect_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Selected structures, one a row."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "cycle", "formula", "sigma E (raw)\nmeV", "sigma atom (raw)\nmeV", "sigma F (raw)\nmeV/Å",
                 "grade", "weight", "status", "error\nmeV/atom", "reason"):  # fmt: skip
        table.add_column(name, justify="left" if name in {"id", "formula", "status", "reason"} else "right")
    for row in rows:
        error = row["energy_error"]
        table.add_row(
            row["id"][:12],
            str(row["cycle"]),
            row["formula"],
            f"{_milli(row['energy_sigma'], 1)} ({_milli(row['energy_spread'], 1)})",
            f"{_milli(row['largest_atom_sigma'], 1)} ({_milli(row['largest_atom_spread'], 1)})",
            f"{_milli(row['largest_force_sigma'], 0)} ({_milli(row['largest_force_spread'], 0)})",
            _grade(row["largest_grade"]),
            _plain(row["smallest_weight"]),
            row["status"],
            "" if error is None else f"{error:+.2f}",
            row["failure"] or row["reason"],
        )
    return table


def _is_there(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _pressure(value: float | None) -> str:
    """From eV/Å^3 to GPa."""
    return _plain(None if value is None else _GPA * value)


def _milli(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{1e3 * value:.{digits}f}"


def _short(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2g}"


def _grade(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3g}"


def _plain(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"
