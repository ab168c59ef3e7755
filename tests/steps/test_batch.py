"""Reference calculations that fail in every way: recorded with their reason, tried again as [failures] says."""

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.records.label import LabelRecord
from alflow.reference.failures import REASONS, Failures
from alflow.state.file import read_file
from alflow.state.store import Store
from alflow.workers.attempts import changes_for
from ase import Atoms, units

from conftest import WATER, alflow, make_run

EXAMPLES = Path(__file__).parents[2] / "examples"
SETTINGS = """
seed = 5
[[system]]
name = "water"
structures = "water.xyz"
copies = 7
[potential]
n_members = 8
n_max = 4
l_max = 2
n_features = 60
[reference]
kind = "ase:faulty.Faulty"
parameters = {{fault = "{fault}", log = "{log}"}}
[executor]
workers = 2
timeout = {timeout}
[failures]
{policy}
"""
FAULTS = {**dict.fromkeys(REASONS), "crashed": "SIGSEGV", "raised": "something broke", "timed_out": "6 s",
          "inconsistent": "net_force_max", "no_output": "gives no", "not_finite": "forces: 1 of 9"}  # fmt: skip


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


def faulty_run(folder: Path, fault: str, policy: str = "max_share = 0.9", timeout: float = 60) -> Path:
    text = SETTINGS.format(fault=fault, log=folder / "log", policy=policy, timeout=timeout)
    return make_run(folder, text, WATER)


def calculations(folder: Path) -> list[str]:
    """One for every calculation that began."""
    return (folder / "log").read_text().split()


def failed(folder: Path) -> list[dict]:
    return json.loads(alflow("inspect", folder, "--failed", "--json").stdout)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_failure_is_recorded_with_its_reason_and_tried_again_when_asked(tmp_path: Path, fault: str) -> None:
    reason = "crashed" if fault == "raised" else fault
    folder = faulty_run(
        tmp_path / "run", fault, f'max_share = 0.9\n{reason} = "give up"', 6 if fault == "timed_out" else 60
    )
    done = alflow("label", folder)
    assert done.returncode == 0, done.stderr
    entries = failed(folder)
    assert entries
    assert not any(entry["labelled"] for entry in entries)
    assert {attempt["reason"] for entry in entries for attempt in entry["attempts"]} == {reason}
    assert all(len(entry["attempts"]) == 1 for entry in entries)
    assert (FAULTS[fault] or "") in entries[0]["attempts"][0]["detail"]
    assert f"{entries[0]['id']} failed, {reason}: " in done.stdout
    began = calculations(folder)
    assert len(set(began)) == 8
    assert len(began) == 8 + len(entries) * (fault == "no_output"), "ASE asks again for forces that are missing"
    status = json.loads(alflow("status", folder, "--json").stdout)["cycles"][0]
    assert (status["n_labelled"], status["n_failed"]) == (8 - len(entries), len(entries))
    text = alflow("inspect", folder, "--failed").stdout
    assert f"attempt 0: {reason}" in text
    assert "alflow label" in text


def test_settings_are_changed_in_the_order_of_the_policy(tmp_path: Path) -> None:
    policy = "max_share = 0.9\nnot_converged = [{}, {parameters = {fixed = true}}]"
    folder = faulty_run(tmp_path / "run", "not_converged", policy)
    done = alflow("label", folder)
    assert done.returncode == 0, done.stderr
    entries = failed(folder)
    assert all(entry["labelled"] for entry in entries)
    assert {len(entry["attempts"]) for entry in entries} == {2}
    record = read_file(folder / "cycles/000/label.h5", LabelRecord)
    assert len(record.ids) == 8
    assert record.gave_up == ()
    changed = {name for name, change in zip(record.ids, record.changes, strict=True) if change}
    assert changed == {entry["id"] for entry in entries}
    assert {change for change in record.changes if change} == {'{"parameters": {"fixed": true}}'}


