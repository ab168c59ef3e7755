"""What it costs to mix many elements into few pseudo-species: errors, time and memory.

Usage: python tests/benchmarks/many_elements.py [--only errors|cost]. Some five minutes on one core.

Errors: committees of two members are fitted with the default features, which see three pseudo-species; with all
features, none of them mixed, as many as make the products of two densities complete up to the same level; and with
three pseudo-species of random weights, as in tensor-reduced ACE, Darby et al., Phys. Rev. Lett. 131, 028001 (2023),
doi:10.1103/PhysRevLett.131.028001. Of seven metals, alloys of two to seven of them labelled by ASE's EMT; of ten
elements, molecules that come of those of the G2 set by replacing atoms, labelled by GFN2-xTB. The structures that
errors are told of are displaced copies of molecules in the training set, and other alloys.

Cost: a committee is fitted to small crystals, as many as elements, and evaluated for one of 500 atoms.

Exit code 1 when the default features make more than 1.3 times the error of all, or 89 elements take more than 4 GB.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from unittest import mock

import alflow
import numpy as np
from alflow.committee.committee import Committee
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.collections import g2
from ase.optimize import BFGS

METALS = {"Al": 4.0, "Ni": 3.5, "Cu": 3.6, "Pd": 3.9, "Ag": 4.1, "Pt": 3.9, "Au": 4.1}  # Å, lattice constants
REPLACED = {"H": ["H"] * 5 + ["F", "Cl", "Br"], "C": ["C", "C", "C", "Si"], "N": ["N", "P"], "O": ["O", "S"]}
SIZES = {4: 4, 10: 4, 30: 4, 89: 16}  # members for a number of elements
WORST, MOST = 1.3, 4.0  # ratio of errors; GB


def labelled(atoms: Atoms, calculator: Calculator) -> Atoms:
    """A copy with energy and forces."""
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, calculator=calculator)
    results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces()}
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def alloys(number: int, rng: np.random.Generator) -> list[Atoms]:
    """Displaced and strained crystals of 32 atoms, of two to seven metals each."""
    frames = []
    for _ in range(number):
        some = rng.choice(list(METALS), rng.integers(2, len(METALS) + 1), replace=False)
        atoms = bulk("Cu", cubic=True).repeat(2)
        atoms.symbols = rng.choice(some, len(atoms))
        side = 2 * np.mean([METALS[symbol] for symbol in atoms.symbols]) * rng.uniform(0.97, 1.04)
        atoms.set_cell(side * np.eye(3) + 0.1 * rng.normal(size=(3, 3)), scale_atoms=True)
        atoms.positions += 0.12 * rng.normal(size=atoms.positions.shape)
        frames.append(labelled(atoms, EMT()))
    return frames


def molecules(copies: int, rng: np.random.Generator) -> list[list[Atoms]]:
    """Displaced copies of each molecule."""
    from tblite.ase import TBLite

    def method() -> Calculator:
        return TBLite(method="GFN2-xTB", verbosity=0)

    found = []
    for name in g2.names:
        start = molecule(name)
        organic = set(start.symbols) <= set(REPLACED) and len(start) >= 5
        if not organic or start.get_initial_magnetic_moments().any():
            continue
        for variant in range(3):
            atoms = Atoms(start.symbols, start.positions)
            if variant:
                atoms.symbols = [rng.choice(REPLACED[symbol]) for symbol in start.symbols]
                atoms.positions *= 1.15
            atoms.positions += 0.02 * rng.normal(size=atoms.positions.shape)
            displacements = 0.07 * rng.normal(size=(copies, len(atoms), 3))
            try:
                atoms.calc = method()
                BFGS(atoms, logfile=None).run(fmax=0.3, steps=60)
                if np.abs(atoms.get_forces()).max() > 1.0:
                    continue
                moved = [Atoms(atoms.symbols, atoms.positions + d) for d in displacements]
                found.append([labelled(one, method()) for one in moved])
            except RuntimeError:  # not converged
                continue
    return found


def random_weights(numbers: tuple[int, ...], n_pseudo: int) -> np.ndarray:
    """What takes the place of the weights by the periodic table."""
    weights = np.random.default_rng(0).normal(size=(n_pseudo, len(numbers)))
    return np.asarray(weights / np.linalg.norm(weights, axis=0))


def errors(committee: Committee, frames: Sequence[Atoms]) -> tuple[float, float]:
    """Root mean square errors: meV/atom, meV/Å."""
    energies, forces = [], []
    for frame in frames:
        prediction = committee.predict(frame)
        energies.append((prediction.energy - frame.get_potential_energy()) / len(frame))
        forces.append((prediction.forces - frame.get_forces()).ravel())
    return 1e3 * float(np.sqrt(np.mean(np.square(energies)))), 1e3 * float(np.std(np.concatenate(forces)))


def compare(name: str, training: list[Atoms], test: list[Atoms], every: int) -> bool:
    """Tell the errors; whether the default features do as well as ``every`` feature."""
    n_species = len({number for frame in training for number in frame.numbers})
    print(f"{name}: {len(training)} structures of {n_species} elements", flush=True)
    forces = {}
    for what, more in (
        ("default features", {}),
        ("all features", {"n_pseudo_species": n_species, "n_features": every}),
        ("random weights", {}),
    ):
        begin = time.perf_counter()
        with mock.patch("alflow.models.ace.fit.mixing", random_weights) if "random" in what else mock.MagicMock():
            committee = alflow.fit(training, n_members=2, **more)
        took = time.perf_counter() - begin
        energy, forces[what] = errors(committee, test)
        n = committee.model.descriptor.basis.n_features
        print(f"  {what:18s}{n:5d} features {took:6.0f} s {energy:8.2f} meV/atom {forces[what]:8.1f} meV/Å", flush=True)
    ratio = forces["default features"] / forces["all features"]
    print(f"  error of forces, default over all features: {ratio:.2f} (at most {WORST})", flush=True)
    return ratio <= WORST


def told() -> bool:
    """Tell all errors; whether they are small enough."""
    rng = np.random.default_rng(0)
    frames = alloys(160, rng)
    good = compare("alloys, EMT", frames[:100], frames[100:], 7 * 8 + 399)
    groups = molecules(3, rng)
    training = [frame for group in groups for frame in group[:-1]]
    return compare("molecules, GFN2-xTB", training, [group[-1] for group in groups], 10 * 8 + 365) and good


def cost(n_species: int) -> None:
    """Fit and evaluate so many elements, and print a line."""
    rng, n_members = np.random.default_rng(0), SIZES[n_species]
    numbers = rng.permutation(np.arange(1, 90))[:n_species]

    def crystal(repeat: int, first: int = 0) -> Atoms:
        atoms = bulk("Cu", cubic=True).repeat(repeat)
        atoms.numbers = numbers[(first + np.arange(len(atoms))) % n_species]
        atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
        return atoms

    method = LennardJones(sigma=2.3, epsilon=0.1, rc=5.0)
    frames = [labelled(crystal(1, int(rng.integers(n_species))), method) for _ in range(40)]
    frames += [labelled(crystal(1, first), method) for first in range(n_species)]
    begin = time.perf_counter()
    committee = alflow.fit(frames, n_members=n_members)
    took, atoms = time.perf_counter() - begin, crystal(5)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    times = []
    for _ in range(5):
        atoms.positions += 1e-6  # what was computed is not used again
        begin = time.perf_counter()
        committee.forward(atoms)
        committee.backward(np.full(n_members, 1 / n_members))
        times.append(time.perf_counter() - begin)
    basis = committee.model.descriptor.basis
    print(
        f"{n_species:9d}{n_members:9d}{basis.n_pseudo:16d}{basis.n_features:10d}{took:10.1f}{memory:12.2f}"
        f"{1e6 * min(times) / len(atoms):15.1f}",
        flush=True,
    )


def costs() -> bool:
    """Tell time and memory, each from a process of its own; whether the memory is within the bound."""
    print(" elements  members  pseudo-species  features   fit (s) memory (GB) time (µs/atom)")
    lines = []
    for n_species in SIZES:
        command = [sys.executable, __file__, "--of", str(n_species)]
        lines.append(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])
        print(lines[-1], flush=True)
    return all(float(line.split()[5]) < MOST for line in lines)


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("errors", "cost"))
    parser.add_argument("--of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.of:
        cost(arguments.of)
        return 0
    # Cost first: a process counts what the one that started it had taken to its own largest memory.
    good = arguments.only == "errors" or costs()
    return int(not (arguments.only == "cost" or told()) or not good)


if __name__ == "__main__":
    sys.exit(main())
