"""Force errors of every cycle's committee on structures that have nothing to do with its training.

The structures come from molecular dynamics at 350 K driven by the reference method itself (GFN2-xTB), which the active
learning never saw. Usage: python force_error.py RUN; exit code 1 unless the error falls at each cycle.
"""

import itertools
import sys
from pathlib import Path

import alflow
import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from tblite.ase import TBLite


def reference_dynamics(start: Atoms, trajectories: int, frames: int) -> list[Atoms]:
    """Labelled frames, 100 fs apart, after 250 fs of equilibration."""
    found = []
    for seed in range(trajectories):
        atoms = start.copy()
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        rng = np.random.default_rng(seed)
        width = np.sqrt(atoms.get_masses() * units.kB * 350)
        atoms.set_momenta(width[:, None] * rng.standard_normal((len(atoms), 3)))
        dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=350, friction=0.02 / units.fs, fixcm=False, rng=rng)
        dynamics.run(500)
        for _ in range(frames):
            dynamics.run(200)
            frame = atoms.copy()
            frame.calc = SinglePointCalculator(
                frame, energy=atoms.get_potential_energy(), forces=atoms.get_forces().copy()
            )
            found.append(frame)
    return found


def main(run: Path) -> int:
    """Print the errors; 0 if the force error falls at each cycle."""
    test = reference_dynamics(ase.io.read(run / "hexamer.xyz"), trajectories=4, frames=5)
    print(f"{len(test)} structures from GFN2-xTB molecular dynamics at 350 K")
    print("cycle  force RMSE (meV/Å)  energy RMSE (meV/atom)  1-sigma coverage of forces")
    errors = []
    for path in sorted(run.glob("cycles/*/train.h5")):
        committee = alflow.load(path)
        force, energy, inside = [], [], []
        for frame in test:
            prediction = committee.predict(frame)
            difference = prediction.forces - frame.get_forces()
            force.append(difference.ravel())
            inside.append((np.abs(difference) < prediction.forces_sigma).ravel())
            energy.append((prediction.energy - frame.get_potential_energy()) / len(frame))
        errors.append(1e3 * np.sqrt(np.mean(np.concatenate(force) ** 2)))
        energy_error = 1e3 * np.sqrt(np.mean(np.square(energy)))
        print(
            f"{path.parent.name:>5}  {errors[-1]:18.1f}  {energy_error:22.2f}  {np.mean(np.concatenate(inside)):26.2f}"
        )
    falling = all(later < earlier for earlier, later in itertools.pairwise(errors))
    print("the force error falls at each cycle" if falling else "the force error does NOT fall at each cycle")
    return 0 if falling else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
