"""Walkers: repeatable in pieces, stopped by their bounds, and correctly thermostatted."""

from dataclasses import replace

import alflow
import numpy as np
import pytest
from alflow.averages.statistics import inefficiency
from alflow.committee.committee import Committee
from alflow.committee.protocol import Prediction
from alflow.records.sample import Segment
from alflow.reference.kinds import build
from alflow.sampling.walker import Bounds, Walker, run_segment
from alflow.state.file import commit_file, read_file
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed, Calculator
from ase.calculators.singlepoint import SinglePointCalculator

WIDE = Bounds(force_sigma=1e9, force=1e9, temperature=1e9, distance_ratio=0.0)


@pytest.fixture(scope="module")
def committee() -> Committee:
    rng = np.random.default_rng(0)
    method = build("tblite")
    frames = []
    for _ in range(16):
        atoms = molecule("H2O")
        atoms.positions += 0.05 * rng.normal(size=(3, 3))
        frames.append(method.calculate(atoms).frame)
    return alflow.fit(frames, n_members=8, n_max=4, l_max=2, n_features=60, cutoff=4.0)


def walker(start: Atoms, **changes: object) -> Walker:
    plain = Walker(
        start=start, temperature=300.0, timestep=0.5, friction=0.01, steps=40, stride=10, segment=10, bounds=WIDE,
        seed=7, key=(1, 0, 0),
    )  # fmt: skip
    return replace(plain, **changes)


def test_pieces_through_files_equal_the_whole(committee: Committee, tmp_path) -> None:
    """A walk read back from disk after every segment is, bit for bit, the walk that was never interrupted."""
    plan = walker(molecule("H2O"))
    ends = []
    for interrupted in (False, True):
        state = None
        for index in range(plan.n_segments):
            segment = run_segment(plan, index, state, committee)
            if interrupted:
                commit_file(tmp_path / f"{index}.h5", segment)
                segment = read_file(tmp_path / f"{index}.h5", Segment)
            state = segment.end[0]
        ends.append((state, segment))
    (a, x), (b, y) = ends
    np.testing.assert_array_equal(a.positions, b.positions)
    np.testing.assert_array_equal(a.get_momenta(), b.get_momenta())
    np.testing.assert_array_equal(x.energies, y.energies)
    assert x.stop == y.stop == "finished"
    assert x.end_step == 40


def test_frames_tell_everything(committee: Committee) -> None:
    segment = run_segment(walker(molecule("H2O"), segment=40), 0, None, committee)
    assert list(segment.step) == [0, 10, 20, 30, 40]
    calibration = committee.judgement.energy
    np.testing.assert_allclose(calibration.factor * segment.energy_spread, segment.energies.std(axis=1, ddof=1))
    np.testing.assert_allclose(segment.energy_sigma, calibration.sigma(segment.energy_spread, np.sqrt(3)))
    np.testing.assert_array_equal(segment.smallest_weight, 1.0)
    assert (segment.largest_grade > 0).all()
    np.testing.assert_allclose(segment.energy, segment.energies.mean(axis=1))
    for frame, temperature in zip(segment.frames, segment.temperature, strict=True):
        assert frame.get_temperature() == pytest.approx(temperature)
    other = run_segment(walker(molecule("H2O"), segment=40, key=(1, 0, 1)), 0, None, committee)
    assert not np.array_equal(other.frames[1].positions, segment.frames[1].positions)


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (replace(WIDE, force=1e-3), "force "),
        (replace(WIDE, temperature=1.0), "temperature "),
        (replace(WIDE, distance_ratio=2.0), "distance "),
        (replace(WIDE, force_sigma=1e-12), "force sigma "),
        (replace(WIDE, grade=1e-3), "extrapolation grade "),
    ],
)
def test_bounds_stop_the_walk_and_keep_the_frame(committee: Committee, bounds: Bounds, reason: str) -> None:
    segment = run_segment(walker(molecule("H2O"), bounds=bounds), 0, None, committee)
    assert segment.stop.startswith(reason)
    assert segment.end_step == 0
    assert len(segment.frames) == 1


class Harmonic(Calculator):
    """Every atom on a spring to the origin; beyond ``reach`` (Å) it fails as ``how`` says."""

    implemented_properties = ("energy", "forces")

    def __init__(self, k: float, reach: float = np.inf, how: str = "not a number") -> None:
        super().__init__()
        self.k, self.reach, self.how = k, reach, how

    def calculate(self, atoms=None, properties=("energy",), system_changes=()) -> None:
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions
        if np.abs(x).max() > self.reach:
            if self.how == "raises":
                raise CalculationFailed("no convergence\nin the details")
            x = np.nan * x
        self.results = {"energy": 0.5 * self.k * float(np.sum(x**2)), "forces": -self.k * x}


