"""Labels for other programs: of a run, or of any file that is read, in the formats that they train from."""

from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from alflow.cli import main
from alflow.data.formats.writers import WRITERS
from alflow.data.names import Names
from alflow.data.reading import read_labelled
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from click.testing import Result

from test_cli import refused, run

ENDINGS = sorted((name, writer.ending) for name, writer in WRITERS.items())


def alloy(seed: int) -> Atoms:
    """Of copper and silver with EMT's labels, no two alike."""
    atoms = bulk("Cu", cubic=True)
    atoms.symbols[seed % 4] = "Ag"
    atoms.rattle(0.1, seed=seed)
    atoms.calc = EMT()
    atoms.get_stress()
    return atoms


def single() -> Atoms:
    """An atom that is alone: its energy, and no forces."""
    atoms = Atoms("Ag", [[1.0, 2.0, 3.0]])
    atoms.calc = SinglePointCalculator(atoms, energy=-0.25)
    return atoms


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Thirty crystals, an atom that is alone, a structure without forces, and one without any label."""
    path = tmp_path / "labels.traj"
    no_forces = alloy(30)
    no_forces.calc = SinglePointCalculator(no_forces, energy=1.0)
    ase.io.write(path, [*map(alloy, range(30)), single(), no_forces, bulk("Cu")])
    return path


def energies(frames: list[Atoms]) -> list[float]:
    """What tells structures apart, in whatever order their atoms and they are; no two are equal."""
    return sorted(frame.calc.results["energy"] for frame in frames)


def same_labels(frames: list[Atoms], expected: list[Atoms]) -> None:
    assert len(frames) == len(expected)
    both = (sorted(some, key=lambda frame: frame.calc.results["energy"]) for some in (frames, expected))
    for frame, other in zip(*both, strict=True):
        results, wanted = frame.calc.results, other.calc.results
        assert results["energy"] == pytest.approx(wanted["energy"], abs=1e-7)
        # the order of atoms is that of types in folders of DeePMD-kit
        rows, others = (np.lexsort(one.positions.round(6).T) for one in (frame, other))
        assert (frame.numbers[rows] == other.numbers[others]).all()
        np.testing.assert_allclose(frame.positions[rows], other.positions[others], atol=2e-8)
        forces = wanted.get("forces", np.zeros((len(other), 3)))
        np.testing.assert_allclose(results["forces"][rows], forces[others], atol=1e-7)
        if "stress" in wanted:
            np.testing.assert_allclose(results["stress"], wanted["stress"], atol=1e-7)


def test_the_command_knows_every_format() -> None:
    (option,) = [option for option in main.commands["export"].params if option.name == "format_"]
    assert set(option.type.choices) == set(WRITERS)


@pytest.mark.parametrize(("name", "ending"), ENDINGS)
def test_a_run_for_other_programs(name: str, ending: str, finished_run: Path, tmp_path: Path) -> None:
    assert run("export", finished_run, tmp_path / "plain.xyz").exit_code == 0
    whole = read_labelled(tmp_path / "plain.xyz").frames
    out = tmp_path / f"train{ending}"
    done = run("export", finished_run, out, "--format", name)
    assert done.stdout == f"{out}: 15 labelled structures of H, O as {WRITERS[name].name}\n"
    assert done.stderr == ""
    same_labels(read_labelled(out).frames, whole)


@pytest.mark.parametrize(("name", "ending"), [*ENDINGS, (None, ".xyz")])
def test_a_file_is_converted_and_divided(name: str | None, ending: str, labels: Path, tmp_path: Path) -> None:
    """Every structure is on one side, atoms that are alone to train with; both sides have the same types."""
    out, beside = tmp_path / f"train{ending}", tmp_path / f"train-test{ending}"
    wanted = [frame for frame in ase.io.read(labels, ":")[:32] if name is None or "forces" in frame.calc.results
              or len(frame) == 1]  # fmt: skip
    done = run("export", labels, out, "--test", 0.2, *(["--format", name] if name else []))
    assert done.exit_code == 0, done.output
    train, test = read_labelled(out).frames, read_labelled(beside).frames
    what = f" of Cu, Ag as {WRITERS[name].name}" if name else ""
    assert done.stdout == f"{out}: {len(train)} labelled structures{what}; {beside}: {len(test)} to test with\n"
    assert 1 <= len(test) <= 15
    assert len(train) + len(test) == len(wanted)
    assert sum(len(frame) == 1 for frame in train) == 1
    if name:
        same_labels([*train, *test], wanted)
        assert f"{labels} frame 31 is left out: has no forces" in done.stderr
    else:
        assert energies([*train, *test]) == pytest.approx(energies(wanted), abs=1e-7)
    assert f"{labels} frame 32 is left out: has no energy" in done.stderr
    types = {path.read_text() for path in tmp_path.rglob("type_map.raw")}
    assert types == ({"Cu\nAg\n"} if name == "deepmd" else set())
    for path in (out, beside) if name == "mtp" else ():
        assert path.read_text().count("species\tCu,Ag") == path.read_text().count("BEGIN_CFG")


def test_a_test_set_that_lacks_an_element_has_the_types_of_all(tmp_path: Path) -> None:
    """Nickel, which comes before copper, is there alone only, and so to train with."""
    nickel = single()
    nickel.symbols = "Ni"
    nickel.calc = SinglePointCalculator(nickel, energy=-0.5)
    ase.io.write(tmp_path / "a.traj", [nickel, *map(alloy, range(20))])
    for out, words in (("set", "--format deepmd --test 0.4"), ("set.cfg", "--format mtp --test 0.4")):
        assert asked(tmp_path / "a.traj", tmp_path / out, words).exit_code == 0
    assert {path.read_text() for path in (tmp_path / "set-test").rglob("type_map.raw")} == {"Ni\nCu\nAg\n"}
    assert {path.read_text() for path in (tmp_path / "set-test").rglob("type.raw")} == {"1\n1\n1\n2\n"}
    text = (tmp_path / "set-test.cfg").read_text()
    assert 0 < text.count("species\tNi,Cu,Ag") == text.count("BEGIN_CFG")


def test_the_choice_is_that_of_the_seed(labels: Path, tmp_path: Path) -> None:
    chosen = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run("export", labels, tmp_path / f"{name}.xyz", "--test", 0.3, "--seed", seed).exit_code == 0
        chosen.append(energies(ase.io.read(tmp_path / f"{name}-test.xyz", ":")))
    assert chosen[0] == chosen[1] != chosen[2]
    assert run("export", labels, tmp_path / "d.xyz", "--test", 0.3).exit_code == 0
    assert (tmp_path / "d-test.xyz").read_text() == (tmp_path / "a-test.xyz").read_text()


def test_an_empty_test_set_is_said_and_not_written(labels: Path, tmp_path: Path) -> None:
    out = tmp_path / "few.xyz"
    ase.io.write(tmp_path / "few.traj", [alloy(0), single()])
    done = run("export", tmp_path / "few.traj", out, "--test", 0.001)
    assert done.stdout == f"{out}: 2 labelled structures; no test set: none of 2 structures is in a share of 0.001\n"
    assert not (tmp_path / "few-test.xyz").exists()
    (tmp_path / "few-test.xyz").touch()
    done = run("export", tmp_path / "few.traj", out, "--test", 0.001)
    assert done.stdout.endswith(f"a share of 0.001; {tmp_path / 'few-test.xyz'} is of another export\n")
    ase.io.write(tmp_path / "one.traj", alloy(0))
    done = run("export", tmp_path / "one.traj", tmp_path / "one.xyz", "--test", 0.9999)
    refused(done, 2, "all 1 structures would be to test with: expected a smaller --test than 0.9999")
    assert not list(tmp_path.glob("one*.xyz"))


def test_what_is_said_of_a_file(tmp_path: Path) -> None:
    """The label is there once, in eV, and what else looks like one is kept under another name."""
    atoms = alloy(0)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    bare = atoms.copy()
    bare.info |= {"REF_energy": energy / units.Ha, "xtb_energy": -3.0, "note": "mine"}
    bare.arrays["pull"] = forces / units.Ha * units.Bohr
    bare.set_cell(bare.cell / units.Bohr, scale_atoms=True)
    ase.io.write(tmp_path / "au.xyz", bare, format="extxyz")
    said = ["--energy-key", "REF_energy", "--forces-key", "pull", "--energy-unit", "Ha", "--length-unit", "bohr"]
    out = tmp_path / "ev.xyz"
    done = run("export", tmp_path / "au.xyz", out, *said)
    assert done.exit_code == 0, done.output
    assert "energy from REF_energy, forces from pull" in done.stderr
    (found,) = read_labelled(out).frames
    assert found.calc.results["energy"] == pytest.approx(energy, abs=1e-7)
    np.testing.assert_allclose(found.calc.results["forces"], forces, atol=1e-6)
    np.testing.assert_allclose(found.positions, atoms.positions, atol=1e-7)
    assert found.info["given_xtb_energy"] == -3.0
    assert found.info["note"] == "mine"
    assert not {"REF_energy", "xtb_energy", "pull"} & ({*found.info} | {*found.arrays})
    ase.io.write(tmp_path / "mtp.xyz", atoms)
    assert run("export", tmp_path / "mtp.xyz", tmp_path / "a.cfg", "--format", "mtp").exit_code == 0
    bare_cfg = tmp_path / "bare.cfg"
    bare_cfg.write_text((tmp_path / "a.cfg").read_text().replace(" Feature   species\tCu,Ag\n", ""))
    refused(run("export", bare_cfg, tmp_path / "b.xyz"), 2, "bare.cfg has numbers of types only", "--species")
    assert run("export", bare_cfg, tmp_path / "b.xyz", "--species", "Cu,Ag").exit_code == 0
    same_labels(read_labelled(tmp_path / "b.xyz").frames, [atoms])


def test_folders_and_databases(tmp_path: Path) -> None:
    """Any way in, any way out; what a row of a database has besides does not get lost."""
    frames = [alloy(seed) for seed in range(3)]
    with ase.db.connect(tmp_path / "some.db") as database:
        for frame in frames:
            database.write(frame, key_value_pairs={"source": "md"}, data={"parts": {"vdw": 1.0}})
    for source, out, name in (
        ("some.db", "train", "deepmd"),
        ("train", "train.cfg", "mtp"),
        ("train.cfg", "nep.xyz", "nep"),
        ("nep.xyz", "mace.xyz", "mace"),
        ("mace.xyz", "plain.xyz", None),
        ("some.db", "of-database.xyz", None),
    ):
        done = run("export", tmp_path / source, tmp_path / out, *(["--format", name] if name else []))
        assert done.exit_code == 0, done.output
        same_labels(read_labelled(tmp_path / out).frames, frames)
    assert ase.io.read(tmp_path / "of-database.xyz").info["source"] == "md"


def asked(source: object, out: Path, words: str) -> Result:
    return run("export", source, out, *words.split())


def test_what_does_not_fit_is_one_line(labels: Path, finished_run: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    for source in (labels, finished_run):
        for out, words, message in (
            ("a.xyz", "--format mtp", "expected a name ending in .cfg with --format mtp, found '.xyz'"),
            ("a.cfg", "--format mace", "expected a name ending in .xyz with --format mace, found '.cfg'"),
            ("a", "--format nep", "expected a name ending in .xyz with --format nep, found 'no ending'"),
            ("a.h5", "--format nep", "expected a name ending in .xyz with --format nep, found '.h5'"),
            ("a.xyz", "--format deepmd", "--format deepmd writes a folder: expected a name without an ending, found"),
            ("a.cfg", "", "expected a name ending in .xyz (labels) or .h5 (model), found '.cfg'; other formats with"),
            ("a.cfg", "--test 0.1", "expected a name ending in .xyz (labels) to be divided by --test, found '.cfg'"),
        ):
            refused(asked(source, tmp_path / out, words), 2, message)
    refused(asked(finished_run, tmp_path / "a.h5", "--test 0.1"), 2, "to be divided by --test, found '.h5'")
    refused(asked(labels, tmp_path / "a.h5", ""), 2, "a model is exported from a run", "alflow train")
    refused(asked(finished_run, tmp_path / "a.xyz", "--energy-unit Ha --species H"), 2, "is a run, whose labels",
            "leave out --energy-unit, --species")  # fmt: skip
    refused(asked(tmp_path / "none.xyz", tmp_path / "a.xyz", ""), 2, "none.xyz: no such file")
    refused(asked(tmp_path / "none", tmp_path / "a.xyz", ""), 2, "no alflow.toml in")
    assert asked(labels, tmp_path / "a.xyz", "--seed 3").exit_code == 2
    assert asked(labels, tmp_path / "a.xyz", "--test 0").exit_code == 2
    assert asked(labels, tmp_path / "a.xyz", "--test 1").exit_code == 2
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_written_over_what_is_read_or_a_folder(labels: Path, tmp_path: Path) -> None:
    data = tmp_path / "all-test.xyz"
    ase.io.write(data, [alloy(0), alloy(1)])
    text = data.read_text()
    for out, words in (("all-test.xyz", ""), ("all.xyz", "--test 0.5")):
        message = f"{data} would replace the labels that are read: give another name"
        refused(asked(data, tmp_path / out, words), 2, message)
    assert data.read_text() == text
    for there, other in (("a-test", "a"), ("b", "b-test")):
        (tmp_path / there).mkdir()
        (tmp_path / there / "mine").touch()
        done = asked(labels, tmp_path / there[0], "--format deepmd --test 0.2")
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.endswith(f"{there} exists: expected a new folder; remove it, or give another name\n")
        assert not (tmp_path / other).exists()


def test_energies_alone_are_nothing_to_train_these_from(tmp_path: Path) -> None:
    atoms = bulk("Cu")
    atoms.calc = SinglePointCalculator(atoms, energy=1.0)
    ase.io.write(tmp_path / "a.traj", atoms)
    done = asked(tmp_path / "a.traj", tmp_path / "a.cfg", "--format mtp")
    refused(done, 2, "a.traj: none of 1 labelled structures has forces", "need them")
    assert asked(tmp_path / "a.traj", tmp_path / "a.xyz", "").exit_code == 0
    assert read_labelled(tmp_path / "a.xyz", Names()).frames[0].calc.results["energy"] == 1.0
