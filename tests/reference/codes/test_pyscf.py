"""PySCF: against exact and published values, and finite differences; what cannot be calculated says so."""

import importlib
import pickle
import sys

import numpy as np
import pytest
from alflow.errors import ConfigError, LabelError
from alflow.executors import limit_threads
from alflow.reference.kinds import build
from ase import Atoms, units
from ase.build import bulk, molecule

pytest.importorskip("pyscf", reason="PySCF is not installed")


def distorted(name: str = "H2O") -> Atoms:
    atoms = molecule(name)
    atoms.rattle(0.05, seed=1)
    return atoms


def energy_of(atoms: Atoms, **options: object) -> float:
    """In hartree."""
    return build("pyscf", **options).calculate(atoms).frame.get_potential_energy() / units.Hartree


def test_energy_of_hydrogen_molecule() -> None:
    """Coupled clusters are exact for two electrons: -1.174476 hartree (Kolos, Wolniewicz 1968), from above."""
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 1.4 * units.Bohr]])
    for method in ("ccsd", "ccsd(t)"):
        assert -1.174476 < energy_of(atoms, method=method, basis="cc-pvqz") < -1.1735
    assert energy_of(atoms, method="hf", basis="cc-pvqz") == pytest.approx(-1.13363, abs=3e-4)  # the limit


def test_energies_of_atoms() -> None:
    """Hydrogen is exact, -1/2 hartree; helium by Hartree-Fock is -2.861680 (Roothaan, Sachs, Weiss 1960)."""
    hydrogen = Atoms("H", info={"multiplicity": 2})
    assert energy_of(hydrogen, method="hf", basis="cc-pv5z") == pytest.approx(-0.5, abs=1e-5)
    assert energy_of(Atoms("He"), method="hf", basis="cc-pv5z") == pytest.approx(-2.861680, abs=1e-4)


def test_forces_of_ccsd_t() -> None:
    """The gradient that PySCF's source gives for water in 6-31G."""
    atoms = Atoms("OHH", positions=[[0, 0, 0], [0, -0.757, -0.587], [0, 0.757, -0.587]])
    forces = build("pyscf", method="ccsd(t)", basis="6-31g", energy_tolerance=1e-11).calculate(atoms).frame.get_forces()
    expected = [[0, 0, -0.0112045345], [0, 0.0234464201, 0.0056022672], [0, -0.0234464201, 0.0056022672]]
    np.testing.assert_allclose(-forces * units.Bohr / units.Hartree, expected, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "dft", "xc": "pbe"},
        {"method": "dft", "xc": "r2scan", "density_fitting": True},
        {"method": "dft", "xc": "b3lyp", "multiplicity": 3},
        {"method": "hf", "level_shift": 0.3},
        {"method": "mp2", "basis": "6-31g"},
        {"method": "ccsd", "basis": "6-31g"},
        {"method": "ccsd(t)", "basis": "6-31g"},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_forces_are_minus_the_gradient(options: dict[str, object]) -> None:
    options = dict(options)
    atoms = distorted()
    atoms.info["multiplicity"] = options.pop("multiplicity", 1)
    method = build("pyscf", **options)
    forces = method.calculate(atoms).frame.get_forces()
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-5)
    h = 2e-3
    for i, x in ((0, 2), (1, 1)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, x] += sign * h
            energies.append(method.calculate(moved).frame.get_potential_energy())
        assert forces[i, x] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=2e-4)


def test_results_do_not_depend_on_history() -> None:
    method, first = build("pyscf"), distorted()
    with limit_threads(1):
        alone = method.calculate(first).frame
        method.calculate(distorted("NH3"))
        again = method.calculate(first).frame
    np.testing.assert_array_equal(again.get_forces(), alone.get_forces())
    assert again.get_potential_energy() == alone.get_potential_energy()
    assert pickle.loads(pickle.dumps(method)).identity() == method.identity()


def test_charge_and_multiplicity_are_used() -> None:
    """The anion has one electron more; without diffuse functions it lies above the radical."""
    anion, radical = molecule("OH"), molecule("OH")
    anion.info, radical.info = {"charge": -1, "multiplicity": 1}, {"multiplicity": 2}
    method = build("pyscf", method="hf", basis="6-31g")
    closed, opened = (method.calculate(atoms) for atoms in (anion, radical))
    assert closed.electrons.occupations.sum(axis=(1, 2)).tolist() == [10]
    assert opened.electrons.occupations.sum(axis=(1, 2)).tolist() == [5, 4]
    assert closed.frame.get_potential_energy() > opened.frame.get_potential_energy()


def test_eigenvalues_are_those_of_the_field() -> None:
    """By Koopmans: -0.91795 hartree is the orbital energy of helium at the limit of Hartree-Fock."""
    found = build("pyscf", method="mp2", basis="cc-pvqz").calculate(Atoms("He"))
    assert found.electrons.eigenvalues[0, 0, 0] == pytest.approx(-0.91795 * units.Hartree, abs=0.01)
    assert found.electrons.occupations[0, 0, :2].tolist() == [2, 0]


def test_heavy_atoms_have_their_core_potential() -> None:
    """Without it the 53 electrons of iodine would be put into a basis set for 25."""
    found = build("pyscf", method="hf").calculate(Atoms("HI", positions=[[0, 0, 0], [0, 0, 1.61]]))
    assert found.electrons.occupations[0].sum() == 26
    assert np.abs(found.frame.get_forces()).max() < 0.5  # 1.609 Å by experiment


