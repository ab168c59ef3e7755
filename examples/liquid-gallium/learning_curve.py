"""How the errors of a run fell from cycle to cycle: a table and cycles.png.

python learning_curve.py my-gallium
"""

import argparse
from pathlib import Path

from alflow.report.status import status
from matplotlib.figure import Figure


def main() -> None:
    """Errors on the labels of each cycle, against the number of labels learned before it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("--output", type=Path, default=Path("cycles.png"))
    args = parser.parse_args()
    every = status(args.run)["cycles"]
    cycles = every[1:]
    known = [sum(c["n_labelled"] for c in every[:k]) for k in range(1, len(every))]
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, key, what in zip(axes, ("force", "energy"), ("forces (meV/Å)", "energy (meV/atom)"), strict=True):
        ax.plot(known, [1e3 * c[f"{key}_rmse"] for c in cycles], "o-", label="before they were learned")
        ax.plot(known, [1e3 * c[f"{key}_rmse_after"] for c in cycles], "s--", label="after")
        ax.set(xlabel="labels learned before", ylabel=f"rms error of {what}", ylim=(0, None))
    axes[0].legend(frameon=False, fontsize="small", title="errors on a cycle's new labels")
    figure.savefig(args.output, dpi=100)
    print("labels | error of the next forces, meV/Å | energies, meV/atom | within one sigma: forces")
    for n, c in zip(known, cycles, strict=True):
        share = c["new_force"]["coverage_1"]
        print(f"{n:6} | {1e3 * c['force_rmse']:31.0f} | {1e3 * c['energy_rmse']:18.1f} | {share:.2f}")


if __name__ == "__main__":
    main()