def test_too_many_failures_stop_the_run_and_a_retry_with_better_settings_goes_on(tmp_path: Path) -> None:
    folder = faulty_run(tmp_path / "run", "not_converged", "max_share = 0.2")
    done = alflow("iterate", folder, "--cycles", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("alflow: 2 of 8 reference calculations failed (2 not_converged), more than ")
    assert not (folder / "cycles/000/label.h5").exists()
    again = alflow("iterate", folder, "--cycles", "0")
    assert again.returncode == 1
    n_before = len(calculations(folder))
    assert len(set(calculations(folder))) == n_before, "what had failed is not tried again unasked"
    mended = (
        (folder / "alflow.toml")
        .read_text()
        .replace("max_share = 0.2", "max_share = 0.2\nnot_converged = {parameters = {fixed = true}}")
    )
    (folder / "alflow.toml").write_text(mended)
    done = alflow("label", folder)
    assert done.returncode == 0, done.stderr
    assert all(entry["labelled"] for entry in failed(folder))


@pytest.mark.slow
def test_retry_of_a_finished_cycle_is_gathered_by_the_next(tmp_path: Path) -> None:
    folder = faulty_run(tmp_path / "run", "not_converged")
    assert alflow("label", folder).returncode == 0
    names = [entry["id"] for entry in failed(folder)]
    nothing = alflow("label", folder, "--retry", "crashed")
    assert nothing.returncode == 2
    assert (
        "no failed calculation is 'crashed': expected `failed`, a reason or an id; not_converged has failed"
        in nothing.stderr
    )
    text = (folder / "alflow.toml").read_text()
    (folder / "alflow.toml").write_text(text + "not_converged = {parameters = {fixed = true}}\n")
    one = alflow("label", folder, "--retry", names[0][:8])
    assert one.returncode == 0, one.stderr
    assert "1 of 1 have a label now" in one.stdout
    assert [path.stem for path in (folder / "labels").glob("*.h5")] == [names[0]]
    every = alflow("label", folder, "--retry", "failed")
    assert every.returncode == 0, every.stderr
    assert sorted(path.stem for path in (folder / "labels").glob("*.h5")) == sorted(names)
    assert len(set(calculations(folder))) == 8
    assert f"labels, and {len(names)} that the next label step takes in; not running" in alflow("status", folder).stdout
    assert alflow("export", folder, tmp_path / "labels.xyz").returncode == 0
    assert len(ase.io.read(tmp_path / "labels.xyz", ":")) == 8
    short = "[sample]\nsteps = 60\nstride = 10\n[select]\nbudget = 2\nforce_sigma_min = 0.0\n[executor]"
    (folder / "alflow.toml").write_text((folder / "alflow.toml").read_text().replace("[executor]", short))
    done = alflow("iterate", folder, "--cycles", "1")
    assert done.returncode == 0, done.stderr
    assert set(names) <= set(read_file(folder / "cycles/001/label.h5", LabelRecord).ids)
    assert json.loads(alflow("status", folder, "--json").stdout)["n_besides"] == 0


def test_labels_of_a_reference_that_was_left_are_not_exported(tmp_path: Path) -> None:
    folder = faulty_run(tmp_path / "run", "")
    text = (folder / "alflow.toml").read_text()
    broken = text.replace('fault = ""', 'fault = "crashed"').replace("max_share = 0.9", "max_share = 0.2")
    one_by_one = broken.replace("workers = 2", "workers = 1")
    (folder / "alflow.toml").write_text(f"{one_by_one}\ncrashed = 'give up'\n")
    assert alflow("label", folder).returncode == 1
    left = len(list((folder / "labels").glob("*.h5")))
    assert left > 1
    assert alflow("export", folder, tmp_path / "labels.xyz").returncode == 0
    assert len(ase.io.read(tmp_path / "labels.xyz", ":")) == left, "of an unfinished cycle, too"
    (folder / "alflow.toml").write_text(text)
    assert alflow("label", folder).returncode == 0
    assert alflow("export", folder, tmp_path / "labels.xyz").returncode == 0
    assert len(ase.io.read(tmp_path / "labels.xyz", ":")) == 8
    assert json.loads(alflow("status", folder, "--json").stdout)["n_besides"] == 0


def test_the_nth_failure_for_a_reason_takes_the_nth_change() -> None:
    policy = Failures.model_validate(
        {"not_converged": [{"a": 1}, {"b": 2}], "crashed": "retry", "timed_out": "give up"}
    )
    assert changes_for(policy, []) == {}
    assert changes_for(policy, ["not_converged"]) == {"a": 1}
    assert changes_for(policy, ["not_converged", "crashed"]) == {}
    assert changes_for(policy, ["not_converged", "crashed", "not_converged"]) == {"b": 2}
    assert changes_for(policy, ["not_converged"] * 3) is None
    assert changes_for(policy, ["timed_out"]) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not_converged = [{parametres = {}}]", "failures.not_converged[0]: parametres: Extra inputs"),
        ("timed_out = [{}, {executor = {timeout = -1}}]", "failures.timed_out[1].executor: timeout: Input should be"),
        ('crashed = "again"', "failures.crashed: expected "),
        ("inconsistant = []", "unknown key failures.inconsistant: did you mean inconsistent?"),
    ],
)
def test_a_policy_that_is_not_allowed(tmp_path: Path, line: str, message: str) -> None:
    done = alflow("label", faulty_run(tmp_path / "run", "", line))
    assert done.returncode == 2
    assert message in done.stderr


