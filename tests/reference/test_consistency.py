"""Forces that do not sum to zero, and energies far outside the data, are no labels."""

import numpy as np
import pytest
from alflow.errors import LabelError
from alflow.reference.consistency import Limits, check_consistent, limits_of
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given
from hypothesis import strategies as st


def labelled(formula: str, energy: float, net: float = 0.0) -> Atoms:
    atoms = Atoms(formula)
    forces = np.zeros((len(atoms), 3))
    forces[0, 0] = net
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def test_the_net_force_over_the_root_of_the_number_of_atoms() -> None:
    check_consistent(labelled("H4", 0.0, net=0.59), Limits(net_force=0.3))
    with pytest.raises(LabelError, match=r"inconsistent: the sum of the forces .* is 0.305 eV/Å, more than .* = 0.3"):
        check_consistent(labelled("H4", 0.0, net=0.61), Limits(net_force=0.3))
    check_consistent(labelled("H4", 0.0, net=9.0), Limits(net_force=None))


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), st.floats(-0.5, 0.5)), min_size=3, max_size=12),
    st.floats(0.1, 3),
    st.floats(-1, 1),
)
def test_energies_are_judged_after_an_energy_for_each_species(
    counts: list[tuple[int, int, float]], margin: float, beyond: float
) -> None:
    """Whatever the atoms' own energies are: the data are within, and what is farther than the margin is not."""
    data = [labelled(f"H{h}O{o}", -13.6 * h - 432.0 * o + (h + o) * noise) for h, o, noise in counts]
    limits = limits_of(data, None, margin)
    for frame in data:
        check_consistent(frame, limits)
    low, high = limits.energy
    zero = 2 * limits.atom_energy[1] + limits.atom_energy[8]
    for bound, sign in ((low, -1), (high, 1)):
        energy = zero + 3 * (bound + sign * beyond)
        if beyond > 1e-6:
            with pytest.raises(LabelError, match="inconsistent: the energy is"):
                check_consistent(labelled("H2O", energy), limits)
        elif -margin / 2 < beyond < -1e-6:
            check_consistent(labelled("H2O", energy), limits)


def test_nothing_is_far_from_no_data_and_new_species_are_not_judged() -> None:
    check_consistent(labelled("H2", 1e6), limits_of([], None, 1.0))
    check_consistent(labelled("He", 1e6), limits_of([labelled("H2", 0.0)], None, 1.0))
