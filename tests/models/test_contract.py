"""The contract of every potential, and the built-in one against independent calculations."""

from collections.abc import Callable

import alflow
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.errors import PotentialError
from alflow.testing import SINGLE, check_potential
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list
from ase.stress import voigt_6_to_full_3x3_stress

from differences import STARTS, assert_close, derivative, moved, strained
from lj_frames import SMALL, bonded, labelled, water
from members import KINDS, calculators, trained


def morse() -> MorsePotential:
    return MorsePotential(epsilon=0.1, r0=2.5, rho0=4.0, rcut1=4.0, rcut2=5.0)


def check_kind(kind: str, name: str, based: bool) -> None:
    frames = labelled(STARTS[name](), 24)
    committee = KINDS[kind](frames, morse() if based else None)
    check_potential(committee, [labelled(STARTS[name](), 1, seed=99)[0].copy()])


QUICK = {("ace", "triclinic", False), ("ace", "triclinic", True), ("trained", "triclinic", False),
         ("calculators", "triclinic", True)}  # fmt: skip
MORE = {
    *(("ace", name, based) for name in STARTS for based in (False, True)),
    ("trained", "triclinic", True), ("trained", "slab", False), ("trained", "molecule", True),
    ("calculators", "cell smaller than the cutoff", False), ("calculators", "slab", True),
    ("calculators", "molecule", False),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "based"), sorted(QUICK))
def test_the_published_contract(kind: str, name: str, based: bool) -> None:
    """Of every kind, weighted baselines included: forces within 1e-6 of differences."""
    check_kind(kind, name, based)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "based"), sorted(MORE - QUICK))
def test_the_published_contract_for_other_structures(kind: str, name: str, based: bool) -> None:
    check_kind(kind, name, based)


def check_absolutely(committee: Committee, atoms: Atoms, step: float, limit: float) -> None:
    """Forces of the mean within a limit of differences of its energy, eV/Å."""
    atoms = atoms.copy()
    forces = committee.predict(atoms).forces
    for i, x in ((0, 0), (1, 2), (len(atoms) - 1, 1)):
        slope = derivative(lambda h, i=i, x=x: committee.forward(moved(atoms, i, x, h)).energies.mean(), step)
        assert abs(forces[i, x] + slope) < limit


def test_forces_of_the_built_in_potential_within_a_millionth() -> None:
    check_absolutely(alflow.fit(bonded(water(), 24), **SMALL), bonded(water(), 1, seed=99)[0], 2e-3, 1e-6)


@pytest.mark.parametrize("kind", ["trained", "calculators"])
def test_the_contract_in_single_precision(kind: str) -> None:
    """Within 1e-3 eV/Å, at steps of 0.01 Å; and the noise of energies of hundreds of eV is found."""
    frames = labelled(STARTS["triclinic"](), 24)
    for frame in frames:
        frame.calc.results["energy"] -= 50 * len(frame)
    single = {"parameters": {"model": "{model}", "single": True}} if kind == "trained" else {"what": "single"}
    committee = {"trained": trained, "calculators": calculators}[kind](frames, None, **single)
    check_potential(committee, [labelled(STARTS["triclinic"](), 1, seed=99)[0].copy()], precision=SINGLE)
    check_absolutely(committee, labelled(STARTS["triclinic"](), 1, seed=99)[0], 1e-2, 1e-3)
    # Of sixteen atoms, the largest structure that is tried: a number of 800 eV with the digits of single precision.
    digits = np.spacing(np.float32(800)) / np.sqrt(12) / np.sqrt(16) if kind == "trained" else 0.0
    assert committee.judgement.noise == pytest.approx(digits, rel=0.5, abs=1e-6)
    assert committee.judgement.energy.floor >= committee.judgement.noise
    if kind == "trained":
        assert any(remark.startswith("noise of the members") for remark in committee.remarks)


@pytest.fixture(scope="module", params=[(name, based) for name in STARTS for based in (False, True)], ids=str)
def case(request: pytest.FixtureRequest) -> tuple[Committee, Atoms, Calculator | None]:
    name, based = request.param
    frames = labelled(STARTS[name](), 16)
    baseline = morse() if based else None
    test = labelled(STARTS[name](), 1, seed=99)[0].copy()
    test.calc = None
    return alflow.fit(frames, baseline=baseline, **SMALL), test, baseline


def test_forces_are_minus_the_gradient(case) -> None:
    committee, atoms, _ = case
    expected = [
        [-derivative(lambda h, i=i, x=x: committee.predict(moved(atoms, i, x, h)).energy, 2e-3) for x in range(3)]
        for i in range(len(atoms))
    ]
    assert_close(committee.predict(atoms).forces, expected)


