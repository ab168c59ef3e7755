"""What is added to a run that has begun: structures, systems; and what may not be changed in it."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.records.label import LabelRecord
from alflow.state.store import Store
from ase import Atoms
from ase.build import bulk

from conftest import alflow

SETTINGS = """
seed = 1
[[system]]
name = "copper"
structures = "copper.xyz"
copies = 11
[potential]
cutoff = 4.5
n_members = 8
n_max = 4
l_max = 2
n_features = 60
[reference]
kind = "ase:ase.calculators.emt.EMT"
[sample]
temperature = [600]
timestep = 2.0
steps = 20
stride = 10
force_sigma_max = 50
[select]
budget = 2
force_sigma_min = 0.0
[converge]
max_cycles = 9
[executor]
workers = 1
"""
ALUMINIUM = '[[system]]\nname = "aluminium"\nstructures = "aluminium.xyz"\ncopies = 3\n[potential]'


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "alflow.toml").write_text(SETTINGS)
    ase.io.write(folder / "copper.xyz", bulk("Cu", cubic=True))
    done = alflow("iterate", folder, "--cycles", 0)
    assert done.returncode == 0, done.stderr
    return folder


def labelled(run: Path, cycle: int) -> list[Atoms]:
    return list(Store(run).read(cycle, "label", LabelRecord).frames)


def strained(scale: float) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    return atoms


def test_a_system_that_is_added_is_labelled_in_the_next_cycle_and_then_walks(run: Path) -> None:
    ase.io.write(run / "aluminium.xyz", bulk("Al", cubic=True))
    (run / "alflow.toml").write_text(SETTINGS.replace("[potential]", ALUMINIUM))
    check = alflow("check", run)
    assert check.returncode == 0, check.stdout
    assert (
        "calculations so far: 12; 4 initial structures of system aluminium are new, for the next cycle" in check.stdout
    )
    done = alflow("iterate", run, "--cycles", 2)
    assert done.returncode == 0, done.stderr
    assert "system aluminium has no labels (it is new): it has walkers as soon as it has some" in done.stdout
    assert "system aluminium: 4 initial structures are new, and labelled in this cycle" in done.stdout
    formulas = [[frame.get_chemical_formula() for frame in labelled(run, cycle)] for cycle in (1, 2)]
    assert formulas[0].count("Al4") == 4
    assert {"Al4", "Cu4"} >= set(formulas[1])
    assert done.stdout.count("initial structures are new") == 1
    assert "walker 1" in done.stdout


def test_structures_that_are_added_to_a_file_are_labelled_and_copies_are_not_made_again(run: Path) -> None:
    ase.io.write(run / "copper.xyz", [bulk("Cu", cubic=True), strained(1.02), strained(0.98)])
    (run / "alflow.toml").write_text(SETTINGS.replace("copies = 11", "copies = 20"))
    done = alflow("iterate", run, "--cycles", 1)
    assert done.returncode == 0, done.stderr
    assert "system copper: 2 initial structures are new, and labelled in this cycle" in done.stdout
    volumes = {round(float(frame.cell.volume), 6) for frame in labelled(run, 1)}
    assert volumes == {round(float(strained(scale).cell.volume), 6) for scale in (1.0, 1.02, 0.98)}


def test_a_file_of_a_system_that_has_begun_may_go(run: Path) -> None:
    (run / "copper.xyz").unlink()
    done = alflow("iterate", run, "--cycles", 1)
    assert done.returncode == 0, done.stderr
    assert len(labelled(run, 1)) <= 2


def test_another_reference_is_refused_by_check_too(run: Path) -> None:
    text = SETTINGS.replace("ase.calculators.emt.EMT", "ase.calculators.morse.MorsePotential")
    (run / "alflow.toml").write_text(text)
    check = alflow("check", run)
    assert check.returncode != 0
    assert "[reference] is now " in check.stdout + check.stderr
    assert "change it back, or begin a new run directory" in check.stdout + check.stderr
    assert "change it back" in alflow("iterate", run).stderr


def test_what_was_asked_for_once_is_not_asked_for_again(run: Path) -> None:
    before = [frame.positions for frame in labelled(run, 0)]
    assert alflow("iterate", run, "--cycles", 1).returncode == 0
    for frame in labelled(run, 1):
        assert not any(np.array_equal(frame.positions, positions) for positions in before)


def test_a_run_none_of_whose_systems_has_labels_says_so(run: Path) -> None:
    ase.io.write(run / "aluminium.xyz", bulk("Al", cubic=True))
    (run / "alflow.toml").write_text(SETTINGS.replace("copper", "aluminium"))
    message = "no system of alflow.toml has "
    assert message in alflow("check", run).stderr
    done = alflow("iterate", run, "--cycles", 1)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_system_all_of_whose_calculations_fail_stops_no_other(run: Path) -> None:
    ase.io.write(run / "aluminium.xyz", bulk("Fe", cubic=True))  # which EMT does not know
    (run / "alflow.toml").write_text(SETTINGS.replace("[potential]", ALUMINIUM) + "[failures]\nmax_share = 1.0\n")
    done = alflow("iterate", run, "--cycles", 2)
    assert done.returncode == 0, done.stderr
    assert "has no labels (all its calculations failed, see `alflow inspect --failed`)" in done.stdout