class Fake:
    """A committee of two that agree."""

    n_members = 2

    def __init__(self, calculator: Calculator) -> None:
        self.inner = calculator

    def calculator(self, *_: object) -> Calculator:
        return self.inner

    def predict(self, atoms: Atoms) -> Prediction:
        n = len(atoms)
        forces, atoms = np.zeros((n, 3)), np.zeros(n)
        return Prediction(
            0.0, np.zeros(2), 0.0, 0.0, forces, forces, forces, atoms, atoms, None, np.ones(n), calibrated=True
        )


@pytest.mark.parametrize(
    ("how", "reason"), [("not a number", "not finite: "), ("raises", "potential failed: no convergence")]
)
def test_a_step_that_fails_is_undone(how: str, reason: str) -> None:
    """The walk ends, and its last frame is the one before the step that could not be done."""
    plan = walker(Atoms("Ar"), segment=400, steps=400, stride=7)
    free = run_segment(replace(plan, stride=1), 0, None, Fake(Harmonic(1.0)))
    reach = float(np.abs([frame.positions for frame in free.frames[:34]]).max())
    first_beyond = next(i for i, frame in enumerate(free.frames) if np.abs(frame.positions).max() > reach)
    segment = run_segment(plan, 0, None, Fake(Harmonic(1.0, reach, how)))
    assert segment.stop.startswith(reason)
    assert "\n" not in segment.stop
    assert segment.end_step == segment.step[-1] == first_beyond - 1
    assert list(segment.step[:-1]) == list(range(0, first_beyond - 1, 7))
    np.testing.assert_array_equal(segment.frames[-1].positions, free.frames[first_beyond - 1].positions)
    np.testing.assert_array_equal(segment.end[0].get_momenta(), free.frames[first_beyond - 1].get_momenta())
    assert np.isfinite(segment.largest_force).all()


def test_a_start_that_is_not_finite_is_stopped_by_a_bound() -> None:
    start = Atoms("Ar", positions=[[1.0, 0, 0]])
    segment = run_segment(walker(start), 0, None, Fake(Harmonic(1.0, reach=0.5)))
    assert segment.stop.startswith("force nan")
    assert segment.end_step == 0


def test_a_start_that_cannot_be_evaluated_ends_the_walk(tmp_path) -> None:
    """A baseline that does not converge there: the walk says so, stores nothing, and the others go on."""
    start = Atoms("Ar", positions=[[1.0, 0, 0]])
    segment = run_segment(walker(start), 0, None, Fake(Harmonic(1.0, reach=0.5, how="raises")))
    assert segment.stop == "potential failed: no convergence"
    assert (segment.end_step, len(segment.frames)) == (0, 0)
    commit_file(tmp_path / "0.h5", segment)
    assert read_file(tmp_path / "0.h5", Segment).energies.shape == (0, 2)


def test_an_early_end_keeps_the_last_frame() -> None:
    """A bound left between two stored frames: that very frame is stored besides."""
    plan = walker(Atoms("Ar3", positions=3 * np.eye(3)), segment=400, steps=400, stride=50)
    free = run_segment(replace(plan, stride=1), 0, None, Fake(Harmonic(0.1)))
    limit = float(free.largest_force[:20].max())
    first = int(np.flatnonzero(free.largest_force > limit)[0])
    segment = run_segment(replace(plan, bounds=replace(WIDE, force=limit)), 0, None, Fake(Harmonic(0.1)))
    assert segment.stop == f"force {free.largest_force[first]:.3g} eV/Å > {limit:g}"
    assert list(segment.step) == [*range(0, first, 50), first]
    assert segment.end_step == first
    np.testing.assert_array_equal(segment.frames[-1].positions, segment.end[0].positions)


def test_a_last_segment_without_a_frame_is_kept(tmp_path) -> None:
    """45 steps, a frame each 20, durable each 20: the third segment ends the walk and stores nothing."""
    plan = walker(Atoms("Ar"), steps=45, stride=20, segment=20)
    assert plan.n_segments == 3
    state, segments = None, []
    for index in range(3):
        commit_file(tmp_path / f"{index}.h5", run_segment(plan, index, state, Fake(Harmonic(1.0))))
        segments.append(read_file(tmp_path / f"{index}.h5", Segment))
        state = segments[-1].end[0]
    assert [len(segment.frames) for segment in segments] == [2, 1, 0]
    assert [segment.energies.shape for segment in segments] == [(2, 2), (1, 2), (0, 2)]
    assert [segment.stop for segment in segments] == ["", "", "finished"]
    assert segments[-1].end_step == 45


def test_almost_no_friction_keeps_the_energy(committee: Committee) -> None:
    """50 fs without a thermostat: the total energy wanders by far less than the kinetic energy."""
    plan = walker(molecule("H2O"), temperature=900.0, friction=1e-9, steps=200, stride=8, segment=200, timestep=0.25)
    segment = run_segment(plan, 0, None, committee)
    kinetic = np.array([frame.get_kinetic_energy() for frame in segment.frames])
    total = segment.energy + kinetic
    assert np.ptp(kinetic) > 0.02
    assert np.ptp(total) < 0.02 * np.ptp(kinetic)


