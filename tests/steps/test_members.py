"""Runs whose members are programs of others: trained by one, or calculators that are there already."""

import json
import shutil
from pathlib import Path

import alflow as package
import ase.io
import numpy as np
import pytest
from alflow import config
from alflow.cli import main
from alflow.errors import ConfigError
from alflow.reference.codes.model import ModelBaseline
from alflow.steps.check import problems
from click.testing import CliRunner, Result

from conftest import TINY, alflow, make_run
from lj_frames import labelled, water

HERE = Path(__file__).parents[1]
TRAINED = """
[potential]
kind = "trained"
n_members = 2
command = "{python} pair_trainer.py {train} {validation} {output} {seed}"
calculator = "pair_trainer.Pairs"
parameters = { model = "{model}" }
"""
CALCULATORS = """
[potential]
kind = "calculators"
[[potential.members]]
calculator = "ase.calculators.morse.MorsePotential"
parameters = { epsilon = 2.0, r0 = 1.0, rho0 = 4.0, rcut1 = 2.0, rcut2 = 3.0 }
[[potential.members]]
calculator = "odd_calculators.Odd"
parameters = { epsilon = 0.5, sigma = 0.9 }
[[potential.members]]
file = "cheap.h5"
"""


def settings(potential: str) -> str:
    head, _, rest = TINY.partition("[potential]")
    return f"{head}{potential}[sample]{rest.partition('[sample]')[2]}\n[failures]\nmax_share = 0.9\n"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("trained") / "run", settings(TRAINED))
    shutil.copy(HERE / "pair_trainer.py", folder)
    done = alflow("iterate", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_everything_works_for_trained_members(trained_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(trained_run, folder)  # members are found beside the files that name them, wherever that is
    assert problems(folder) == []
    checked = alflow("check", folder)
    assert checked.returncode == 0, checked.stdout
    lines = checked.stdout.splitlines()
    assert sum(line.startswith("ok     member") and "forces agree with differences" in line for line in lines) == 2
    assert any("2 members share nothing, a structure takes" in line for line in lines)
    done = alflow("produce", folder, "--steps", 20, "--walkers", 1)
    assert done.returncode == 0, done.stderr
    averaged = alflow("average", folder / "production/run", "-o", "potential_energy", "--drop", 0)
    assert averaged.returncode == 0, averaged.stderr
    model, data, out = tmp_path / "m.h5", tmp_path / "all.xyz", tmp_path / "out.xyz"
    assert run("export", folder, model).exit_code == run("export", folder, data).exit_code == 0
    refused = run("predict", model, data, "-o", out)
    assert refused.exit_code == 2
    assert "`alflow predict --trust`" in refused.stderr
    assert run("predict", "--trust", model, data, "-o", out).exit_code == 0
    frame = ase.io.read(out, 0)
    assert "forces_sigma" in frame.arrays
    assert "atom_sigma" not in frame.arrays
    other = tmp_path / "other.h5"
    result = run("train", data, "-o", other, "--config", folder / "alflow.toml")
    assert result.exit_code == 0, result.stderr
    assert "2 members, " in result.stdout
    assert not list(tmp_path.glob("*.models"))
    a, b = (package.load(path, trust=True).predict(frame) for path in (model, other))
    np.testing.assert_allclose(a.energies, b.energies, atol=1e-4)  # a file of labels has eight digits
    refused = run("train", data, "-o", other, "--config", folder / "alflow.toml", "--cutoff", 4)
    assert (refused.exit_code, refused.stderr) == (
        2,
        "alflow: [potential] of kind 'trained' has no cutoff: leave it out\n",
    )
    victim = next((folder / "models").glob("*/model"))
    victim.write_text("{}")
    assert any("is damaged: its content is not what the training program wrote" in line for line in problems(folder))


@pytest.mark.slow
def test_a_training_that_fails_is_told_kept_and_tried_again_when_asked(tmp_path: Path) -> None:
    broken = settings(TRAINED).replace("{seed}", "{seed} --fault nothing")
    folder = make_run(tmp_path / "run", broken)
    shutil.copy(HERE / "pair_trainer.py", folder)
    done = alflow("iterate", folder)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("alflow: training of 2 of 2 members failed; member 0: no_output: ")
    text = alflow("inspect", folder, "--failed").stdout
    assert "training of member 1" in text
    assert "attempt 1: no_output" in text
    assert "| trained on" in text
    assert f"alflow resume {folder} --retry" in text
    entries = json.loads(alflow("inspect", folder, "--failed", "--json").stdout)
    assert [entry["member"] for entry in entries if "member" in entry] in ([0, 1], [1, 0])
    assert alflow("resume", folder).returncode == 1
    # The cause lay outside the settings: the same trainings again.
    script = folder / "pair_trainer.py"
    script.write_text(script.read_text())
    trainer = (folder / "alflow.toml").read_text()
    (folder / "alflow.toml").write_text(trainer.replace(" --fault nothing", ""))
    done = alflow("resume", folder, "--retry")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_everything_works_for_calculators(finished_run: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", settings(CALCULATORS))
    shutil.copy(HERE / "odd_calculators.py", folder)
    assert run("export", finished_run, folder / "cheap.h5").exit_code == 0
    done = alflow("iterate", folder)
    assert done.returncode == 0, done.stderr
    assert "3 members judge each structure, at least 4 are needed" in done.stdout
    (folder / "cheap.h5").unlink()
    done = alflow("produce", folder, "--steps", 20)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "cheap.h5: no such file" in done.stderr
    assert not list((folder / "production").glob("*/[0-9]*")), "a walk has ended for what is no fault of its structures"


BAD = {
    "weighting by atom": (
        TRAINED + '[baseline]\nweighting = "atom"\n',
        'baseline.weighting = "atom": members of kind "trained" have no gradients of the energies of atoms',
    ),
    "another executor": (TRAINED + "executor = { partitoin = 'gpu' }\n", "potential.executor: partitoin: Extra inputs"),
    "a further attempt": (
        TRAINED + "failures = { crashed = { executor = { workers = 0 } } }\n",
        "potential.failures.crashed[0].executor: workers: Input should be greater than or equal to 1",
    ),
    "one member": (
        CALCULATORS.split("[[", maxsplit=1)[0] + '[[potential.members]]\nfile = "a.h5"\n',
        "potential.members",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_settings_that_do_not_fit_together(name: str, tmp_path: Path) -> None:
    potential, message = BAD[name]
    folder = make_run(tmp_path / "run", settings(potential))
    with pytest.raises(ConfigError) as caught:
        config.load(folder)
    assert message in str(caught.value)


@pytest.mark.slow
def test_check_says_what_is_wrong_with_members(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", settings(TRAINED))
    found = alflow("check", folder)
    assert found.returncode == 2
    assert (
        "FAILED training: calculator pair_trainer.Pairs: ModuleNotFoundError: No module named 'pair_trainer'"
        in found.stdout
    )
    shutil.copy(HERE / "pair_trainer.py", folder)
    assert "ok     training" in alflow("check", folder).stdout
    other = make_run(tmp_path / "other", settings(CALCULATORS.partition("[[potential.members]]\nfile")[0]))
    (other / "odd_calculators.py").write_text(
        (HERE / "odd_calculators.py").read_text().replace('what: str = ""', 'what: str = "wrong forces"')
    )
    found = alflow("check", other)
    assert found.returncode == 2
    (line,) = [line for line in found.stdout.splitlines() if line.startswith("FAILED")]
    assert line.startswith("FAILED member 1 odd_calculators.Odd on H2O: ")
    assert "its forces are off by " in line
    (other / "odd_calculators.py").unlink()
    found = alflow("check", other)
    assert found.returncode == 2
    assert "FAILED member 1 odd_calculators.Odd on H2O: " in found.stdout
    assert "ok     state" in found.stdout  # what comes after it is looked at all the same


@pytest.mark.slow
def test_a_calculator_of_its_own_environment_labels_and_is_a_baseline(tmp_path: Path) -> None:
    """[reference] and [baseline] with an interpreter: the labels are those of the same calculator here."""
    import sys

    wrapper = tmp_path / "env/bin/python"
    wrapper.parent.mkdir(parents=True)
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    text = TINY + (
        '[baseline]\nkind = "ase"\nname = "ase.calculators.lj.LennardJones"\nparameters = {sigma = 0.9}\n'
        'python = "../env/bin/python"\n[reference]\nkind = "ase"\nname = "ase.calculators.morse.MorsePotential"\n'
        "parameters = {epsilon = 2.0, r0 = 1.0, rho0 = 4.0, rcut1 = 2.0, rcut2 = 3.0}\n"
    )
    frames = {}
    for name, python in (("here", ""), ("there", 'python = "../env/bin/python"\n')):
        folder = make_run(tmp_path / name, text + python)
        done = alflow("iterate", folder, "--cycles", 0)
        assert done.returncode == 0, done.stderr
        assert run("export", folder, tmp_path / f"{name}.xyz").exit_code == 0
        frames[name] = (tmp_path / f"{name}.xyz").read_text()
    assert frames["here"] == frames["there"]
    (tmp_path / "env/bin/python").write_text("#!/bin/sh\nexit 3\n")
    found = alflow("check", tmp_path / "there")
    assert found.returncode == 2
    assert "its process ended with exit code 3: expected an interpreter of Python that has ase" in found.stdout


@pytest.mark.slow
def test_members_of_a_file_are_not_found_elsewhere(trained_run: Path, tmp_path: Path) -> None:
    """A train.h5 alone has the names of its members only."""
    shutil.copy(trained_run / "cycles/000/train.h5", tmp_path / "train.h5")
    with pytest.raises(ConfigError, match=r"member\.h5"):
        package.load(tmp_path / "train.h5", trust=True).predict(ase.io.read(trained_run / "water.xyz"))


def test_a_committee_of_other_programs_is_a_baseline_if_it_is_trusted(tmp_path: Path) -> None:
    frames = labelled(water(), 12, scale=0.02)
    members = [{"calculator": "odd_calculators.Odd", "parameters": {"epsilon": e}} for e in (0.3, 0.31)]
    package.fit(frames, kind="calculators", members=members, directory=str(HERE)).save(tmp_path / "cheap.h5")
    section = {"kind": "model", "file": str(tmp_path / "cheap.h5")}
    with pytest.raises(ConfigError, match="calculators that the file names"):
        ModelBaseline.model_validate(section).calculate(frames[0])
    trusted = ModelBaseline.model_validate({**section, "trust": True})
    assert trusted.identity() == ModelBaseline.model_validate(section).identity()
    assert np.isfinite(trusted.calculate(frames[0]).frame.get_potential_energy())
