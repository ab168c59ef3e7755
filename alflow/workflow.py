"""The loop: find the next unfinished step, run it, commit its file. The only writer of a run directory."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from alflow import config, steps
from alflow.errors import ConfigError
from alflow.executors import open_executor
from alflow.records import AssessRecord, LabelRecord
from alflow.reference import build
from alflow.report.progress import Reporter
from alflow.report.tables import cycle_table
from alflow.steps import Context
from alflow.store import Store

_RUN: dict[str, Callable[[Context, int], Any]] = {
    "sample": steps.sample,
    "select": steps.select,
    "label": steps.label,
    "train": steps.train,
    "assess": steps.assess,
}

_SECTIONS: dict[str, tuple[str, ...]] = {
    "sample": ("sample", "system", "seed", "potential", "baseline"),
    "select": ("select", "converge", "seed", "potential", "baseline"),
    "label": ("reference", "baseline", "system", "seed"),
    "train": ("potential", "baseline", "seed"),
    "assess": ("converge", "observable", "seed", "potential", "baseline"),
}
"""The parts of alflow.toml that a step depends on: their hash is kept in the file the step leaves."""


def iterate(directory: Path, progress: Reporter, cycles: int | None = None) -> list[AssessRecord]:
    """Finish an interrupted cycle, then run more.

    Parameters
    ----------
    directory : Path
        The run directory, with its alflow.toml.
    progress : Reporter
        Where to report.
    cycles : int, optional
        How many more cycles to run after the interrupted one (cycle 0, the initial structures, does not count); by
        default as many as ``[converge]`` allows. A number given goes on even when the run has converged.

    Returns
    -------
    list of AssessRecord
        Of the cycles finished by this call.
    """
    return _run(directory, progress, cycles, start_new=True)


def resume(directory: Path, progress: Reporter) -> list[AssessRecord]:
    """Finish the interrupted cycle, if there is one, and stop; arguments and result as of :func:`iterate`."""
    return _run(directory, progress, 0, start_new=False)


def produce(directory: Path, progress: Reporter, asked: steps.Asked) -> Path:
    """Begin a production run with the committee of a cycle, go on with it, or make it longer; returns its folder.

    Errors as of :func:`alflow.steps.production.produce`.
    """
    settings = config.load(directory)
    store = Store(directory)
    with store.lock():
        pool = partial(open_executor, settings.executor.workers, settings.executor.threads)
        return steps.produce(Context(settings, store, pool, progress), asked)


def _run(directory: Path, progress: Reporter, cycles: int | None, *, start_new: bool) -> list[AssessRecord]:
    settings = config.load(directory)
    store = Store(directory)
    done: list[AssessRecord] = []
    with store.lock():
        _same_method(settings, store)
        pool = partial(open_executor, settings.executor.workers, settings.executor.threads)
        context = Context(settings, store, pool, progress)
        if context.baseline is not None:
            context.baseline.calculator()  # one that cannot be made is told before anything is begun
        steps.wanted(settings, directory)  # likewise
        cycle, step = store.next_step()
        first_of_cycle = step == store.steps(cycle)[0]
        if not first_of_cycle or (cycle == 0 and start_new) or store.begun(cycle):
            done.append(_finish(context, cycle, step, progress))
            cycle += 1
        last = None if cycles is None else cycle + cycles
        while cycle < last if last is not None else not _is_converged(store, cycle):
            done.append(_finish(context, cycle, store.steps(cycle)[0], progress))
            cycle += 1
    return done


def _is_converged(store: Store, cycle: int) -> bool:
    return store.read(cycle - 1, "assess", AssessRecord).converged


def _finish(context: Context, cycle: int, step: str, progress: Reporter) -> AssessRecord:
    """Run the steps of a cycle from ``step`` on and commit each."""
    context.store.make_cycle(cycle)
    order = context.store.steps(cycle)
    for name in order[order.index(step) :]:
        record = _RUN[name](context, cycle)
        context.store.commit(cycle, name, record, _provenance(context, cycle, name))
        context.store.tidy(cycle, name)
    record = context.store.read(cycle, "assess", AssessRecord)
    labels = context.store.read(cycle, "label", LabelRecord)
    progress.table(cycle_table(record, len(labels.ids), cycle))
    return record


def _provenance(context: Context, cycle: int, step: str) -> dict[str, str]:
    """Hashes of the settings and of the step before that made a file."""
    settings = context.settings.model_dump(mode="json", include=set(_SECTIONS[step]))
    if "baseline" in settings and context.baseline is not None:
        settings["baseline_identity"] = context.baseline.identity()  # a file may have another content now
    text = json.dumps(settings, sort_keys=True)
    before = context.store.previous(cycle, step)
    return {
        "settings": hashlib.sha256(text.encode()).hexdigest(),
        "input": "" if before is None else context.store.checksum(*before),
    }


def _same_method(settings: config.Settings, store: Store) -> None:
    """Refuse to mix labels of two reference methods in one data set."""
    finished = [cycle for cycle in store.cycles() if store.exists(cycle, "label")]
    if not finished:
        return
    method = build(**settings.reference.model_dump()).identity()
    used = store.read(finished[-1], "label", LabelRecord).method
    if used != method:
        msg = (
            f"{store.directory / 'alflow.toml'}: [reference] is now {method}, but the labels so far were made with "
            f"{used}; change it back, or begin a new run directory"
        )
        raise ConfigError(msg)
