"""Candidates are judged like the frames of a walk; those that cannot be evaluated are kept apart."""

import alflow
import numpy as np
import pytest
from alflow.sampling.candidates import Candidates, judge_candidates
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from lj_frames import SMALL, bonded, water


def test_every_candidate_has_what_the_committee_says_of_it() -> None:
    committee = alflow.fit(bonded(water(), 12), **SMALL)
    frames = [frame.copy() for frame in bonded(water(), 4, seed=3)]
    broken = frames[0].copy()
    broken.positions[1] = broken.positions[0]
    segment = judge_candidates(Candidates((*frames[:2], broken, *frames[2:])), committee)
    assert (segment.stop, segment.end_step) == ("finished", 5)
    assert list(segment.step) == [0, 1, 3, 4]
    for k, frame in enumerate(frames):
        prediction = committee.predict(frame)
        np.testing.assert_array_equal(segment.frames[k].positions, frame.positions)
        np.testing.assert_array_equal(segment.energies[k], prediction.energies)
        assert segment.largest_force_sigma[k] == prediction.forces_sigma.max()
        assert segment.largest_grade[k] == prediction.grade.max()


def test_none_that_can_be_evaluated_leaves_an_empty_segment() -> None:
    committee = alflow.fit(bonded(water(), 12), **SMALL)
    broken = water()
    broken.positions[1] = broken.positions[0]
    segment = judge_candidates(Candidates((broken,)), committee)
    assert segment.frames == ()
    assert segment.energies.shape == (0, 8)
    assert segment.unseen == ()
    assert segment.failures == ("atoms 0 and 1 are at the same place: separate them, or remove one",)


class OnlyWater(Calculator):
    """A baseline of nothing that does not know fluorine."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if 9 in atoms.numbers:
            msg = "no parameters for F"
            raise CalculationFailed(msg)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def with_species(symbol: str) -> Atoms:
    atoms = water()
    atoms.symbols[1] = symbol
    return atoms


@pytest.mark.parametrize("baseline", [None, OnlyWater()])
def test_unknown_species_are_kept_as_far_as_labels_of_them_would_help(baseline: Calculator | None) -> None:
    """What the baseline cannot do is in no training set, whatever its label says."""
    committee = alflow.fit(bonded(water(), 12), baseline=baseline, **SMALL)
    frames = (with_species("F"), water(), with_species("C"))
    segment = judge_candidates(Candidates(frames, "none"), committee)
    assert list(segment.step) == [1]
    fluoride = [] if baseline else [frames[0]]
    assert [list(frame.numbers) for frame in segment.unseen] == [list(f.numbers) for f in [*fluoride, frames[2]]]
    assert segment.failures == (("the baseline failed on H3FO2: no parameters for F",) if baseline else ())
