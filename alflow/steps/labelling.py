"""Label: reference calculations, several at once, every result durable the moment it is there."""

from ase import Atoms

from alflow import structures
from alflow.errors import StoreError
from alflow.executors import run_all
from alflow.records import LabelRecord, SelectRecord
from alflow.reference import ReferenceMethod, failure, label_one
from alflow.steps.context import Context
from alflow.store import commit_file


def label(context: Context, cycle: int) -> LabelRecord:
    """Ask the reference method about the chosen structures; every result is durable the moment it is there."""
    method = context.method
    ids, frames = _to_label(context, cycle, method)
    store = context.store
    todo = [i for i, name in enumerate(ids) if not (store.is_labelled(name) or store.is_failed(name))]
    context.progress.begin(f"cycle {cycle} label", len(ids))
    context.progress.advance(len(ids) - len(todo))
    baseline = context.baseline
    tasks = [(ids[i], frames[i], method, baseline, store.label_path(ids[i]), store.failure_path(ids[i])) for i in todo]
    for number, outcome in run_all(context.pool, label_one, tasks, timeout=context.settings.executor.timeout):
        name, frame = tasks[number][:2]
        if isinstance(outcome, StoreError):
            raise outcome
        if isinstance(outcome, Exception):
            commit_file(store.failure_path(name), failure(name, frame, outcome, method), exist_ok=True)
        if outcome:
            context.progress.note(f"{name} failed: {str(outcome).splitlines()[0]}")
        context.progress.advance()
    return store.gather(ids, method.identity())


def _to_label(context: Context, cycle: int, method: ReferenceMethod) -> tuple[list[str], list[Atoms]]:
    """Ids and structures of a cycle's reference calculations, no structure twice."""
    if cycle == 0:
        frames = structures.initial_structures(context.settings, context.store.directory)
        unique = {structures.structure_id(frame, method.identity()): frame for frame in frames}
        return list(unique), list(unique.values())
    record = context.store.read(cycle, "select", SelectRecord)
    return list(record.ids), list(record.frames)
