"""Executors as ``[executor]`` describes them."""

from concurrent.futures import Executor
from contextlib import AbstractContextManager
from functools import partial

from alflow.config import Executor as Section
from alflow.config import Local
from alflow.executors.local import LocalExecutor, Pool, open_executor


def local_pool(section: Section) -> Pool:
    """Processes on this machine, for everything but reference calculations."""
    if isinstance(section, Local):
        return partial(open_executor, section.workers, section.threads)
    return partial(open_executor, section.workers, 1)


def open_reference(section: Section) -> AbstractContextManager[Executor]:
    """The executor of reference calculations, to be used as a context manager."""
    if not isinstance(section, Local):
        raise NotImplementedError
    return LocalExecutor(
        section.workers, section.threads, timeout=section.timeout, pin=section.pin, environment=section.environment
    )
