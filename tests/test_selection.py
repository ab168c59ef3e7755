"""Selection: uncertain, sane, new, diverse, within budget."""

import numpy as np
from alflow.selection import select_fps
from hypothesis import given, settings
from hypothesis import strategies as st

cases = st.tuples(
    st.integers(0, 30),
    st.integers(0, 10),
    st.integers(1, 4),
    st.integers(1, 12),
    st.floats(0, 0.5),
    st.integers(0, 10**6),
)


@given(cases)
@settings(max_examples=150, deadline=None)
def test_what_is_chosen(case: tuple[int, int, int, int, float, int]) -> None:
    n, n_known, dimension, budget, near, seed = case
    rng = np.random.default_rng(seed)
    candidates = rng.integers(0, 4, size=(n, dimension)).astype(float)  # coarse: many duplicates
    known = rng.integers(0, 4, size=(n_known, dimension)).astype(float)
    sigma, sane = rng.uniform(size=n), rng.uniform(size=n) < 0.8
    found = select_fps(candidates, known, sigma, sane, sigma_min=0.3, budget=budget, duplicate_distance=near)
    chosen = found.indices
    assert len(chosen) == len(set(chosen)) <= budget
    assert (sigma[chosen] >= 0.3).all()
    assert sane[chosen].all()
    assert found.n_sigma + found.n_unphysical + found.n_duplicate + len(chosen) <= n
    if len(chosen) < budget:  # then only what is known already was left
        assert found.n_sigma + found.n_unphysical + found.n_duplicate + len(chosen) == n
    spread = np.sqrt(np.mean(np.sum((known - known.mean(axis=0)) ** 2, axis=1))) if n_known > 1 else 1.0
    spread = spread or 1.0
    before = list(known)
    previous = np.inf
    for k, distance in zip(chosen, found.distances, strict=True):
        nearest = min((np.linalg.norm(candidates[k] - x) / spread for x in before), default=np.inf)
        assert nearest >= near
        np.testing.assert_allclose(distance, nearest)
        assert distance <= previous  # farthest first, measured from the training set
        eligible = (sigma >= 0.3) & sane
        farthest = max(
            min((np.linalg.norm(c - x) / spread for x in before), default=np.inf) for c in candidates[eligible]
        )
        assert np.isclose(nearest, farthest) or nearest == farthest
        before.append(candidates[k])
        previous = distance


def test_the_training_set_counts() -> None:
    """A candidate beside a known structure is taken last, however it is ordered."""
    candidates = np.array([[0.1], [5.0], [9.0]])
    known = np.array([[0.0], [10.0]])
    found = select_fps(candidates, known, np.ones(3), np.ones(3, bool), sigma_min=0.0, budget=3, duplicate_distance=0.0)
    assert list(found.indices) == [1, 2, 0]
