"""A job of Slurm for each call: jobs outlive alflow, and are found again."""

import hashlib
import logging
import pickle
import queue
import re
import shlex
import shutil
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alflow.errors import ConfigError
from alflow.executors import remote
from alflow.executors.local import TaskTimeoutError, WorkerDiedError, WorkerMemoryError, WorkerStartError
from alflow.executors.settings import Cluster, Slurm
from alflow.executors.slurm_commands import (
    SlurmError,
    cancel_jobs,
    job_state,
    our_jobs,
    queued_jobs,
    require_slurm,
    submit_job,
)
from alflow.state.atomic import whole_file

_MARGIN = 60.0  # s before the wall time of its job at which a calculation is killed, so that the reason is recorded
_TICK = 0.3  # s between looks at results
_LOOK = 10.0  # s between looks at the queue
_SETTLE = 10.0  # s that a result may take to be seen here after its job has left the queue
_PATIENCE = 600.0  # s for which everything may go wrong until somebody must look
_OUTPUT, _LINES = "slurm.out", 20  # file of what a job prints, and how many lines of it are told
_AT_ONCE = 50  # jobs that are submitted between two looks at results
_SOON = re.compile(r"Submit\w*Limit|timed out|unable to contact|temporar|try again|no answer", re.IGNORECASE)
"""What Slurm says when it would take a job later."""
_ALIVE = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED"}

_log = logging.getLogger(__name__)


def job_name(directory: Path, purpose: str = "") -> str:
    """By which the jobs of a run directory are known in the queue."""
    return f"alflow{purpose}-{hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:10]}"


def jobs_left(directory: Path) -> list[str]:
    """Numbers of the jobs of a run directory that are in the queue, but for those of `alflow check`.

    Raises
    ------
    ConfigError
        The queue does not answer.
    """
    require_slurm('executor.kind = "slurm"')
    mark = job_name(directory).removeprefix("alflow")
    try:
        jobs = our_jobs()
    except SlurmError as error:
        msg = f"{error}: try again when Slurm answers"
        raise ConfigError(msg) from error
    return [number for number, name in jobs.items() if name.endswith(mark) and name != job_name(directory, "-check")]


def time_limit(section: Cluster) -> float:
    """After so many seconds a calculation is killed: its own limit, or a little before the end of its job."""
    wall_time = 60.0 * section.wall_time
    return min(section.timeout or wall_time, max(wall_time - _MARGIN, wall_time / 2))


@dataclass
class _Call:
    """A call, who waits for it, and its job."""

    future: Future[Any]
    name: str
    content: bytes
    job: str = ""
    left: float | None = None  # when its job was first missed in the queue


class SlurmExecutor(Executor):
    """One Slurm job for each call.

    Calls are named by their task. One whose job is in the queue since an earlier executor submitted it, for the same
    directory and purpose, is attached to, not submitted again: Slurm itself says in which folder each job runs, and
    that is named for the call, so it makes no difference when alflow was killed. Left by Ctrl-C, jobs go on; left by
    another error, they are cancelled.

    The queue is asked once for all jobs, every 10 s; results are files. Both may fail for a while.

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
        Slurm is not installed.
    """

    def __init__(self, section: Slurm, directory: Path, purpose: str = "") -> None:
        require_slurm('executor.kind = "slurm"')
        self._section, self._name = section, job_name(directory, purpose)
        self._folder = directory.absolute() / "work" / "slurm" / self._name
        self._results = self._folder / "results"
        self._results.mkdir(parents=True, exist_ok=True)
        self._submitted: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._closing, self._leaving = threading.Event(), threading.Event()
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        """Submit a call, or keep it until fewer than ``max_jobs`` are in the queue."""
        section = self._section
        name = next((arg.failed.stem for arg in args if hasattr(arg, "failed")), uuid.uuid4().hex)
        content = pickle.dumps((fn, args, section.threads, time_limit(section), section.environment))
        call = _Call(Future(), name, content)
        self._submitted.put(call)
        if self._broken is not None:
            self._fail([])
        return call.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End; with ``cancel_futures`` jobs are cancelled, without ``wait`` and it they go on by themselves."""
        self._closing.set()
        if cancel_futures or not wait:
            self._leaving.set()
        self._thread.join()
        if wait or cancel_futures:
            try:
                cancel_jobs(self._name)  # those that have handed over their result and are about to end, too
            except ConfigError as error:  # nothing is lost: no reason to stop, nor to hide another error
                _log.warning("%s", error)
            shutil.rmtree(self._folder, ignore_errors=True)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for everything; leave the jobs alone after Ctrl-C; cancel them after another error."""
        if kind is None:
            self.shutdown()
        else:
            self.shutdown(wait=False, cancel_futures=not issubclass(kind, KeyboardInterrupt))

    def _work(self) -> None:
        """Submit jobs and wait for them; runs in a thread of its own."""
        jobs = _Jobs(self._section, self._name, self._folder, self._results)
        trouble: float | None = None  # since when files cannot be read or written
        try:
            while not self._leaving.is_set():
                closing = self._closing.is_set()
                for call in self._arrived():
                    jobs.take(call)
                if closing and jobs.is_done():
                    return
                try:
                    jobs.look()
                    jobs.collect()
                    jobs.send()
                    trouble = None
                except OSError as error:
                    trouble = trouble or time.monotonic()
                    if time.monotonic() > trouble + _PATIENCE:
                        msg = f"{self._folder}: {error.strerror or error}: check the file system"
                        raise WorkerStartError(msg) from error
                self._leaving.wait(_TICK)
        except Exception as error:  # noqa: BLE001 - whatever happens, whoever waits must hear of it
            self._broken = error
            self._fail([*jobs.sent.values(), *jobs.waiting])

    def _arrived(self) -> Iterator[_Call]:
        """Calls that were submitted since."""
        with suppress(queue.Empty):
            while True:
                yield self._submitted.get_nowait()

    def _fail(self, calls: Sequence[_Call]) -> None:
        """Nothing can be done any more: tell everybody who waits."""
        for call in [*calls, *self._arrived()]:
            call.future.set_exception(self._broken)


