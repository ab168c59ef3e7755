"""A run killed at any moment and started again ends as if it had never been killed."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.committee.reliability import Reliability
from alflow.records.assess import AssessRecord
from alflow.records.label import LabelRecord
from alflow.records.sample import SampleRecord
from alflow.records.select import SelectRecord
from alflow.records.train import TrainRecord
from alflow.reference.kinds import described
from alflow.report import exports, inspection
from alflow.report.status import status
from alflow.state.store import Store
from alflow.steps.check import problems

DRIVER = Path(__file__).parent / "driver.py"
SETTINGS = """
seed = 3
[[system]]
name = "water"
structures = "water.xyz"
copies = 11
[potential]
n_members = 8
n_max = 4
l_max = 2
n_features = 60
[sample]
temperature = [300, 600]
steps = 60
stride = 5
checkpoint = 5
force_sigma_max = 50
[select]
budget = 4
force_sigma_min = 0.0
duplicate_distance = 0.0
[converge]
max_cycles = 1
[executor]
workers = 2
"""
WATER = """3

O 0.0 0.0 0.119
H 0.0 0.763 -0.477
H 0.0 -0.763 -0.477
"""

# Every file of every step, when it is written and when it has got its name; the pieces that workers commit; in the
# order in which a run passes them.
MOMENTS = [
    "fsync:*/labels/*:2",
    "link:*/labels/*:3",
    *(f"{kind}:*/000/*{step}.h5*:1" for step in ("label", "train", "assess") for kind in ("fsync", "link")),
    "fsync:*/walkers/*:1",
    "link:*/walkers/*:2",
    "fsync:*/walkers/*:2",
    "link:*/walkers/*:1",
    *(f"{kind}:*/001/*{step}.h5*:1" for step in ("sample", "select") for kind in ("fsync", "link")),
    "fsync:*/labels/*:1",
    "link:*/labels/*:1",
    *(f"{kind}:*/001/*{step}.h5*:1" for step in ("label", "train", "assess") for kind in ("fsync", "link")),
]

SAMPLED = (
    *(
        "time",
        "walker",
        "energies",
        "energy",
        "energy_spread",
        "energy_sigma",
        "largest_force_spread",
        "largest_force_sigma",
    ),
    *("smallest_weight", "largest_grade"),
)
ASSESSED = (
    *("energy_rmse", "force_rmse", "alpha_energy", "alpha_force", "floor_energy", "floor_force", "largest_force_sigma"),
    *("note", "reason"),
)


def make(folder: Path) -> Path:
    folder.mkdir()
    (folder / "alflow.toml").write_text(SETTINGS)
    (folder / "water.xyz").write_text(WATER)
    return folder


def command(folder: Path, bullet: str = "never::0", what: tuple[str, ...] = ("iterate",)) -> subprocess.Popen[bytes]:
    environment = os.environ | {"BULLET": bullet, "LOG": str(folder.parent / f"{folder.name}.log")}
    return subprocess.Popen(
        [sys.executable, str(DRIVER), what[0], str(folder), *what[1:]],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(folder: Path, bullet: str = "never::0", what: tuple[str, ...] = ("iterate",)) -> tuple[int, str]:
    process = command(folder, bullet, what)
    _, error = process.communicate(timeout=120)
    return process.returncode, error.decode()


def calculations(folder: Path) -> list[str]:
    log = folder.parent / f"{folder.name}.log"
    return log.read_text().split() if log.exists() else []


def durable(folder: Path) -> set[str]:
    """Calculations whose result is on disk."""
    store = Store(folder)
    loose = {path.stem for path in (folder / "labels").glob("*.h5")}
    gathered = [store.read(k, "label", LabelRecord).ids for k in store.cycles() if store.exists(k, "label")]
    return loose.union(*gathered)


def read(store: Store, cycle: int, step: str, kind: type) -> object:
    """What a step left; of an assessment, which tells the whole history, that of the cycle."""
    record = store.read(cycle, step, kind)
    if step != "assess":
        return record
    assert [one.cycle for one in record.cycles] == list(range(cycle + 1))
    return record.last


def assert_same(folder: Path, other: Path) -> None:
    """Same samples, selection, labels, models and verdicts, to the last bit."""
    a, b = Store(folder), Store(other)
    assert a.cycles() == b.cycles() == [0, 1]
    for cycle in a.cycles():
        for step, kind, names in (
            ("sample", SampleRecord, SAMPLED),
            (
                "select",
                SelectRecord,
                ("source", "energy_spread", "energy_sigma", "largest_force_spread", "smallest_weight"),
            ),
            ("label", LabelRecord, ("baseline", "baseline_energy", "baseline_forces")),
            ("train", TrainRecord, ()),
            ("assess", AssessRecord, ASSESSED),
        ):
            if step not in a.steps(cycle):
                continue
            x, y = read(a, cycle, step, kind), read(b, cycle, step, kind)
            for name in names:
                np.testing.assert_array_equal(getattr(x, name), getattr(y, name), err_msg=f"{cycle} {step} {name}")
            if step == "assess":
                for part, f in itertools.product(("energy", "force", "new_energy", "new_force"), fields(Reliability)):
                    p, q = (getattr(getattr(record, part), f.name) for record in (x, y))
                    np.testing.assert_array_equal(p, q, err_msg=f"{cycle} {part} {f.name}")
            if step == "label":
                assert x.ids == y.ids
                for f, g in zip(x.frames, y.frames, strict=True):
                    np.testing.assert_array_equal(f.positions, g.positions)
                    np.testing.assert_array_equal(f.get_forces(), g.get_forces())
                    assert f.get_potential_energy() == g.get_potential_energy()
            if step == "train":
                p, q = (whole(m.model).predict(b.read(0, "label", LabelRecord).frames[0]) for m in (x, y))
                np.testing.assert_array_equal(p.energies, q.energies)
                np.testing.assert_array_equal(p.forces_sigma, q.forces_sigma)


def whole(model: Committee) -> Committee:
    """With its baseline, if it has one."""
    method = described(model.baseline_identity)
    return model if method is None else model.with_baseline(method.calculator())


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make(tmp_path_factory.mktemp("kill") / "unbroken")
    code, error = finish(folder)
    assert code == 0, error
    names = calculations(folder)
    assert len(names) == len(set(names)) == 16
    return folder


def test_killed_at_a_label_a_walk_and_a_model(unbroken: Path, tmp_path: Path) -> None:
    """One run, killed at three moments; the slow tests kill it at all others."""
    folder = make(tmp_path / "killed")
    for moment in ("link:*/labels/*:3", "link:*/walkers/*:2", "fsync:*/001/*train.h5*:1"):
        before = durable(folder)
        n_before = len(calculations(folder))
        code, error = finish(folder, moment)
        assert code == -signal.SIGKILL, f"{moment} never came: {error}"
        assert not before.intersection(calculations(folder)[n_before:])
        wait_for_workers(folder)
    code, error = finish(folder)
    assert code == 0, error
    assert_same(folder, unbroken)


@pytest.mark.slow
def test_killed_at_every_commit(unbroken: Path, tmp_path: Path) -> None:
    """One run, killed at 24 moments one after the other: in each of the five steps and inside every commit."""
    folder = make(tmp_path / "killed")
    for moment in MOMENTS:
        before = durable(folder)
        n_before = len(calculations(folder))
        code, error = finish(folder, moment)
        assert code == -signal.SIGKILL, f"{moment} never came: {error}"
        again = before.intersection(calculations(folder)[n_before:])
        assert not again, f"{moment}: results that were on disk were calculated again"
        wait_for_workers(folder)
        assert problems(folder) == []
    code, error = finish(folder)
    assert code == 0, error
    assert_same(folder, unbroken)
    leftovers = [*folder.rglob(".*.tmp"), *folder.glob("labels/*"), *folder.rglob("walkers")]
    assert leftovers == []


@pytest.mark.long
@pytest.mark.slow
def test_killed_by_the_clock(unbroken: Path, tmp_path: Path) -> None:
    """One run, killed again and again after a little more time, until it gets to its end."""
    folder = make(tmp_path / "clock")
    kills = 0
    for attempt in range(100):
        before = durable(folder)
        n_before = len(calculations(folder))
        process = command(folder)
        try:
            process.wait(timeout=0.4 + 0.15 * attempt)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        _, error = process.communicate()
        assert process.returncode in {0, -signal.SIGKILL}, error.decode()
        assert not before.intersection(calculations(folder)[n_before:])
        if process.returncode == 0:
            break
    assert kills >= 5
    wait_for_workers(folder)
    assert_same(folder, unbroken)


@pytest.mark.long
@pytest.mark.slow
def test_killed_with_a_weighted_baseline(tmp_path: Path) -> None:
    """The same with GFN1-xTB below: walks on U, and the baseline's results beside the labels, end bit for bit alike."""
    whole_run, killed = make(tmp_path / "whole"), make(tmp_path / "killed")
    for folder in (whole_run, killed):
        (folder / "alflow.toml").write_text(SETTINGS + '[baseline]\nweighting = "atom"\n')
    assert finish(whole_run)[0] == 0
    moments = ["link:*/labels/*:3", "fsync:*/000/*label.h5*:1", "link:*/000/*train.h5*:1", "link:*/walkers/*:3"]
    for moment in [*moments, "fsync:*/walkers/*:2", "fsync:*/001/*label.h5*:1", "fsync:*/001/*assess.h5*:1"]:
        code, error = finish(killed, moment)
        assert code == -signal.SIGKILL, f"{moment} never came: {error}"
        wait_for_workers(killed)
    assert finish(killed)[0] == 0
    assert_same(killed, whole_run)
    assert (Store(killed).read(1, "sample", SampleRecord).smallest_weight < 1).all()
    assert not (killed / "work").exists()


