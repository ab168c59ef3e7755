"""An average with both its errors, from nothing: label, train, run, average, plot.

The truth is a Lennard-Jones liquid, 32 atoms at kT = epsilon and 0.8 atoms per sigma^3, by ASE's own calculator. A
committee learns it from 20 frames, drives a run, and says how wrong its averages may be.

    python averages.py                     # about a minute and a half; --steps 3000 is a taste

``tests/benchmarks/averages_coverage.py`` does this many times and compares with what the truth itself gives.
"""

import argparse
from pathlib import Path

import alflow
import numpy as np
from alflow import Committee
from alflow.averages.measuring import Batch, Source, average
from alflow.averages.observables.parsing import parse
from alflow.averages.reweighting import Average, Reweighted
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin

TEMPERATURE = 300.0  # K
EPSILON, SIGMA, CUTOFF = units.kB * TEMPERATURE, 2.2, 5.5  # eV, Å
SIDE = SIGMA * (32 / 0.8) ** (1 / 3)  # of the cell, Å
TIMESTEP, FRICTION = 10.0, 0.003  # fs (0.011 of the liquid's unit of time), 1/fs
STRIDE = 20  # steps between stored frames
OBSERVABLES = [
    parse(text)
    for text in (
        "rdf Ar-Ar r_max=3.7 bins=37",
        "potential_energy",
        "free_energy_difference distance Ar-Ar 2.0..2.6 2.9..3.5",
    )
]


def truth() -> Calculator:
    """The reference method."""
    return LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=CUTOFF, smooth=True)


def liquid() -> Atoms:
    """A crystal of the liquid's density, which melts at once."""
    return bulk("Ar", "fcc", a=SIDE / 2, cubic=True).repeat(2)


def dynamics(atoms: Atoms, seed: int) -> Langevin:
    """At constant volume and temperature."""
    rng = np.random.default_rng(seed)
    return Langevin(
        atoms, TIMESTEP * units.fs, temperature_K=TEMPERATURE, friction=FRICTION / units.fs, rng=rng, fixcm=False
    )


def labelled(atoms: Atoms, calculator: Calculator) -> Atoms:
    """A copy with the energy and the forces of a calculator."""
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=calculator)
    copy.calc = SinglePointCalculator(copy, energy=copy.get_potential_energy(), forces=copy.get_forces())
    return copy


def training_set(number: int, seed: int) -> list[Atoms]:
    """Frames of a run that the truth drives."""
    atoms = liquid()
    atoms.calc = truth()
    run = dynamics(atoms, seed)
    run.run(2000)
    frames = []
    for _ in range(number):
        run.run(100)
        frames.append(labelled(atoms, atoms.calc))
    return frames


def produce(committee: Committee, start: Atoms, steps: int, seed: int) -> Batch:
    """A run that the mean of a committee drives: structures, energies of the members, energy that drove it."""
    atoms = start.copy()
    atoms.calc = committee.calculator()
    run = dynamics(atoms, seed)
    run.run(1000)
    frames, members, driving = [], [], []
    for _ in range(steps // STRIDE):
        run.run(STRIDE)
        frames.append(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
        members.append(atoms.calc.results["committee_energies"])  # calibrated
        driving.append(atoms.get_potential_energy())
    return Batch(0, np.array(members), np.array(driving), frames)


def averages(batches: list[Batch]) -> Reweighted:
    """Of all observables, in the ensembles of all members."""
    source = Source("the run", TEMPERATURE, None, len(batches), lambda: iter(batches))
    return average(source, OBSERVABLES)


def plot(rdf: Average, path: Path) -> None:
    """The pair distribution with its errors."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for error, name in ((rdf.total, "total error"), (rdf.model, "model error")):
        axis.fill_between(OBSERVABLES[0].grid, rdf.value - error, rdf.value + error, alpha=0.4, label=name)
    axis.plot(OBSERVABLES[0].grid, rdf.value, color="black", linewidth=1)
    axis.set(xlabel="r / Å", ylabel="g(r)")
    axis.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Label, train, run, average, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="plot g(r)")
    arguments = parser.parse_args()
    frames = training_set(arguments.frames, arguments.seed)
    committee = alflow.fit(frames, n_members=16, seed=arguments.seed)
    found = averages([produce(committee, frames[-1], arguments.steps, seed=arguments.seed + 1)])
    print(f"{found.method}: {found.reason}; {found.independent:.0f} independent frames")
    for observable, of in zip(OBSERVABLES[1:], found.averages[1:], strict=True):
        print(
            f"{observable.name}: {of.value[0]:.4f} {observable.unit}, statistical error {of.statistical[0]:.4f}, "
            f"model error {of.model[0]:.4f}, total {of.total[0]:.4f}"
        )
    for note in found.notes:
        print(note)
    if arguments.plot is not None:
        plot(found.averages[0], arguments.plot)


if __name__ == "__main__":
    main()
