"""What learning the stress gives: lattice constant, pressure, elastic constants, and the density at constant pressure.

Usage: python tests/benchmarks/stress.py [--seeds 3] [--only crystals|density]. Some ten minutes on two cores.

The truth is ASE's EMT, the crystals are aluminium and nickel. Committees of 16 are fitted to 39 structures of 32 atoms,
displaced ones and frames at 300, 700 and 1200 K, all of one volume or of five, with the default ``stress_weight`` and
without. Pressure and elastic constants are those at the lattice constant of EMT; mean absolute errors over the seeds.

Then a run as a user would make it: aluminium at three volumes, two cycles, ``alflow produce --pressure 0`` at two
temperatures, and the density that ``alflow average`` gives beside that of a constant-pressure run of EMT itself.

Exit code 1 when a lattice constant from structures of one volume is wrong by 0.01 Å with stress, or by more than half
of what it is wrong by without, or a density is more than two total errors from EMT's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import alflow
import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import StrainFilter
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.optimize import BFGS

METALS = {"Al": 4.0, "Ni": 3.5}  # Å, near the lattice constants of EMT
SETTINGS = {"cutoff": 5.5, "n_features": 300}
QUANTITIES = {"lattice constant": "Å", "pressure": "GPa", "B": "GPa", "C11": "GPa", "C12": "GPa", "C44": "GPa"}
TEMPERATURES = (300.0, 900.0)
STEPS, TIMESTEP, FRICTION, WALKERS = 20_000, 2.0, 0.01, 4  # of each walker; fs, 1/fs
PERIOD = 10 / FRICTION  # of the barostat, fs; its mass by ASE's own estimate

RUN = """
[[system]]
name = "aluminium"
structures = "al.xyz"
copies = 8
rattle = 0.08

[potential]
cutoff = 5.5
n_features = 300

[reference]
kind = "ase:ase.calculators.emt.EMT"

[sample]
temperature = [300, 900]
timestep = 2.0
steps = 500
stride = 20

[select]
budget = 16

