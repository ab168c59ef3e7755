"""Whether the calibrated uncertainties of energies and forces are right, on published data and structures never seen.

Usage: python tests/benchmarks/uncertainty.py [DATA] [--members M] [--seeds N] [--only NAME] [--shares]; DATA as in
potential_accuracy.py. Silicon, copper (train and test sets of mlearn together) and ethanol: fitted to a half drawn with
a seed, judged on the other half; water: to 30, 60 and 120 frames, judged on 100 others; for N seeds (by default four),
whose ratios of error and sigma are taken together. Force components that symmetry forbids (the members agree to 1 % of
their usual spread, and the error is below 10 % of the usual one) are left out; how many, and the coverage with them,
stand in the last columns. Exit code 1 when the share within one sigma is not in 0.60 to 0.76 or the root mean square
ratio not in 0.85 to 1.15; 77 where the data are not there.

With --shares it compares resampling schemes instead: members that see a quarter, a half or three quarters of the
structures: what two members of the design share, what one sees, what either of two sees.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import alflow
import ase.io
import numpy as np
from alflow.committee import resampling as implementation
from alflow.committee.calibration import reliability
from alflow.committee.reliability import Reliability
from ase import Atoms
from potential_accuracy import DATA

FILES = {
    "Si": ("mlearn_Si.train.xyz", "mlearn_Si.test.xyz"),
    "Cu": ("mlearn_Cu.train.xyz", "mlearn_Cu.test.xyz"),
    "water 30": ("water_pbe0ts.xyz",),
    "water 60": ("water_pbe0ts.xyz",),
    "water 120": ("water_pbe0ts.xyz",),
    "ethanol": ("rmd17_ethanol.xyz",),
}
COVERAGE, RATIO = (0.60, 0.76), (0.85, 1.15)


def halves(data: Path, name: str, seed: int) -> tuple[list[Atoms], list[Atoms]]:
    """Structures to fit to, and structures to judge by."""
    frames = [frame for file in FILES[name] for frame in ase.io.read(data / file, ":")]
    order = np.random.default_rng(seed).permutation(len(frames))
    first, last = len(frames) // 2, len(frames)
    if name.startswith("water"):
        first = int(name.split()[1])
        last = first + 100
    return [frames[k] for k in order[:first]], [frames[k] for k in order[first:last]]


def compare(committee: alflow.Committee, frames: list[Atoms]) -> dict[str, np.ndarray]:
    """Errors and sigmas of energies (2, n), and those and raw spreads of force components (3, n)."""
    energy, force = [], []
    for frame in frames:
        p = committee.predict(frame)
        energy.append([p.energy - frame.get_potential_energy(), p.energy_sigma])
        force.append(np.array([p.forces - frame.get_forces(), p.forces_sigma, p.forces_spread]).reshape(3, -1))
    return {"energy": np.array(energy).T, "force": np.concatenate(force, axis=1)}


def pooled(parts: list[np.ndarray]) -> tuple[Reliability, float]:
    """Reliability of several seeds together, and the coverage with what symmetry forbids."""
    values = np.concatenate(parts, axis=1)
    return reliability(*values), float(np.mean(np.abs(values[0]) < values[1]))


def measure(data: Path, members: int, seeds: int | None, names: list[str]) -> int:
    """Print the table; 0 when all is within its bounds."""
    print("                  seeds     RMSE  rms z  within  within   rank   CRPS/RMSE  left  within 1 sigma")
    print("                                         1 sigma 2 sigma  corr.              out  with those")
    missed = False
    for name in names:
        found: dict[str, list[np.ndarray]] = {"energy": [], "force": []}
        calibrations: dict[str, list[str]] = {"energy": [], "force": []}
        number = seeds or 4
        for seed in range(number):
            train, test = halves(data, name, seed)
            committee = alflow.fit(train, n_members=members, seed=seed)
            for kind, values in compare(committee, test).items():
                found[kind].append(values)
                c = getattr(committee.judgement, kind)
                calibrations[kind].append(f"{c.alpha:.2f}/{1e3 * c.floor:.1f}")
        for kind, parts in found.items():
            r, coverage = pooled(parts)
            rmse = float(np.sqrt(np.mean(np.concatenate(parts, axis=1)[0] ** 2)))
            good = COVERAGE[0] <= r.coverage_1 <= COVERAGE[1] and RATIO[0] <= r.rms_z <= RATIO[1]
            missed |= not good
            print(
                f"{name:9s} {kind:6s} {number:5d} {1e3 * rmse:8.2f} {r.rms_z:7.2f} {r.coverage_1:7.2f} "
                f"{r.coverage_2:7.2f} {r.spearman:7.2f} {r.crps / rmse:8.2f} "
                f"{r.n_forbidden / (r.n + r.n_forbidden):8.2f} {coverage:8.2f}{'' if good else '  MISSED'}",
                flush=True,
            )
            each = [f"{x.rms_z:.2f}/{x.coverage_1:.2f}" for x in (reliability(*part) for part in parts)]
            print(f"    of each seed, rms z / share within 1 sigma: {', '.join(each)}")
            print(f"    alpha / floor (meV, meV/Å): {', '.join(calibrations[kind])}", flush=True)
    return int(missed)


def shared(half: Callable[[int], np.ndarray], share: float, n_members: int) -> np.ndarray:
    """Which groups each member sees, of which half is a design."""
    seen = half(n_members)
    beside = np.roll(seen, 1, axis=0)
    return {0.25: seen & beside, 0.5: seen, 0.75: seen | beside}[share]


def compare_shares(data: Path, members: int) -> int:
    """Print accuracy, raw spread and calibration of three resampling schemes, seed 0."""
    print("           share seen    RMSE     alpha   rms z  within 1 sigma  rank corr.")
    half = implementation.seen_groups
    for name in ("Si", "Cu", "water 60", "ethanol"):
        train, test = halves(data, name, 0)
        for share in (0.25, 0.5, 0.75):
            implementation.seen_groups = partial(shared, half, share)
            committee = alflow.fit(train, n_members=members)
            for kind, values in compare(committee, test).items():
                r = reliability(*values)
                print(
                    f"{name:9s} {kind:6s} {share:.2f} {1e3 * np.sqrt(np.mean(values[0] ** 2)):8.1f} "
                    f"{getattr(committee.judgement, kind).alpha:9.2f} {r.rms_z:7.2f} {r.coverage_1:11.2f} "
                    f"{r.spearman:11.2f}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    n_members = int(arguments[arguments.index("--members") + 1]) if "--members" in arguments else 16
    n_seeds = int(arguments[arguments.index("--seeds") + 1]) if "--seeds" in arguments else None
    chosen = [arguments[arguments.index("--only") + 1]] if "--only" in arguments else list(FILES)
    folder = Path(arguments[0]) if arguments and not arguments[0].startswith("--") else DATA
    if not (folder / "mlearn_Si.train.xyz").exists():
        print(f"{folder}: the published data are not there", file=sys.stderr)
        sys.exit(77)
    if "--shares" in arguments:
        sys.exit(compare_shares(folder, n_members))
    sys.exit(measure(folder, n_members, n_seeds, chosen))
