"""Molecules that a committee never met: walks on the plain sum of baseline and correction, and on weighted sums.

Usage: python tests/benchmarks/weighted_baseline.py [--seeds 20] [--workers 2] [--setting molecules]. About 5 minutes on
two cores.

For each seed a committee learns GFN2-xTB as a correction of GFN1-xTB from five frames each of hydrogen, water and
methane at 300 K, of trajectories of its own. It then drives a molecule of which no structure has the bonds: in turn
methanol, formaldehyde, formic acid, hydrogen peroxide and ethane, from its GFN2-xTB minimum, for 0.3 ps at 600 K. Its
composition is a combination of known ones, so that the zero of energy is known. Walks are driven by

- GFN1-xTB alone;
- the plain sum, weight 1;
- the sum weighted by the total sigma, and atom by atom.

A walk is alive when it reaches its end and GFN2-xTB finds none of its frames, one in 10 fs, more than 4 N kT above the
minimum of the molecule: 0.8 eV for four atoms, 1.7 eV for eight; of a harmonic molecule of four atoms one frame in
60,000 is. The error is that of the driving energy: its root mean square over the frames of which GFN2-xTB has an
energy, and its standard deviation, which leaves out a constant; medians over walks.

Then ten frames of the walk become labels, and the committee is updated: with those of the walk weighted by the total
sigma or, to compare, those of the walk on the plain sum, as far as it came and GFN2-xTB has an energy of them. The
walks are done again with other random numbers.

Other settings, of which only the first walks are done, show where weights do not help:

- ``--setting hexamer``: (H2O)6, from 8 frames at 200 K, at 1000 K: the same two methods, nothing but water;
- ``--setting alloy``: EMT on a Morse potential of averages, from 8 crystals each of copper and of gold at 300 K: Cu-Au
  at 800 K, 2 ps;
- ``--setting cluster``: EMT on the Morse potential of bulk copper, from 10 frames of Cu13 at 300 K: the same at 1500 K,
  2 ps; also with the baseline's error given as 8 eV, what it is in these walks.

Shares have a 95 % interval (Wilson's). Exit code 1 where, of the molecules never met, more than half are alive on the
plain sum or less than 90 % on a weighted one; or where, with frames of the weighted walk as labels, less than 90 % are
alive on any sum, or its error is not below half of that of the baseline. Of the other settings it is 0.
"""

import argparse
import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of each worker

import alflow
import ase.io
import numpy as np
from alflow.committee.committee import Committee
from alflow.errors import LabelError
from alflow.reference.kinds import build
from alflow.sampling.walker import Bounds, Walker, run_segment
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.cluster import Icosahedron
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import BFGS

MODES = {
    "baseline": "the baseline alone",
    "none": "plain sum",
    "total": "weighted by the total sigma",
    "atom": "weighted atom by atom",
    "total given": "weighted by the total sigma, error given",
    "atom given": "weighted atom by atom, error given",
}
ROUNDS = {
    "": "never met",
    "total": "frames of the walk weighted by the total sigma are labels",
    "none": "frames of the walk on the plain sum are labels",
}
TAKEN = 10  # frames of a walk that become labels
STRIDE = 20  # steps
SMALL = {"n_members": 16, "n_features": 300}  # fitted in a second; by default in half a minute
NOTHING = 1e-4  # eV; a baseline with so small an error is left alone
ANYWHERE = Bounds(force_sigma=np.inf, force=1e4, temperature=1e5, distance_ratio=0.0)
GFN1, GFN2 = (build("tblite", method=method) for method in ("GFN1-xTB", "GFN2-xTB"))
EMT = build("ase", name="ase.calculators.emt.EMT")


@dataclass(frozen=True, eq=False)
class Setting:
    """What is known and what is asked; temperatures in K, time steps in fs."""

    reference: Any
    baseline: Any
    known: list[Atoms]
    labels: int  # of each
    cold: float
    asked: dict[str, Atoms]
    hot: float
    timestep: float
    steps: int
    rounds: int = 1
    error: float | None = None  # eV, of the baseline in the walk

    def errors(self) -> dict[str, float | None]:
        """By mode: s_b, where it is given."""
        found = {"baseline": NOTHING, "none": None, "total": None, "atom": None}
        if self.error is not None:
            (atoms,) = self.asked.values()
            found |= {"total given": self.error, "atom given": self.error / len(atoms)}
        return found