def test_gallium_that_tight_binding_does_not_converge(tmp_path: Path) -> None:
    """A failure that nobody has made: 32 atoms of a liquid metal and GFN2-xTB, also with 250 iterations."""
    settings = (
        '[[system]]\nname = "gallium"\nstructures = "packed.xyz"\nstart = []\n'
        '[reference]\nkind = "tblite"\nmax_iterations = 40\n'
        "[failures]\nnot_converged = [{max_iterations = 60}]\n[executor]\nworkers = 1\n"
    )
    folder = make_run(tmp_path / "run", settings)
    shutil.copy(EXAMPLES / "liquid-gallium" / "packed.xyz", folder)
    done = alflow("label", folder)
    assert done.returncode == 1
    assert "1 of 1 reference calculations failed (1 not_converged)" in done.stderr
    (entry,) = failed(folder)
    assert [attempt["changes"] for attempt in entry["attempts"]] == [{}, {"max_iterations": 60}]
    assert "SCF not converged in 60 cycles" in entry["attempts"][1]["detail"]


def test_manual_labels_are_asked_for_and_imported(tmp_path: Path) -> None:
    text = SETTINGS.format(fault="", log="", policy="", timeout=60)
    text = text[: text.index("[reference]")] + '[reference]\nkind = "manual"\n[converge]\nmax_cycles = 0\n'
    folder = make_run(tmp_path / "run", text.replace("max_cycles = 0", "max_cycles = 1"), WATER)
    done = alflow("iterate", folder, "--cycles", "0")
    assert done.returncode == 3
    assert "8 structures wait in" in done.stderr
    frames = ase.io.read(folder / "to-label.xyz", ":")
    assert len({frame.info["id"] for frame in frames}) == 8
    from faulty import Faulty

    labelled = []
    for frame in frames:
        frame.calc = Faulty()
        frame.get_forces()
        labelled.append(frame)
    ase.io.write(tmp_path / "some.xyz", labelled[5:][::-1])
    part = alflow("label", folder, "--import", tmp_path / "some.xyz")
    assert part.returncode == 3
    assert "3 labels from" in part.stdout
    assert "5 structures wait" in part.stderr
    # Under other names and in other units, one of them not converged: the others are taken.
    foreign = []
    for number, frame in enumerate(labelled[:2]):
        other = Atoms(frame.symbols, frame.positions / units.Bohr)
        other.info = {"what": frame.get_potential_energy() / units.Hartree, "converged": "FT"[number]}
        other.arrays["pull"] = frame.get_forces() * units.Bohr / units.Hartree
        foreign.append(other)
    ase.io.write(tmp_path / "two.xyz", foreign, format="extxyz")
    asked = alflow("label", folder, "--import", tmp_path / "two.xyz")
    assert asked.returncode == 2
    assert "it has converged, pull, what; if one of these is it, name it with --energy-key" in asked.stderr
    named = ("--energy-key", "what", "--forces-key", "pull", "--energy-unit", "Ha", "--length-unit", "bohr")
    two = alflow("label", folder, "--import", tmp_path / "two.xyz", *named)
    assert two.returncode == 3
    assert "two.xyz frame 0 is left out: says converged = False" in two.stdout
    assert "1 labels from" in two.stdout
    assert "4 structures wait" in two.stderr
    ase.io.write(tmp_path / "rest.xyz", labelled)
    rest = alflow("label", folder, "--import", tmp_path / "rest.xyz")
    assert rest.returncode == 0, rest.stderr
    assert (folder / "cycles/000/assess.h5").exists()
    assert not (folder / "to-label.xyz").exists()
    record = Store(folder).read(0, "label", LabelRecord)
    (foreign_one,) = [k for k, name in enumerate(record.ids) if name == frames[1].info["id"]]
    results = record.frames[foreign_one].calc.results
    assert results["energy"] == pytest.approx(labelled[1].get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(results["forces"], labelled[1].get_forces(), atol=1e-6)
    none = alflow("label", folder, "--import", tmp_path / "rest.xyz")
    assert none.returncode == 2
    assert "no structures wait for labels" in none.stderr
