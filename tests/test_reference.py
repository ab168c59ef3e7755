"""Reference methods: against known values and finite differences; results that do not depend on what came before."""

import pickle

import numpy as np
import pytest
from alflow.errors import ConfigError, LabelError
from alflow.reference import build
from ase.build import bulk, molecule


def test_known_energy_of_water() -> None:
    """The value that tblite's documentation gives for ASE's water molecule."""
    done = build("tblite").calculate(molecule("H2O"))
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
            energies.append(method.calculate(moved).get_potential_energy())
        expected = -(energies[0] - energies[1]) / (2 * h)
        assert method.calculate(atoms).get_forces()[i, x] == pytest.approx(expected, rel=1e-3)


def test_results_do_not_depend_on_history() -> None:
    method = build("tblite")
    first, other = molecule("H2O"), molecule("CH4")
    alone = method.calculate(first).get_forces()
    method.calculate(other)
    np.testing.assert_array_equal(method.calculate(first).get_forces(), alone)
    assert pickle.loads(pickle.dumps(method)).identity() == method.identity()


def test_stress_only_where_periodic() -> None:
    assert "stress" not in build("tblite").calculate(molecule("H2O")).calc.results
    done = build("tblite", method="GFN1-xTB").calculate(bulk("Si", cubic=True))
    assert done.get_stress().shape == (6,)


def test_charge_and_multiplicity_are_used() -> None:
    anion, radical = molecule("OH"), molecule("OH")
    anion.info, radical.info = {"charge": -1, "multiplicity": 1}, {"charge": 0, "multiplicity": 2}
    energies = [build("tblite").calculate(atoms).get_potential_energy() for atoms in (anion, radical)]
    assert abs(energies[0] - energies[1]) > 1.0


def test_failures_have_reasons() -> None:
    with pytest.raises(LabelError, match="not_converged") as caught:
        build("tblite", max_iterations=1).calculate(molecule("H2O"))
    assert pickle.loads(pickle.dumps(caught.value)).reason == "not_converged"
    with pytest.raises(ConfigError, match="no reference method 'magic': expected one of tblite"):
        build("magic")
