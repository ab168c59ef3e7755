"""Members that are calculators already: their energy zeros, their judgement, and the files that they are made from."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import alflow
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.errors import ConfigError, PotentialError
from alflow.models import independent
from alflow.models.calculators.model import CalculatorsModel
from alflow.models.calculators.potential import CalculatorsPotential
from alflow.records.train import TrainRecord
from alflow.state.file import commit_file, read_file
from ase import Atoms
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from pydantic import ValidationError

from lj_frames import SMALL, bonded, labelled, water
from members import TESTS, calculators
from odd_calculators import Odd

ODD = "odd_calculators.Odd"


def argon(n: int, sizes: Sequence[int] = (4,), offset: float = 0.0) -> list[Atoms]:
    """Clusters of several sizes, by a Lennard-Jones potential that counts an atom from ``offset``."""
    rng, frames = np.random.default_rng(1), []
    for k in range(n):
        size = sizes[k % len(sizes)]
        atoms = Atoms(f"Ar{size}", 2.4 * np.array([[i % 2, i // 2 % 2, i // 4] for i in range(size)], dtype=float))
        atoms.positions += 0.1 * rng.normal(size=(size, 3))
        calculator = Odd()
        energy, forces = calculator.get_potential_energy(atoms), calculator.get_forces(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy + offset * size, forces=forces)
        frames.append(atoms)
    return frames


def fitted(frames: list[Atoms], members: list[dict[str, Any]], **settings: Any) -> Committee:
    return alflow.fit(frames, kind="calculators", members=members, directory=str(TESTS), **settings)


def odd(**parameters: Any) -> dict[str, Any]:
    return {"calculator": ODD, "parameters": parameters}


def test_energy_zeros_of_each_member_are_found() -> None:
    """A member that differs from the labels by a constant for each atom is the reference itself."""
    frames = argon(12, sizes=(3, 4, 5), offset=-527.0)
    found = fitted(frames, [odd(), odd(what="free energy"), odd(epsilon=0.35)])
    np.testing.assert_allclose(found.model.zeros[0, 0], -527.0, atol=1e-9)
    said = found.predict(frames[3])
    assert found.forward(frames[3]).energies[0] == pytest.approx(frames[3].get_potential_energy(), abs=1e-8)
    assert said.energy < -500 * len(frames[3])


def test_no_structure_is_judged_by_its_own_label() -> None:
    """Leaving one out at a time, by hand, gives the same error."""
    frames = argon(14, sizes=(3, 4, 5))
    members = [odd(epsilon=e) for e in (0.25, 0.28, 0.33, 0.36)]
    found = fitted(frames, members)
    errors = []
    for k, frame in enumerate(frames):
        others = [other for j, other in enumerate(frames) if j != k]
        mean = fitted(others, members).forward(frame).energies.mean()
        errors.append((mean - frame.get_potential_energy()) / len(frame))
    assert found.judgement.energy_rmse == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-9)


def test_a_structure_that_alone_has_a_species_is_not_judged() -> None:
    frames = argon(14)
    alone = Atoms("ArNe", [[0, 0, 0], [0, 0, 2.5]])
    alone.calc = Odd()
    alone.calc = SinglePointCalculator(alone, energy=1.0, forces=alone.get_forces())
    found = fitted([*frames, alone], [odd(epsilon=e) for e in (0.25, 0.28, 0.33, 0.36)])
    assert found.judgement.energy.reliability.n == 14


def test_four_are_calibrated_and_three_are_not() -> None:
    frames = argon(24, sizes=(4, 5))
    members = [odd(epsilon=e, sigma=s) for e, s in ((0.27, 2.2), (0.32, 2.22), (0.29, 2.17), (0.34, 2.19))]
    four, three = fitted(frames, members), fitted(frames, members[:3])
    assert "at least 4 are needed" not in four.judgement.note
    assert "3 members judge each structure, at least 4 are needed" in three.judgement.note
    assert three.remarks == ("3 members share nothing: a structure takes 3 evaluations",)
    prediction = three.predict(frames[0])
    assert prediction.energy_sigma == pytest.approx(prediction.energy_spread)
    assert not prediction.calibrated
    assert prediction.atom_sigma is not None
    assert prediction.atom_spread.shape == (len(frames[0]),)
    with_baseline = fitted(frames, members, baseline=LennardJones(sigma=2.2, epsilon=0.2, rc=5.0))
    assert with_baseline.predict(frames[0]).atom_sigma is None
    with pytest.raises(PotentialError, match=r"weighting = 'atom': members of kind 'calculators' have no gradients of"):
        with_baseline.calculator("atom")


def test_with_a_baseline_the_members_stay_what_they_are() -> None:
    """The mean is the same, and weighted: with members that disagree only the baseline is left."""
    frames = argon(16, sizes=(4, 5))
    baseline = LennardJones(sigma=2.2, epsilon=0.2, rc=5.0)
    members = [odd(epsilon=e) for e in (0.29, 0.3, 0.31, 0.305)]
    plain, based = fitted(frames, members), fitted(frames, members, baseline=baseline)
    test = argon(20)[-1]
    assert based.predict(test).energy == pytest.approx(plain.predict(test).energy, abs=1e-9)
    np.testing.assert_allclose(based.predict(test).forces, plain.predict(test).forces, atol=1e-9)
    far = test.copy()
    far.positions *= 0.6
    driven = based.drive(far, error=1e-6)
    assert driven.weight < 1e-6
    np.testing.assert_allclose(driven.forces, baseline.get_forces(far), rtol=1e-3, atol=1e-3)


def test_labels_are_evaluated_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not again when structures are added, nor in the next cycle, nor by a committee that was read from a file."""
    counted: list[int] = []
    plain = independent.evaluate

    def evaluate(recipes: Any, frames: Sequence[Atoms], threads: int) -> Any:
        counted.append(len(frames))
        return plain(recipes, frames, threads)

    frames, noise = argon(24), independent._FRAMES * (1 + independent._COPIES + independent._STEPS)
    monkeypatch.setattr(independent, "evaluate", evaluate)
    members = [odd(epsilon=e) for e in (0.25, 0.28, 0.33, 0.36)]
    first = fitted(frames[:20], members)
    assert sum(counted) == 20 + noise
    first.save(tmp_path / "model.h5")
    before = alflow.load(tmp_path / "model.h5", trust=True)
    counted.clear()
    section = CalculatorsPotential.model_validate({"kind": "calculators", "members": members})
    model = CalculatorsModel(section.members, TESTS)
    model.remember(before)
    later = alflow.fit(frames, kind=model)
    assert sum(counted) == 4 + noise
    whole = fitted(frames, members)
    np.testing.assert_array_equal(later.predict(frames[0]).energies, whole.predict(frames[0]).energies)
    assert later.judgement.force_rmse == whole.judgement.force_rmse


