"""Production runs: begun, made longer, averaged over, exported; and what is refused."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
import znh5md
from alflow import loop
from alflow.averages.sources.opening import open_source
from alflow.averages.sources.productions import read_beginning, segments, walked
from alflow.errors import AlflowError, AverageError, StoreError
from alflow.records.sample import SampleRecord
from alflow.report import averages, exports
from alflow.report.progress import _Plain
from alflow.state.store import Store
from alflow.steps.check import problems
from alflow.steps.produce import Asked, _hottest
from ase import units
from ase.md.verlet import VelocityVerlet
from scipy.stats import chi2

from conftest import TINY, alflow, make_run

PERIODIC = """3
Lattice="7 0 0 0 7 0 0 0 7" pbc="T T T" Properties=species:S:1:pos:R:3
O 0.0 0.0 0.119
H 0.0 0.763 -0.477
H 0.0 -0.763 -0.477
"""


@pytest.fixture(scope="module")
def run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a production of three walkers."""
    folder = tmp_path_factory.mktemp("production") / "run"
    shutil.copytree(finished_run, folder)
    text = (folder / "alflow.toml").read_text()
    (folder / "alflow.toml").write_text(text.replace("stride = 10", "stride = 10\ncheckpoint = 40"))
    done = alflow("produce", folder, "--steps", 100, "--walkers", 3)
    assert done.returncode == 0, done.stderr
    assert "next: alflow average" in done.stdout
    assert "walker 2: 120 steps, 0.06 ps, 13 frames" in done.stdout
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def periodic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cycle 0 of a molecule in a box, with a production of two walkers at constant pressure."""
    settings = TINY.replace("stride = 10", "stride = 10\ncheckpoint = 20")
    folder = make_run(tmp_path_factory.mktemp("periodic") / "run", settings, PERIODIC)
    assert alflow("iterate", folder, "--cycles", 0).returncode == 0
    done = alflow("produce", folder, "--steps", 60, "--walkers", 2, "--pressure", 0.1)
    assert done.returncode == 0, done.stderr
    assert "warning: all H2O of the training set have 114.3 Å^3 per atom: the density" in done.stdout
    return folder


def produce(folder: Path, **asked: object) -> Path:
    return loop.produce(folder, _Plain(), Asked(**asked))


def test_every_frame_has_member_energies_driving_energy_and_sigma(run: Path) -> None:
    folder = Store(run).production("run")
    record = read_beginning(folder)
    assert (len(record.frames), record.temperature, record.cycle, record.segment) == (3, 300, 1, 40)
    model = exports.load(Store(run).path(1, "train"))
    for walker in range(3):
        found = list(segments(folder, record, walker))
        assert [len(s.frames) for s in found] == [5, 4, 4]
        for segment in found:
            for k, frame in enumerate(segment.frames):
                prediction = model.predict(frame)
                np.testing.assert_allclose(segment.energies[k], prediction.energies, rtol=1e-12)
                assert segment.energy[k] == pytest.approx(prediction.energy, rel=1e-12)
                assert segment.energy_sigma[k] == pytest.approx(prediction.energy_sigma, rel=1e-9)
                assert segment.largest_grade[k] == pytest.approx(prediction.grade.max())
                assert frame.has("momenta")


def test_walkers_differ_and_start_from_the_later_half_of_the_newest_sample(run: Path) -> None:
    record = read_beginning(Store(run).production("run"))
    sampled = Store(run).read(1, "sample", SampleRecord)
    late = [f.positions for f, t in zip(sampled.frames, sampled.time, strict=True) if t >= 15.0]
    for frame in record.frames:
        assert any(np.array_equal(frame.positions, positions) for positions in late)
    ends = [next(iter(segments(Store(run).production("run"), record, w))).end[0].positions for w in range(3)]
    assert not np.array_equal(ends[0], ends[1])


def test_files_are_h5md(run: Path) -> None:
    path = next(Store(run).production("run").glob("000-0000-*.h5"))
    assert len(znh5md.IO(path, particles_group="frames")[:]) == 5


def test_averages(run: Path) -> None:
    place = Store(run).production("run")
    texts = ["potential_energy", "total_energy", "heat_capacity", "coordination O-H 1.3"]
    report = averages.of_source(open_source(place), averages.observables(texts, place), drop=0.0)
    assert (report.result.n_frames, report.result.n_walkers, report.result.n_members) == (39, 3, 8)
    every = [s for w in range(3) for s in segments(place, read_beginning(place), w)]
    driving = np.concatenate([s.energy for s in every])
    kinetic = [f.get_kinetic_energy() for s in every for f in s.frames]
    energy, total = (row.average for row in report.rows[:2])
    assert energy.driven[0] == pytest.approx(driving.mean(), rel=1e-10)
    assert total.driven[0] - energy.driven[0] == pytest.approx(np.mean(kinetic), rel=1e-6)
    assert report.rows[3].average.value[0] == pytest.approx(2)


def test_it_can_be_made_longer(copy: Path) -> None:
    folder = Store(copy).production("run")
    before = {path.name: path.read_bytes() for path in folder.glob("*.h5")}
    assert produce(copy, steps=100) == folder
    assert {path.name for path in folder.glob("*.h5")} == set(before)
    produce(copy, steps=150, temperature=300.0, walkers=3)
    after = {path.name: path.read_bytes() for path in folder.glob("*.h5")}
    assert len(after) == len(before) + 3
    assert {name: after[name] for name in before} == before
    assert [steps for steps, _, _ in walked(folder)] == [160] * 3


def test_steps_are_rounded_up_and_that_is_told(copy: Path) -> None:
    assert "130 steps are 160 in whole segments" in alflow("produce", copy, "--steps", 130).stdout
    assert "whole segments" not in alflow("produce", copy, "--steps", 160).stdout


def test_constant_pressure(periodic: Path, tmp_path: Path) -> None:
    """Started from labels, as cycle 0 has no samples; every frame has its own cell; longer is the same as at one go."""
    folder = Store(periodic).production("run")
    record = read_beginning(folder)
    model = exports.load(Store(periodic).path(0, "train"))
    assert record.pressure == pytest.approx(0.1 * units.GPa)
    for walker in range(2):
        found = list(segments(folder, record, walker))
        assert [len(s.frames) for s in found] == [3, 2, 2]
        frames = [frame for s in found for frame in s.frames]
        assert len({frame.get_volume() for frame in frames}) == 7
        for frame, energies in zip(frames, np.concatenate([s.energies for s in found]), strict=True):
            np.testing.assert_allclose(energies, model.predict(frame).energies, rtol=1e-12)
            assert "barostat_momentum" not in frame.info
        assert all(s.end[0].info["barostat_momentum"] for s in found)
    report = averages.of_source(open_source(folder), averages.observables(["volume"], folder), drop=0.0)
    volumes = [f.get_volume() for w in range(2) for s in segments(folder, record, w) for f in s.frames]
    assert report.rows[0].average.driven[0] == pytest.approx(np.mean(volumes))
    ends = []
    for name, stops in (("pieces", (40, 80)), ("whole", (80,))):
        shutil.copytree(periodic, tmp_path / name, ignore=shutil.ignore_patterns("production"))
        for steps in stops:
            there = produce(tmp_path / name, steps=steps, pressure=0.1, walkers=1)
        ends.append([path.read_bytes() for path in sorted(there.iterdir())])
    assert len(ends[0]) == 5
    assert ends[0] == ends[1]


def test_errors_of_stresses_are_shown(periodic: Path) -> None:
    (cycle,) = json.loads(alflow("status", periodic, "--json").stdout)["cycles"]
    assert cycle["stress_rmse_after"] > 0
    assert cycle["new_stress"]["n"] == 0
    shown = alflow("status", periodic).stdout
    assert "stress error" in shown
    assert f"-> {cycle['stress_rmse_after'] / units.GPa:.2f}" in shown
    assert "floor_stress" in cycle


def test_a_pressure_is_what_it_was_begun_with(periodic: Path) -> None:
    with pytest.raises(AlflowError, match=r"begun with pressure 0.1, found 0.2: leave it out"):
        produce(periodic, steps=60, pressure=0.2)
    produce(periodic, steps=60, pressure=0.1)


def test_few_atoms_are_not_stopped_for_being_hot_by_chance(run: Path) -> None:
    """Three atoms exceed four times their temperature once in 25,000 frames; the bound of larger systems stays."""
    record = read_beginning(Store(run).production("run"))
    assert record.temperature_max / 300 == pytest.approx(chi2.isf(1e-12, 9) / 9)
    assert _hottest(12) < 4


def test_another_name_is_another_run(copy: Path) -> None:
    a, b = Store(copy).production("run"), produce(copy, steps=40, name="other", force_sigma_max=100.0)
    ends = [next(iter(segments(f, read_beginning(f), 0))) for f in (a, b)]
    assert not np.array_equal(ends[0].end[0].positions, ends[1].end[0].positions)
    assert np.isnan(ends[0].largest_force_sigma).all()
    assert (ends[1].largest_force_sigma > 0).all()


def test_a_walker_that_leaves_its_bounds_stops_and_that_is_told(copy: Path) -> None:
    folder = produce(copy, steps=400, name="hot", force_sigma_max=1e-6)
    done = walked(folder)
    assert all("force sigma" in stop and steps == 0 for steps, _, stop in done)
    assert "stopped: force sigma" in averages.walks(folder)[0]
    assert any("stopped" in note for note in open_source(folder).notes)


REFUSED = [
    ({"temperature": 400.0}, r"begun with temperature 300.0, found 400.0: leave it out, or choose another --name"),
    ({"walkers": 2}, "begun with walkers 3, found 2"),
    ({"pressure": 0.1}, "begun with pressure none, found 0.1"),
    ({"cycle": 0}, "begun with cycle 1, found 0"),
    ({"name": "new", "pressure": float("nan")}, "pressure of a production run: expected a number, found nan"),
    ({"name": "../x"}, r"name '\.\./x' of a production run: expected letters, digits, - and _"),
    ({"name": "new", "cycle": 7}, "cycle 7 has no committee: expected one of 0 to 1"),
    ({"name": "new", "system": "ice"}, "unknown system ice: expected one of water"),
    ({"name": "new", "pressure": 0.0}, "constant pressure needs structures that are periodic"),
    ({"drive": "members"}, "begun with drive mean, found members: leave it out, or choose another --name"),
    (
        {"name": "new", "drive": "members", "walkers": 200},
        "1600 walkers, 200 for each of 8 members: expected at most 999 in all",
    ),
]


@pytest.mark.parametrize(("asked", "message"), REFUSED)
def test_what_cannot_be_is_refused(copy: Path, asked: dict[str, object], message: str) -> None:
    with pytest.raises(AlflowError, match=message):
        produce(copy, steps=10, **asked)
    assert Store(copy).productions() == ["run"]


# --- driven by members ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_members(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with a production of two walkers of each of the 8 members."""
    folder = tmp_path_factory.mktemp("by members") / "run"
    shutil.copytree(run, folder)
    done = alflow("produce", folder, "--steps", 80, "--walkers", 2, "--drive", "members", "--name", "each")
    assert done.returncode == 0, done.stderr
    assert "8 members drive 16 walkers, each of which has to reach equilibrium by itself" in done.stdout
    assert "walker 15: 80 steps" in done.stdout
    return folder


