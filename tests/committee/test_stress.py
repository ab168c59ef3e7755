"""Stresses are learned, judged, told apart from what is none, and kept."""

from collections.abc import Callable

import alflow
import ase.io
import h5py
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.committee.judgement import Judgement
from alflow.committee.training import TrainingSet, make_training_set
from alflow.errors import PotentialError
from alflow.report.exports import predicted
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from scipy.spatial.transform import Rotation

from lj_frames import SMALL, bonded, labelled, water, with_stress

FINER = SMALL | {"n_max": 6, "n_pair": 8, "n_features": 100, "cutoff": 5.0}


def aluminium(side: float = 4.0) -> Atoms:
    return bulk("Al", "fcc", a=side, cubic=True).repeat(2)


def rattled(n: int, size: float = 0.08) -> list[Atoms]:
    """Of one volume only."""
    frames = [aluminium() for _ in range(n)]
    for k, frame in enumerate(frames):
        frame.rattle(size, seed=k)
    return [with_stress(frame, EMT()) for frame in frames]


def strained(n: int, change: Callable[[Atoms, np.ndarray], np.ndarray] = lambda _, stress: stress) -> list[Atoms]:
    """Of many volumes and shapes, whose stress may be changed."""
    frames = [with_stress(frame, EMT()) for frame in labelled(bulk("Al", cubic=True), n, calculator=EMT())]
    for frame in frames:
        results = dict(frame.calc.results)
        results["stress"] = change(frame, results["stress"])
        frame.calc = SinglePointCalculator(frame, **results)
    return frames


@pytest.fixture(scope="module")
def of_one_volume() -> Committee:
    return alflow.fit(rattled(24), **FINER)


def lattice_constant(calculator: Calculator) -> float:
    sides = np.linspace(3.9, 4.1, 9)
    energies = []
    for side in sides:
        atoms = aluminium(side)
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    slope = np.polyder(np.polyfit(sides - 4.0, energies, 4))
    roots = np.roots(slope)
    return 4.0 + float(roots[np.argmin(np.abs(roots))].real)


def test_structures_of_one_volume_tell_the_pressure(of_one_volume: Committee) -> None:
    """By symmetry no force sees it: without their stress the pressure is wrong by a GPa, and sigma tells of neither."""
    blind = alflow.fit(rattled(24), **FINER | {"stress_weight": 0.0})
    true = with_stress(aluminium(), EMT()).calc.results["stress"][:3].mean() / units.GPa
    found, sigma = {}, {}
    for name, committee in (("stress", of_one_volume), ("none", blind)):
        prediction = committee.predict(aluminium())
        found[name] = prediction.stress[:3].mean() / units.GPa
        sigma[name] = prediction.stress_sigma[:3].max() / units.GPa
    assert abs(found["stress"] - true) < 0.1
    assert abs(found["none"] - true) > 3 * abs(found["stress"] - true)
    assert abs(found["stress"] - true) < 3 * sigma["stress"]
    right, ours, theirs = (lattice_constant(c) for c in (EMT(), of_one_volume.calculator(), blind.calculator()))
    assert abs(ours - right) < 0.01
    assert abs(ours - right) < abs(theirs - right) / 2
    assert not len(blind.virial_zero)
    assert "GPa" not in blind.judgement.accuracy


def test_out_of_bag_errors_are_those_of_new_structures(of_one_volume: Committee) -> None:
    judgement = of_one_volume.judgement
    frames = [with_stress(frame, EMT()) for frame in rattled(60)[30:]]
    errors, sigmas = [], []
    for frame in frames:
        p = of_one_volume.predict(frame)
        errors.append(p.stress - frame.calc.results["stress"])
        sigmas.append(p.stress_sigma)
    rms = np.sqrt(np.mean(np.square(errors)))
    assert judgement.stress_rmse == pytest.approx(rms, rel=0.3)
    assert f"{judgement.stress_rmse / units.GPa:.3g} GPa" in judgement.accuracy
    assert judgement.stress.reliability.n == 6 * 24
    z = np.abs(np.array(errors) / np.array(sigmas))
    assert 0.5 < np.mean(z < 1) < 0.85
    assert 0.6 < np.sqrt(np.mean(z**2)) < 1.5


