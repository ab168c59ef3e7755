"""Whether the errors that averages are given are right: how often the truth lies within them.

Usage: python tests/benchmarks/averages_coverage.py [--seeds 200] [--runs 120] [--steps 24000] [--workers 2] [--folder
FOLDER] [--plot PNG]. About an hour and a half on two cores; everything is kept in the folder and not done twice.

The truth is the Lennard-Jones liquid of examples/averages/averages.py. For each seed a run that the truth drives gives
training frames. Of the first seeds a committee of 16, fitted to 20 frames, drives a run of its own, from which g(r),
the mean energy and a free-energy difference are computed in the ensembles of its members. The true averages are those
of all runs of the truth together. A case is a seed (of g(r): a seed and a bin where g(r) > 0.1; neighbouring bins, and
bins of one seed, are correlated, so errors of shares are from the scatter between seeds). z is (value - truth)/error.

==================  ================================================================================================
table               what
==================  ================================================================================================
N steps             the first N steps of the committee's run: the shorter, the more does the statistical error rule
the run alone       runs of the truth with its own statistical error: no model error is there
the model alone     no run at all: averages over frames of the runs of all seeds, reweighted to each member, less the
                    plain average of the very same frames, which is exact. Committees of all seeds, fitted to 12, 20, 40
                    and 120 frames in turn: of each size, and all together
==================  ================================================================================================

Labels are those of ASE's calculator; long runs of the truth use a compiled copy, which is compared with it first. Exit
code 1 when a share within one sigma of the model error is not in 0.60 to 0.76, all sizes together, or one of the total
error, at any length, is more than two of its standard errors away from 0.68.
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
from alflow.averages.observables.base import Frame
from alflow.averages.reweighting import Chunk, Quantity, Reweighted, reweight
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

import averages as example

Arrays = dict[str, np.ndarray]

FRAMES, MEMBERS = 20, 16
SIZES = (12, 20, 40, 120)  # training frames of the committees of one seed after the other, for the model alone
TRUTH_STEPS = 25_000  # of each seed's run of the truth
POOLED = 10_000  # frames of all these runs for the model alone
COVERAGE, NORMAL = (0.60, 0.76), 0.68
QUANTITIES = ("g(r)", "energy", "free energy")


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


def committee(folder: Path, seed: int, frames: int = FRAMES) -> alflow.Committee:
    path = folder / f"committee-{seed:02d}-{frames}.h5"
    if not path.exists():
        positions = true(folder, seed)["positions"]
        # Evenly spaced, the last frame of the run the last.
        chosen = positions[(np.arange(frames) + 1) * len(positions) // frames - 1]
        alflow.fit(
            [example.labelled(frame, example.truth()) for frame in structures(chosen)], n_members=MEMBERS, seed=seed
        ).save(path)
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


def pooled(folder: Path, seeds: int) -> Arrays:
    """Frames of all runs of the truth, their energies, and what does not depend on a committee.

    Of an atom's energy that is its features, by the basis of the first committee: others differ in their coefficients
    and, where atoms are nearer than in their training set, in a core that holds these apart; few have another basis.
    """
    runs = [true(folder, seed) for seed in range(seeds)]
    each = POOLED // seeds
    chosen = [(np.arange(each) + 1) * len(run["driving"]) // each - 1 for run in runs]
    found = {
        key: np.concatenate([run[key][k] for run, k in zip(runs, chosen, strict=True)])
        for key in ("positions", "driving")
    }
    bare = committee(folder, 0).model.descriptor.with_inner(np.zeros((1, 1)))
    features, shortest, parts = [], [], {name: [] for name in QUANTITIES[::2]}
    for atoms in structures(found["positions"]):
        env = bare.environment(atoms)
        features.append(bare.features(env).sum(axis=1))
        shortest.append(bare.shortest(env.pairs)[0, 0])
        frame = Frame(atoms, np.zeros(2), example.TEMPERATURE, None)
        for name, observable in zip(parts, example.OBSERVABLES[::2], strict=True):
            parts[name].append(observable.parts(frame))
    arrays = {name: np.array(values) for name, values in parts.items()}
    basis = {"features": np.array(features), "cutoff": np.array(bare.functions.cutoff)}
    return found | arrays | basis | {"shortest": np.array(shortest)}


_pooled: Arrays = {}  # of this process: read once


def frames_of_all(folder: Path, seeds: int) -> Arrays:
    if not _pooled:
        _pooled.update(kept(folder / f"pooled-{seeds}.npz", pooled, folder, seeds))
    return _pooled


def members_energies(model: alflow.Committee, frames: Arrays) -> np.ndarray:
    """Calibrated energies of the members at the pooled frames, shape (n, M)."""
    n_atoms, basis = frames["positions"].shape[1], model.model.descriptor
    raw = np.zeros((len(frames["driving"]), model.n_members))
    known = (basis.basis.n_features, basis.functions.cutoff) == (frames["features"].shape[1], frames["cutoff"])
    if known:
        raw = frames["features"] @ model.model.coefficients[0] + n_atoms * model.model.constants[0]
    apart = known & (frames["shortest"] > basis.functions.inner[0, 0])
    near = np.flatnonzero(~apart)
    for k, atoms in zip(near, structures(frames["positions"][near]), strict=True):
        raw[k] = model.forward(atoms).energies
    mean = raw.mean(axis=1, keepdims=True)
    return mean + model.judgement.energy.factor * (raw - mean)


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


def averages_of(folder: Path, seed: int, steps: int) -> Arrays:
    """Of the runs of one seed."""
    out: Arrays = {}
    run = production(folder, seed, steps)
    for length in lengths(steps):
        out |= numbers(example.averages([batch(run, length // example.STRIDE)]), str(length))
    return out | numbers(example.averages([batch(true(folder, seed), steps // example.STRIDE)]), "run")


def model_alone(folder: Path, seed: int, seeds: int) -> Arrays:
    """Averages with the members of a committee, and the plain ones of the same frames."""
    frames, size = frames_of_all(folder, seeds), SIZES[seed % len(SIZES)]
    model = committee(folder, seed, size)
    model.threads = 1
    energies, driving = members_energies(model, frames), frames["driving"]
    values = [frames["g(r)"], energies[:, None, :], frames["free energy"]]
    quantities = [Quantity(o.text, o.finish) for o in example.OBSERVABLES]
    found = reweight([Chunk(0, energies, driving, values)], quantities, example.EPSILON, drop=0.0)
    out = numbers(found, "model") | {"size": np.array(size), "alpha": np.array(model.judgement.energy.factor)}
    plain = [found.averages[0].driven, np.array([driving.mean()]), found.averages[2].driven]
    for quantity, driven in zip(QUANTITIES, plain, strict=True):
        out[f"model {quantity} plain"] = driven
    return out | {"error": (energies.mean(axis=1) - driving) / example.EPSILON}


def lengths(steps: int) -> list[int]:
    """Of the tables, in steps."""
    return [steps // 8, steps // 3, steps]


def true_averages(folder: Path, seeds: int) -> Arrays:
    """Of all runs of the truth, and their errors: from the scatter between runs, and alflow's."""
    found = example.averages([batch(true(folder, seed), None, seed) for seed in range(seeds)])
    return numbers(found, "truth")


