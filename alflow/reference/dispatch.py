"""One reference calculation in a worker process: its outcome is on disk before the worker says that it is done."""

import time
import traceback
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.errors import AlflowError, LabelError
from alflow.executors import TaskTimeoutError, shield
from alflow.records import LabelRecord
from alflow.reference.base import ReferenceMethod
from alflow.store import commit_file

_TAIL = 20  # lines of a traceback that are kept


def label_one(name: str, atoms: Atoms, method: ReferenceMethod, done: Path, failed: Path) -> str:
    """Calculate a structure and commit the outcome.

    Parameters
    ----------
    name : str
        Of the calculation: the hash of structure and method.
    atoms : Atoms
        Structure.
    method : ReferenceMethod
        How.
    done, failed : Path
        File for the result, and file for the failure.

    Returns
    -------
    str
        Why it failed; empty when it did not.
    """
    start = time.perf_counter()
    try:
        labelled = method.calculate(atoms)
    except Exception as error:  # noqa: BLE001 - whatever a calculation does, the loop goes on without it
        with shield():
            commit_file(failed, failure(name, atoms, error, method), exist_ok=True)
        return str(error)
    with shield():
        record = LabelRecord(
            ids=(name,),
            frames=(labelled,),
            wall_time=np.array([time.perf_counter() - start]),
            code=(method.code(),),
            baseline=("",),
            baseline_energy=np.array([np.nan]),
            baseline_forces=np.full((len(atoms), 3), np.nan),
            failed_ids=(),
            failed_frames=(),
            failed_reason=(),
            failed_detail=(),
            method=method.identity(),
        )
        commit_file(done, record, exist_ok=True)
    return ""


def baseline_result(atoms: Atoms, baseline: ReferenceMethod) -> tuple[float, NDArray[np.float64]]:
    """Energy (eV) and forces (eV/Å) by a baseline; LabelError when it fails."""
    found = baseline.calculate(atoms)
    return float(found.get_potential_energy()), np.array(found.get_forces())


def failure(name: str, atoms: Atoms, error: Exception, method: ReferenceMethod) -> LabelRecord:
    """The record of a calculation that gave up, with its reason: one word of the taxonomy, and the details."""
    if isinstance(error, LabelError):
        reason, detail = error.reason, error.detail
    elif isinstance(error, TaskTimeoutError):
        reason, detail = "timed_out", str(error)
    elif isinstance(error, AlflowError):
        reason, detail = "crashed", str(error)
    else:
        reason, detail = "crashed", "".join(traceback.format_exception(error)[-_TAIL:])
    return LabelRecord(
        ids=(),
        frames=(),
        wall_time=np.zeros(0),
        code=(),
        baseline=(),
        baseline_energy=np.zeros(0),
        baseline_forces=np.zeros((0, 3)),
        failed_ids=(name,),
        failed_frames=(atoms,),
        failed_reason=(reason,),
        failed_detail=(detail,),
        method=method.identity(),
    )