def test_temperature_of_a_harmonic_oscillator() -> None:
    """<x^2> = kT/k and <p^2/2m> = kT/2 for 200 independent oscillators, within four standard errors."""
    plan = walker(Atoms("Ar200"), timestep=4.0, friction=0.02, steps=3000, stride=50, segment=3000)
    segment = run_segment(plan, 0, None, Fake(Harmonic(1.0)))
    kT = units.kB * 300.0
    late = segment.frames[len(segment.frames) // 3 :]
    x2 = np.array([np.mean(f.positions**2) for f in late]) / kT
    t = np.array([f.get_temperature() for f in late]) / 300.0
    for values, bias in ((x2, 0.01), (t, 0.01)):
        error = np.sqrt(2.0 / 600 / len(late) * 4)  # correlated frames: four times the variance of independent ones
        assert abs(values.mean() - 1.0) < 4 * error + bias


def test_labels_without_calculators_are_refused(committee: Committee) -> None:
    frame = molecule("H2O")
    frame.calc = SinglePointCalculator(frame, energy=1.0)
    committee.predict(frame)  # a calculator on the structure is neither used nor changed
    assert frame.calc.results == {"energy": 1.0}


class OfVolume(Calculator):
    """U = -a kT ln V at 300 K, and no forces: an ideal gas whose atoms seem to be a more."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, a: int) -> None:
        super().__init__()
        self.a_kT = a * units.kB * 300

    def calculate(self, atoms=None, properties=None, system_changes=None) -> None:
        volume = atoms.get_volume()
        energy, stress = -self.a_kT * np.log(volume), np.zeros(6)
        stress[:3] = -self.a_kT / volume  # dU/dV
        self.results = {
            "energy": energy, "forces": np.zeros((len(atoms), 3)), "stress": stress, "energy_spread": 0.0,
            "energy_sigma": 0.0, "committee_energies": np.full(3, energy),
        }  # fmt: skip


class IdealGas:
    """Stands for a committee."""

    n_members = 3

    def __init__(self, a: int = 0) -> None:
        self.a = a

    def calculator(self, *_: object) -> Calculator:
        return OfVolume(self.a)

    def grade(self, atoms: Atoms) -> np.ndarray:
        return np.ones(len(atoms))


@pytest.mark.parametrize(("n", "a"), [(20, 0), (10, 30)])
def test_constant_pressure_samples_the_volume_of_an_ideal_gas(n: int, a: int) -> None:
    """Volumes are gamma distributed: <V> = (N + a + 1) kT/P, and relative fluctuations of 1/sqrt(N + a + 1).

    With a = 0 by their momenta alone, with a > N mostly by the potential's stress: its sign and factor count.
    """
    pressure = 0.01
    known = (n + a + 1) * units.kB * 300 / pressure
    positions = np.random.default_rng(0).uniform(0, 5, size=(n, 3))
    start = Atoms(f"He{n}", positions=positions, cell=[known ** (1 / 3)] * 3)
    start.pbc = True
    gas = walker(start, pressure=pressure, force_sigma=False, timestep=2.0, friction=0.05, steps=12_000, segment=6000)
    state, volumes = None, []
    for index in range(gas.n_segments):
        segment = run_segment(gas, index, state, IdealGas(a))
        state = segment.end[0]
        volumes += [frame.get_volume() for frame in segment.frames]
    volumes = np.array(volumes)[100:]
    g = inefficiency([volumes - volumes.mean()])
    error = volumes.std() * np.sqrt(g / len(volumes))
    assert volumes.mean() == pytest.approx(known, abs=3.5 * error)
    assert error < 0.06 * known
    assert volumes.std() == pytest.approx(known / np.sqrt(n + a + 1), rel=0.25)
    assert np.isnan(segment.largest_force_sigma).all()
    assert segment.stop == "finished"


def test_pieces_at_constant_pressure_equal_the_whole(tmp_path) -> None:
    """The barostat's momentum is part of the state."""
    start = Atoms("He4", positions=[[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]], cell=[5, 5, 5], pbc=True)
    plan = walker(start, pressure=0.01, force_sigma=False)
    ends = []
    for interrupted in (False, True):
        state = None
        for index in range(plan.n_segments):
            segment = run_segment(plan, index, state, IdealGas())
            if interrupted:
                commit_file(tmp_path / f"{index}.h5", segment)
                segment = read_file(tmp_path / f"{index}.h5", Segment)
            state = segment.end[0]
            if not segment.stop:
                assert state.info["barostat_momentum"] != 0
        ends.append(state)
    np.testing.assert_array_equal(ends[0].positions, ends[1].positions)
    np.testing.assert_array_equal(ends[0].get_momenta(), ends[1].get_momenta())
    np.testing.assert_array_equal(ends[0].cell.array, ends[1].cell.array)
    assert ends[0].get_volume() != 125
    first = run_segment(plan, 0, None, IdealGas()).end[0]
    on = run_segment(plan, 1, first, IdealGas()).end[0].get_volume()
    first.info["barostat_momentum"] *= 2
    assert run_segment(plan, 1, first, IdealGas()).end[0].get_volume() != on
