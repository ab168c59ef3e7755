"""How many runs survive leaving the known region: the plain mean, the weighted baseline, and the same atom by atom.

Committees learn GFN2-xTB from 30 structures of (H2O)6 at 350 K: one by itself, one as a correction of GFN1-xTB. They
then drive runs at 800 K that start with two protons at the wrong end of their hydrogen bonds. A run is physical when it
reaches its end and, once it had 0.5 ps to relax, GFN2-xTB never finds a frame more than 3 N kT above the lowest energy
of the training set: a harmonic system has half of that on the average, with a standard deviation of sqrt(3 N / 2) kT.

    python resilience.py                          # 4 x 20 runs of 5 ps: about 40 minutes on two cores
    python resilience.py --seeds 2 --ps 1         # a taste

Everything is kept in ``--folder`` and not done twice; the table and the plots are made from what is there.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each worker

import alflow
import ase.io
import numpy as np
from alflow import Committee
from alflow.errors import LabelError
from alflow.reference.kinds import build
from alflow.sampling.walker import Bounds, Walker, run_segment
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

HERE = Path(__file__).parent
MODES = {
    "direct": "plain mean, no baseline",
    "none": "plain mean on the baseline",
    "total": "weighted by the total sigma",
    "atom": "weighted atom by atom",
}
COLD, HOT = 350.0, 800.0  # K
TIMESTEP = 0.5  # fs
STRIDE = 40  # steps between frames
RELAXED = 0.5  # ps
REFERENCE, BASELINE = build("tblite", method="GFN2-xTB"), build("tblite", method="GFN1-xTB")
WIDE = Bounds(force_sigma=np.inf, force=1e4, temperature=2e4, distance_ratio=0.0)


def training_set(folder: Path) -> list[Atoms]:
    """30 frames of three GFN2-xTB trajectories at 350 K."""
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
            dynamics.run(1000)
            for _ in range(10):
                dynamics.run(300)
                frames.append(REFERENCE.calculate(Atoms(atoms.numbers, atoms.positions)).frame)
        ase.io.write(path, frames)
    return ase.io.read(path, ":")


def committee(folder: Path, frames: list[Atoms], mode: str) -> Committee:
    """Fitted to the training set, or to its differences from the baseline."""
    direct = mode == "direct"
    path = folder / ("direct.h5" if direct else "difference.h5")
    baseline = None if direct else BASELINE.calculator()
    if not path.exists():
        alflow.fit(frames, baseline=baseline).save(path)
    return alflow.load(path, baseline=baseline)


def start(frames: list[Atoms], seed: int) -> Atoms:
    """A frame with two protons of hydrogen bonds moved to 1 Å from the oxygens that accept them.

    Drawn again where one of the two methods has no energy of it.
    """
    rng = np.random.default_rng(seed)
    while True:
        atoms = _displaced(frames, rng)
        with suppress(LabelError):
            REFERENCE.calculate(atoms)
            BASELINE.calculate(atoms)
            return atoms


def _displaced(frames: list[Atoms], rng: np.random.Generator) -> Atoms:
    atoms = frames[int(rng.integers(len(frames)))].copy()
    atoms.calc = None
    distances = atoms.get_all_distances()
    oxygens, protons = np.flatnonzero(atoms.numbers == 8), np.flatnonzero(atoms.numbers == 1)
    bonds = []
    for proton in protons:
        donor, acceptor = oxygens[np.argsort(distances[proton, oxygens])[:2]]
        if distances[proton, acceptor] < 2.1:
            bonds.append((proton, donor, acceptor))
    for bond in rng.permutation(len(bonds))[:2]:
        proton, donor, acceptor = bonds[bond]
        along = atoms.positions[donor] - atoms.positions[acceptor]
        atoms.positions[proton] = atoms.positions[acceptor] + along / np.linalg.norm(along)
    return atoms


def run(folder: Path, mode: str, seed: int, picoseconds: float) -> Path:
    """One run, and what GFN2-xTB says of its frames."""
    path = run_path(folder, mode, seed, picoseconds)
    if path.exists():
        return path
    frames = training_set(folder)
    steps = round(1000 * picoseconds / TIMESTEP)
    walker = Walker(
        start=start(frames, seed), temperature=HOT, timestep=TIMESTEP, friction=0.01, steps=steps, stride=STRIDE,
        segment=steps, bounds=WIDE, seed=seed, key=(0,), weighting="none" if mode == "direct" else mode,
    )  # fmt: skip
    segment = run_segment(walker, 0, None, committee(folder, frames, mode))
    reference = np.full(len(segment.frames), np.inf)  # for a structure of which GFN2-xTB finds no energy
    for k, frame in enumerate(segment.frames):
        try:
            reference[k] = REFERENCE.calculate(frame).frame.get_potential_energy()
        except LabelError:
            continue
    temporary = path.with_suffix(".tmp.npz")
    np.savez(
        temporary, time=segment.step * TIMESTEP / 1000, energy=segment.energy, sigma=segment.energy_sigma,
        weight=segment.smallest_weight, temperature=segment.temperature, reference=reference, stop=segment.stop,
        positions=np.array([frame.positions for frame in segment.frames]),
    )  # fmt: skip
    temporary.replace(path)
    return path


def run_path(folder: Path, mode: str, seed: int, picoseconds: float) -> Path:
    """File of a run."""
    return folder / f"{mode}-{seed:02d}-{picoseconds:g}ps.npz"


def judge(path: Path, lowest: float, n_atoms: int) -> tuple[bool, float]:
    """Whether a run was physical, and the largest error of its driving energy once it had time to relax, eV."""
    with np.load(path) as data:
        late = data["time"] >= RELAXED
        reference, energy = data["reference"][late], data["energy"][late]
        finished = bool(data["stop"] == "finished")
    limit = lowest + 3 * n_atoms * units.kB * HOT
    worst = float(np.abs(energy - reference).max(initial=0.0)) if finished else np.inf
    return finished and bool((reference <= limit).all()), worst


def plot(folder: Path, output: Path, picoseconds: float, seed: int, lowest: float) -> None:
    """Sigma, weight and energy against time, of one start with each of the potentials."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(7, 8), sharex=True, layout="constrained")
    for mode, color in zip(MODES, ("tab:red", "tab:orange", "tab:blue", "tab:green"), strict=True):
        with np.load(run_path(folder, mode, seed, picoseconds)) as data:
            time = data["time"]
            axes[0].plot(time, data["sigma"], color=color, label=MODES[mode], linewidth=1)
            axes[1].plot(time, data["weight"], color=color, linewidth=1)
            axes[2].plot(time, data["reference"] - lowest, color=color, linewidth=1)
            axes[2].plot(time, data["energy"] - lowest, color=color, linestyle=":", linewidth=1)
    axes[0].set(ylabel="sigma of the energy / eV", yscale="log")
    axes[0].legend()
    axes[1].set(ylabel="weight of the correction\n(the smallest of all atoms)", ylim=(-0.02, 1.02))
    axes[2].set(
        xlabel="time / ps", ylabel="energy / eV: GFN2-xTB (solid),\nthe driving potential (dotted)", ylim=(-1, 9)
    )
    figure.savefig(output, dpi=80)


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
    for mode in ("direct", "none"):
        model = committee(folder, frames, mode)
        found = model.judgement
        print(
            f"{MODES[mode]}: {len(frames)} structures at {COLD:.0f} K, out-of-bag {1e3 * found.energy_rmse:.2f} "
            f"meV/atom and {1e3 * found.force_rmse:.1f} meV/Å, alpha {found.energy.alpha:.2f}"
        )
    with ProcessPoolExecutor(arguments.workers) as pool:
        runs = [pool.submit(run, folder, m, seed, arguments.ps) for seed in range(arguments.seeds) for m in MODES]
        for done, future in enumerate(as_completed(runs), 1):
            print(f"{done}/{len(runs)} {future.result().stem}", flush=True)
    lowest = min(frame.get_potential_energy() for frame in frames)
    survived = {}
    for mode, name in MODES.items():
        paths = [run_path(folder, mode, seed, arguments.ps) for seed in range(arguments.seeds)]
        physical, worst = zip(*(judge(path, lowest, len(frames[0])) for path in paths), strict=True)
        survived[mode] = sum(physical)
        print(
            f"{name}: {sum(physical)} of {len(paths)} runs of {arguments.ps:g} ps stayed physical; "
            f"largest error of the driving energy, median over runs: {np.median(worst):.2f} eV"
        )
    print(json.dumps(survived))
    if arguments.plot is not None:
        plot(folder, arguments.plot, arguments.ps, arguments.plot_seed, lowest)


if __name__ == "__main__":
    main()
