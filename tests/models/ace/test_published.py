"""Accuracy and calibration on published data, which are not in this repository: two of tests/benchmarks in short."""

import sys
from pathlib import Path

import alflow
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from potential_accuracy import DATA, TARGETS, errors, read
from uncertainty import COVERAGE, RATIO, compare, halves, pooled

LONG = pytest.mark.long


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="the published data (../shared/data) are not there")
@pytest.mark.parametrize("name", [name if name == "Si" else pytest.param(name, marks=LONG) for name in TARGETS])
def test_errors_are_below_those_of_published_potentials(name: str) -> None:
    """With the default settings but for the number of members, which costs time and changes little."""
    measure, energy_target, force_target, _ = TARGETS[name]
    train, test = read(DATA, name)
    found = errors(alflow.fit(train, n_members=8), test)
    energy, force = (np.mean(np.abs(e)) if measure == "MAE" else np.sqrt(np.mean(e**2)) for e in found)
    assert energy <= energy_target
    assert force <= force_target


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="the published data (../shared/data) are not there")
@pytest.mark.parametrize("name", ["Si", pytest.param("Cu", marks=LONG)])
def test_calibrated_sigmas_are_those_of_structures_never_seen(name: str) -> None:
    """Fitted to one half, judged on the other; two seeds together, as a hundred energies say little."""
    parts = []
    for seed in (0, 1):
        train, test = halves(DATA, name, seed)
        parts.append(compare(alflow.fit(train), test))
    for kind in ("energy", "force"):
        judged, _ = pooled([part[kind] for part in parts])
        assert COVERAGE[0] <= judged.coverage_1 <= COVERAGE[1]
        assert RATIO[0] <= judged.rms_z <= RATIO[1]
