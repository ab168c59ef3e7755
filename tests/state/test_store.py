"""The run directory: progress is which files exist, and one process writes."""

import fcntl
import json
import os
import shutil
import signal
import socket
import threading
from pathlib import Path

import pytest
from alflow.errors import LockedError, StoreError
from alflow.state import file as statefile
from alflow.state.file import commit_file, make_folder
from alflow.state.store import Store, Writer
from alflow.version import __version__

from some_records import KINDS, RECORDS, labelled, litter, run_of, start


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return run_of(tmp_path / "run", 2)


def test_progress_is_which_files_exist(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.cycles() == []
    assert store.next_step() == (0, "label")
    done: list[tuple[int, str]] = []
    for _ in range(8):
        cycle, step = store.next_step()
        assert not store.exists(cycle, step)
        store.make_cycle(cycle)
        store.commit(cycle, step, RECORDS[step])
        done.append((cycle, step))
    assert done == [
        *((0, step) for step in ("label", "train", "assess")),
        *((1, step) for step in ("sample", "select", "label", "train", "assess")),
    ]
    assert store.cycles() == [0, 1]
    assert store.next_step() == (2, "sample")
    for place in done:
        assert set(store.sources(*place)) <= set(done[: done.index(place)]), "made from what was there"
    linked = {source for place in done for source in store.sources(*place)}
    assert linked == set(done[:-1]), "every file but the last is stated by another"


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
    header = store.header(1, "select")
    assert (header.schema, header.alflow) == (statefile.SCHEMA, __version__)
    assert (header.place, header.settings) == ({"cycle": 1, "step": "select"}, "abc")
    before = {"../000/train.h5": store.checksum(0, "train")}
    assert header.made_from == {"sample.h5": store.checksum(1, "sample"), **before}
    assert store.header(1, "sample").made_from == before
    assert header.headline == {"selected": 0}


def test_a_run_that_was_moved_or_copied_is_as_good(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.directory, tmp_path / "copy")
    store.directory.rename(tmp_path / "moved")
    for name in ("copy", "moved"):
        Store(tmp_path / name).check()
        assert Store(tmp_path / name).verify(*KINDS) == []


def test_nothing_is_overwritten(store: Store) -> None:
    path = store.path(1, "label")
    before = path.read_bytes()
    with pytest.raises(
        StoreError, match=rf"{path} exists already and is never overwritten: .*; to make it again, remove"
    ):
        store.commit(1, "label", labelled("c"))
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
    really = Store.finished

    def finished(self: Store) -> list[tuple[int, str]]:
        found = [place for place in really(self) if place not in not_yet]
        not_yet.clear()
        return found

    monkeypatch.setattr(Store, "finished", finished)
    assert store.next_step() == (0, "assess")
    assert store.next_step() > (0, "assess")


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
