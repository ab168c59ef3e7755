"""A result is on disk completely or not at all, whatever is done to the writer and to the files."""

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from alflow.errors import StoreError
from alflow.records.assess import AssessRecord
from alflow.records.label import LabelRecord
from alflow.records.sample import Segment
from alflow.records.train import TrainRecord
from alflow.state import file as statefile
from alflow.state.file import commit_file, make_folder, origin, read_file
from alflow.state.store import Store, read_segment, segment_path, segment_place

from some_records import (
    KINDS,
    RECORDS,
    assessed,
    failed,
    forge,
    labelled,
    litter,
    meddle,
    run_of,
    segment,
    selected,
    start,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return run_of(tmp_path / "run", 2)


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


def rewrite(path: Path, **changes: object) -> None:
    """Change what a header says, and give it a checksum that is right."""
    content = path.read_bytes()
    first = len(statefile._MAGIC) + 65
    text = content[first : content.index(b"\n", first)]
    new = json.dumps({**json.loads(text), **changes}, sort_keys=True).encode()
    block = content.index(b"\x89HDF")
    forge(path, content[:first] + (new + b"\n").ljust(block - first, b"\0") + content[block:])


def _shorten(file: h5py.File) -> None:
    del file["record/frames_info"]
    file["record/frames_info"] = ["{}"]


def _fewer(file: h5py.File) -> None:
    """One number less in one column than in the others."""
    numbers = file["record/cycles/energy_rmse"][()]
    del file["record/cycles/energy_rmse"]
    file["record/cycles/energy_rmse"] = numbers[:1]


def _group(file: h5py.File) -> None:
    del file["record/wall_time"]
    file.create_group("record/wall_time")


@pytest.mark.parametrize(
    "change",
    [
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
        lambda file: file.__delitem__("record/cycles/new_force"),
        lambda file: file.__delitem__("record/cycles/new_force/bins"),
        lambda file: file.__delitem__("record/cycles/energy/rms_z"),
        lambda file: file["record/cycles"].attrs.__setitem__("length", 3),
        _fewer,
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


@pytest.mark.parametrize("change", [{"schema": "one"}, {"size": 1}, {"place": 3}, {"more": 1}])
def test_a_header_that_is_not_one(store: Store, change: dict[str, object]) -> None:
    path = store.path(0, "label")
    rewrite(path, **change)
    with pytest.raises(StoreError, match=rf"^{path} .*; {REMEDY}"):
        store.header(0, "label")
    with pytest.raises(StoreError, match=rf"^{path} "):
        store.check()


def test_a_newer_schema_asks_for_an_update(store: Store) -> None:
    rewrite(store.path(0, "label"), schema=statefile.SCHEMA + 1, alflow="9.9", something="new")
    with pytest.raises(StoreError, match=r"label.h5 was written by alflow 9.9, which is newer .*: update alflow"):
        store.read(0, "label", LabelRecord)


def test_the_format_before_this_one_is_refused_with_what_can_be_done(store: Store) -> None:
    path = store.path(0, "label")
    path.write_bytes(b"alflow state file, sha256 of what follows: ".ljust(512, b"0") + path.read_bytes())
    message = r"label.h5 was written by an alflow before .*: begin a new run .*`alflow label --import OLD/cycles`"
    for look in (lambda: store.read(0, "label", LabelRecord), store.check):
        with pytest.raises(StoreError, match=message):
            look()


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
    assert store.verify(*KINDS) == []
    make_folder(store.walkers(2))
    walk = segment_path(store.walkers(2), 0, 0, "ab")
    commit_file(walk, segment(), place=segment_place(walk))
    commit_file(store.label_path("c"), labelled("c"), place={"calculation": "c"})
    commit_file(store.failure_path("d", 0), failed("d"), place={"calculation": "d", "attempt": 0})
    assert store.verify(*KINDS) == []
    damaged = [store.path(0, "label"), store.path(1, "sample"), store.label_path("c"), store.failure_path("d", 0), walk]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-1])
    store.path(0, "train").unlink()
    problems = store.verify(*KINDS)
    assert all("\n" not in problem for problem in problems)
    assert len(problems) == len(damaged) + 1
    for path in damaged:
        assert any(str(path) in problem for problem in problems)
    assert "000/train.h5 is missing" in problems[-1]


# --- the chain --------------------------------------------------------------------------------------------------------


def test_a_file_of_another_run_is_found_by_whoever_uses_the_run(tmp_path: Path) -> None:
    one, two = run_of(tmp_path / "one", 2), Store(tmp_path / "two")
    two.make_cycle(0)
    two.commit(0, "label", labelled("other"))
    shutil.copy(two.path(0, "label"), one.path(0, "label"))
    message = r"000/label.h5 is not the file that .*000/train.h5 was made from: .* restore the one that was there"
    for use in (one.check, lambda: one.read(0, "train", AssessRecord)):
        with pytest.raises(StoreError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)
    assert any(re.search(message, problem) for problem in one.verify(*KINDS))
    assert one.read(0, "label", LabelRecord).ids == ("other",), "in itself it is sound"


def test_a_file_in_the_place_of_another_cycle_is_found_by_its_header(store: Store) -> None:
    shutil.copy(store.path(0, "assess"), store.path(1, "assess"))
    with pytest.raises(StoreError, match=r"001/assess.h5 is the file of another .*expected cycle 1, found cycle 0"):
        store.check()


def test_a_file_that_was_cut_is_found_by_its_size(store: Store) -> None:
    path = store.path(1, "label")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=rf"{path} is damaged: it has \d+ bytes, expected \d+"):
        store.check()