def kept_averages(folder: Path, seed: int, steps: int) -> Arrays:
    return kept(folder / f"averages-{seed:02d}-{steps}.npz", averages_of, folder, seed, steps)


def kept_model_alone(folder: Path, seed: int, seeds: int) -> Arrays:
    return kept(folder / f"model-{seed:02d}-{seeds}.npz", model_alone, folder, seed, seeds)


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


def row(name: str, quantity: str, of: Cases) -> tuple[str, float, float]:
    """A line of the table, the share within one error, and its standard error."""
    z = of.z
    (one, error), (two, _) = share(z, 1), share(z, 2)
    statistical = rms(of.statistical)
    ratio = f"{rms(of.model) / statistical:12.2f}" if statistical and rms(of.model) else " " * 12
    line = f"{name:16s} {quantity:12s}{ratio}{one:10.2f} +- {error:.2f} {two:6.2f} {rms(z):6.2f}"
    line += f" {np.median(np.abs(z)):11.2f} {z.mean():6.2f}"
    if ratio.strip():
        alone = (of.value - of.truth) / of.statistical
        line += f"{share(alone, 1)[0]:12.2f} {rms(alone):6.2f}"
    return line, one, error


def report(found: list[Arrays], alone: list[Arrays], truth: Arrays, steps: int) -> bool:
    """Print the tables; whether all is within its bounds."""
    kT = example.EPSILON
    print(f"direct reweighting, at full length: {sum(int(one[f'{steps} direct']) for one in found)} of {len(found)}")
    for quantity in QUANTITIES[1:]:
        value = truth[f"truth {quantity} value"][0]
        print(f"true {quantity}: {value / kT:.4f} kT +- {truth[f'truth {quantity} statistical'][0] / kT:.4f}")
    print(
        "\n                                model/             z with the total error              statistical alone\n"
        "                              statistical  within 1      2    rms  median |z|   mean    within 1    rms"
    )
    good = True
    for name in [*map(str, lengths(steps)), "run"]:
        for quantity in QUANTITIES:
            title = "the run alone" if name == "run" else f"{name} steps"
            line, one, error = row(title, quantity, cases(found, truth, name, quantity))
            missed = name != "run" and abs(one - NORMAL) > 2 * error
            good &= not missed
            print(line + ("  MISSED" if missed else ""))
    print(f"\nthe model alone, {len(alone)} committees")
    for size in [*SIZES, None]:
        these = [one for one in alone if size is None or one["size"] == size]
        alpha, error = (np.array([one[key] for one in these]) for key in ("alpha", "error"))
        for quantity in QUANTITIES:
            line, one, _ = row(
                "all sizes" if size is None else f"{size} frames", quantity, cases(these, truth, "model", quantity)
            )
            missed = size is None and not COVERAGE[0] <= one <= COVERAGE[1]
            good &= not missed
            print(line + ("  MISSED" if missed else ""))
        low, high = np.percentile(alpha, (10, 90))
        print(
            f"    alpha {np.median(alpha):.2f} ({low:.2f} to {high:.2f}); error of a frame's energy {rms(error):.3f} kT"
        )
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
    parser.add_argument("--seeds", type=int, default=200, help="committees, for the model alone")
    parser.add_argument("--runs", type=int, default=120, help="of them, that drive a run of their own")
    parser.add_argument("--steps", type=int, default=24_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("averages-coverage"))
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    folder, seeds, steps = arguments.folder, arguments.seeds, arguments.steps
    runs = range(arguments.runs)
    folder.mkdir(exist_ok=True)
    compare_with_ase()
    with ProcessPoolExecutor(arguments.workers) as pool:

        def all_of(stage, function, numbers, *more):
            waiting = [pool.submit(function, folder, seed, *more) for seed in numbers]
            for done, future in enumerate(as_completed(waiting), 1):
                future.result()
                print(f"{stage} {done}/{len(waiting)}", file=sys.stderr, flush=True)
            return [future.result() for future in waiting]

        all_of("truth", true, range(seeds))
        frames_of_all(folder, seeds)
        alone = all_of("model", kept_model_alone, range(seeds), seeds)
        truth = kept(folder / f"truth-{seeds}.npz", true_averages, folder, seeds)
        all_of("run", production, runs, steps)
        found = all_of("averages", kept_averages, runs, steps)
    good = report(found, alone, truth, steps)
    if arguments.plot is not None:
        plot(found, truth, steps, arguments.plot)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
