"""Selection: uncertain, sane, new, diverse, within budget."""

from typing import Any

import numpy as np
import pytest
from alflow.sampling.selection import Places, select_fps
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


def of_one_kind(features: np.ndarray) -> Places:
    return Places(features, np.zeros(len(features), dtype=int))


def scale_of(known: np.ndarray, candidates: np.ndarray) -> float:
    """Median distance to the nearest other structure, of the known ones or, where these are all one, of all."""
    for points in (known, np.concatenate([known, candidates])):
        apart = [[d for y in points if (d := np.linalg.norm(x - y)) > 0] for x in points]
        nearest = [min(distances) for distances in apart if distances]
        if nearest:
            return float(np.median(nearest))
    return 0.0


@given(cases)
@settings(max_examples=150, deadline=None)
def test_what_is_chosen(case: tuple[int, int, int, int, float, int]) -> None:
    n, n_known, dimension, budget, near, seed = case
    rng = np.random.default_rng(seed)
    candidates = rng.integers(0, 4, size=(n, dimension)).astype(float)  # coarse: many duplicates
    known = rng.integers(0, 4, size=(n_known, dimension)).astype(float)
    sigma, sane = rng.uniform(size=n), rng.uniform(size=n) < 0.8
    found = select_fps(
        of_one_kind(candidates), of_one_kind(known), sigma, sane, sigma_min=0.3, budget=budget, duplicate_distance=near
    )
    chosen = found.indices
    assert len(chosen) == len(set(chosen)) <= budget
    assert (sigma[chosen] >= 0.3).all()
    assert sane[chosen].all()
    assert found.n_sigma + found.n_unphysical + found.n_duplicate + len(chosen) <= n
    if len(chosen) < budget:  # then only what is known already was left
        assert found.n_sigma + found.n_unphysical + found.n_duplicate + len(chosen) == n
    eligible = (sigma >= 0.3) & sane
    scale = scale_of(known, candidates[eligible])

    def apart(x: np.ndarray, others: list) -> float:
        nearest = min((np.linalg.norm(x - y) for y in others), default=np.inf)
        return nearest / scale if scale else np.inf * nearest if nearest else 0.0

    before = list(known)
    previous = np.inf
    for k, distance in zip(chosen, found.distances, strict=True):
        nearest = apart(candidates[k], before)
        assert nearest >= near
        np.testing.assert_allclose(distance, nearest)
        assert distance <= previous  # farthest first, measured from the training set
        farthest = max(apart(c, before) for c in candidates[eligible])
        assert np.isclose(nearest, farthest) or nearest == farthest
        before.append(candidates[k])
        previous = distance


def test_the_training_set_counts() -> None:
    """A candidate beside a known structure is taken last, however it is ordered."""
    candidates = np.array([[0.1], [5.0], [9.0]])
    known = np.array([[0.0], [10.0]])
    found = chosen(candidates, known, duplicate_distance=0.0)
    assert list(found.indices) == [1, 2, 0]


def chosen(candidates: np.ndarray, known: np.ndarray, kinds: Any = None, of_known: Any = None, **changes: Any) -> Any:
    n = len(candidates)
    arguments = {
        "sigma": np.ones(n),
        "sane": np.ones(n, bool),
        "sigma_min": 0.5,
        "budget": 5,
        "duplicate_distance": 0.1,
    }
    arguments |= changes
    kinds = np.zeros(n, int) if kinds is None else np.array(kinds)
    of_known = np.zeros(len(known), int) if of_known is None else np.array(of_known)
    return select_fps(Places(candidates, kinds), Places(known, of_known), **arguments)


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
    """Distances are in units of those in the training set."""
    rng = np.random.default_rng(seed)
    candidates, known, shift = rng.normal(size=(12, 3)), rng.normal(size=(6, 3)), rng.normal(size=3)
    one, two = chosen(candidates, known), chosen(unit * (candidates + shift), unit * (known + shift))
    np.testing.assert_array_equal(one.indices, two.indices)
    np.testing.assert_allclose(one.distances, two.distances, rtol=1e-9)


def test_the_first_is_the_farthest_from_the_training_set() -> None:
    known = np.array([[-1.0], [1.0]])  # neighbours are at a distance of 2
    found = chosen(np.array([[1.9], [-4.0], [0.0], [5.0]]), known)
    assert list(found.indices) == [3, 1, 2, 0]
    np.testing.assert_allclose(found.distances, [2.0, 1.5, 0.5, 0.45])


@pytest.mark.parametrize("n_known", [0, 3])
def test_no_candidates(n_known: int) -> None:
    found = chosen(np.empty((0, 2)), np.ones((n_known, 2)))
    assert found.indices.shape == found.distances.shape == (0,)
    assert found.indices.dtype == np.intp
    assert (found.n_sigma, found.n_unphysical, found.n_duplicate) == (0, 0, 0)


def test_nothing_is_known() -> None:
    """The scale is then that of the candidates themselves: of distances 0.05, 0.05, 2.95 and 3 the median is 1.5."""
    found = chosen(np.array([[0.0], [0.05], [3.0], [6.0]]), np.empty((0, 1)))
    assert list(found.indices) == [0, 3, 2]
    np.testing.assert_allclose(found.distances, [np.inf, 4.0, 2.0])
    assert found.n_duplicate == 1