def test_a_long_header_is_read_whole(tmp_path: Path) -> None:
    sources = []
    for number in range(40):
        sources.append(tmp_path / f"{number}.h5")
        commit_file(sources[-1], selected(), place={"number": number})
    path = tmp_path / "made.h5"
    commit_file(path, labelled("a"), made_from=origin(path, sources))
    assert len(statefile.read_header(path).made_from) == 40
    assert read_file(path, LabelRecord).ids == ("a",)
    with h5py.File(path) as file:
        assert file.userblock_size > 2048
    sources[3].unlink()
    commit_file(sources[3], selected(), place={"number": 4})
    with pytest.raises(StoreError, match=r"3.h5 is not the file that .*made.h5 was made from"):
        read_file(path, LabelRecord)
    sources[3].unlink()
    assert read_file(path, LabelRecord).ids == ("a",), "what is gone says nothing"


def test_segments_of_walkers_are_told_apart(tmp_path: Path) -> None:
    paths = [segment_path(tmp_path, walker, 0, "ab") for walker in (0, 1)]
    for path in paths:
        commit_file(path, segment(), place=segment_place(path))
    shutil.copy(paths[1], paths[0])
    with pytest.raises(StoreError, match=r"000-0000-ab.h5 is the file of another .*expected walker 0, found walker 1"):
        read_segment(paths[0], Segment)


# --- durability -------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from alflow.state import atomic
from alflow.state import file as statefile
from alflow.state.file import commit_file
from alflow.state.store import Store
from some_records import labelled

def kill_at(n):
    seen = 0
    def trace(frame, event, argument):
        nonlocal seen
        if frame.f_code.co_filename not in (statefile.__file__, atomic.__file__):
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
        commit_file(store.path(0, "label"), labelled("a"), place={"cycle": 0, "step": "label"})
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(n)
"""


def test_killed_at_any_line_of_a_commit(tmp_path: Path) -> None:
    """The file is there completely or not at all; what is left can be written, and litter is removed."""
    child = start(KILLED, tmp_path)
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
            commit_file(store.path(0, "label"), labelled("a"), place={"cycle": 0, "step": "label"}, exist_ok=True)
        assert store.read(0, "label", LabelRecord).ids == ("a",)
        assert store.verify(*KINDS) == []
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
            store.commit(1, "sample", big)
        assert {path: path.read_bytes() for path in disk.rglob("*.h5")} == before
        assert not litter(disk)
        store.commit(1, "sample", RECORDS["sample"])
        assert store.next_step() == (1, "select")


def test_read_only_file_system(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        store = run_of(disk / "run", 1)
        store.make_cycle(1)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(
            StoreError, match=r"sample.h5: Read-only file system: make the file system writable, or copy"
        ):
            store.commit(1, "sample", RECORDS["sample"])
        with pytest.raises(StoreError, match=r"\.lock: Read-only file system: make"), store.lock():
            pass
        with pytest.raises(StoreError, match=r"cycles/002: Read-only file system: make"):
            store.make_cycle(2)
        assert store.verify(*KINDS) == []
        assert store.writer() is None


LIMITED = """
import resource, signal, sys
from pathlib import Path
from some_records import RECORDS, Store, assessed
from alflow.errors import StoreError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = Store(Path(sys.argv[1]))
store.make_cycle(2)
try:
    store.commit(2, "sample", assessed(reason="x" * 1_000_000))
except StoreError as error:
    print(error)
store.commit(2, "sample", RECORDS["sample"])
"""


def test_limit_on_file_size(store: Store) -> None:
    child = start(LIMITED, store.directory)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert re.search(r"002/sample.h5: File too large: raise the limit on file size and run `alflow resume`", output)
    assert store.verify(*KINDS) == []
    assert store.next_step() == (2, "select")
    assert not litter(store.directory)


def test_the_same_record_gives_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from some_records import labelled\n"
        "from alflow.state.file import commit_file\n"
        "commit_file(Path(sys.argv[1]), labelled('a', 'b'), place={'cycle': 0})"
    )
    children = [start(code, tmp_path / name) for name in ("1.h5", "2.h5")]
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    commit_file(tmp_path / "3.h5", labelled("a", "b"), place={"cycle": 0})
    assert len({(tmp_path / name).read_bytes() for name in ("1.h5", "2.h5", "3.h5")}) == 1
