"""More species than four share a few pseudo-species: the features, their derivatives, and how many there are."""

import json

import alflow
import numpy as np
import pytest
from alflow.committee.resampling import seen_groups
from alflow.models.ace import memory
from alflow.models.ace.basis import make_basis
from alflow.models.ace.environment import Descriptor
from alflow.models.ace.fit import make_descriptor
from alflow.models.ace.pseudo_species import layout, mixing, places
from alflow.models.ace.settings import AceSettings
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from ase.stress import full_3x3_to_voigt_6_stress
from scipy.spatial.transform import Rotation

from lj_frames import SIX, SMALL, bonded, crowded
from some_records import meddle


def six(n_features: int) -> Descriptor:
    settings = AceSettings(n_max=4, l_max=3, n_features=n_features, n_pair=6, cutoff=3.5)
    return make_descriptor(settings, SIX).with_inner(np.full((6, 6), 0.4))


def summed(found: Descriptor, atoms: Atoms) -> np.ndarray:
    features = found.features(found.environment(atoms))
    return np.concatenate([features[:, atoms.numbers == z].sum(axis=1) for z in found.numbers])


@pytest.mark.parametrize(("n_features", "n_pseudo", "n_own"), [(200, 4, 6), (34, 4, 2), (24, 3, 0), (16, 1, 1)])
def test_rows_are_derivatives_and_the_gradient_is_theirs(n_features: int, n_pseudo: int, n_own: int) -> None:
    found, atoms = six(n_features), crowded()
    assert (found.basis.n_pseudo, found.basis.tables.n_own) == (n_pseudo, n_own)
    env = found.environment(atoms)
    rows, strains = found.rows(env, strain=True)
    for i, x in ((0, 0), (5, 1), (13, 2)):
        moved = [atoms.copy(), atoms.copy()]
        moved[0].positions[i, x] += 1e-5
        moved[1].positions[i, x] -= 1e-5
        expected = -(summed(found, moved[0]) - summed(found, moved[1])) / 2e-5
        np.testing.assert_allclose(rows[:, 3 * i + x], expected, atol=1e-7 * np.abs(rows).max())
    for column, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        values = []
        for step in (1e-5, -1e-5):
            strain, strained = np.zeros((3, 3)), atoms.copy()
            strain[a, b] = strain[b, a] = step if a == b else step / 2  # a component off the diagonal is there twice
            strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            values.append(summed(found, strained))
        expected = (values[0] - values[1]) / 2e-5
        np.testing.assert_allclose(strains[:, column], expected, atol=1e-7 * np.abs(strains).max())
    coefficients = np.random.default_rng(2).normal(size=(6, 3, found.basis.n_features))
    forces, gradient = found.gradient(env, coefficients, np.array([0.0, 1.0, 0.0]))
    mine = coefficients[:, 1].ravel()
    np.testing.assert_allclose(forces.ravel(), mine @ rows, atol=1e-10 * np.abs(mine @ rows).max())
    voigt = full_3x3_to_voigt_6_stress((gradient + gradient.T) / 2)
    np.testing.assert_allclose(voigt, mine @ strains, atol=1e-10 * np.abs(voigt).max())


