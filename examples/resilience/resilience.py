"""How many runs survive leaving the known region: the plain mean, the weighted baseline, and the same atom by atom.

A committee learns GFN2-xTB from (H2O)6 at 350 K, as a correction of GFN1-xTB. Then it drives runs at 800 K that start
with a proton half way to a neighbour. A run counts as physical when it reaches its end and GFN2-xTB, asked about its
frames, never finds an energy more than 3 N kT above the lowest one of the training set: a harmonic system has 3 N kT / 2
on the average, with a standard deviation of sqrt(3 N / 2) kT.

    python resilience.py                          # 3 x 20 runs of 5 ps: about an hour on two cores
    python resilience.py --seeds 2 --ps 0.5       # a taste

Everything is kept in ``--folder`` and not done twice; the table and the plots are made from what is there.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each worker

import alflow
import ase.io
import numpy as np
from alflow.errors import LabelError
from alflow.potentials import Committee
from alflow.reference import build
from alflow.sampling import Bounds, Walker, run_segment
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

HERE = Path(__file__).parent
WEIGHTINGS = {"none": "plain mean", "total": "weighted by the total sigma", "atom": "weighted atom by atom"}
COLD, HOT = 350.0, 800.0  # K
TIMESTEP = 0.5  # fs
STRIDE = 40  # steps between frames
REFERENCE, BASELINE = build("tblite", method="GFN2-xTB"), build("tblite", method="GFN1-xTB")
WIDE = Bounds(force_sigma=np.inf, force=1e4, temperature=2e4, distance_ratio=0.0)


def training_set(folder: Path) -> list[Atoms]:
    """120 frames of three GFN2-xTB trajectories at 350 K."""
    path = folder / "350K.xyz"
    if not path.exists():
        frames = []
        for seed in range(3):
            atoms = ase.io.read(HERE.parents[1] / "workflows" / "hexamer.xyz")
            atoms.calc = REFERENCE.calculator()
            rng = np.random.default_rng(seed)
            thermalize_momenta(atoms, temperature_K=COLD, rng=rng)
            dynamics = Langevin(
                atoms, TIMESTEP * units.fs, temperature_K=COLD, friction=0.01 / units.fs, rng=rng, fixcm=False
            )
            dynamics.run(800)
            for _ in range(40):
                dynamics.run(80)
                bare = Atoms(atoms.numbers, atoms.positions)
                frames.append(REFERENCE.calculate(bare))
        ase.io.write(path, frames)
    return ase.io.read(path, ":")


def committee(folder: Path, frames: list[Atoms]) -> Committee:
    """Fitted to the differences of the training set from the baseline."""
    path = folder / "model.h5"
    if not path.exists():
        alflow.fit(frames, baseline=BASELINE.calculator(), baseline_identity=BASELINE.identity()).save(path)
    return alflow.load(path, baseline=BASELINE.calculator())


def start(frames: list[Atoms], seed: int) -> Atoms:
    """A frame with one proton of a hydrogen bond moved to 1 Å from the oxygen that accepts it: H3O+ and OH-."""
    rng = np.random.default_rng(seed)
    atoms = frames[int(rng.integers(len(frames)))].copy()
    atoms.calc = None
    distances = atoms.get_all_distances()
    oxygens, protons = np.flatnonzero(atoms.numbers == 8), np.flatnonzero(atoms.numbers == 1)
    bonds = []
    for proton in protons:
        donor, acceptor = oxygens[np.argsort(distances[proton, oxygens])[:2]]
        if distances[proton, acceptor] < 2.1:
            bonds.append((proton, donor, acceptor))
    proton, donor, acceptor = bonds[int(rng.integers(len(bonds)))]
    along = atoms.positions[donor] - atoms.positions[acceptor]
    atoms.positions[proton] = atoms.positions[acceptor] + along / np.linalg.norm(along)
    return atoms


def run(folder: Path, weighting: str, seed: int, picoseconds: float) -> Path:
    """One run, and what GFN2-xTB says of its frames."""
    path = folder / f"{weighting}-{seed:02d}-{picoseconds:g}ps.npz"
    if path.exists():
        return path
    frames = training_set(folder)
    steps = round(1000 * picoseconds / TIMESTEP)
    walker = Walker(
        start=start(frames, seed), temperature=HOT, timestep=TIMESTEP, friction=0.01, steps=steps, stride=STRIDE,
        segment=steps, bounds=WIDE, seed=seed, key=(0,), weighting=weighting,
    )  # fmt: skip
    segment = run_segment(walker, 0, None, committee(folder, frames))
    reference = np.full(len(segment.frames), np.inf)  # for a structure of which GFN2-xTB finds no energy
    for k, frame in enumerate(segment.frames):
        try:
            reference[k] = REFERENCE.calculate(frame).get_potential_energy()
        except LabelError:
            break
    temporary = path.with_suffix(".tmp.npz")
    np.savez(
        temporary, time=segment.step * TIMESTEP / 1000, energy=segment.energy, sigma=segment.energy_sigma,
        weight=segment.weight_min, temperature=segment.temperature, reference=reference, stop=segment.stop,
        positions=np.array([frame.positions for frame in segment.frames]),
    )  # fmt: skip
    temporary.replace(path)
    return path


def judge(path: Path, lowest: float, n_atoms: int) -> tuple[bool, float]:
    """Whether a run was physical, and its time until it was not, ps."""
    with np.load(path) as data:
        limit = lowest + 3 * n_atoms * units.kB * HOT
        bad = np.flatnonzero(~(data["reference"] <= limit))
        if len(bad):
            return False, float(data["time"][bad[0]])
        return bool(data["stop"] == "finished"), float(data["time"][-1])


def plot(folder: Path, output: Path, picoseconds: float, seed: int, lowest: float) -> None:
    """Sigma, weight and energy against time, of one start with the three potentials."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(7, 8), sharex=True, layout="constrained")
    for weighting, color in zip(WEIGHTINGS, ("tab:red", "tab:blue", "tab:green"), strict=True):
        with np.load(folder / f"{weighting}-{seed:02d}-{picoseconds:g}ps.npz") as data:
            time = data["time"]
            axes[0].plot(time, data["sigma"], color=color, label=WEIGHTINGS[weighting])
            axes[1].plot(time, data["weight"], color=color)
            axes[2].plot(time, data["reference"] - lowest, color=color)
            axes[2].plot(time, data["energy"] - lowest, color=color, linestyle=":")
    axes[0].set(ylabel="sigma of the energy / eV", yscale="log")
    axes[0].legend()
    axes[1].set(ylabel="weight of the correction\n(smallest of all atoms)", ylim=(-0.02, 1.02))
    axes[2].set(
        xlabel="time / ps", ylabel="energy / eV: GFN2-xTB (solid),\nthe driving potential (dotted)", ylim=(-1, 8)
    )
    figure.savefig(output, dpi=110)


