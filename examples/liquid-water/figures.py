"""The averages of the production run with both errors, beside those of GFN1-xTB itself, and how the model error fell.

python figures.py              # averages.png, cycles.png and a table, in a minute
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from alflow.averages.reweighting import Average
from alflow.report import averages, views
from alflow.sources.opening import observables, open_source
from alflow.sources.productions import is_production, read_beginning
from matplotlib.figure import Figure

HERE = Path(__file__).parent
OBSERVABLES = (
    "rdf O-O r_max=4.9 bins=98",
    "rdf O-H r_max=4.9 bins=98",
    "rdf H-H r_max=4.9 bins=98",
    "free_energy distance O-O 2.4..4.9 bins=50",
    "potential_energy",
    "heat_capacity",
    "hydrogen_bonds",
)
OF_CYCLES = "rdf O-O r_max=4.9 bins=49"


def draw(ax: Any, row: averages.Row, direct: dict[str, Any] | None, shift: float) -> None:
    """A curve with its errors, and the same of the direct trajectory."""
    a, x = row.average, row.grid
    ax.fill_between(
        x, a.value - a.total - shift, a.value + a.total - shift, color="C0", alpha=0.25, lw=0, label="total error"
    )
    ax.fill_between(
        x, a.value - a.model - shift, a.value + a.model - shift, color="C0", alpha=0.6, lw=0, label="model error"
    )
    ax.plot(x, a.value - shift, color="C0", lw=1, label="committee")
    if direct is not None:
        value, error = (np.array(direct[key], dtype=float) for key in ("value", "statistical"))
        ax.errorbar(x[::2], value[::2] - shift, error[::2], fmt=".", color="k", ms=3, lw=0.7, label="GFN1-xTB itself")
    ax.set_xlabel(row.grid_name)
    ax.set_ylabel(f"{row.text.split(' r_max')[0].split(' 2.4')[0]}{f' / {row.unit}' if row.unit else ''}")
    ax.legend(frameon=False, fontsize="small")


def of_production(report: averages.Report, direct: dict[str, Any], path: Path) -> None:
    """g(r) and the free energy."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    found = {row["observable"]: row for row in direct.get("averages", [])}
    for ax, row in zip(figure.subplots(2, 2).ravel(), report.rows[:4], strict=True):
        shift = float(np.nanmin(row.average.value)) if row.unit else 0.0
        draw(ax, row, found.get(row.text), shift)
    figure.savefig(path, dpi=110)


def of_cycles(run: Path, path: Path) -> None:
    """Largest model error of g_OO against labels: as assess recorded it, and of runs driven by each committee."""
    status = views.status(run)["cycles"]
    labels = np.cumsum([c["n_labelled"] for c in status])
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    ax = figure.subplots()
    # What a cycle samples is driven by the committee of the cycle before.
    errors = np.array([c["observable_error"] for c in status[1:]], dtype=float)
    noise = np.array([c["observable_noise"] for c in status[1:]], dtype=float)
    ax.errorbar(labels[:-1], errors, noise, fmt="o-", color="C1", label="in the loop, 2 ps a walker")
    points = []
    for folder in sorted((run / "production").glob("*")):
        if is_production(folder):
            report = averages.of_source(open_source(folder), observables([OF_CYCLES], folder))
            average: Average = report.rows[0].average
            k = int(np.nanargmax(average.model))
            points.append((labels[read_beginning(folder).cycle], average.model[k], average.model_noise[k]))
    for n, error, its in sorted(points):
        print(f"{n} labels: largest model error of g_OO {error:.3f} +- {its:.3f}")
    ax.errorbar(*np.array(sorted(points)).T, fmt="s-", color="C0", label="production runs")
    ax.set(xlabel="labels", ylabel="largest model error of g(r) O-O", yscale="log")
    ax.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Figures and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=HERE, help="the run directory")
    parser.add_argument("--output", type=Path, default=HERE, help="where figures go")
    options = parser.parse_args()
    folder = options.run / "production" / "run"
    report = averages.of_source(open_source(folder), observables(OBSERVABLES, folder))
    direct = json.loads((HERE / "direct.json").read_text()) if (HERE / "direct.json").exists() else {}
    print("\n".join(averages.lines(report)))
    found = {row["observable"]: row for row in direct.get("averages", [])}
    for row in report.rows[4:]:
        a = row.average
        errors = f"+- {a.statistical[0]:.4f} (statistical) +- {a.model[0]:.4f} (model)"
        print(f"{row.text}: {a.value[0]:.4f} {errors} {row.unit}")
        if row.text in found:
            value, error = (found[row.text][key][0] for key in ("value", "statistical"))
            print(f"    GFN1-xTB itself: {value:.4f} +- {error:.4f}")
    of_production(report, direct, options.output / "averages.png")
    of_cycles(options.run, options.output / "cycles.png")


if __name__ == "__main__":
    main()
