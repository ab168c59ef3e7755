"""The weighted baseline: exact derivatives, the right limits, and the same numbers as i-PI."""

from collections.abc import Callable

import alflow
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.errors import LabelError, PotentialError
from alflow.reference.kinds import build
from alflow.sampling.walker import Bounds, Walker, run_segment
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from differences import STARTS, assert_close, derivative, moved, strained
from ipi_committee import ffcommittee
from lj_frames import SMALL, bonded, labelled, water

WEIGHTINGS = ["total", "atom"]


@pytest.fixture(scope="module", params=STARTS)
def case(request: pytest.FixtureRequest) -> tuple[Committee, Atoms]:
    start: Callable[[], Atoms] = STARTS[request.param]
    baseline = MorsePotential(epsilon=0.1, r0=2.5, rho0=4.0, rcut1=4.0, rcut2=5.0)
    frames = bonded(start(), 16) if request.param == "molecule" else labelled(start(), 16)
    test = labelled(start(), 1, seed=99, scale=0.15)[0].copy()
    test.calc = None
    return alflow.fit(frames, baseline=baseline, **SMALL), test


def halfway(committee: Committee, atoms: Atoms, weighting: str) -> float:
    """An s_b with which the weights are well between 0 and 1."""
    prediction = committee.predict(atoms)
    alpha = committee.judgement.energy.factor
    return alpha * (prediction.energy_spread if weighting == "total" else float(np.median(prediction.atom_spread)))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_forces_are_minus_the_gradient(case, weighting: str) -> None:
    committee, atoms = case
    s_b = halfway(committee, atoms, weighting)
    driving = committee.drive(atoms, weighting, s_b)
    assert 0.1 < driving.weight.mean() < 0.9
    expected = [
        [
            -derivative(lambda h, i=i, x=x: committee.drive(moved(atoms, i, x, h), weighting, s_b).energy, 1e-3)
            for x in range(3)
        ]
        for i in range(len(atoms))
    ]
    assert_close(driving.forces, expected)


def test_a_member_drives_with_its_calibrated_energy_and_the_baseline(case) -> None:
    committee, atoms = case
    driving = committee.drive(atoms, member=2)
    assert driving.energy == pytest.approx(committee.predict(atoms).energies[2], rel=1e-12)
    expected = [
        [
            -derivative(lambda h, i=i, x=x: committee.drive(moved(atoms, i, x, h), member=2).energy, 1e-3)
            for x in range(3)
        ]
        for i in range(len(atoms))
    ]
    assert_close(driving.forces, expected)
    calculated = atoms.copy()
    calculated.calc = committee.calculator(member=2)
    assert calculated.get_potential_energy() == driving.energy
    with pytest.raises(PotentialError, match="member: expected one of 0 to 7, found 8"):
        committee.calculator(member=8)
    with pytest.raises(PotentialError, match="weighting = 'total': a single member has no spread to be weighted by"):
        committee.drive(atoms, "total", member=2)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_stress_is_the_strain_derivative(case, weighting: str) -> None:
    committee, atoms = case
    s_b = halfway(committee, atoms, weighting)
    stress = committee.drive(atoms, weighting, s_b).stress
    if not atoms.pbc.all():
        assert stress is None
        return
    expected = [
        [
            derivative(lambda h, a=a, b=b: committee.drive(strained(atoms, a, b, h), weighting, s_b).energy, 3e-4)
            for b in range(3)
        ]
        for a in range(3)
    ]
    assert_close(voigt_6_to_full_3x3_stress(stress), np.array(expected) / atoms.get_volume())


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_limits(case, weighting: str) -> None:
    """Trusted without end it is the mean; not at all, the baseline and the zero of energy."""
    committee, atoms = case
    mean, trusted = committee.drive(atoms, "none"), committee.drive(atoms, weighting, 1e9)
    assert_close(trusted.forces, mean.forces)
    assert trusted.energy == pytest.approx(mean.energy, abs=1e-9)
    assert mean.mean_energy == mean.energy
    assert mean.weight == 1.0
    alone = committee.drive(atoms, weighting, 1e-9)
    bare = atoms.copy()
    zeros = committee.energy_zero if weighting == "total" else committee.atom_zero
    zero = zeros[np.searchsorted(np.unique(atoms.numbers), atoms.numbers)].sum()
    assert alone.energy == pytest.approx(committee.baseline.get_potential_energy(bare) + zero, abs=1e-9)
    assert np.abs(alone.forces - committee.baseline.get_forces(bare)).max() < 1e-6
    assert alone.mean_energy == pytest.approx(mean.energy, abs=1e-12)