def test_a_constant_virial_of_atoms_is_no_part_of_the_potential() -> None:
    """As a Pulay stress: energies at many volumes speak against it, the potential is that of the energies."""
    virial = 0.4  # eV, here 4 GPa

    def pulay(atoms: Atoms, stress: np.ndarray) -> np.ndarray:
        return stress + virial * len(atoms) / atoms.get_volume() * np.array([1, 1, 1, 0, 0, 0])

    clean, shifted = (alflow.fit(strained(30, change), **FINER) for change in (lambda _, stress: stress, pulay))
    assert not any("GPa" in remark for remark in clean.remarks)
    assert any("GPa away from the derivatives of their energies (Pulay stress?)" in r for r in shifted.remarks)
    assert shifted.virial_zero[0] - clean.virial_zero[0] == pytest.approx(virial, rel=0.05)
    assert shifted.judgement.energy_rmse < 1.5 * clean.judgement.energy_rmse
    assert shifted.judgement.stress_rmse < 1.5 * clean.judgement.stress_rmse
    for frame in strained(40)[30:]:
        ours, theirs = shifted.predict(frame).stress, clean.predict(frame).stress
        np.testing.assert_allclose(ours[:3], theirs[:3], atol=0.15 * units.GPa)
        expected = pulay(frame, np.zeros(6))
        np.testing.assert_allclose(shifted.stress_offset(frame), expected, atol=0.3 * units.GPa)


WRONG = {
    "sign": lambda stress: -stress,
    "GPa": lambda stress: stress / units.GPa,
    "kbar, pressure": lambda stress: -10 * stress / units.GPa,
    "order": lambda stress: stress[[0, 1, 2, 5, 3, 4]],
}


@pytest.mark.parametrize("what", WRONG)
def test_stresses_of_another_sign_unit_or_order_are_left_out(what: str) -> None:
    """Also where structures came before, when they were right: nothing is learned of any then."""
    settings = {"n_members": 8, "n_features": 200}
    wrong = strained(30, lambda _, stress: WRONG[what](stress))
    committee = alflow.fit(wrong, **settings)
    (said,) = (remark for remark in committee.remarks if "stresses of the labels" in remark)
    assert "they are left out; check their sign, unit (eV/Å^3) and order (xx, yy, zz, yz, xz, xy)" in said
    without = alflow.fit(wrong, **settings, stress_weight=0.0)
    np.testing.assert_allclose(committee.model.coefficients, without.model.coefficients, rtol=1e-12)
    assert np.isnan(committee.judgement.stress_rmse)
    grown = alflow.fit(wrong[:12], **settings)
    grown.update(wrong[12:])
    np.testing.assert_array_equal(grown.model.coefficients, committee.model.coefficients)


def test_right_stresses_are_not(of_one_volume: Committee) -> None:
    for committee in (of_one_volume, alflow.fit(strained(30), n_members=8, n_features=200)):
        assert not any("stresses of the labels" in remark for remark in committee.remarks)
        assert committee.judgement.stress_rmse < 0.2 * units.GPa


def test_alloys_of_one_volume_have_no_pulay_stress() -> None:
    """The pressure follows the composition, as a virial of the atoms of each species could: it is the potential's."""
    rng, frames = np.random.default_rng(0), []
    for _ in range(60):
        atoms = bulk("Cu", cubic=True, a=3.9).repeat((2, 2, 1))
        atoms.symbols = rng.choice(["Al", "Ni", "Cu", "Ag"], len(atoms))
        atoms.positions += 0.05 * rng.normal(size=atoms.positions.shape)
        frames.append(with_stress(atoms, EMT()))
    committee = alflow.fit(frames[:40], **FINER)
    assert not any("GPa" in remark for remark in committee.remarks)
    errors = [committee.predict(frame).stress - frame.calc.results["stress"] for frame in frames[40:]]
    assert np.abs(np.mean(errors, axis=0)[:3]).max() < 0.3 * units.GPa
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(committee.judgement.stress_rmse, rel=0.5)