class _Jobs:
    """Calls that wait, jobs that were sent, and what the queue said last."""

    def __init__(self, section: Slurm, name: str, folder: Path, results: Path) -> None:
        self.limit, self.name, self.folder, self.results = section.max_jobs, name, folder, results
        self.script = submission_script(section)
        self.waiting: deque[_Call] = deque()
        self.sent: dict[str, _Call] = {}
        self.queued: dict[str, str] | None = None  # number of the job in each folder, by the folder's name
        self.next_look = 0.0
        self.send_after = 0.0
        self.well = time.monotonic()  # when Slurm was last as it should be
        self.proven = False  # whether these settings have made a job
        self.refusal = ""

    def is_done(self) -> bool:
        """Whether nobody waits."""
        return not (self.waiting or self.sent)

    def take(self, call: _Call) -> None:
        """Take a call that is to be submitted."""
        if self.is_done():
            self.well = time.monotonic()
        self.waiting.append(call)

    def look(self) -> None:
        """Ask which jobs are in the queue. One that is not has ended, or its node failed; a result may come yet."""
        now = time.monotonic()
        if now < self.next_look or self.is_done():
            return
        self.next_look = now + _LOOK
        try:
            found = queued_jobs(self.name)
        except SlurmError as error:
            if not self.sent and not self.proven and now > self.well + _PATIENCE:
                msg = f"the queue does not answer: {error}"
                raise WorkerStartError(msg) from error
            return
        self.queued = {Path(folder).name: number for number, folder in found.items()}
        if found:
            self.well, self.proven = now, True
        for call in self.sent.values():
            if call.job in found:
                call.left = None
            elif call.left is None:
                call.left = time.monotonic()

    def collect(self) -> None:
        """Hand on what has ended."""
        for path in list(self.results.iterdir()):  # not exists(): network file systems remember what was not there
            if path.suffix == ".result" and path.stem in self.sent:
                outcome = _read(path)
                self.hand_on(self.sent.pop(path.stem), *outcome)
        lost = time.monotonic() - _SETTLE
        for call in [call for call in self.sent.values() if call.left is not None and call.left < lost]:
            state = job_state(call.job)
            if state in _ALIVE:  # the queue has not told everything
                call.left = None
            else:
                del self.sent[call.name]
                self.hand_on(call, done=False, outcome=_explained(call.job, state, self.folder / call.name))

    def hand_on(self, call: _Call, done: bool, outcome: Any) -> None:
        """Tell who waits, and forget the job: a later one of the same name is a new one."""
        self.forget(call.name)
        (call.future.set_result if done else call.future.set_exception)(outcome)

    def send(self) -> None:
        """Submit what may be submitted; attach to what is in the queue already."""
        for _ in range(_AT_ONCE):
            full = len(self.sent) >= self.limit or time.monotonic() < self.send_after
            if not self.waiting or full or self.queued is None:
                return
            call = self.waiting[0]
            folder, result = self.folder / call.name, self.results / f"{call.name}.result"
            if result.exists():
                if (failed := _error_left(result)) is not None:
                    self.hand_on(self.waiting.popleft(), done=False, outcome=failed)
                    continue
                self.forget(call.name)
            attached = self.queued.get(call.name) if folder.exists() else None
            try:
                call.job = attached or self.submit(call, folder, result)
            except SlurmError as error:
                self.refused(error)
                return
            self.well, self.proven, self.refusal = time.monotonic(), True, ""
            self.sent[call.name] = self.waiting.popleft()

    def refused(self, error: SlurmError) -> None:
        """Try again later; WorkerStartError if that would not help.

        Slurm may have taken the job all the same, so the queue is asked before.
        """
        if not _SOON.search(str(error)):
            late = time.monotonic() > self.well + _PATIENCE
            if not self.proven or (not self.sent and late):
                msg = f"no job could be submitted: {error}: correct [executor]"
                raise WorkerStartError(msg) from error
        if str(error) != self.refusal:
            self.refusal = str(error)
            _log.warning("Slurm takes no further job (%s); alflow goes on trying", error)
        self.send_after = self.next_look = time.monotonic() + _LOOK
        self.queued = None

    def submit(self, call: _Call, folder: Path, result: Path) -> str:
        """Submit a job; returns its number."""
        self.forget(call.name)
        folder.mkdir(exist_ok=True)
        content, script = folder / "call.pickle", folder / "job.sh"
        with whole_file(content, overwrite=True) as temporary:
            temporary.write_bytes(call.content)
        command = shlex.join([sys.executable, "-m", remote.__name__, str(content), str(result)])
        script.write_text(f"{self.script}exec {command}\n", encoding="utf-8")
        return submit_job(script, folder, self.name)

    def forget(self, name: str) -> None:
        """Remove what is left of a job."""
        (self.results / f"{name}.result").unlink(missing_ok=True)
        shutil.rmtree(self.folder / name, ignore_errors=True)