def test_one_weight_for_each_atom_or_for_all(case) -> None:
    committee, atoms = case
    assert committee.drive(atoms).weight.shape == ()
    assert committee.drive(atoms, "atom").weight.shape == (len(atoms),)
    default = committee.drive(atoms).energy
    s_b = committee.baseline_error * np.sqrt(len(atoms))
    assert default == committee.drive(atoms, "total", s_b).energy
    driven = atoms.copy()
    driven.calc = committee.calculator("atom")
    np.testing.assert_array_equal(driven.get_forces(), committee.drive(atoms, "atom").forces)
    assert driven.calc.results["weight"].shape == (len(atoms),)
    members = driven.calc.results["committee_energies"]
    assert members.mean() == pytest.approx(committee.predict(atoms).energy)


def test_an_atom_falls_back_by_itself() -> None:
    """Beside a strange molecule out of reach, atom by atom nothing changes for a usual one; in total its forces do."""
    baseline = MorsePotential(epsilon=0.1, r0=2.5, rho0=4.0, rcut1=4.0, rcut2=5.0)
    committee = alflow.fit(bonded(water(), 16), baseline=baseline, **SMALL)
    (usual,), (strange,) = bonded(water(), 1, seed=50), bonded(water(), 1, seed=51, scale=0.4)
    strange.translate([30.0, 0, 0])
    both = Atoms(usual) + Atoms(strange)
    s_b = 0.2 * committee.baseline_atom_error
    alone, beside = (committee.drive(Atoms(atoms), "atom", s_b) for atoms in (usual, both))
    np.testing.assert_allclose(beside.weight[: len(usual)], alone.weight, rtol=1e-9)
    np.testing.assert_allclose(beside.forces[: len(usual)], alone.forces, atol=1e-8)
    assert beside.weight[len(usual) :].min() < 0.5 * alone.weight.min()
    alone, beside = (committee.drive(Atoms(atoms), "total", s_b) for atoms in (usual, both))
    assert beside.weight < 0.7 * alone.weight
    assert np.abs(beside.forces[: len(usual)] - alone.forces).max() > 1e-3


def test_the_error_of_the_baseline_is_its_scatter_around_the_zero() -> None:
    """With one composition: the standard deviation of reference minus baseline, over the square root of the atoms."""
    frames = labelled(water(), 30)
    baseline = MorsePotential(epsilon=0.1, r0=2.5, rho0=4.0, rcut1=4.0, rcut2=5.0)
    committee = alflow.fit(frames, baseline=baseline, **SMALL)
    differences = [f.get_potential_energy() - baseline.get_potential_energy(f.copy()) for f in frames]
    assert committee.baseline_error == pytest.approx(np.std(differences, ddof=1) / np.sqrt(6), rel=1e-6)
    n_h, n_o = 4, 2
    assert n_h * committee.energy_zero[0] + n_o * committee.energy_zero[1] == pytest.approx(np.mean(differences))
    learned = np.concatenate([committee.forward(frame).atom_energies.mean(axis=1) for frame in frames])
    species = np.concatenate([frame.numbers == 8 for frame in frames]).astype(int)
    means = np.array([learned[species == s].mean() for s in (0, 1)])
    np.testing.assert_allclose(committee.atom_zero, means, rtol=1e-6)
    assert committee.baseline_atom_error == pytest.approx(np.sqrt(np.mean((learned - means[species]) ** 2)), rel=1e-6)


def test_the_zero_of_energy_stays_with_the_model(case, tmp_path) -> None:
    committee, atoms = case
    committee.save(tmp_path / "model.h5")
    loaded = alflow.load(tmp_path / "model.h5", baseline=committee.baseline)
    a, b = committee.drive(atoms), loaded.drive(atoms)
    assert (a.energy, float(a.weight)) == (b.energy, float(b.weight))
    np.testing.assert_array_equal(a.forces, b.forces)


def test_a_baseline_that_is_the_reference_leaves_nothing_to_weight() -> None:
    frames = labelled(water(), 12)
    committee = alflow.fit(frames, baseline=LennardJones(sigma=0.8, epsilon=0.3, rc=6.0, smooth=True), **SMALL)
    atoms = frames[0].copy()
    driving = committee.drive(atoms)
    assert driving.energy == pytest.approx(frames[0].get_potential_energy(), abs=1e-9)
    assert np.isfinite(driving.forces).all()


def test_another_committee_is_a_baseline() -> None:
    frames = bonded(water(), 30)
    rough = alflow.fit(frames[:12], **SMALL)
    fine = alflow.fit(frames, baseline=rough.calculator(), **SMALL)
    (atoms,) = bonded(water(), 1, seed=4)
    errors = [c.predict(atoms.copy()).energy - atoms.get_potential_energy() for c in (rough, fine)]
    assert np.abs(errors).max() < 0.03


