"""The programs of Slurm: submit a job, list those in the queue, cancel them, ask how one has ended."""

import re
import shutil
import subprocess
import time
from pathlib import Path

from alflow.errors import ConfigError

_ANSWER = 60.0  # s in which a program of Slurm must answer
_PATIENCE = 60.0  # s until jobs that were cancelled must be gone


class SlurmError(Exception):
    """A program of Slurm has failed; its message is what it said."""


def require_slurm(setting: str) -> None:
    """ConfigError if no job can be submitted here, as ``setting`` asks for."""
    if shutil.which("sbatch") is None:
        msg = f"{setting}: no program sbatch on PATH: run alflow where jobs are submitted"
        raise ConfigError(msg)


def submit_job(script: Path, folder: Path, name: str) -> str:
    """Submit a job that runs in a folder; returns its number. SlurmError if it was refused.

    Folder and name, by which it is found again, are said where neither the script nor SBATCH_* variables can overrule.
    """
    return _answer("sbatch", "--parsable", f"--chdir={folder}", f"--job-name={name}", str(script)).strip().split(";")[0]


def queued_jobs(name: str) -> dict[str, str]:
    """Folder of each of our jobs of that name, by its number; SlurmError if nobody can say.

    Not of those that are completing: nothing of them runs any more, and a node can take its time for the rest.
    """
    lines = _answer("squeue", "--me", "--noheader", f"--name={name}", "--format=%A %t %Z").splitlines()
    found = [line.split(" ", maxsplit=2) for line in lines]
    return {number: folder for number, state, folder in found if state != "CG"}


def our_jobs() -> dict[str, str]:
    """Name of each job that we have in the queue, by its number; SlurmError if nobody can say."""
    lines = _answer("squeue", "--me", "--noheader", "--format=%A %t %j").splitlines()
    found = [line.split(" ", maxsplit=2) for line in lines]
    return {number: name for number, state, name in found if state != "CG"}


def cancel_jobs(name: str) -> None:
    """Cancel our jobs of that name, and wait until they are gone; ConfigError if they stay, or if nobody can say."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            jobs = list(queued_jobs(name))
            if not jobs:
                return
            problem = f"jobs {', '.join(jobs)} of this run do not end"
            _answer("scancel", *jobs)
        except SlurmError as error:  # also of a job that has ended since
            problem = str(error)
        if time.monotonic() > end:
            msg = f"{problem}: see `squeue --name {name}`, and cancel what is there"
            raise ConfigError(msg)
        time.sleep(0.3)


def job_state(number: str) -> str:
    """What Slurm says of a job that may have ended; empty when it does not know it any more."""
    try:
        found = re.search(r"\bJobState=(\w+)", _answer("scontrol", "show", "job", "-o", number))
    except SlurmError:
        return ""
    return found[1] if found else ""


def _answer(program: str, *arguments: str) -> str:
    command = [shutil.which(program) or program, *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_ANSWER).stdout  # noqa: S603
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split()) or f"exit code {error.returncode}"
    except subprocess.TimeoutExpired:
        said = f"no answer in {_ANSWER:g} s"
    except OSError as error:
        said = str(error)
    msg = said if said.startswith(program) else f"{program}: {said}"
    raise SlurmError(msg)