def test_each_walker_is_driven_by_a_calibrated_member(by_members: Path) -> None:
    folder = Store(by_members).production("each")
    record = read_beginning(folder)
    assert (len(record.frames), record.drivers) == (16, (*range(8), *range(8)))
    for walker, member in enumerate(record.drivers or ()):
        for segment in segments(folder, record, walker):
            np.testing.assert_allclose(segment.energy, segment.energies[:, member], rtol=1e-12)
    # By its forces, too: a step of the dynamics that its calculator drives keeps the energy.
    member = record.model.calculator(member=3)
    frame = next(iter(segments(folder, record, 3))).frames[-1]
    frame.calc = member
    dynamics = VelocityVerlet(frame, 0.1 * units.fs)
    before = frame.get_total_energy()
    dynamics.run(40)
    assert frame.get_total_energy() == pytest.approx(before, abs=1e-4)


def test_averages_over_walkers_of_members(by_members: Path) -> None:
    place = Store(by_members).production("each")
    texts = ["potential_energy", "coordination O-H 1.3", "heat_capacity"]
    found = json.loads(alflow("average", place, "--drop", 0, *(x for t in texts for x in ("-o", t)), "--json").stdout)
    assert (found["n_walkers"], found["n_members"], found["n_frames"]) == (16, 8, 16 * 9)
    assert found["method"] in {"mbar", "own"}
    own = averages.of_source(open_source(place), averages.observables(texts, place), "own", 0.0)
    record = read_beginning(place)
    energies = [np.concatenate([s.energy for s in segments(place, record, w)]) for w in range(16)]
    expected = [np.mean([energies[m], energies[m + 8]]) for m in range(8)]
    np.testing.assert_allclose(own.rows[0].average.members[0, 0], expected, rtol=1e-12)
    assert own.rows[1].average.value[0] == pytest.approx(2)
    table = alflow("average", place, "--method", "mbar", "-o", "potential_energy").stdout
    assert "8 members, each drove walkers of its own, reweighted from all (MBAR): asked for" in table
    assert "spread of (V - mean)/kT" in table
    assert table.splitlines()[-2].split() == [
        "observable",
        "mean",
        "statistical",
        "model",
        "+-",
        "total",
        "driven",
        "unit",
    ]


