"""A cycle's training adds new labels to the sums of the cycle before, with the bits of a run that was interrupted."""

from pathlib import Path

import numpy as np
import pytest
from alflow import loop
from alflow.models.ace.fit import Fit
from alflow.records.train import TrainRecord
from alflow.report.progress import _Plain
from alflow.state.store import Store
from alflow.steps import train

from conftest import TINY, make_run

SETTINGS = TINY.replace("[sample]", "cutoff = 5.0\n[sample]")


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """From which structure on, and up to which, structures are added to sums."""
    calls: list[tuple[int, int]] = []
    add = Fit.add

    def told(self: Fit, training, begin: int, *more) -> None:
        calls.append((begin, len(training)))
        add(self, training, begin, *more)

    monkeypatch.setattr(Fit, "add", told)
    return calls


def committees(folder: Path) -> list[bytes]:
    store = Store(folder)
    return [
        store.read(cycle, "train", TrainRecord).model.model.coefficients.tobytes()
        for cycle in range(store.cycles()[-1] + 1)
    ]


def test_only_new_labels_are_added(tmp_path: Path, added: list[tuple[int, int]]) -> None:
    whole, pieces = (make_run(tmp_path / name, SETTINGS) for name in ("whole", "pieces"))
    loop.iterate(whole, _Plain(), 2)
    assert added == [(0, 12), (12, 15), (15, 18)]
    added.clear()
    loop.iterate(pieces, _Plain(), 0)
    loop.iterate(pieces, _Plain(), 1)
    loop.iterate(pieces, _Plain(), 1)
    assert added == [(0, 12), (0, 15), (0, 18)]
    assert committees(whole) == committees(pieces)


def test_sums_are_not_kept_where_memory_is_scarce(
    tmp_path: Path, added: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_ROOM", np.inf)
    loop.iterate(make_run(tmp_path / "run", SETTINGS), _Plain(), 1)
    assert added == [(0, 12), (0, 15)]