def test_known_results_of_the_baseline_are_used() -> None:
    frames = labelled(water(), 12)
    baseline = MorsePotential(epsilon=0.1, r0=2.5, rho0=4.0, rcut1=4.0, rcut2=5.0)
    results = [(baseline.get_potential_energy(f.copy()), baseline.get_forces(f.copy())) for f in frames]
    asked = alflow.fit(frames, baseline=baseline, **SMALL)
    told = alflow.fit(frames, baseline=baseline, baseline_results=[*results[:5], None, *results[6:]], **SMALL)
    np.testing.assert_array_equal(asked.model.coefficients, told.model.coefficients)


def test_bad_input() -> None:
    plain = alflow.fit(labelled(water(), 12), **SMALL)
    with pytest.raises(PotentialError, match="trained without a baseline, expected 'none'"):
        plain.drive(water(), "total")
    based = alflow.fit(labelled(water(), 2), baseline=LennardJones(sigma=2.0), **SMALL)
    with pytest.raises(PotentialError, match="weighting: expected total, atom or none, found 'some'"):
        based.drive(water(), "some")
    with pytest.raises(PotentialError, match=r"expected a number > 0 \(eV\), found -1"):
        based.drive(water(), "total", -1.0)
    single = alflow.fit(labelled(water(), 1), baseline=LennardJones(sigma=2.0), **SMALL)
    with pytest.raises(PotentialError, match="found nan; it follows from the data where there are more structures"):
        single.drive(water())


def test_a_fitted_committee_as_i_pi_combines_its_members(case) -> None:
    """The members one by one, with their baseline, given to i-PI; its answer is that of ``drive``."""
    pytest.importorskip("ipi", reason="i-PI is not there: pip install ipi")
    committee, atoms = case
    zero = committee.energy_zero[np.searchsorted(np.unique(atoms.numbers), atoms.numbers)].sum()
    energies = committee.forward(atoms).energies - zero
    gradients = [committee.backward(one) for one in np.eye(committee.n_members)]
    forces, virials = (np.array([getattr(g, name) for g in gradients]) for name in ("forces", "virial"))
    bare = atoms.copy()
    bare.calc = committee.baseline
    below = np.zeros((3, 3))
    if atoms.pbc.all():
        below = -voigt_6_to_full_3x3_stress(bare.get_stress()) * atoms.get_volume()
    alpha, s_b = committee.judgement.energy.factor, halfway(committee, atoms, "total")
    baseline = (bare.get_potential_energy() + zero, bare.get_forces(), below)
    energy, force, virial, mixing = ffcommittee(energies, forces, virials, alpha, s_b, baseline)
    driving = committee.drive(atoms, "total", s_b)
    assert driving.energy == pytest.approx(energy, rel=1e-9)
    assert float(driving.weight) == pytest.approx(mixing, rel=1e-9)
    np.testing.assert_allclose(driving.forces, force, rtol=1e-9, atol=1e-9 * max(np.abs(force).max(), 1e-3))
    if atoms.pbc.all():
        stress = full_3x3_to_voigt_6_stress(-virial / atoms.get_volume())
        np.testing.assert_allclose(driving.stress, stress, rtol=1e-9, atol=1e-9 * np.abs(stress).max())


def test_a_molecule_that_was_never_met_survives_on_weighted_sums_only() -> None:
    """Of hydrogen, water and methane labels say nothing of methanol: GFN1-xTB knows it, the correction does not."""
    reference, baseline = (build("tblite", method=method) for method in ("GFN2-xTB", "GFN1-xTB"))
    rng, frames = np.random.default_rng(0), []
    for name in 5 * ["H2", "H2O", "CH4"]:
        atoms = molecule(name)
        atoms.positions += 0.04 * rng.normal(size=atoms.positions.shape)
        frames.append(reference.calculate(atoms).frame)
    committee = alflow.fit(frames, baseline=baseline.calculator(), **SMALL)
    start = molecule("CH3OH")
    lowest, kT = reference.calculate(start).frame.get_potential_energy(), units.kB * 600
    anywhere = Bounds(force_sigma=np.inf, force=np.inf, temperature=np.inf, distance_ratio=0.0)
    highest = {}
    for weighting in ("none", "total", "atom"):
        walker = Walker(
            start=start, temperature=600.0, timestep=0.5, friction=0.01, steps=80, stride=10, segment=80,
            bounds=anywhere, seed=0, key=(0,), weighting=weighting, force_sigma=False,
        )  # fmt: skip
        energies = []
        for frame in run_segment(walker, 0, None, committee).frames:
            try:
                energies.append(reference.calculate(frame).frame.get_potential_energy() - lowest)
            except LabelError:  # it went where there is no energy at all
                energies.append(np.inf)
        highest[weighting] = max(energies) / (len(start) * kT)
    assert highest["none"] > 8
    assert highest["total"] < 4
    assert highest["atom"] < 4
