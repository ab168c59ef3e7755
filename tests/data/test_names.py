"""Which names are labels, and which of several is meant."""

import numpy as np
import pytest
from alflow.data.names import Name, SeveralError, chosen, understood


@pytest.mark.parametrize(
    ("name", "quantity", "free"),
    [
        ("energy", "energy", False),
        ("Energy", "energy", False),
        ("REF_energy", "energy", False),
        ("dft_energy", "energy", False),
        ("DFT_energy", "energy", False),
        ("DFTenergy", "energy", False),
        ("energy_xtb", "energy", False),
        ("TotalEnergy", "energy", False),
        ("energy_r2scan", "energy", False),
        ("free_energy", "energy", True),
        ("REF_free_energy", "energy", True),
        ("TOTEN", "energy", True),
        ("force", "forces", False),
        ("REF_forces", "forces", False),
        ("dft_force", "forces", False),
        ("stress", "stress", False),
        ("Stress", "stress", False),
        ("REF_stress", "stress", False),
        ("Virial", "virial", False),
        ("dft_virial", "virial", False),
        ("REF_virials", "virial", False),
    ],
)
def test_labels_by_their_names(name: str, quantity: str, free: bool) -> None:
    found = understood(name)
    assert found is not None
    assert (found.quantity, found.free) == (quantity, free)


@pytest.mark.parametrize(
    "name",
    ["energy_per_atom", "kinetic_energy", "formation_energy", "plain_energy", "energy_sigma", "mace_forces", "energies",
     "stresses", "virial_stress", "given_energy", "not_predicted", "enforced", "Lattice", "forces_spread", "d3_energy",
     "baseline_energy", "fermi_energy", "positions", ""],
)  # fmt: skip
def test_what_is_no_label(name: str) -> None:
    assert understood(name) is None


def test_words_of_a_method_are_kept() -> None:
    assert understood("REF_free_energy") == Name("energy", frozenset({"ref"}), free=True)


def test_the_free_energy_goes_before_that_of_the_same_calculation() -> None:
    found = chosen("energy", {"energy": -1.0, "free_energy": -1.5})
    assert (found.name, found.value) == ("free_energy", -1.5)
    found = chosen("energy", {"REF_free_energy": -1.5, "REF_energy": -1.0})
    assert found.name == "REF_free_energy"


def test_of_several_that_differ_nobody_knows() -> None:
    with pytest.raises(SeveralError, match=r"^several energies that differ: REF_energy, energy$") as caught:
        chosen("energy", {"energy": -1.0, "REF_energy": -2.0})
    assert caught.value.quantity == "energy"
    with pytest.raises(SeveralError, match="several energies that differ: REF_energy, free_energy"):
        chosen("energy", {"energy": -1.0, "free_energy": -1.5, "REF_energy": -1.0})


def test_several_that_are_equal_are_one() -> None:
    assert chosen("energy", {"energy": -1.0, "dft_energy": -1.0 + 1e-12}).value == -1.0
    forces = np.ones((2, 3))
    assert chosen("forces", {"forces": forces, "REF_forces": forces.copy()}).name == "forces"


def test_forces_of_the_method_of_the_energy_go_before_others() -> None:
    both = {"forces": np.ones((2, 3)), "REF_forces": np.zeros((2, 3))}
    assert chosen("forces", both, understood("REF_energy").of).name == "REF_forces"
    assert chosen("forces", both, understood("energy").of).name == "forces"
    with pytest.raises(SeveralError, match="several forces that differ"):
        chosen("forces", both, understood("dft_energy").of)


def test_nothing_is_chosen_of_nothing() -> None:
    assert chosen("stress", {"energy": 1.0, "config_type": "bulk"}) is None
