"""Structures of some kinds count more than others in a fit, and are judged like all."""

import copy
from pathlib import Path

import alflow
import h5py
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.committee.kinds import names, unknown, weight
from alflow.errors import ConfigError, PotentialError
from alflow.models.fitting import fit
from alflow.progress import Silent
from alflow.steps.fit_file import Asked, fit_file
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

SMALL = {"n_members": 8, "cutoff": 4.5, "n_features": 30, "n_max": 4, "l_max": 2, "n_pair": 6}


def copper(n: int, *, seed: int = 0) -> list[Atoms]:
    """Hot crystals, every second of which is a "surface" and whose forces are 20 % too large."""
    rng, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = bulk("Cu", a=rng.uniform(3.5, 3.7), cubic=True)
        atoms.positions += 0.1 * rng.normal(size=(4, 3))
        atoms.calc = EMT()
        wrong = 1.2 if k % 2 else 1.0
        energy, forces = atoms.get_potential_energy(), wrong * atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=atoms.get_stress())
        atoms.info["config_type"] = "surface" if k % 2 else "bulk"
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def frames() -> list[Atoms]:
    return copper(24)


@pytest.fixture(scope="module")
def plain(frames: list[Atoms]) -> Committee:
    return alflow.fit(frames, **SMALL)


def fitted(frames: list[Atoms], **weights: float) -> Committee:
    return alflow.fit(frames, weights=weights, **SMALL)


def test_a_weight_multiplies_rows(frames: list[Atoms], plain: Committee) -> None:
    """Sums of squares of the kind grow with its square, of energies, forces and stresses; others stay."""
    sums = {1: plain.model.fit.equations}
    sums |= {w: fitted(frames, surface=w).model.fit.equations for w in (2, 3)}
    for name in ("gram", "moment", "square", "stress_gram", "stress_moment"):
        one, two, three = (getattr(sums[w], name) for w in (1, 2, 3))
        np.testing.assert_allclose((two - one) / 3, (three - one) / 8, rtol=1e-7, atol=1e-9 * np.abs(one).max())
        assert np.abs(two - one).max() > 0.1 * np.abs(one).max()
    for name in ("n_rows", "n_structures", "total", "atomic"):
        np.testing.assert_array_equal(getattr(sums[1], name), getattr(sums[3], name))
    for name in ("gram", "moment"):  # of a group without that kind, or with it only
        groups = plain.resampling.groups
        surface = np.arange(len(frames)) % 2 == 1
        for group in range(8):
            mine = surface[groups == group]
            if mine.all() or not mine.any():
                factor = 9.0 if mine.all() and len(mine) else 1.0
                found, expected = getattr(sums[3], name)[group], getattr(sums[1], name)[group]
                np.testing.assert_allclose(found, factor * expected, rtol=1e-10, atol=1e-9 * np.abs(expected).max())


def test_energies_have_the_weight_too(frames: list[Atoms], plain: Committee) -> None:
    rows = []
    for committee in (plain, fitted(frames, surface=3.0)):
        fit, training = committee.model.fit, committee.training
        rows.append(fit.jury.with_energies(fit.equations, training.energies, fit.energy_weight).energies)
    factors = np.where(np.arange(len(frames)) % 2, 3.0, 1.0)
    np.testing.assert_allclose(rows[1].rows, factors[:, None] * rows[0].rows)
    np.testing.assert_allclose(rows[1].targets, factors * rows[0].targets)


def test_what_is_judged_has_no_weight(frames: list[Atoms], plain: Committee) -> None:
    heavy = fitted(frames, surface=4.0).model.fit.jury
    for name in ("rows", "force_rows", "forces", "stress_rows", "stresses"):
        for one, other in zip(getattr(plain.model.fit.jury, name), getattr(heavy, name), strict=True):
            np.testing.assert_array_equal(one, other)


def test_labels_that_contradict_each_other_are_won_by_the_heavier_kind(frames: list[Atoms]) -> None:
    def slope(committee: Committee) -> float:
        """Of predicted forces against EMT's: between 1 of the bulk and 1.2 of the surface."""
        told, right = [], []
        for atoms in copper(8, seed=1):
            told.append(committee.predict(atoms).forces.ravel())
            other = atoms.copy()
            other.calc = EMT()
            right.append(other.get_forces().ravel())
        return float(np.concatenate(told) @ np.concatenate(right) / np.sum(np.square(right)))

    assert slope(fitted(frames, bulk=10.0, surface=0.5)) < 1.05
    assert slope(fitted(frames, surface=10.0, bulk=0.5)) > 1.1


def test_a_weight_of_one_is_none(frames: list[Atoms], plain: Committee) -> None:
    assert (fitted(frames, surface=1.0).model.coefficients == plain.model.coefficients).all()


def test_in_pieces_it_is_the_same(frames: list[Atoms]) -> None:
    whole = fitted(frames, surface=3.0)
    other = fitted(frames[:15], surface=3.0)
    other.update(frames[15:])
    assert (other.model.coefficients == whole.model.coefficients).all()


