"""Model errors where members differ by many kT: members that drive walkers themselves beside the cumulant expansion.

Usage: python tests/benchmarks/drive_members.py [--seeds 24] [--workers 2] [--folder FOLDER] [--only harmonic|liquid].
About ten minutes for the first table and 50 for the second on two cores; what the second needs is kept in the folder
and not done twice.

==================  ================================================================================================
table               what
==================  ================================================================================================
harmonic wells      16 members and the truth, all drawn from one distribution: wells in ten dimensions whose centres
                    scatter so that energies differ by h kT, with widths of some per cent more or less. All averages
                    are known exactly. 100 draws for each h, correlated frames, as many of the run of the mean as of
                    all members' walkers together
Lennard-Jones       the liquid of averages_coverage.py; committees of 16 fitted to 12 frames, by their energies alone,
                    which leaves members apart by kT, and with forces. Each member drives 1000 steps, and before them
                    1000 to reach equilibrium; the mean 16 times 1000
==================  ================================================================================================

Shares of cases in which the truth is within one error (0.68 is ideal; of the wells 0.66, as 16 members tell a standard
deviation with an error of their own), and root mean squares of error over error (1; 1.1). A member that knows little
may leave what labels know, to where averages mean nothing, which its extrapolation grade tells. Model: of the wells the
model error against the members' exact averages, without any statistical error; of the liquid the model error by itself.
Exit code 1 when members that drive themselves miss the ideal share of the total error by more than 0.1 and by two of
its standard errors; but for committees of energies alone, whose calibration by twelve of them is rough whatever drives.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each worker
sys.path.insert(0, str(Path(__file__).parent))

import alflow
import averages_coverage as coverage
import numpy as np
from alflow.averages.measuring import Batch, Source, average
from alflow.averages.members import average_members
from alflow.averages.reweighting import Chunk, Quantity, Reweighted, reweight

example = coverage.example

MEMBERS = 16
HS, DRAWS = (0.3, 1.0, 2.0, 3.0, 5.0, 10.0), 100
DIMENSIONS, WIDTHS, FRAMES, MEMORY = 10, 0.03, 250, 2.0  # of the wells; frames of a member, their correlation time
WELLS = ("position", "energy", "square")
SETTINGS = {"energies alone": {"force_weight": 0.0}, "with forces": {}}
STEPS, BEFORE = 1000, 1000
STRANGE = 1e3  # extrapolation grade of what no label is like
FAR, ERRORS = 0.1, 2.0


# Harmonic wells


class Wells:
    """Members, and as the last one the truth: energies in kT."""

    def __init__(self, h: float, rng: np.random.Generator) -> None:
        self.rng = rng
        self.centres = rng.normal(scale=h / np.sqrt(DIMENSIONS), size=(MEMBERS + 1, DIMENSIONS))
        self.stiffness = np.exp(rng.normal(scale=WIDTHS, size=MEMBERS + 1))
        self.zero = rng.normal(scale=h, size=MEMBERS + 1)

    def energies(self, x: np.ndarray) -> np.ndarray:
        apart = np.sum((x[:, None] - self.centres[:MEMBERS]) ** 2, axis=2)
        return 0.5 * self.stiffness[:MEMBERS] * apart + self.zero[:MEMBERS]

    def run(self, centre: np.ndarray, stiffness: float, n: int) -> np.ndarray:
        """Correlated frames of a well."""
        memory = np.exp(-1 / MEMORY)
        kicks = self.rng.normal(size=(n, DIMENSIONS))
        x = np.empty_like(kicks)
        x[0] = kicks[0]
        for k in range(1, n):
            x[k] = memory * x[k - 1] + np.sqrt(1 - memory**2) * kicks[k]
        return centre + x / np.sqrt(stiffness)

    @property
    def exact(self) -> list[np.ndarray]:
        """Averages of the quantities with each, the truth last."""
        square = DIMENSIONS / self.stiffness + np.sum(self.centres**2, axis=1)
        return [self.centres[:, 0], 0.5 * DIMENSIONS + self.zero, square]

    def by_members(self) -> Reweighted:
        walks = [self.run(self.centres[m], self.stiffness[m], FRAMES) for m in range(MEMBERS)]
        chunks = [self.chunk(m, x, self.energies(x)[:, m]) for m, x in enumerate(walks)]
        return average_members(chunks, lambda: chunks, [Quantity(name) for name in WELLS], 1.0, range(MEMBERS))

    def by_mean(self) -> Reweighted:
        k = self.stiffness[:MEMBERS]
        centre = k @ self.centres[:MEMBERS] / k.sum()
        x = self.run(centre, k.mean(), MEMBERS * FRAMES)
        chunk = self.chunk(0, x, self.energies(x).mean(axis=1))
        return reweight([chunk], [Quantity(name) for name in WELLS], 1.0, method="cea")

    def chunk(self, walker: int, x: np.ndarray, driving: np.ndarray) -> Chunk:
        energies = self.energies(x)
        return Chunk(walker, energies, driving, (x[:, :1], energies[:, None, :], np.sum(x**2, axis=1)[:, None]))


def wells() -> bool:
    """Print the first table."""
    head = "model error: within 1, rms z   total error: within 1, rms z"
    print(f"harmonic wells, {DRAWS} draws each\n   h  method           {head}")
    good = True
    for h in HS:
        rng = np.random.default_rng(int(1000 * h))
        z: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"members": [], "CEA": []}
        methods = []
        for _ in range(DRAWS):
            one = Wells(h, rng)
            exact = np.array(one.exact)
            truth, mean = exact[:, -1], exact[:, :-1].mean(axis=1)
            for name, found in (("members", one.by_members()), ("CEA", one.by_mean())):
                value, model, total = (
                    np.array([getattr(a, key)[0] for a in found.averages]) for key in ("value", "model", "total")
                )
                z[name].append(((mean - truth) / model, (value - truth) / total))
                if name == "members":
                    methods.append(found.method)
        for name, of in z.items():
            model, total = (np.array(x) for x in zip(*of, strict=True))
            used = f"members {methods.count('mbar')} MBAR, {methods.count('own')} own" if name == "members" else name
            print(f"{h:4g}  {used}")
            for k, quantity in enumerate(WELLS):
                print(f"        {quantity:18} {told(model[:, k])}             {told(total[:, k])}", flush=True)
                good &= name != "members" or right(total[:, k])
    return good


# Lennard-Jones


def committee(folder: Path, seed: int, setting: str) -> alflow.Committee:
    path = folder / f"committee-{seed:02d}-{setting.replace(' ', '-')}.h5"
    if not path.exists():
        frames = starts(folder, seed)
        labelled = [example.labelled(frame, example.truth()) for frame in frames]
        alflow.fit(labelled, n_members=MEMBERS, seed=seed, **SETTINGS[setting]).save(path)
    return alflow.load(path)


def starts(folder: Path, seed: int) -> list:
    positions = coverage.true(folder, seed)["positions"]
    return coverage.structures(positions[(np.arange(12) + 1) * len(positions) // 12 - 1])


def driven(folder: Path, seed: int, setting: str) -> coverage.Arrays:
    """Runs of the members, one after the other, and of their mean."""
    model, begin = committee(folder, seed, setting), starts(folder, seed)
    out: coverage.Arrays = {}
    for member in (None, *range(MEMBERS)):
        atoms = begin[(member or 0) % len(begin)].copy()
        atoms.calc = model.calculator(member=member)
        run = example.dynamics(atoms, 3000 + 100 * seed + (MEMBERS if member is None else member))
        run.run(BEFORE)
        frames: dict[str, list] = {"positions": [], "energies": [], "driving": []}
        for _ in range((STEPS if member is not None else MEMBERS * STEPS) // example.STRIDE):
            run.run(example.STRIDE)
            frames["positions"].append(atoms.positions.copy())
            frames["energies"].append(atoms.calc.results["committee_energies"])
            frames["driving"].append(atoms.get_potential_energy())
        out |= {f"{member} {key}": np.array(value) for key, value in frames.items()}
    return out


def batches(runs: coverage.Arrays, members: tuple[int | None, ...]) -> Iterator[Batch]:
    for walker, member in enumerate(members):
        positions, energies, driving = (runs[f"{member} {key}"] for key in ("positions", "energies", "driving"))
        yield Batch(walker, energies, driving, coverage.structures(positions))


def averages_of(folder: Path, seed: int, setting: str) -> coverage.Arrays:
    name = setting.replace(" ", "-")
    runs = coverage.kept(folder / f"members-{seed:02d}-{name}.npz", driven, folder, seed, setting)
    every = tuple(range(MEMBERS))
    by_members = Source("members", example.TEMPERATURE, None, MEMBERS, lambda: batches(runs, every), (), every)
    by_mean = Source("mean", example.TEMPERATURE, None, 1, lambda: batches(runs, (None,)))
    found = average(by_members, example.OBSERVABLES)
    out = coverage.numbers(found, "members") | {"mbar": np.array(found.method == "mbar"), "h": found.h_spread}
    model, ends = committee(folder, seed, setting), [runs[f"{m} positions"][-1:] for m in (None, *every)]
    out["grades"] = np.array(
        [model.grade(coverage.structures(end)[0]).max() for end in ends]
    )  # of the mean's run first
    return out | coverage.numbers(average(by_mean, example.OBSERVABLES, method="cea"), "cea")


def averages_kept(folder: Path, seed: int, setting: str) -> coverage.Arrays:
    name = setting.replace(" ", "-")
    return coverage.kept(folder / f"averages-{seed:02d}-{name}.npz", averages_of, folder, seed, setting)


def liquid(folder: Path, seeds: int, workers: int) -> bool:
    """Print the second table."""
    folder.mkdir(exist_ok=True)
    coverage.compare_with_ase()
    good = True
    with ProcessPoolExecutor(workers) as pool:
        for done in as_completed([pool.submit(coverage.true, folder, seed) for seed in range(seeds)]):
            done.result()
        truth = coverage.kept(folder / f"true-averages-{seeds}.npz", coverage.true_averages, folder, seeds)
        for setting in SETTINGS:
            waiting = [pool.submit(averages_kept, folder, seed, setting) for seed in range(seeds)]
            for number, done in enumerate(as_completed(waiting), 1):
                done.result()
                print(f"{setting} {number}/{seeds}", file=sys.stderr, flush=True)
            found = [one.result() for one in waiting]
            spread = np.median([one["h"] for one in found])
            mbar = sum(bool(one["mbar"]) for one in found)
            print(f"Lennard-Jones, 12 frames {setting}: h {spread:.2g} (median), MBAR for {mbar} of {seeds} seeds")
            gone = [np.sum(one["grades"][1:] > STRANGE) for one in found]
            print(f"  in {np.count_nonzero(gone)} seeds a member left what labels know, {sum(gone)} in all")
            for name in ("members", "members that all stayed", "cea"):
                some = [
                    one for one, left in zip(found, gone, strict=True) if not left or name != "members that all stayed"
                ]
                for quantity in coverage.QUANTITIES:
                    of = coverage.cases(some, truth, name.split()[0], quantity)
                    alone = (of.value - of.truth) / np.where(of.model > 0, of.model, np.nan)
                    share = np.median(of.model / of.statistical)
                    by_model = told(alone) if share > 1 else "statistical errors rule"
                    print(f"  {name:23} {quantity:12} model/statistical {share:5.2f}   {by_model:23}   {told(of.z)}")
                    good &= name == "cea" or setting == "energies alone" or right(of.z)
    return good


# Both


def told(z: np.ndarray) -> str:
    """Share within one error with its standard error, and the root mean square; a row for each independent case."""
    rows = z.reshape(len(z), -1)
    of_rows = np.nanmean(np.abs(rows) < 1, axis=1)
    error = of_rows.std(ddof=1) / np.sqrt(len(of_rows))
    return f"{of_rows.mean():.2f} ± {error:.2f}  {np.sqrt(np.nanmean(rows**2)):5.2f}"


def right(z: np.ndarray) -> bool:
    of_rows = np.mean(np.abs(z.reshape(len(z), -1)) < 1, axis=1)
    away = abs(of_rows.mean() - 0.68)
    return away < FAR or away < ERRORS * of_rows.std(ddof=1) / np.sqrt(len(of_rows))


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=24, help="committees of the liquid, of each kind")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("drive-members"))
    parser.add_argument("--only", choices=["harmonic", "liquid"])
    arguments = parser.parse_args()
    good = True
    if arguments.only != "liquid":
        good &= wells()
    if arguments.only != "harmonic":
        good &= liquid(arguments.folder, arguments.seeds, arguments.workers)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