@pytest.mark.slow
def test_killed_in_production(unbroken: Path, tmp_path: Path) -> None:
    """Killed at its beginning and at segments, made longer, and killed again: the same as at one go."""
    whole_run, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole_run, killed):
        shutil.copytree(unbroken, folder)
    short, long = (("produce", "--steps", n, "--walkers", "2", "--temperature", "300") for n in ("40", "60"))
    assert finish(whole_run, what=long)[0] == 0
    for moment in (
        "fsync:*/run/*begin.h5*:1",
        "link:*/run/*begin.h5:1",
        "fsync:*/run/.000-0001*:1",
        "link:*/run/000-0006*:1",
    ):
        assert finish(killed, moment, short)[0] == -signal.SIGKILL, moment
        wait_for_workers(killed)
    assert finish(killed, what=short)[0] == 0
    assert finish(killed, "link:*/run/000-0009*:1", long)[0] == -signal.SIGKILL
    wait_for_workers(killed)
    assert finish(killed, what=("produce", "--steps", "60"))[0] == 0
    files = sorted(path.name for path in Store(whole_run).production("run").iterdir())
    assert len(files) == 1 + 2 * 12
    for name in files:
        a, b = (Store(folder).production("run") / name for folder in (whole_run, killed))
        assert a.read_bytes() == b.read_bytes(), name
    assert problems(killed) == []


