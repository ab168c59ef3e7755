"""What a job of a queue runs: the call, in a process of its own, as on the user's machine.

``python -m alflow.executors.remote CALL RESULT`` is such a job: the call is read from one file, its outcome
written to the other.
"""

import pickle
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alflow.errors import StoreError
from alflow.executors.local import LocalExecutor, WorkerDiedError, WorkerStartError
from alflow.state.atomic import whole_file

_opened: dict[Any, LocalExecutor] = {}


def run(
    function: Callable[..., Any], args: tuple[Any, ...], threads: int, timeout: float | None, env: Mapping[str, str]
) -> Any:
    """Call a function in a worker process of this job; its time limit and its death are errors of the call alone.

    The process stays for the next call of this job: a pilot does not start Python for each.

    Raises
    ------
    TaskTimeoutError, WorkerDiedError
        As of :class:`alflow.executors.LocalExecutor`. What may be wrong with this node alone, that no process can be
        started or no file written, is the death of this call.
    """
    key = threads, timeout, tuple(sorted(env.items()))
    if key not in _opened:
        _opened[key] = LocalExecutor(1, threads, timeout=timeout, environment=env)
    try:
        return _opened[key].submit(function, *args).result()
    except (StoreError, WorkerStartError) as error:
        msg = f"on {platform.node()}: {error}"
        raise WorkerDiedError(msg) from error


def main() -> None:
    """Run the call of one file, and write (True, result) or (False, exception) to another."""
    call, result = map(Path, sys.argv[1:])
    try:
        outcome = True, run(*pickle.loads(call.read_bytes()))  # noqa: S301 - alflow has written it
    except Exception as error:  # noqa: BLE001 - it is raised again where the call was submitted
        outcome = False, error
    with whole_file(result, overwrite=True) as temporary:
        temporary.write_bytes(pickle.dumps(outcome))


if __name__ == "__main__":
    main()
