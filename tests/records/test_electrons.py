"""Levels of electrons: by spin, k-point and band, and as JSON."""

import json

import numpy as np
from alflow.records.electrons import Electrons, as_lists, levels


def test_nothing_is_told_by_default() -> None:
    electrons = Electrons()
    assert np.isnan(electrons.fermi_energy)
    assert electrons.eigenvalues.shape == electrons.occupations.shape == (0, 0, 0)
    assert electrons.kpoint_weights.shape == (0,)
    assert as_lists(electrons) == {}


def test_spins_with_different_numbers_of_bands() -> None:
    found = levels([[1.0, 2.0], [3.0]])
    np.testing.assert_array_equal(found, [[[1.0, 2.0]], [[3.0, np.nan]]])
    assert levels([]).shape == (0, 0, 0)
    electrons = Electrons(eigenvalues=found)
    assert electrons.kpoint_weights.tolist() == [1.0]
    assert as_lists(electrons) == {"eigenvalues": [[1.0, 2.0], [3.0]]}


def test_json_has_one_k_point_after_the_other() -> None:
    eigenvalues = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    electrons = Electrons(-1.0, eigenvalues, kpoint_weights=np.array([0.25, 0.75]))
    expected = {
        "fermi_energy": -1.0,
        "eigenvalues": [[1.0, 2.0, 3.0, 4.0]],
        "weights": [[0.25, 0.25, 0.75, 0.75]],
    }
    assert json.loads(json.dumps(as_lists(electrons))) == expected