def morse(r0: float) -> Any:
    """Girifalco and Weizer's for copper (doi:10.1103/PhysRev.114.687), with another distance."""
    parameters = {"epsilon": 0.3429, "r0": r0, "rho0": 1.3588 * r0, "rcut1": 1.7, "rcut2": 2.1}
    return build("ase", name="ase.calculators.morse.MorsePotential", parameters=parameters)


def crystal(a: str, b: str, side: float) -> Atoms:
    """Eight atoms, b in every other place."""
    atoms = bulk("Cu", a=side, cubic=True) * (2, 1, 1)
    atoms.symbols = [a, b] * 4
    return atoms


def settings() -> dict[str, Setting]:
    """By name."""
    molecules = {
        "methanol": molecule("CH3OH"),
        "formaldehyde": molecule("H2CO"),
        "formic acid": molecule("HCOOH"),
        "hydrogen peroxide": molecule("H2O2"),
        "ethane": molecule("C2H6"),
    }
    hexamer = ase.io.read(Path(__file__).parents[2] / "workflows" / "hexamer.xyz")
    hexamer = Atoms(hexamer.numbers, hexamer.positions)
    cluster = Icosahedron("Cu", 2)
    cluster = Atoms(cluster.numbers, cluster.positions)
    metals = [crystal("Cu", "Cu", 3.61), crystal("Au", "Au", 4.08)]
    known = [molecule(name) for name in ("H2", "H2O", "CH4")]
    return {
        "molecules": Setting(GFN2, GFN1, known, 5, 300.0, molecules, 600.0, 0.5, 600, rounds=len(ROUNDS)),
        "hexamer": Setting(GFN2, GFN1, [hexamer], 8, 200.0, {"(H2O)6": hexamer}, 1000.0, 0.5, 1000),
        "alloy": Setting(EMT, morse(2.95), metals, 8, 300.0, {"Cu-Au": crystal("Cu", "Au", 3.85)}, 800.0, 4.0, 500),
        "cluster": Setting(EMT, morse(2.866), [cluster], 10, 300.0, {"Cu13": cluster}, 1500.0, 4.0, 500, error=8.0),
    }


Walk = tuple[
    list[Atoms], np.ndarray, np.ndarray, np.ndarray, bool
]  # frames, energies, true ones, weights, whether finished


def bare(atoms: Atoms) -> Atoms:
    """Without momenta and calculator."""
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def labelled(reference: Any, atoms: Atoms) -> Atoms | None:
    """With energy and forces of the reference, where it has them."""
    try:
        return reference.calculate(bare(atoms)).frame
    except LabelError:
        return None


def known(setting: Setting, number: int, seed: int) -> list[Atoms]:
    """Frames of a trajectory of the reference."""
    atoms, rng = bare(setting.known[number]), np.random.default_rng([seed, number])
    atoms.calc = setting.reference.calculator()
    thermalize_momenta(atoms, temperature_K=setting.cold, rng=rng)
    dynamics = Langevin(
        atoms, setting.timestep * units.fs, temperature_K=setting.cold, friction=0.01 / units.fs, rng=rng, fixcm=False
    )
    dynamics.run(200)
    frames = []
    for _ in range(setting.labels):
        dynamics.run(100)
        frames.append(labelled(setting.reference, atoms))
    return [frame for frame in frames if frame is not None]


def minimum(reference: Any, start: Atoms) -> tuple[Atoms, float]:
    """Structure and energy of the minimum of the reference."""
    atoms = bare(start)
    atoms.calc = reference.calculator()
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=300)
    return bare(atoms), float(atoms.get_potential_energy())


def walk(setting: Setting, committee: Committee, start: Atoms, mode: str, seed: int, key: tuple[int, ...]) -> Walk:
    """Wherever it goes, and what the reference says of it."""
    walker = Walker(
        start=start, temperature=setting.hot, timestep=setting.timestep, friction=0.01, steps=setting.steps,
        stride=STRIDE, segment=setting.steps, bounds=ANYWHERE, seed=seed, key=key,
        weighting="total" if mode == "baseline" else mode.split(maxsplit=1)[0], baseline_error=setting.errors()[mode],
        force_sigma=False,
    )  # fmt: skip
    segment = run_segment(walker, 0, None, committee)
    found = [labelled(setting.reference, frame) for frame in segment.frames]
    truth = np.array([np.inf if frame is None else frame.get_potential_energy() for frame in found])
    return segment.frames, segment.energy, truth, segment.smallest_weight, segment.stop == "finished"


