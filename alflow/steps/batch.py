"""A batch of reference calculations: dispatched, tried again as ``[failures]`` says, counted."""

import json
import queue
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from ase import Atoms

from alflow.data.writing import write_structures
from alflow.errors import BatchError, StoreError, WaitingError
from alflow.executors import WorkerDiedError, WorkerStartError
from alflow.records.label import LabelRecord, label_place
from alflow.reference.codes.manual import ManualMethod
from alflow.reference.consistency import Limits, limits_of
from alflow.reference.dispatch import Task, failure, label_one
from alflow.state.file import commit_file
from alflow.steps.context import Context
from alflow.workers.attempts import changes_for

TO_LABEL = "to-label.xyz"
"""File of the structures that are to be calculated by hand."""

_TELL = 1.0  # s between looks at what runs


def calculate(
    context: Context,
    what: str,
    names: Sequence[str],
    frames: Sequence[Atoms],
    data: Sequence[Atoms] = (),
    cycles: Mapping[str, int] | None = None,
) -> None:
    """Run reference calculations until each has a label or has given up; every outcome is on disk once it is there.

    Labels and failed attempts that are on disk already count.

    Parameters
    ----------
    context : Context
        Settings, run directory, executor and progress.
    what : str
        Name of the batch, for the user.
    names, frames : sequence
        Ids and structures.
    data : sequence of Atoms
        Labels so far: an energy far outside theirs is inconsistent.
    cycles : mapping, optional
        Whose label step asks for each; a calculation that is tried again apart from its cycle is not in it.

    Raises
    ------
    BatchError
        More of the batch fail than ``[failures] max_share`` allows.
    ConfigError
        The method cannot calculate at all.
    StoreError
        A result cannot be written.
    WaitingError
        The user is to calculate.
    WorkerStartError
        No process can be started.
    """
    policy = context.settings.failures
    batch = _Batch(context, names, limits_of(data, policy.net_force_max, policy.energy_margin), cycles or {})
    context.progress.begin(what, len(names))
    with ExitStack() as stack:
        batch.run(frames, stack)


@dataclass(frozen=True)
class _Attempt:
    """A calculation, and why its attempts so far have failed."""

    name: str
    frame: Atoms
    reasons: tuple[str, ...] = ()


