"""Members that a program trains: what each is shown, what is kept, and what becomes of failures."""

import errno
import gc
import json
import shutil
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import alflow
import ase.io
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.committee.training import TrainingSet, make_training_set
from alflow.errors import ConfigError, PotentialError, StoreError, TrainingError
from alflow.executors import LocalExecutor
from alflow.models.fitting import fit
from alflow.models.settings import Workshop
from alflow.models.trained import keeping
from alflow.models.trained.potential import TrainedPotential
from alflow.models.trained.training import Job, train_one
from alflow.progress import Silent
from alflow.state.file import read_file
from ase import Atoms
from ase.calculators.morse import MorsePotential
from pydantic import ValidationError

from lj_frames import bonded, water
from members import TESTS, TRAINER

COMMAND = TRAINER["command"]
SETTINGS = {"kind": "trained", "n_members": 2, **{k: TRAINER[k] for k in ("command", "calculator", "parameters")}}


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def workshop(folder: Path, before: Committee | None = None, *, retry: bool = False) -> Workshop:
    def open_executor(changes: Any) -> LocalExecutor:
        return LocalExecutor(changes.get("workers", 2), timeout=changes.get("timeout"))

    return Workshop(TESTS, folder / "models", folder / "work", open_executor, Notes(), before, retry)


def committee(frames: list[Atoms], place: Workshop, baseline: Any = None, **settings: Any) -> Committee:
    section = TrainedPotential.model_validate({**SETTINGS, **settings})
    return fit(frames, kind=section.unfitted(place), seed=3, baseline=baseline)


