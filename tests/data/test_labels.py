"""Labels from outside: what is not one is refused with what was expected and what was found."""

import re
from typing import Any

import numpy as np
import pytest
from alflow.data.labels import NotFiniteError, checked, electrons_of, labels_of
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

FORCES = np.arange(6.0).reshape(2, 3)


def test_labels_are_doubles_of_one_shape() -> None:
    for value in (-1.5, np.float32(-1.5), np.array(-1.5), np.array([-1.5])):
        energy = checked("energy", value, 2)
        assert (energy.shape, energy.dtype, float(energy)) == ((), np.float64, -1.5)
    for forces in (FORCES, FORCES.astype(np.float32), FORCES.astype(int), FORCES.tolist()):
        found = checked("forces", forces, 2)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, FORCES)
    np.testing.assert_array_equal(checked("stress", range(6), 2), np.arange(6.0))


def test_what_is_checked_is_a_copy() -> None:
    forces = FORCES.copy()
    checked("forces", forces, 2)[:] = 7
    np.testing.assert_array_equal(forces, FORCES)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("energy", "low", "energy: expected real numbers, found no numbers: 'low'"),
        ("energy", "-1.5", "energy: expected real numbers, found no numbers: '-1.5'"),
        ("energy", None, "energy: expected real numbers, found no numbers: 'None'"),
        ("energy", True, "energy: expected real numbers, found true or false: 'True'"),
        ("energy", 1 + 2j, "energy: expected real numbers, found complex numbers: '(1+2j)'"),
        ("energy", [1.0, 2.0], "energy: expected one real number, eV, found shape (2,)"),
        ("energy", 3e8, "energy: expected at most 1e+08 eV/atom, found 1.5e+08: look at the units"),
        ("energy", -3e8, "energy: expected at most 1e+08 eV/atom, found 1.5e+08: look at the units"),
        ("forces", FORCES + 0j, "forces: expected real numbers, found complex numbers: "),
        ("forces", [["a", "b", "c"]] * 2, "forces: expected real numbers, found no numbers: "),
        ("forces", [[1.0, 2.0, 3.0], [1.0]], "forces: expected real numbers, found no array ("),
        ("forces", 1.0, "forces: expected real numbers of shape (N, 3), eV/Å, N = 2, found no array"),
        ("forces", FORCES[:, :2], "forces: expected real numbers of shape (N, 3), eV/Å, N = 2, found shape (2, 2)"),
        ("forces", FORCES[:, 0], "forces: expected real numbers of shape (N, 3), eV/Å, N = 2, found shape (2,)"),
        ("forces", FORCES[:1], "forces: expected real numbers of shape (N, 3), eV/Å, N = 2, found shape (1, 3)"),
        ("forces", FORCES * 1e6, "forces: expected at most 1e+06 eV/Å, found 5e+06: look at the units"),
        ("stress", np.eye(3), "stress: expected six real numbers, found shape (3, 3)"),
        ("stress", [1e7] * 6, "stress: expected at most 1e+06 eV/Å^3, found 1e+07: look at the units"),
    ],
)
def test_what_is_no_label(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as caught:
        checked(name, value, 2)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, NotFiniteError)


def test_what_is_not_finite() -> None:
    """An overflow is told from a unit: it has a reason of its own."""
    for name, value, message in (
        ("energy", np.nan, "energy: 1 of 1 values are not finite"),
        ("forces", np.where(FORCES > 3, np.inf, FORCES), "forces: 2 of 6 values are not finite"),
    ):
        with pytest.raises(NotFiniteError, match=message):
            checked(name, value, 2)


def test_labels_of_a_structure_are_what_it_has() -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    assert labels_of(atoms) == {}
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, magmom=2.0)
    assert labels_of(atoms) == {"energy": -1.0}


def test_electrons_of_a_file() -> None:
    assert electrons_of({}) == {}
    found = electrons_of({"fermi_energy": -1, "eigenvalues": [-2.0, 1.0], "occupations": np.array([[1, 0], [0, 0]])})
    assert found["fermi_energy"] == -1.0
    assert found["eigenvalues"].tolist() == [[[-2.0, 1.0]]]
    assert found["occupations"].tolist() == [[[1.0, 0.0]], [[0.0, 0.0]]]


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"fermi_energy": "high"}, "fermi_energy: expected real numbers, found no numbers: 'high'"),
        ({"fermi_energy": [1.0, 2.0]}, "fermi_energy: expected one real number, eV, found shape (2,)"),
        ({"eigenvalues": np.zeros(3) + 1j}, "eigenvalues: expected real numbers, found complex numbers: "),
        ({"occupations": np.zeros((3, 2))}, "occupations: expected real numbers of shape (bands,) or (spins, bands), "),
    ],
)
def test_what_a_file_cannot_tell_of_electrons(info: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        electrons_of(info)
