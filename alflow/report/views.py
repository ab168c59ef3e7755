"""The state of a run as plain data: what ``--json`` prints and what the tables show."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from alflow.committee.reliability import Reliability
from alflow.errors import AlflowError, ConfigError, StoreError
from alflow.records.assess import AssessRecord
from alflow.records.label import LabelRecord
from alflow.records.sample import SIGMAS, SampleRecord
from alflow.records.select import SelectRecord
from alflow.state.store import Store


def run_directory(directory: Path) -> Store:
    """The store of a run; ConfigError when the directory is not one."""
    if not (directory / "alflow.toml").is_file():
        msg = f"no alflow.toml in {directory}: give a run directory, or make one with `alflow init {directory}`"
        raise ConfigError(msg)
    return Store(directory)


def status(directory: Path) -> dict[str, Any]:
    """How far a run is.

    Returns
    -------
    dict
        ``next`` (step), ``next_cycle``, ``converged``, ``reason``, ``note`` (what the newest committee could not be
        calibrated for, and why), ``n_labelled``, ``n_besides`` (labels of calculations that were tried again, which the
        next label step takes in), ``writer`` (who runs it now, or None) and ``cycles``: a list with, for each,
        ``cycle``, ``steps`` (``done``, ``running`` or ``pending``),
        ``n_selected``, ``n_labelled``, ``n_failed``, ``largest_force_sigma`` (eV/Å), ``energy_rmse`` (eV/atom),
        ``force_rmse`` (eV/Å), both before training, the same ``_after`` it, ``alpha_energy``, ``alpha_force``,
        ``floor_energy`` (eV per square root of the number of atoms), ``floor_force`` (eV/Å), ``note``, ``observable``
        (of ``[converge]``), ``observable_error`` and ``observable_noise`` (its model error and the error of that, in
        its unit), ``observable_note``, and ``energy``, ``force``,
        ``new_energy`` and ``new_force``: the fields of :class:`alflow.committee.calibration.Reliability`, of the new
        committee out-of-bag and of the one before on the cycle's labels; None where there is no value yet.
    """
    store = run_directory(directory)
    writer = store.writer()
    cycle, step = store.next_step()
    cycles = [_cycle_status(store, k, step if writer and k == cycle else None) for k in store.cycles()]
    last = _last_assessment(store)
    return {
        "next": step,
        "next_cycle": cycle,
        "converged": last.converged if last else False,
        "reason": last.reason if last else "nothing assessed yet",
        "note": last.note if last else "",
        "n_labelled": sum(c["n_labelled"] for c in cycles),
        "n_besides": len(_besides(store, cycle, step)),
        "writer": None if writer is None else {"host": writer.host, "pid": writer.pid, "since": writer.since},
        "cycles": cycles,
    }


def _besides(store: Store, cycle: int, step: str) -> set[str]:
    """Ids of labels that are finished, in no cycle yet, and not of the batch that is under way."""
    if (cycle, step) == (0, "label"):
        return set()
    if not store.labelled():
        return set()
    last = store.read(store.last("label"), "label", LabelRecord)
    batch = store.read(cycle, "select", SelectRecord).ids if store.exists(cycle, "select") else ()
    return set(store.labels_besides({*last.ids, *batch}, last.method))


def _last_assessment(store: Store) -> AssessRecord | None:
    finished = [k for k in store.cycles() if store.exists(k, "assess")]
    return store.read(finished[-1], "assess", AssessRecord) if finished else None


def _cycle_status(store: Store, cycle: int, running: str | None) -> dict[str, Any]:
    n_selected, n_labelled, n_failed = None, 0, 0
    if cycle and store.exists(cycle, "select"):
        names = store.read(cycle, "select", SelectRecord).ids
        failed = set(store.failed())
        n_selected = len(names)
        n_labelled = sum(store.is_labelled(name) for name in names)
        n_failed = sum(name in failed for name in names)
    elif cycle == 0:
        n_labelled = len(store.labelled())
        n_failed = len(store.failed())
    steps = {  # after the labels were counted, which the end of a step gathers
        step: "done" if store.exists(cycle, step) else "running" if step == running else "pending"
        for step in store.steps(cycle)
    }
    if steps["label"] == "done":
        labels = store.read(cycle, "label", LabelRecord)
        n_labelled, n_failed = len(labels.ids), len(labels.gave_up)
        n_selected = n_labelled + n_failed if n_selected is None else n_selected
    assessed = store.read(cycle, "assess", AssessRecord) if steps["assess"] == "done" else None
    names = (
        "largest_force_sigma",
        "energy_rmse",
        "force_rmse",
        "energy_rmse_after",
        "force_rmse_after",
        "alpha_energy",
        "alpha_force",
        "floor_energy",
        "floor_force",
        "observable_error",
        "observable_noise",
    )
    kinds = ("energy", "force", "new_energy", "new_force")
    return {
        "cycle": cycle,
        "steps": steps,
        "n_selected": n_selected,
        "n_labelled": n_labelled,
        "n_failed": n_failed,
        **{name: _number(getattr(assessed, name, None)) for name in names},
        "note": None if assessed is None else assessed.note,
        "observable": None if assessed is None else assessed.observable,
        "observable_note": None if assessed is None else assessed.observable_note,
        **{kind: None if assessed is None else _reliability(getattr(assessed, kind)) for kind in kinds},
    }


def _reliability(found: Reliability) -> dict[str, Any]:
    plain = {f.name: getattr(found, f.name) for f in fields(found)}
    return {key: value.tolist() if key == "bins" else _number(value) for key, value in plain.items()}


def _number(value: float | None) -> float | None:
    """A number that JSON can hold."""
    return None if value is None or not math.isfinite(value) else float(value)


def inspect(directory: Path, cycle: int | None = None) -> list[dict[str, Any]]:
    """What was selected, why, what the reference said, and how far off the prediction was.

    Parameters
    ----------
    directory : Path
        Of the run.
    cycle : int, optional
        Only this one.

    Returns
    -------
    list of dict
        ``id``, ``cycle``, ``formula``, ``energy_spread`` (raw), ``energy_sigma`` (calibrated), ``largest_atom_spread``,
        ``largest_atom_sigma`` (eV),
        ``largest_force_spread``, ``largest_force_sigma`` (eV/Å), ``smallest_weight`` (of the correction of a baseline),
        ``reason``,
        ``status`` (labelled, failed, pending), ``failure``, ``energy`` and ``energy_predicted`` (eV), and
        ``energy_error`` (predicted minus reference, meV/atom); None where there is no value. The initial structures of
        cycle 0 were not predicted before they were labelled.
    """
    return [row for row, _ in _selected(directory, cycle)]


def inspected_frames(directory: Path, cycle: int | None = None) -> list[Atoms]:
    """The structures of :func:`inspect`, what it tells of each in ``info``, and reference results."""
    frames = []
    for row, atoms in _selected(directory, cycle):
        frame = atoms.copy()
        frame.calc = atoms.calc
        frame.info.update({key: value for key, value in row.items() if value is not None and key != "energy"})
        frames.append(frame)
    return frames


def _selected(directory: Path, cycle: int | None) -> list[tuple[dict[str, Any], Atoms]]:
    store = run_directory(directory)
    cycles = store.cycles()
    if cycle is not None and cycle not in cycles:
        have = f"0 to {cycles[-1]}" if cycles else "none yet"
        msg = f"no cycle {cycle} in {directory}: expected one of those begun ({have})"
        raise ConfigError(msg)
    return [item for k in cycles if cycle in {None, k} for item in _selected_in(store, k)]


def _selected_in(store: Store, cycle: int) -> list[tuple[dict[str, Any], Atoms]]:
    """Rows and structures of one cycle: from what was selected or, in cycle 0, from the initial structures."""
    results = _results(store, cycle)
    if store.exists(cycle, "select"):
        record = store.read(cycle, "select", SelectRecord)
        return [
            _row(
                cycle,
                name,
                record.frames[i],
                results.get(name),
                reason=record.reason[i],
                **{name: float(getattr(record, name)[i]) for name in SIGMAS},
                energy_predicted=float(record.energy_predicted[i]),
            )
            for i, name in enumerate(record.ids)
        ]
    return [_row(cycle, name, found[0], found, reason="initial structure") for name, found in results.items()]


def _results(store: Store, cycle: int) -> dict[str, tuple[Atoms, str | None]]:
    """Finished calculations of a cycle by id: structure (with its results) and, if it failed, why."""
    if store.exists(cycle, "label"):
        record = store.read(cycle, "label", LabelRecord)
    elif store.exists(cycle, "select"):
        names = list(store.read(cycle, "select", SelectRecord).ids)
        record = _under_way(store, cycle, names)
    elif cycle == 0:
        record = _under_way(store, cycle, [*store.labelled(), *store.failed()])
    else:
        return {}
    done = {name: (frame, None) for name, frame in zip(record.ids, record.frames, strict=True)}
    why = [f"{r}: {d}" for r, d in zip(record.failed_reason, record.failed_detail, strict=True)]
    failed = {n: (f, w) for n, f, w in zip(record.failed_ids, record.failed_frames, why, strict=True)}
    return {**failed, **done}


def _under_way(store: Store, cycle: int, names: list[str]) -> LabelRecord:
    """What is there of labels that are being made; the step may end, and gather them, while they are read."""
    try:
        failed = set(store.failed())
        record = store.gather([name for name in names if store.is_labelled(name) or name in failed], "")
    except StoreError:
        if not store.exists(cycle, "label"):
            raise
    else:
        if not store.exists(cycle, "label"):
            return record
    return store.read(cycle, "label", LabelRecord)


def _row(
    cycle: int,
    name: str,
    atoms: Atoms,
    found: tuple[Atoms, str | None] | None,
    *,
    reason: str,
    energy_predicted: float | None = None,
    **sigma: float,
) -> tuple[dict[str, Any], Atoms]:
    failure = found[1] if found else None
    energy = float(found[0].get_potential_energy()) if found and failure is None else None
    both = energy is not None and energy_predicted is not None
    row = {
        "id": name,
        "cycle": cycle,
        "formula": atoms.get_chemical_formula(),
        **{name: sigma.get(name) for name in SIGMAS},
        "reason": reason,
        "status": "pending" if found is None else "failed" if failure else "labelled",
        "failure": failure,
        "energy": energy,
        "energy_predicted": energy_predicted,
        "energy_error": 1e3 * (energy_predicted - energy) / len(atoms) if both else None,  # type: ignore[operator]
    }
    return row, found[0] if found else atoms


def walkers(store: Store, cycle: int) -> list[dict[str, Any]]:
    """Each walker of a cycle: temperature (K), steps, why it stopped, frames stored and their largest sigma (eV/Å)."""
    record = store.read(cycle, "sample", SampleRecord)
    rows = []
    for number, stop in enumerate(record.walker_stop):
        mine = record.walker == number
        rows.append(
            {
                "walker": number,
                "temperature": float(record.walker_temperature[number]),
                "steps": int(record.walker_steps[number]),
                "stop": stop,
                "frames": int(np.sum(mine)),
                "largest_force_sigma": float(record.largest_force_sigma[mine].max(initial=0.0)),
            }
        )
    return rows


def problems(directory: Path) -> list[str]:
    """What is wrong with the files of a run, one line each; nothing when all of them can be read and verified."""
    from alflow.records.train import TrainRecord

    kinds = {
        "sample": SampleRecord,
        "select": SelectRecord,
        "label": LabelRecord,
        "train": TrainRecord,
        "assess": AssessRecord,
    }
    try:
        return run_directory(directory).verify(kinds)
    except AlflowError as error:
        return [str(error)]
