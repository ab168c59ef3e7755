"""Label: reference calculations, several at once, every result durable the moment it is there."""

from dataclasses import replace

import numpy as np
from ase import Atoms

from alflow import structures
from alflow.errors import StoreError
from alflow.executors import run_all
from alflow.records import LabelRecord, SelectRecord
from alflow.reference import ReferenceMethod, failure, label_one
from alflow.steps.context import Context, evaluate_baseline
from alflow.store import commit_file


def label(context: Context, cycle: int) -> LabelRecord:
    """Ask the reference method about the chosen structures; every result is durable the moment it is there."""
    method = context.method
    ids, frames = _to_label(context, cycle, method)
    store = context.store
    todo = [i for i, name in enumerate(ids) if not (store.is_labelled(name) or store.is_failed(name))]
    context.progress.begin(f"cycle {cycle} label", len(ids))
    context.progress.advance(len(ids) - len(todo))
    tasks = [(ids[i], frames[i], method, store.label_path(ids[i]), store.failure_path(ids[i])) for i in todo]
    for number, outcome in run_all(context.pool, label_one, tasks, timeout=context.settings.executor.timeout):
        name, frame = tasks[number][:2]
        if isinstance(outcome, StoreError):
            raise outcome
        if isinstance(outcome, Exception):
            commit_file(store.failure_path(name), failure(name, frame, outcome, method), exist_ok=True)
        if outcome:
            context.progress.note(f"{name} failed: {str(outcome).splitlines()[0]}")
        context.progress.advance()
    return _with_baseline(context, store.gather(ids, method.identity()))


def _with_baseline(context: Context, record: LabelRecord) -> LabelRecord:
    """Labels with the baseline's results beside them; where it fails there are none, and the label stays."""
    baseline = context.baseline
    if baseline is None:
        return record
    found = evaluate_baseline(context, baseline, record.frames)
    nothing = [(np.nan, np.full((len(frame), 3), np.nan)) for frame in record.frames]
    results = [none if isinstance(x, str) else x for none, x in zip(nothing, found, strict=True)]
    return replace(
        record,
        baseline=(baseline.identity(),) * len(record.frames),
        baseline_energy=np.array([energy for energy, _ in results]),
        baseline_forces=np.concatenate([np.zeros((0, 3)), *(forces for _, forces in results)]),
    )


def _to_label(context: Context, cycle: int, method: ReferenceMethod) -> tuple[list[str], list[Atoms]]:
    """Ids and structures of a cycle's reference calculations, no structure twice."""
    if cycle == 0:
        frames = structures.initial_structures(context.settings, context.store.directory)
        unique = {structures.structure_id(frame, method.identity()): frame for frame in frames}
        return list(unique), list(unique.values())
    record = context.store.read(cycle, "select", SelectRecord)
    return list(record.ids), list(record.frames)
