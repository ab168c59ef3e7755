"""Candidates are judged like the frames of a walk; those that cannot be evaluated are left out."""

import alflow
import numpy as np
from alflow.sampling.candidates import Candidates, judge_candidates

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
