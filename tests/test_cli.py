"""The command line: what a user types, what it prints, how it ends."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import alflow as package
import ase.io
import numpy as np
import pytest
from alflow.cli import main
from alflow.errors import PotentialError
from alflow.records.label import LabelRecord
from alflow.report.exports import predicted
from alflow.state.store import Store
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from click.testing import CliRunner

from conftest import TINY, WATER, alflow, make_run
from lj_frames import SMALL, bonded, water

STATUS_KEYS = {"next", "converged", "n_labelled", "cycles"}
CYCLE_KEYS = {"cycle", "steps", "n_selected", "n_labelled", "n_failed", "largest_force_sigma", "energy_rmse",
              "force_rmse",
              "alpha_energy", "alpha_force", "floor_energy", "floor_force", "note", "energy", "force", "new_energy",
              "new_force"}  # fmt: skip
INSPECT_KEYS = {"id", "cycle", "formula", "energy_spread", "energy_sigma", "largest_atom_spread", "largest_atom_sigma",
                "largest_force_spread",
                "largest_force_sigma", "largest_grade", "smallest_weight", "reason", "status", "energy",
                "energy_predicted"}  # fmt: skip


def run(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def refused(result, code: int, *words: str) -> None:
    """One clear line on stderr that holds all the words, and the exit code."""
    assert result.exit_code == code, result.output
    assert result.stdout == "" or "FAILED" in result.stdout
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


def strict(text: str):
    """JSON without NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_iterate_says_that_a_run_has_ended(finished_run: Path) -> None:
    """And not that it has converged: nothing was asked for that could be reached."""
    done = run("iterate", finished_run)
    assert done.exit_code == 0
    assert "ended: converge.max_cycles = 1 cycles done; largest sampled force sigma " in done.output
    assert "eV/Å; `alflow iterate --cycles N` runs N more" in done.output
    said = run("status", finished_run).stdout.splitlines()[-1]
    assert said.startswith("converged: no, but the cycles end (converge.max_cycles = 1 cycles done; ")


def test_status_json(finished_run: Path) -> None:
    found = strict(run("status", finished_run, "--json").stdout)
    assert found.keys() >= STATUS_KEYS
    assert found["next"] == "sample"
    assert (found["converged"], found["ended"]) == (False, True)
    assert found["n_labelled"] == 15
    assert [c["cycle"] for c in found["cycles"]] == [0, 1]
    for cycle in found["cycles"]:
        assert cycle.keys() >= CYCLE_KEYS
        assert set(cycle["steps"].values()) == {"done"}
    assert found["cycles"][1]["n_selected"] == found["cycles"][1]["n_labelled"] == 3
    assert found["cycles"][1]["force_rmse"] > 0
    forces = [cycle["new_force"] for cycle in found["cycles"]]
    assert [force["n"] + force["n_forbidden"] for force in forces] == [0, 27]
    assert found["cycles"][1]["new_energy"]["n"] == 3
    assert sum(n for _, _, n in found["cycles"][1]["force"]["bins"]) == found["cycles"][1]["force"]["n"] > 0


