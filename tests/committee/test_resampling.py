"""Which members see which structures."""

import alflow
import numpy as np
import pytest
from alflow.committee.resampling import Resampling

from lj_frames import SMALL, labelled, water


def test_every_structure_is_seen_by_half_of_the_members() -> None:
    committee = alflow.fit(labelled(water(), 3), **SMALL)
    np.testing.assert_array_equal(committee.resampling.seen().sum(axis=0), 4)
    groups = [committee.resampling.group(k) for k in range(80)]
    assert all(sorted(groups[k : k + 8]) == list(range(8)) for k in range(0, 80, 8))


@pytest.mark.parametrize("n_members", [2, 3, 8, 9, 16])
@pytest.mark.parametrize("seed", [0, 7])
def test_halves_are_halves_of_members_and_of_groups(n_members: int, seed: int) -> None:
    halves = Resampling(n_members, seed).halves()
    assert (halves.sum(axis=0) == n_members // 2).all()
    assert (halves.sum(axis=1) == n_members // 2).all()
    assert len({row.tobytes() for row in halves}) == n_members
    np.testing.assert_array_equal(halves, Resampling(n_members, seed).halves())
    assert n_members < 8 or not np.array_equal(halves, Resampling(n_members, seed + 1).halves())
