"""Processes on this machine.

Importing this module must stay light: a worker process imports it first, and sets its number of threads before anything
that reads it (numpy, numba, OpenMP programs) is loaded.
"""

import contextlib
import fcntl
import multiprocessing
import os
import pickle
import queue
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import psutil

from alflow.errors import AlflowError

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_committing = threading.Lock()


class WorkerDiedError(AlflowError):
    """The process that ran a task died: a segmentation fault, the out-of-memory killer, kill -9."""


class WorkerMemoryError(WorkerDiedError):
    """The process that ran a task was killed because the machine ran out of memory."""


class WorkerStartError(AlflowError):
    """A worker process ended before it could take a task."""


class TaskTimeoutError(AlflowError):
    """A task ran longer than allowed; its process, and those it started, were killed."""


class Pool(Protocol):
    """Opens an executor; leaving it on an error stops what runs."""

    def __call__(self, *, timeout: float | None = None) -> AbstractContextManager[Executor]:
        """``timeout`` in seconds for each task."""


def shield() -> AbstractContextManager[Any]:
    """Hold this while a finished result is made durable: a worker whose driver has died then ends only afterwards."""
    return _committing


def run_all(
    pool: Pool, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], *, timeout: float | None = None
) -> Iterator[tuple[int, Any]]:
    """Run ``function(*task)`` for every task; yields (index, result or the exception raised), in the order they finish.

    Parameters
    ----------
    pool : Pool
        Opens the executor.
    function : callable
        Importable by the workers.
    tasks : sequence of tuple
        Arguments of each call.
    timeout : float, optional
        Longest time a task may run, s.

    Raises
    ------
    WorkerStartError
        No process can be started: no task is to blame.
    """
    if not tasks:
        return
    with pool(timeout=timeout) as executor:
        numbers = {executor.submit(function, *task): number for number, task in enumerate(tasks)}
        for future in as_completed(numbers):
            error = future.exception()
            if isinstance(error, WorkerStartError):
                raise error
            yield numbers[future], future.result() if error is None else error


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_held: list[int] = []


def pin_to_cores(number: int) -> None:
    """Let this process, and what it starts, run on so many cores that no other pinned one has; anywhere if too few.

    A core is taken by a lock on a file, which ends with the process.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    folder = Path(tempfile.gettempdir()) / f"alflow-cores-{os.getuid()}"
    taken: dict[int, int] = {}
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for core in sorted(os.sched_getaffinity(0)):
            descriptor = os.open(folder / str(core), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                continue
            taken[core] = descriptor
            if len(taken) == number:
                os.sched_setaffinity(0, taken)
                _held.extend(taken.values())
                return
    except OSError:  # no place for locks, or cores that may not be chosen: then anywhere
        pass
    for descriptor in taken.values():
        os.close(descriptor)


class LocalExecutor(Executor):
    """Processes on this machine, each with its own number of threads.

    A task whose process dies or takes too long fails alone: the others go on, and the process is replaced. Each process
    is the leader of a process group, so Ctrl-C reaches the driver only, and what a task has started is killed with it.
    When the driver dies, however it dies, its workers end at once, or as soon as a result they hold is on disk.

    Parameters
    ----------
    workers : int, optional
        Processes at once; by default as many as there are cores for ``threads`` each.
    threads : int
        Of each process.
    timeout : float, optional
        Longest time a task may run, s.
    pin : bool
        Each process runs on ``threads`` cores of its own, which no other pinned process of alflow on this machine has;
        where too few are left it runs anywhere.
    environment : mapping, optional
        Environment variables of the processes.
    """

    def __init__(
        self,
        workers: int | None = None,
        threads: int = 1,
        *,
        timeout: float | None = None,
        pin: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._n_workers = workers or max(1, usable_cores() // threads)
        self._setup = _Setup(threads, pin, dict(environment or {}))
        self._timeout = timeout
        self._tasks: queue.SimpleQueue[tuple[Future[Any], bytes] | None] = queue.SimpleQueue()
        self._drivers: list[threading.Thread] = []
        self._workers: dict[int, _Worker] = {}
        self._stopping = threading.Event()
        self._guard = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call; a process for it is started if fewer than ``workers`` run."""
        future: Future[Any] = Future()
        try:
            call = pickle.dumps((fn, args, kwargs))
        except Exception as error:  # noqa: BLE001 - what cannot be sent to a worker is the task's own failure
            future.set_exception(error)
            return future
        self._tasks.put((future, call))
        if len(self._drivers) < self._n_workers:
            driver = threading.Thread(target=self._drive, args=(len(self._drivers),), daemon=True)
            self._drivers.append(driver)
            driver.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End; with ``cancel_futures`` what runs is killed and what is queued fails."""
        if cancel_futures:
            self._stopping.set()
            with self._guard:
                for worker in self._workers.values():
                    worker.kill()
        for _ in self._drivers:
            self._tasks.put(None)
        if wait:
            for driver in self._drivers:
                driver.join()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for everything, or stop everything if an exception passes, Ctrl-C included."""
        self.shutdown(cancel_futures=kind is not None)

    def _drive(self, number: int) -> None:
        """Feed one worker process; runs in a thread of the driver."""
        # Ctrl-C is the driver's to handle: a worker inherits this until it ignores the signal itself. Python's resource
        # tracker, which the first worker would start, must run before: starting it unblocks the signal.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        worker: _Worker | None = None
        while (task := self._tasks.get()) is not None:
            future, call = task
            if self._stopping.is_set():
                future.set_exception(WorkerDiedError("stopped before it began"))
                continue
            try:
                worker = worker or self._start(number)
                done, outcome = worker.call(call, self._timeout)
            except Exception as error:  # noqa: BLE001 - whatever happens, whoever waits for the future must hear of it
                if worker is not None:
                    worker.kill()
                    worker = None
                future.set_exception(error)
            else:
                (future.set_result if done else future.set_exception)(outcome)
        if worker is not None:
            worker.close()

    def _start(self, number: int) -> "_Worker":
        try:
            worker = _Worker(self._setup)
        except (OSError, RuntimeError) as error:
            msg = f"no worker process can be started: {' '.join(str(error).split())}"
            raise WorkerStartError(msg) from error
        with self._guard:
            self._workers[number] = worker
            if self._stopping.is_set():
                worker.kill()
        worker.wait_until_ready(cancelled=self._stopping.is_set)
        return worker