def test_inspect_json_and_export(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "selected.xyz"
    rows = strict(run("inspect", finished_run, "--cycle", 1, "--json", "--export", out).stdout)
    assert len(rows) == 3
    for row, frame in zip(rows, ase.io.read(out, ":"), strict=True):
        assert row.keys() >= INSPECT_KEYS
        assert row["status"] == "labelled"
        assert row["energy"] == pytest.approx(frame.get_potential_energy())
        assert row["energy_sigma"] == pytest.approx(frame.info["energy_sigma"])
        assert row["energy_spread"] > 0
        assert row["smallest_weight"] == 1.0
        assert row["energy_error"] == pytest.approx(1e3 * (row["energy_predicted"] - row["energy"]) / 3)
    assert len(strict(run("inspect", finished_run, "--json").stdout)) == 15
    refused(run("inspect", finished_run, "--cycle", 99), 2, "no cycle 99", "0 to 1")


def test_tables_for_people(finished_run: Path) -> None:
    for command in ("status", "inspect"):
        result = run(command, finished_run)
        assert result.exit_code == 0
        assert "\x1b" not in result.stdout
    assert "cycle 1: 3 of 7 frames selected; left out: " in run("inspect", finished_run).stdout
    assert "alpha" in run("status", finished_run).stdout
    assert "new forces" in run("inspect", finished_run).stdout


def test_nothing_has_run_yet(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "new")
    assert strict(run("status", folder, "--json").stdout) | {"cycles": []} == strict(
        run("status", folder, "--json").stdout
    )
    assert strict(run("inspect", folder, "--json").stdout) == []
    refused(run("export", folder, tmp_path / "x.xyz"), 2, "no labels yet")
    refused(run("export", folder, tmp_path / "x.h5"), 2, "no committee yet")
    assert not (folder / "cycles").exists()


def test_export(finished_run: Path, tmp_path: Path) -> None:
    assert run("export", finished_run, tmp_path / "all.xyz").exit_code == 0
    assert run("export", finished_run, tmp_path / "model.h5").exit_code == 0
    frames = ase.io.read(tmp_path / "all.xyz", ":")
    store = Store(finished_run)
    labels = [f for k in (0, 1) for f in store.read(k, "label", LabelRecord).frames]
    assert len(frames) == len(labels) == 15
    for frame, label in zip(frames, labels, strict=True):
        np.testing.assert_allclose(frame.get_forces(), label.get_forces(), atol=1e-7)
    a, b = (package.load(p).predict(labels[0]) for p in (tmp_path / "model.h5", store.path(1, "train")))
    np.testing.assert_array_equal(a.energies, b.energies)
    refused(run("export", finished_run, tmp_path / "x.csv"), 2, "expected a name ending in")


def test_init(tmp_path: Path) -> None:
    assert run("init", tmp_path / "run").exit_code == 0
    refused(run("init", tmp_path / "run"), 2, "exists already and is not overwritten")
    refused(run("init", tmp_path / "b", "--template", "nonsense"), 2, "no template 'nonsense'", "water-cluster")
    assert "water-cluster" in run("init", tmp_path / "b", "--template", "?").stdout


def test_check(finished_run: Path, tmp_path: Path) -> None:
    result = run("check", finished_run)
    assert result.exit_code == 0
    assert result.stdout.count("ok ") == 6
    folder = shutil.copytree(finished_run, tmp_path / "damaged")
    path = folder / "cycles/001/train.h5"
    path.write_bytes(path.read_bytes()[:-100])
    refused(run("check", folder), 1, str(path), "restore it from a backup")
    (folder / "alflow.toml").write_text(TINY.replace("budget = 3", "budget = 0"))
    refused(run("check", folder), 2, "select.budget")
    (folder / "alflow.toml").write_text(TINY + "[reference]\nmax_iterations = 1\n")
    shutil.rmtree(folder / "cycles")
    refused(run("check", folder), 1, "not_converged")


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
def test_damaged_state_is_named_and_never_used(finished_run: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(finished_run, tmp_path / "run")
    (folder / "alflow.toml").write_text(TINY.replace("max_cycles = 1", "max_cycles = 2"))
    path = folder / "cycles/001/label.h5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": path.read_bytes()[:2000], "altered": bytes(content), "empty": b""}[damage])
    before = sorted(p.relative_to(folder) for p in folder.rglob("*.h5"))
    for command in ("iterate", "inspect", "check"):
        refused(run(command, folder), 1, str(path), "is damaged", "alflow resume")
    if damage == "altered":  # status looks at names and headers only, which tell that a file was cut
        assert run("status", folder).exit_code == 0
    else:
        refused(run("status", folder), 1, str(path), "is damaged", "alflow resume")
    assert sorted(p.relative_to(folder) for p in folder.rglob("*.h5")) == before


def test_missing_step_is_named(finished_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished_run, tmp_path / "run")
    (folder / "cycles/001/select.h5").unlink()
    refused(run("iterate", folder), 1, "select.h5 is missing")


def test_changed_reference_is_refused(finished_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished_run, tmp_path / "run")
    (folder / "alflow.toml").write_text(TINY + '[reference]\nmethod = "GFN1-xTB"\n')
    refused(run("iterate", folder), 2, "[reference] is now", "GFN1-xTB", "begin a new run directory")