def trainings(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Committee, Path]:
    """A committee and where its members lie: to be looked at, or copied."""
    folder = tmp_path_factory.mktemp("eight")
    return committee(bonded(water(), 40), workshop(folder), n_members=8), folder


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the trainer tells that it runs."""
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def energies(path: Path) -> set[float]:
    return {round(frame.get_potential_energy(), 6) for frame in ase.io.read(path, ":")}


def test_a_member_is_shown_its_half_and_nothing_else(tmp_path: Path) -> None:
    """With a baseline, the difference from it; a share of the half is for validation, and stays so."""
    frames, baseline = bonded(water(), 24), MorsePotential(epsilon=0.1, r0=2.5, rho0=4.0, rcut1=4.0, rcut2=5.0)
    (tmp_path / "kept").mkdir()
    command = f"{COMMAND} --keep {tmp_path / 'kept'}"
    found = committee(frames, workshop(tmp_path), baseline, command=command, validation=0.3)
    seen, groups = found.resampling.seen, found.resampling.groups
    differences = np.round(found.training.energies, 6)
    assert not np.allclose(differences, [frame.get_potential_energy() for frame in frames], atol=1e-3)
    records = [read_file(tmp_path / "models" / name / "member.h5", keeping.MemberRecord) for name in found.model.names]
    shown = {}
    for member, record in enumerate(records):
        assert record.member == member
        half = {float(e) for e, group in zip(differences, groups, strict=True) if seen[member, group]}
        (job,) = [p for p in (tmp_path / "kept").glob("*-train.xyz") if energies(p) <= half]
        train, validation = energies(job), energies(job.with_name(job.name.replace("train", "validation")))
        assert train | validation == half
        assert not train & validation
        assert (record.n_train, record.n_validation) == (len(train), len(validation))
        assert validation
        shown[member] = train
    assert sum(record.n_validation for record in records) == pytest.approx(0.3 * 24, abs=6)
    again = committee(bonded(water(), 32), workshop(tmp_path), baseline, command=command, validation=0.3)
    for member in range(2):
        later = [p for p in (tmp_path / "kept").glob("*-train.xyz") if shown[member] < energies(p)]
        assert later, "a structure that was trained on is validated on now"
    assert set(again.model.names).isdisjoint(found.model.names)


def test_a_member_is_never_trained_twice(eight: tuple[Committee, Path], tmp_path: Path, log: Path) -> None:
    first, folder = eight
    shutil.copytree(folder / "models", tmp_path / "models")
    shutil.rmtree(tmp_path / "models" / first.model.names[3])
    frames = bonded(water(), 40)
    second = committee(frames, workshop(tmp_path), n_members=8)
    assert len(trainings(log)) == 2  # "training SEED": of the member that was missing
    assert second.model.names == first.model.names
    np.testing.assert_array_equal(first.predict(frames[0]).energies, second.predict(frames[0]).energies)


@pytest.mark.slow
def test_it_goes_on_from_the_model_of_the_cycle_before(tmp_path: Path, log: Path) -> None:
    frames = bonded(water(), 32)
    first = committee(frames[:24], workshop(tmp_path), start="--start {start}")
    grown = committee(frames, workshop(tmp_path, first), start="--start {start}")
    plain = committee(frames, workshop(tmp_path), start="--start {start}")
    assert set(grown.model.names).isdisjoint(plain.model.names)
    assert "a single member judges each structure, at least 4 are needed" in plain.judgement.note
    a, b = grown.predict(frames[0]), plain.predict(frames[0])
    assert not np.array_equal(a.energies, b.energies)
    np.testing.assert_allclose(a.energies, b.energies, atol=0.05)
    assert len(trainings(log)) == 2 * 3 * 2
    # With other halves nothing is gone on with: a member would be judged by what it has seen.
    other = [*frames[12:], *frames[:12]]
    shuffled, fresh = (committee(other, workshop(tmp_path, x), start="--start {start}") for x in (first, None))
    assert shuffled.model.names == fresh.model.names


@pytest.mark.parametrize(
    ("fault", "reason", "detail", "attempts"),
    [
        ("crash", "crashed", "ended by signal SIGSEGV", 2),
        ("error", "crashed", "the learning rate is too large", 2),
        ("nothing", "no_output", "ended well and left nothing at {output}", 2),
        ("slow", "timed_out", "took longer than", 1),
    ],
)
def test_failures_have_a_reason_a_log_and_further_attempts(
    tmp_path: Path, log: Path, fault: str, reason: str, detail: str, attempts: int
) -> None:
    frames, settings = bonded(water(), 24), {"command": f"{COMMAND} --fault {fault}"}
    if fault == "slow":
        settings = {"command": f"{COMMAND} --sleep 60", "executor": {"timeout": 2.0, "workers": 4}}
    with pytest.raises(
        TrainingError, match=f"^training of 2 of 2 members failed; member 0: {reason}: .*, and try again$"
    ) as error:
        committee(frames, workshop(tmp_path), **settings)
    assert "\n" not in str(error.value)
    found = keeping.failures(tmp_path / "models")
    assert [len(paths) for paths in found.values()] == [attempts] * 2
    record = keeping.read_failure(next(iter(found.values()))[0])
    assert record.reason == reason
    assert detail in record.detail
    assert not list((tmp_path / "work/training").glob("*"))
    n_before = len(trainings(log))
    with pytest.raises(TrainingError):
        committee(frames, workshop(tmp_path), **settings)
    assert len(trainings(log)) == n_before, "what had failed is not tried again unasked"
    if fault == "error":
        with pytest.raises(TrainingError):
            committee(frames, workshop(tmp_path, retry=True), **settings)
        assert len(trainings(log)) == n_before + 2 * 4


def test_settings_are_changed_for_a_further_attempt(tmp_path: Path) -> None:
    frames, place = bonded(water(), 24), workshop(tmp_path)
    failures = {"crashed": {"command": COMMAND, "executor": {"workers": 1}}}
    found = committee(frames, place, command=f"{COMMAND} --fault error", failures=failures)
    records = [read_file(tmp_path / "models" / name / "member.h5", keeping.MemberRecord) for name in found.model.names]
    assert {json.loads(record.changes)["command"] for record in records} == {COMMAND}
    assert all("trained on" in record.log for record in records)
    assert len(place.progress.notes) == 2  # type: ignore[attr-defined]
    assert (tmp_path / "models" / found.model.names[0] / "training.log").read_text().startswith("trained on")


def test_a_damaged_member_is_told(eight: tuple[Committee, Path], tmp_path: Path) -> None:
    shutil.copytree(eight[1] / "models", tmp_path / "models")
    model = tmp_path / "models" / eight[0].model.names[2] / "model"
    model.write_text(model.read_text().replace("1", "2", 1))
    with pytest.raises(ConfigError, match=r"model is damaged: its content is not what the training program wrote"):
        committee(bonded(water(), 40), workshop(tmp_path), n_members=8)


def test_a_file_stands_for_itself_and_is_not_run_unasked(eight: tuple[Committee, Path], tmp_path: Path) -> None:
    found, frames = eight[0], bonded(water(), 40)
    expected = found.predict(frames[0])
    found.save(tmp_path / "model.h5")
    with pytest.raises(ConfigError, match=r"calculators that the file names, .*trust=True"):
        alflow.load(tmp_path / "model.h5").predict(frames[0])
    loaded = alflow.load(tmp_path / "model.h5", trust=True)
    assert loaded.model.models != found.model.models
    np.testing.assert_array_equal(loaded.predict(frames[0]).energies, expected.energies)
    assert loaded.judgement.note == found.judgement.note
    assert loaded.remarks == found.remarks
    with pytest.raises(PotentialError, match="not trained any further"):
        loaded.update(bonded(water(), 2, seed=7))
    atoms = frames[0].copy()
    atoms.calc = loaded.calculator()
    assert atoms.get_potential_energy() == expected.energy


def test_eight_members_are_calibrated(eight: tuple[Committee, Path]) -> None:
    found, frame = eight[0], bonded(water(), 1, seed=9)[0]
    assert found.judgement.note == ""
    assert found.predict(frame).atom_sigma is None
    assert found.predict(frame).energy_sigma > 0
    assert found.features(frame).ndim == 1
    assert found.grade(found.training.frames[0]).mean() == pytest.approx(1.0, abs=0.5)
    with pytest.raises(PotentialError, match=r"weighting = 'atom': .*without a baseline"):
        found.drive(frame, "atom")


@pytest.mark.parametrize("link", ["absolute", "relative"])
def test_what_a_link_leads_to_is_kept(tmp_path: Path, link: str) -> None:
    found = committee(bonded(water(), 24), workshop(tmp_path), command=f"{COMMAND} --link {link}")
    for name in found.model.names:
        model = tmp_path / "models" / name / "model"
        assert model.is_file()
        assert not model.is_symlink()


def test_a_training_that_cannot_be_kept_is_not_done_again(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full: the program had ended, and what it left is found when there is room again."""
    job = Job(
        "abc", 0, COMMAND.split(), {"python": sys.executable, "seed": "1"}, *(training(5), training(2)), {},
        tmp_path / "models", tmp_path / "work/abc", tmp_path / "models/failed/abc.0.h5",
    )  # fmt: skip
    job = replace(job, words=[str(TESTS / word) if word == "pair_trainer.py" else word for word in job.words])

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "put", full)
        with pytest.raises(StoreError, match="No space left"):
            train_one(job)
    assert not job.failed.exists()
    train_one(job)
    assert keeping.is_trained(job.models, "abc")
    assert len(trainings(log)) == 2  # "training SEED", once
    (tmp_path / "models/abc/member.h5").unlink()  # somebody has taken things out of it
    train_one(job)
    assert keeping.is_trained(job.models, "abc")
    assert not keeping.failures(job.models)


