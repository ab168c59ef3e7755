"""The averages of the production run with both errors, beside those of GFN1-xTB itself, and how the model error fell.

python figures.py              # averages.png, cycles.png and a table, in a minute
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from alflow.averages.reweighting import Average
from alflow.averages.sources.opening import open_source
from alflow.averages.sources.productions import is_production, read_beginning
from alflow.report import averages
from alflow.report.status import status
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


def draw(ax: Any, below: Any, row: averages.Row, direct: dict[str, Any] | None) -> None:
    """A curve with both errors as a band, and the same of the direct trajectory; below it the errors by themselves."""
    a, x = row.average, row.grid
    shift = float(a.driven[np.isfinite(a.driven)].min()) if row.unit else 0.0
    ax.fill_between(x, a.value - a.total - shift, a.value + a.total - shift, color="C0", alpha=0.4, lw=0)
    ax.plot(x, a.value - shift, color="C0", lw=1, label="committee")
    if direct is not None:
        value, error = (np.array(direct[key], dtype=float) for key in ("value", "statistical"))
        ax.errorbar(x[::2], value[::2] - shift, error[::2], fmt=".", color="k", ms=3, lw=0.7, label="GFN1-xTB itself")
    ax.set_ylabel(f"{' '.join(row.text.split()[:3]).replace(' 2.4..4.9', '')}{f' / {row.unit}' if row.unit else ''}")
    if not row.unit:
        ax.set_ylim(-0.1, 3.7)
    ax.legend(frameon=False, fontsize="small")
    below.plot(x, a.model, color="C1", lw=1, label="model error")
    below.plot(x, a.statistical, color="C2", lw=1, label="statistical error")
    below.set_xlabel(row.grid_name)
    known = a.total[np.isfinite(a.total)]
    if len(known):
        below.set_ylim(0, 3 * float(np.quantile(known, 0.8)))
    below.legend(frameon=False, fontsize="small")


def of_production(report: averages.Report, direct: dict[str, Any], path: Path) -> None:
    """g(r) and the free energy."""
    figure = Figure(figsize=(15, 6), layout="constrained")
    found = {row["observable"]: row for row in direct.get("averages", [])}
    axes = figure.subplots(2, 4, height_ratios=[2, 1], sharex="col")
    for ax, below, row in zip(*axes, report.rows[:4], strict=True):
        draw(ax, below, row, found.get(row.text))
    figure.savefig(path, dpi=100)


def of_cycles(run: Path, path: Path) -> None:
    """Largest model error of g_OO against labels: as assess recorded it, and of runs driven by each committee."""
    cycles = status(run)["cycles"]
    labels = np.cumsum([c["n_labelled"] for c in cycles])
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    ax = figure.subplots()
    # What a cycle samples is driven by the committee of the cycle before.
    errors = np.array([c["observable_error"] for c in cycles[1:]], dtype=float)
    noise = np.array([c["observable_noise"] for c in cycles[1:]], dtype=float)
    ax.errorbar(labels[:-1], errors, noise, fmt="o-", color="C1", label="in the loop, 2 ps a walker")
    points = []
    for folder in sorted((run / "production").glob("*")):
        if is_production(folder):
            report = averages.of_source(open_source(folder), averages.observables([OF_CYCLES], folder))
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
    report = averages.of_source(open_source(folder), averages.observables(OBSERVABLES, folder))
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