BAD_SETTINGS = {
    "misspelt": ("[select]\nbudgt = 3", ["alflow.toml", "unknown key select.budgt", "did you mean budget?"]),
    "unknown": ("[zzz]\na = 1", ["unknown key zzz", "expected one of", "sample"]),
    "wrong type": (
        '[sample]\ntimestep = "0.5 fs"',
        ["sample.timestep", "expected a valid number (fs)", 'found "0.5 fs"'],
    ),
    "bool": ("[sample]\nsteps = true", ["sample.steps", "found true"]),
    "negative": ("[sample]\ntemperature = [300, -300]", ["sample.temperature[1]", "greater than 0", "K", "found -300"]),
    "stride": ("[sample]\nsteps = 5\nstride = 10", ["stride = 10 is larger than steps = 5"]),
    "not toml": ("[sample", ["is not TOML", "line"]),
    "kind": ('[reference]\nkind = "magic"', ["reference.kind", '"tblite"', 'found "magic"']),
    "kind of baseline": ('[baseline]\nkind = "magic"', ["baseline.kind", '"tblite", "ase", "model"', 'found "magic"']),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings(name: str, tmp_path: Path) -> None:
    text, words = BAD_SETTINGS[name]
    head = '[[system]]\nname = "water"\nstructures = "water.xyz"\n'
    folder = make_run(tmp_path / "run", head + text + "\n")
    refused(run("iterate", folder), 2, *words)


def test_systems_are_needed_and_differ(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "seed = 1\n")
    refused(run("iterate", folder), 2, "system is missing")
    one = '[[system]]\nname = "a"\nstructures = "water.xyz"\n'
    make_run(folder, one + one)
    refused(run("iterate", folder), 2, "system names must differ")
    make_run(folder, one.replace("[[system]]", "[system]"))
    refused(run("iterate", folder), 2, "expected tables [[system]]")
    refused(run("iterate", tmp_path / "nowhere"), 2, "no alflow.toml", "alflow init")


BAD_STRUCTURES = {
    "empty": ("", ["water.xyz is empty"]),
    "unreadable": ("nonsense\nmore\n", ["water.xyz", "cannot be read"]),
    "nan": (WATER.replace("0.763", "nan"), ["water.xyz frame 0", "position of atom 1 is not finite"]),
    "overlap": (
        WATER.replace("-0.763", "0.760"),
        ["water.xyz frame 0", "H1 and H2 overlap", "0.003 Å apart", "0.310 Å"],
    ),
    "dummy": (WATER.replace("O ", "X "), ["atom 0 is of no known element"]),
    "electrons": (WATER.replace("3\n", "2\n", 1).rsplit("H", 1)[0], ["9 electrons", "multiplicity"]),
}


@pytest.mark.parametrize("name", BAD_STRUCTURES)
def test_bad_structures(name: str, tmp_path: Path) -> None:
    text, words = BAD_STRUCTURES[name]
    folder = make_run(tmp_path / "run", structures=text)
    refused(run("iterate", folder), 2, *words)


def test_predict_goes_on_after_what_it_cannot_treat(tmp_path: Path) -> None:
    """Each frame has its place in the output, with a prediction or with the reason why there is none."""
    model, data, out = tmp_path / "m.h5", tmp_path / "new.xyz", tmp_path / "out.xyz"
    package.fit(bonded(water(), 12), **SMALL).save(model)
    apart = water().positions[:3]
    frames = [Atoms("OH2", apart), Atoms("OHF", apart), Atoms("OH2", apart[[0, 1, 1]]), Atoms("OH2", np.nan * apart),
              Atoms(), Atoms("OH2", 1.01 * apart)]  # fmt: skip
    frames[1].calc = SinglePointCalculator(frames[1], energy=-7.0, forces=np.ones((3, 3)))
    ase.io.write(data, frames)
    done = run("predict", model, data, "-o", out)
    assert done.exit_code == 2
    assert done.stdout == f"{out}: 6 structures, 4 not predicted\n"
    found = ase.io.read(out, ":")
    words = {1: "F in HFO: not in the training set", 2: "H1 and H2 overlap", 3: "position of atom 0", 4: "no atoms"}
    lines = iter(done.stderr.splitlines())
    for k, frame in enumerate(found):
        assert len(frame) == len(frames[k])
        if k in words:
            assert frame.calc is None
            assert f"{data} frame {k}" in frame.info["not_predicted"]
            assert words[k] in frame.info["not_predicted"]
            assert next(lines) == f"alflow: {frame.info['not_predicted']}"
        else:
            assert frame.get_potential_energy() == pytest.approx(package.load(model).predict(frames[k]).energy)
            assert "not_predicted" not in frame.info
    assert next(lines, None) is None


def test_what_a_file_calls_energy_is_no_prediction(tmp_path: Path) -> None:
    """Formats that keep ``info`` have there what scripts have left."""
    model, data, out = tmp_path / "m.h5", tmp_path / "new.traj", tmp_path / "out.xyz"
    package.fit(bonded(water(), 12), **SMALL).save(model)
    frames = [water(), Atoms("F")]
    for frame in frames:
        frame.info = {"energy": -7.0, "free_energy": -8.0, "source": "there"}
    ase.io.write(data, frames)
    assert run("predict", model, data, "-o", out).exit_code == 2
    good, bad = ase.io.read(out, ":")
    assert good.get_potential_energy() == pytest.approx(package.load(model).predict(frames[0]).energy)
    assert bad.calc is None
    for frame in (good, bad):
        assert (frame.info["given_energy"], frame.info["given_free_energy"]) == (-7.0, -8.0)
        assert frame.info["source"] == "there"
    frames[0].arrays["forces"] = np.ones((len(frames[0]), 3))
    out = predicted(package.load(model), frames[0], "here")
    np.testing.assert_array_equal(out.arrays["given_forces"], 1.0)
    assert "forces" not in out.arrays


def test_no_initial_structures(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "water.xyz").unlink()
    refused(run("iterate", folder), 2, "water.xyz", "no such file")


def test_train_and_predict(finished_run: Path, tmp_path: Path) -> None:
    data, model, out = tmp_path / "all.xyz", tmp_path / "m.h5", tmp_path / "out.xyz"
    run("export", finished_run, data)
    result = run("train", data, "-o", model, "--members", 8, "--cutoff", 4, "--features", 90, "--energy-weight", 30)
    assert result.exit_code == 0, result.stderr
    found = package.load(model).settings
    assert (found.cutoff, found.n_features, found.energy_weight) == (4.0, 90, 30.0)
    assert "out-of-bag RMSE" in result.stdout
    assert run("predict", model, data, "-o", out).exit_code == 0
    frame = ase.io.read(out, 0)
    for kind in ("spread", "sigma"):
        assert frame.info[f"energy_{kind}"] > 0
        assert frame.arrays[f"forces_{kind}"].shape == (3, 3)
        assert frame.arrays[f"atom_{kind}"].shape == (3,)
    other = tmp_path / "other.xyz"
    other.write_text("2\n\nC 0 0 0\nO 0 0 1.1\n")
    partly = run("predict", model, other, "-o", out)
    assert (partly.exit_code, partly.stdout) == (2, f"{out}: 1 structures, 1 not predicted\n")
    assert "other.xyz frame 0: C in CO: not in the training set, which has H, O" in partly.stderr
    other.write_text(WATER)
    refused(run("train", other, "-o", model), 2, "has no energy", "--energy-key")
    refused(run("predict", data, other, "-o", out), 1, "is not a model")
    refused(run("predict", tmp_path / "none.h5", other, "-o", out), 1, "no such file")


def test_a_run_with_a_baseline(tmp_path: Path) -> None:
    """The committee learns the difference from GFN1-xTB; its file names the baseline, but cannot hold it."""
    folder = make_run(tmp_path / "run", TINY + '[baseline]\nkind = "tblite"\n')
    done = alflow("iterate", folder)
    assert done.returncode == 0, done.stderr
    assert strict(run("status", folder, "--json").stdout)["cycles"][1]["energy_rmse"] < 0.1
    model, data, out = tmp_path / "m.h5", tmp_path / "all.xyz", tmp_path / "o.xyz"
    run("export", folder, model)
    run("export", folder, data)
    assert run("predict", model, data, "-o", out).exit_code == 0
    for frame, label in zip(ase.io.read(out, ":"), ase.io.read(data, ":"), strict=True):
        assert frame.get_potential_energy() == pytest.approx(label.get_potential_energy(), abs=0.1)
    with pytest.raises(PotentialError, match="differences from a baseline"):
        package.load(model).predict(ase.io.read(data, 0))
    other = tmp_path / "other.toml"
    other.write_text('[baseline]\nmethod = "IPEA1-xTB"\n')
    refused(run("predict", model, data, "-o", out, "--baseline", other), 2, "m.h5 was trained on", "GFN1", "IPEA1")


def test_a_baseline_that_a_file_cannot_name(tmp_path: Path) -> None:
    """Any ASE calculator: it is given again, and nothing is imported because a file says so."""
    data, model, out, lj = (tmp_path / name for name in ("all.xyz", "m.h5", "o.xyz", "lj.toml"))
    rng, frames = np.random.default_rng(0), []
    for _ in range(12):
        atoms = Atoms(
            "Ar4", 4.0 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) + 0.1 * rng.normal(size=(4, 3))
        )
        calculator = LennardJones(sigma=3.4, epsilon=0.02, rc=10.0)
        results = {"energy": calculator.get_potential_energy(atoms), "forces": calculator.get_forces(atoms)}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    ase.io.write(data, frames)
    lj.write_text(
        '[baseline]\nkind = "ase"\nname = "ase.calculators.lj.LennardJones"\n'
        "parameters = {sigma = 3.4, epsilon = 0.02, rc = 10.0}\n"
    )
    result = run("train", data, "-o", model, "--members", 8, "--baseline", lj)
    assert result.exit_code == 0, result.stderr
    refused(run("predict", model, data, "-o", out), 2, "m.h5 was trained on a baseline", "LennardJones", "--baseline")
    assert run("predict", model, data, "-o", out, "--baseline", lj).exit_code == 0
    for frame, label in zip(ase.io.read(out, ":"), frames, strict=True):
        assert frame.get_potential_energy() == pytest.approx(label.get_potential_energy(), abs=1e-6)
    assert run("train", data, "-o", model, "--members", 8).exit_code == 0
    refused(run("predict", model, data, "-o", out, "--baseline", lj), 2, "trained without a baseline")