def test_the_choice_of_the_basis_depends_on_weights() -> None:
    """Of two questions that differ by where structures come from only the second is asked again."""
    frames = copper(12)
    settings = {"n_members": 8, "n_features": 30, "n_max": 4, "l_max": 2, "n_pair": 6, "weights": {"surface": 50.0}}
    swapped = copy.deepcopy(frames)
    for atoms in swapped:
        atoms.info["config_type"] = "bulk" if atoms.info["config_type"] == "surface" else "surface"
    found = [alflow.fit(some, **settings) for some in (frames, swapped, frames)]
    assert (found[0].model.coefficients == found[2].model.coefficients).all()
    assert (found[0].model.coefficients.shape != found[1].model.coefficients.shape) or (
        found[0].model.coefficients != found[1].model.coefficients
    ).any()


def test_a_kind_that_is_not_there(frames: list[Atoms]) -> None:
    with pytest.raises(PotentialError, match=r"^weights: no structure is of kind slab: expected one of bulk, "):
        fitted(frames, slab=2.0)
    with pytest.raises(PotentialError, match="expected none, as the structures have no config_type"):
        fitted([Atoms("Cu")], slab=2.0)
    found = fit(frames, weights={"slab": 2.0}, growing=True, **SMALL)  # in a run it may come later
    assert any(remark.startswith("warning: weights: no structure is of kind slab") for remark in found.remarks)
    with pytest.raises(PotentialError, match="potential setting weights: expected a number > 0, found -1"):
        fitted(frames, bulk=-1.0)


def test_names_of_kinds() -> None:
    origin = "system water, config_type surface, cycle 3"
    assert {"water", "surface", "cycle 3", "system water", "config_type surface", origin} == set(names(origin))
    assert names("") == []
    assert weight(origin, {"water": 2.0, "cycle 3": 3.0, "bulk": 5.0}) == 6.0
    assert unknown([origin, "initial"], {"initial": 2.0, "surface": 2.0}) == ""
    assert unknown([origin], {"cycle 4": 2.0}).startswith("no structure is of kind cycle 4: expected one of water, ")


def test_a_file_has_weights_where_there_are_any(frames: list[Atoms], plain: Committee, tmp_path: Path) -> None:
    heavy = fitted(frames, surface=3.0)
    for committee, has in ((plain, False), (heavy, True)):
        committee.save(tmp_path / "model.h5")
        with h5py.File(tmp_path / "model.h5") as file:
            found: list[str] = []
            file.visititems(lambda _, item, found=found: found.append(str(item.attrs.get("settings", ""))))
        assert any("weights" in text for text in found) is has
    loaded = alflow.load(tmp_path / "model.h5")
    loaded.update(copper(4, seed=3))
    heavy.update(copper(4, seed=3))
    assert (loaded.model.coefficients == heavy.model.coefficients).all()


def test_weights_on_the_command_line(frames: list[Atoms], tmp_path: Path) -> None:
    data, settings = tmp_path / "data.xyz", tmp_path / "alflow.toml"
    write(data, frames)
    settings.write_text(
        "[potential]\nn_members = 8\ncutoff = 4.5\nn_features = 30\nweights = {surface = 3.0, bulk = 2}\n"
    )
    asked = Asked(settings=settings, weights=("bulk=0.5",))
    found = fit_file(data, tmp_path / "model.h5", asked, Silent())
    assert found.settings.weights == {"surface": 3.0, "bulk": 0.5}
    with pytest.raises(PotentialError, match="no structure is of kind slab"):
        fit_file(data, tmp_path / "other.h5", Asked(weights=("slab=2",)), Silent())
    for text in ("bulk", "bulk=x", "bulk=0", "=2"):
        with pytest.raises(ConfigError, match=f"^weight: expected KIND=NUMBER with a number > 0, found '{text}'"):
            fit_file(data, tmp_path / "other.h5", Asked(weights=(text,)), Silent())


def test_errors_are_told_by_kind(frames: list[Atoms], plain: Committee) -> None:
    """Mean squares of the kinds, each with its number of labels, are that of all."""
    lines = [remark for remark in plain.remarks if remark.startswith("out-of-bag RMSE of ")]
    assert [line.split(":")[0] for line in lines] == [
        "out-of-bag RMSE of config_type bulk (12 structures)",
        "out-of-bag RMSE of config_type surface (12 structures)",
    ]
    told = np.array([[float(part.split()[0]) for part in line.split(": ")[1].split(", ")] for line in lines])
    expected = 1e3 * np.array([plain.judgement.energy_rmse, plain.judgement.force_rmse])
    np.testing.assert_allclose(np.sqrt(np.mean(told**2, axis=0)), expected, rtol=0.01)
    assert not any("out-of-bag RMSE of" in remark for remark in alflow.fit(frames[::2], **SMALL).remarks)
