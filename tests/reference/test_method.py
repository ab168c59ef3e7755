"""Reference methods: against known values and finite differences; results that do not depend on what came before."""

import pickle

import numpy as np
import pytest
from alflow.errors import ConfigError, LabelError
from alflow.executors import limit_threads
from alflow.reference.kinds import build
from ase.build import bulk, molecule


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
