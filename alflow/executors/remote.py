"""What a job of a queue runs: the call, in a process of its own, as on the user's machine."""

from collections.abc import Callable, Mapping
from typing import Any

from alflow.executors.local import LocalExecutor

_opened: dict[Any, LocalExecutor] = {}


def run(
    function: Callable[..., Any], args: tuple[Any, ...], threads: int, timeout: float | None, env: Mapping[str, str]
) -> Any:
    """Call a function in a worker process of this job; its time limit and its death are errors of the call alone.

    The process stays for the next call of this job: a pilot does not start Python for each.

    Raises
    ------
    TaskTimeoutError, WorkerDiedError
        As of :class:`alflow.executors.LocalExecutor`.
    """
    key = threads, timeout, tuple(sorted(env.items()))
    if key not in _opened:
        _opened[key] = LocalExecutor(1, threads, timeout=timeout, environment=env)
    return _opened[key].submit(function, *args).result()
