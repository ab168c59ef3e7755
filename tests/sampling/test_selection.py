"""Selection: uncertain, sane, new, diverse, within budget."""

from typing import Any

import numpy as np
import pytest
from alflow.sampling.selection import select_fps
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


def chosen(candidates: np.ndarray, known: np.ndarray, **changes: Any) -> Any:
    n = len(candidates)
    arguments = {
        "sigma": np.ones(n),
        "sane": np.ones(n, bool),
        "sigma_min": 0.5,
        "budget": 5,
        "duplicate_distance": 0.1,
    }
    arguments |= changes
    return select_fps(candidates, known, **arguments)


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 8), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_candidates_does_not_matter(seed: int, n: int, n_known: int, budget: int) -> None:
    """Without ties: the same structures, in the same order, and the same counts."""
    rng = np.random.default_rng(seed)
    candidates, known = rng.normal(size=(n, 3)), rng.normal(size=(n_known, 3))
    given_ = {"sigma": rng.uniform(size=n), "sane": rng.uniform(size=n) < 0.8}
    order = rng.permutation(n)
    one = chosen(candidates, known, budget=budget, **given_)
    two = chosen(
        candidates[order], known[rng.permutation(n_known)], budget=budget, **{k: v[order] for k, v in given_.items()}
    )
    np.testing.assert_array_equal(one.indices, order[two.indices])
    np.testing.assert_allclose(one.distances, two.distances, rtol=1e-9)
    assert (one.n_sigma, one.n_unphysical, one.n_duplicate) == (two.n_sigma, two.n_unphysical, two.n_duplicate)


@given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_the_unit_of_the_features_does_not_matter(seed: int, unit: float) -> None:
    """Distances are in units of the training set's spread."""
    rng = np.random.default_rng(seed)
    candidates, known, shift = rng.normal(size=(12, 3)), rng.normal(size=(6, 3)), rng.normal(size=3)
    one, two = chosen(candidates, known), chosen(unit * (candidates + shift), unit * (known + shift))
    np.testing.assert_array_equal(one.indices, two.indices)
    np.testing.assert_allclose(one.distances, two.distances, rtol=1e-9)


def test_the_first_is_the_farthest_from_the_training_set() -> None:
    known = np.array([[-1.0], [1.0]])  # its spread is 1
    found = chosen(np.array([[1.9], [-4.0], [0.0], [5.0]]), known)
    assert list(found.indices) == [3, 1, 2, 0]
    np.testing.assert_allclose(found.distances, [4.0, 3.0, 1.0, 0.9])


@pytest.mark.parametrize("n_known", [0, 3])
def test_no_candidates(n_known: int) -> None:
    found = chosen(np.empty((0, 2)), np.ones((n_known, 2)))
    assert found.indices.shape == found.distances.shape == (0,)
    assert found.indices.dtype == np.intp
    assert (found.n_sigma, found.n_unphysical, found.n_duplicate) == (0, 0, 0)


def test_nothing_is_known() -> None:
    found = chosen(np.array([[0.0], [0.05], [3.0]]), np.empty((0, 1)))
    assert list(found.indices) == [0, 2]
    assert found.distances[0] == np.inf
    assert found.n_duplicate == 1


def test_each_is_counted_once_and_for_its_first_reason() -> None:
    candidates = np.array([[0.0], [9.0], [9.0], [9.05], [1.0], [20.0]])
    found = chosen(
        candidates,
        np.array([[1.0]]),
        sigma=np.array([0.1, 0.1, 1.0, 1.0, np.inf, np.nan]),
        sane=np.array([True, False, True, True, True, True]),
    )
    assert list(found.indices) == [3]
    assert (found.n_sigma, found.n_unphysical, found.n_duplicate) == (3, 0, 2)
    none = chosen(candidates, np.array([[1.0]]), budget=0)
    assert len(none.indices) == 0
    assert none.n_duplicate == 1


def test_none_is_chosen_twice_without_a_distance_between_duplicates() -> None:
    found = chosen(np.zeros((4, 1)), np.zeros((1, 1)), budget=9, duplicate_distance=0.0)
    assert sorted(found.indices) == [0, 1, 2, 3]
    assert found.n_duplicate == 0
