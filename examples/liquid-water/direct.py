"""The check: a trajectory on GFN1-xTB itself, from a frame of the production run, and its averages.

    python direct.py --ps 4        # about two hours on one core; goes on where it stopped

Frames are kept in direct.xyz, averages in direct.json, for figures.py.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import ase.io
import numpy as np
from alflow.averages.measuring import Batch, Source
from alflow.averages.observables.parsing import parse
from alflow.averages.sources.productions import read_beginning
from alflow.reference.kinds import build
from alflow.report import averages
from ase import units
from ase.md.langevin import Langevin
from figures import OBSERVABLES

HERE = Path(__file__).parent
TIMESTEP, STRIDE, TEMPERATURE = 0.5, 20, 300.0  # fs, steps, K


def run(folder: Path, trajectory: Path, picoseconds: float) -> None:
    """Make the trajectory as long as that."""
    done = len(ase.io.read(trajectory, ":")) if trajectory.exists() else 0
    atoms = ase.io.read(trajectory, -1) if done else read_beginning(folder).frames[0].copy()
    atoms.calc = build("tblite", method="GFN1-xTB").calculator()
    dynamics = Langevin(
        atoms, TIMESTEP * units.fs, temperature_K=TEMPERATURE, friction=0.01 / units.fs, fixcm=False,
        rng=np.random.default_rng(done),
    )  # fmt: skip
    for _ in range(done, round(1000 * picoseconds / TIMESTEP / STRIDE)):
        dynamics.run(STRIDE)
        ase.io.write(trajectory, atoms, append=True)


def main() -> None:
    """Run, average, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ps", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, default=HERE / "production" / "run", help="of the production run")
    parser.add_argument("--trajectory", type=Path, default=HERE / "direct.xyz")
    options = parser.parse_args()
    run(options.folder, options.trajectory, options.ps)
    frames = ase.io.read(options.trajectory, ":")
    energy = np.array([frame.get_potential_energy() for frame in frames])
    members = np.repeat(energy[:, None], 2, axis=1)  # of a method that is sure of itself: no model error
    source = Source("GFN1-xTB", TEMPERATURE, None, 1, lambda: iter([Batch(0, members, energy, frames)]))
    report = averages.of_source(source, [parse(text) for text in OBSERVABLES])
    print("\n".join(averages.lines(report)))
    (HERE / "direct.json").write_text(averages.document(report))


if __name__ == "__main__":
    main()
