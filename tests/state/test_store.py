"""A result is on disk completely or not at all, whatever is done to the writer and to the files."""

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from alflow.committee.reliability import Reliability
from alflow.errors import LockedError, StoreError
from alflow.records.assess import AssessRecord
from alflow.records.label import LabelRecord
from alflow.records.sample import SampleRecord, Segment
from alflow.records.select import SelectRecord
from alflow.records.train import TrainRecord
from alflow.state import file as statefile
from alflow.state.store import Store, Writer, commit_file, make_folder, read_file
from alflow.structures import structure_id
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

KINDS = {
    "sample": SampleRecord,
    "select": SelectRecord,
    "label": LabelRecord,
    "train": AssessRecord,  # stands in for a model, of which this module need not know anything
    "assess": AssessRecord,
}


def assessed(reason: str = "goes on", n: int = 3) -> AssessRecord:
    bins = np.array([[0.1, 0.2, 10.0], [0.3, 0.25, 11.0]])
    judged = Reliability(21, 2, 1.1, 0.66, 0.94, -0.5, 0.07, 0.4, bins)
    return AssessRecord(
        n_labelled=n,
        n_failed=0,
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


def labelled(*names: str) -> LabelRecord:
    frame = Atoms("H2", positions=[[0, 0, 0], [0.1, 0.2, 0.7]])
    frame.calc = SinglePointCalculator(frame, energy=-1.0, forces=np.ones((2, 3)))
    frame.info["system"] = "hydrogen"
    n = len(names)
    record = LabelRecord.empty("method")
    for name in names:
        record = record.with_label(name, frame, 1.0, "code 1", "log", "{}")
    return replace(
        record,
        baseline=('{"kind": "tblite"}',) * n,
        baseline_energy=-0.9 - 0.01 * np.arange(n),
        baseline_forces=0.1 * np.arange(6.0 * n).reshape(2 * n, 3),
    )


def failed(name: str) -> LabelRecord:
    return labelled().with_failure(name, labelled(name).frames[0], "crashed", "end\0")


def segment() -> Segment:
    frame = labelled("a").frames[0]
    zeros = np.zeros(1)
    return Segment((frame,), zeros, np.zeros((1, 4)), *(zeros,) * 12, end=(frame,), end_step=7, stop="")


def sampled() -> SampleRecord:
    empty, none = np.zeros(0), np.zeros(0, dtype=np.int64)
    return SampleRecord((), none, empty, np.zeros((0, 4)), *(empty,) * 12, (), none, empty, ())


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
            store.commit(cycle, step, RECORDS[step], {"settings": "abc"})
    return store


def litter(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return run_of(tmp_path / "run", 2)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(statefile.__file__).parents[2])}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


# --- the run directory ------------------------------------------------------------------------------------------------


def test_progress_is_which_files_exist(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.cycles() == []
    assert store.next_step() == (0, "label")
    done: list[tuple[int, str]] = []
    for _ in range(8):
        cycle, step = store.next_step()
        assert not store.exists(cycle, step)
        store.make_cycle(cycle)
        store.commit(cycle, step, RECORDS[step], {})
        done.append((cycle, step))
    assert done == [
        *((0, step) for step in ("label", "train", "assess")),
        *((1, step) for step in ("sample", "select", "label", "train", "assess")),
    ]
    assert store.cycles() == [0, 1]
    assert store.next_step() == (2, "sample")
    assert [store.previous(*place) for place in done] == [None, *done[:-1]]


def test_folders_that_are_not_cycles_do_not_count(store: Store) -> None:
    for name in ("0003", "1e3", "12", "002.old", "backup"):
        (store.directory / "cycles" / name).mkdir()
    (store.directory / "cycles" / "1000").mkdir()
    assert store.cycles() == [0, 1, 1000]


def test_a_folder_of_cycles_that_cannot_be_read_is_no_new_run(tmp_path: Path) -> None:
    (tmp_path / "cycles").write_text("")
    with pytest.raises(StoreError, match=r"cycles: Not a directory: a file is where a folder should be: move it away"):
        Store(tmp_path).next_step()


def test_a_commit_says_where_it_came_from(store: Store) -> None:
    with h5py.File(store.path(1, "select"), "r") as file:
        found = dict(file.attrs)
    assert found["schema"] == statefile.SCHEMA
    assert (found["cycle"], found["step"], found["settings"]) == (1, "select", "abc")
    assert found["input"] == store.checksum(1, "sample")
    assert found["alflow"]


def test_nothing_is_overwritten(store: Store) -> None:
    path = store.path(1, "label")
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match=rf"{path} exists already and is never overwritten: .*; to make it again, remove"
    ):
        store.commit(1, "label", labelled("c"), {})
    commit_file(path, labelled("c"), exist_ok=True)
    assert path.read_bytes() == before
    assert not litter(store.directory)


