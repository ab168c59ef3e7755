"""A fit that the memory does not hold is refused before it takes any."""

import subprocess
import sys
from pathlib import Path

import alflow
import psutil
import pytest
from alflow.errors import PotentialError
from alflow.models.ace import memory
from ase.build import molecule

from lj_frames import SMALL, bonded, water


def test_too_large_a_fit_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    committee = alflow.fit(bonded(water(), 4), **SMALL)
    before, new = committee.predict(water()), bonded(molecule("CH4"), 2)
    monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000)
    message = r"needs 0.00\d+ GB, for 2 species of \d+ features each, and there are 0.001 GB: lower n_max or n_features"
    with pytest.raises(PotentialError, match=message):
        alflow.fit(bonded(water(), 4), **SMALL)
    with pytest.raises(PotentialError, match="for 3 species"):
        committee.update(new)
    assert committee.predict(water()).energy == before.energy
    monkeypatch.undo()
    committee.update(new)
    assert len(committee.training) == 6


def test_limits_of_the_process_count() -> None:
    assert memory.available_memory() <= psutil.virtual_memory().total
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (8 * 10**9, resource.RLIM_INFINITY))
from alflow.models.ace.memory import available_memory
print(available_memory())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 * 10**9


def test_control_groups_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That of a job inside another, the smaller of the two; what is held of files is not taken."""
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_MINE", tmp_path / "mine")
    free = memory.available_memory()
    job = tmp_path / "slurm" / "job_1"
    job.mkdir(parents=True)
    (tmp_path / "mine").write_text("1:name=systemd:/other\n0::/slurm/job_1\n")
    for group, most in ((job, "max"), (job.parent, "2000000")):
        (group / "memory.max").write_text(f"{most}\n")
        (group / "memory.current").write_text("1500000\n")
        (group / "memory.stat").write_text("anon 500000\ninactive_file 900000\n")
    assert memory.available_memory() == 1_400_000
    (job / "memory.max").write_text("1600000\n")
    assert memory.available_memory() == 1_000_000
    for group in (job, job.parent):
        (group / "memory.max").write_text("max\n")
    assert memory.available_memory() > free / 2


def test_more_threads_than_work_at_once_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 10**9)
    for threads in (8, 64, 512):
        memory.check_memory(17, 1, 1900, threads)