def open_executor(workers: int | None = None, threads: int = 1, *, timeout: float | None = None) -> LocalExecutor:
    """A :class:`LocalExecutor`, to be used as a context manager."""
    return LocalExecutor(workers, threads, timeout=timeout)


@dataclass(frozen=True)
class _Setup:
    """What a worker process does before its first task."""

    threads: int
    pin: bool
    environment: dict[str, str]

    def apply(self) -> None:
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(self.threads)))
        os.environ.update(self.environment)
        if self.pin:
            pin_to_cores(self.threads)


class _Worker:
    """A process that serves calls, seen from its driver."""

    def __init__(self, setup: _Setup) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, setup), daemon=True)
        self.process.start()
        theirs.close()

    def wait_until_ready(self, cancelled: Callable[[], bool]) -> None:
        """Wait until the process can take tasks: no task's time counts before."""
        try:
            self.connection.recv()
        except (EOFError, ConnectionError) as error:
            if cancelled():
                msg = "stopped before it began"
                raise WorkerDiedError(msg) from error
            msg = (
                f"a worker process ended {self._how()} before it could take a task: see what it printed; a script that "
                "uses alflow must do so under `if __name__ == '__main__':`, as workers import it too"
            )
            raise WorkerStartError(msg) from error

    def call(self, call: bytes, timeout: float | None) -> tuple[bool, Any]:
        """Send a pickled call and wait for its outcome: (True, result) or (False, exception)."""
        try:
            self.connection.send_bytes(call)
            if not self.connection.poll(timeout):
                msg = f"took longer than {timeout:g} s"
                raise TaskTimeoutError(msg)
            return self.connection.recv()  # type: ignore[no-any-return]
        except (EOFError, ConnectionError) as error:
            msg = f"its process ended {self._how()}"
            raise WorkerDiedError(msg) from error

    def _how(self) -> str:
        self.process.join(timeout=5)
        code = self.process.exitcode
        return f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"

    def kill(self) -> None:
        """End the process and all that it has started, in its process group or in others, as MPI ranks may be."""
        if self.process.pid is not None:
            started = _descendants(self.process.pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            for process in started:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    process.kill()
        self.process.kill()

    def close(self) -> None:
        """Let the process end by itself."""
        self.connection.close()
        self.process.join()


def _descendants(pid: int) -> list[psutil.Process]:
    """What a process has started, and what that has started."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


def _serve(connection: Connection, setup: _Setup) -> None:
    """The worker: take calls until the driver closes the connection."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    setup.apply()
    threading.Thread(target=_end_with_driver, daemon=True).start()
    with limit_threads(setup.threads), contextlib.suppress(EOFError, ConnectionError):
        connection.send("ready")
        while True:
            call = connection.recv_bytes()
            try:
                function, args, kwargs = pickle.loads(call)  # noqa: S301 - it comes from the driver
                outcome = True, function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - it is raised again where the task was submitted
                outcome = False, error
            try:
                answer = pickle.dumps(outcome)
            except Exception as error:  # noqa: BLE001 - anything can refuse to be pickled, in any way
                what = f"the outcome {outcome[1]!r} cannot be sent back: {error}"
                answer = pickle.dumps((False, RuntimeError(what)))
            connection.send_bytes(answer)


def limit_threads(threads: int, api: str | None = None) -> AbstractContextManager[Any]:
    """Limit the threads of libraries that are loaded already; ``api`` is ``openmp``, ``blas`` or both (None)."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(threads, user_api=api)  # type: ignore[no-any-return]


def _end_with_driver() -> None:
    """End this worker and what it started as soon as its driver is gone, but not in the middle of a commit."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        with _committing:
            for process in _descendants(os.getpid()):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    process.kill()
            os.killpg(os.getpgrp(), signal.SIGKILL)
