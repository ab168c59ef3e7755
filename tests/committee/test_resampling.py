"""Which members see which structures."""

import itertools
from pathlib import Path

import alflow
import numpy as np
import pytest
from alflow.committee.hadamard import hadamard
from alflow.committee.resampling import Resampling, deal, is_complete, seen_groups
from alflow.errors import PotentialError
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st

from lj_frames import SMALL, bonded, labelled, water

WHOLE = [2, 4, 8, 16, 24, 32, 40, 48, 64]
MEMBERS = [*WHOLE, 3, 5, 6, 7, 10, 12, 20, 25]


@pytest.mark.parametrize("n_rows", range(1, 70))
def test_rows_and_columns_of_a_hadamard_matrix_are_orthogonal(n_rows: int) -> None:
    matrix = hadamard(n_rows)
    order = len(matrix)
    assert order >= n_rows
    assert set(np.unique(matrix)) <= {-1, 1}
    np.testing.assert_array_equal(matrix @ matrix.T, order * np.eye(order))
    np.testing.assert_array_equal(matrix.T @ matrix, order * np.eye(order))


def test_orders_are_those_of_two_constructions() -> None:
    """Sylvester's and Paley's first, for primes; of multiples of four up to 68 the others are 28, 36, 52 and 56."""
    assert sorted({len(hadamard(n)) for n in range(1, 69)}) == [1, 2, 4, 8, 12, 16, 20, 24, 32, 40, 44, 48, 60, 64, 68]


