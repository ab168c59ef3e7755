"""Labels joined: nothing is lost, and nothing gets mixed up."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from alflow.records.electrons import Electrons
from alflow.records.label import LabelRecord

from some_records import GFN1, labels_of, water


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())


def test_join_keeps_the_order() -> None:
    one, two = labels_of(water(), water(2)), labels_of(failed=(water(3),), detail="end of log")
    both = LabelRecord.join([one, two, one], "method")
    assert [len(frame) for frame in both.frames] == [3, 6, 3, 6]
    assert_same_bits(both.wall_time, np.tile(one.wall_time, 2))
    assert both.failed_detail == ("end of log",)
    assert both.method == "method"
    empty = LabelRecord.join([], "method")
    assert empty.frames == empty.baseline == ()
    assert_same_bits(empty.wall_time, np.zeros(0))
    assert_same_bits(empty.baseline_energy, np.zeros(0))
    assert_same_bits(empty.baseline_forces, np.zeros((0, 3)))


def test_join_keeps_the_results_of_every_baseline() -> None:
    """Those of each label stay with it; where there is no baseline or it failed they are NaN."""
    nan = float("nan")
    parts = [
        labels_of(water(2), water()),
        labels_of(water(3), baseline="other", energy=-5.0),
        labels_of(failed=(water(),)),
    ]
    parts += [labels_of(water(), baseline="", energy=nan), labels_of(water(2), energy=nan)]
    both = LabelRecord.join(parts, "method")
    assert both.baseline == (GFN1, GFN1, "other", "", GFN1)
    assert_same_bits(both.baseline_energy, np.array([-3.0, -3.0 + 1 / 7, -5.0, nan, nan]))
    assert_same_bits(both.baseline_forces, np.concatenate([part.baseline_forces for part in parts]))


def test_results_of_a_baseline_are_known_by_its_identity() -> None:
    one, two = labels_of(water(2), water()), labels_of(water(3), baseline="other", energy=-5.0)
    failed = replace(labels_of(water()), baseline_energy=np.full(1, np.nan), baseline_forces=np.full((3, 3), np.nan))
    both = LabelRecord.join([one, two, failed], "method")
    found = both.baseline_results(GFN1)
    assert [result is None for result in found] == [False, False, True, True]
    for result, energy, forces in zip(found[:2], one.baseline_energy, np.split(one.baseline_forces, [6]), strict=True):
        assert result[0] == energy
        assert_same_bits(result[1], forces)
    (other,) = (result for result in both.baseline_results("other") if result is not None)
    assert other[0] == -5.0
    assert_same_bits(other[1], two.baseline_forces)
    assert both.baseline_results("none of them") == [None] * 4


def test_where_all_labels_failed_there_are_no_results_of_a_baseline() -> None:
    assert labels_of(failed=(water(),)).baseline_results(GFN1) == []
    assert LabelRecord.join([], "method").baseline_results(GFN1) == []


def test_properties_of_some_labels_are_not_a_number_for_the_others() -> None:
    empty = LabelRecord.empty("method")
    first = empty.with_label(
        "a", water(), 0, "code", properties={"dipole": np.ones(3)}, atom_properties={"magmoms": np.ones(3)}
    )
    second = empty.with_label("b", water(2), 0, "code", atom_properties={"magmoms": np.full((6, 3), 2.0)}, cores=8)
    both = LabelRecord.join([first, second, first], "method")
    nan = np.full(3, np.nan)
    np.testing.assert_array_equal(both.properties["dipole"], [np.ones(3), nan, np.ones(3)])
    np.testing.assert_array_equal(both.atom_properties["magmoms"], [1, 1, 1, *[np.nan] * 6, 1, 1, 1])
    np.testing.assert_array_equal(both.atom_properties["magmoms_3"], [nan] * 3 + [[2, 2, 2]] * 6 + [nan] * 3)
    np.testing.assert_array_equal(both.cores, [0, 8, 0])


def test_levels_stay_with_their_label() -> None:
    levels = Electrons(1.5, np.arange(4.0).reshape(1, 2, 2), np.ones((1, 2, 2)), np.array([0.25, 0.75]))
    record = LabelRecord.empty("method").with_label("a", water(), 0, "code", electrons=levels, plain_energy=-1.5)
    both = LabelRecord.join([LabelRecord.empty("method").with_label("b", water(), 0, "code"), record], "method")
    assert np.isnan(both.electrons[0].fermi_energy)
    assert both.electrons[1] is levels
    np.testing.assert_array_equal(both.plain_energy, [np.nan, -1.5])


def test_all_parts_together_are_the_whole() -> None:
    record = labels_of(water(), water(2), failed=(water(),))
    record = record.with_label("z", water(3), 1.0, "code", properties={"dipole": np.ones(3)}, cores=2)
    parts = [*record.parts()]
    assert [len(part.failed_ids) for part in parts] == [0, 0, 0]
    again = LabelRecord.join(parts, record.method)
    assert (again.ids, again.frames, again.code, again.electrons) == (
        record.ids, record.frames, record.code, record.electrons
    )  # fmt: skip
    for name in ("wall_time", "cores", "baseline_energy", "baseline_forces", "baseline_stress", "plain_energy"):
        assert_same_bits(getattr(again, name), getattr(record, name))
    np.testing.assert_array_equal(again.properties["dipole"], record.properties["dipole"])


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_properties_of_two_shapes_are_kept_in_any_order(order: tuple[int, ...]) -> None:
    """Joined one after the other, or all at once: no value is lost, and none is another's."""
    empty = LabelRecord.empty("method")
    vectors, numbers = np.arange(9.0).reshape(3, 3), np.array([7.0, 8.0, 9.0])
    records = [
        empty.with_label("v", water(), 0, "code", atom_properties={"magmoms": vectors}),
        empty.with_label("n", water(), 0, "code", atom_properties={"magmoms": numbers}),
        empty.with_label("o", water(), 0, "code"),
    ]
    chosen = [records[k] for k in order]
    at_once = LabelRecord.join(chosen, "method")
    by_turns = LabelRecord.join([LabelRecord.join(chosen[:2], "method"), chosen[2]], "method")
    other = LabelRecord.join([chosen[0], LabelRecord.join(chosen[1:], "method")], "method")
    for joined in (at_once, by_turns, other):
        for index, name in enumerate(joined.ids):
            rows = slice(3 * index, 3 * index + 3)
            kept = [values[rows] for values in joined.atom_properties.values() if not np.isnan(values[rows]).any()]
            expected = {"v": [vectors], "n": [numbers], "o": []}[name]
            assert len(kept) == len(expected)
            for a, b in zip(kept, expected, strict=True):
                np.testing.assert_array_equal(a, b)
