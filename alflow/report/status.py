"""How far a run is: from the names and headers of its files, and the newest assessment, which tells the whole history.

Nothing else is opened, so that this is quick however much a run has sampled; numpy and h5py are all that it loads.
"""

import math
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from alflow.committee.reliability import Reliability
from alflow.errors import StoreError
from alflow.records.assess import Assessment, AssessRecord
from alflow.report.run import run_directory
from alflow.state.file import Header
from alflow.state.store import Store

_NUMBERS = (
    "largest_force_sigma",
    "energy_rmse",
    "force_rmse",
    "energy_rmse_after",
    "force_rmse_after",
    "alpha_energy",
    "alpha_force",
    "floor_energy",
    "floor_force",
    "stress_rmse",
    "stress_rmse_after",
    "alpha_stress",
    "floor_stress",
    "observable_error",
    "observable_noise",
)
_TEXTS = ("note", "observable", "observable_note")
_KINDS = ("energy", "force", "stress", "new_energy", "new_force", "new_stress")


def status(directory: Path) -> dict[str, Any]:
    """How far a run is.

    Returns
    -------
    dict
        ``next`` (step), ``next_cycle``, ``converged`` (whether what ``[converge]`` asks for is reached), ``ended``
        (whether the cycles end, for whatever reason), ``reason`` (of either), ``note`` (what the newest committee could
        not be calibrated for, and why), ``n_labelled``, ``n_besides`` (labels of calculations that were tried again,
        which the next label step takes in), ``writer`` (who runs it now, or None) and ``cycles``: a list with, for
        each, ``cycle``, ``steps`` (``done``, ``running`` or ``pending``),
        ``n_selected``, ``n_labelled``, ``n_failed``, ``largest_force_sigma`` (eV/Å), ``energy_rmse`` (eV/atom),
        ``force_rmse`` (eV/Å), both before training, the same ``_after`` it, ``alpha_energy``, ``alpha_force``,
        ``floor_energy`` (eV per square root of the number of atoms), ``floor_force`` (eV/Å), the same of stresses
        (``stress_rmse``, ``stress_rmse_after``, eV/Å^3, ``alpha_stress``, ``floor_stress``), ``note``, ``observable``
        (of ``[converge]``),
        ``observable_error`` and ``observable_noise`` (its model error and the error of that, in its unit),
        ``observable_note``, and ``energy``, ``force``, ``stress``,
        ``new_energy``, ``new_force`` and ``new_stress``: the fields of
        :class:`alflow.committee.reliability.Reliability`, of the new committee out-of-bag and of the one before on the
        cycle's labels; None where there is no value yet.
    """
    store = run_directory(directory)
    writer = store.writer()
    cycle, step = store.next_step()
    newest = store.last("assess")
    history = store.read(newest, "assess", AssessRecord).cycles if newest >= 0 else ()
    waiting = list(_waiting(store))  # before the steps are looked at, the end of which gathers them
    # The chain has been checked: what was made before an assessment is there.
    cycles = [
        {**_counts(one), "steps": dict.fromkeys(store.steps(one.cycle), "done"), **_assessed(one)} for one in history
    ]
    for k in store.cycles():
        if k > newest:
            running = step if writer and k == cycle else None
            cycles.append(_under_way(store, k, running, waiting))
    last = history[-1] if history else None
    return {
        "next": step,
        "next_cycle": cycle,
        "converged": last.reached if last else False,
        "ended": last.converged if last else False,
        "reason": last.reason if last else "nothing assessed yet",
        "note": last.note if last else "",
        "n_labelled": sum(c["n_labelled"] for c in cycles),
        "n_besides": _besides(store, waiting),
        "writer": None if writer is None else {"host": writer.host, "pid": writer.pid, "since": writer.since},
        "cycles": cycles,
    }


def _counts(one: Assessment) -> dict[str, Any]:
    return {"cycle": one.cycle, "n_selected": one.n_selected, "n_labelled": one.n_new, "n_failed": one.n_failed}


def _assessed(one: Assessment | None) -> dict[str, Any]:
    """What is known of a cycle once it is assessed; None where it is not."""
    return {
        **{name: _number(getattr(one, name, None)) for name in _NUMBERS},
        **{name: getattr(one, name, None) for name in _TEXTS},
        **{kind: None if one is None else _reliability(getattr(one, kind)) for kind in _KINDS},
    }


def _reliability(found: Reliability) -> dict[str, Any]:
    plain = {f.name: getattr(found, f.name) for f in fields(found)}
    return {key: value.tolist() if key == "bins" else _number(value) for key, value in plain.items()}


def _number(value: float | None) -> float | None:
    """A number that JSON can hold."""
    return None if value is None or not math.isfinite(value) else float(value)


def _steps(store: Store, cycle: int, running: str | None) -> dict[str, str]:
    return {
        step: "done" if store.exists(cycle, step) else "running" if step == running else "pending"
        for step in store.steps(cycle)
    }


def _under_way(store: Store, cycle: int, running: str | None, waiting: list[Header]) -> dict[str, Any]:
    """A cycle that is not assessed yet: its labels are counted as they come in."""
    n_labelled = sum(header.place["batch"] == cycle for header in waiting)
    n_failed = sum(header.place["batch"] == cycle for header in _gave_up(store))
    steps = _steps(store, cycle, running)
    selected = store.header(cycle, "select").headline["selected"] if store.exists(cycle, "select") else None
    if steps["label"] == "done":
        headline = store.header(cycle, "label").headline
        n_labelled, n_failed = int(headline["labels"]), int(headline["failed"])
        selected = n_labelled + n_failed if selected is None else selected
    counts = {"n_selected": selected, "n_labelled": n_labelled, "n_failed": n_failed}
    return {"cycle": cycle, "steps": steps, **counts, **_assessed(None)}


def _waiting(store: Store) -> Iterator[Header]:
    """Headers of the calculations that are finished and not yet gathered; one may be gathered while this looks."""
    for name in store.labelled():
        try:
            yield store.label_header(name)
        except StoreError:
            if store.is_labelled(name):
                raise


def _gave_up(store: Store) -> Iterator[Header]:
    """Header of the last attempt of each calculation that failed and has no label; a retry may remove it meanwhile."""
    for name, paths in store.failures().items():
        if store.is_labelled(name):
            continue
        try:
            yield store.failure_header(paths[-1])
        except StoreError:
            if paths[-1].exists():
                raise


def _besides(store: Store, waiting: list[Header]) -> int:
    """How many labels are finished, in no cycle yet, and of no cycle's batch: the next label step takes them in."""
    loose = {str(header.place["calculation"]): header for header in waiting if header.place["batch"] == -1}
    newest = store.last("label")
    if not loose or newest < 0:
        return len(loose)
    method = store.header(newest, "label").headline["method"]
    gathered = store.texts(newest, "label", "ids")  # which a writer that was killed has not yet removed
    return sum(header.place["method"] == method for name, header in loose.items() if name not in gathered)