def test_a_model_of_alflow_is_a_member_and_must_stay_what_it_was(tmp_path: Path) -> None:
    frames = bonded(water(), 14)
    cheap = alflow.fit(frames, **SMALL)
    (tmp_path / "run").mkdir()
    cheap.save(tmp_path / "run/cheap.h5")
    members = [{"file": "cheap.h5"}, {"calculator": "ase.calculators.morse.MorsePotential", "parameters": {"r0": 1.5}}]
    found = alflow.fit(frames, kind="calculators", members=members, directory=str(tmp_path / "run"))
    assert found.forward(frames[0]).energies[0] == pytest.approx(cheap.predict(frames[0]).energy, abs=0.1)
    found.save(tmp_path / "model.h5")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "run", tmp_path / "elsewhere/run")
    with pytest.raises(ConfigError, match=r"cheap\.h5: no such file"):
        alflow.load(tmp_path / "model.h5", trust=True).predict(frames[0])
    shutil.copy(tmp_path / "model.h5", tmp_path / "elsewhere/run/model.h5")  # beside its files again
    moved = alflow.load(tmp_path / "elsewhere/run/model.h5", trust=True)
    np.testing.assert_array_equal(moved.predict(frames[0]).energies, found.predict(frames[0]).energies)
    alflow.fit(frames[:10], **SMALL).save(tmp_path / "elsewhere/run/cheap.h5")
    with pytest.raises(ConfigError, match=r"cheap\.h5 has another content now, which a member was made from"):
        alflow.load(tmp_path / "elsewhere/run/model.h5", trust=True).predict(frames[0])
    based = alflow.fit(frames, baseline=LennardJones(), **SMALL)
    based.save(tmp_path / "elsewhere/run/cheap.h5")
    with pytest.raises(ConfigError, match="trained on a baseline of its own, which a member cannot have"):
        alflow.fit(frames, kind="calculators", members=members, directory=str(tmp_path / "elsewhere/run"))


