"""A run whose members a program trains, killed at ten places, ends as if it had never been killed."""

import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
from alflow.models.trained import keeping
from alflow.steps.check import problems
from test_kill import SETTINGS, assert_same, finish, make, wait_for_workers

TRAINER = Path(__file__).parents[1] / "pair_trainer.py"
POTENTIAL = """
[potential]
kind = "trained"
n_members = 8
command = "{python} pair_trainer.py {train} {validation} {output} {seed}"
calculator = "pair_trainer.Pairs"
parameters = { model = "{model}" }
start = "--start {start}"
"""

# In the order in which a run passes them. A kill lets workers finish what they are committing: up to two members
# come with each that falls into trainings.
MOMENTS = [
    "run:*/training/*:1",
    "fsync:*/models/.*/model:1",
    "rename:*/models/*:1",
    "fsync:*/000/*train.h5*:1",
    "link:*/000/*train.h5:1",
    "link:*/walkers/*:2",
    "fsync:*/models/.*/.member.h5*:1",
    "rename:*/models/*:1",
    "run:*/training/*:1",
    "link:*/001/*train.h5:1",
]


def make_trained(folder: Path) -> Path:
    make(folder)
    head, _, rest = SETTINGS.partition("[potential]")
    text = head + POTENTIAL + "[sample]" + rest.partition("[sample]")[2]
    (folder / "alflow.toml").write_text(text.replace("max_cycles = 1", "max_cycles = 1\n[failures]\nmax_share = 0.9"))
    shutil.copy(TRAINER, folder)
    return folder


def trainings(folder: Path) -> list[str]:
    log = folder.parent / f"{folder.name}.log"
    return [line for line in log.read_text().splitlines() if line.startswith("training ")] if log.exists() else []


def members(folder: Path) -> set[str]:
    return {path.name for path in keeping.members(folder / "models")}


@pytest.mark.long
@pytest.mark.slow
def test_killed_at_ten_places(tmp_path: Path) -> None:
    unbroken, killed = make_trained(tmp_path / "unbroken"), make_trained(tmp_path / "killed")
    code, error = finish(unbroken)
    assert code == 0, error
    assert len(trainings(unbroken)) == len(members(unbroken)) == 2 * 8
    for moment in MOMENTS:
        before, n_before = members(killed), len(trainings(killed))
        code, error = finish(killed, moment)
        assert code == -signal.SIGKILL, f"{moment} never came: {error}"
        wait_for_workers(killed)
        assert nobody_is_left(killed), f"{moment}: a program or an interpreter has outlived alflow"
        assert before <= members(killed)
        assert problems(killed) == []
        assert len(trainings(killed)) - n_before <= 2 * 8 - len(before)
    code, error = finish(killed)
    assert code == 0, error
    assert_same(killed, unbroken)
    assert members(killed) == members(unbroken)
    for name in members(killed):
        a, b = (folder / "models" / name / "model" for folder in (killed, unbroken))
        assert a.read_bytes() == b.read_bytes()
    assert not [*killed.rglob("*.tmp"), *killed.glob("work/*")]


def nobody_is_left(folder: Path) -> bool:
    """Whether everything that was started for a run has ended, in a few seconds."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        if not any(str(folder) in word for command in commands for word in command):
            return True
        time.sleep(0.1)
    return False