def test_a_fit_does_not_depend_on_how_crystals_are_turned() -> None:
    turn = Rotation.random(rng=np.random.default_rng(3)).as_matrix()
    frames, turned = strained(12), []
    for frame in frames:
        other = Atoms(frame.numbers, frame.positions @ turn.T, cell=frame.cell.array @ turn.T, pbc=True)
        stress = turn @ voigt_6_to_full_3x3_stress(frame.calc.results["stress"]) @ turn.T
        other.calc = SinglePointCalculator(
            other,
            energy=frame.get_potential_energy(),
            forces=frame.get_forces() @ turn.T,
            stress=full_3x3_to_voigt_6_stress(stress),
        )
        turned.append(other)
    one, other = (alflow.fit(these, **SMALL) for these in (frames, turned))
    np.testing.assert_allclose(other.strength, one.strength, rtol=1e-3)
    for frame in strained(14)[12:]:
        # Which force components decide on alpha and on the mean is drawn: what is left are the members' differences.
        ours, theirs = (committee.forward(frame).energies for committee in (one, other))
        np.testing.assert_allclose(theirs - theirs.mean(), ours - ours.mean(), atol=1e-4 * ours.std())


def test_updates_give_what_fitting_all_at_once_would() -> None:
    frames = [
        frame if k % 3 else labelled(frame, 1, scale=0.0, calculator=EMT())[0] for k, frame in enumerate(strained(18))
    ]
    whole, grown = alflow.fit(frames, **SMALL), alflow.fit(frames[:5], **SMALL)
    grown.update(frames[5:])
    np.testing.assert_array_equal(grown.model.coefficients, whole.model.coefficients)
    np.testing.assert_array_equal(grown.virial_zero, whole.virial_zero)
    for name in ("alpha", "floor"):
        assert getattr(grown.judgement.stress, name) == getattr(whole.judgement.stress, name)


def test_what_a_stress_may_be() -> None:
    atoms = strained(1)[0]
    stress = atoms.calc.results["stress"]

    def learned(given: object, structure: Atoms = atoms) -> np.ndarray | None:
        frame = structure.copy()
        frame.calc = SinglePointCalculator(frame, energy=-1.0)
        frame.calc.results["stress"] = given
        return make_training_set([frame], None).stresses[0]

    np.testing.assert_array_equal(learned(stress), stress)
    np.testing.assert_allclose(learned(voigt_6_to_full_3x3_stress(stress)), stress)
    assert learned(np.full(6, np.nan)) is None  # how programs say that there is none
    assert learned(stress, water()) is None
    slab = atoms.copy()
    slab.pbc = [True, True, False]
    assert learned(stress, slab) is None
    with pytest.raises(
        PotentialError, match=r"structure 0 \(Al4\): expected a stress of shape \(6,\) or \(3, 3\), found"
    ):
        learned(stress[:5])
    with pytest.raises(PotentialError, match=r"structure 0 \(Al4\): its stress is not finite: correct or remove"):
        learned(np.where(np.arange(6) == 2, np.inf, stress))


