"""Whether the model errors of averages are right for water: the cluster of the quick start against a longer run.

Usage: python tests/benchmarks/averages_water.py [--seeds 30] [--workers 2] [--folder FOLDER]. About 15 minutes on two
cores; everything is kept in the folder and not done twice.

The truth is GFN2-xTB for (H2O)6: twelve runs of 10 ps at 250 K, whose first 2 ps are dropped. Committees of 16
are fitted to 60 and to 120 of their frames, drawn for each seed. The true averages, of 96 ps, are those of 3200 of the
frames; with the members they are those of the same frames reweighted, so that hardly any statistical error is left. z
is (value - truth)/model error; ideally 0.68 are within 1. Exit code 1 when the share of the number of hydrogen bonds or
of the potential energy is not in 0.60 to 0.76.
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each worker

import alflow
import ase.io
import numpy as np
from alflow.averages.observables.base import Frame
from alflow.averages.observables.parsing import parse
from alflow.averages.reweighting import Chunk, Quantity, reweight
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from averages_coverage import COVERAGE, Arrays, kept, rms, share
from tblite.ase import TBLite

START = Path(__file__).parents[2] / "workflows" / "hexamer.xyz"
TEMPERATURE, TIMESTEP, STRIDE = 250.0, 0.5, 20  # K, fs, steps between stored frames
RUNS, STEPS, DROPPED = 12, 20_000, 4_000
SIZES, MEMBERS, POOLED = (60, 120), 16, 3200
OBSERVABLES = [parse(text) for text in ("hydrogen_bonds", "potential_energy")]


def true_run(seed: int) -> Arrays:
    atoms = ase.io.read(START)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    rng = np.random.default_rng(seed)
    run = Langevin(
        atoms, TIMESTEP * units.fs, temperature_K=TEMPERATURE, friction=0.01 / units.fs, rng=rng, fixcm=False
    )
    run.run(DROPPED)
    positions, energies, forces = [], [], []
    for _ in range((STEPS - DROPPED) // STRIDE):
        run.run(STRIDE)
        positions.append(atoms.positions.copy())
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    return {"positions": np.array(positions), "energies": np.array(energies), "forces": np.array(forces)}


def truth(folder: Path, seed: int) -> Arrays:
    return kept(folder / f"truth-{seed:02d}.npz", true_run, seed)


def all_frames(folder: Path) -> Arrays:
    runs = [truth(folder, seed) for seed in range(RUNS)]
    return {key: np.concatenate([run[key] for run in runs]) for key in runs[0]}


def structures(frames: Arrays, which: np.ndarray) -> list[Atoms]:
    """With their labels."""
    found = []
    for k in which:
        atoms = Atoms(ase.io.read(START).numbers, frames["positions"][k])
        atoms.calc = SinglePointCalculator(atoms, energy=frames["energies"][k], forces=frames["forces"][k])
        found.append(atoms)
    return found


def measured(folder: Path, seed: int, size: int) -> Arrays:
    """Averages of one committee, (observables, 2), and its errors of structures."""
    frames = all_frames(folder)
    order = np.random.default_rng(seed).permutation(len(frames["energies"]))
    model = alflow.fit(structures(frames, order[:size]), n_members=MEMBERS, seed=seed)
    model.threads = 1
    others = structures(frames, np.arange(0, len(order), len(order) // POOLED))
    raw = np.array([model.forward(atoms).energies for atoms in others])
    mean = raw.mean(axis=1, keepdims=True)
    energies = mean + model.judgement.energy.factor * (raw - mean)
    driving = np.array([atoms.get_potential_energy() for atoms in others])
    frame = [Frame(atoms, row, TEMPERATURE, None) for atoms, row in zip(others, energies, strict=True)]
    values = [np.array([observable.parts(one) for one in frame]) for observable in OBSERVABLES]
    kT = units.kB * TEMPERATURE
    quantities = [Quantity(o.text, o.finish) for o in OBSERVABLES]
    found = reweight([Chunk(0, energies, driving, values)], quantities, kT, drop=0.0)
    plain = [found.averages[0].driven[0], driving.mean()]
    errors = [average.value[0] - true for average, true in zip(found.averages, plain, strict=True)]
    return {
        "error": np.array(errors),
        "model": np.array([average.model[0] for average in found.averages]),
        "driven": np.array([average.driven_statistical[0] for average in found.averages]),
        "direct": np.array(found.method == "direct"),
        "of structures": (energies.mean(axis=1) - driving) / kT,
    }


def kept_measured(folder: Path, seed: int, size: int) -> Arrays:
    return kept(folder / f"model-{seed:02d}-{size}.npz", measured, folder, seed, size)


def main() -> int:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("averages-water"))
    arguments = parser.parse_args()
    folder, seeds = arguments.folder, range(arguments.seeds)
    folder.mkdir(exist_ok=True)
    good = True
    with ProcessPoolExecutor(arguments.workers) as pool:
        for done, future in enumerate(as_completed([pool.submit(truth, folder, seed) for seed in range(RUNS)]), 1):
            future.result()
            print(f"truth {done}/{RUNS}", file=sys.stderr, flush=True)
        print("frames  observable         within 1            2    rms z  error     model error  (of the truth's run)")
        for size in SIZES:
            found = [f.result() for f in [pool.submit(kept_measured, folder, seed, size) for seed in seeds]]
            for k, observable in enumerate(OBSERVABLES):
                error, model = (np.array([one[key][k] for one in found])[:, None] for key in ("error", "model"))
                one, its_error = share(error / model, 1)
                missed = not COVERAGE[0] <= one <= COVERAGE[1]
                good &= not missed
                print(
                    f"{size:6d}  {observable.text:17s} {one:.2f} +- {its_error:.2f} {share(error / model, 2)[0]:8.2f} "
                    f"{rms(error / model):8.2f}  {rms(error):.2e}  {rms(model):.2e}     {found[0]['driven'][k]:.2e}"
                    f"{'  MISSED' if missed else ''}"
                )
            errors = rms(np.array([one["of structures"] for one in found]))
            direct = sum(bool(one["direct"]) for one in found)
            print(f"        error of a structure {errors:.2f} kT; direct reweighting: {direct} of {len(found)}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
