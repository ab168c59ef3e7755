"""What alflow costs for each label beyond the calculation itself, in a run that has many already.

A run with N labels gets a batch of B calculations of EMT copper on W local processes: the time of the label step, less
what the calculations themselves took, over B; and the memory of the driving process, before and after.

Run: python tests/benchmarks/reference_overhead.py [--labels 10000] [--batch 500] [--workers 2]
"""

import argparse
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from alflow import config
from alflow.executors.opening import local_pool
from alflow.records.electrons import Electrons
from alflow.records.label import LabelRecord
from alflow.records.select import SelectRecord
from alflow.reference.kinds import build
from alflow.state.store import Store
from alflow.steps.context import Context
from alflow.steps.label import label
from alflow.structures import structure_id
from ase import Atoms
from ase.build import bulk

SETTINGS = """
[[system]]
name = "copper"
structures = "copper.xyz"
[reference]
kind = "ase:ase.calculators.emt.EMT"
[executor]
workers = {workers}
"""
CELL = bulk("Cu", cubic=True).repeat(2)


class Silent:
    """Reports nothing."""

    def begin(self, what: str, total: int) -> None: ...
    def advance(self, done: int = 1) -> None: ...
    def detail(self, text: str) -> None: ...
    def note(self, message: str) -> None: ...


def rattled(number: int) -> Atoms:
    atoms = CELL.copy()
    atoms.rattle(0.1, seed=number)
    atoms.info = {"system": "copper", "charge": 0, "multiplicity": 1}
    return atoms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--bound", type=float, default=20.0, help="ms a label, above which the exit code is 1")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "alflow.toml").write_text(SETTINGS.format(workers=args.workers))
        settings = config.load(folder)
        store = Store(folder)
        method = build("ase", name="ase.calculators.emt.EMT")
        one = method.calculate(rattled(0)).frame
        frames = []
        for number in range(args.labels):
            frame = rattled(number)
            frame.calc = type(one.calc)(frame, **one.calc.results)
            frames.append(frame)
        n = len(frames)
        record = replace(
            LabelRecord.empty(method.identity()),
            ids=tuple(f"{i:024x}" for i in range(n)),
            frames=tuple(frames),
            plain_energy=np.full(n, np.nan),
            electrons=(Electrons(),) * n,
            wall_time=np.ones(n),
            cores=np.ones(n, dtype=np.int64),
            **dict.fromkeys(("code", "log", "changes", "baseline"), ("",) * n),
            baseline_energy=np.full(n, np.nan),
            baseline_forces=np.full((n * len(CELL), 3), np.nan),
            baseline_stress=np.full((n, 6), np.nan),
        )
        store.make_cycle(0)
        store.commit(0, "label", record, {})
        chosen = tuple(rattled(args.labels + k) for k in range(args.batch))
        zeros = np.zeros(args.batch)
        select = SelectRecord(
            ids=tuple(structure_id(frame, method.identity()) for frame in chosen),
            frames=chosen,
            source=np.arange(args.batch),
            reason=("",) * args.batch,
            **dict.fromkeys(
                ("energy_predicted", "energy_spread", "energy_sigma", "largest_force_spread", "largest_force_sigma",
                 "largest_atom_spread", "largest_atom_sigma", "smallest_weight"), zeros,
            ),
            n_candidates=0, n_rejected_sigma=0, n_rejected_unphysical=0, n_rejected_duplicate=0,
        )  # fmt: skip
        store.make_cycle(1)
        store.commit(1, "select", select, {})
        del record, frames
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        done = label(Context(settings, store, local_pool(settings.executor), Silent()), 1)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(done.ids) == args.batch
    inside = float(done.wall_time.sum()) / args.workers
    overhead = 1e3 * (seconds - inside) / args.batch
    print(f"{args.batch} labels into a run of {args.labels}, {args.workers} workers: {seconds:.1f} s")
    print(f"of which the calculations took {inside:.1f} s; overhead {overhead:.1f} ms a label (bound {args.bound:g})")
    print(f"largest memory of the driving process: {before / 1024:.0f} MB before, {after / 1024:.0f} MB after")
    sys.exit(overhead > args.bound)


if __name__ == "__main__":
    main()
