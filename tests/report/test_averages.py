"""alflow average, as a user runs it, and the observable of [converge]."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alflow import loop
from alflow.averages.reweighting import Chunk, Quantity, reweight
from alflow.averages.sources.arrays import Arrays
from alflow.averages.sources.opening import open_source
from alflow.averages.sources.samples import groups, sampled
from alflow.errors import AlflowError, AverageError, ConfigError
from alflow.records.assess import AssessRecord
from alflow.records.sample import Ensemble, SampleRecord
from alflow.report import averages
from alflow.report.progress import _Plain
from alflow.report.status import status
from alflow.state.store import Store

from conftest import TINY, alflow, make_run


@pytest.fixture
def arrays(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    driving = rng.normal(size=4000) * 0.1
    found = {"energies": driving[:, None] + 0.01 * rng.normal(size=(4000, 5)), "driving": driving}
    found["values"] = np.stack([driving * 2 + 1, rng.normal(size=4000)], axis=1)
    for name, value in found.items():
        np.save(tmp_path / f"{name}.npy", value)
    return {name: tmp_path / f"{name}.npy" for name in found}


def given(arrays: dict[str, Path]) -> list[object]:
    return [item for name, path in arrays.items() for item in (f"--{name}", path)]


def test_arrays_from_the_command_line(arrays: dict[str, Path], tmp_path: Path) -> None:
    done = alflow("average", *given(arrays), "--temperature", 300, "--values-unit", "Å", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    source = Arrays(*([str(path)] for path in arrays.values()))
    expected = reweight(source.chunks(), source.quantities(), 300 * 8.617330337217213e-05)
    (row,) = found["averages"]
    assert row["value"] == pytest.approx(expected.averages[0].value)
    assert row["model"] == pytest.approx(expected.averages[0].model)
    assert (row["unit"], found["method"], found["n_members"]) == ("Å", expected.method, 5)
    assert np.shape(row["members"]) == (2, 1, 5)
    table = alflow("average", *given(arrays), "--temperature", 300, "--plot", tmp_path / "a.png").stdout
    assert "direct reweighting" in table
    assert "statistical" in table
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_models_of_a_property_are_told_apart(arrays: dict[str, Path]) -> None:
    done = alflow("average", *given(arrays), "--temperature", 300, "--models")
    assert done.returncode == 0, done.stderr
    assert "sigma_aV" in done.stdout


USAGE = [
    ((), "expected one source: SOURCE, --ipi or --energies; found none"),
    (("nowhere", "-o", "volume"), "nowhere: no such source: expected a production run"),
    (("nowhere", "--ipi", "x"), "found SOURCE and --ipi"),
    (("--ipi", "nowhere", "-o", "volume"), "--ipi needs --temperature"),
    (("--ipi", "nowhere", "--temperature", 300, "-o", "volume"), "nowhere.out: no such file"),
    (("--energies", "e.npy", "--temperature", 300), "--energies needs --driving"),
    (("--energies", "e.npy", "--driving", "mean", "--temperature", 300, "-o", "volume"), "have no structures"),
    (("--energies", "e.npy", "--driving", "mean", "--temperature", 300, "--unit", "furlong"), "unknown unit of energy"),
    (("nowhere", "--driving", "mean"), "--driving belongs to --energies, found SOURCE: leave it out"),
    (("nowhere", "--unit", "Ha"), "--unit belongs to --energies"),
    (("--ipi", "x", "--system", "a", "--temperature", 300), "--system belongs to SOURCE, found --ipi"),
    (("nowhere", "--pressure", 0.0), "--pressure belongs to --ipi, found SOURCE"),
    (
        ("--energies", "e", "--driving", "mean", "--temperature", 300, "--values", "v", "-o", "potential_energy"),
        "leave out one of them",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), USAGE)
def test_wrong_usage_is_one_line(arguments: tuple[object, ...], message: str) -> None:
    done = alflow("average", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_samples_of_a_cycle(finished_run: Path) -> None:
    path = Store(finished_run).path(1, "sample")
    record = Store(finished_run).read(1, "sample", SampleRecord)
    assert groups(record) == [("water", 300.0)]
    place = open_source(path, 300.0, "water")
    report = averages.of_source(place, averages.observables(["potential_energy"], path), drop=0.0)
    assert report.rows[0].average.driven[0] == pytest.approx(record.energies.mean(), rel=1e-9)
    for wrong in ({"temperature": 350.0}, {"system": "ice"}):
        with pytest.raises(AverageError, match=r"has no frames of .*expected one of water at 300 K"):
            open_source(path, **wrong)
    with pytest.raises(AverageError, match=r"train.h5: no such source: expected a production run"):
        open_source(Store(finished_run).path(1, "train"))
    with pytest.raises(AverageError, match="no observable is given"):
        averages.observables([], path)


def test_samples_of_several_ensembles_need_a_choice(finished_run: Path) -> None:
    record = Store(finished_run).read(1, "sample", SampleRecord)
    n = len(record.frames)
    two = replace(
        record,
        frames=record.frames * 2,
        walker=np.repeat([0, 1], n),
        ensembles=(Ensemble("water", 300.0), Ensemble("water", 400.0)),
        walker_stop=("finished", "force sigma"),
        **{name: np.concatenate([getattr(record, name)] * 2) for name in ("energies", "energy", "time")},
    )
    assert groups(two) == [("water", 300.0), ("water", 400.0)]
    with pytest.raises(AverageError, match=r"several ensembles \(water at 300 K, water at 400 K\): choose one"):
        sampled(two, "x")
    assert sampled(two, "x", 300.0).notes == ()
    hot = sampled(two, "x", 400.0)
    assert hot.notes == ("1 of 1 walkers stopped early, where the committee was lost",)
    assert [batch.walker for batch in hot.batches()] == [1]


OWN = """
[[observable]]
name = "longest"
function = "mine:longest"
unit = "Å"
[[observable]]
name = "models"
function = "mine:models"
committee = true
"""
MINE = """
def longest(atoms):
    return atoms.get_all_distances().max()
