"""Executors as ``[executor]`` describes them."""

from concurrent.futures import Executor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from alflow.errors import ConfigError
from alflow.executors.local import LocalExecutor, Pool, open_executor
from alflow.executors.settings import Executor as Section
from alflow.executors.settings import Local, Parsl, Slurm


def local_pool(section: Section) -> Pool:
    """Processes on this machine, for everything but reference calculations."""
    if isinstance(section, Local):
        return partial(open_executor, section.workers, section.threads)
    return partial(open_executor, section.workers, 1)


def check_nothing_runs(section: Section, directory: Path) -> None:
    """ConfigError if jobs of an interrupted batch of a run directory are in the queue."""
    if isinstance(section, Slurm):
        from alflow.executors.slurm import jobs_left

        if jobs := jobs_left(directory):
            some = ", ".join([*jobs[:5], *(["..."] if jobs[5:] else [])])
            msg = (
                f"{len(jobs)} jobs of this run are in the queue ({some}): finish their batch first, "
                f"`alflow label {directory}`, wait until they end, or cancel them"
            )
            raise ConfigError(msg)


def open_reference(section: Section, directory: Path, purpose: str = "") -> AbstractContextManager[Executor]:
    """The executor of reference calculations of a run directory, to be used as a context manager.

    ``purpose`` becomes part of the names of jobs: those of one purpose are of one process.

    Raises
    ------
    ConfigError
        What it needs is not installed.
    """
    if isinstance(section, Slurm):
        from alflow.executors.slurm import SlurmExecutor

        return SlurmExecutor(section, directory, purpose)
    if isinstance(section, Parsl):
        from alflow.executors.parsl import ParslExecutor

        return ParslExecutor(section, directory, purpose)
    return LocalExecutor(
        section.workers, section.threads, timeout=section.timeout, pin=section.pin, environment=section.environment
    )
