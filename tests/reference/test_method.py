"""Reference methods: against known values and finite differences; results that do not depend on what came before."""

import pickle

import numpy as np
import pytest
from alflow.errors import ConfigError, LabelError
from alflow.executors import limit_threads
from alflow.reference.dispatch import check_result
from alflow.reference.kinds import BASELINES, build
from alflow.reference.method import Result, evaluate
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator


def test_known_energy_of_water() -> None:
    """The value that tblite's documentation gives for ASE's water molecule."""
    done = build("tblite").calculate(molecule("H2O")).frame
    assert done.get_potential_energy() == pytest.approx(-137.96777625229421, abs=1e-6)


def test_forces_are_minus_the_gradient() -> None:
    method = build("tblite", accuracy=0.01)
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    h = 1e-3
    for i, x in ((0, 2), (1, 1)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, x] += sign * h
            energies.append(method.calculate(moved).frame.get_potential_energy())
        expected = -(energies[0] - energies[1]) / (2 * h)
        assert method.calculate(atoms).frame.get_forces()[i, x] == pytest.approx(expected, rel=1e-3)


def test_results_do_not_depend_on_history() -> None:
    method = build("tblite")
    first, other = molecule("H2O"), molecule("CH4")
    with limit_threads(1):
        alone = method.calculate(first).frame.get_forces()
        method.calculate(other)
        np.testing.assert_array_equal(method.calculate(first).frame.get_forces(), alone)
    assert pickle.loads(pickle.dumps(method)).identity() == method.identity()


def test_stress_only_where_periodic() -> None:
    assert "stress" not in build("tblite").calculate(molecule("H2O")).frame.calc.results
    done = build("tblite", method="GFN1-xTB").calculate(bulk("Si", cubic=True)).frame
    assert done.get_stress().shape == (6,)


def test_charge_and_multiplicity_are_used() -> None:
    anion, radical = molecule("OH"), molecule("OH")
    anion.info, radical.info = {"charge": -1, "multiplicity": 1}, {"charge": 0, "multiplicity": 2}
    energies = [build("tblite").calculate(atoms).frame.get_potential_energy() for atoms in (anion, radical)]
    assert abs(energies[0] - energies[1]) > 1.0


def test_a_baseline_does_not_depend_on_history_either() -> None:
    """Bit for bit: a walk that is resumed has a fresh calculator, and must go on as if it had not stopped."""
    atoms = molecule("CH3CH2OH")
    moved = atoms.copy()
    moved.rattle(0.05, seed=1)
    alone = moved.copy()
    alone.calc = build("tblite").calculator()
    used = build("tblite").calculator()
    with limit_threads(1):
        used.get_forces(atoms)
        np.testing.assert_array_equal(used.get_forces(moved), alone.get_forces())
    assert used.get_potential_energy(moved) == alone.get_potential_energy()


def test_a_baseline_sees_that_the_charge_changed() -> None:
    calculator = build("tblite").calculator()
    for charge, multiplicity in ((0, 2), (-1, 1), (0, 2)):
        atoms = molecule("OH")
        atoms.info = {"charge": charge, "multiplicity": multiplicity}
        expected = build("tblite").calculate(atoms).frame.get_potential_energy()
        assert calculator.get_potential_energy(atoms) == expected


def test_slabs_are_refused() -> None:
    slab = bulk("Si", cubic=True)
    slab.pbc = (True, True, False)
    with pytest.raises(LabelError, match=r"found pbc = \[True, True, False\]: for a slab"):
        build("tblite").calculate(slab)


def test_failures_have_reasons() -> None:
    with pytest.raises(LabelError, match="not_converged") as caught:
        build("tblite", max_iterations=1).calculate(molecule("H2O"))
    assert pickle.loads(pickle.dumps(caught.value)).reason == "not_converged"
    with pytest.raises(ConfigError, match="no reference method 'magic': expected one of tblite, pyscf, cp2k"):
        build("magic")


class Odd(Calculator):
    """Gives whatever it is told to."""

    implemented_properties = ("energy", "free_energy", "forces")

    def __init__(self, **given: object) -> None:
        super().__init__()
        self.given = {"energy": -1.0, "free_energy": -1.5, "forces": np.zeros((2, 3)), **given}

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = dict(self.given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"free_energy": 1 + 1j}, "no_output: energy: expected real numbers, found complex numbers"),
        ({"free_energy": "low"}, "no_output: energy: expected real numbers, found no numbers: 'low'"),
        ({"forces": np.zeros((2, 2))}, r"no_output: forces: expected real numbers of shape \(N, 3\), eV/Å, N = 2, fou"),
        ({"forces": np.full((2, 3), 1e9)}, "no_output: forces: expected at most"),
        ({"free_energy": 1e12}, "no_output: energy: expected at most"),
        ({"forces": np.full((2, 3), np.nan)}, "not_finite: forces: 6 of 6 values are not finite"),
    ],
)
def test_what_a_calculator_gives_is_checked(given: dict[str, object], text: str) -> None:
    with pytest.raises(LabelError, match=f"^{text}"):
        evaluate(molecule("H2"), Odd(**given), "odd")


