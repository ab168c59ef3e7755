"""Errors of the default settings over those of the best of a grid of settings chosen by hand, by size of training set.

Usage: python tests/benchmarks/learning_curves.py [DATA] [--sizes 10,30,100] [--seeds 3] [--sets Si,Cu,water,ethanol];
DATA holds mlearn_Si.train.xyz and so on (by default ../shared/data beside this repository). Two more sets are made here
and need no files: aluminium and an alloy of copper and gold, labelled by effective-medium theory (ASE). Root mean
square errors of test structures by committees of 8, the median over the seeds; and the usual error of forces, that of
the median test structure, as one or two wild ones decide on a root mean square. The grid: cutoffs of 4.5, 5.5 and 6.5 Å
with 150, 600, 1200 and the largest default number of features of all species (1250 for one or two of them, each). The
best of it is chosen for each error apart, by the test structures themselves: no rule can do as well.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import alflow
import ase.io
import numpy as np
from alflow.models.ace.settings import AceSettings
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

DATA = Path(__file__).parents[3] / "shared/data"
MEMBERS = 8
CUTOFFS, COLUMNS = (4.5, 5.5, 6.5), (150, 600, 1200, None)


def metal(symbols: str, side: float, seed: int, n: int) -> list[Atoms]:
    """Crystals of 32 atoms, displaced by 0.02 to 0.3 Å and strained, with energies and forces of EMT."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu", "fcc", a=side, cubic=True) * 2
        atoms.symbols[:] = rng.choice([symbols[:2], symbols[-2:]], len(atoms))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += rng.uniform(0.02, 0.3) * rng.normal(size=atoms.positions.shape)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def published(name: str, data: Path) -> tuple[list[Atoms], list[Atoms]]:
    """Structures to draw from, and to test on."""
    if name in {"Si", "Cu"}:
        pool, test = (ase.io.read(data / f"mlearn_{name}.{part}.xyz", ":") for part in ("train", "test"))
        return pool, test
    file, n_test = {"water": ("water_pbe0ts.xyz", 25), "ethanol": ("rmd17_ethanol.xyz", 300)}[name]
    frames = ase.io.read(data / file, ":")
    order = np.random.default_rng(0).permutation(len(frames))
    return [frames[k] for k in order[n_test:]], [frames[k] for k in order[:n_test]]


SETS: dict[str, Callable[[Path], tuple[list[Atoms], list[Atoms]]]] = {
    "Al EMT": lambda _: (metal("Al", 4.0, 0, 100), metal("Al", 4.0, 1, 30)),
    "CuAu EMT": lambda _: (metal("CuAu", 3.85, 0, 100), metal("CuAu", 3.85, 1, 30)),
    **{name: lambda data, name=name: published(name, data) for name in ("Si", "Cu", "water", "ethanol")},
}


def errors(train: list[Atoms], test: list[Atoms], seed: int, **settings: object) -> tuple[float, ...]:
    """Of energies, meV/atom, of forces, and of those of the median structure, meV/Å."""
    committee = alflow.fit(train, n_members=MEMBERS, seed=seed, **settings)
    energy, force = [], []
    for frame in test:
        mean = committee.drive(frame, "none")
        energy.append((mean.energy - frame.get_potential_energy()) / len(frame))
        force.append((mean.forces - frame.get_forces()).ravel())
    usual = np.median([np.mean(np.square(x)) for x in force])
    squares = np.mean(np.square(energy)), np.mean(np.square(np.concatenate(force))), usual
    return tuple(1e3 * float(np.sqrt(square)) for square in squares)


def compare(name: str, pool: list[Atoms], test: list[Atoms], size: int, seeds: int) -> None:
    """A line of the table."""
    n_species = len({z for frame in pool for z in frame.numbers})
    largest = AceSettings().features_of(n_species)
    grid = [{}] + [
        {"cutoff": cutoff, "n_features": largest if columns is None else min(columns // n_species, largest)}
        for cutoff in CUTOFFS
        for columns in COLUMNS
    ]
    found = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(pool))[:size]
        found.append([errors([pool[k] for k in order], test, seed, **settings) for settings in grid])
    median = np.median(found, axis=0)
    default, best, usual = median[0], median[1:].min(axis=0), median[1 + CUTOFFS.index(5.5) * len(COLUMNS) + 3]
    which = [grid[1 + int(k)] for k in median[1:].argmin(axis=0)]
    print(
        f"{name:9} {min(size, len(pool)):4}  {default[0]:7.3f} {default[1]:7.2f} {default[2]:7.2f}   "
        + " ".join(f"{ratio:5.2f}" for ratio in [*(default / best), *(default / usual)])
        + "   "
        + "; ".join(f"{s['cutoff']} Å, {s['n_features']}" for s in which),
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, default=DATA)
    parser.add_argument("--sizes", default="10,30,100")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", default=",".join(SETS))
    arguments = parser.parse_args()
    print("                errors: energies, forces,  over the best     over 5.5 Å and    best of the grid for each:")
    print("set          n  usual of forces            of the grid       all features      cutoff, features an atom")
    for name in arguments.sets.split(","):
        if name in {"Si", "Cu", "water", "ethanol"} and not (arguments.data / "mlearn_Si.train.xyz").exists():
            print(f"{name}: the published data are not there")
            continue
        pool, test = SETS[name](arguments.data)
        for size in map(int, arguments.sizes.split(",")):
            compare(name, pool, test, size, arguments.seeds)


if __name__ == "__main__":
    main()
