"""Averages in the ensembles of the members: closed forms, i-PI's own tool, identities."""

import importlib.util
import shutil
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from alflow.averages.blocks import BLOCKS, Blocks, Origin, joined, n_blocks, relative_to
from alflow.averages.reweighting import KEPT_MIN, Chunk, Quantity, Reweighted, decompose, reweight
from alflow.errors import AverageError
from hypothesis import given, settings
from hypothesis import strategies as st

KT = 0.025


def run(energies, driving, *values, n_models=1, finish=None, size=512, walkers=1, **options) -> Reweighted:
    """Average arrays held in memory: walkers one after the other, in pieces."""
    quantities = [Quantity("a", finish or (lambda x: x), n_models)] * len(values)
    parts = [np.array_split(x, walkers) for x in (energies, driving, *values)]
    chunks = (
        Chunk(w, parts[0][w][k : k + size], parts[1][w][k : k + size], [v[w][k : k + size] for v in parts[2:]])
        for w in range(walkers)
        for k in range(0, len(parts[0][w]), size)
    )
    return reweight(chunks, quantities, KT, n_walkers=walkers, **options)


@pytest.fixture(scope="module")
def peer() -> ModuleType:
    """i-PI's i-pi-committee-reweight, as a module."""
    script = Path(sys.executable).parent / "i-pi-committee-reweight"
    if not script.exists():
        script = Path(shutil.which("i-pi-committee-reweight") or pytest.skip("i-PI is not installed"))
    loader = SourceFileLoader("committee_reweight", str(script))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("committee_reweight", loader))
    loader.exec_module(module)
    return module


def committee(rng: np.random.Generator, n: int, n_members: int, spread: float = 0.5):
    """Energies about their mean with a spread in units of kT, and observables correlated with them."""
    mean = rng.normal(-500, 10 * KT, size=n)
    energies = mean[:, None] + spread * KT * rng.normal(size=(n, n_members))
    values = rng.normal(size=(n, 3)) + (energies[:, :1] - mean[:, None]) / KT
    return energies, energies.mean(axis=1), values


@pytest.mark.parametrize("size", [7, 512, 10_000])
@pytest.mark.parametrize(("method", "function"), [("direct", "direct_reweight"), ("cea", "CEA")])
def test_members_agree_with_ipi(peer: ModuleType, method: str, function: str, size: int) -> None:
    energies, driving, values = committee(np.random.default_rng(0), 3000, 7)
    expected = getattr(peer, function)(energies, values, KT)[0]
    found = run(energies, driving, values, method=method, size=size, drop=0.0).averages[0]
    np.testing.assert_allclose(found.members[:, 0], np.asarray(expected, dtype=float), rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.value, np.asarray(expected, dtype=float).mean(axis=1), rtol=0, atol=1e-10)


def test_models_agree_with_ipi_where_its_arguments_are_in_their_place(peer: ModuleType) -> None:
    """Its uncertainty_CEA_multiple_models hands CEA the observable for the potential: given both swapped, once more."""
    energies, driving, values = committee(np.random.default_rng(1), 2000, 5)
    expected = peer.CEA(energies, values, KT)[0]
    found = run(energies, driving, values, method="cea", n_models=3, drop=0.0).averages[0]
    assert found.value[0] == pytest.approx(values.mean(), abs=1e-10)
    assert found.sigma_a[0] == pytest.approx(np.std(values.mean(axis=0), ddof=1), abs=1e-10)
    assert found.sigma_aV[0] == pytest.approx(np.sqrt(np.mean(np.var(expected, axis=1, ddof=1))), abs=1e-10)
    mean, a, _, _ = peer.uncertainty_CEA_multiple_models(energies, values, KT)
    assert (mean, np.sqrt(a)) == pytest.approx((found.value[0], found.sigma_a[0]), abs=1e-10)


