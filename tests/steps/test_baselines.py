"""A run with a baseline: what is kept, what drives, and what happens when it is changed."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest
from alflow.errors import LabelError, SampleError
from alflow.records.assess import AssessRecord
from alflow.records.label import LabelRecord
from alflow.records.sample import Ensemble, SampleRecord, Segment
from alflow.records.select import SelectRecord
from alflow.records.train import TrainRecord
from alflow.reference.codes.ase_calculator import AseMethod
from alflow.reference.codes.model import ModelBaseline
from alflow.reference.dispatch import baseline_result
from alflow.reference.kinds import build, described
from alflow.report import inspection
from alflow.state.file import commit_file
from alflow.state.store import Store, segment_path, segment_place
from alflow.steps.sample import _gather
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed, Calculator

from conftest import TINY, WATER, alflow, make_run

GFN1, IPEA1 = '[baseline]\nkind = "tblite"\nweighting = "atom"\n', '[baseline]\nmethod = "IPEA1-xTB"\n'


@pytest.fixture(scope="module")
def based(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cycles 0 and 1 with GFN1-xTB below, weighted atom by atom."""
    folder = make_run(tmp_path_factory.mktemp("based") / "run", TINY + GFN1)
    done = alflow("iterate", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_results_of_the_baseline_are_kept_with_each_label(based: Path) -> None:
    method = build("tblite", method="GFN1-xTB")
    for cycle in (0, 1):
        record = Store(based).read(cycle, "label", LabelRecord)
        assert set(record.baseline) == {method.identity()}
        kept = record.baseline_results(method.identity())
        for frame, result in zip(record.frames, kept, strict=True):
            again = method.calculate(frame).frame
            assert result[0] == pytest.approx(again.get_potential_energy(), abs=1e-9)
            np.testing.assert_allclose(result[1], again.get_forces(), atol=1e-9)
            assert frame.get_potential_energy() != result[0]  # the label is the whole reference energy


def test_the_weighted_baseline_drives(based: Path) -> None:
    """Stored frames carry U, the weight, and both sigmas; the next committee would say the same of them."""
    store = Store(based)
    sampled = store.read(1, "sample", SampleRecord)
    method = build("tblite", method="GFN1-xTB")
    model = store.read(0, "train", TrainRecord).model.with_baseline(method.calculator())
    assert model.baseline_identity == method.identity()
    for k in (0, len(sampled.frames) - 1):
        frame = Atoms(sampled.frames[k].numbers, sampled.frames[k].positions)
        driving, prediction = model.drive(frame, "atom"), model.predict(frame)
        assert sampled.energy[k] == pytest.approx(driving.energy, abs=1e-9)
        assert sampled.smallest_weight[k] == pytest.approx(driving.weight.min(), abs=1e-9)
        assert 0 < sampled.smallest_weight[k] < 1
        assert sampled.energy_spread[k] == pytest.approx(prediction.energy_spread, abs=1e-12)
        assert sampled.energy_sigma[k] == pytest.approx(prediction.energy_sigma, abs=1e-12)
        assert sampled.largest_force_spread[k] == pytest.approx(prediction.forces_spread.max(), abs=1e-12)
        np.testing.assert_allclose(sampled.energies[k], prediction.energies, atol=1e-9)
    selected = store.read(1, "select", SelectRecord)
    np.testing.assert_array_equal(selected.smallest_weight, sampled.smallest_weight[selected.source])
    assert [row["smallest_weight"] for row in inspection.inspect(based, 1)] == list(selected.smallest_weight)


def test_the_committee_learns_the_difference(based: Path) -> None:
    assessed = Store(based).read(1, "assess", AssessRecord).last
    assert assessed.energy_rmse < 0.05
    assert assessed.energy.n == 15  # out-of-bag, every label
    assert (assessed.new_energy.n, assessed.new_force.n + assessed.new_force.n_forbidden) == (3, 27)
    assert np.isfinite([assessed.energy.rms_z, assessed.force.crps, assessed.force.nll, assessed.new_force.rms_z]).all()


def test_each_cycle_is_a_kind_of_which_every_member_sees_half(based: Path) -> None:
    model = Store(based).read(1, "train", TrainRecord).model
    origins = np.array(model.training.origins)
    assert set(origins) == {"system water, initial", "system water, cycle 1"}
    shares = model.resampling.seen[:, model.resampling.groups]
    for origin in set(origins):
        mine = shares[:, origins == origin]
        assert np.abs(2 * mine.sum(axis=1) - mine.shape[1]).max() <= 1
    assert "15 structures, in 2 kinds (by system, composition and origin); largest difference" in model.remarks[0]


@pytest.mark.slow
def test_the_baseline_is_changed_without_a_new_reference_calculation(based: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(based, folder)
    (folder / "alflow.toml").write_text(TINY + IPEA1)
    before = {path: path.read_bytes() for path in folder.glob("cycles/*/*.h5")}
    done = alflow("iterate", folder, "--cycles", 1)
    assert done.returncode == 0, done.stderr
    assert "the baseline is not that of the newest committee: it is fitted again to the same labels" in done.stdout
    assert all(path.read_bytes() == content for path, content in before.items())
    store, method = Store(folder), build("tblite", method="IPEA1-xTB")
    trained = store.read(2, "train", TrainRecord)
    assert trained.model.baseline_identity == method.identity()
    assert trained.n_frames == 18
    assert set(store.read(2, "label", LabelRecord).baseline) == {method.identity()}
    label = store.read(0, "label", LabelRecord).frames[0]
    found = trained.model.with_baseline(method.calculator()).predict(Atoms(label.numbers, label.positions))
    assert found.energy == pytest.approx(label.get_potential_energy(), abs=0.05)
    assert not (folder / "work").exists()
    (folder / "alflow.toml").write_text(TINY)
    done = alflow("iterate", folder, "--cycles", 1)
    assert done.returncode == 0, done.stderr
    assert not store.read(3, "train", TrainRecord).model.has_baseline


@pytest.mark.slow
def test_any_ase_calculator_and_a_model(based: Path, tmp_path: Path) -> None:
    table = '[baseline]\nkind = "ase"\nname = "ase.calculators.morse.MorsePotential"\n'
    table += "parameters = { epsilon = 4.0, r0 = 0.97, rho0 = 2.0, rcut1 = 2.5, rcut2 = 3.5 }\n"
    folder = make_run(tmp_path / "morse", TINY + table)
    done = alflow("iterate", folder)
    assert done.returncode == 0, done.stderr
    assert "MorsePotential" in Store(folder).read(1, "train", TrainRecord).model.baseline_identity
    plain = make_run(tmp_path / "plain")
    assert alflow("iterate", plain, "--cycles", 0).returncode == 0
    other = make_run(tmp_path / "other", TINY + '[baseline]\nkind = "model"\nfile = "rough.h5"\nerror = 0.05\n')
    assert alflow("export", plain, other / "rough.h5").returncode == 0
    done = alflow("iterate", other)
    assert done.returncode == 0, done.stderr
    assert "sha256" in Store(other).read(1, "train", TrainRecord).model.baseline_identity


BAD = {
    "a module that is not there": ('kind = "ase"\nname = "nowhere.Calculator"', "No module named 'nowhere'"),
    "a class that is not there": ('kind = "ase"\nname = "ase.calculators.lj.Nothing"', "has no attribute 'Nothing'"),
    "parameters it does not take": (
        'kind = "ase"\nname = "ase.calculators.lj.LennardJones"\nparameters = { sigm = 2.0 }',
        "LennardJones: no parameter sigm: did you mean sigma?",
    ),
    "parameters it needs": ('kind = "ase"\nname = "ase.calculators.mixing.SumCalculator"', "missing 1 required"),
    "no calculator": ('kind = "ase"\nname = "pathlib.Path"', "expected the class of an ASE calculator, found"),
    "a function, which is not called": (
        'kind = "ase"\nname = "subprocess.check_output"\nparameters = { args = ["touch", "owned"] }',
        "expected the class of an ASE calculator, found <function",
    ),
    "no file": ('kind = "model"\nfile = "nowhere.h5"', "nowhere.h5: No such file or directory"),
    "not a model": ('kind = "model"\nfile = "water.xyz"', "is not a model that alflow can read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_baseline_that_cannot_be_made_is_told_at_once(name: str, tmp_path: Path) -> None:
    table, message = BAD[name]
    folder = make_run(tmp_path / "run", f"{TINY}[baseline]\n{table}\n")
    done = alflow("iterate", folder)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not any((folder / "cycles").glob("*/*.h5")) if (folder / "cycles").exists() else True


def test_the_baseline_is_changed_in_the_middle_of_a_cycle(based: Path, tmp_path: Path) -> None:
    """Between training and assessment: what is assessed is a committee of the new baseline, on the same labels."""
    folder = tmp_path / "run"
    shutil.copytree(based, folder)
    (folder / "cycles/001/assess.h5").unlink()
    (folder / "alflow.toml").write_text(TINY + IPEA1)
    done = alflow("resume", folder)
    assert done.returncode == 0, done.stderr
    assessed = Store(folder).read(1, "assess", AssessRecord).last
    assert assessed.energy_rmse_after < 0.05
    (folder / "cycles/001/assess.h5").unlink()
    (folder / "alflow.toml").write_text(TINY)
    assert alflow("resume", folder).returncode == 0


def test_segments_of_another_potential_are_not_gone_on_with(based: Path, tmp_path: Path) -> None:
    """Walks under way when the baseline is changed begin again; the others would mix two potentials."""
    folder = tmp_path / "run"
    shutil.copytree(based, folder)
    shutil.rmtree(folder / "cycles/001")
    (folder / "cycles/001/walkers").mkdir(parents=True)
    stale = folder / "cycles/001/walkers/000-0000-deadbeef.h5"
    stale.write_bytes((based / "cycles/000/label.h5").read_bytes())
    done = alflow("iterate", folder, "--cycles", 0)
    assert done.returncode == 0, done.stderr
    sampled, before = (Store(x).read(1, "sample", SampleRecord) for x in (folder, based))
    np.testing.assert_array_equal(sampled.energy, before.energy)


def test_a_baseline_that_kills_its_process_costs_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference results are durable before the baseline is asked; without it the run goes on from them."""
    (tmp_path / "deadly.py").write_text(
        "import os\nfrom ase.calculators.calculator import Calculator\n\n\nclass Deadly(Calculator):\n"
        "    implemented_properties = ['energy', 'forces']\n\n"
        "    def calculate(self, *arguments, **more):\n        os._exit(11)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    small = TINY.replace("copies = 11", "copies = 1")
    folder = make_run(tmp_path / "run", small + '[baseline]\nkind = "ase"\nname = "deadly.Deadly"\n')
    done = alflow("iterate", folder)
    assert done.returncode == 1
    assert "2 labels left out: the baseline fails for their structures" in done.stdout
    assert "no structures to fit" in done.stderr
    labelled = (folder / "cycles/000/label.h5").read_bytes()
    assert not list(folder.glob("failed/*"))
    (folder / "alflow.toml").write_text(small)
    done = alflow("iterate", folder, "--cycles", 0)
    assert done.returncode == 0, done.stderr
    assert (folder / "cycles/000/label.h5").read_bytes() == labelled


def test_no_walker_that_can_begin_is_an_error_not_convergence(tmp_path: Path) -> None:
    empty = np.zeros(0)
    end = (molecule("H2O"),)
    stop = "potential failed: so it is"
    measured = (empty, np.zeros((0, 8)), *(empty,) * 13, {}, {})
    segments = [
        Segment(k, Ensemble("water", 300.0), 0.5, (), *measured, end=end, end_step=0, stop=stop) for k in (0, 1)
    ]
    walker = SimpleNamespace(n_segments=1, timestep=0.5, temperature=300.0)
    for number, segment in enumerate(segments):
        path = segment_path(tmp_path, number, 0, "x")
        commit_file(path, segment, place=segment_place(path))
    with pytest.raises(
        SampleError, match=r"no walker could begin \(potential failed: so it is\): look at the baseline"
    ):
        _gather(tmp_path, [walker, walker], ["a", "b"], ["x", "x"], 0.5)


def test_check_tries_the_baseline(based: Path, tmp_path: Path) -> None:
    done = alflow("check", based)
    assert done.returncode == 0, done.stderr
    assert "ok     baseline tblite" in done.stdout
    folder = make_run(tmp_path / "run", TINY + '[baseline]\nkind = "model"\nfile = "nowhere.h5"\n')
    done = alflow("check", folder)
    assert done.returncode == 2
    assert "FAILED baseline" in done.stdout
    assert "nowhere.h5: No such file or directory" in done.stderr


class Moody(Calculator):
    """Fails for structures whose first bond is long."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()) -> None:
        super().calculate(atoms, properties, system_changes)
        if self.atoms.get_distance(0, 1) > 1.0:
            msg = "not today"
            raise CalculationFailed(msg)
        self.results = {"energy": 1.0, "forces": np.ones((len(self.atoms), 3))}


class MoodyMethod(AseMethod):
    """The same, as a method."""

    def calculator(self, folder: Path | None = None) -> Calculator:
        return Moody()


def test_a_baseline_that_fails_says_why() -> None:
    short, long = molecule("H2O"), molecule("H2O")
    long.positions[1] += long.positions[1] - long.positions[0]
    energy, forces, stress = baseline_result(short, MoodyMethod(kind="ase", name="mood.Moody"))
    assert (energy, forces.sum()) == (1.0, 9.0)
    assert np.isnan(stress).all()
    assert stress.shape == (6,)
    with pytest.raises(LabelError, match="crashed: not today"):
        baseline_result(long, MoodyMethod(kind="ase", name="mood.Moody"))


def test_only_what_is_built_in_is_made_from_a_description() -> None:
    """A file names a baseline; nothing that it names is imported."""
    tblite = build("tblite", method="GFN1-xTB")
    assert described(tblite.identity()) == tblite
    assert described(AseMethod(kind="ase", name="ase.calculators.lj.LennardJones").identity()) is None
    assert described('{"kind": "model", "sha256": "0"}') is None
    assert described("") is None
    assert described('{"kind": "tblite", "no": 1}') is None


def test_a_model_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("x" if name != "c" else "y")
    a, b, c = (ModelBaseline(kind="model", file=str(tmp_path / name)).identity() for name in "abc")
    assert a == b != c


def test_labels_without_a_usable_baseline_are_left_out_and_said(tmp_path: Path) -> None:
    """A fixed-term Morse potential fails nowhere, GFN1-xTB with one iteration everywhere."""
    table = '[baseline]\nkind = "tblite"\nmax_iterations = 1\n'
    folder = make_run(tmp_path / "run", TINY + table, structures=WATER)
    done = alflow("iterate", folder)
    assert done.returncode == 1
    assert "12 labels left out: the baseline fails for their structures (not_converged: SCF not conv" in done.stdout
    assert "no structures to fit" in done.stderr
    record = Store(folder).read(0, "label", LabelRecord)
    assert len(record.ids) == 12
    assert np.isnan(record.baseline_energy).all()
    (folder / "alflow.toml").write_text(TINY + IPEA1)
    done = alflow("iterate", folder, "--cycles", 0)
    assert done.returncode == 0, done.stderr


def test_frames_of_the_model_say_both_sigmas(based: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "m.h5", tmp_path / "o.xyz"
    assert alflow("export", based, model).returncode == 0
    done = alflow("predict", model, based / "water.xyz", "-o", out)
    assert done.returncode == 0, done.stderr
    frame = ase.io.read(out)
    assert frame.info["energy_sigma"] > 0
    assert frame.info["energy_spread"] > 0
    assert frame.arrays["forces_spread"].shape == frame.arrays["forces_sigma"].shape == (3, 3)
    assert frame.arrays["atom_spread"].shape == (3,)