def test_a_gap_is_an_error(store: Store) -> None:
    store.path(0, "assess").unlink()
    with pytest.raises(
        StoreError,
        match=r"000/assess.h5 is missing, although .*001/sample.h5 was made from it: restore it .* run `alflow resume`",
    ):
        store.next_step()


def test_a_step_that_is_finished_while_a_reader_looks_is_no_gap(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    not_yet = [(0, "assess")]
    really = Store.exists

    def exists(self: Store, cycle: int, step: str) -> bool:
        if (cycle, step) in not_yet:
            not_yet.remove((cycle, step))
            return False
        return really(self, cycle, step)

    monkeypatch.setattr(Store, "exists", exists)
    assert store.next_step() == (0, "assess")
    assert store.next_step() > (0, "assess")


def test_pieces_are_gathered_in_order_and_removed(store: Store) -> None:
    store.make_cycle(2)
    commit_file(store.label_path("x"), labelled("x"))
    commit_file(store.label_path("y"), replace(labelled("y"), baseline_energy=np.array([-0.8])))
    commit_file(store.failure_path("z", 0), failed("z"))
    commit_file(store.failure_path("x", 0), failed("x"))
    assert (store.is_labelled("x"), store.labelled(), store.failed()) == (True, ["x", "y"], ["z"])
    record = store.gather(["y", "z", "x"], "method")
    np.testing.assert_array_equal(record.baseline_energy, [-0.8, -0.9])
    np.testing.assert_array_equal(record.baseline_forces, np.tile(labelled("x").baseline_forces, (2, 1)))
    assert (record.ids, record.failed_ids, record.failed_detail) == (
        ("y", "x"),
        ("z", "x"),
        ("end\N{REPLACEMENT CHARACTER}",) * 2,
    )
    assert record.gave_up == ("z",)
    with pytest.raises(StoreError, match=r"labels/w.h5: No such file or directory: .* run `alflow resume`"):
        store.gather(["x", "w"], "method")
    store.tidy(2, "label")
    assert store.is_labelled("x"), "not committed yet"
    for step in ("sample", "select"):
        store.commit(2, step, RECORDS[step], {})
    store.commit(2, "label", record, {})
    store.tidy(2, "label")
    assert not list((store.directory / "labels").glob("*"))
    assert list(store.failures()) == ["x", "z"]


def test_labels_besides_those_of_a_batch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one method, in one pass; one that is gathered while they are read is no error, a damaged one is."""
    mine, other = (structure_id(labelled("x").frames[0], method) for method in ("method", "other"))
    for name in (mine, other):
        commit_file(store.label_path(name), labelled(name))
    listed = [*store.labelled(), "gathered"]
    monkeypatch.setattr(Store, "labelled", lambda _: listed)
    assert [*store.labels_besides((), "method")] == [mine]
    assert store.labels_besides({mine}, "method") == {}
    store.label_path(other).write_bytes(b"damaged")
    assert [*store.labels_besides({other}, "method")] == [mine]
    with pytest.raises(StoreError, match=other):
        store.labels_besides((), "method")


# --- damage -----------------------------------------------------------------------------------------------------------

REMEDY = (
    r"restore it from a backup, or remove it together with everything that was made after it and run `alflow resume`"
)


def refused(path: Path, cls: type = LabelRecord) -> None:
    with pytest.raises(StoreError, match=rf"^{path} .*; {REMEDY}") as caught:
        read_file(path, cls)
    assert "\n" not in str(caught.value)


def test_every_flipped_byte_is_noticed(store: Store) -> None:
    path = store.path(0, "label")
    content = path.read_bytes()
    for offset in (*range(512), *np.linspace(512, len(content) - 1, 300).astype(int)):
        damaged = bytearray(content)
        damaged[offset] ^= 1 << (offset % 8)
        path.write_bytes(damaged)
        refused(path)
    path.write_bytes(content)
    assert read_file(path, LabelRecord).ids == ("a", "b")


def test_every_truncation_is_noticed(store: Store) -> None:
    path = store.path(0, "label")
    content = path.read_bytes()
    for length in (0, 1, 50, 107, 108, 511, 512, 513, 1024, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        refused(path)
    path.write_bytes(content + b"\0")
    refused(path)


def test_a_file_of_another_step_is_noticed(store: Store) -> None:
    shutil.copy(store.path(0, "label"), store.path(1, "label"))
    with pytest.raises(
        StoreError, match=rf"001/label.h5 is the file of another .*expected cycle 1, found cycle 0; {REMEDY}"
    ):
        store.read(1, "label", LabelRecord)
    shutil.copy(store.path(1, "train"), store.path(1, "assess"))
    with pytest.raises(StoreError, match=r"expected step assess, found step train"):
        store.read(1, "assess", AssessRecord)


def forge(path: Path, content: bytes) -> None:
    """Give any content a header that is right."""
    content = content.ljust(512, b"\0")
    digest = statefile.hashlib.sha256(content[512:]).hexdigest()
    path.write_bytes(statefile._header(digest) + content[512:])


def meddle(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)
    forge(path, path.read_bytes())


def _shorten(file: h5py.File) -> None:
    del file["record/frames_info"]
    file["record/frames_info"] = ["{}"]


def _group(file: h5py.File) -> None:
    del file["record/wall_time"]
    file.create_group("record/wall_time")


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.attrs.__delitem__("schema"),
        lambda file: file.attrs.__setitem__("schema", "one"),
        lambda file: file.__delitem__("record"),
        lambda file: file["record"].attrs.__delitem__("kind"),
        lambda file: file["record"].attrs.__setitem__("kind", "AssessRecord"),
        lambda file: file.__delitem__("record/ids"),
        lambda file: file.__delitem__("record/baseline_forces"),
        lambda file: file.__delitem__("particles"),
        lambda file: file["record"].attrs.__delitem__("method"),
        _shorten,
        _group,
    ],
)
def test_a_right_checksum_is_not_enough(store: Store, change: Callable[[h5py.File], None]) -> None:
    path = store.path(0, "label")
    meddle(path, change)
    refused(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.__delitem__("record/new_force"),
        lambda file: file.__delitem__("record/new_force/bins"),
        lambda file: file["record/energy"].attrs.__delitem__("rms_z"),
        lambda file: file["record/energy"].attrs.__setitem__("n", "many"),
    ],
)
def test_a_right_checksum_is_not_enough_for_a_record_inside_a_record(
    store: Store, change: Callable[[h5py.File], None]
) -> None:
    path = store.path(0, "assess")
    meddle(path, change)
    refused(path, AssessRecord)


def test_foreign_content_under_a_forged_header(store: Store) -> None:
    path = store.path(0, "label")
    for content in (b"", b"no HDF5", bytes(4096), path.read_bytes()[:3000]):
        forge(path, 512 * b"\0" + content)
        refused(path)


def test_a_newer_schema_asks_for_an_update(store: Store) -> None:
    meddle(store.path(0, "label"), lambda file: file.attrs.update(schema=statefile.SCHEMA + 1, alflow="9.9"))
    with pytest.raises(StoreError, match=r"label.h5 was written by alflow 9.9, which is newer .*: update alflow"):
        store.read(0, "label", LabelRecord)


def test_an_older_schema_asks_for_a_new_run(store: Store) -> None:
    meddle(store.path(0, "label"), lambda file: file.attrs.update(schema=statefile.SCHEMA - 1))
    with pytest.raises(StoreError, match=r"label.h5 was written by an alflow before .*: begin a new run directory"):
        store.read(0, "label", LabelRecord)


def test_a_missing_file_names_the_remedy(store: Store) -> None:
    with pytest.raises(StoreError, match=r"002/label.h5: No such file or directory: .*run `alflow resume`"):
        store.read(2, "label", LabelRecord)
    with pytest.raises(StoreError, match=r"cycles: Is a directory: a folder is where a file should be"):
        read_file(store.directory / "cycles", LabelRecord)


def test_a_record_that_no_file_can_hold_leaves_no_trace(store: Store) -> None:
    record = labelled("c")
    record.frames[0].info["thing"] = object()
    path = store.label_path("c")
    with pytest.raises(
        StoreError, match=r"labels/c.h5 cannot be written: structure 0 of frames: info .*; remove that entry"
    ):
        commit_file(path, record)
    assert not list(path.parent.iterdir())


def test_a_model_that_cannot_be_read_is_a_state_error(tmp_path: Path) -> None:
    class Odd:
        def write(self, group: h5py.Group) -> None:
            group.attrs.update(schema=99, alflow="9.9")

    path = tmp_path / "train.h5"
    commit_file(path, TrainRecord(model=Odd(), n_frames=1, left_out=""))
    with pytest.raises(StoreError, match=r"train.h5 is not what it should be, a TrainRecord \(.*newer.*update alflow"):
        read_file(path, TrainRecord)


def test_verify_lists_every_problem(store: Store) -> None:
    assert store.verify(KINDS) == []
    make_folder(store.walkers(2))
    commit_file(store.walkers(2) / "000-0000.h5", segment())
    commit_file(store.label_path("c"), labelled("c"))
    commit_file(store.failure_path("d", 0), failed("d"))
    assert store.verify(KINDS) == []
    damaged = [
        store.path(0, "label"),
        store.path(1, "sample"),
        store.failure_path("d", 0),
        store.label_path("c"),
        store.walkers(2) / "000-0000.h5",
    ]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-1])
    store.path(0, "train").unlink()
    problems = store.verify(KINDS)
    assert all("\n" not in problem for problem in problems)
    for path, problem in zip(damaged, problems, strict=False):
        assert str(path) in problem
    assert "000/train.h5 is missing" in problems[-1]
    assert len(problems) == 6


def test_verify_notices_files_of_two_runs(tmp_path: Path) -> None:
    one, two = run_of(tmp_path / "one", 2), Store(tmp_path / "two")
    two.make_cycle(0)
    two.commit(0, "label", labelled("other"), {})
    shutil.copy(two.path(0, "label"), one.path(0, "label"))
    (problem,) = one.verify(KINDS)
    assert re.search(r"000/train.h5 is the file of another step or run: expected input [0-9a-f]+, found", problem)


# --- durability -------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from alflow.state import file as statefile
from alflow.state.store import Store, commit_file
sys.path.insert(0, sys.argv[2])
from test_store import labelled

def kill_at(n):
    seen = 0
    def trace(frame, event, argument):
        nonlocal seen
        if frame.f_code.co_filename != statefile.__file__:
            return None
        seen += event in ("line", "return")
        if seen == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)

n = 0
while True:
    n += 1
    store = Store(Path(sys.argv[1]) / str(n))
    store.make_cycle(0)
    child = os.fork()
    if child == 0:
        kill_at(n)
        commit_file(store.path(0, "label"), labelled("a"), {"cycle": 0, "step": "label"})
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(n)
"""


def test_killed_at_any_line_of_a_commit(tmp_path: Path) -> None:
    """The file is there completely or not at all; what is left can be written, and litter is removed."""
    child = start(KILLED, tmp_path, Path(__file__).parent)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    n = int(output)
    states = []
    for k in range(1, n + 1):
        store = Store(tmp_path / str(k))
        before = bool(litter(store.directory)), store.exists(0, "label")
        states.append(before)
        if before[1]:
            assert store.read(0, "label", LabelRecord).ids == ("a",)
        with store.lock():
            assert not litter(store.directory)
            commit_file(store.path(0, "label"), labelled("a"), {"cycle": 0, "step": "label"}, exist_ok=True)
        assert store.read(0, "label", LabelRecord).ids == ("a",)
        assert store.verify(KINDS) == []
    assert set(states) == {(False, False), (True, False), (True, True), (False, True)}, "each state was met"
    assert states == sorted(states, key=[(False, False), (True, False), (True, True), (False, True)].index)


def test_only_litter_is_swept(store: Store) -> None:
    here, dead = socket.gethostname(), subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    parent = os.getppid()
    folder = store.folder(1)
    make_folder(store.walkers(1))
    gone = [
        folder / f".train.h5.00ff.{dead.pid}@{here}.tmp",
        store.walkers(1) / f".000-0001.h5.00ff.{dead.pid}@{here}.tmp",
        store.directory / "labels" / f".ab.h5.00ff.{dead.pid}@{here}.tmp",
        store.directory / "failed" / f".ab.h5.00ff.{dead.pid}@{here}.tmp",
        folder / f".old.h5.00ff.{parent}@elsewhere.example.org.tmp",
    ]
    kept = [
        folder / f".train.h5.00ff.{parent}@{here}.tmp",
        folder / f".train.h5.00ff.{dead.pid}@elsewhere.example.org.tmp",
        folder / ".notes.tmp",
    ]
    for path in (*gone, *kept):
        path.write_text("")
    os.utime(gone[-1], (0, 0))
    store.path(1, "sample").unlink()  # else the walkers' folder goes as a whole
    with store.lock():
        pass
    assert sorted(path for path in (*gone, *kept) if path.exists()) == sorted(kept)


def test_a_disk_that_is_never_flushed_gets_no_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreError, match=r"labels/c.h5: Input/output error: check the file system"):
        commit_file(store.label_path("c"), labelled("c"))
    assert not list((store.directory / "labels").iterdir())