def test_each_is_counted_once_and_for_its_first_reason() -> None:
    candidates = np.array([[0.0], [9.0], [9.0], [9.05], [1.0], [20.0]])
    given_ = {
        "sigma": np.array([0.1, 0.1, 1.0, 1.0, np.inf, np.nan]),
        "sane": np.array([True, False, True, True, True, True]),
    }
    known = np.array([[1.0], [2.0]])
    found = chosen(candidates, known, **given_)
    assert list(found.indices) == [3]
    assert (found.n_sigma, found.n_unphysical, found.n_duplicate) == (3, 0, 2)
    none = chosen(candidates, known, budget=0)
    assert len(none.indices) == 0
    assert none.n_duplicate == 1


# --- whose scale counts -----------------------------------------------------------------------------------------------

LINE = np.arange(5.0)[:, None]


def test_other_compositions_do_not_make_a_distance_small() -> None:
    """Two compositions 1000 apart, in which neighbours are 1 apart: what is new in one of them is selected."""
    known, kinds = np.concatenate([LINE, LINE + 1000]), [0] * 5 + [1] * 5
    found = chosen(np.array([[7.0], [1007.0], [4.01]]), known, [0, 1, 0], kinds)
    assert sorted(found.indices) == [0, 1]
    np.testing.assert_allclose(found.distances, 3.0)
    assert found.n_duplicate == 1


def test_several_volumes_do_not_either() -> None:
    """One composition at six volumes 100 apart, each of them with neighbours that are 1 apart."""
    known = np.concatenate([LINE[:3] + 100 * volume for volume in range(6)])
    found = chosen(np.array([[4.0], [2.5], [503.0], [2.05]]), known)
    assert list(found.indices) == [0, 2, 1]
    np.testing.assert_allclose(found.distances, [2.0, 1.0, 0.5])
    assert found.n_duplicate == 1


def test_each_kind_has_its_own_scale() -> None:
    """Of two kinds whose neighbours are 1 and 100 apart, what is two such distances away is equally new."""
    known, kinds = np.concatenate([LINE, 100 * LINE - 5000]), [0] * 5 + [1] * 5
    found = chosen(np.array([[6.5], [-4800.0 - 200.0 * 2]]), known, [0, 1], kinds)
    assert list(found.indices) == [0, 1]
    np.testing.assert_allclose(found.distances, [2.5, 2.0])


def test_a_composition_never_seen_comes_first() -> None:
    """Whatever the training set looks like: it is far in the scale of its own candidates."""
    known = 100 * LINE
    candidates = np.array([[700.0], [50.0], [50.001], [52.0], [55.0]])
    found = chosen(candidates, known, [0, 1, 1, 1, 1])
    assert list(found.indices) == [1, 0, 4, 3]
    np.testing.assert_allclose(found.distances, [25.0, 3.0, 2.5, 1.0], rtol=1e-3)
    assert found.n_duplicate == 1  # of its own twin


@pytest.mark.parametrize("known", [np.empty((0, 1)), np.array([[3.0]]), np.array([[3.0], [3.0]])])
def test_where_nothing_tells_a_scale_any_difference_is_a_large_one(known: np.ndarray) -> None:
    """One candidate of a kind that has no other structure, beside one that is known."""
    found = chosen(np.array([[3.1], [3.0]]), known, [1, 0] if len(known) else [1, 2])
    assert 0 in found.indices
    assert found.distances[0] == np.inf
    assert found.n_duplicate == (1 if len(known) else 0)


def test_one_structure_of_a_kind_is_measured_by_the_candidates() -> None:
    found = chosen(np.array([[10.0], [0.04], [1.0]]), np.array([[0.0]]))  # neighbours: 0.04, 0.04, 0.96, 9
    assert list(found.indices) == [0, 2]
    np.testing.assert_allclose(found.distances, [20.0, 2.0])


# --- what sigma says --------------------------------------------------------------------------------------------------


def test_what_the_committee_is_unsure_of_is_no_duplicate_of_what_is_known() -> None:
    """But one of two that nearly coincide is enough, and a copy of what is known is known."""
    candidates = np.array([[1.02], [1.03], [2.5], [3.0 + 1e-9], [3.04]])
    unsure = np.array([True, True, True, True, False])
    found = chosen(candidates, LINE, unsure=unsure, duplicate_distance=0.05)
    assert list(found.indices) == [2, 1]
    np.testing.assert_allclose(found.distances, [0.5, 0.03])
    assert found.n_duplicate == 3


def test_what_has_been_calculated_is_not_asked_for_again() -> None:
    """Not even where its label is not there, as the calculation failed."""
    settled = np.array([True, False])
    found = chosen(np.array([[50.0], [20.0]]), LINE, settled=settled, unsure=np.ones(2, bool))
    assert list(found.indices) == [1]
    assert (found.n_unphysical, found.n_duplicate) == (0, 1)
    none = chosen(np.array([[50.0], [20.0]]), LINE, settled=settled, duplicate_distance=0.0, budget=9)
    assert list(none.indices) == [1]


def test_twins_in_the_training_set_do_not_make_the_scale() -> None:
    known = np.concatenate([LINE, LINE + 1e-5])
    found = chosen(np.array([[6.0]]), known)
    np.testing.assert_allclose(found.distances, 2.0, rtol=1e-4)


def test_none_is_chosen_twice_without_a_distance_between_duplicates() -> None:
    found = chosen(np.zeros((4, 1)), np.zeros((1, 1)), budget=9, duplicate_distance=0.0)
    assert sorted(found.indices) == [0, 1, 2, 3]
    assert found.n_duplicate == 0