def test_a_baseline_has_the_charge_of_the_system(tmp_path: Path) -> None:
    """A dication learned with the same method as baseline: nothing is left to learn but zero, walkers included."""
    settings = TINY.replace('name = "water"', 'name = "water"\ncharge = 2') + '[baseline]\nkind = "tblite"\n'
    folder = make_run(tmp_path / "run", settings + 'method = "GFN2-xTB"\n')
    done = alflow("iterate", folder)
    assert done.returncode == 0, done.stderr
    for cycle in strict(run("status", folder, "--json").stdout)["cycles"]:
        assert cycle["energy_rmse"] < 1e-6
        assert cycle["force_rmse"] < 1e-6


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = alflow("--debug", "iterate", tmp_path)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "Traceback" not in alflow("iterate", tmp_path).stderr


def test_failed_calculations_are_recorded_and_the_loop_goes_on(tmp_path: Path) -> None:
    """Half of the labels cannot converge: they fail with their reason, the others are learned from."""
    driver = tmp_path / "driver.py"
    driver.write_text(
        "from alflow.reference.codes import tblite\nfrom alflow.errors import LabelError\n"
        "plain = tblite.TbliteMethod.calculate\n"
        "def calculate(self, atoms, folder=None):\n"
        "    if atoms.positions[0, 0] > 0.03:\n        raise LabelError('not_converged', 'on purpose')\n"
        "    return plain(self, atoms, folder)\n"
        "tblite.TbliteMethod.calculate = calculate\n"
        "if __name__ == '__main__':\n    from alflow.cli import main\n    main()\n"
    )
    folder = make_run(tmp_path / "run", TINY + "[failures]\nmax_share = 0.9\n")
    done = subprocess.run([sys.executable, driver, "iterate", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    failed = [row for row in strict(run("inspect", folder, "--json").stdout) if row["status"] == "failed"]
    assert failed
    assert all(row["failure"] == "not_converged: on purpose" for row in failed)
    assert all(row["energy"] is None for row in failed)
    assert strict(run("status", folder, "--json").stdout)["cycles"][0]["n_failed"] >= 1
    assert len(list((folder / "failed").glob("*.h5"))) == len(failed)


@pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_ctrl_c_and_resume(tmp_path: Path, name: str) -> None:
    folder = make_run(tmp_path / "run", TINY.replace("steps = 60", "steps = 4000"))
    # A shell that starts the tests in the background makes them ignore SIGINT, and so their children: undo that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from alflow.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "iterate", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while not any(folder.glob("cycles/001/walkers/*.h5")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.Signals[name])
    start = time.monotonic()
    _, error = process.communicate(timeout=20)
    assert time.monotonic() - start < 3
    assert process.returncode == 1
    assert len(error.splitlines()) == 1
    assert f"go on with `alflow resume {folder}`" in error
    done = alflow("resume", folder)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in alflow("resume", folder).stdout


def test_bars_on_a_terminal(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "alflow", "iterate", str(folder)],
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    assert process.wait() == 0
    assert b"\x1b[" in seen
    assert "cycle 1 sample" in seen.decode()


def test_help_is_quick() -> None:
    """Under 0.3 s of processor time, best of three; nothing numerical is imported."""
    times = []
    for _ in range(3):
        before = os.times()
        done = alflow("--help")
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert done.returncode == 0
    assert min(times) < 0.3
    code = "import sys, alflow.cli; sys.exit(any(m in sys.modules for m in ('numpy', 'ase', 'h5py', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
