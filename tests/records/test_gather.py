"""What a batch of reference calculations has left: gathered in order, each counted once, and removed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alflow.errors import StoreError
from alflow.records.batch import gather, labels_besides, sweep_labels
from alflow.records.label import LabelRecord, label_place
from alflow.state.file import commit_file
from alflow.state.store import Store
from alflow.structures import structure_id

from some_records import KINDS, RECORDS, failed, labelled, run_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return run_of(tmp_path / "run", 2)


def done(store: Store, name: str, record: LabelRecord) -> None:
    commit_file(store.label_path(name), record, place=label_place(name, 2, "method"))


def test_pieces_are_gathered_in_order_and_removed(store: Store) -> None:
    store.make_cycle(2)
    done(store, "x", labelled("x"))
    done(store, "y", replace(labelled("y"), baseline_energy=np.array([-0.8])))
    commit_file(store.failure_path("z", 0), failed("z"), place={"calculation": "z", "attempt": 0})
    commit_file(store.failure_path("x", 0), failed("x"), place={"calculation": "x", "attempt": 0})
    assert (store.is_labelled("x"), store.labelled(), store.failed()) == (True, ["x", "y"], ["z"])
    record = gather(store, ["y", "z", "x"], "method")
    np.testing.assert_array_equal(record.baseline_energy, [-0.8, -0.9])
    np.testing.assert_array_equal(record.baseline_forces, np.tile(labelled("x").baseline_forces, (2, 1)))
    assert (record.ids, record.failed_ids, record.failed_detail) == (
        ("y", "x"),
        ("z", "x"),
        ("end\N{REPLACEMENT CHARACTER}",) * 2,
    )
    assert record.gave_up == ("z",)
    with pytest.raises(StoreError, match=r"labels/w.h5: No such file or directory: .* run `alflow resume`"):
        gather(store, ["x", "w"], "method")
    sweep_labels(store, store.cycles())
    assert store.is_labelled("x"), "not committed yet"
    for step in ("sample", "select"):
        store.commit(2, step, RECORDS[step])
    store.commit(2, "label", record)
    sweep_labels(store, store.cycles())
    assert not list((store.directory / "labels").glob("*"))
    assert list(store.failures()) == ["x", "z"]


def test_labels_besides_those_of_a_batch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one method, in one pass; one that is gathered while they are read is no error, a damaged one is."""
    mine, other = (structure_id(labelled("x").frames[0], method) for method in ("method", "other"))
    for name in (mine, other):
        done(store, name, labelled(name))
    listed = [*store.labelled(), "gathered"]
    monkeypatch.setattr(Store, "labelled", lambda _: listed)
    assert [*labels_besides(store, (), "method")] == [mine]
    assert labels_besides(store, {mine}, "method") == {}
    store.label_path(other).write_bytes(b"damaged")
    assert [*labels_besides(store, {other}, "method")] == [mine]
    with pytest.raises(StoreError, match=other):
        labels_besides(store, (), "method")


def test_the_content_of_another_calculation_is_noticed(store: Store) -> None:
    done(store, "x", labelled("x"))
    done(store, "y", labelled("y"))
    store.label_path("y").write_bytes(store.label_path("x").read_bytes())
    message = r"labels/y.h5 is the file of another .*expected calculation y, found calculation x"
    for look in (lambda: gather(store, ["x", "y"], "method"), lambda: labels_besides(store, (), "method")):
        with pytest.raises(StoreError, match=message):
            look()
    assert any("labels/y.h5" in problem for problem in store.verify(*KINDS))
