"""Charge, multiplicity, initial moments and charges: they reach a calculation, or are refused before it."""

import sys
from pathlib import Path

import numpy as np
import pytest
from alflow.reference.codes.ase_calculator import AseBaseline
from alflow.reference.codes.cp2k import Cp2kMethod
from alflow.reference.codes.gpaw import _spin
from alflow.reference.codes.model import ModelBaseline
from alflow.reference.codes.tblite import TbliteBaseline
from alflow.reference.electrons import lowest_multiplicity
from alflow.reference.kinds import REFERENCES, build
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes

XTB = "tblite.ase.TBLite"
OPTIONS = {
    "cp2k": {"template": "cp2k.inp"},
    "espresso": {"template": "pw.in"},
    "ase": {"name": XTB},
    "command": {"command": "true"},
    "dataset": {"file": "labelled.xyz"},
}
TOLD = {
    "charge": {"tblite", "pyscf", "orca", "vasp", "aims", "gpaw", "command", "dataset", "manual"},
    "multiplicity": {"tblite", "pyscf", "orca", "vasp", "aims", "gpaw", "command", "dataset", "manual"},
    "initial_magmoms": {"vasp", "aims", "gpaw", "ase", "command", "dataset", "manual"},
    "initial_charges": {"aims", "ase", "command", "dataset", "manual"},
}
"""By which kinds each is used, those with a template that has no place for it left out."""
EMPTY = "&DFT\n&END DFT\n&SYSTEM\n/\n"


def method(kind: str):
    made = build(kind, **OPTIONS.get(kind, {}))
    return made.with_text(EMPTY) if kind in {"cp2k", "espresso"} else made


def oxygen(**info: int) -> Atoms:
    atoms = molecule("O2")
    atoms.info = info
    del atoms.arrays["initial_magmoms"]
    return atoms


def structures() -> dict[str, Atoms]:
    """Structures that have one of the four."""
    moments, charges = oxygen(), oxygen()
    moments.set_initial_magnetic_moments([1, 1])
    charges.set_initial_charges([0.2, -0.2])
    return {
        "charge": oxygen(charge=2),
        "multiplicity": oxygen(multiplicity=3),
        "initial_magmoms": moments,
        "initial_charges": charges,
    }


@pytest.mark.parametrize("kind", REFERENCES)
def test_what_does_not_reach_a_kind_is_refused(kind: str) -> None:
    assert method(kind).untold(oxygen()) == ""
    for name, atoms in structures().items():
        problem = method(kind).untold(atoms)
        assert (problem == "") == (kind in TOLD[name]), (name, problem)


def test_the_lowest_multiplicity_needs_no_telling() -> None:
    assert [lowest_multiplicity(oxygen(charge=charge)) for charge in (0, 1, 2, -1)] == [1, 2, 1, 2]
    calculator = build("ase", name=XTB, parameters={"charge": "{charge}"})
    assert calculator.untold(oxygen(charge=1, multiplicity=2)) == ""
    assert calculator.untold(oxygen(charge=1, multiplicity=4)).startswith("its multiplicity 4 does not reach tblite")


def test_zeros_of_a_file_say_nothing() -> None:
    atoms = oxygen()
    atoms.set_initial_magnetic_moments([0, 0])
    atoms.set_initial_charges([0, 0])
    assert method("pyscf").untold(atoms) == ""


def test_charges_and_moments_of_atoms_tell_by_their_sums() -> None:
    calculator = build("ase", name=XTB)
    atoms = oxygen(charge=1, multiplicity=4)
    atoms.set_initial_charges([0.5, 0.5])
    atoms.set_initial_magnetic_moments([2, 1])
    assert calculator.untold(atoms) == ""
    atoms.set_initial_magnetic_moments([1, 1])
    assert calculator.untold(atoms) == (
        "its initial magnetic moments sum to 2, and it has multiplicity 4, which is 3 unpaired electrons: "
        "correct one of them"
    )
    atoms.set_initial_charges([0.5, -0.5])
    assert calculator.untold(atoms) == "its initial charges sum to 0 e, and its charge is 1: correct one of them"


def test_a_charge_among_the_parameters_must_be_that_of_the_system() -> None:
    calculator = build("ase", name=XTB, parameters={"charge": 1})
    assert calculator.untold(oxygen(charge=1, multiplicity=2)) == ""
    for charge in (0, -1):
        message = f'its charge is {charge}, and its parameters have charge = 1: write charge = "{{charge}}"'
        assert calculator.untold(oxygen(charge=charge)) == message


@pytest.mark.parametrize(
    ("electrons", "place"), [("none", {}), ("info", {}), ("parameters", {"spin": ["{unpaired}"], "charge": "{charge}"})]
)
def test_ways_to_tell_an_ase_calculator(electrons: str, place: dict[str, object]) -> None:
    calculator = build("ase", name=XTB, electrons=electrons, parameters=place)
    assert calculator.untold(oxygen(charge=1, multiplicity=4)) == ""


PLACES = {"method": "GFN1-xTB", "verbosity": 0, "charge": "{charge}", "multiplicity": "{multiplicity}"}
STATES = [(0, 1), (1, 2), (0, 3), (0, 1)]