def test_what_members_cannot_do_is_told_in_one_line() -> None:
    frames = argon(12)
    found = fitted(frames, [odd(), odd(epsilon=0.31)])
    with pytest.raises(PotentialError, match="O in H2O: not in the training set, which has Ar"):
        found.predict(molecule("H2O"))
    with pytest.raises(
        PotentialError,
        match=r"^member 1 \(odd_calculators\.Odd\) failed on Ar4: KeyError: .*18.*; expected one that knows Ar and",
    ):
        fitted(frames, [odd(), odd(what="only silicon")])
    with pytest.raises(ConfigError, match=r"^calculator odd_calculators\.Odd with .* RuntimeError: no CUDA device"):
        fitted(frames, [odd(), odd(what="needs a GPU")])
    with pytest.raises(PotentialError, match=r"its process ended by signal SIGSEGV"):
        fitted(frames, [odd(), odd(what="dies")])
    with pytest.raises(PotentialError, match=r"members.*at least 2"):
        fitted(frames, [odd()])
    with pytest.raises(ValidationError, match="expected calculator or file, one of both"):
        CalculatorsPotential.model_validate({"kind": "calculators", "members": [{"python": "x"}, odd()]})


def test_weights_below_the_noise_of_members_are_refused() -> None:
    frames = argon(14, offset=-1000.0)
    for frame in frames:
        frame.calc.results["energy"] += 1000.0 * len(frame)
    baseline = LennardJones(sigma=2.2, epsilon=0.3, rc=5.0, smooth=True)
    members = [odd(epsilon=e, what="single") for e in (3e4, 3.1e4, 3.2e4, 3.3e4)]
    found = fitted(frames, members, baseline=baseline)
    assert found.judgement.noise > 1e-4
    with pytest.raises(PotentialError, match=r"is not above the noise of the members' energies, .*double precision"):
        found.calculator(error=1e-5)


def test_a_charge_is_known_of_labels_and_in_simulations_alike(tmp_path: Path) -> None:
    """A member that looks at it is the reference itself, whose charge the labels have; files keep it."""
    frames = argon(12)
    for k, frame in enumerate(frames):
        frame.info = {"charge": k % 2, "multiplicity": 1 + k % 2}
        frame.calc.results["energy"] += 10.0 * (k % 2)
    found = fitted(frames, [odd(what="charged"), odd(what="charged", epsilon=0.31)])
    np.testing.assert_allclose(found.model.zeros[:, 0], 0.0, atol=1e-9)
    assert found.forward(frames[1]).energies[0] == pytest.approx(frames[1].get_potential_energy(), abs=1e-9)
    found.save(tmp_path / "model.h5")
    read = alflow.load(tmp_path / "model.h5", trust=True)
    assert [frame.info for frame in read.training.frames[:2]] == [{}, {"charge": 1, "multiplicity": 2}]
    assert read.training.frames[1].info == found.training.frames[1].info


def test_a_module_of_the_run_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members that name no file: their modules lie where alflow.toml does, not where alflow is called."""
    run, frames = tmp_path / "run", argon(12)
    (run / "cycles/000").mkdir(parents=True)
    (run / "alflow.toml").write_text("")
    (run / "mine.py").write_text((TESTS / "odd_calculators.py").read_text())
    members = [{"calculator": "mine.Odd"}, {"calculator": "mine.Odd", "parameters": {"epsilon": 0.31}}]
    found = alflow.fit(frames, kind="calculators", members=members, directory=str(run))
    commit_file(run / "cycles/000/train.h5", TrainRecord(found, 12, ""))
    monkeypatch.chdir(tmp_path)
    model = read_file(run / "cycles/000/train.h5", TrainRecord).model
    np.testing.assert_array_equal(model.predict(frames[0]).energies, found.predict(frames[0]).energies)


def test_charges_of_atoms_reach_no_member() -> None:
    """What is judged are bare structures: the same evaluation whatever a structure carries besides."""
    frames = argon(12)
    found = fitted(frames, [odd(what="charges"), odd(epsilon=0.31)])
    carrying = frames[0].copy()
    carrying.set_initial_charges(np.full(len(carrying), 0.5))
    carrying.set_velocities(np.ones((len(carrying), 3)))
    np.testing.assert_array_equal(found.predict(carrying).energies, found.predict(frames[0]).energies)


def test_the_committee_of_the_contract_is_calibrated() -> None:
    assert "at least 4" not in calculators(labelled(water(), 12, scale=0.02), None).judgement.note