@pytest.mark.parametrize("n_members", MEMBERS)
def test_the_design_is_balanced(n_members: int) -> None:
    """Members see one group of each pair; any two share a quarter or, complements, nothing; groups are seen by half."""
    seen = seen_groups(n_members)
    n_groups = seen.shape[1]
    assert n_groups % 2 == 0
    np.testing.assert_array_equal(seen[:, ::2], ~seen[:, 1::2])
    shared = (seen.astype(int) @ seen.T)[np.triu_indices(n_members, 1)]
    # No quarter of two groups, nor of four in pairs: complements are all there is.
    assert set(shared) <= {0, n_groups // 4} or n_groups == 2
    assert np.sum(shared == 0) == n_members // 2
    assert set(seen.sum(axis=0)) == {n_members // 2, (n_members + 1) // 2}
    assert is_complete(n_members) == (n_members in WHOLE)
    if is_complete(n_members):
        assert n_groups == n_members


@pytest.mark.parametrize("n_members", [8, 16, 24])
def test_half_samples_give_the_mean_and_its_variance(n_members: int) -> None:
    """Of what is linear in the data, McCarthy (1969): the mean exactly, and sum of d^2 / (2 L)^2 over the L pairs."""
    rng = np.random.default_rng(n_members)
    values = rng.normal(size=n_members)  # of the groups
    seen = seen_groups(n_members)
    of_members = seen @ values / seen.sum(axis=1)
    assert of_members.mean() == pytest.approx(values.mean(), abs=1e-14)
    differences = values[::2] - values[1::2]
    assert np.var(of_members) == pytest.approx(np.sum(differences**2) / n_members**2)
    # Judges of a group differ by the other pairs only, and in their mean these count alike.
    for group in range(n_members):
        judges = seen[~seen[:, group]]
        others = np.delete(np.arange(n_members), [group, group ^ 1])
        np.testing.assert_array_equal(judges[:, others].mean(axis=0), 0.5)


kinds_and_twins = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=60)


def _twins(draws: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Kinds, and of each structure the first of its twins; of four, one is the twin of one before."""
    kinds = [kind for kind, _ in draws]
    first = list(range(len(draws)))
    for k, (kind, twin) in enumerate(draws):
        alike = [j for j in range(k) if kinds[j] == kind]
        if twin == 0 and alike:
            first[k] = first[alike[-1]]
    return kinds, first


@given(kinds_and_twins, st.sampled_from(MEMBERS), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_every_member_sees_half_of_each_kind(draws: list[tuple[int, int]], n_members: int, seed: int) -> None:
    """To within one set of twins; twins are together; what comes later changes nothing."""
    kinds, first = _twins(draws)
    groups = deal(kinds, first, n_members, seed)
    np.testing.assert_array_equal(groups, groups[first])
    seen = seen_groups(n_members)
    for kind in set(kinds):
        sets = sorted({f for k, f in zip(kinds, first, strict=True) if k == kind})
        counts = seen[:, groups[sets]].sum(axis=1)
        assert np.abs(2 * counts - len(sets)).max() <= 1
    for n in (len(draws) // 3, len(draws) - 1):
        np.testing.assert_array_equal(deal(kinds[:n], first[:n], n_members, seed), groups[:n])


@given(st.integers(1, 200), st.sampled_from(MEMBERS), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_groups_of_one_kind_are_of_one_size(n: int, n_members: int, seed: int) -> None:
    sizes = np.bincount(deal([0] * n, range(n), n_members, seed), minlength=seen_groups(n_members).shape[1])
    assert sizes.max() - sizes.min() <= 1


def test_what_is_alone_of_its_kind_stands_opposite_another() -> None:
    """Fifty molecules of fifty compositions: every member sees 25."""
    groups = deal(range(50), range(50), 16, 0)
    assert set(seen_groups(16)[:, groups].sum(axis=1)) == {25}


def test_one_that_came_ten_times_counts_once() -> None:
    """Else all others of its kind were put opposite it."""
    groups = deal([0] * 30, [0] * 10 + list(range(10, 30)), 8, 0)
    assert np.bincount(groups[10:], minlength=8).max() <= 4


def test_the_seed_decides() -> None:
    one, other = (deal([0] * 32, range(32), 16, seed) for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_twins_in_several_kinds_stay_together() -> None:
    groups = deal(["initial"] * 4 + ["cycle 1"] * 4, [0, 1, 2, 3, 0, 1, 6, 7], 8, 0)
    assert list(groups[4:6]) == list(groups[:2])


def test_what_is_said_of_it() -> None:
    alone = Resampling.of(["a"] * 8, range(8), 8, 0).remarks(["a"] * 8)
    said = "each member sees 4 of 8 structures, in 1 kind (by system, composition and origin)"
    assert alone == (f"{said}; largest difference between those seen and not seen of a kind: 0",)
    kinds = ["a"] * 4 + ["b"] * 3
    found = Resampling.of(kinds, [0, 1, 2, 2, 4, 5, 5], 7, 0).remarks(kinds)
    assert found[0].startswith("each member sees 2 to 5 of 7 structures, in 2 kinds")
    assert found[0].endswith("largest difference between those seen and not seen of a kind: 2")
    assert found[1].startswith("2 structures nearly coincide with earlier ones (structure 3 with structure 2, ...)")
    assert found[2].startswith("7 members are a part of a design of 8")


def test_a_committee_deals_by_system_config_type_and_origin() -> None:
    frames = labelled(water(), 12)
    for k, frame in enumerate(frames):
        frame.info = {"config_type": "liquid" if k % 3 else "ice"}
    committee = alflow.fit(frames, **SMALL)
    seen, groups = committee.resampling.seen, committee.resampling.groups
    assert committee.training.origins[:2] == ("config_type ice", "config_type liquid")
    assert set(seen[:, groups[::3]].sum(axis=1)) == {2}
    assert "each member sees 6 of 12 structures, in 2 kinds" in committee.remarks[0]
    committee.update(labelled(water(), 4, seed=5), origins=["cycle 1"] * 4)
    np.testing.assert_array_equal(committee.resampling.groups[:12], groups)
    assert set(seen[:, committee.resampling.groups[12:]].sum(axis=1)) == {2}
    odd = labelled(water(), 2, seed=8)
    odd[0].info, odd[1].info = {"config_type": np.array([1, 2])}, {"config_type": 0}
    committee.update(odd)
    assert committee.training.origins[-2:] == ("config_type [1 2]", "config_type 0")
    with pytest.raises(PotentialError, match="origins: expected one for each of 4 structures, found 1"):
        committee.update(labelled(water(), 4, seed=6), origins=["cycle 2"])


def test_neither_pieces_nor_a_file_in_between_change_a_bit(tmp_path: Path) -> None:
    """Energies of thousands of eV, two compositions, twins: fitted at once, in pieces, and after a reload."""
    mixed = list(itertools.chain.from_iterable(zip(bonded(water(), 10), bonded(water()[:3], 10, seed=1), strict=True)))
    for frame in mixed:
        frame.calc.results["energy"] -= 680.4 * len(frame)
    twin = mixed[0].copy()
    twin.positions += 1e-5
    twin.calc = SinglePointCalculator(twin, **{name: mixed[0].calc.results[name] for name in ("energy", "forces")})
    mixed.append(twin)
    whole = alflow.fit(mixed, **SMALL)
    pieces = alflow.fit(mixed[:3], **SMALL)
    pieces.update(mixed[3:11])
    pieces.save(tmp_path / "model.h5")
    reloaded = alflow.load(tmp_path / "model.h5")
    for committee in (pieces, reloaded):
        committee.update(mixed[11:])
        assert committee.model.coefficients.tobytes() == whole.model.coefficients.tobytes()
        assert committee.model.constants.tobytes() == whole.model.constants.tobytes()
        assert committee.judgement.energy.alpha == whole.judgement.energy.alpha
        assert committee.remarks == whole.remarks