[converge]
max_cycles = 2
"""


def crystal(metal: str, side: float) -> Atoms:
    return bulk(metal, "fcc", a=side, cubic=True).repeat(2)


def labelled(atoms: Atoms) -> Atoms:
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=EMT())
    results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces(), "stress": copy.get_stress()}
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def training_set(metal: str, volumes: int, seed: int) -> list[Atoms]:
    """Displaced structures and frames of three temperatures."""
    rng = np.random.default_rng(seed)
    sides = METALS[metal] * np.linspace(0.98, 1.02, volumes) if volumes > 1 else [METALS[metal]]
    frames = []
    for k in range(15):
        atoms = crystal(metal, sides[k % volumes])
        atoms.positions += 0.08 * rng.normal(size=atoms.positions.shape)
        frames.append(labelled(atoms))
    for k, temperature in enumerate((300.0, 700.0, 1200.0)):
        atoms = crystal(metal, sides[k % volumes])
        atoms.positions += 0.05 * rng.normal(size=atoms.positions.shape)
        atoms.calc = EMT()
        run = Langevin(
            atoms, TIMESTEP * units.fs, temperature_K=temperature, friction=0.01 / units.fs, rng=rng, fixcm=False
        )
        for _ in range(8):
            run.run(50)
            frames.append(labelled(atoms))
    return frames


def properties(metal: str, calculator: Calculator, side: float) -> np.ndarray:
    """Lattice constant, Å; pressure and elastic constants at a side, GPa."""

    def stress(strain: np.ndarray) -> np.ndarray:
        atoms = crystal(metal, side)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        atoms.calc = calculator
        return atoms.get_stress() / units.GPa

    relaxed = crystal(metal, side)
    relaxed.calc = calculator
    BFGS(StrainFilter(relaxed), logfile=None).run(fmax=1e-4, steps=100)
    h, along, shear = 5e-3, np.zeros((3, 3)), np.zeros((3, 3))
    along[0, 0] = h
    shear[1, 2] = shear[2, 1] = h / 2
    c11, c12, *_ = (stress(along) - stress(-along)) / (2 * h)
    c44 = ((stress(shear) - stress(-shear)) / (2 * h))[3]
    pressure = -stress(0 * along)[:3].mean()
    return np.array([relaxed.cell.lengths().mean() / 2, pressure, (c11 + 2 * c12) / 3, c11, c12, c44])


def crystals(seeds: int) -> bool:
    """Tell the errors with stress and without; whether they are within the bounds."""
    good = True
    print("mean absolute errors              " + "".join(f"{name:>17s}" for name in QUANTITIES))
    for metal in METALS:
        side = properties(metal, EMT(), METALS[metal])[0]
        truth = properties(metal, EMT(), side)
        print(f"{metal}, EMT itself                    " + "".join(f"{x:17.4g}" for x in truth))
        for volumes in (1, 5):
            sets = [training_set(metal, volumes, seed) for seed in range(seeds)]
            errors = {}
            for name, more in (("no stress", {"stress_weight": 0.0}), ("stress", {})):
                found = [
                    properties(metal, alflow.fit(frames, seed=k, **SETTINGS, **more).calculator(), side) - truth
                    for k, frames in enumerate(sets)
                ]
                errors[name] = np.mean(np.abs(found), axis=0)
                what = f"{metal}, volumes: {volumes}, {name}"
                print(f"{what:34s}" + "".join(f"{x:17.3g}" for x in errors[name]), flush=True)
            if volumes == 1:
                good &= bool(errors["stress"][0] < min(0.01, 0.5 * errors["no stress"][0]))
    return good


def reference_density(temperature: float) -> tuple[float, float]:
    """Of EMT at no pressure, g/cm^3, and its statistical error, from the scatter of 20 blocks."""
    values = []
    for seed in range(WALKERS):
        atoms = crystal("Al", METALS["Al"])
        atoms.calc = EMT()
        rng = np.random.default_rng(seed)
        run = LangevinBAOAB(
            atoms, timestep=TIMESTEP * units.fs, temperature_K=temperature, externalstress=0.0, hydrostatic=True,
            T_tau=units.fs / FRICTION, P_tau=PERIOD * units.fs, P_mass=(PERIOD / 4 / 1.66) ** 2 * len(atoms) ** (1 / 3),
            rng=rng,
        )  # fmt: skip
        mine = []
        run.attach(lambda atoms=atoms, mine=mine: mine.append(atoms.get_volume()), interval=10)
        run.run(STEPS)
        values.append(atoms.get_masses().sum() / np.array(mine[len(mine) // 10 :]) * units.m**3 / units.kg / 1e3)
    blocks = np.array([block.mean() for mine in values for block in np.array_split(mine, 20 // WALKERS)])
    return float(blocks.mean()), float(blocks.std(ddof=1) / np.sqrt(len(blocks)))


def density() -> bool:
    """Run the loop and production; whether the densities are right."""
    good = True
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        (run / "alflow.toml").write_text(RUN)
        ase.io.write(run / "al.xyz", [crystal("Al", side) for side in (3.95, 4.0, 4.1)])

        def call(*arguments: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "alflow", *arguments], cwd=run, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(done.stderr)
            return done.stdout

        call("iterate")
        for temperature in TEMPERATURES:
            name = f"{temperature:.0f}"
            call("produce", "--pressure", "0", "--temperature", name, "--steps", str(STEPS), "--walkers",
                 str(WALKERS), "--name", name, "--friction", str(FRICTION))  # fmt: skip
            told = json.loads(call("average", f"production/{name}", "-o", "density", "--json"))
            average = told["averages"][0]
            value, total, model = (np.ravel(average[key])[0] for key in ("value", "total", "model"))
            true, error = reference_density(temperature)
            off = (value - true) / np.hypot(total, error)
            good &= bool(abs(off) < 2)
            print(
                f"density of Al at {name} K: EMT {true:.4f} +- {error:.4f}, alflow {value:.4f} +- {total:.4f} (model "
                f"{model:.4f}) g/cm^3: {off:+.1f} errors",
                flush=True,
            )
    return good


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=("crystals", "density"))
    arguments = parser.parse_args()
    good = arguments.only == "density" or crystals(arguments.seeds)
    return int(not (arguments.only == "crystals" or density()) or not good)


if __name__ == "__main__":
    sys.exit(main())
