"""Where calculations run: ``concurrent.futures`` executors.

Only ``submit``, ``Future.result``, ``Future.exception`` and callbacks are used by the rest of alflow, never ``cancel``,
so any other executor fits.

Importing this package must stay light: a worker process imports it first, and sets its number of threads before
anything that reads it (numpy, numba, OpenMP programs) is loaded.
"""

from alflow.executors.local import (
    LocalExecutor,
    Pool,
    TaskTimeoutError,
    WorkerDiedError,
    WorkerMemoryError,
    WorkerStartError,
    limit_threads,
    open_executor,
    run_all,
    shield,
    usable_cores,
)

__all__ = [
    "LocalExecutor",
    "Pool",
    "TaskTimeoutError",
    "WorkerDiedError",
    "WorkerMemoryError",
    "WorkerStartError",
    "limit_threads",
    "open_executor",
    "run_all",
    "shield",
    "usable_cores",
]