def test_stress_is_the_strain_derivative(case) -> None:
    committee, atoms, _ = case
    stress = committee.predict(atoms).stress
    if not atoms.pbc.all():
        assert stress is None
        return
    expected = np.array(
        [
            [derivative(lambda h, a=a, b=b: committee.predict(strained(atoms, a, b, h)).energy, 5e-4) for b in range(3)]
            for a in range(3)
        ]
    )
    assert_close(voigt_6_to_full_3x3_stress(stress), expected / atoms.get_volume())


@pytest.mark.parametrize("per_atom", [False, True])
def test_backward_is_the_gradient_of_any_weighted_sum(case, per_atom: bool) -> None:
    committee, atoms, _ = case
    rng = np.random.default_rng(5)
    weights = rng.normal(size=(len(atoms), committee.n_members) if per_atom else committee.n_members)

    def total(structure: Atoms) -> float:
        forward = committee.forward(structure)
        return float(np.sum(weights * (forward.atom_energies if per_atom else forward.energies)))

    committee.forward(atoms)
    gradient = committee.backward(weights)
    i, x = 0, 2
    assert_close(gradient.forces[i, x], -derivative(lambda h: total(moved(atoms, i, x, h)), 2e-3))
    if not atoms.pbc.any():
        assert_close(gradient.virial, atoms.positions.T @ gradient.forces)
        return
    expected = derivative(lambda h: total(strained(atoms, 0, 1, h)), 5e-4)
    assert_close(gradient.virial[0, 1], -expected)
    if gradient.stress is not None:
        assert_close(gradient.stress[5], expected / atoms.get_volume())


def test_invariances(case) -> None:
    committee, atoms, baseline = case
    reference = committee.predict(atoms)
    rng = np.random.default_rng(3)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T)
    turned.positions = atoms.positions @ rotation.T + [0.3, -1.0, 2.0]
    found = committee.predict(turned)
    assert_close(found.energy, reference.energy)
    assert_close(found.energies, reference.energies)
    assert_close(found.forces, reference.forces @ rotation.T)
    order = rng.permutation(len(atoms))
    found = committee.predict(atoms[order])
    assert_close(found.forces, reference.forces[order])
    assert_close(found.atom_sigma, reference.atom_sigma[order])
    if atoms.pbc.all() and baseline is None:
        found = committee.predict(atoms.repeat((2, 1, 3)))
        assert_close(found.energies, 6 * reference.energies)
        assert_close(found.forces[: len(atoms)], reference.forces)
        assert_close(found.stress, reference.stress)