class _ErrorsOnly(pickle.Unpickler):
    """Of a file that lay about: nothing but alflow's own errors is made from it."""

    def find_class(self, module: str, name: str) -> Any:
        if module not in {"alflow.errors", "alflow.executors.local"} or not name.endswith("Error") or "." in name:
            msg = f"{module}.{name} is no error of alflow"
            raise pickle.UnpicklingError(msg)
        return super().find_class(module, name)


def _error_left(path: Path) -> Exception | None:
    """A failure that a job has reported while nobody waited.

    A result that is good is no news: what it is about is on disk, or has been taken back since.
    """
    with path.open("rb") as file:
        try:
            done, outcome = _ErrorsOnly(file).load()
        except Exception:  # noqa: BLE001 - whatever it is, the calculation is done again
            return None
    return None if done or not isinstance(outcome, Exception) else outcome


def _read(path: Path) -> tuple[bool, Any]:
    """What a job has left: (True, result) or (False, exception)."""
    content = path.read_bytes()
    try:
        done, outcome = pickle.loads(content)  # noqa: S301 - a job of ours has written it
    except Exception as error:  # noqa: BLE001 - of a class that is not here, say: one call's trouble
        return False, WorkerDiedError(f"its result cannot be read: {type(error).__name__}: {error}")
    return done, outcome


def submission_script(section: Slurm) -> str:
    """The script of a job, but for its last line: the command."""
    asked = {
        "output": _OUTPUT,
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
    return "\n".join(["#!/bin/bash", *lines, *section.setup, ""])


def _explained(job: str, state: str, folder: Path) -> WorkerDiedError | TaskTimeoutError:
    """The error of a job that has ended without a result, by what Slurm says of it, and the end of what it printed."""
    what = f"its Slurm job {job} ended without a result"
    if state == "TIMEOUT":
        return TaskTimeoutError(f"{what}: wall time used up")
    if state == "OUT_OF_MEMORY":
        return WorkerMemoryError(f"{what}: out of memory")
    why = state.lower().replace("_", " ") if state else "cancelled, or its node failed"
    try:
        printed = (folder / _OUTPUT).read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:]
    except OSError:
        printed = []
    return WorkerDiedError("\n".join([f"{what}: {why}", *printed]))
