"""Which members see which structures."""

import alflow
import numpy as np

from lj_frames import SMALL, labelled, water


def test_every_structure_is_seen_by_half_of_the_members() -> None:
    committee = alflow.fit(labelled(water(), 3), **SMALL)
    np.testing.assert_array_equal(committee.resampling.seen().sum(axis=0), 4)
    groups = [committee.resampling.group(k) for k in range(80)]
    assert all(sorted(groups[k : k + 8]) == list(range(8)) for k in range(0, 80, 8))