def test_equal_members_give_no_error_of_the_potential() -> None:
    _, driving, values = committee(np.random.default_rng(1), 500, 5)
    for method in ("direct", "cea"):
        found = run(np.repeat(driving[:, None], 4, axis=1), driving, values, method=method, n_models=3).averages[0]
        assert found.sigma_aV[0] == pytest.approx(0, abs=1e-12)
        assert found.sigma_a[0] > 0


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6), st.integers(2, 8), st.integers(0, 1000))
def test_the_parts_of_the_error_add_up_to_the_variance_of_all_values(n_models: int, n_members: int, seed: int) -> None:
    members = np.random.default_rng(seed).normal(size=(3, n_models, n_members)) * 10.0 ** (seed % 5)
    _, _, sigma = decompose(members)
    np.testing.assert_allclose(sigma**2, members.reshape(3, -1).var(axis=1, ddof=1), rtol=1e-12)


def harmonic(seed: int, n: int, stiffer: np.ndarray, d: int = 20, tau: float = 0.0):
    """d oscillators with k = 1 eV/Å^2 sampled exactly, and members whose k is (1 + stiffer) times as large.

    tau: correlation time of the (Ornstein-Uhlenbeck) series, in frames.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    if tau:
        keep = np.exp(-1 / tau)
        for k in range(1, n):
            x[k] = keep * x[k - 1] + np.sqrt(1 - keep**2) * x[k]
    square = KT * (x**2).sum(axis=1)
    driving = square / 2
    return driving[:, None] * (1 + stiffer), driving, square[:, None]


SMALL = np.array([-0.1, -0.05, 0.0, 0.06, 0.12])


@pytest.mark.parametrize("method", ["direct", "cea"])
@pytest.mark.parametrize("tau", [0.0, 8.0])
def test_harmonic_averages_are_exact_within_their_statistical_error(method: str, tau: float) -> None:
    """<x^2>_m = d kT/k_m. What is known in closed form of the CEA is its first order, d kT (1 - stiffer)."""
    d = 20
    known = d * KT * (1 / (1 + SMALL) if method == "direct" else 1 - SMALL)
    z = []
    for seed in range(60):
        found = run(*harmonic(seed, 2000, SMALL, d, tau), method=method, drop=0.0).averages[0]
        z.append((found.value[0] - known.mean()) / found.statistical[0])
        z.append((found.model[0] - known.std(ddof=1)) / found.model_noise[0])
        assert found.driven[0] == pytest.approx(d * KT, abs=5 * found.driven_statistical[0])
    z = np.reshape(z, (60, 2))
    assert np.sqrt((z**2).mean(axis=0)) == pytest.approx([1.1, 1.1], abs=0.35)
    assert np.abs(z).max() < 5


def test_first_order_is_enough_for_members_that_differ_little() -> None:
    exact = 20 * KT / (1 + SMALL)
    found = run(*harmonic(0, 20_000, SMALL), method="cea").averages[0]
    assert found.value[0] == pytest.approx(exact.mean(), abs=3 * found.total[0])
    assert found.model[0] == pytest.approx(exact.std(ddof=1), rel=0.05)


def test_the_failure_of_the_cea_is_detected_and_said() -> None:
    large = np.array([-0.5, 0.3, 0.8, 1.2])
    failed = run(*harmonic(0, 5000, large), method="cea")
    exact = 20 * KT / (1 + large)
    assert abs(failed.averages[0].members[0, 0, -1] - exact[-1]) > 10 * failed.averages[0].statistical[0]
    assert any("next term of the cumulant expansion" in note for note in failed.notes)
    assert not run(*harmonic(0, 5000, SMALL), method="cea").notes


def test_the_method_is_chosen_by_the_spread_of_h() -> None:
    rng = np.random.default_rng(0)
    for spread, method in ((0.5, "direct"), (2.0, "cea")):
        energies, driving, values = committee(rng, 5000, 6, spread)
        found = run(energies, driving, values)
        assert found.method == method
        assert (found.kept >= KEPT_MIN) == (method == "direct")
        assert found.h_spread == pytest.approx(np.std((energies - driving[:, None]) / KT, axis=0), rel=0.1)
    forced = run(energies, driving, values, method="direct")
    assert any("a few frames dominate" in note for note in forced.notes)


def test_effective_frames_of_gaussian_h() -> None:
    """exp(-s^2) of the frames: Ceriotti et al."""
    rng = np.random.default_rng(3)
    driving = np.zeros(100_000)
    energies = KT * np.array([0.3, 0.7]) * rng.normal(size=(100_000, 2))
    assert run(energies, driving, driving[:, None]).kept == pytest.approx(np.exp(-0.49), rel=0.05)


def test_what_drove_the_run_is_what_is_reweighted_from() -> None:
    """A biased run gives the unbiased average: umbrella sampling of an oscillator by one of twice its stiffness."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=20_000) * np.sqrt(KT / 2)
    driving = x**2  # k = 2
    energies = 0.5 * x[:, None] ** 2 * np.array([0.95, 1.0, 1.05]) + 3.0
    found = run(energies, driving, (x**2)[:, None], method="direct").averages[0]
    assert found.driven[0] == pytest.approx(KT / 2, rel=0.05)
    assert found.members[0, 0] == pytest.approx(KT / np.array([0.95, 1.0, 1.05]), rel=0.1)