def test_features_are_invariant() -> None:
    """To rotation, reflection and the order of the atoms."""
    found, atoms = six(200), crowded(n=24)
    atoms.pbc = False
    features = found.features(found.environment(atoms))
    for turn in (Rotation.random(random_state=1).as_matrix(), -np.eye(3)):
        turned = Atoms(atoms.numbers, atoms.positions @ turn.T + 1.0)
        np.testing.assert_allclose(found.features(found.environment(turned)), features, rtol=1e-9, atol=1e-9)
    order = np.random.default_rng(0).permutation(24)
    found_in_order = found.features(found.environment(atoms[order]))
    np.testing.assert_allclose(found_in_order, features[:, order], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_species", [1, 2, 3, 4])
def test_up_to_four_species_nothing_is_mixed(n_species: int) -> None:
    settings, numbers = AceSettings(), SIX[:n_species]
    found = make_descriptor(settings, numbers)
    assert found.functions.mixing.shape == (0, n_species)
    plain = make_basis(n_species, 8, 4, settings.features_of(n_species), settings.pairs_of(n_species))
    for a, b in zip(found.basis.tables, plain.tables, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("n_species", range(1, 90))
def test_angles_are_seen_and_columns_are_bounded(n_species: int) -> None:
    basis = make_descriptor(AceSettings(), tuple(range(1, n_species + 1))).basis
    assert basis.sees_angles
    assert n_species * (basis.n_features + 2) <= 4600 + 1000 * (n_species < 5)


@pytest.mark.parametrize("n_species", [5, 10, 30, 89])
@pytest.mark.parametrize("n_features", [30, 100, 400])
def test_as_many_features_as_are_given_at_most(n_species: int, n_features: int) -> None:
    settings = AceSettings(n_features=n_features, n_pair=8)
    basis = make_descriptor(settings, tuple(range(1, n_species + 1))).basis
    assert basis.n_features <= n_features
    assert basis.sees_angles


def test_the_user_decides_on_their_number() -> None:
    assert layout(10, 8, 4, 400, 13, given=10) == (10, 0)
    assert layout(3, 8, 4, 400, 36, given=2) == (2, 36)
    found = make_descriptor(AceSettings(n_pseudo_species=7), tuple(range(1, 11)))
    assert found.functions.mixing.shape == (7, 10)


def test_89_elements_and_16_members_take_less_than_4_gb(monkeypatch: pytest.MonkeyPatch) -> None:
    basis = make_descriptor(AceSettings(), tuple(range(1, 90))).basis
    monkeypatch.setattr(memory, "available_memory", lambda: 4 * 10**9)
    memory.check_memory(seen_groups(16).shape[1], 89, basis.n_features + 1, 2)


def test_places_in_the_periodic_table() -> None:
    symbols = ["H", "He", "C", "Si", "Cl", "Fe", "Au", "La", "Yb", "Lu", "U", "Og"]
    group, period = places(tuple(atomic_numbers[symbol] for symbol in symbols))
    assert group[[0, 1, 2, 3, 4, 5, 6, 9, 11]].tolist() == [1, 18, 14, 14, 17, 8, 11, 3, 18]
    assert ((group[[7, 8, 10]] > 2) & (group[[7, 8, 10]] < 3)).all()
    assert period.tolist() == [1, 1, 2, 3, 3, 4, 6, 6, 6, 6, 7, 7]


def test_alike_elements_have_like_weights() -> None:
    symbols = ["H", "O", "F", "S", "Cl", "Cu", "Ag", "Au"]
    weights = mixing(tuple(atomic_numbers[s] for s in symbols), 4)
    np.testing.assert_allclose(np.sum(weights**2, axis=0), 1.0)
    assert (weights[0] > 0.5).all()
    assert np.linalg.matrix_rank(weights) == 4
    far = np.linalg.norm(weights[:, :, None] - weights[:, None], axis=0)
    for alike, other in (("Ag Au", "Ag Cl"), ("S Cl", "S Ag"), ("O F", "O H"), ("Cu Ag", "Cu O")):
        (a, b), (_, c) = ([symbols.index(s) for s in two.split()] for two in (alike, other))
        assert far[a, b] < far[a, c]


def test_weights_of_elements_that_are_all_alike_are_not_noise() -> None:
    weights = mixing(tuple(range(57, 72)), 4)  # lanthanoids
    assert np.linalg.cond(weights) < 30
    assert (np.abs(weights[1:]).max(axis=1) > 0.1).all()


def bent(centre: str, ends: list[str], angle: float) -> Atoms:
    """Two neighbours that do not see each other, and an energy of 2 cos^2 of the angle, eV."""
    t = np.radians(angle)
    atoms = Atoms([centre, *ends], 3.9 * np.array([[0, 0, 0], [1, 0, 0], [np.cos(t), np.sin(t), 0]]))
    atoms.calc = SinglePointCalculator(atoms, energy=float(2 * np.cos(t) ** 2))
    return atoms


def test_energies_of_ten_elements_depend_on_angles() -> None:
    elements, rng = ["C", "H", "N", "O", "F", "Si", "P", "S", "Cl", "Br"], np.random.default_rng(1)
    frames = [bent(e, list(rng.choice(elements, 2)), rng.uniform(92, 180)) for e in elements for _ in range(10)]
    frames += [bent("C", ["H", "H"], angle) for angle in np.linspace(92, 179, 25)]
    committee = alflow.fit(frames, n_members=8, n_features=200, n_max=6)
    for angle in (92.5, 120.0, 150.0, 178.0):
        label = bent("C", ["H", "H"], angle)
        assert committee.predict(label).energy == pytest.approx(label.get_potential_energy(), abs=0.3)


def test_forces_of_a_fit_are_derivatives_of_its_energy() -> None:
    frames = bonded(Atoms("HCNOFPS", 1.5 * np.array([*np.ndindex(2, 2, 2)])[1:]), 12)
    committee = alflow.fit(frames, **SMALL)
    forces = committee.predict(frames[0]).forces
    for i, x in ((0, 0), (3, 1), (6, 2)):
        moved = [frames[0].copy() for _ in range(2)]
        for sign, atoms in zip((1, -1), moved, strict=True):
            atoms.positions[i, x] += sign * 1e-4
        plus, minus = (committee.predict(atoms).energy for atoms in moved)
        assert forces[i, x] == pytest.approx((minus - plus) / 2e-4, abs=1e-5 * np.abs(forces).max())


def test_a_fit_of_sixty_elements_takes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crystals of two elements each; with the default features 32 members fit into 12 GB."""
    basis = make_descriptor(AceSettings(), tuple(range(3, 63))).basis
    monkeypatch.setattr(memory, "available_memory", lambda: 12 * 10**9)
    memory.check_memory(seen_groups(32).shape[1], 60, basis.n_features + 1, 8)
    rng, frames = np.random.default_rng(0), []
    for i in range(60):
        numbers = [3 + i, int(rng.integers(3, 63))] * 2
        frames += bonded(
            Atoms(numbers, [[0, 0, 0], [2, 2, 0], [2, 0, 2], [0, 2, 2]], cell=3 * [4.0], pbc=True), 1, seed=i
        )
    committee = alflow.fit(frames, n_members=2, n_max=4, n_features=20)
    assert committee.model.descriptor.basis.n_features <= 20
    assert np.isfinite(committee.predict(frames[0]).forces).all()


def test_a_file_has_the_weights(tmp_path) -> None:
    """A version that had others would read it and evaluate it the same."""
    frames = bonded(Atoms("HCNOFP", 1.5 * np.array([*np.ndindex(2, 2, 2)])[2:]), 8)
    committee = alflow.fit(frames, **SMALL)
    committee.save(tmp_path / "model.h5")
    weights = committee.model.descriptor.functions.mixing
    np.testing.assert_array_equal(alflow.load(tmp_path / "model.h5").model.descriptor.functions.mixing, weights)
    for a, b in zip(
        (alflow.load(tmp_path / "model.h5").predict(frames[0])).forces, committee.predict(frames[0]).forces, strict=True
    ):
        np.testing.assert_array_equal(a, b)
    meddle(tmp_path / "model.h5", lambda file: file["model/mixing"].write_direct(np.ascontiguousarray(weights[::-1])))
    other = alflow.load(tmp_path / "model.h5")
    np.testing.assert_array_equal(other.model.descriptor.functions.mixing, weights[::-1])


def test_files_from_before_there_were_pseudo_species_are_read(tmp_path) -> None:
    frames = bonded(Atoms("HCNOFP", 1.5 * np.array([*np.ndindex(2, 2, 2)])[2:]), 8)
    committee = alflow.fit(frames, n_pseudo_species=6, **SMALL)
    committee.save(tmp_path / "model.h5")

    def age(file) -> None:
        settings = json.loads(file["model"].attrs["settings"])
        del settings["n_pseudo_species"]
        file["model"].attrs["settings"] = json.dumps(settings)
        assert "mixing" not in file["model"]

    meddle(tmp_path / "model.h5", age)
    old = alflow.load(tmp_path / "model.h5")
    np.testing.assert_array_equal(old.predict(frames[1]).forces, committee.predict(frames[1]).forces)
