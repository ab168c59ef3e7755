"""A job of Slurm for each call, by executorlib: jobs outlive alflow, and are found again."""

import hashlib
import re
import shutil
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from alflow.config import Slurm
from alflow.errors import ConfigError
from alflow.executors import remote
from alflow.executors.local import TaskTimeoutError, WorkerDiedError, WorkerMemoryError, WorkerStartError

_MARGIN = 60.0  # s before the wall time of its job at which a calculation is killed, so that the reason is recorded
_PATIENCE = 60.0  # s until jobs that were cancelled must be gone


def job_name(directory: Path, purpose: str = "") -> str:
    """By which the jobs of a run directory are known in the queue."""
    return f"alflow{purpose}-{hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:10]}"


def time_limit(timeout: float | None, wall_time: int) -> float:
    """After so many seconds a calculation is killed: its own limit, or a little before the end of its job."""
    return min(timeout or 60.0 * wall_time, max(60.0 * wall_time - _MARGIN, 30.0 * wall_time))


class SlurmExecutor(Executor):
    """One Slurm job for each call.

    Calls are named by their task: one whose job is queued or runs, or has finished, since an earlier executor with the
    same folder submitted it, is attached to, not submitted again. Left by Ctrl-C, jobs go on; left by another error,
    they are cancelled.

    Parameters
    ----------
    section : Slurm
        The table ``[executor]``.
    directory : Path
        The run directory, on a file system that the jobs see too.
    purpose : str
        Part of the name of the jobs.

    Raises
    ------
    ConfigError
        executorlib or Slurm is not installed.
    """

    def __init__(self, section: Slurm, directory: Path, purpose: str = "") -> None:
        try:
            import pysqa  # noqa: F401 - executorlib would go on without it, and without a queue
            from executorlib import SlurmClusterExecutor
        except ImportError as error:
            msg = f"executor.kind = \"slurm\" needs executorlib ({error}): pip install 'alflow[slurm]'"
            raise ConfigError(msg) from error
        if shutil.which("sbatch") is None:
            msg = 'executor.kind = "slurm": no program sbatch on PATH: run alflow where jobs are submitted'
            raise ConfigError(msg)
        self._section, self._name = section, job_name(directory, purpose)
        self._folder = directory.absolute() / "work" / "slurm"
        if " " in str(self._folder):
            msg = f"{self._folder}: jobs of Slurm cannot run in a folder with a space in its name: rename it"
            raise ConfigError(msg)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._inner: Any = SlurmClusterExecutor(
            cache_directory=str(self._folder),
            resource_dict={"cores": 1, "submission_template": submission_script(section, self._name)},
            disable_dependencies=True,
            refresh_rate=0.2,
        )
        self._guard = threading.Lock()
        self._waiting: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._n_submitted = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        """Submit a call, or keep it until fewer than ``max_jobs`` are in the queue."""
        future: Future[Any] = Future()
        with self._guard:
            self._waiting.append((future, fn, args))
        self._fill()
        return future

    def _fill(self) -> None:
        """Submit what may be submitted."""
        while True:
            with self._guard:
                if not self._waiting or self._n_submitted >= self._section.max_jobs:
                    return
                future, fn, args = self._waiting.popleft()
                self._n_submitted += 1
            self._send(future, fn, args)

    def _send(self, future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        section = self._section
        name = next((arg.failed.stem for arg in args if hasattr(arg, "failed")), uuid.uuid4().hex)
        limit = time_limit(section.timeout, section.wall_time)
        inner = self._inner.submit(
            remote.run, fn, args, section.threads, limit, section.environment, resource_dict={"cache_key": name}
        )
        inner.add_done_callback(lambda done: self._finish(name, done, future))

    def _finish(self, name: str, inner: Future[Any], future: Future[Any]) -> None:
        """Hand an outcome on, and forget the job: a later attempt of the same name is a new one."""
        with self._guard:
            self._n_submitted -= 1
        if inner.cancelled():
            return  # left: nobody waits for it any more
        error = inner.exception()
        for path in self._folder.glob(f"{name}_?.h5"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._folder / name, ignore_errors=True)
        if error is None:
            future.set_result(inner.result())
        else:
            future.set_exception(_explained(error))
        self._fill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End; with ``cancel_futures`` jobs are cancelled, without ``wait`` and it they go on by themselves."""
        with self._guard:
            if cancel_futures or not wait:
                self._waiting.clear()
        self._inner.shutdown(wait=wait and not cancel_futures, cancel_futures=cancel_futures)
        if wait or cancel_futures:
            cancel_jobs(self._name)  # those that have handed over their result and are about to end, too

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for everything; leave the jobs alone after Ctrl-C; cancel them after another error."""
        if kind is None:
            self.shutdown()
        else:
            self.shutdown(wait=False, cancel_futures=not issubclass(kind, KeyboardInterrupt))


def submission_script(section: Slurm, name: str) -> str:
    """The script of a job; executorlib fills in ``{{working_directory}}`` and ``{{command}}``."""
    asked = {
        "job-name": name,
        "chdir": "{{working_directory}}",
        "output": "slurm.out",
        "nodes": section.nodes,
        "ntasks": section.ranks,
        "cpus-per-task": section.threads,
        "time": section.wall_time,
        "partition": section.partition,
        "account": section.account,
        "mem": None if section.memory is None else f"{round(1024 * section.memory)}M",
    }
    lines = [f"#SBATCH --{key}={value}" for key, value in asked.items() if value is not None]
    lines += [f"#SBATCH {directive}" for directive in section.directives]
    return "\n".join(["#!/bin/bash", *lines, *section.setup, "{{command}}", ""])


def _explained(error: BaseException) -> BaseException:
    """The error of a job that has ended without a result, by what Slurm says of it."""
    found = re.search(r"queue job (\d+)\b.* terminated without", str(error))
    if isinstance(error, subprocess.CalledProcessError):
        said = " ".join(str(error.output or error).split())
        return WorkerStartError(f"no job could be submitted: {said}: correct [executor]")
    if found is None:
        return error
    state = job_state(int(found[1]))
    what = f"its Slurm job {found[1]} ended without a result"
    if state == "TIMEOUT":
        return TaskTimeoutError(f"{what}: wall time used up")
    if state == "OUT_OF_MEMORY":
        return WorkerMemoryError(f"{what}: out of memory")
    return WorkerDiedError(f"{what}: {state.lower().replace('_', ' ') if state else 'cancelled, or its node failed'}")


def cancel_jobs(name: str) -> None:
    """Cancel our jobs of that name, and wait until they are gone; ConfigError if they stay."""
    end = time.monotonic() + _PATIENCE
    while (jobs := _jobs(name)) and time.monotonic() < end:
        subprocess.run([shutil.which("scancel") or "scancel", *jobs], check=False, capture_output=True)  # noqa: S603
        time.sleep(0.3)
    if jobs:
        msg = f"jobs {', '.join(jobs)} of this run do not end: see `squeue --name {name}`, and cancel them"
        raise ConfigError(msg)


def _jobs(name: str) -> list[str]:
    """Numbers of our jobs of that name; none where there is no Slurm."""
    program = shutil.which("squeue")
    if program is None:
        return []
    command = [program, "--me", "--noheader", "--format=%A", f"--name={name}"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()  # noqa: S603


def job_state(number: int) -> str:
    """What Slurm says of a job that may have ended; empty when it does not know it any more."""
    try:
        command = ["scontrol", "show", "job", "-o", str(number)]
        text = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\bJobState=(\w+)", text)
    return found[1] if found else ""
