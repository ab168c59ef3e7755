"""A valid file in a wrong place, of another run, or a missing one is found by every command that would use it."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from alflow.cli import main
from alflow.records.label import LabelRecord, label_place
from alflow.state.file import commit_file
from alflow.state.store import Store
from click.testing import CliRunner

from conftest import TINY, alflow, make_run

SAMPLES = Path(__file__).parents[1] / "samples"


def refused(*arguments: object, words: tuple[str, ...]) -> None:
    """One line on stderr with all the words, and exit code 1."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 1, result.output
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


@pytest.fixture
def copy(finished_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished_run, tmp_path / "run")


def commands(folder: Path) -> list[tuple[object, ...]]:
    """All that use a run."""
    return [
        ("status", folder),
        ("inspect", folder),
        ("inspect", folder, "--failed"),
        ("export", folder, folder / "labels.xyz"),
        ("export", folder, folder / "model.h5"),
        ("iterate", folder, "--cycles", 1),
        ("resume", folder),
        ("label", folder),
        ("produce", folder, "--steps", 20),
        ("average", folder / "cycles/001/sample.h5", "-o", "potential_energy"),
        ("check", folder),
    ]


def test_a_step_of_another_run(copy: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", TINY.replace("seed = 5", "seed = 6"))
    assert alflow("iterate", other, "--cycles", 0).returncode == 0
    shutil.copy(other / "cycles/000/label.h5", copy / "cycles/000/label.h5")
    before = sorted(copy.rglob("*"))
    for command in commands(copy):
        refused(*command, words=("000/label.h5 is not the file that", "was made from", "restore"))
    assert sorted(path for path in copy.rglob("*") if path.name != ".lock") == [p for p in before if p.name != ".lock"]


def test_a_missing_step(copy: Path) -> None:
    (copy / "cycles/000/label.h5").unlink()
    for command in commands(copy):
        refused(*command, words=("000/label.h5", "missing", "restore it from a backup"))


def test_a_step_of_another_cycle(copy: Path) -> None:
    shutil.copy(copy / "cycles/000/assess.h5", copy / "cycles/001/assess.h5")
    for command in commands(copy):
        refused(*command, words=("001/assess.h5 is the file of another step", "expected cycle 1, found cycle 0"))


def test_a_run_that_was_moved_is_as_good(copy: Path, tmp_path: Path) -> None:
    copy.rename(tmp_path / "moved")
    assert alflow("check", tmp_path / "moved").returncode == 0


def test_samples_that_were_copied_alone_are_as_good(copy: Path, tmp_path: Path) -> None:
    alone = tmp_path / "backup/cycles/001"
    alone.mkdir(parents=True)
    shutil.copy(copy / "cycles/001/sample.h5", alone)
    assert alflow("average", alone / "sample.h5", "-o", "potential_energy").returncode == 0


def test_a_segment_of_another_walker(copy: Path) -> None:
    assert alflow("produce", copy, "--steps", 40, "--walkers", 2, "--temperature", 300).returncode == 0
    run = copy / "production/run"
    ours = min(run.glob("000-*.h5"))
    good = ours.read_bytes()
    ours.write_bytes(min(run.glob("001-*.h5")).read_bytes())
    name = f"{ours.name} is the file of another"
    for command in (
        ("average", run, "-o", "potential_energy"),
        ("export", run, copy / "frames.xyz"),
        ("check", copy),
    ):
        refused(*command, words=(name, "expected walker 0, found walker 1"))
    ours.write_bytes(good)
    assert alflow("check", copy).returncode == 0


def test_a_label_of_another_calculation(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert alflow("label", folder).returncode == 0
    store = Store(folder)
    record = store.read(0, "label", LabelRecord)
    # as after a kill in the middle of the step, and a restore under a wrong name
    store.path(0, "label").unlink()
    for name, part in [*zip(record.ids, record.parts(), strict=True)][:4]:
        commit_file(store.label_path(name), part, place=label_place(name, 0, record.method))
    first, second = (store.label_path(name) for name in record.ids[:2])
    first.write_bytes(second.read_bytes())
    words = (f"{first.name} is the file of another", f"expected calculation {first.stem}, found calculation")
    for command in (("label", folder), ("iterate", folder), ("check", folder), ("inspect", folder)):
        refused(*command, words=words)
    first.unlink()
    assert alflow("label", folder).returncode == 0
    again = store.read(0, "label", LabelRecord)
    assert again.ids == record.ids
    for one, other in zip(again.frames, record.frames, strict=True):
        assert one.get_potential_energy() == other.get_potential_energy()


@pytest.mark.parametrize("place", ["coefficients", "constants", "training/positions"])
def test_one_bit_of_a_model(copy: Path, tmp_path: Path, place: str) -> None:
    model = tmp_path / "model.h5"
    assert alflow("export", copy, model).returncode == 0
    with h5py.File(model) as file:
        offset = file[f"model/{place}"].id.get_offset()
    content = bytearray(model.read_bytes())
    content[offset + 6] ^= 0x10
    model.write_bytes(content)
    refused("predict", model, copy / "water.xyz", "-o", tmp_path / "out.xyz", words=(str(model), "checksum"))
    assert not (tmp_path / "out.xyz").exists()


def test_a_model_of_the_format_before(tmp_path: Path) -> None:
    model = tmp_path / "old.h5"
    with h5py.File(model, "w") as file:
        file.create_group("model")
    words = ("old.h5 was written by an alflow before its first release: train it again from its labels",)
    refused("predict", model, "x.xyz", "-o", tmp_path / "out.xyz", words=words)


# --- a run of the format before ---------------------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Cycle 0 of a run as the version before left it: labels of four structures of water."""
    return shutil.copytree(SAMPLES / "schema-4", tmp_path / "old")


def test_a_run_of_the_format_before_is_refused_with_what_can_be_done(old: Path) -> None:
    words = ("label.h5 was written by an alflow before its first release", "alflow label --import OLD/cycles")
    for command in (("status", old), ("iterate", old), ("inspect", old), ("export", old, old / "x.xyz")):
        refused(*command, words=words)


# --- what readers load ------------------------------------------------------------------------------------------------

HEAVY = {"numba", "sklearn", "scipy", "ase", "znh5md", "pydantic", "tblite"}


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["status"], HEAVY),
        (["status", "--json"], HEAVY),
        (["inspect", "--failed"], {"numba", "sklearn"}),
        (["export", "{}", "dataset.xyz"], {"numba", "sklearn"}),
    ],
)
def test_readers_load_what_they_need(
    finished_run: Path, tmp_path: Path, arguments: list[str], absent: set[str]
) -> None:
    code = (
        "import sys\nfrom alflow.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    given = [str(tmp_path / word) if word.endswith(".xyz") else str(finished_run) if word == "{}" else word
             for word in arguments]  # fmt: skip
    where = [] if "{}" in arguments else [str(finished_run)]
    done = subprocess.run(
        [sys.executable, "-c", code, *given, *where], capture_output=True, text=True, check=True, timeout=120
    )
    assert not absent & set(done.stdout.splitlines()[-1].split())
