"""A fit that the memory does not hold is refused before it takes any."""

import os
import subprocess
import sys
from pathlib import Path

import alflow
import psutil
import pytest
from alflow.errors import PotentialError
from alflow.models.ace import memory

from lj_frames import SMALL, bonded, water


def test_too_large_a_fit_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    committee = alflow.fit(bonded(water(), 4), **SMALL)
    before = committee.model.coefficients.copy()
    monkeypatch.setattr(memory, "available_memory", lambda: 1_000_000)
    message = r"needs 0.00\d+ GB, for 2 species of \d+ features each, and there are 0.001 GB: lower n_max or n_features"
    with pytest.raises(PotentialError, match=message):
        alflow.fit(bonded(water(), 4), **SMALL)
    assert (committee.model.coefficients == before).all()


def test_what_is_needed_is_what_is_taken() -> None:
    """The sums of a fit, and what solving adds to them, are within the estimate, and the estimate is no guess."""
    code = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import alflow
from lj_frames import SMALL, bonded, water
frames = bonded(water(), 12)
alflow.fit(frames, **SMALL)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
alflow.fit(frames, n_features=900, n_members=16)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[2])],
        capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    taken = int(done.stdout.split()[0])
    columns = 2 * 938
    assert 0.5 < taken / (8 * columns**2 * (17 + memory._BESIDES + 1)) < 1.2


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


def test_a_control_group_counts(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    free = memory.available_memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500000\n")
    assert memory.available_memory() > free / 2
    (tmp_path / "memory.max").write_text("2000000\n")
    assert memory.available_memory() == 1_500_000
