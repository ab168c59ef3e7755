"""How good a committee is on labels: numbers as they are by hand, of each kind."""

import json
from pathlib import Path

import alflow as package
import ase.io
import numpy as np
import pytest
from alflow.errors import ConfigError
from alflow.progress import Silent
from alflow.report.evaluation import evaluate
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from conftest import alflow


def labelled(symbol: str, seed: int, *, stress: bool = True) -> Atoms:
    atoms = bulk(symbol, cubic=True)
    atoms.positions += np.random.default_rng(seed).normal(0, 0.1, atoms.positions.shape)
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if stress:
        results["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture(scope="module")
def committee() -> package.Committee:
    frames = [labelled(symbol, seed) for symbol in ("Cu", "Ag") for seed in range(10)]
    return package.fit(frames, n_members=8, cutoff=4.5, n_features=60)


@pytest.fixture
def test_set(tmp_path: Path) -> tuple[Path, list[Atoms]]:
    frames = [labelled("Cu", seed) for seed in range(20, 25)] + [labelled("Ag", 30), labelled("Ag", 31, stress=False)]
    ase.io.write(tmp_path / "test.xyz", frames)
    return tmp_path / "test.xyz", frames


def test_errors_are_those_of_the_predictions(committee: package.Committee, test_set: tuple[Path, list[Atoms]]) -> None:
    path, frames = test_set
    found = evaluate(committee, "model", path, Silent()).as_dict()
    said = [committee.predict(frame) for frame in frames]
    energy = np.array([(p.energy - f.get_potential_energy()) / 4 for p, f in zip(said, frames, strict=True)])
    force = np.concatenate([(p.forces - f.get_forces()).ravel() for p, f in zip(said, frames, strict=True)])
    stress = (
        np.concatenate([p.stress - f.get_stress() for p, f in zip(said[:-1], frames[:-1], strict=True)]) / units.GPa
    )
    whole, copper, silver = found["kinds"]
    assert (whole["kind"], whole["structures"]) == ("all", 7)
    for what, errors in (("energy", energy), ("forces", force), ("stress", stress)):
        assert whole[what]["n"] == len(errors)
        assert whole[what]["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-3)
        assert whole[what]["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-3)
        assert whole[what]["largest"] == pytest.approx(np.abs(errors).max(), rel=1e-3)
    sigma = np.array([p.energy_sigma / 4 for p in said])
    assert whole["energy"]["within_sigma"] == pytest.approx(np.mean(np.abs(energy) < sigma))
    assert [(kind["kind"], kind["structures"]) for kind in (copper, silver)] == [("Cu4", 5), ("Ag4", 2)]
    assert copper["energy"]["mae"] == pytest.approx(np.abs(energy[:5]).mean(), rel=1e-3)
    assert silver["stress"]["n"] == 6


def test_kinds_are_those_that_a_file_names(committee: package.Committee, tmp_path: Path) -> None:
    frames = [labelled("Cu", seed) for seed in range(40, 43)]
    for frame, kind in zip(frames, ("bulk", "bulk", "all"), strict=True):
        frame.info["config_type"] = kind
    ase.io.write(tmp_path / "test.xyz", frames)
    found = evaluate(committee, "model", tmp_path / "test.xyz", Silent())
    assert [one[:2] for one in found.kinds] == [("all", 3), ("config_type bulk", 2), ("config_type all", 1)]


def test_what_was_trained_on_is_told_apart(committee: package.Committee, tmp_path: Path) -> None:
    moved = labelled("Cu", 3)[[2, 3, 0, 1]]
    moved.calc = labelled("Cu", 50).calc  # another label: the structure counts
    moved.positions += 0.5
    ase.io.write(tmp_path / "test.xyz", [labelled("Cu", 50), moved, labelled("Ag", 1)])
    assert evaluate(committee, "model", tmp_path / "test.xyz", Silent()).n_known == 2


def test_a_species_that_is_not_known_stops_no_other(committee: package.Committee, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "test.xyz", [labelled("Al", 1), labelled("Cu", 60)])
    found = evaluate(committee, "model", tmp_path / "test.xyz", Silent())
    assert found.kinds[0][1] == 1
    (problem,) = found.problems
    assert "test.xyz frame 0" in problem
    ase.io.write(tmp_path / "test.xyz", [labelled("Al", 1)])
    with pytest.raises(ConfigError, match=r"none of 1 structures can be predicted: .*frame 0"):
        evaluate(committee, "model", tmp_path / "test.xyz", Silent())


def test_the_command(committee: package.Committee, test_set: tuple[Path, list[Atoms]], tmp_path: Path) -> None:
    path, _ = test_set
    committee.save(tmp_path / "m.h5")
    done = alflow("evaluate", tmp_path / "m.h5", path)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()[-4:]
    assert [row.split()[:2] for row in rows] == [["all", "7"], ["Cu4", "5"], ["Ag4", "2"]]
    assert head.split().count("RMSE") == 3
    found = json.loads(alflow("evaluate", tmp_path / "m.h5", path, "--json").stdout)
    assert found["kinds"] == json.loads(json.dumps(evaluate(committee, "m", path, Silent()).as_dict()["kinds"]))
    ase.io.write(tmp_path / "odd.xyz", [labelled("Al", 1), labelled("Cu", 60)])
    odd = alflow("evaluate", tmp_path / "m.h5", tmp_path / "odd.xyz")
    assert odd.returncode == 2
    assert len(odd.stderr.splitlines()) == 1
    missing = alflow("evaluate", tmp_path / "m.h5", tmp_path / "nothing.xyz")
    assert missing.returncode == 2
    assert "no such file" in missing.stderr


def test_a_run_is_a_model_and_has_labels(finished_run: Path) -> None:
    done = alflow("evaluate", finished_run, finished_run)
    assert done.returncode == 0, done.stderr
    assert "all but coincide with some that the committee was trained on" in done.stderr
    n = sum(cycle["n_labelled"] for cycle in json.loads(alflow("status", finished_run, "--json").stdout)["cycles"])
    assert json.loads(alflow("evaluate", finished_run, finished_run, "--json").stdout)["among_training"] == n


def test_the_plot(committee: package.Committee, test_set: tuple[Path, list[Atoms]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path, _ = test_set
    committee.save(tmp_path / "m.h5")
    assert alflow("evaluate", tmp_path / "m.h5", path, "--plot", tmp_path / "p.png").returncode == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    wrong = alflow("evaluate", tmp_path / "m.h5", path, "--plot", tmp_path / "p.docx")
    assert wrong.returncode == 2
    assert "give a name ending in .png, .pdf or .svg" in wrong.stderr