def labels(reference: Any, frames: list[Atoms]) -> list[Atoms]:
    """Ten frames, as evenly apart as can be, as far as the reference has an energy of them."""
    places = np.unique(np.linspace(0, len(frames) - 1, TAKEN + 1).round().astype(int))[1:]  # not the start
    found = [labelled(reference, frames[k]) for k in places]
    return [frame for frame in found if frame is not None]


def study(which: str, seed: int) -> tuple[str, dict[tuple[str, str], tuple[float, ...]]]:
    """What is asked and, by round and mode: whether alive, error, its scatter, median of the smallest weight."""
    warnings.simplefilter("ignore")  # walks on the plain sum give wild labels
    setting = settings()[which]
    name = list(setting.asked)[seed % len(setting.asked)]
    start, lowest = minimum(setting.reference, setting.asked[name])
    frames = [frame for number in range(len(setting.known)) for frame in known(setting, number, seed)]
    found, walked = {}, {}
    for number, source in enumerate(list(ROUNDS)[: setting.rounds]):
        committee = alflow.fit(frames, baseline=setting.baseline.calculator(), seed=seed, **SMALL)
        if source:
            committee.update(labels(setting.reference, walked[source]))
        for mode in setting.errors():
            if source and mode == "baseline":
                continue
            visited, energy, truth, weight, finished = walk(setting, committee, start, mode, seed, (number,))
            if not source:
                walked[mode] = visited
            alive = finished and bool(np.all(truth <= lowest + 4 * len(start) * units.kB * setting.hot))
            error = (energy - truth)[np.isfinite(truth)]
            rms = float(np.sqrt(np.mean(error**2)))
            found[source, mode] = float(alive), rms, float(np.std(error)), float(np.median(weight))
    return name, found


def interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's, 95 %, of a share of n."""
    z = 1.96
    middle, width = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return float((middle - width) / (1 + z * z / n)), float((middle + width) / (1 + z * z / n))


def main() -> int:
    """Walk, print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--setting", choices=settings(), default="molecules")
    arguments = parser.parse_args()
    rounds = dict(list(ROUNDS.items())[: settings()[arguments.setting].rounds])
    found, names = [], []
    with ProcessPoolExecutor(arguments.workers) as pool:
        for future in as_completed([pool.submit(study, arguments.setting, seed) for seed in range(arguments.seeds)]):
            name, one = future.result()
            names.append(name)
            found.append(one)
            print(f"{len(found)}/{arguments.seeds} {name} {one}", file=sys.stderr, flush=True)
    print("| driven by | alive | 95 % | error | its scatter | weight |\n|---|---|---|---|---|---|")
    shares, errors = {}, {}
    for source, words in rounds.items():
        print(f"| *{words}* | | | | | |")
        for mode, driver in MODES.items():
            if (source, mode) not in found[0]:
                continue
            each = np.array([one[source, mode] for one in found])
            shares[source, mode] = share = float(each[:, 0].mean())
            errors[source, mode], scatter, weight = np.median(each[:, 1:], axis=0)
            low, high = interval(share, len(found))
            print(
                f"| {driver} | {each[:, 0].sum():.0f} of {len(found)} | {low:.2f} to {high:.2f} | "
                f"{errors[source, mode]:.3f} eV | {scatter:.3f} eV | {weight:.2f} |"
            )
    print("\nAlive, of the never met, on the plain sum, and weighted:")
    for name in dict.fromkeys(names):
        mine = [one for one, of in zip(found, names, strict=True) if of == name]
        counts = [sum(int(one["", mode][0]) for one in mine) for mode in ("none", "total", "atom")]
        print(f"{name}: {counts[0]}, {counts[1]}, {counts[2]} of {len(mine)}")
    if len(rounds) == 1:
        return 0
    passed = shares["", "none"] <= 0.5 and min(shares["", "total"], shares["", "atom"]) >= 0.9
    for mode in ("none", "total", "atom"):
        passed &= shares["total", mode] >= 0.9 and errors["total", mode] < 0.5 * errors["", "baseline"]
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