@pytest.mark.parametrize("python", [None, sys.executable])
def test_the_numbers_of_each_structure_are_put_in(python: str | None) -> None:
    """Of a baseline, too, whose one calculator sees structures of several states; alflow's own kind is right."""
    told = build("ase", name=XTB, parameters=PLACES, python=python)
    told.check()
    baseline = AseBaseline(kind="ase", name=XTB, parameters=PLACES, python=python).calculator()
    expected = []
    for charge, multiplicity in STATES:
        atoms = molecule("H2O")
        atoms.info = {"charge": charge, "multiplicity": multiplicity}
        right = build("tblite", method="GFN1-xTB").calculate(atoms).frame
        expected.append(right.get_potential_energy())
        assert told.calculate(atoms).frame.get_potential_energy() == pytest.approx(expected[-1], abs=1e-5)
        assert baseline.get_potential_energy(atoms) == pytest.approx(expected[-1], abs=1e-5)
        np.testing.assert_allclose(baseline.get_forces(atoms), right.get_forces(), atol=1e-3)
    assert min(np.diff(sorted(set(expected)))) > 1


def test_places_name_the_calculation_and_numbers_do_not() -> None:
    told = build("ase", name=XTB, parameters=PLACES)
    assert '"{charge}"' in told.identity()
    assert told.identity() == build("ase", name=XTB, parameters=PLACES, electrons="info").identity()


class Informed(Calculator):
    """Energy by what is in ``Atoms.info``."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        info = self.atoms.info
        self.results = {"energy": 10.0 * info["charge"] + info["spin"], "forces": np.zeros((len(self.atoms), 3))}


def test_info_has_charge_and_spin() -> None:
    """By the names of the models of OMol25: ``spin`` is the multiplicity. The label has no more than the structure."""
    calculator = build("ase", name=f"{__name__}.Informed", electrons="info")
    done = calculator.calculate(oxygen(charge=1, multiplicity=4)).frame
    assert done.get_potential_energy() == 14
    assert done.info == {"charge": 1, "multiplicity": 4}


@pytest.mark.parametrize(
    ("text", "charge", "multiplicity", "problem"),
    [
        ("CHARGE {{ charge }}", 1, 1, ""),
        ("CHARGE 1", 1, 1, "its charge 1 does not reach CP2K: write CHARGE {{ charge }} in &DFT of reference.template"),
        ("! CHARGE {{ charge }}", 1, 1, "its charge 1 does not reach CP2K"),
        ("UKS\nMULTIPLICITY {{ multiplicity }}", 0, 3, ""),
        ("lsd .TRUE.\nMULTIPLICITY {{ multiplicity }}", 0, 3, ""),
        ("UKS {{ spins }}\nMULTIPLICITY {{ multiplicity }}", 0, 3, ""),
        ("UKS", 0, 3, "its multiplicity 3 does not reach CP2K: write UKS and MULTIPLICITY {{ multiplicity }} in &DFT"),
        ("MULTIPLICITY {{ multiplicity }}", 0, 3, "its multiplicity 3 has no effect in CP2K without UKS: write UKS in"),
        ("UKS .FALSE.\nMULTIPLICITY {{ multiplicity }}", 0, 3, "its multiplicity 3 has no effect in CP2K without UKS"),
        ("# UKS\nMULTIPLICITY {{ multiplicity }}", 0, 3, "its multiplicity 3 has no effect in CP2K without UKS"),
        ("UKS\nCHARGE {{ charge }}", 1, 2, ""),
        ("CHARGE {{ charge }}", 1, 2, "its multiplicity 2 has no effect in CP2K without UKS"),
    ],
)
def test_templates_of_cp2k(text: str, charge: int, multiplicity: int, problem: str) -> None:
    template = Cp2kMethod(kind="cp2k", template="cp2k.inp", variables={"spins": "T"}).with_text(f"&DFT\n{text}\n&END")
    found = template.untold(oxygen(charge=charge, multiplicity=multiplicity))
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


@pytest.mark.parametrize(
    ("text", "charge", "multiplicity", "told"),
    [
        ("tot_charge = {{ charge }}", 1, 1, True),
        ("! tot_charge = {{ charge }}", 1, 1, False),
        ("nspin = 2, tot_magnetization = {{ magnetization }}", 0, 3, True),
        ("nspin = 2", 0, 3, False),
        ("tot_charge = {{ charge }}", 1, 2, False),
    ],
)
def test_templates_of_espresso(text: str, charge: int, multiplicity: int, told: bool) -> None:
    template = build("espresso", template="pw.in").with_text(f"&SYSTEM\n{text}\n/\n")
    assert (template.untold(oxygen(charge=charge, multiplicity=multiplicity)) == "") == told


def test_moments_of_gpaw() -> None:
    """They are where it begins; their sum is kept where a multiplicity above the lowest says it."""
    assert _spin(oxygen(), {}) == ({}, None)
    arguments, moments = _spin(oxygen(multiplicity=3), {})
    assert arguments["occupations"]["fixmagmom"]
    assert moments.tolist() == [1, 1]
    atoms = oxygen()
    atoms.set_initial_magnetic_moments([2, -2])
    arguments, moments = _spin(atoms, {})
    assert (arguments, moments.tolist()) == ({"spinpol": True}, [2, -2])
    atoms.info = {"multiplicity": 3}
    atoms.set_initial_magnetic_moments([2, 0])
    arguments, moments = _spin(atoms, {})
    assert arguments["occupations"]["fixmagmom"]
    assert moments.tolist() == [2, 0]


def test_a_baseline_may_do_without_initial_moments() -> None:
    """They are the reference's; a charge is of both."""
    given = structures()
    below = TbliteBaseline(kind="tblite")
    assert below.untold(given["initial_magmoms"]) == below.untold(given["initial_charges"]) == ""
    force_field = AseBaseline(kind="ase", name="ase.calculators.lj.LennardJones")
    assert force_field.untold(given["charge"]).startswith("its charge 2 does not reach ase.calculators.lj.LennardJones")
    assert force_field.model_copy(update={"electrons": "none"}).untold(given["charge"]) == ""
    model = ModelBaseline(kind="model", file=str(Path("cheap.h5")))
    assert [model.untold(atoms) for atoms in given.values()] == [""] * 4
