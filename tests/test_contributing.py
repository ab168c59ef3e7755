"""CONTRIBUTING.md: the packages that its pages print work, through the command line and by their own tests."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import alflow
import ase.io
import numpy as np
import pytest
from alflow.cli import main
from alflow.config import installed
from alflow.config import load as settings_of
from click.testing import CliRunner

from conftest import alflow as command

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
FILES = {
    match["path"]: match["text"]
    for match in re.finditer(
        r"^`(?P<path>[\w./-]+)`:\n\n```\w+\n(?P<text>.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
}
"""Every file that the page prints, by the path above it."""


def lay(place: Path) -> None:
    """The files, and what pip leaves of the packages."""
    for name, text in FILES.items():
        path = place / Path(name).name
        if path.name != "pyproject.toml":
            path.write_text(text)
            continue
        project = tomllib.loads(text)["project"]
        info = place / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (info / "METADATA").write_text(about)
        points = [
            f"[{group}]\n{k} = {v}\n" for group, kinds in project["entry-points"].items() for k, v in kinds.items()
        ]
        (info / "entry_points.txt").write_text("".join(points))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """All packages of the page, installed for this process and for those it starts."""
    place = tmp_path / "site"
    place.mkdir()
    lay(place)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep))
    installed.cache_clear()
    yield place
    for name in [name for name in sys.modules if name.startswith("alflow_")]:
        del sys.modules[name]
    installed.cache_clear()


def done(*arguments: object, alone: bool = False) -> str:
    """What a command prints; it has to end well. ``alone`` in a process of its own, as a user runs it."""
    if alone:
        result = command(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout
    found = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert found.exit_code == 0, found.output
    return found.stdout


def test_three_packages_are_printed() -> None:
    packages = {Path(name).parent.name for name in FILES}
    assert packages == {"alflow-morse", "alflow-gyration", "alflow-pairs"}
    for package in packages:
        module = package.replace("-", "_")
        assert {f"{package}/{name}" for name in ("pyproject.toml", f"{module}.py", f"test_{module}.py")} <= set(FILES)


def test_their_own_tests_pass(site: Path) -> None:
    tests = sorted(site.glob("test_*.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *tests]
    result = subprocess.run(command, cwd=site, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stdout


def test_the_reference_code_labels(site: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert "A cluster of four argon atoms" in done("init", run, "--template", "?")
    done("init", run, "--template", "morse")
    assert "ok     reference morse 1.0 on Ar4" in done("check", run)
    done("iterate", run, "--cycles", "0", alone=True)
    (cycle,) = json.loads(done("status", run, "--json"))["cycles"]
    assert (cycle["n_labelled"], cycle["n_failed"]) == (20, 0)
    done("export", run, tmp_path / "labels.xyz")
    method = settings_of(run).reference
    for frame in ase.io.read(tmp_path / "labels.xyz", ":")[:3]:
        energy = method.calculate(frame).frame.get_potential_energy()
        assert frame.get_potential_energy() == pytest.approx(energy, abs=1e-7)


def test_the_observable_is_averaged(site: Path, finished_run: Path) -> None:
    sample = finished_run / "cycles/001/sample.h5"
    text = done("average", sample, "--observable", "gyration", "--observable", "gyration H", "--json", alone=True)
    every, hydrogen = json.loads(text)["averages"]
    assert 0.6 < every["value"][0] < 0.8
    assert hydrogen["value"][0] == pytest.approx(0.75, abs=0.1)  # half their distance
    failed = CliRunner().invoke(main, ["average", str(sample), "--observable", "gyration H 3"])
    assert failed.exit_code == 2
    assert "'3' is a word too many: expected `gyration [A]`" in failed.stderr


def test_the_model_learns_in_a_cycle(site: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done("init", run, "--template", "morse")
    text = (run / "alflow.toml").read_text()
    table = re.compile(r"\[potential\]\n.*?\n\n", re.DOTALL)
    (run / "alflow.toml").write_text(table.sub('[potential]\nkind = "pairs"\nn_members = 8\nn_functions = 9\n\n', text))
    done("iterate", run, "--cycles", "1", alone=True)
    committee = alflow.load(run / "cycles/001/train.h5")
    assert type(committee.model).__name__ == "Pairs"
    assert (committee.n_members, committee.settings.n_functions) == (8, 9)
    assert len(committee.training) == 25
    frame = ase.io.read(run / "tetramer.xyz")
    prediction = committee.predict(frame)
    truth = settings_of(run).reference.calculate(frame).frame
    assert prediction.energy == pytest.approx(truth.get_potential_energy(), abs=5e-3)
    np.testing.assert_allclose(prediction.forces, truth.get_forces(), atol=0.02)
    done("export", run, tmp_path / "model.h5")
    done("predict", tmp_path / "model.h5", run / "tetramer.xyz", "-o", tmp_path / "predicted.xyz")
    assert ase.io.read(tmp_path / "predicted.xyz").get_potential_energy() == pytest.approx(prediction.energy, abs=1e-7)
