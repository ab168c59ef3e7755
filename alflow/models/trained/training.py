"""Trainings: one run of a program for each member, by an executor; what is finished is never done again."""

import json
import queue
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from alflow.committee.training import TrainingSet
from alflow.errors import LabelError, StoreError, TrainingError
from alflow.executors import WorkerDiedError, WorkerStartError, shield
from alflow.models.settings import Workshop
from alflow.models.trained import keeping
from alflow.models.trained.records import FailedTraining, MemberRecord
from alflow.models.trained.settings import TrainedKeys
from alflow.section import merge
from alflow.workers import programs
from alflow.workers.attempts import changes_for
from alflow.workers.interpreters import default_threads, interpreter
from alflow.workers.outcomes import reason_and_detail
from alflow.workers.recipe import Recipe, interpreter_of

_TRAIN, _VALIDATION, _OUTPUT = "train.xyz", "validation.xyz", "output"


@dataclass(frozen=True)
class Job:
    """A training to be done.

    Attributes
    ----------
    name : str
        Hash of all that decides the member.
    member : int
        Its number.
    words : sequence of str
        The command, with words in braces.
    values : mapping of str to str
        What stands for those that are known before it runs.
    train, validation : TrainingSet
        What the member is shown.
    changes : mapping
        Settings changed for this attempt.
    models, folder, failed : Path
        Folder of the members; for the files of the program while it runs; file for a failure.
    """

    name: str
    member: int
    words: Sequence[str]
    values: Mapping[str, str]
    train: TrainingSet
    validation: TrainingSet
    changes: Mapping[str, Any]
    models: Path
    folder: Path
    failed: Path


def train_one(job: Job) -> None:
    """Run a training and keep what comes of it; nothing if a worker that was lost sight of has done so.

    Raises
    ------
    StoreError
        What comes of it cannot be kept: then it stays where it is, and the next attempt finds it.
    """
    keeping.look(job.models)
    if keeping.is_trained(job.models, job.name) or job.failed.exists():
        return
    try:
        ended = keeping.ended_before(job.folder) if _is_something(job.folder / _OUTPUT) else None
        ended = ended or _run(job)
    except Exception as error:  # noqa: BLE001 - whatever a training does, the others go on without it
        record = failed(job, error)
        with shield():
            keeping.commit_failure(job.failed, record)
    else:
        with shield():
            _keep(job, *ended)
    shutil.rmtree(job.folder, ignore_errors=True)


def _run(job: Job) -> tuple[float, str]:
    """Run the program; wall time, s, and the end of what it printed.

    Raises
    ------
    LabelError
        ``no_output`` if it leaves nothing; others as of :func:`alflow.workers.programs.run`.
    """
    start = time.perf_counter()
    shutil.rmtree(job.folder, ignore_errors=True)  # of an attempt that was killed
    job.folder.mkdir(parents=True)
    paths = {word: job.folder / name for word, name in (("train", _TRAIN), ("validation", _VALIDATION))}
    for word, path in paths.items():
        ase.io.write(path, _labelled(getattr(job, word)), format="extxyz")
    output = job.folder / _OUTPUT
    words = [_filled(word, {**job.values, **paths, "output": output}) for word in job.words]
    end = programs.run(words, job.folder, job.folder / keeping.LOG)
    if not _is_something(output):
        msg = f"{words[0]} ended well and left nothing at {{output}}, which was {output}\n{end}"
        raise LabelError("no_output", msg)
    seconds = time.perf_counter() - start
    keeping.say_ended(job.folder, seconds, end)
    return seconds, end


def _keep(job: Job, seconds: float, end: str) -> None:
    """Put a member together and give it its name; StoreError if that is not possible."""
    with keeping.new_member(job.models, job.name) as folder:
        keeping.put(job.folder / _OUTPUT, folder / keeping.MODEL)
        keeping.put(job.folder / keeping.LOG, folder / keeping.LOG)
        found = keeping.checksums(folder)
        record = MemberRecord(
            name=job.name,
            member=job.member,
            seconds=seconds,
            n_train=len(job.train),
            n_validation=len(job.validation),
            changes=json.dumps(dict(job.changes)) if job.changes else "",
            log=end,
            files=tuple(found),
            checksums=tuple(found.values()),
        )
        keeping.commit_member(folder, record)


def _filled(text: str, values: Mapping[str, Any]) -> str:
    """A text with words in braces filled in."""
    for word, value in values.items():
        text = text.replace(f"{{{word}}}", str(value))
    return text


def failed(job: Job, error: Exception) -> FailedTraining:
    """What is kept of an attempt that failed."""
    reason, detail = reason_and_detail(error, job.folder)
    changes = json.dumps(dict(job.changes)) if job.changes else ""
    return FailedTraining(job.name, job.member, reason, detail, changes)


def _in_short(detail: str) -> str:
    """The first line of what is told of a failure, and the last of the log that follows."""
    lines = [line.strip() for line in detail.splitlines() if line.strip()] or ["no details"]
    return lines[0] if len(lines) == 1 else f"{lines[0]} ({lines[-1]})"


def _labelled(training: TrainingSet) -> list[Atoms]:
    """Structures with their labels as results."""
    frames = []
    for frame, energy, forces in zip(training.frames, training.energies, training.forces, strict=True):
        labels = {"energy": float(energy)} | ({} if forces is None else {"forces": forces})
        copy = frame.copy()
        copy.calc = SinglePointCalculator(copy, **labels)
        frames.append(copy)
    return frames


