"""Labels of another run, of this format and of the one before the first release, are where a new run begins."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from alflow.records.earlier import read_label_steps
from alflow.records.label import LabelRecord, label_place
from alflow.state.file import commit_file
from alflow.state.store import Store

from conftest import TINY, alflow, make_run

OLD = Path(__file__).parents[1] / "samples/schema-4"


def taken_over(folder: Path, other: Path) -> LabelRecord:
    """The first label step of a run that was begun with the labels of another."""
    done = alflow("label", folder, "--import", other)
    assert done.returncode == 0, done.stderr
    assert "labels from" in done.stdout
    return Store(folder).read(0, "label", LabelRecord)


def test_labels_of_a_run_of_this_format(finished_run: Path, tmp_path: Path) -> None:
    """Those of its later cycles too, though no structure of the new run waits for them."""
    found = taken_over(make_run(tmp_path / "run"), finished_run / "cycles")
    before = read_label_steps(finished_run)
    assert sorted(found.ids) == sorted(name for record in before for name in record.ids)
    assert set(before[1].ids) <= set(found.ids)
    assert not Store(tmp_path / "run").labelled()
    again = alflow("label", tmp_path / "run", "--import", finished_run)
    assert again.returncode == 2
    assert "no structures wait for labels" in again.stderr


def test_labels_of_the_format_before(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("alflow.toml", "water.xyz"):
        shutil.copy(OLD / name, folder)
    (old,) = read_label_steps(OLD)
    found = taken_over(folder, OLD / "cycles")
    assert sorted(found.ids) == sorted(old.ids)
    energies = dict(zip(old.ids, (frame.get_potential_energy() for frame in old.frames), strict=True))
    for name, frame in zip(found.ids, found.frames, strict=True):
        assert frame.get_potential_energy() == energies[name]
        assert np.isfinite(frame.get_forces()).all()


@pytest.mark.parametrize(
    ("method", "message"),
    [("GFN1-xTB", "its labels were made with"), (None, "has no label.h5: give the folder cycles")],
)
def test_labels_that_cannot_be_taken(method: str | None, message: str, finished_run: Path, tmp_path: Path) -> None:
    text = TINY if method is None else f'{TINY}[reference]\nmethod = "{method}"\n'
    folder = make_run(tmp_path / "run", text)
    (tmp_path / "empty").mkdir()
    done = alflow("label", folder, "--import", tmp_path / "empty" if method is None else finished_run)
    assert done.returncode == 2
    assert message in done.stderr
    assert not Store(folder).labelled()


def test_an_old_file_that_was_altered_is_named(tmp_path: Path) -> None:
    old = shutil.copytree(OLD, tmp_path / "old")
    path = old / "cycles/000/label.h5"
    content = bytearray(path.read_bytes())
    content[3000] ^= 1
    path.write_bytes(content)
    folder = make_run(tmp_path / "run")
    done = alflow("label", folder, "--import", old)
    assert done.returncode == 2
    assert f"{path} is damaged" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (folder / "cycles").exists()


def test_another_run_that_is_not_whole_is_named(finished_run: Path, tmp_path: Path) -> None:
    """A label step of another cycle in its place, or none between others: labels would be lost without a word."""
    folder, other = make_run(tmp_path / "run"), shutil.copytree(finished_run, tmp_path / "other")
    shutil.copy(other / "cycles/001/label.h5", other / "cycles/000/label.h5")
    done = alflow("label", folder, "--import", other)
    assert done.returncode == 2
    assert "000/label.h5 is the file of another" in done.stderr
    (other / "cycles/000/label.h5").unlink()
    done = alflow("label", folder, "--import", other)
    assert done.returncode == 2
    assert "000/label.h5 is missing, although later labels are there" in done.stderr


def test_an_import_that_was_killed_goes_on(finished_run: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    taken_over(folder, finished_run)
    store = Store(folder)
    parts = [*store.read(0, "label", LabelRecord).parts()]
    (folder / "cycles/000/label.h5").unlink()
    for file in ("train", "assess"):
        store.path(0, file).unlink(missing_ok=True)
    for part in parts:
        commit_file(store.label_path(part.ids[0]), part, place=label_place(part.ids[0], 0, part.method))
    found = taken_over(folder, finished_run)
    assert sorted(found.ids) == sorted(part.ids[0] for part in parts)