def test_methods_belong_to_what_drove_a_run(by_members: Path, run: Path) -> None:
    for folder, method, message in (
        (
            Store(by_members).production("each"),
            "cea",
            "method cea: expected mbar or own, as members, each its own walkers",
        ),
        (Store(run).production("run"), "mbar", "method mbar: expected direct or cea, as one potential drove "),
    ):
        done = alflow("average", folder, "-o", "potential_energy", "--method", method)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert message in done.stderr


def test_a_walker_where_no_label_is_like_it_is_named(by_members: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Store(by_members).production("each")
    assert not any("extrapolation grade" in note for note in open_source(place).notes)
    monkeypatch.setattr("alflow.averages.sources.productions._STRANGE", 0.0)
    (first, *_) = (note for note in open_source(place).notes if "extrapolation grade" in note)
    assert first.startswith("walker 0 is where surroundings are unlike those of all labels (extrapolation grade ")


@pytest.mark.slow
def test_walkers_of_members_are_the_same_bits_in_pieces(by_members: Path, tmp_path: Path) -> None:
    other = shutil.copytree(by_members, tmp_path / "run")
    shutil.rmtree(Store(other).production("each"))
    produce(other, steps=40, walkers=2, drive="members", name="each")
    produce(other, steps=80, name="each")
    for path in Store(by_members).production("each").glob("*.h5"):
        assert (Store(other).production("each") / path.name).read_bytes() == path.read_bytes()


def test_a_baseline_has_no_weight_where_members_drive(copy: Path) -> None:
    with (copy / "alflow.toml").open("a") as file:
        file.write('[baseline]\nkind = "tblite"\n')
    folder = produce(copy, steps=40, name="based", drive="members")
    record = read_beginning(folder)
    assert record.weighting == "none"
    (segment,) = segments(folder, record, 5)
    np.testing.assert_allclose(segment.energy, segment.energies[:, 5], rtol=1e-12)
    produce(copy, steps=80, name="based")  # whatever weighting alflow.toml has


def test_a_production_of_an_earlier_version_is_one_of_the_mean(tmp_path: Path) -> None:
    """Schema 6: nothing else drove walkers."""
    shutil.copytree(Path(__file__).parents[1] / "samples/schema-6/production", tmp_path / "production")
    folder = tmp_path / "production/run"
    record = read_beginning(folder)
    assert (record.drive, record.drivers) == ("mean", None)
    source = open_source(folder)
    assert averages.of_source(source, averages.observables(["potential_energy"], folder)).result.method == "direct"


def test_several_temperatures_need_a_choice(copy: Path) -> None:
    text = (copy / "alflow.toml").read_text()
    (copy / "alflow.toml").write_text(text.replace("temperature = [300]", "temperature = [300, 400]"))
    with pytest.raises(
        AlflowError, match=r"which temperature\? alflow.toml has 300.0, 400.0: choose with --temperature"
    ):
        produce(copy, steps=10, name="new")
    produce(copy, steps=10, name="new", temperature=350.0, walkers=1)
    (copy / "alflow.toml").write_text(text.replace("temperature = [300]", "temperature = [300, 300]"))
    assert read_beginning(produce(copy, steps=10, name="same", walkers=1)).temperature == 300


def test_another_committee_or_baseline_does_not_go_on(copy: Path) -> None:
    with (copy / "alflow.toml").open("a") as file:
        file.write('[baseline]\nkind = "tblite"\n')
    with pytest.raises(AlflowError, match=r"begun with baseline weighting none, found total: restore it, or choose"):
        produce(copy, steps=200)
    assert not (copy / "work").exists(), "a committee was fitted for nothing"


def test_another_baseline_of_the_same_weighting_does_not_go_on(copy: Path) -> None:
    settings = copy / "alflow.toml"
    plain = settings.read_text()
    for method in ("GFN1-xTB", "GFN2-xTB"):
        settings.write_text(f'{plain}[baseline]\nkind = "tblite"\nmethod = "{method}"\n')
        if method == "GFN1-xTB":
            folder = produce(copy, steps=10, walkers=1, name="based")
    assert read_beginning(folder).weighting == "total"
    with pytest.raises(AlflowError, match=r"was begun on the baseline .*GFN1-xTB.*found .*GFN2-xTB"):
        produce(copy, steps=80, name="based")


def test_it_goes_on_without_its_cycle_and_with_other_threads(copy: Path) -> None:
    """Of a committee that was fitted again to another baseline nothing but the run itself is left."""
    settings = copy / "alflow.toml"
    settings.write_text(settings.read_text() + '[baseline]\nkind = "tblite"\n')
    folder = produce(copy, steps=10, walkers=1, name="based")
    shutil.rmtree(copy / "work")
    for step in ("train", "assess"):
        Store(copy).path(1, step).unlink()
    settings.write_text(settings.read_text().replace("workers = 1", "workers = 1\nthreads = 2"))
    produce(copy, steps=80, name="based")
    assert walked(folder) == [(80, 9, "")]
    assert not (copy / "work").exists()


def test_a_run_without_a_committee(tmp_path: Path, finished_run: Path) -> None:
    for name in ("alflow.toml", "water.xyz"):
        shutil.copy(finished_run / name, tmp_path)
    with pytest.raises(AlflowError, match="has no committee yet"):
        produce(tmp_path, steps=10)


def test_a_temperature_that_is_not_that_of_the_run(run: Path) -> None:
    with pytest.raises(AverageError, match=r"is a run of temperature 300.0, found --temperature 350.0: leave it out"):
        open_source(Store(run).production("run"), 350.0)


def test_segments_that_are_missing_or_without_a_beginning(copy: Path) -> None:
    folder = Store(copy).production("run")
    next(folder.glob("000-0001-*.h5")).unlink()
    with pytest.raises(AlflowError, match=r"000-0001-.*is missing, although later segments are there"):
        averages.of_source(open_source(folder), averages.observables(["potential_energy"], folder))
    (folder / "begin.h5").unlink()
    with pytest.raises(AlflowError, match=r"has segments but no begin.h5"):
        produce(copy, steps=10)


def test_a_run_directory_names_its_production_runs(run: Path) -> None:
    with pytest.raises(AverageError, match=r"is a run directory: expected one of .*production/run"):
        open_source(run)


def test_damage_is_found(copy: Path) -> None:
    assert problems(copy) == []
    path = next(Store(copy).production("run").glob("001-0001-*.h5"))
    path.write_bytes(path.read_bytes()[:-10])
    assert any("001-0001" in problem for problem in problems(copy))
    done = alflow("average", copy / "production" / "run", "-o", "potential_energy")
    assert done.returncode == 1
    assert "is damaged" in done.stderr


def test_a_segment_missing_in_between_is_told_and_made_again(copy: Path) -> None:
    folder = Store(copy).production("run")
    (path,) = folder.glob("001-0001-*.h5")
    before = path.read_bytes()
    path.unlink()
    (problem,) = problems(copy)
    assert f"{path} is missing, although later segments are there" in problem
    with pytest.raises(StoreError, match="run `alflow produce` to make it again"):
        list(segments(folder, read_beginning(folder), 1))
    produce(copy, steps=120)
    assert path.read_bytes() == before
    assert problems(copy) == []


def test_segments_without_a_beginning_are_not_taken_for_another_run(copy: Path) -> None:
    folder = Store(copy).production("run")
    (folder / "begin.h5").unlink()
    with pytest.raises(StoreError, match=r"has segments but no begin.h5: restore it"):
        produce(copy, steps=100, temperature=900.0)
    assert any("has segments but no begin.h5" in problem for problem in problems(copy))
    assert not (folder / "begin.h5").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_ctrl_c(copy: Path, name: str) -> None:
    # A shell that starts the tests in the background makes them ignore SIGINT, and so their children: undo that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from alflow.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "produce", str(copy), "--steps", "1000000", "--name", "long"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not any(Store(copy).production("long").glob("*-0001-*.h5")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.Signals[name])
    _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert error == "alflow: interrupted: what was finished is kept; go on with the same command\n"
    assert problems(copy) == []


def test_frames_are_exported(run: Path, tmp_path: Path) -> None:
    assert alflow("export", Store(run).production("run"), tmp_path / "all.xyz").returncode == 0
    frames = ase.io.read(tmp_path / "all.xyz", ":")
    assert len(frames) == 39
    assert frames[-1].info["walker"] == 2
    assert frames[-1].info["time"] == pytest.approx(60)
    energies = frames[-1].info["committee_energies"]
    assert np.mean(energies) == pytest.approx(frames[-1].get_potential_energy(), rel=1e-9)