@pytest.mark.slow
def test_killed_at_constant_pressure(tmp_path: Path) -> None:
    """The barostat goes on where it was: killed twice is the same as not killed."""
    whole_run, killed = make(tmp_path / "whole"), tmp_path / "killed"
    cell = 'Lattice="7 0 0 0 7 0 0 0 7" pbc="T T T" Properties=species:S:1:pos:R:3'
    (whole_run / "water.xyz").write_text(WATER.replace("\n\n", f"\n{cell}\n"))
    assert finish(whole_run, what=("iterate", "--cycles", "0"))[0] == 0
    shutil.copytree(whole_run, killed)
    what = ("produce", "--steps", "40", "--walkers", "1", "--temperature", "300", "--pressure", "0.1")
    assert finish(whole_run, what=what)[0] == 0
    for moment in ("link:*/run/000-0002*:1", "fsync:*/run/.000-0005*:1"):
        assert finish(killed, moment, what)[0] == -signal.SIGKILL, moment
        wait_for_workers(killed)
    assert finish(killed, what=what)[0] == 0
    files = sorted(path.name for path in Store(whole_run).production("run").iterdir())
    assert len(files) == 1 + 8
    for name in files:
        a, b = (Store(folder).production("run") / name for folder in (whole_run, killed))
        assert a.read_bytes() == b.read_bytes(), name