@pytest.fixture(params=["link", "no link"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    look = os.path.lexists

    def look_long(path: Path) -> bool:
        found = look(path)
        time.sleep(0.02)
        return found

    if request.param == "no link":
        monkeypatch.setattr(os, "link", refuse)
        monkeypatch.setattr(os.path, "lexists", look_long)


@pytest.mark.usefixtures("links")
def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "label.h5"
    barrier = threading.Barrier(8)

    def commit(name: str) -> str:
        barrier.wait()
        try:
            commit_file(path, labelled(name))
        except StoreError as error:
            return str(error)
        return name

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(commit, "abcdefgh"))
    winners = [text for text in said if len(text) == 1]
    assert sum("exists already" in text for text in said) == 7
    assert read_file(path, LabelRecord).ids == tuple(winners)
    commit_file(path, labelled("late"), exist_ok=True)
    assert read_file(path, LabelRecord).ids == tuple(winners)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_whose_answer_was_lost_is_no_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    commit_file(tmp_path / "label.h5", labelled("a"))
    assert read_file(tmp_path / "label.h5", LabelRecord).ids == ("a",)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own; skips where that is not allowed."""
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False).returncode:
        pytest.skip("may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        store = run_of(disk / "run", 1)
        before = {path: path.read_bytes() for path in disk.rglob("*.h5")}
        store.make_cycle(1)
        big = assessed(reason="x" * 2_000_000)
        with pytest.raises(
            StoreError, match=r"sample.h5: No space left on device: free some space and run `alflow resume`"
        ):
            store.commit(1, "sample", big, {})
        assert {path: path.read_bytes() for path in disk.rglob("*.h5")} == before
        assert not litter(disk)
        store.commit(1, "sample", RECORDS["sample"], {})
        assert store.next_step() == (1, "select")


def test_read_only_file_system(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        store = run_of(disk / "run", 1)
        store.make_cycle(1)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(
            StoreError, match=r"sample.h5: Read-only file system: make the file system writable, or copy"
        ):
            store.commit(1, "sample", RECORDS["sample"], {})
        with pytest.raises(StoreError, match=r"\.lock: Read-only file system: make"), store.lock():
            pass
        with pytest.raises(StoreError, match=r"cycles/002: Read-only file system: make"):
            store.make_cycle(2)
        assert store.verify(KINDS) == []
        assert store.writer() is None


LIMITED = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store import RECORDS, Store, assessed
from alflow.errors import StoreError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = Store(Path(sys.argv[1]))
store.make_cycle(2)
try:
    store.commit(2, "sample", assessed(reason="x" * 1_000_000), {})
except StoreError as error:
    print(error)
store.commit(2, "sample", RECORDS["sample"], {})
"""


def test_limit_on_file_size(store: Store) -> None:
    child = start(LIMITED, store.directory, Path(__file__).parent)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert re.search(r"002/sample.h5: File too large: raise the limit on file size and run `alflow resume`", output)
    assert store.verify(KINDS) == []
    assert store.next_step() == (2, "select")
    assert not litter(store.directory)


def test_the_same_record_gives_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); from test_store import *\n"
        "commit_file(Path(sys.argv[1]), labelled('a', 'b'), {'cycle': 0})"
    )
    children = [start(code, tmp_path / name, Path(__file__).parent) for name in ("1.h5", "2.h5")]
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    commit_file(tmp_path / "3.h5", labelled("a", "b"), {"cycle": 0})
    assert len({(tmp_path / name).read_bytes() for name in ("1.h5", "2.h5", "3.h5")}) == 1


