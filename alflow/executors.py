"""Where calculations run: ``concurrent.futures`` executors.

Only ``submit``, ``as_completed`` and ``Future.result`` are used by the rest of alflow, so any other executor fits.

Importing this module must stay light: a worker process imports it first, and sets its number of threads before anything
that reads it (numpy, numba, OpenMP programs) is loaded.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any, Protocol

from alflow.errors import AlflowError

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_committing = threading.Lock()


class WorkerDiedError(AlflowError):
    """The process that ran a task died: a segmentation fault, the out-of-memory killer, kill -9."""


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
    """
    if not tasks:
        return
    with pool(timeout=timeout) as executor:
        numbers = {executor.submit(function, *task): number for number, task in enumerate(tasks)}
        for future in as_completed(numbers):
            error = future.exception()
            yield numbers[future], future.result() if error is None else error


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    """

    def __init__(self, workers: int | None = None, threads: int = 1, *, timeout: float | None = None) -> None:
        self._n_workers = workers or max(1, usable_cores() // threads)
        self._threads = threads
        self._timeout = timeout
        self._tasks: queue.SimpleQueue[tuple[Future[Any], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._drivers: list[threading.Thread] = []
        self._workers: dict[int, _Worker] = {}
        self._stopping = threading.Event()
        self._guard = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call; a process for it is started if fewer than ``workers`` run."""
        future: Future[Any] = Future()
        self._tasks.put((future, (fn, args, kwargs)))
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
        worker: _Worker | None = None
        while (task := self._tasks.get()) is not None:
            future, call = task
            if self._stopping.is_set():
                future.set_exception(WorkerDiedError("stopped before it began"))
                continue
            if worker is None:
                worker = self._start(number)
            try:
                done, outcome = worker.call(call, self._timeout)
            except AlflowError as error:
                worker.kill()
                worker = None
                future.set_exception(error)
            except Exception as error:  # noqa: BLE001 - whatever cannot be sent to the worker is the task's failure
                future.set_exception(error)
            else:
                (future.set_result if done else future.set_exception)(outcome)
        if worker is not None:
            worker.close()

    def _start(self, number: int) -> "_Worker":
        worker = _Worker(self._threads)
        with self._guard:
            self._workers[number] = worker
            if self._stopping.is_set():
                worker.kill()
        return worker


def open_executor(workers: int | None = None, threads: int = 1, *, timeout: float | None = None) -> LocalExecutor:
    """A :class:`LocalExecutor`, to be used as a context manager."""
    return LocalExecutor(workers, threads, timeout=timeout)


class _Worker:
    """A process that serves calls, seen from its driver."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()

    def call(self, call: tuple[Any, ...], timeout: float | None) -> tuple[bool, Any]:
        """Send a call and wait for its outcome: (True, result) or (False, exception)."""
        try:
            if self.connection.recv() != "ready":  # not counted as the task's time: the start of the process
                msg = "the worker did not start"
                raise WorkerDiedError(msg)
            self.connection.send(call)
            if not self.connection.poll(timeout):
                msg = f"took longer than {timeout:g} s"
                raise TaskTimeoutError(msg)
            return self.connection.recv()  # type: ignore[no-any-return]
        except (EOFError, ConnectionError) as error:
            self.process.join(timeout=5)
            code = self.process.exitcode
            how = (
                f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
            )
            msg = f"its process ended {how}"
            raise WorkerDiedError(msg) from error

    def kill(self) -> None:
        """End the process and all that it has started."""
        if self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def close(self) -> None:
        """Let the process end by itself."""
        self.connection.close()
        self.process.join()


def _serve(connection: Connection, threads: int) -> None:
    """The worker: take calls until the driver closes the connection."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    threading.Thread(target=_end_with_driver, daemon=True).start()
    with _limited(threads), contextlib.suppress(EOFError, ConnectionError):
        while True:
            connection.send("ready")
            function, args, kwargs = connection.recv()
            try:
                outcome = True, function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - it is raised again where the task was submitted
                outcome = False, error
            try:
                connection.send(outcome)
            except (TypeError, ValueError, AttributeError) as error:
                connection.send((False, RuntimeError(f"the outcome {outcome[1]!r} cannot be sent back: {error}")))


def _limited(threads: int) -> AbstractContextManager[Any]:
    """Threads of libraries that were loaded before the worker could say how many."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(threads)  # type: ignore[no-any-return]


def _end_with_driver() -> None:
    """End this worker and what it started as soon as its driver is gone, but not in the middle of a commit."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        with _committing:
            os.killpg(os.getpgrp(), signal.SIGKILL)