def test_input_is_unchanged_and_batch_equals_single(case) -> None:
    committee, atoms, _ = case
    other = moved(atoms, 0, 0, 0.1)
    before = {key: value.copy() for key, value in atoms.arrays.items()}
    first = committee.predict(atoms)
    committee.predict(other)
    again = committee.predict(atoms)
    assert all(np.array_equal(before[key], atoms.arrays[key]) for key in before)
    assert atoms.calc is None
    assert atoms.info == {}
    for name in ("energies", "forces", "forces_sigma", "atom_sigma"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    calibration = committee.judgement.energy
    assert np.std(first.energies, ddof=1) == pytest.approx(calibration.factor * first.energy_spread, rel=1e-9)
    assert first.energy_sigma == pytest.approx(calibration.sigma(first.energy_spread, np.sqrt(len(atoms))), rel=1e-9)


def test_calculator_and_file(case, tmp_path) -> None:
    committee, atoms, baseline = case
    path = tmp_path / "model.h5"
    committee.save(path)
    loaded = alflow.load(path, baseline=baseline)
    reference = committee.predict(atoms)
    np.testing.assert_array_equal(loaded.predict(atoms).forces_sigma, reference.forces_sigma)
    driven = atoms.copy()
    driven.calc = loaded.calculator("none")
    np.testing.assert_array_equal(driven.get_forces(), reference.forces)
    assert driven.get_potential_energy() == reference.energy
    assert driven.calc.results["energy_sigma"] == pytest.approx(reference.energy_sigma, rel=1e-12)
    if baseline is not None:
        with pytest.raises(PotentialError, match="trained on differences from a baseline"):
            alflow.load(path).predict(atoms)


@pytest.mark.parametrize("name", STARTS)
def test_pairs_are_those_of_ase(name: str) -> None:
    atoms = labelled(STARTS[name](), 1, seed=7)[0]
    committee = alflow.fit(labelled(STARTS[name](), 3), **SMALL)
    pairs = committee.model.descriptor.pairs(atoms)
    n_species = len(committee.model.descriptor.numbers)
    first = np.repeat(np.arange(len(pairs.start) - 1) // n_species, np.diff(pairs.start))
    i, j, vector = neighbor_list("ijD", atoms, 4.0)
    ours = sorted(map(tuple, np.round(np.column_stack([first, pairs.j, pairs.vector]), 8)))
    theirs = sorted(map(tuple, np.round(np.column_stack([i, j, vector]), 8)))
    np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_update_equals_fit() -> None:
    frames = bonded(water(), 14)
    whole = alflow.fit(frames, **SMALL)
    grown = alflow.fit(frames[:9], **SMALL)
    grown.update(frames[9:12])
    grown.update(frames[12:])
    a, b = whole.predict(frames[3]), grown.predict(frames[3])
    np.testing.assert_allclose(a.energies, b.energies, atol=1e-6)
    np.testing.assert_allclose(a.forces, b.forces, atol=1e-6)
    again = alflow.fit(frames, **SMALL)
    np.testing.assert_array_equal(whole.model.coefficients, again.model.coefficients)


def test_a_new_species_appears() -> None:
    water_only, ammonia = labelled(water(), 8), labelled(molecule("NH3"), 6)
    grown = alflow.fit(water_only, **SMALL)
    grown.update(ammonia)
    whole = alflow.fit(water_only + ammonia, **SMALL)
    np.testing.assert_array_equal(grown.model.coefficients, whole.model.coefficients)


def with_energy(atoms: Atoms, energy: float = 0.0) -> Atoms:
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms


BAD: dict[str, tuple[Callable[[Committee], object], str]] = {
    "species": (lambda c: c.predict(molecule("CH4")), "C in CH4: not in the training set, which has H, O"),
    "empty": (lambda c: c.predict(Atoms()), "no atoms"),
    "nan": (
        lambda c: c.predict(Atoms("OH", positions=[[0, 0, np.nan], [0, 0, 1]])),
        "position of atom 0 is not finite",
    ),
    "same place": (lambda c: c.predict(Atoms("OH", positions=np.zeros((2, 3)))), "at the same place"),
    "weights": (lambda c: (c.forward(water()), c.backward(np.ones(3))), r"expected \(8,\) or \(6, 8\)"),
    "no frames": (lambda c: c.update([]), "no structures to fit"),
    "no energy": (lambda c: c.update([water()]), "has no energy"),
    "an empty structure": (
        lambda c: c.update([with_energy(Atoms())]),
        "structure 0 has no atoms: remove it",
    ),
    "positions that are not finite": (
        lambda c: c.update([with_energy(Atoms("OH", positions=[[0, 0, np.nan], [0, 0, 1]]))]),
        "its positions are not finite",
    ),
    "an energy that is not finite": (
        lambda c: c.update([with_energy(water(), np.inf)]),
        "its energy is not finite: correct or remove the structure",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    committee = alflow.fit(labelled(water(), 3), **SMALL)
    action, message = BAD[name]
    with pytest.raises(PotentialError, match=message):
        action(committee)


def test_bad_labels_and_settings(tmp_path) -> None:
    frames = labelled(water(), 3)
    committee = alflow.fit(frames, **SMALL)
    coefficients = committee.model.coefficients.copy()
    bad = frames[0].copy()
    bad.calc = SinglePointCalculator(bad, energy=1.0, forces=np.full((6, 3), np.nan))
    with pytest.raises(PotentialError, match="forces are not finite"):
        committee.update([frames[1], bad])
    np.testing.assert_array_equal(committee.model.coefficients, coefficients)
    bad.calc = SinglePointCalculator(bad, energy=1.0, forces=np.zeros((3, 6)))
    with pytest.raises(PotentialError, match=r"0 \(H4O2\): expected forces of shape \(6, 3\), found \(3, 6\)"):
        committee.update([bad])
    assert len(committee.training) == 3
    with pytest.raises(PotentialError, match="unknown setting cutof of the potential: did you mean cutoff"):
        alflow.fit(frames, cutof=4.0)
    with pytest.raises(PotentialError, match="cutoff: expected a number > 0, found -1"):
        alflow.fit(frames, cutoff=-1.0)
    with pytest.raises(PotentialError, match="n_members: expected at least 2"):
        alflow.fit(frames, n_members=1)
    (tmp_path / "x.h5").write_text("nothing")
    with pytest.raises(PotentialError, match=r"x\.h5 is not a model"):
        alflow.load(tmp_path / "x.h5")


def test_energies_alone_are_enough() -> None:
    frames = labelled(water(), 14)
    for frame in frames:
        frame.calc = SinglePointCalculator(frame, energy=frame.get_potential_energy())
    committee = alflow.fit(frames, **SMALL)
    assert np.isnan(committee.judgement.force.alpha)
    assert "forces: none were fitted to" in committee.judgement.note
    assert not committee.predict(frames[0]).calibrated