def test_quantities_of_a_member_are_averaged_in_its_own_ensemble() -> None:
    """Equipartition: <V_m>_m = d kT/2 for every member, although V_m differ on the same frames."""
    energies, driving, _ = harmonic(1, 50_000, SMALL)
    found = run(energies, driving, energies[:, None, :], method="direct").averages[0]
    assert found.members[0, 0] == pytest.approx(np.full(5, 10 * KT), rel=0.03)
    assert found.model[0] < 0.02 * 10 * KT


def test_a_nonlinear_function_of_averages() -> None:
    """A variance, from averages of the value and its square, with the error of the whole."""
    z = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = 100 + rng.normal(size=4000) * 2
        energies = rng.normal(size=(4000, 3)) * 1e-3
        values = np.stack([x, x**2], axis=1)
        found = run(energies, energies.mean(axis=1), values, finish=lambda a: a[..., 1:] - a[..., :1] ** 2, drop=0.0)
        z.append((found.averages[0].value[0] - 4) / found.averages[0].statistical[0])
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1.0, abs=0.3)


def test_walkers_that_disagree_have_a_larger_error() -> None:
    rng = np.random.default_rng(0)
    energies, driving, values = committee(rng, 4000, 4)
    values = rng.normal(size=(4000, 1))
    together = run(energies, driving, values, walkers=4).averages[0].statistical[0]
    apart = values + np.repeat([-1.0, -0.3, 0.3, 1.0], 1000)[:, None]
    found = run(energies, driving, apart, walkers=4).averages[0].statistical[0]
    assert together == pytest.approx(1 / np.sqrt(4000), rel=0.4)
    assert 0.2 < found < 0.8  # the four means scatter by 0.85, so their mean by 0.43
    assert found > 10 * together


def test_what_is_not_in_equilibrium_is_dropped_and_said() -> None:
    rng = np.random.default_rng(0)
    energies, driving, values = committee(rng, 5000, 4)
    start = np.exp(-np.arange(5000) / 150.0)
    shifted = energies + 300 * KT * start[:, None], driving + 300 * KT * start, values + 50 * start[:, None]
    found = run(*shifted)
    assert 300 < found.n_dropped < 2500
    assert found.n_frames == 5000 - found.n_dropped
    assert found.averages[0].driven[0] == pytest.approx(0, abs=0.1)
    assert run(*shifted, drop=0.0).averages[0].driven[0] > 1
    assert run(*shifted, drop=0.5).n_dropped == pytest.approx(2500, abs=64)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 3000), st.integers(1, 1000), st.integers(1, 3), st.integers(0, 10))
