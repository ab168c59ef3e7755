"""A run small enough for a test, finished once."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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


class CommandServer:
    """A process that has imported alflow already, and forks for each command (command_server.py)."""

    AT_IMPORT = ("OMP_", "OPENBLAS_", "MKL_", "NUMBA_", "PYTHON", "PATH", "LD_", "ALFLOW_")
    """Beginnings of variables that are, or may be, looked at when modules are imported."""

    def __init__(self) -> None:
        self.environment = self.of_imports()
        script = Path(__file__).with_name("command_server.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def of_imports(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name.startswith(self.AT_IMPORT)}

    def run(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as folder:
            printed = [Path(folder) / name for name in ("output", "errors")]
            request = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ),
                       "output": str(printed[0]), "errors": str(printed[1])}  # fmt: skip
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            if not select.select([self.process.stdout], [], [], 120)[0]:
                self.process.kill()
                raise subprocess.TimeoutExpired(arguments, 120, printed[0].read_text(), printed[1].read_text())
            status = int(self.process.stdout.readline())
            return subprocess.CompletedProcess(arguments, status, *(path.read_text() for path in printed))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


SERVERS: list[CommandServer] = []


def alflow(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line, as a user runs it: a process of its own."""
    words = [str(argument) for argument in arguments]
    if not SERVERS or SERVERS[0].process.poll() is not None:
        SERVERS[:] = [CommandServer()]
    if SERVERS[0].environment == SERVERS[0].of_imports():
        return SERVERS[0].run(words)
    command = [sys.executable, "-m", "alflow", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, timeout=120)


@pytest.fixture(scope="session", autouse=True)
def _end_of_servers() -> Iterator[None]:
    yield
    for server in SERVERS:
        server.close()


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cycles 0 and 1: to be read, or copied."""
    folder = make_run(tmp_path_factory.mktemp("finished") / "run")
    done = alflow("iterate", folder)
    assert done.returncode == 0, done.stderr
    return folder
