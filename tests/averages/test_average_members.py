"""Averages over walkers that single members drove: harmonic wells, whose averages are known, and the jackknife."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from alflow.averages.members import average_members
from alflow.averages.multistate import Mixture
from alflow.averages.results import MembersMethod, Reweighted
from alflow.averages.reweighting import Chunk, Quantity
from alflow.errors import AverageError
from numpy.typing import NDArray

Array = NDArray[np.float64]

QUANTITIES = (
    Quantity("position"),
    Quantity("energy"),
    Quantity("variance", lambda a: a[..., 1:] - a[..., :1] ** 2),
)


class Wells:
    """M harmonic wells in D dimensions, kT = 1, whose centres scatter by h kT of energy; a walker in each."""

    def __init__(self, h: float, n: int = 400, members: int = 8, seed: int = 0, tau: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.centres = rng.normal(scale=h / np.sqrt(3), size=(members, 3))
        self.zero = rng.normal(scale=5.0, size=members)
        memory = np.exp(-1 / tau) if tau else 0.0
        x, noise = rng.normal(size=(members, 3)), np.sqrt(1 - memory**2) * rng.normal(size=(n, members, 3))
        walks = []
        for kick in noise:
            x = memory * x + kick
            walks.append(self.centres + x)
        self.walks = np.swapaxes(walks, 0, 1)

    def energies(self, x: Array) -> Array:
        return 0.5 * np.sum((x[:, None] - self.centres) ** 2, axis=2) + self.zero

    def chunks(self, walks: Sequence[Array] | None = None, *, values: bool = True) -> Iterator[Chunk]:
        for m, x in enumerate(self.walks if walks is None else walks):
            energies = self.energies(x)
            first = x[:, :1]
            of = (first, energies[:, None, :], np.concatenate([first, first**2], axis=1)) if values else ()
            yield Chunk(m, energies, energies[:, m % len(self.zero)], of)

    def average(self, method: MembersMethod | None = None, drop: float | None = 0.0) -> Reweighted:
        drivers = range(len(self.walks))
        return average_members(
            self.chunks(values=False), self.chunks, QUANTITIES, 1.0, drivers, method=method, drop=drop
        )

    @property
    def exact(self) -> list[Array]:
        """Averages with each member, of each quantity."""
        return [self.centres[:, 0], 1.5 + self.zero, np.ones(len(self.zero))]


@pytest.mark.parametrize("method", ["mbar", "own"])
@pytest.mark.parametrize("h", [0.5, 2.0, 10.0])
def test_averages_are_those_of_the_wells(h: float, method: MembersMethod) -> None:
    wells = Wells(h, tau=2.0, n=1000)
    for average, exact in zip(wells.average(method).averages, wells.exact, strict=True):
        assert abs(average.value[0] - exact.mean()) < 4 * average.statistical[0]
        np.testing.assert_allclose(average.members[0, 0], exact, atol=0.5)
        scatter = exact.std(ddof=1)
        assert abs(average.model[0] - scatter) < 4 * average.model_noise[0]


@pytest.mark.parametrize("method", ["mbar", "own"])
def test_statistical_errors_are_right(method: MembersMethod) -> None:
    """Forty runs: the mean square of error over statistical error is 1, with a relative error of 0.22."""
    found = []
    for seed in range(40):
        wells = Wells(1.5, n=200, members=6, seed=seed, tau=1.0)
        averages = wells.average(method).averages
        found.append([(a.value[0] - e.mean()) / a.statistical[0] for a, e in zip(averages, wells.exact, strict=True)])
    squares = np.mean(np.square(found), axis=0)
    assert np.all((squares > 0.45) & (squares < 1.8)), squares


def test_where_all_overlap_frames_are_shared_and_otherwise_they_are_not() -> None:
    near, far = Wells(1.0).average(), Wells(10.0).average()
    assert (near.method, far.method) == ("mbar", "own")
    assert "all members overlap, each with another by" in near.reason
    assert "overlap with no other by 3 %" in far.reason
    assert near.kept > 1.5 / 8  # of all frames; each drove an eighth
    assert far.kept == pytest.approx(1 / 8)


def test_sharing_frames_makes_errors_smaller() -> None:
    wells = Wells(0.5)
    shared, own = (wells.average(method).averages[0] for method in ("mbar", "own"))
    assert shared.model_noise[0] < 0.5 * own.model_noise[0]


def test_each_member_alone_is_the_plain_average_of_its_walkers() -> None:
    wells = Wells(10.0, n=256)
    found = wells.average("own").averages
    x = wells.walks[:, :, 0]
    np.testing.assert_allclose(found[0].members[0, 0], x.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found[2].members[0, 0], x.var(axis=1), rtol=1e-10)
    assert found[0].value[0] == pytest.approx(x.mean())


def test_the_statistical_errors_of_members_are_taken_off_their_scatter() -> None:
    """Independent frames: the scatter of members squared, less the mean variance of their averages."""
    wells = Wells(0.0, n=4096, members=12)
    wells.centres[:, 0] = np.linspace(-0.03, 0.03, 12)
    wells.walks[:, :, 0] += wells.centres[:, :1]
    average = wells.average("own").averages[0]
    x = wells.walks[:, :, 0]
    noise = np.mean(x.var(axis=1, ddof=1) / x.shape[1])
    assert average.model[0] ** 2 == pytest.approx(x.mean(axis=1).var(ddof=1) - noise, abs=0.5 * noise)
    assert average.statistical[0] == pytest.approx(np.sqrt(noise / 12), rel=0.15)


@pytest.mark.parametrize("method", ["mbar", "own"])
def test_members_that_are_one_have_no_model_error(method: MembersMethod) -> None:
    """Or one that its own error explains: in half of the cases the difference is below zero."""
    found = [Wells(0.0, seed=seed).average(method).averages[0] for seed in range(20)]
    assert any(average.model[0] == 0 for average in found)
    assert np.mean([average.model[0] < average.model_noise[0] for average in found]) > 0.5


def test_the_change_without_a_block_is_that_of_solving_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """To first order: for blocks of 1/32 of a walker that drove a member out of 4."""
    monkeypatch.setattr("alflow.averages.reweighting.n_blocks", lambda *_: 16)
    wells = Wells(1.5, n=320, members=4)
    seen: list[tuple[Array, Array]] = []
    errors = "alflow.averages.run.Run.errors"
    monkeypatch.setattr(errors, lambda _, values: (seen.append(values), np.zeros(values.shape[1:]))[1])
    wells.average("mbar")
    jackknife = seen[0][:, 0]  # (K + 1,): of the mean position
    count = (len(jackknife) - 1) // 4
    for block in (0, count // 2, 2 * count + 1, 4 * count - 1):
        walker, part = divmod(block, count)
        length = 320 // count
        walks = list(wells.walks)
        walks[walker] = np.delete(walks[walker], slice(part * length, (part + 1) * length), axis=0)
        energies = [wells.energies(x) for x in walks]
        weights = Mixture.of(energies, range(4), 1.0).weights(np.concatenate(energies))
        again = np.mean(np.concatenate(walks)[:, 0] @ weights)
        change = again - jackknife[0]
        assert jackknife[block + 1] - jackknife[0] == pytest.approx(change, rel=0.1, abs=2e-5)


def test_a_run_that_goes_on_while_it_is_averaged() -> None:
    wells = Wells(1.0, n=200)
    grown = [np.concatenate([x, x[:50] + 100]) for x in wells.walks]
    longer = [*grown, grown[0]]  # and a walker that began meanwhile
    found = average_members(
        wells.chunks(values=False), lambda: wells.chunks(longer), QUANTITIES, 1.0, range(9), drop=0.25
    )
    assert (found.n_frames, found.n_dropped) == (8 * 150, 8 * 50)
    later = Wells(1.0, n=200)
    later.walks = later.walks[:, 50:]
    np.testing.assert_allclose(found.averages[0].members, later.average("mbar").averages[0].members, rtol=1e-9)


def test_a_walker_that_is_late_is_found() -> None:
    wells = Wells(1.0, n=400)
    wells.walks[3, :60] += np.linspace(20, 0, 60)[:, None]
    found = wells.average(drop=None)
    assert 50 <= found.n_dropped < 200


def test_a_member_without_frames_is_reweighted_or_left_out() -> None:
    wells = Wells(0.5)
    for method in ("mbar", "own"):
        found = average_members(
            list(wells.chunks(wells.walks[:7], values=False)),
            lambda: wells.chunks(wells.walks[:7]),
            QUANTITIES,
            1.0,
            range(8),
            method=method,
            drop=0.0,
        )
        members = found.averages[0].members[0, 0]
        assert np.isnan(members[7]) == (method == "own")
        assert "no frames are there that these members drove: 7" in found.notes
        np.testing.assert_allclose(members[:7], wells.centres[:7, 0], atol=0.2)


def test_models_of_a_property_of_their_own() -> None:
    """The parts of the model error: of four models that differ by a constant, and of the members."""
    wells = Wells(3.0, n=2000)
    constants = np.array([-1.0, 0.0, 0.5, 2.0])

    def chunks() -> Iterator[Chunk]:
        for chunk in wells.chunks():
            yield Chunk(chunk.walker, chunk.energies, chunk.driving, (chunk.values[0] + constants,))

    found = average_members(
        wells.chunks(values=False), chunks, [Quantity("with models", n_models=4)], 1.0, range(8), drop=0.0
    ).averages[0]
    assert found.members.shape == (1, 4, 8)
    assert found.sigma_a[0] == pytest.approx(constants.std(ddof=1))
    assert found.sigma_aV[0] == pytest.approx(wells.centres[:, 0].std(ddof=1), rel=0.1)
    every = 4 * 8 - 1
    assert found.model[0] ** 2 == pytest.approx(
        8 * 3 / every * found.sigma_a[0] ** 2 + 4 * 7 / every * found.sigma_aV[0] ** 2
    )


def test_what_cannot_be_averaged_is_said() -> None:
    wells = Wells(1.0)
    with pytest.raises(AverageError, match="fewer than two members have driven two frames or more"):
        average_members(wells.chunks(wells.walks[:1], values=False), wells.chunks, QUANTITIES, 1.0, range(8))
    with pytest.raises(AverageError, match="drop: expected a share of 0 or more and less than 1, found 1"):
        wells.average(drop=1.0)
    with pytest.raises(AverageError, match="fewer than two members have two blocks of frames: expected a longer run"):
        wells.average("own", drop=0.999)
    wells.walks[2, 5] = np.nan
    with pytest.raises(AverageError, match="member energies: not finite in frame 805"):
        wells.average()
