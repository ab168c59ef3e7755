"""Whether the errors that averages are given are right: how often the truth lies within them.

Usage: python tests/benchmarks/averages_coverage.py [--seeds 40] [--steps 24000] [--workers 2] [--folder FOLDER] [--plot
PNG]. About half an hour on two cores; everything is kept in the folder and not done twice.

The truth is the Lennard-Jones liquid of examples/averages/averages.py. For each seed a run that the truth drives gives
20 training frames; a committee of 16 drives a run of its own, from which g(r), the mean energy and a free-energy
difference are computed in the ensembles of its members. The true averages are those of all runs of the truth together.
A case is a seed (of g(r): a seed and a bin where g(r) > 0.1; neighbouring bins, and bins of one seed, are correlated,
so errors of shares are from the scatter between seeds). z is (value - truth)/error.

==================  ================================================================================================
table               what
==================  ================================================================================================
N steps             the first N steps of the committee's run: the shorter, the more does the statistical error rule
the model alone     the members reweighted from frames of all runs of the truth, less the plain average of the very
                    same frames: hardly any statistical error is left, so z judges the model error by itself
the run alone       runs of the truth with its own statistical error: no model error is there
==================  ================================================================================================

Labels are those of ASE's calculator; long runs of the truth use a compiled copy, which is compared with it first. Exit
code 1 when the share within one sigma of the total error is not in 0.55 to 0.80, at full length, for any of the three.
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each worker
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "averages"))

import alflow
import numba
import numpy as np
from alflow.averages.measuring import Batch
from alflow.averages.reweighting import Reweighted
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

import averages as example

Arrays = dict[str, np.ndarray]

FRAMES, MEMBERS = 20, 16
TRUTH_STEPS = 50_000  # of each seed's run of the truth
POOLED = 2500  # frames of all these runs for the model alone
COVERAGE = (0.55, 0.80)
QUANTITIES = ("g(r)", "energy", "free energy")
OTHERS = {"model": "the model alone", "run": "the run alone"}


# The truth


@numba.njit
def lennard_jones(x, side, epsilon, sigma, cutoff):
    """Energy and forces of ase.calculators.lj.LennardJones(smooth=True) in a cube of at least ``cutoff``."""
    forces = np.zeros_like(x)
    energy = 0.0
    for i in range(len(x)):
        for j in range(i):
            near_x, near_y, near_z = x[i, 0] - x[j, 0], x[i, 1] - x[j, 1], x[i, 2] - x[j, 2]
            for a in range(-1, 2):
                dx = near_x + side * (a - np.round(near_x / side))
                if abs(dx) >= cutoff:
                    continue
                for b in range(-1, 2):
                    dy = near_y + side * (b - np.round(near_y / side))
                    if dx**2 + dy**2 >= cutoff**2:
                        continue
                    for c in range(-1, 2):
                        dz = near_z + side * (c - np.round(near_z / side))
                        square = dx**2 + dy**2 + dz**2
                        if square >= cutoff**2:
                            continue
                        u, force = pair(square, epsilon, sigma, cutoff)
                        energy += u
                        for k, d in ((0, dx), (1, dy), (2, dz)):
                            forces[i, k] += force * d
                            forces[j, k] -= force * d
    return energy, forces


@numba.njit
def pair(square, epsilon, sigma, cutoff):
    """Energy of a pair, and the force over the distance, of a squared distance."""
    six = (sigma**2 / square) ** 3
    u, force = 4 * epsilon * (six**2 - six), 24 * epsilon * (2 * six**2 - six) / square
    rc, ro = cutoff**2, (0.66 * cutoff) ** 2
    if square > ro:
        smooth = (rc - square) ** 2 * (rc + 2 * square - 3 * ro) / (rc - ro) ** 3
        force = smooth * force - 12 * (rc - square) * (ro - square) / (rc - ro) ** 3 * u
        u *= smooth
    return u, force


class FastTruth(Calculator):
    """The compiled copy."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as ASE declares it

    def calculate(self, atoms=None, properties=(), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy, forces = lennard_jones(
            self.atoms.positions, example.SIDE, example.EPSILON, example.SIGMA, example.CUTOFF
        )
        self.results = {"energy": energy, "forces": forces}


def compare_with_ase() -> None:
    """The compiled copy is ASE's calculator, to rounding."""
    atoms = example.liquid()
    atoms.rattle(0.2, seed=0)
    one, other = (example.labelled(atoms, calculator) for calculator in (example.truth(), FastTruth()))
    np.testing.assert_allclose(one.get_potential_energy(), other.get_potential_energy(), rtol=1e-12)
    np.testing.assert_allclose(one.get_forces(), other.get_forces(), atol=1e-12)


# One seed


def kept(path: Path, make, *arguments) -> Arrays:
    """Arrays of a file, made if it is not there."""
    if not path.exists():
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, **make(*arguments))
        temporary.replace(path)
    with np.load(path) as data:
        return dict(data)