def _is_something(path: Path) -> bool:
    """Whether it is a file that is not empty, or a folder that has one."""
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.is_file() and file.stat().st_size for file in files)


def command_of(section: TrainedKeys, directory: Path, *, starts: bool) -> list[str]:
    """The words of a command, files of a directory found from anywhere; with ``starts`` from an earlier model."""
    text = section.command if section.start is None or not starts else f"{section.command} {section.start}"
    return programs.words_of(programs.located(text, directory), "potential")


def check_trainer(section: TrainedKeys, directory: Path) -> None:
    """ConfigError if there is no such program, or no such calculator in its interpreter."""
    python = interpreter_of(section.python or "", directory) or sys.executable
    recipe = Recipe(section.calculator, {}, section.python or "").located(directory)
    interpreter(recipe, default_threads()).find(recipe.name)  # first: the command may be run by the same interpreter
    words = command_of(section, directory, starts=False)
    programs.check_program(_filled(words[0], {"python": python}), "potential")


def train_all(jobs: Sequence[Job], section: TrainedKeys, workshop: Workshop) -> None:
    """Train the members that are not finished; every outcome is on disk once it is there.

    Parameters
    ----------
    jobs : sequence of Job
        First attempts.
    section : TrainedKeys
        Commands, executors and further attempts.
    workshop : Workshop
        Where.

    Raises
    ------
    ConfigError
        There is no such program.
    TrainingError
        Some have given up; the others are finished.
    StoreError
        A result cannot be written.
    WorkerStartError
        No process can be started.
    """
    keeping.sweep(workshop.models)
    todo = [job for job in jobs if not keeping.is_trained(workshop.models, job.name)]
    if not todo:
        return
    check_trainer(section, workshop.directory)
    paths = keeping.failures(workshop.models)
    if workshop.retry:
        for path in (path for job in todo for path in paths.get(job.name, [])):
            path.unlink()
        paths = {}
    workshop.progress.begin("train members", len(jobs))
    workshop.progress.advance(len(jobs) - len(todo))
    with ExitStack() as stack:
        run = _Run(section, workshop, stack)
        for job in todo:
            reasons = tuple(keeping.read_failure(path).reason for path in paths.get(job.name, []))
            run.begin(job, reasons)
        run.wait()
    if run.gave_up:
        first = min(run.gave_up)
        msg = (
            f"training of {len(run.gave_up)} of {len(jobs)} members failed; member {first}: {run.gave_up[first]}: "
            f"{workshop.remedy}"
        )
        raise TrainingError(msg)


class _Run:
    """Trainings that run, and those that have given up."""

    def __init__(self, section: TrainedKeys, workshop: Workshop, stack: ExitStack) -> None:
        self.section, self.workshop, self.stack = section, workshop, stack
        self.gave_up: dict[int, str] = {}
        self.waiting = 0
        self.finished: queue.SimpleQueue[tuple[Job, tuple[str, ...], Future[None]]] = queue.SimpleQueue()
        self.executors: dict[str, Executor] = {}

    def begin(self, job: Job, reasons: tuple[str, ...]) -> None:
        """Send the attempt off that follows those that failed for some reasons; give up if there is none."""
        models, policy = self.workshop.models, self.section.failures
        changes = changes_for(policy, reasons)
        if changes is None:
            last = keeping.read_failure(keeping.failure_path(models, job.name, len(reasons) - 1))
            self.gave_up[job.member] = f"{last.reason}: {_in_short(last.detail)}"
            return
        attempt = replace(job, changes=changes, failed=keeping.failure_path(models, job.name, len(reasons)))
        of_command = {key: value for key, value in changes.items() if key != "executor"}
        if of_command:
            section = self.section.changed(of_command)
            attempt = replace(attempt, words=command_of(section, self.workshop.directory, starts="start" in job.values))
        future = self._executor(changes.get("executor", {})).submit(train_one, attempt)
        self.waiting += 1
        future.add_done_callback(lambda done: self.finished.put((attempt, reasons, done)))

    def wait(self) -> None:
        """Take outcomes as they come, until nothing runs."""
        while self.waiting:
            job, reasons, future = self.finished.get()
            self.waiting -= 1
            error = future.exception()
            if isinstance(error, StoreError | WorkerStartError):
                raise error
            keeping.look(self.workshop.models)
            if keeping.is_trained(self.workshop.models, job.name):
                self.workshop.progress.advance()
                continue
            if not job.failed.exists():
                wrong = error if isinstance(error, Exception) else WorkerDiedError("it ended without a result")
                keeping.commit_failure(job.failed, failed(job, wrong))
                shutil.rmtree(job.folder, ignore_errors=True)
            record = keeping.read_failure(job.failed)
            what = f"training of member {job.member} failed, {record.reason}: {_in_short(record.detail)}"
            self.workshop.progress.note(what)
            self.begin(job, (*reasons, record.reason))

    def _executor(self, changes: Mapping[str, Any]) -> Executor:
        """The executor of trainings with some further settings changed."""
        resources = merge(self.section.executor, changes)
        key = json.dumps(resources, sort_keys=True)
        if key not in self.executors:
            self.executors[key] = self.stack.enter_context(self.workshop.open_executor(resources))
        return self.executors[key]