# --- one writer -------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from alflow.state.store import Store
with Store(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_refused_until_the_first_is_dead(store: Store) -> None:
    assert store.writer() is None
    child = start(HOLD, store.directory)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        message = rf"run is in use by pid {child.pid} on host {socket.gethostname()} since 20.* UTC: wait .* or stop it"
        with pytest.raises(LockedError, match=message), store.lock():
            pass
        writer = store.writer()
        assert writer is not None
        assert (writer.host, writer.pid) == (socket.gethostname(), child.pid)
        assert store.next_step() == (2, "sample"), "readers are welcome"
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.communicate()
    assert store.writer() is None
    with store.lock():
        writer = store.writer()
        assert writer is not None
        assert writer.pid == os.getpid()
        with pytest.raises(LockedError, match=f"pid {os.getpid()}"), store.lock():
            pass
    assert store.writer() is None


def test_a_readers_look_does_not_turn_a_writer_away(store: Store) -> None:
    (store.directory / ".lock").write_text("")
    descriptor = os.open(store.directory / ".lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, [descriptor]).start()
    with store.lock():
        pass


def test_a_writer_that_has_not_said_who_it_is(store: Store) -> None:
    with store.lock():
        for text in ("", "{", "[]", json.dumps({"host": "a"})):
            (store.directory / ".lock").write_text(text)
            assert store.writer() == Writer("(unknown)", 0, "just now")


def test_lock_of_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"\.lock: No such file or directory: check the name of the run directory"),
        Store(tmp_path / "typo").lock(),
    ):
        pass
    assert Store(tmp_path / "typo").writer() is None
    assert not (tmp_path / "typo").exists()


def test_make_folder(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file: File exists: a file is where a folder should be: move it away"):
        make_folder(tmp_path / "file")