def test_what_a_calculator_has_found_besides_is_kept() -> None:
    """The energy is the one that forces are the gradient of; malformed properties are no failure."""
    found = evaluate(molecule("H2"), Odd(dipole=[0, 0, 1], charges=[0.5, -0.5], magmoms=[1.0], magmom="up"), "odd")
    assert (found.frame.get_potential_energy(), found.plain_energy) == (-1.5, -1.0)
    assert set(found.properties) == {"dipole"}
    assert found.properties["dipole"].tolist() == [0.0, 0.0, 1.0]
    assert found.atom_properties["charges"].tolist() == [0.5, -0.5]
    assert set(found.atom_properties) == {"charges"}


def test_tblite_tells_charges_and_dipole_and_no_two_energies() -> None:
    found = build("tblite").calculate(molecule("H2O"))
    assert found.atom_properties["charges"].shape == (3,)
    assert found.atom_properties["charges"].sum() == pytest.approx(0, abs=1e-6)
    assert found.properties["dipole"].shape == (3,)
    assert np.isnan(found.plain_energy)


def test_a_template_is_read_once(tmp_path) -> None:
    """What is edited while a batch runs belongs to the next one; workers have the text that was read."""
    (tmp_path / "cp2k.inp").write_text("&FORCES\n{{ coordinates }}\n")
    section = build("cp2k", template="cp2k.inp")
    with pytest.raises(ConfigError, match=r"reference\.template: cp2k\.inp is not read yet"):
        section.identity()
    method = section.at(tmp_path)
    (tmp_path / "cp2k.inp").write_text("&FORCES\n{{ coordinates }}\nmore\n")
    assert method.text == "&FORCES\n{{ coordinates }}\n"
    sent = pickle.loads(pickle.dumps(method))
    assert (sent.text, sent.identity()) == (method.text, method.identity())
    assert section.at(tmp_path).identity() != method.identity()
    with pytest.raises(ConfigError, match=r"nowhere\.inp cannot be read \(No such file or directory\): expected the i"):
        build("cp2k", template="nowhere.inp").at(tmp_path)


def test_files_of_the_run_directory_are_found(tmp_path) -> None:
    for name in ("label.py", "labelled.xyz"):
        (tmp_path / name).write_text("1")
    assert build("command", command="python label.py x.py").at(tmp_path).command == f"python {tmp_path}/label.py x.py"
    assert build("orca", command="orca").at(tmp_path).command == "orca"
    assert build("orca").at(tmp_path).command is None
    assert build("dataset", file="labelled.xyz").at(tmp_path).file == str(tmp_path / "labelled.xyz")


def test_weighting_is_no_part_of_the_identity_of_a_baseline() -> None:
    for kind, options in (("tblite", {}), ("ase", {"name": "ase.calculators.lj.LennardJones"})):
        plain = BASELINES[kind](kind=kind, **options)
        weighted = BASELINES[kind](kind=kind, weighting="atom", error=0.5, **options)
        assert weighted.identity() == plain.identity()
    assert BASELINES["tblite"]().identity() == build("tblite", method="GFN1-xTB").identity()


def test_what_is_no_baseline_says_so() -> None:
    with pytest.raises(ConfigError, match="mine has no calculator that walks could use: it cannot be a baseline"):
        build("manual", name="mine").calculator()


class _Magnet(Calculator):
    """Energy from what a structure says of its atoms."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        moments, charges = self.atoms.get_initial_magnetic_moments(), self.atoms.get_initial_charges()
        self.results = {"energy": moments.sum() + 10 * charges.sum(), "forces": np.zeros((len(self.atoms), 3))}


def test_initial_moments_and_charges_reach_an_ase_calculator() -> None:
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7]])
    assert evaluate(atoms, _Magnet(), "magnet").frame.get_potential_energy() == 0
    atoms.set_initial_magnetic_moments([1, 3])
    atoms.set_initial_charges([0.5, 0.5])
    assert evaluate(atoms, _Magnet(), "magnet").frame.get_potential_energy() == 14


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"properties": {"a/b": np.zeros(3)}}, "property 'a/b'"),
        ({"properties": {"dipole": np.array([1j, 0, 0])}}, "property 'dipole': expected real numbers"),
        ({"properties": {"dipole": "words"}}, "property 'dipole'"),
        ({"atom_properties": {"charges": np.zeros(3)}}, "property charges of atoms: expected a value for each of 2"),
        ({"results": {"energy": -1.0}}, "gave no forces"),
        ({"results": {"energy": -1.0, "forces": np.zeros((2, 2))}}, "forces: expected real numbers of shape"),
        ({"results": {"energy": np.nan, "forces": np.zeros((2, 3))}}, "not finite"),
    ],
)
def test_what_a_method_of_a_package_gives_is_checked(changes: dict[str, dict[str, object]], message: str) -> None:
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7]])
    given = dict(changes)
    atoms.calc = SinglePointCalculator(atoms)
    atoms.calc.results = given.pop("results", {"energy": -1.0, "forces": np.zeros((2, 3))})
    with pytest.raises(LabelError, match=message):
        check_result(Result(atoms, "package 1.0", **given), 2)
