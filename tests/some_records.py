"""Small records of every kind, run directories of them, and processes that work on these."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from alflow.committee.reliability import Reliability
from alflow.records.assess import Assessment, AssessRecord
from alflow.records.electrons import Electrons
from alflow.records.label import LabelRecord
from alflow.records.sample import Ensemble, SampleRecord, Segment
from alflow.records.select import SelectRecord
from alflow.state import file as statefile
from alflow.state.store import Store
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

KINDS = (
    {
        "sample": SampleRecord,
        "select": SelectRecord,
        "label": LabelRecord,
        "train": AssessRecord,  # stands in for a model, of which the state need not know anything
        "assess": AssessRecord,
    },
    LabelRecord,
    Segment,
    SelectRecord,  # stands in for the beginning of a production run
)


def assessed(reason: str = "goes on", n: int = 3) -> AssessRecord:
    bins = np.array([[0.1, 0.2, 10.0], [0.3, 0.25, 11.0]])
    judged = Reliability(21, 2, 1.1, 0.66, 0.94, -0.5, 0.07, 0.4, bins)
    now = Assessment(
        cycle=0,
        n_selected=n,
        n_new=n,
        n_failed=0,
        n_labelled=n,
        energy_rmse=0.1,
        force_rmse=0.2,
        energy_rmse_after=0.01,
        force_rmse_after=0.02,
        alpha_energy=1.5,
        alpha_force=2.5,
        floor_energy=1e-3,
        floor_force=2e-3,
        energy=judged,
        force=replace(judged, n=63, rms_z=0.9),
        new_energy=Reliability(),
        new_force=replace(judged, bins=bins[:1]),
        note="",
        largest_force_sigma=float("inf"),
        observable="",
        observable_error=float("nan"),
        observable_noise=float("nan"),
        observable_note="",
        converged=False,
        reason=reason,
    )
    return AssessRecord((replace(now, reason="before"), now))


LEVELS = Electrons(1.5, np.arange(6.0).reshape(1, 2, 3), np.ones((1, 2, 3)), np.array([0.25, 0.75]))


def labelled(*names: str) -> LabelRecord:
    frame = Atoms("H2", positions=[[0, 0, 0], [0.1, 0.2, 0.7]])
    frame.calc = SinglePointCalculator(frame, energy=-1.0, forces=np.ones((2, 3)))
    frame.info["system"] = "hydrogen"
    n = len(names)
    record = LabelRecord.empty("method")
    for name in names:
        record = record.with_label(name, frame, 1.0, "code 1", "log", "{}", electrons=LEVELS)
    return replace(
        record,
        baseline=('{"kind": "tblite"}',) * n,
        baseline_energy=-0.9 - 0.01 * np.arange(n),
        baseline_forces=0.1 * np.arange(6.0 * n).reshape(2 * n, 3),
        baseline_stress=0.01 * np.arange(6.0 * n).reshape(n, 6),
    )


def failed(name: str) -> LabelRecord:
    return labelled().with_failure(name, labelled(name).frames[0], "crashed", "end\0")


def segment() -> Segment:
    frame = labelled("a").frames[0]
    zeros = np.zeros(1)
    measured = (zeros, np.zeros((1, 4)), *(zeros,) * 13, {}, {})
    return Segment(0, Ensemble("hydrogen", 300.0), 0.5, (frame,), *measured, end=(frame,), end_step=7, stop="")


def sampled() -> SampleRecord:
    empty, none = np.zeros(0), np.zeros(0, dtype=np.int64)
    return SampleRecord((), none, empty, np.zeros((0, 4)), *(empty,) * 13, {}, {}, (), none, (), ())


def selected() -> SelectRecord:
    empty = np.zeros(0)
    return SelectRecord((), (), np.zeros(0, dtype=np.int64), (), *(empty,) * 8, 0, 0, 0, 0)


RECORDS: dict[str, object] = {
    "sample": sampled(),
    "select": selected(),
    "label": labelled("a", "b"),
    "train": assessed("train"),
    "assess": assessed(),
}


def run_of(directory: Path, cycles: int) -> Store:
    """A run directory with so many finished cycles."""
    store = Store(directory)
    for cycle in range(cycles):
        store.make_cycle(cycle)
        for step in store.steps(cycle):
            store.commit(cycle, step, RECORDS[step], "abc")
    return store


def litter(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that finds alflow and the helpers of the tests."""
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def forge(path: Path, content: bytes) -> None:
    """Give any content behind the first line a checksum that is right."""
    magic = statefile._MAGIC + 64 * b"0" + b"\n"
    digest = hashlib.sha256(content[len(magic) :]).hexdigest().encode()
    path.write_bytes(magic.replace(64 * b"0", digest) + content[len(magic) :])


def meddle(path: Path, change: Callable[[h5py.File], None]) -> None:
    before = path.stat().st_size
    with h5py.File(path, "r+") as file:
        change(file)
    content = path.read_bytes()
    forge(path, content.replace(b'"size": %d' % before, b'"size": %d' % len(content), 1))


def water(n: int = 1, **results: object) -> Atoms:
    atoms = Atoms("OH2" * n, positions=np.arange(9.0 * n).reshape(-1, 3) / 7)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


GFN1 = '{"kind": "tblite", "method": "GFN1-xTB"}'


def labels_of(
    *frames: Atoms, detail: str = "", failed: tuple[Atoms, ...] = (), baseline: str = GFN1, energy: float = -3.0
) -> LabelRecord:
    n_atoms = sum(len(frame) for frame in frames)
    record = LabelRecord.empty('{"kind": "tblite"}')
    for i, frame in enumerate(frames):
        record = record.with_label(f"{i:024x}", frame, 0.1 + i, "tblite 0.4", "log", electrons=Electrons(1.0))
    for frame in failed:
        record = record.with_failure("f", frame, "crashed", detail)
    return replace(
        record,
        baseline=(baseline,) * len(frames),
        baseline_energy=energy + np.arange(len(frames)) / 7,
        baseline_forces=energy * np.arange(3.0 * n_atoms).reshape(-1, 3),
        baseline_stress=energy * np.arange(6.0 * len(frames)).reshape(-1, 6),
    )
