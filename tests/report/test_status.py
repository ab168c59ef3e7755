"""How far a run is, in every state that a kill or another process can leave: by names and headers alone."""

from pathlib import Path

import pytest
from alflow.errors import StoreError
from alflow.records.label import label_place
from alflow.report import failures
from alflow.report.status import status
from alflow.state.file import commit_file
from alflow.state.store import Store

from some_records import KINDS, RECORDS, failed, labelled, run_of, segment


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two cycles, and a third whose labels are under way."""
    store = run_of(tmp_path / "run", 2)
    (store.directory / "alflow.toml").write_text("")
    store.make_cycle(2)
    for step in ("sample", "select"):
        store.commit(2, step, RECORDS[step])
    return store


def done(store: Store, name: str, batch: int, method: str = "method") -> None:
    commit_file(store.label_path(name), labelled(name), place=label_place(name, batch, method))


def gave_up(store: Store, name: str, batch: int) -> Path:
    path = store.failure_path(name, 0)
    commit_file(path, failed(name), place={**label_place(name, batch, "method"), "attempt": 0})
    return path


def counts(store: Store) -> tuple[int, int, int]:
    """Labels and failures of the cycle under way, and labels besides."""
    found = status(store.directory)
    return found["cycles"][-1]["n_labelled"], found["cycles"][-1]["n_failed"], found["n_besides"]


def test_labels_are_counted_as_they_come_in(store: Store) -> None:
    assert counts(store) == (0, 0, 0)
    done(store, "x", 2)
    done(store, "tried_again", -1)
    done(store, "of_another_method", -1, "another")
    gave_up(store, "y", 2)
    gave_up(store, "of_an_earlier_cycle", 1)
    gave_up(store, "x", 2)
    assert counts(store) == (1, 1, 1)


def test_labels_that_were_gathered_are_not_counted_again(store: Store) -> None:
    """A writer was killed after the commit of the step, before it removed them: retried ones too."""
    for name, batch in (("x", 2), ("tried_again", -1)):
        done(store, name, batch)
    store.commit(2, "label", labelled("x", "tried_again"))
    assert counts(store) == (2, 0, 0)


def test_labels_from_elsewhere_are_seen_before_the_first_step(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "alflow.toml").write_text("")
    store.make_cycle(0)
    done(store, "x", 0)
    done(store, "imported", -1)
    assert counts(store) == (1, 0, 1)


def test_a_failure_of_another_calculation_is_named(store: Store) -> None:
    path = gave_up(store, "y", 2)
    store.failure_path("z", 0).write_bytes(path.read_bytes())
    for look in (status, failures.failures):
        with pytest.raises(StoreError, match=r"z.0.h5 is the file of another .*expected calculation z, found"):
            look(store.directory)


@pytest.mark.parametrize("look", ["status", "inspect --failed", "check"])
def test_what_a_writer_removes_while_a_reader_looks_is_no_problem(
    store: Store, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """A label that is gathered, a failure that is tried again, walks whose frames were gathered."""
    done(store, "x", 2)
    path = gave_up(store, "y", 2)
    labelled = [*store.labelled(), "gathered"]
    tried = {"y": [path], "again": [path.with_stem("again.0")]}
    gone = store.walkers(3) / "000-0000-ab.h5"
    monkeypatch.setattr(Store, "labelled", lambda _: labelled)
    monkeypatch.setattr(Store, "failures", lambda _: tried)
    monkeypatch.setattr("alflow.state.store._segments", lambda folder: [gone])
    store.walkers(2).mkdir()
    if look == "status":
        assert counts(store) == (1, 1, 0)
    elif look == "check":
        assert store.verify(*KINDS) == []
    else:
        assert [entry["id"] for entry in failures.failures(store.directory)] == ["y"]
    assert segment().stop == ""