def models(atoms):
    return [[longest(atoms)], [1.1 * longest(atoms)]]
"""


def test_functions_of_the_users_own(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    with (tmp_path / "run/alflow.toml").open("a") as file:
        file.write(OWN)
    sample = tmp_path / "run/cycles/001/sample.h5"
    with pytest.raises(ConfigError, match=r"mine cannot be imported .*put mine.py beside alflow.toml"):
        averages.observables(["longest"], sample)
    (tmp_path / "run/mine.py").write_text(MINE.replace("def models", "def nothing"))
    with pytest.raises(ConfigError, match="module mine has no function models"):
        averages.observables(["longest"], sample)
    (tmp_path / "run/mine.py").write_text(MINE)
    report = averages.of_source(open_source(sample), averages.observables(["longest", "models"], sample))
    longest, models = (row.average for row in report.rows)
    assert report.rows[0].unit == "Å"
    assert 1.3 < longest.value[0] < 1.9
    assert models.members.shape == (1, 2, 8)
    assert models.sigma_a[0] == pytest.approx(np.std([1, 1.1], ddof=1) * longest.value[0])


def looped(folder: Path, converge: str) -> Path:
    """A run of three cycles at most, with an observable."""
    text = TINY.replace("max_cycles = 1", f"max_cycles = 3\n{converge}").replace("steps = 60", "steps = 400")
    return make_run(folder, text)


def test_a_tolerance_ends_the_cycles_and_status_shows_the_error(tmp_path: Path) -> None:
    folder = looped(
        tmp_path / "run",
        'observable = "free_energy_difference distance 0 1 0..0.97 0.97..2"\ntolerance = 1.0\ncycles = 1',
    )
    done = alflow("iterate", folder)
    assert done.returncode == 0, done.stderr
    found = status(folder)
    newest = len(found["cycles"]) - 1
    assert "model error of free_energy_difference" in found["reason"]
    assert found["cycles"][0]["observable_error"] is None
    last = Store(folder).read(newest, "assess", AssessRecord).last
    result = averages.of_source(
        open_source(Store(folder).path(newest, "sample")), averages.observables([last.observable], folder)
    ).rows[0]
    assert last.observable_error == pytest.approx(result.average.model[0])
    assert found["cycles"][-1]["observable_error"] == last.observable_error < 1
    assert "water at 300 K" in last.observable_note
    assert "model error" in alflow("status", folder).stdout


def test_a_constant_observable_does_not_end_the_cycles(tmp_path: Path) -> None:
    folder = looped(tmp_path / "run", 'observable = "coordination O-H 1.4"\ntolerance = 1.0\ncycles = 1')
    loop.iterate(folder, _Plain(), 1)
    record = Store(folder).read(1, "assess", AssessRecord).last
    assert not record.converged
    assert np.isnan(record.observable_error)
    assert "constant" in record.observable_note


def test_an_observable_that_is_none_is_told_before_anything_is_begun(tmp_path: Path) -> None:
    folder = looped(tmp_path / "run", 'observable = "rfd O-H"')
    with pytest.raises(AlflowError, match=r"unknown observable 'rfd'.*did you mean rdf"):
        loop.iterate(folder, _Plain())
    assert not (folder / "cycles").exists()
    checked = looped(tmp_path / "checked", 'observable = "rdf O-H"')
    done = alflow("check", checked)
    assert done.returncode == 2
    assert "periodic in three directions" in done.stderr


def test_a_tolerance_needs_an_observable(tmp_path: Path) -> None:
    folder = looped(tmp_path / "run", "tolerance = 0.1")
    with pytest.raises(ConfigError, match=r"converge: tolerance = 0.1 is of no observable: name one"):
        loop.iterate(folder, _Plain())


def test_a_plot_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch, arrays: dict[str, Path]) -> None:
    source = Arrays(*([str(path)] for path in arrays.values()))
    report = averages.of_arrays(source, 300.0)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"pip install 'alflow\[plot\]'"):
        averages.plot(report, Path("x.png"))


def test_long_curves_are_shortened_in_tables() -> None:
    rng = np.random.default_rng(0)
    energies = rng.normal(size=(100, 3)) * 1e-3
    result = reweight(
        [Chunk(0, energies, energies.mean(axis=1), [rng.normal(size=(100, 500))])],
        [Quantity("a")],
        0.025,
    )
    row = averages.Row("a", "", np.arange(500.0), "x", result.averages[0])
    table = averages.text_table(averages.Report("s", 300.0, (row,), result, ()))
    assert len(table.splitlines()) == 1 + averages.ROWS
    assert table.splitlines()[-1].split()[0] == "499"
