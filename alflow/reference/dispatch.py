"""One reference calculation in a worker process: its outcome is on disk before the worker says that it is done."""

import json
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.errors import AlflowError, LabelError
from alflow.executors import TaskTimeoutError, WorkerMemoryError, shield
from alflow.records.electrons import extra_of
from alflow.records.label import LabelRecord
from alflow.reference.consistency import Limits, check_consistent
from alflow.reference.method import ReferenceMethod, Result, reason_of
from alflow.reference.programs import end_of_logs
from alflow.state.store import commit_file

_TAIL = 20  # lines of a traceback that are kept


@dataclass(frozen=True)
class Task:
    """A reference calculation to be done.

    Attributes
    ----------
    name : str
        Of the calculation: the hash of structure and method.
    atoms : Atoms
        Structure.
    method : ReferenceMethod
        How, with the changes of this attempt.
    changes : mapping
        Settings that were changed for this attempt.
    limits : Limits
        What the result must keep.
    done, failed, folder : Path
        File for the result, file for the failure, and folder for the files of a program.
    """

    name: str
    atoms: Atoms
    method: ReferenceMethod
    changes: Mapping[str, Any]
    limits: Limits
    done: Path
    failed: Path
    folder: Path


def label_one(task: Task) -> None:
    """Calculate a structure and commit the outcome; nothing is done if a worker that was lost sight of has done so."""
    for path in (task.done, task.failed):
        list(path.parent.iterdir())  # a network file system may remember what was there, or was not
        if path.exists():
            return
    start = time.perf_counter()
    try:
        shutil.rmtree(task.folder, ignore_errors=True)  # of an attempt that was killed
        result = task.method.calculate(task.atoms, task.folder)
        check_consistent(result.frame, task.limits)
    except Exception as error:  # noqa: BLE001 - whatever a calculation does, the loop goes on without it
        with shield():
            commit_file(task.failed, failure(task, error), exist_ok=True)
        return
    finally:
        shutil.rmtree(task.folder, ignore_errors=True)
    extra = extra_of(result.electrons)
    with shield():
        record = LabelRecord.empty(task.method.identity()).with_label(
            name=task.name,
            frame=result.frame,
            wall_time=time.perf_counter() - start,
            code=result.code,
            log=result.log,
            extra=json.dumps(extra) if extra else "",
            changes=json.dumps(dict(task.changes)) if task.changes else "",
        )
        commit_file(task.done, record, exist_ok=True)


def try_one(atoms: Atoms, method: ReferenceMethod, limits: Limits, folder: Path | None = None) -> tuple[Result, float]:
    """Calculate a structure and keep nothing; returns the result and the wall time, s. LabelError when it fails."""
    start = time.perf_counter()
    try:
        result = method.calculate(atoms, folder)
        check_consistent(result.frame, limits)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return result, time.perf_counter() - start


def baseline_result(atoms: Atoms, baseline: ReferenceMethod) -> tuple[float, NDArray[np.float64]]:
    """Energy (eV) and forces (eV/Å) by a baseline; LabelError when it fails."""
    found = baseline.calculate(atoms).frame
    return float(found.get_potential_energy()), np.array(found.get_forces())


def failure(task: Task, error: Exception) -> LabelRecord:
    """The record of an attempt that failed, with its reason: one word of the taxonomy, and the details."""
    if isinstance(error, LabelError):
        reason, detail = error.reason, error.detail
    elif isinstance(error, TaskTimeoutError):
        reason, detail = "timed_out", str(error)
    elif isinstance(error, WorkerMemoryError):
        reason, detail = "out_of_memory", str(error)
    elif isinstance(error, AlflowError):
        reason, detail = "crashed", str(error)
    else:
        reason = reason_of(error, "")
        detail = "".join(traceback.format_exception(error)[-_TAIL:])
    if not isinstance(error, LabelError) and (log := end_of_logs(task.folder)):
        detail = f"{detail}\n{log}"
    return LabelRecord.empty(task.method.identity()).with_failure(
        task.name, task.atoms, reason, detail, json.dumps(dict(task.changes)) if task.changes else ""
    )