def training(n: int) -> TrainingSet:
    return make_training_set(bonded(water(), n), None)


def test_a_file_with_a_baseline_is_as_good_as_before(eight: tuple[Committee, Path], tmp_path: Path) -> None:
    """The members' files stay as long as any copy of the model is there."""
    frames, baseline = bonded(water(), 24), MorsePotential(epsilon=0.1, r0=2.5, rho0=4.0, rcut1=4.0, rcut2=5.0)
    found = committee(frames, workshop(tmp_path), baseline)
    expected = found.predict(frames[0]).energies
    found.save(tmp_path / "model.h5")
    loaded = alflow.load(tmp_path / "model.h5", baseline=baseline, trust=True)
    gc.collect()
    np.testing.assert_array_equal(loaded.predict(frames[0]).energies, expected)
    folder = loaded.model.models
    del loaded
    gc.collect()
    assert not folder.exists()


BAD_SETTINGS = {
    "no output": ({"command": "train {train}"}, r"command: \{output\} is not in it: say where"),
    "unknown word": (
        {"command": "train {train} {output} {epoch}"},
        r"nothing is known of \{epoch\}: expected \{tra",
    ),
    "start without start": ({"start": "--restart"}, r"start: \{start\} is not in it"),
    "no model": ({"parameters": {"device": "cpu"}}, r"\{model\} is not in them: say which parameter"),
    "validation": ({"validation": 1.0}, "less than 1"),
    "no calculator": ({"calculator": "Pairs"}, "pattern"),
    "an attempt": ({"failures": {"crashed": {"seed": 3}}}, r"failures\.crashed: seed cannot be changed: expected com"),
    "a date": ({"parameters": {"model": "{model}", "on": date(2026, 1, 1)}}, "date is not JSON serializable"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_settings_that_are_not_allowed(name: str) -> None:
    changes, message = BAD_SETTINGS[name]
    with pytest.raises(ValidationError, match=message):
        TrainedPotential.model_validate({**SETTINGS, **changes})
    with pytest.raises(PotentialError, match=message):
        alflow.fit(bonded(water(), 3), **{**TRAINER, "kind": "trained", "n_members": 4, **changes})


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    with pytest.raises(PotentialError, match=r"member 0 would see 1 of 3 structures, expected 2 at least: add struct"):
        committee(bonded(water(), 3), workshop(tmp_path))
    with pytest.raises(ConfigError, match="no program mace_run_trian on PATH: install it"):
        committee(bonded(water(), 24), workshop(tmp_path), command="mace_run_trian {train} {output}")
    with pytest.raises(ConfigError, match=r"calculator pair_trainer\.Pear: AttributeError: module"):
        committee(bonded(water(), 24), workshop(tmp_path), calculator="pair_trainer.Pear")