def true_run(seed: int) -> Arrays:
    atoms = example.liquid()
    atoms.calc = FastTruth()
    run = example.dynamics(atoms, 1000 + seed)
    run.run(2000)
    positions, energy = [], []
    for _ in range(TRUTH_STEPS // example.STRIDE):
        run.run(example.STRIDE)
        positions.append(atoms.positions.copy())
        energy.append(atoms.get_potential_energy())
    return {"positions": np.array(positions), "driving": np.array(energy)}


def structures(positions: np.ndarray) -> list[Atoms]:
    crystal = example.liquid()
    return [Atoms(crystal.numbers, x, cell=crystal.cell, pbc=True) for x in positions]


def committee(folder: Path, seed: int) -> alflow.Committee:
    path = folder / f"committee-{seed:02d}.h5"
    if not path.exists():
        frames = structures(true(folder, seed)["positions"])
        every = len(frames) // FRAMES
        chosen = [example.labelled(frame, example.truth()) for frame in frames[every - 1 :: every]]
        alflow.fit(chosen, n_members=MEMBERS, seed=seed).save(path)
    return alflow.load(path)


def committee_run(folder: Path, seed: int, steps: int) -> Arrays:
    start = structures(true(folder, seed)["positions"][-1:])[0]
    batch = example.produce(committee(folder, seed), start, steps, 2000 + seed)
    positions = np.array([frame.positions for frame in batch.frames])
    return {"positions": positions, "driving": batch.driving, "energies": batch.energies}


def true(folder: Path, seed: int) -> Arrays:
    return kept(folder / f"truth-{seed:02d}.npz", true_run, seed)


def production(folder: Path, seed: int, steps: int) -> Arrays:
    return kept(folder / f"run-{seed:02d}-{steps}.npz", committee_run, folder, seed, steps)


def pooled(folder: Path, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames of all runs of the truth, and their energies."""
    runs = [true(folder, seed) for seed in range(seeds)]
    every = max(1, seeds * len(runs[0]["driving"]) // POOLED)
    return tuple(np.concatenate([run[key][every - 1 :: every] for run in runs]) for key in ("positions", "driving"))


def batch(run: Arrays, frames: int, walker: int = 0) -> Batch:
    """The first frames of a run; of one that the truth drove, two members that are the truth."""
    driving = run["driving"][:frames]
    energies = run["energies"][:frames] if "energies" in run else np.column_stack([driving, driving])
    return Batch(walker, energies, driving, structures(run["positions"][:frames]))


def numbers(found: Reweighted, name: str) -> Arrays:
    """What is kept of averages."""
    out: Arrays = {f"{name} kept": np.array(found.kept), f"{name} direct": np.array(found.method == "direct")}
    for quantity, of in zip(QUANTITIES, found.averages, strict=True):
        for key in ("value", "statistical", "model", "members"):
            out[f"{name} {quantity} {key}"] = getattr(of, key)
    return out


def averages_of(folder: Path, seed: int, steps: int, seeds: int) -> Arrays:
    """Of every table; of the model alone without the plain average of the same frames."""
    out: Arrays = {}
    run = production(folder, seed, steps)
    for length in lengths(steps):
        out |= numbers(example.averages([batch(run, length // example.STRIDE)]), str(length))
    out |= numbers(example.averages([batch(true(folder, seed), steps // example.STRIDE)]), "run")
    positions, driving = pooled(folder, seeds)
    model = committee(folder, seed)
    energies = []
    for atoms in structures(positions):
        raw = model.forward(atoms).energies
        energies.append(raw.mean() + model.judgement.energy.factor * (raw - raw.mean()))
    found = example.averages(
        [batch({"positions": positions, "driving": driving, "energies": np.array(energies)}, None)]
    )
    out |= numbers(found, "model")
    plain = [found.averages[0].driven, np.array([driving.mean()]), found.averages[2].driven]
    for quantity, driven in zip(QUANTITIES, plain, strict=True):
        out[f"model {quantity} plain"] = driven
    h = (np.array(energies) - driving[:, None]) / example.EPSILON
    return out | {
        "alpha": np.array(model.judgement.energy.factor),
        "floor": np.array(model.judgement.energy.floor * np.sqrt(len(positions[0])) / example.EPSILON),
        "error": h.mean(axis=1),
        "spread": (h - h.mean(axis=1, keepdims=True)).astype(np.float32),
    }


def lengths(steps: int) -> list[int]:
    """Of the tables, in steps."""
    return [steps // 8, steps // 3, steps]


def true_averages(folder: Path, seeds: int) -> Arrays:
    """Of all runs of the truth, and their errors: from the scatter between runs, and alflow's."""
    found = example.averages([batch(true(folder, seed), None, seed) for seed in range(seeds)])
    return numbers(found, "truth")


# All seeds


@dataclass(frozen=True)
class Cases:
    """Of one quantity in one table; a row is a seed, a column a bin."""

    value: np.ndarray
    statistical: np.ndarray
    model: np.ndarray
    truth: np.ndarray

    @property
    def total(self) -> np.ndarray:
        return np.hypot(self.statistical, self.model)

    @property
    def z(self) -> np.ndarray:
        return (self.value - self.truth) / self.total


def cases(found: list[Arrays], truth: Arrays, name: str, quantity: str) -> Cases:
    """Seeds' averages beside the truth."""
    true_value = truth[f"truth {quantity} value"]
    used = true_value > 0.1 if quantity == "g(r)" else np.ones(1, dtype=bool)
    value, statistical, model = (
        np.array([one[f"{name} {quantity} {key}"][used] for one in found]) for key in ("value", "statistical", "model")
    )
    if name == "model":
        plain = np.array([one[f"{name} {quantity} plain"][used] for one in found])
        return Cases(value, np.zeros_like(model), model, plain)
    return Cases(value, statistical, model, true_value[used])


def share(z: np.ndarray, within: float) -> tuple[float, float]:
    """Of cases within so many errors, and its standard error from the scatter between seeds."""
    of_seeds = np.mean(np.abs(z) < within, axis=1)
    return float(of_seeds.mean()), float(of_seeds.std(ddof=1) / np.sqrt(len(of_seeds)))


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def report(found: list[Arrays], truth: Arrays, steps: int) -> bool:
    """Print the table; whether all is within its bounds."""
    kT = example.EPSILON
    alpha, floor, error = (np.array([one[key] for one in found]) for key in ("alpha", "floor", "error"))
    print(
        f"{len(found)} committees: alpha {np.median(alpha):.2f} ({alpha.min():.2f} to {alpha.max():.2f}), floor up to "
        f"{floor.max():.2f} kT; error of a structure's energy {rms(error):.2f} kT, "
        f"{rms(error.mean(axis=1)):.2f} kT in all structures alike"
    )
    print(f"direct reweighting, at full length: {sum(int(one[f'{steps} direct']) for one in found)} of {len(found)}")
    for quantity in QUANTITIES[1:]:
        value = truth[f"truth {quantity} value"][0]
        print(f"true {quantity}: {value / kT:.4f} kT +- {truth[f'truth {quantity} statistical'][0] / kT:.4f}")
    print(
        "\n                                model/             z with the total error              statistical alone\n"
        "                              statistical  within 1      2    rms  median |z|   mean    within 1    rms"
    )
    good = True
    for name in [*map(str, lengths(steps)), *OTHERS]:
        for quantity in QUANTITIES:
            of = cases(found, truth, name, quantity)
            (one, error_1), (two, _) = share(of.z, 1), share(of.z, 2)
            line = f"{OTHERS.get(name, f'{name} steps'):16s} {quantity:12s}"
            line += f"{rms(of.model) / rms(of.statistical):12.2f}" if name not in OTHERS else " " * 12
            z = of.z
            line += (
                f"{one:10.2f} +- {error_1:.2f} {two:6.2f} {rms(z):6.2f} {np.median(np.abs(z)):11.2f} {z.mean():6.2f}"
            )
            if name not in OTHERS:
                alone = (of.value - of.truth) / of.statistical
                line += f"{share(alone, 1)[0]:12.2f} {rms(alone):6.2f}"
            missed = name == str(steps) and not COVERAGE[0] <= one <= COVERAGE[1]
            good &= not missed
            print(line + ("  MISSED" if missed else ""))
    return good


def plot(found: list[Arrays], truth: Arrays, steps: int, path: Path) -> None:
    """g(r) of the first seed; the estimates of all seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    kT = example.EPSILON
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.5), width_ratios=(1.5, 1, 1), layout="constrained")
    grid = example.OBSERVABLES[0].grid
    value, statistical, model = (found[0][f"{steps} g(r) {key}"] for key in ("value", "statistical", "model"))
    true_value = truth["truth g(r) value"]
    shown = true_value > 0.1
    for error, name, colour in ((np.hypot(statistical, model), "total", "#9ecae1"), (model, "model", "#3182bd")):
        low, high = (value - error - true_value)[shown], (value + error - true_value)[shown]
        axes[0].fill_between(grid[shown], low, high, color=colour, label=f"{name} error")
    axes[0].plot(grid[shown], (value - true_value)[shown], color="black", linewidth=1, label="estimate")
    axes[0].axhline(0, color="tab:red", linewidth=1, label="truth")
    axes[0].set(xlabel="r / Å", ylabel="g(r) less the true g(r)", title="seed 0")
    inset = axes[0].inset_axes((0.62, 0.70, 0.36, 0.28))
    inset.plot(grid, true_value, color="tab:red", linewidth=1)
    inset.plot(grid, value, color="black", linewidth=1, linestyle=":")
    inset.set(xlim=(1.8, 3.7))
    inset.tick_params(labelsize=7)
    axes[0].legend(loc="lower right", fontsize=8)
    for axis, quantity in zip(axes[1:], QUANTITIES[1:], strict=True):
        of = cases(found, truth, str(steps), quantity)
        error = (of.value - of.truth)[:, 0] / kT
        axis.errorbar(error, range(len(found)), xerr=of.total[:, 0] / kT, fmt="o", markersize=3, color="#9ecae1")
        axis.errorbar(error, range(len(found)), xerr=of.model[:, 0] / kT, fmt="ko", markersize=3, ecolor="#3182bd")
        axis.axvline(0, color="tab:red", linewidth=1)
        inside = share(of.z, 1)[0]
        axis.set(
            xlabel="estimate less truth / kT",
            ylabel="seed",
            title=f"{quantity}: {100 * inside:.0f} % within total error",
        )
    figure.savefig(path, dpi=90)


def main() -> int:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=24_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("averages-coverage"))
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    folder, seeds, steps = arguments.folder, range(arguments.seeds), arguments.steps
    folder.mkdir(exist_ok=True)
    compare_with_ase()
    with ProcessPoolExecutor(arguments.workers) as pool:
        for stage, function, more in (("truth", true, ()), ("run", production, (steps,))):
            waiting = [pool.submit(function, folder, seed, *more) for seed in seeds]
            for done, future in enumerate(as_completed(waiting), 1):
                future.result()
                print(f"{stage} {done}/{len(waiting)}", file=sys.stderr, flush=True)
        made = [
            pool.submit(
                kept, folder / f"averages-{seed:02d}-{steps}-{len(seeds)}.npz", averages_of, folder, seed, steps,
                len(seeds),
            )
            for seed in seeds
        ]  # fmt: skip
        truth = kept(folder / f"truth-{len(seeds)}.npz", true_averages, folder, len(seeds))
        found = [future.result() for future in made]
    good = report(found, truth, steps)
    if arguments.plot is not None:
        plot(found, truth, steps, arguments.plot)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