def test_walks_of_other_conditions_are_not_gone_on_with(unbroken: Path, tmp_path: Path) -> None:
    """Killed while it samples, and started again at other temperatures: no frame is of the old ones."""
    folder = shutil.copytree(unbroken, tmp_path / "run")
    assert finish(folder, "link:*/walkers/*:3", ("iterate", "--cycles", "1"))[0] == -signal.SIGKILL
    wait_for_workers(folder)
    (folder / "alflow.toml").write_text(SETTINGS.replace("temperature = [300, 600]", "temperature = [900, 300]"))
    code, error = finish(folder, what=("resume",))
    assert code == 0, error
    record = Store(folder).read(2, "sample", SampleRecord)
    assert [ensemble.temperature for ensemble in record.ensembles] == [900, 300]


@pytest.mark.slow
def test_number_of_workers_changes_nothing(unbroken: Path, tmp_path: Path) -> None:
    folder = make(tmp_path / "one")
    (folder / "alflow.toml").write_text(SETTINGS.replace("workers = 2", "workers = 1"))
    assert finish(folder)[0] == 0
    assert_same(folder, unbroken)


@pytest.mark.slow
def test_second_writer_is_refused_and_readers_are_not(unbroken: Path, tmp_path: Path) -> None:
    folder = make(tmp_path / "busy")
    process = command(folder)
    seen: set[str] = set()
    refused = ""
    counted = dict.fromkeys(("status", "inspect", "export"), 0)
    try:
        while process.poll() is None:
            found = status(folder)
            before = counted.copy()
            counted["status"] = found["n_labelled"]
            counted["inspect"] = sum(row["status"] == "labelled" for row in inspection.inspect(folder))
            if found["n_labelled"]:
                exports.export(folder, tmp_path / "labels.xyz")
                counted["export"] = len(ase.io.read(tmp_path / "labels.xyz", ":"))
            assert all(counted[view] >= before[view] for view in counted), "a label gathered meanwhile is missing"
            if found["writer"] and not refused:
                assert found["writer"]["pid"] == process.pid
                code, refused = finish(folder)
                assert code == 1 or process.poll() is not None
            seen.update(state for cycle in found["cycles"] for state in cycle["steps"].values())
            time.sleep(0.01)
    finally:
        process.kill()
        error = process.communicate()[1].decode()
    assert process.returncode == 0, error
    assert f"in use by pid {process.pid} on host {os.uname().nodename}" in refused
    assert len(refused.splitlines()) == 1
    assert seen == {"done", "running", "pending"}
    assert_same(folder, unbroken)


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 200 kB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    done = mounted and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(mount)], check=False)
    if not done or done.returncode:
        pytest.skip("a small file system can only be mounted by root where mounting is allowed")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_full_disk(unbroken: Path, small_disk: Path) -> None:
    """The run fails with one clear line, what was finished stays, and with more space it goes on to the same end."""
    folder = make(small_disk / "full")
    code, error = finish(folder)
    assert code == 1
    assert "No space left on device" in error
    assert "nothing that was finished is lost" in error
    assert len(error.splitlines()) == 1
    before = durable(folder)
    assert before
    n_before = len(calculations(folder))
    assert problems(folder) == []
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    code, error = finish(folder)
    assert code == 0, error
    assert not before.intersection(calculations(folder)[n_before:])
    assert_same(folder, unbroken)


def test_read_only_directory(small_disk: Path) -> None:
    folder = make(small_disk / "fixed")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, error = finish(folder)
    assert code == 1
    assert "Read-only file system" in error
    assert "make the file system writable" in error
    assert len(error.splitlines()) == 1
    assert status(folder)["next"] == "label"


def wait_for_workers(folder: Path) -> None:
    """Until no process of a killed run is alive: workers end by themselves, within a moment."""
    mine = f"LOG={folder.parent / folder.name}.log".encode()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if not any(mine in environment(process).split(b"\0") for process in Path("/proc").glob("[0-9]*")):
            return
        time.sleep(0.05)
    pytest.fail(f"workers of {folder} are still alive")


def environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:  # it has ended
        return b""