class _Batch:
    """What waits for its result, what has given up, and the executors in use."""

    def __init__(self, context: Context, names: Sequence[str], limits: Limits, cycles: Mapping[str, int]) -> None:
        self.context, self.names, self.limits, self.cycles = context, names, limits, cycles
        self.policy = context.settings.failures
        self.gave_up: Counter[str] = Counter()
        self.waiting: dict[str, Task] = {}
        self.finished: queue.SimpleQueue[tuple[_Attempt, Future[None]]] = queue.SimpleQueue()
        self.executors: dict[str, Executor] = {}
        self.n_done = 0
        self.began = time.monotonic()
        self.told = 0.0

    def run(self, frames: Sequence[Atoms], stack: ExitStack) -> None:
        """Submit everything, and take results as they come; ``stack`` closes the executors."""
        todo = self._not_done(frames)
        self.context.progress.advance(len(self.names) - len(todo))
        if todo:
            self.context.method.check()
        if isinstance(self.context.method, ManualMethod):
            self._check_share()
            self._wait_for_user(todo)
            return
        if todo:
            self._executor({}, stack)  # now, as jobs that an earlier alflow has left end with it
        self._check_share()
        for attempt in todo:
            self._submit(attempt, stack)
        while self.waiting:
            with suppress(queue.Empty):
                attempt, future = self.finished.get(timeout=_TELL)
                further = self._take(attempt, future, self.waiting.pop(attempt.name))
                if further is None:
                    self.n_done += 1
                    self.context.progress.advance()
                    self._check_share()
                else:
                    self._submit(further, stack)
            self._tell()

    def _wait_for_user(self, todo: Sequence[_Attempt]) -> None:
        """Write what is to be calculated by hand; WaitingError if there is anything."""
        path = self.context.store.directory / TO_LABEL
        if not todo:
            path.unlink(missing_ok=True)
            return
        frames = [attempt.frame.copy() for attempt in todo]
        for frame, attempt in zip(frames, todo, strict=True):
            frame.info["id"] = attempt.name
        write_structures(path, frames)
        where = self.context.store.directory
        msg = (
            f"{len(todo)} structures wait in {path}: calculate their energies and forces, and go on with "
            f"`alflow label {where} --import results.xyz`"
        )
        raise WaitingError(msg)

    def _not_done(self, frames: Sequence[Atoms]) -> list[_Attempt]:
        """What is neither labelled nor has used up its attempts."""
        store = self.context.store
        failures = store.failures()
        todo = []
        for name, frame in zip(self.names, frames, strict=True):
            if store.is_labelled(name):
                store.label_header(name)  # the content of another under this name would count twice in the end
                continue
            reasons = tuple(store.read_failure(path, LabelRecord).failed_reason[0] for path in failures.get(name, []))
            if changes_for(self.policy, reasons) is None:
                self.gave_up[reasons[-1]] += 1
            else:
                todo.append(_Attempt(name, frame, reasons))
        return todo

    def _submit(self, attempt: _Attempt, stack: ExitStack) -> None:
        """Send an attempt off, with the settings that are changed for it."""
        context, store = self.context, self.context.store
        changes = changes_for(self.policy, attempt.reasons) or {}
        resources = changes.get("executor", {})
        of_method = {key: value for key, value in changes.items() if key != "executor"}
        task = Task(
            name=attempt.name,
            atoms=attempt.frame,
            method=context.settings.reference.changed(of_method).at(store.directory) if of_method else context.method,
            changes=changes,
            limits=self.limits,
            cores=context.settings.executor.changed(resources).cores,
            place=label_place(attempt.name, self.cycles.get(attempt.name, -1), context.method.identity()),
            done=store.label_path(attempt.name).absolute(),
            failed=store.failure_path(attempt.name, len(attempt.reasons)).absolute(),
            folder=store.calculation_folder(attempt.name).absolute(),
        )
        self.waiting[attempt.name] = task
        future = self._executor(resources, stack).submit(label_one, task)
        future.add_done_callback(lambda done: self.finished.put((attempt, done)))

    def _executor(self, resources: dict[str, Any], stack: ExitStack) -> Executor:
        """The executor with these settings changed."""
        key = json.dumps(resources, sort_keys=True)
        if key not in self.executors:
            self.executors[key] = stack.enter_context(self.context.open_reference(resources))
        return self.executors[key]

    def _take(self, attempt: _Attempt, future: Future[None], task: Task) -> _Attempt | None:
        """Look at an outcome; returns what is to be tried next, if the attempt has failed and there is something."""
        error = future.exception()
        if isinstance(error, StoreError | WorkerStartError):
            raise error
        for path in (task.done, task.failed):
            if not path.exists():
                list(path.parent.iterdir())  # until then a network file system may remember that it was not there
        if task.done.exists():  # whatever became of the process afterwards
            return None
        if error is None and not task.failed.exists():
            error = WorkerDiedError("it ended without a result")
        if isinstance(error, Exception):
            commit_file(task.failed, failure(task, error), place=task.failed_place, exist_ok=True)
            shutil.rmtree(task.folder, ignore_errors=True)
        record = self.context.store.read_failure(task.failed, LabelRecord)
        reason, detail = record.failed_reason[0], record.failed_detail[0]
        further = replace(attempt, reasons=(*attempt.reasons, reason))
        again = changes_for(self.policy, further.reasons) is not None
        what = f"{attempt.name} failed, {reason}: {detail.strip().splitlines()[0] if detail.strip() else 'no details'}"
        self.context.progress.note(f"{what}{'; it is tried again' if again else ''}")
        if not again:
            self.gave_up[reason] += 1
        return further if again else None

    def _check_share(self) -> None:
        """BatchError when too many have given up: what comes after would most likely fail too."""
        n_failed, share = self.gave_up.total(), self.policy.max_share
        if n_failed > share * len(self.names):
            why = ", ".join(f"{count} {reason}" for reason, count in self.gave_up.most_common())
            msg = (
                f"{n_failed} of {len(self.names)} reference calculations failed ({why}), more than failures.max_share "
                f"= {share:g}: see `alflow inspect --failed`, correct the settings, and run `alflow label --retry "
                "failed`; or raise max_share to go on without them"
            )
            raise BatchError(msg)

    def _tell(self) -> None:
        """Say how many run, wait and failed, how fast it goes, and when it will end."""
        now = time.monotonic()
        if now < self.told + _TELL:
            return
        self.told = now
        running = sum(task.folder.exists() for task in self.waiting.values())
        text = f"{running} running, {len(self.waiting) - running} queued, {self.gave_up.total()} failed"
        if self.n_done:
            rate = self.n_done / (now - self.began)
            end = datetime.now().astimezone() + timedelta(seconds=len(self.waiting) / rate)
            text += f", {60 * rate:.3g} a minute, to end at {end:%H:%M}"
        self.context.progress.detail(text)
