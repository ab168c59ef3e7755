"""Active learning on structures that are labelled already: candidates and labels from files."""

import json
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.cli import main
from alflow.records.sample import SampleRecord
from alflow.records.select import SelectRecord
from alflow.state.store import Store
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from click.testing import CliRunner

from conftest import alflow

SETTINGS = """
[[system]]
name = "copper"
structures = "start.xyz"
[potential]
n_members = 8
n_max = 4
l_max = 2
n_features = 60
cutoff = 4.0
[reference]
kind = "dataset"
file = "all.xyz"
[sample]
candidates = "all.xyz"
[select]
budget = 5
force_sigma_min = 0.0
[converge]
max_cycles = 2
[executor]
workers = 1
"""


def labelled_copper(n: int) -> list:
    frames = []
    for seed in range(n):
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
        atoms.rattle(0.05 + 0.002 * seed, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        atoms.get_stress()
        atoms.info = {"fermi_energy": 1.0 + seed, "eigenvalues": np.arange(6.0) + seed}
        frames.append(atoms)
    return frames


def test_a_data_set_is_replayed_and_its_labels_come_back(tmp_path: Path) -> None:
    frames = labelled_copper(60)
    run = tmp_path / "run"
    run.mkdir()
    (run / "alflow.toml").write_text(SETTINGS)
    ase.io.write(run / "all.xyz", frames)
    ase.io.write(run / "start.xyz", frames[:12])
    check = alflow("check", run)
    assert check.returncode == 0, check.stderr
    assert "reference all.xyz" in check.stdout or "reference " in check.stdout
    done = alflow("iterate", run)
    assert done.returncode == 0, done.stderr
    rows = json.loads(alflow("inspect", run, "--json").stdout)
    assert [row["cycle"] for row in rows] == [0] * 12 + [1] * 5 + [2] * 5
    assert len({row["id"] for row in rows}) == 22, "no structure twice"
    assert alflow("export", run, tmp_path / "labels.xyz").returncode == 0
    source = {round(float(frame.get_potential_energy()), 6): frame for frame in ase.io.read(run / "all.xyz", ":")}
    for frame in ase.io.read(tmp_path / "labels.xyz", ":"):
        original = source[round(float(frame.get_potential_energy()), 6)]
        np.testing.assert_allclose(frame.get_forces(), original.get_forces(), atol=1e-7)
        np.testing.assert_allclose(frame.get_stress(), original.get_stress(), atol=1e-7)
        assert frame.info["fermi_energy"] == original.info["fermi_energy"]
        np.testing.assert_allclose(frame.info["eigenvalues"], original.info["eigenvalues"])
    grown = json.loads(alflow("status", run, "--json").stdout)["cycles"]
    assert [cycle["n_labelled"] for cycle in grown] == [12, 5, 5]


def test_candidates_of_an_unknown_system_are_named(tmp_path: Path) -> None:
    frames = labelled_copper(14)
    run = tmp_path / "run"
    run.mkdir()
    (run / "alflow.toml").write_text(SETTINGS.replace('candidates = "all.xyz"', 'candidates = "pool.xyz"'))
    ase.io.write(run / "all.xyz", frames)
    ase.io.write(run / "start.xyz", frames[:12])
    frames[13].info["system"] = "gold"
    ase.io.write(run / "pool.xyz", frames[12:])
    done = alflow("iterate", run)
    assert done.returncode == 2
    assert f"{run / 'pool.xyz'} frame 1: system 'gold': expected one of copper" in done.stderr


# --- what is selected of them -----------------------------------------------------------------------------------------

EMT_SETTINGS = """
[[system]]
name = "metal"
structures = "start.xyz"
[potential]
n_members = 8
n_max = 4
l_max = 2
n_features = 60
cutoff = 4.0
[reference]
kind = "ase:ase.calculators.emt.EMT"
[sample]
candidates = "pool.xyz"
[select]
force_sigma_min = 0.05
[converge]
max_cycles = 2
[executor]
workers = 1
"""


def metal(symbols: str, seed: int, rattle: float = 0.1, volume: float = 1.0) -> Atoms:
    """A cubic cell of four atoms."""
    atoms = bulk("Cu", cubic=True, a=4.0 * volume ** (1 / 3))
    atoms.symbols = symbols
    atoms.rattle(rattle, seed=seed)
    return atoms


def run_of(folder: Path, start: list[Atoms], pool: list[Atoms], settings: str = EMT_SETTINGS) -> Path:
    folder.mkdir()
    (folder / "alflow.toml").write_text(settings)
    ase.io.write(folder / "start.xyz", start)
    ase.io.write(folder / "pool.xyz", pool)
    return folder


def command(*arguments: object) -> str:
    """What a command prints, in this process: it starts faster."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def selections(run: Path) -> list[SelectRecord]:
    store = Store(run)
    return [store.read(cycle, "select", SelectRecord) for cycle in store.cycles()[1:]]


COMPOSITIONS = (
    [metal(symbols, seed) for symbols in ("Cu2Ag2", "Ag2Au2") for seed in range(12)],
    [metal("Cu2Au2", seed) for seed in range(8)],
)
VOLUMES = (
    [metal("Al4", seed, 0.02, volume) for volume in (0.8, 0.9, 1.0, 1.1, 1.2, 1.3) for seed in range(3)],
    [metal("Al4", 50 + seed, 0.1, volume) for volume in (0.8, 1.0, 1.2) for seed in range(4)],
)


@pytest.mark.parametrize(("start", "pool"), [COMPOSITIONS, VOLUMES], ids=["compositions", "volumes"])
def test_a_spread_training_set_makes_no_duplicates(start: list[Atoms], pool: list[Atoms], tmp_path: Path) -> None:
    """What the committee is unsure of is labelled; only copies of labelled structures are duplicates."""
    moved, rounded, shuffled = (start[k].copy() for k in (0, 5, 9))
    moved.translate([0.3, 0.1, 0.7])
    rounded.positions = rounded.positions.round(6)
    copies = [start[3], moved, rounded, shuffled[[2, 3, 1, 0]]]
    run = run_of(tmp_path / "run", start, [*pool, *copies])
    command("iterate", run)
    first, second = selections(run)
    assert first.n_candidates == len(pool) + len(copies)
    assert first.n_rejected_duplicate <= len(
        copies
    )  # of those that the committee is unsure of, though it has seen them
    assert (first.n_rejected_unphysical, first.n_rejected_failed, first.n_unseen, first.n_left) == (0, 0, 0, 0)
    assert len(first.ids) >= 0.75 * len(pool)
    assert (first.source < len(pool)).all()
    sampled = Store(run).read(2, "sample", SampleRecord)
    unlabelled = np.setdiff1d(np.arange(len(pool)), [*first.source, *second.source])
    assert (sampled.largest_force_sigma[unlabelled] < 0.05).all()


def test_surroundings_unlike_all_labels_are_selected_whatever_sigma_says(tmp_path: Path) -> None:
    """Only the grade asks for labels here, and it is said, shown and kept."""
    start = [metal("Cu4", seed, 0.01) for seed in range(12)]
    near, far = [metal("Cu4", 30 + seed, 0.01) for seed in range(3)], [metal("Cu4", 40, 0.15)]
    settings = EMT_SETTINGS.replace("force_sigma_min = 0.05", "force_sigma_min = 1e3\ngrade_min = 50")
    settings = settings.replace("max_cycles = 2", "max_cycles = 3\nforce_sigma = 90.0\ncycles = 1")
    run = run_of(tmp_path / "run", start, [*near, *far], settings)
    command("iterate", run, "--cycles", 1)
    (selected,) = selections(run)
    status = json.loads(command("status", run, "--json"))
    assert not status["converged"], "sigma is below its bound, and says nothing of these"
    assert "1 selected frames unlike all labels" in status["reason"]
    assert selected.source.tolist() == [3]
    assert selected.n_rejected_sigma == 3
    assert selected.largest_grade[0] > 50
    assert selected.reason[0].startswith(f"extrapolation grade {selected.largest_grade[0]:.3g} >= 50; ")
    (row,) = json.loads(command("inspect", run, "--cycle", 1, "--json"))
    assert row["largest_grade"] == pytest.approx(selected.largest_grade[0])
    assert "grade" in command("inspect", run).splitlines()[1]


def test_copies_of_the_only_label_of_a_composition_are_duplicates(tmp_path: Path) -> None:
    """Rounding is no scale, where labels of a composition coincide or there is one only."""
    only = metal("Cu3Ag", 3)
    moved, shuffled = only.copy(), only[[2, 3, 1, 0]]
    moved.translate([0.3, 0.1, 0.7])
    settings = EMT_SETTINGS.replace("force_sigma_min = 0.05", "force_sigma_min = 0.0")
    run = run_of(tmp_path / "run", [*(metal("Cu4", seed) for seed in range(12)), only], [moved, shuffled], settings)
    command("iterate", run, "--cycles", 1)
    (selected,) = selections(run)
    assert (len(selected.ids), selected.n_rejected_duplicate) == (0, 2)


def test_candidates_with_a_new_species_are_selected_first(tmp_path: Path) -> None:
    start = [metal("Cu4", seed) for seed in range(12)]
    overlapping = metal("Cu3Pt", 0)
    overlapping.positions[1] = overlapping.positions[0] + [0.0, 0.0, 0.8]
    new = [*(metal("Cu3Ag", seed) for seed in range(5)), metal("Cu3Pt", 1), metal("Cu3Pt", 1), overlapping]
    run = run_of(tmp_path / "run", start, [*(metal("Cu4", 20 + seed) for seed in range(5)), *new],
                 EMT_SETTINGS.replace("force_sigma_min = 0.05", "force_sigma_min = 0.0\nbudget = 5"))  # fmt: skip
    said = command("iterate", run)
    assert "8 candidates have species that the committee does not know (5 AgCu3, 3 Cu3Pt): none is less known" in said
    first, second = selections(run)
    assert sorted({frame.get_chemical_formula() for frame in first.frames}) == ["AgCu3", "Cu3Pt"]
    assert (len(first.ids), first.n_unseen, first.n_left) == (5, 6, 6)
    assert (first.n_rejected_unphysical, first.n_rejected_duplicate) == (1, 1)
    assert (first.source >= 5).all()
    assert np.isnan(first.largest_force_sigma).all()
    assert all(" not known to the committee; " in reason for reason in first.reason)
    # Then they are known, and the rest of the file has its turn.
    assert second.n_unseen == 0
    assert len(second.ids) == 5
    shown = command("inspect", run)
    assert (
        "cycle 1: 5 of 13 frames selected (6 candidates have species that the committee does not know); left" in shown
    )
    rows = json.loads(command("inspect", run, "--cycle", 1, "--json"))
    assert [row["energy_sigma"] for row in rows] == [None] * 5
    assert {row["status"] for row in rows} == {"labelled"}


@pytest.mark.slow
def test_a_run_with_unknown_species_in_its_candidates_has_not_converged(tmp_path: Path) -> None:
    """However sure the committee is of all others; and where nothing is left to be labelled, cycles end."""
    start = [metal("Cu4", seed) for seed in range(12)]
    settings = EMT_SETTINGS.replace("max_cycles = 2", "max_cycles = 6\nforce_sigma = 90.0\ncycles = 1")
    run = run_of(tmp_path / "run", start, [start[0], metal("Cu3Ag", 1)], settings)
    command("iterate", run, "--cycles", 1)
    said = json.loads(command("status", run, "--json"))
    assert (said["converged"], said["ended"]) == (False, False)
    assert "1 candidates of species that the committee did not know" in said["reason"]
    (run / "alflow.toml").write_text(settings.replace("force_sigma = 90.0", "force_sigma = 1e-9"))
    end = command("iterate", run)
    assert "cycle 2 select: none of 2 frames selected; left out: " in end
    assert "ended: nothing in pool.xyz is left to be labelled; largest sampled force sigma" in end
    said = json.loads(command("status", run, "--json"))
    assert (said["converged"], said["ended"], said["next_cycle"]) == (False, True, 3)
    (run / "alflow.toml").write_text(settings)
    assert "converged: largest sampled force sigma <= 90 eV/Å for 1 cycle(s)" in command("iterate", run, "--cycles", 1)
    assert command("status", run).splitlines()[-1].startswith("converged: yes (largest sampled force sigma <= 90 eV/Å")


def test_candidates_that_are_all_of_unknown_species(tmp_path: Path) -> None:
    run = run_of(
        tmp_path / "run", [metal("Cu4", seed) for seed in range(12)], [metal("Ag4", seed) for seed in range(3)]
    )
    command("iterate", run, "--cycles", 1)
    (selected,) = selections(run)
    assert len(selected.ids) == selected.n_unseen == 3
    assert json.loads(command("status", run, "--json"))["cycles"][1]["largest_force_sigma"] is None


# --- a run of an earlier version --------------------------------------------------------------------------------------


def test_a_run_of_schema_5_goes_on(tmp_path: Path) -> None:
    """Its samples and its selection say nothing of what cannot be evaluated: there was no place for it."""
    run = shutil.copytree(Path(__file__).parents[1] / "samples/schema-5", tmp_path / "run")
    store = Store(run)
    assert store.header(1, "select").schema == 5
    sampled, selected = store.read(1, "sample", SampleRecord), store.read(1, "select", SelectRecord)
    assert (len(sampled.frames), sampled.unseen, sampled.failures, sampled.n_candidates) == (7, (), (), 7)
    assert (len(selected.ids), selected.n_rejected_failed, selected.n_unseen) == (2, 0, 0)
    assert "cycle 1: 2 of 7 frames selected; left out: " in command("inspect", run)
    assert "ended: converge.max_cycles = 1 cycles done" in command("iterate", run)
    assert [row["status"] for row in json.loads(command("inspect", run, "--cycle", 1, "--json"))] == ["labelled"] * 2