def test_it_is_kept(of_one_volume: Committee, tmp_path) -> None:
    frames = [*rattled(3), *labelled(aluminium(), 2, calculator=EMT())]
    training = make_training_set(frames, LennardJones(sigma=2.5, epsilon=0.1, rc=5.0), keep=True)
    with h5py.File(tmp_path / "training.h5", "w") as file:
        training.write(file)
        back = TrainingSet.read(file)
    for one, other in ((training, back), (training.whole(), back.whole())):
        for ours, theirs in zip(one.stresses, other.stresses, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert [stress is None for stress in back.stresses] == [False] * 3 + [True] * 2
    np.testing.assert_allclose(back.whole().stresses[1], frames[1].calc.results["stress"])
    of_one_volume.save(tmp_path / "model.h5")
    loaded = alflow.load(tmp_path / "model.h5")
    ours, theirs = of_one_volume.predict(aluminium()), loaded.predict(aluminium())
    np.testing.assert_array_equal(theirs.stress_sigma, ours.stress_sigma)
    np.testing.assert_array_equal(loaded.virial_zero, of_one_volume.virial_zero)
    assert loaded.judgement.accuracy == of_one_volume.judgement.accuracy


def test_a_file_from_before_stresses_were_learned(of_one_volume: Committee, tmp_path) -> None:
    with h5py.File(tmp_path / "old.h5", "w") as file:
        of_one_volume.judgement.write(file.create_group("judgement"))
        del file["judgement"]["stress"], file["judgement"].attrs["stress_rmse"]
        old = Judgement.read(file["judgement"])
        of_one_volume.training.write(file.create_group("training"))
        del file["training"]["stresses"]
        assert TrainingSet.read(file["training"]).stresses == (None,) * 24
    assert np.isnan(old.stress_rmse)
    assert "GPa" not in old.accuracy
    # By the factor of forces then.
    np.testing.assert_allclose(old.stress_sigma(np.ones(6), 0.1), old.force.factor)


def test_the_stress_of_a_baseline_is_taken_off() -> None:
    class Blind(LennardJones):
        """Without a stress."""

        implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as ASE declares it

        def calculate(self, *arguments, **keywords) -> None:
            super().calculate(*arguments, **keywords)
            self.results.pop("stress", None)

    frames = rattled(12)
    options = {"sigma": 2.5, "epsilon": 0.1, "rc": 5.0}
    below = LennardJones(**options)
    training = make_training_set(frames, below)
    for frame, stress in zip(frames, training.stresses, strict=True):
        np.testing.assert_allclose(stress, frame.calc.results["stress"] - below.get_stress(frame.copy()))
    assert make_training_set(frames, Blind(**options)).stresses == (None,) * 12
    found = [(below.get_potential_energy(frame), below.get_forces(frame), below.get_stress(frame)) for frame in frames]
    for results, has in ((found, True), ([one[:2] for one in found], False)):
        told = make_training_set(frames, below, results)
        assert all((stress is not None) == has for stress in told.stresses)
    true = with_stress(aluminium(), EMT()).calc.results["stress"][:3].mean()
    off = []
    for weight in (0.1, 0.0):
        committee = alflow.fit(frames, baseline=below, **FINER | {"stress_weight": weight})
        off.append(abs(committee.predict(aluminium()).stress[:3].mean() - true))
    assert off[0] < off[1] / 3


def test_predicted_structures_have_it_in_files(of_one_volume: Committee, tmp_path) -> None:
    out = predicted(of_one_volume, aluminium(), "here")
    ase.io.write(tmp_path / "out.xyz", out, format="extxyz")
    back = ase.io.read(tmp_path / "out.xyz")
    np.testing.assert_allclose(back.info["stress_sigma"], of_one_volume.predict(aluminium()).stress_sigma, rtol=1e-6)
    molecule = predicted(alflow.fit(bonded(water(), 12), **SMALL), water(), "here")
    assert "stress_sigma" not in molecule.info


def test_a_structure_with_fixed_atoms_keeps_its_stress() -> None:
    frame = strained(1)[0]
    stress = frame.calc.results["stress"]
    frame.set_constraint(FixAtoms([0]))
    np.testing.assert_array_equal(make_training_set([frame], None).stresses[0], stress)