def test_what_is_kept(tmp_path, capfd) -> None:
    found = build("pyscf", method="mp2", basis="sto-3g").calculate(molecule("H2O"), tmp_path / "new")
    assert found.code.startswith("PySCF 2.")
    assert "converged SCF energy" in found.log
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pyscf.log"]
    assert capfd.readouterr() == ("", "")
    assert "stress" not in found.frame.calc.results


@pytest.mark.parametrize("method", ["hf", "dft", "mp2"])
def test_an_unconverged_field_is_no_label(method: str) -> None:
    with pytest.raises(LabelError, match="self-consistent field did not converge in 2 iterations") as caught:
        build("pyscf", method=method, max_iterations=2).calculate(distorted())
    assert caught.value.reason == "not_converged"
    assert "cycle= 2" in caught.value.detail


def test_unconverged_amplitudes_are_no_label() -> None:
    """The field of this structure converges in nine iterations, coupled clusters in 13."""
    with pytest.raises(LabelError, match="the amplitudes of the coupled clusters did not converge") as caught:
        build("pyscf", method="ccsd", basis="6-31g", max_iterations=10).calculate(distorted())
    assert caught.value.reason == "not_converged"


@pytest.mark.parametrize(("module", "method"), [("ccsd_lambda", "ccsd"), ("ccsd_t_lambda", "ccsd(t)")])
def test_unconverged_lambda_equations_are_no_label(monkeypatch, module: str, method: str) -> None:
    solver = importlib.import_module(f"pyscf.cc.{module}")
    solve = solver.kernel
    monkeypatch.setattr(solver, "kernel", lambda *args, **options: solve(*args, **{**options, "max_cycle": 2}))
    with pytest.raises(LabelError, match="the lambda equations of the coupled clusters did not converge") as caught:
        build("pyscf", method=method, basis="6-31g").calculate(distorted())
    assert caught.value.reason == "not_converged"


def test_what_cannot_be_calculated() -> None:
    triplet = molecule("O2")
    triplet.info["multiplicity"] = 3
    for method, atoms, text in (
        ("mp2", triplet, r"^crashed: mp2 is for closed shells here, found multiplicity 3: use dft or hf$"),
        ("dft", bulk("Si"), r"^crashed: pyscf is for molecules, found pbc = \[True, True, True\]: choose another"),
        ("hf", molecule("OH"), r"^crashed: 9 electrons cannot have multiplicity 1: set charge and multiplicity"),
        ("hf", Atoms("U"), r"^crashed: basis set def2-svp has no U: choose one that has$"),
    ):
        with pytest.raises(LabelError, match=text):
            build("pyscf", method=method).calculate(atoms)


def test_settings_are_checked(monkeypatch) -> None:
    build("pyscf").check()
    build("pyscf", xc="wb97m-v", basis="cc-pvdz-pp").check()
    for options, text in (
        ({"xc": "magic"}, "reference.xc: PySCF knows no functional 'magic'"),
        ({"basis": "magic"}, "reference.basis: PySCF knows no basis set 'magic': expected a name such as def2-svp"),
        ({"method": "mp2", "density_fitting": True}, "density_fitting is of dft and hf, found method mp2"),
    ):
        with pytest.raises(ConfigError, match=text):
            build("pyscf", **options).check()
    monkeypatch.setattr("alflow.reference.codes.pyscf.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pbe-d3bj needs the dispersion of another package: pip install pyscf-disp"):
        build("pyscf", xc="pbe-d3bj").check()
    monkeypatch.setitem(sys.modules, "pyscf", None)
    for use in (build("pyscf").check, lambda: build("pyscf").calculate(molecule("H2"))):
        with pytest.raises(ConfigError, match=r"needs PySCF .*: pip install 'alflow\[pyscf\]'"):
            use()


def test_identity_is_what_decides_the_result() -> None:
    assert build("pyscf", method="hf", xc="b3lyp").identity() == build("pyscf", method="hf").identity()
    assert build("pyscf", xc="b3lyp").identity() != build("pyscf").identity()


def radical() -> Atoms:
    """OH beside water, where the unpaired electron may be in either of two orbitals."""
    positions = [[0, 0, 0], [0.97, 0, 0], [2.85, 0, 0], [3.2, 0.75, 0.5], [3.2, -0.75, 0.5]]
    moved = np.random.default_rng(0).normal(0, 0.05, (5, 3))
    return Atoms("OHOH2", positions=np.array(positions) + moved, info={"multiplicity": 2})


def test_an_open_shell_is_made_stable_where_that_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    """The other state lies 2.7 meV above it; its forces are others."""
    options = {"method": "hf", "basis": "sto-3g"}
    plain, stable = (build("pyscf", **options, stable=stable).calculate(radical()) for stable in (False, True))
    assert 1e-3 < plain.frame.get_potential_energy() - stable.frame.get_potential_energy() < 5e-3
    assert np.abs(plain.frame.get_forces() - stable.frame.get_forces()).max() > 0.01
    assert capfd.readouterr() == ("", ""), "its warnings belong into the log"
    assert "WARN" in plain.log + stable.log or "stability" in stable.log.lower()


def test_the_spin_of_an_open_shell_is_kept_with_its_label() -> None:
    """<S^2> of one electron is 3/4; closed shells have none."""
    result = build("pyscf", method="hf", basis="sto-3g").calculate(Atoms("H", info={"multiplicity": 2}))
    assert float(result.properties["spin_square"]) == pytest.approx(0.75)
    assert build("pyscf", method="hf", basis="sto-3g").calculate(molecule("H2")).properties == {}


def test_labels_of_before_there_was_a_choice_keep_their_names() -> None:
    assert "stable" not in build("pyscf").identity()
    assert "stable" in build("pyscf", stable=True).identity()
