"""One reference calculation in a worker process: its outcome is on disk before the worker says that it is done."""

import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.data.labels import SHAPES
from alflow.errors import LabelError
from alflow.executors import shield
from alflow.records.label import LabelRecord
from alflow.reference.consistency import Limits, check_consistent
from alflow.reference.method import ReferenceMethod, Result, labelled
from alflow.state.file import commit_file
from alflow.workers.outcomes import reason_and_detail

Array = NDArray[np.float64]

_NAME = re.compile(r"[A-Za-z_]\w*")  # of a property: it becomes the name of a dataset, and a key of extended XYZ


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
    cores : int
        That the calculation has.
    place : mapping
        What the header of the result says of its place.
    done, failed, folder : Path
        File for the result, file for the failure, and folder for the files of a program.
    """

    name: str
    atoms: Atoms
    method: ReferenceMethod
    changes: Mapping[str, Any]
    limits: Limits
    cores: int
    place: Mapping[str, str | int]
    done: Path
    failed: Path
    folder: Path

    @property
    def failed_place(self) -> dict[str, str | int]:
        """What the header of a failure says of its place: the attempt besides, the number in the name of its file."""
        return {**self.place, "attempt": int(self.failed.suffixes[-2][1:])}


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
        check_result(result, len(task.atoms))
        check_consistent(result.frame, task.limits)
    except Exception as error:  # noqa: BLE001 - whatever a calculation does, the loop goes on without it
        with shield():
            commit_file(task.failed, failure(task, error), place=task.failed_place, exist_ok=True)
        return
    finally:
        shutil.rmtree(task.folder, ignore_errors=True)
    with shield():
        record = LabelRecord.empty(task.method.identity()).with_label(
            name=task.name,
            frame=result.frame,
            wall_time=time.perf_counter() - start,
            code=result.code,
            log=result.log,
            changes=json.dumps(dict(task.changes)) if task.changes else "",
            plain_energy=result.plain_energy,
            electrons=result.electrons,
            properties=result.properties,
            atom_properties=result.atom_properties,
            cores=task.cores,
        )
        commit_file(task.done, record, place=task.place, exist_ok=True)


def try_one(atoms: Atoms, method: ReferenceMethod, limits: Limits, folder: Path | None = None) -> tuple[Result, float]:
    """Calculate a structure and keep nothing; returns the result and the wall time, s. LabelError when it fails."""
    start = time.perf_counter()
    try:
        result = method.calculate(atoms, folder)
        check_result(result, len(atoms))
        check_consistent(result.frame, limits)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return result, time.perf_counter() - start


def check_result(result: Result, n_atoms: int) -> None:
    """LabelError for what no record can hold: methods of installed packages give what they like.

    Raises
    ------
    LabelError
        ``no_output`` for an energy, forces, a stress or a property of another shape or type; ``not_finite``.
    """
    results = {} if result.frame.calc is None else result.frame.calc.results
    for name in ("energy", "forces"):
        if results.get(name) is None:
            msg = f"{result.code} gave no {name}"
            raise LabelError("no_output", msg)
    labelled(result.frame, **{name: results[name] for name in SHAPES if results.get(name) is not None})
    for name, value in [*result.properties.items(), *result.atom_properties.items()]:
        array = np.asarray(value)
        if not _NAME.fullmatch(name) or array.dtype.kind not in "iuf":
            msg = f"property {name!r}: expected real numbers, and a name of letters, digits and _; found {array.dtype}"
            raise LabelError("no_output", msg)
        if name in result.atom_properties and array.shape[:1] != (n_atoms,):
            msg = f"property {name} of atoms: expected a value for each of {n_atoms}, found shape {array.shape}"
            raise LabelError("no_output", msg)


def baseline_result(atoms: Atoms, baseline: ReferenceMethod) -> tuple[float, Array, Array]:
    """Energy (eV), forces (eV/Å) and stress (eV/Å^3; NaN where it has none) by a baseline; LabelError when it fails."""
    results = baseline.calculate(atoms).frame.calc.results
    stress = np.array(results.get("stress", np.full(6, np.nan)))
    return float(results["energy"]), np.array(results["forces"]), stress


def failure(task: Task, error: Exception) -> LabelRecord:
    """The record of an attempt that failed, with its reason: one word of the taxonomy, and the details."""
    reason, detail = reason_and_detail(error, task.folder)
    return LabelRecord.empty(task.method.identity()).with_failure(
        task.name, task.atoms, reason, detail, json.dumps(dict(task.changes)) if task.changes else ""
    )
