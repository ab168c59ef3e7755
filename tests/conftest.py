"""A run small enough for a test, finished once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # set before numpy and PySCF are loaded: several processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = """
seed = 5
[[system]]
name = "water"
structures = "water.xyz"
copies = 11
[potential]
n_members = 8
n_max = 4
l_max = 2
n_features = 60
[sample]
temperature = [300]
steps = 60
stride = 10
force_sigma_max = 50
[select]
budget = 3
force_sigma_min = 0.0
duplicate_distance = 0.0
[converge]
max_cycles = 1
[executor]
workers = 1
"""
WATER = "3\n\nO 0.0 0.0 0.119\nH 0.0 0.763 -0.477\nH 0.0 -0.763 -0.477\n"


def make_run(folder: Path, settings: str = TINY, structures: str = WATER) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alflow.toml").write_text(settings)
    (folder / "water.xyz").write_text(structures)
    return folder


def alflow(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line, as a user runs it."""
    command = [sys.executable, "-m", "alflow", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=120)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cycles 0 and 1: to be read, or copied."""
    folder = make_run(tmp_path_factory.mktemp("finished") / "run")
    done = alflow("iterate", folder)
    assert done.returncode == 0, done.stderr
    return folder