def test_pieces_and_blocks_do_not_change_averages(n: int, size: int, walkers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = max(n, 2 * walkers)
    energies, driving, values = committee(rng, n, 3)
    for method in ("direct", "cea"):
        found = run(energies, driving, values, size=size, walkers=walkers, method=method, drop=0.0)
        h = (energies - driving[:, None]) / KT
        w = np.exp(-h)
        expected = {
            "direct": (values.T @ w) / w.sum(axis=0),
            "cea": values.mean(axis=0)[:, None] - np.cov(values.T, h.T, ddof=0)[:3, 3:],
        }[method]
        np.testing.assert_allclose(found.averages[0].members[:, 0], expected, rtol=1e-9, atol=1e-9)
        assert found.n_frames == n


def test_blocks_stay_few() -> None:
    origin = Origin(np.zeros(2), 0.0, (np.zeros(1),))
    blocks = Blocks(origin)
    for _ in range(50):
        blocks.add(np.zeros((997, 2)), np.zeros(997), [np.ones((997, 1))])
        assert len(blocks.sums["n"]) <= 2 * BLOCKS
    short = Blocks(origin)
    short.add(np.ones((5, 2)), np.zeros(5), [np.ones((5, 1))])
    together = joined([blocks, short])
    assert [one["n"].sum() for one in together] == [50 * 997, 5]
    assert together[1]["n"].tolist() == [5]
    assert together[1]["low"].tolist() == [[1, 1]]
    assert relative_to(together[1], np.zeros(2))["w"][0] == pytest.approx(np.full(2, 5 * np.exp(-1)))


BAD = [
    ({"energies": np.zeros((5, 1))}, "two members or more, found 1"),
    ({"driving": np.zeros(4)}, "driving energies: expected 5 frames, as many as of member energies, found 4"),
    ({"values": np.zeros((3, 1))}, "a: expected 5 frames"),
    ({"energies": np.full((5, 2), np.nan)}, "member energies: not finite in frame 0"),
    ({"driving": np.array([0, 0, np.inf, 0, 0])}, "driving energies: not finite in frame 2"),
    ({"values": np.array([[0], [0], [0], [0], [np.nan]])}, "a: not finite in frame 4"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_what_cannot_be_averaged_is_refused(change: dict, message: str) -> None:
    arrays = {"energies": np.zeros((5, 2)), "driving": np.zeros(5), "values": np.zeros((5, 1))} | change
    chunk = Chunk(0, arrays["energies"], arrays["driving"], [arrays["values"]])
    with pytest.raises(AverageError, match=message):
        reweight([chunk], [Quantity("a")], KT)


def test_one_frame_is_refused() -> None:
    with pytest.raises(AverageError, match="expected two frames or more, found 1"):
        run(np.zeros((1, 2)), np.zeros(1), np.zeros((1, 1)))


@pytest.mark.parametrize("kT", [0.0, -1.0, np.nan, np.inf])
def test_a_temperature_that_is_none(kT: float) -> None:
    chunk = Chunk(0, np.zeros((5, 2)), np.zeros(5), [np.zeros((5, 1))])
    with pytest.raises(AverageError, match="kT: expected a number > 0"):
        reweight([chunk], [Quantity("a")], kT)


def test_energies_that_cannot_be_of_the_same_frames() -> None:
    with pytest.raises(AverageError, match=r"differ by 4e\+201 kT: expected energies of the same frames"):
        run(np.full((5, 2), 1e200), np.zeros(5), np.zeros((5, 1)))


@pytest.mark.parametrize("walkers", [2, 4])
def test_walkers_stuck_apart_are_as_many_values(walkers: int) -> None:
    """The error is that of W independent values, however long each walker is."""
    rng = np.random.default_rng(0)
    z = []
    for _ in range(400):
        places = np.repeat(rng.normal(size=walkers), 40)
        energies = rng.normal(size=(len(places), 3)) * 1e-4
        found = run(energies, energies.mean(axis=1), places[:, None], walkers=walkers, drop=0.0).averages[0]
        z.append([found.driven[0], found.driven_statistical[0]])
    error, stated = np.array(z).T
    assert np.mean(np.abs(error) < stated) == pytest.approx(0.68, abs=0.05)  # as Student's distribution says


@pytest.mark.parametrize(("parts", "walkers"), [(50, 4), (400, 64), (10_000, 4)])
def test_many_walkers_share_the_memory(parts: int, walkers: int) -> None:
    assert n_blocks(parts, 16, walkers) in {8, 16, 32, 64, 128}
    assert n_blocks(parts, 16, walkers) == 8 or 2 * n_blocks(parts, 16, walkers) * walkers * 64 * parts <= 16_000_000


def test_what_is_left_must_have_an_error() -> None:
    with pytest.raises(AverageError, match="fewer than two blocks of frames are left"):
        run(np.zeros((2, 2)), np.zeros(2), np.zeros((2, 1)), drop=0.9)


def test_members_that_change_their_number_are_refused() -> None:
    chunks = [Chunk(0, np.zeros((3, m)), np.zeros(3), [np.zeros((3, 1))]) for m in (2, 3)]
    with pytest.raises(AverageError, match="frame 3: expected 2 members as before, found 3"):
        reweight(chunks, [Quantity("a")], KT)


def test_a_constant_observable_has_no_error_and_that_is_said() -> None:
    energies, driving, _ = committee(np.random.default_rng(0), 500, 4)
    found = run(energies, driving, np.full((500, 1), 3.7))
    assert (found.averages[0].value[0], found.averages[0].total[0]) == (pytest.approx(3.7), 0)
    assert any("a is constant" in note for note in found.notes)


def test_a_beginning_far_away_does_not_count_once_it_is_dropped() -> None:
    """A member that is far below there leaves the weights of what is kept as they are."""
    energies, driving, values = committee(np.random.default_rng(0), 4000, 3)
    far = np.zeros((4000, 3))
    far[:200] = -1e3 * KT * np.array([0, 1, 2])
    for method in ("direct", "cea"):
        found = run(energies + far, driving, values, drop=0.1, method=method)
        plain = run(
            energies[found.n_dropped :], driving[found.n_dropped :], values[found.n_dropped :], method=method, drop=0
        )
        assert found.n_dropped >= 200
        assert found.kept == pytest.approx(plain.kept)
        np.testing.assert_allclose(found.averages[0].members, plain.averages[0].members, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spread", [0.5, 1.5])
@pytest.mark.parametrize("method", ["direct", "cea"])
def test_heat_capacity_of_scaled_members(method: str, spread: float) -> None:
    """Oscillators have kB/2 each whatever their stiffness: no error of the model, also where means are shifted."""
    if method == "direct" and spread > 1:
        pytest.skip("few frames would be left")
    d = 600
    stiffer = np.array([-1, -0.5, 0.5, 1]) * spread / np.sqrt(d / 2)
    energies, driving, _ = harmonic(3, 20_000, stiffer, d)
    parts = np.stack([energies, energies**2], axis=1)
    found = run(energies, driving, parts, method=method, finish=lambda a: (a[..., 1:] - a[..., :1] ** 2) / KT**2)
    average = found.averages[0]
    assert average.driven[0] == pytest.approx(d / 2, rel=0.1)
    assert average.value[0] == pytest.approx(d / 2, abs=4 * average.total[0])
    assert average.model[0] < 0.05 * d / 2


def test_what_was_never_visited_is_said() -> None:
    energies, driving, values = committee(np.random.default_rng(0), 500, 3)
    found = run(energies, driving, values, finish=lambda a: a * np.nan)
    assert any("never visited" in note for note in found.notes)


@pytest.mark.parametrize("drop", [1.0, -0.1, np.nan])
def test_a_share_to_drop_that_is_none(drop: float) -> None:
    with pytest.raises(AverageError, match="drop: expected a share"):
        run(np.zeros((5, 2)), np.zeros(5), np.zeros((5, 1)), drop=drop)


def test_a_member_that_would_visit_none_of_the_frames() -> None:
    """One frame has all the weight of that member; nothing is divided by zero with a warning."""
    energies, driving, values = committee(np.random.default_rng(0), 500, 3)
    energies[0, 0] -= 1e4 * KT
    found = run(energies, driving, values, drop=0.0)
    assert found.kept == pytest.approx(0, abs=1e-3)
    assert found.method == "cea"