def main() -> None:
    """Train, run, judge, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--ps", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("resilience"))
    parser.add_argument("--plot", type=Path, help="also plot the runs of one seed")
    parser.add_argument("--plot-seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(exist_ok=True)
    frames = training_set(folder)
    model = committee(folder, frames)
    judgement = model.judgement
    print(
        f"{len(frames)} structures at {COLD:.0f} K; out-of-bag {1e3 * judgement.energy_rmse:.2f} meV/atom, "
        f"{1e3 * judgement.force_rmse:.1f} meV/Å; alpha {judgement.energy.alpha:.2f}; "
        f"s_b {1e3 * model.baseline_error:.1f} meV per root of the number of atoms"
    )
    with ProcessPoolExecutor(arguments.workers) as pool:
        runs = [
            pool.submit(run, folder, weighting, seed, arguments.ps)
            for seed in range(arguments.seeds)
            for weighting in WEIGHTINGS
        ]
        for done, future in enumerate(as_completed(runs), 1):
            print(f"{done}/{len(runs)} {future.result().stem}", flush=True)
    lowest = min(frame.get_potential_energy() for frame in frames)
    found = {}
    for weighting, name in WEIGHTINGS.items():
        paths = [folder / f"{weighting}-{seed:02d}-{arguments.ps:g}ps.npz" for seed in range(arguments.seeds)]
        verdicts = [judge(path, lowest, len(frames[0])) for path in paths]
        survived = sum(good for good, _ in verdicts)
        found[weighting] = survived
        times = sorted(time for good, time in verdicts if not good)
        lost = f"; the others were lost after {np.median(times):.2g} ps (median)" if times else ""
        print(f"{name}: {survived} of {len(verdicts)} runs of {arguments.ps:g} ps stayed physical{lost}")
    print(json.dumps(found))
    if arguments.plot is not None:
        plot(folder, arguments.plot, arguments.ps, arguments.plot_seed, lowest)


if __name__ == "__main__":
    main()
