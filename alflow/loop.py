"""The loop: find the next unfinished step, run it, commit its file. The only writer of a run directory."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alflow import config
from alflow.data.names import Names
from alflow.errors import ConfigError
from alflow.executors.opening import local_pool
from alflow.records.assess import Assessment, AssessRecord
from alflow.records.batch import sweep_labels
from alflow.report.progress import Reporter
from alflow.report.tables import cycle_table
from alflow.state.store import Store
from alflow.steps.assess import assess, wanted
from alflow.steps.batch import TO_LABEL
from alflow.steps.context import Context
from alflow.steps.label import check_method, take_in, take_over, to_label, try_again
from alflow.steps.label import label as label_step
from alflow.steps.produce import Asked
from alflow.steps.produce import produce as produce_step
from alflow.steps.sample import sample
from alflow.steps.select import select
from alflow.steps.train import fit_again, train
from alflow.workers.interpreters import close_all

_RUN: dict[str, Callable[[Context, int], Any]] = {
    "sample": sample,
    "select": select,
    "label": label_step,
    "train": train,
    "assess": assess,
}

_SECTIONS: dict[str, tuple[str, ...]] = {
    "sample": ("sample", "system", "seed", "potential", "baseline"),
    "select": ("select", "converge", "seed", "potential", "baseline"),
    "label": ("reference", "baseline", "system", "seed"),
    "train": ("potential", "baseline", "seed"),
    "assess": ("converge", "observable", "seed", "potential", "baseline"),
}
"""The parts of alflow.toml that a step depends on: their hash is kept in the file the step leaves."""

_MORE = "`alflow iterate --cycles N` runs N more cycles all the same"

_COMMITTEES: dict[str, tuple[int, ...]] = {
    "sample": (-1,),
    "select": (-1,),
    "label": (),
    "train": (),
    "assess": (-1, 0),
}
"""Whose committees a step works with, counted from its cycle: fitted again before it if the baseline was changed."""


def iterate(directory: Path, progress: Reporter, cycles: int | None = None, *, retry: bool = False) -> list[Assessment]:
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

    retry : bool
        Whether trainings of members that have failed are tried again.

    Returns
    -------
    list of Assessment
        Of the cycles finished by this call.
    """
    return _run(directory, progress, cycles, start_new=True, retry=retry)


def resume(directory: Path, progress: Reporter, *, retry: bool = False) -> list[Assessment]:
    """Finish the interrupted cycle, if there is one, and stop; arguments and result as of :func:`iterate`."""
    return _run(directory, progress, 0, start_new=False, retry=retry)


def produce(directory: Path, progress: Reporter, asked: Asked, *, retry: bool = False) -> Path:
    """Begin a production run with the committee of a cycle, go on with it, or make it longer; returns its folder.

    ``retry`` as of :func:`iterate`.

    Errors as of :func:`alflow.steps.produce.produce`.
    """
    settings = config.load(directory)
    store = Store(directory)
    with store.lock():
        store.check()
        pool = local_pool(settings.executor)
        return produce_step(Context(settings, store, pool, progress, retry), asked)


def label(directory: Path, progress: Reporter) -> None:
    """Finish the reference calculations of the interrupted cycle, if it has got there; nothing more."""
    with _opened(directory, progress) as context:
        cycle, step = context.store.next_step()
        if step != "label" or not (context.store.begun(cycle) or cycle == 0):
            progress.note(f"next is to {step}: no reference calculations wait")
            return
        _finish_step(context, cycle, step)


def label_again(directory: Path, progress: Reporter, which: str) -> None:
    """Try failed reference calculations again.

    Arguments and errors as of :func:`alflow.steps.label.try_again`; those of the interrupted cycle are then part of
    it, others of the next label step.
    """
    with _opened(directory, progress) as context:
        names = try_again(context, which)
        n_done = sum(context.store.is_labelled(name) for name in names)
        progress.note(f"{n_done} of {len(names)} have a label now; the next label step of the run takes them in")


def label_from(directory: Path, progress: Reporter, file: Path, said: Names) -> None:
    """Take labels from a file or from the cycles of another run, and finish the interrupted cycle.

    What the user says of the file is of no use for another run. Errors as of :func:`alflow.steps.label.take_in` and
    :func:`alflow.steps.label.take_over`.
    """
    with _opened(directory, progress) as context:
        cycle, step = context.store.next_step()
        if step != "label":
            msg = f"next is to {step} in cycle {cycle}: no structures wait for labels"
            raise ConfigError(msg)
        names, frames = to_label(context, cycle)
        if file.is_dir():
            taken = take_over(context, cycle, file)
            progress.note(f"{len(taken)} labels from {file}")
            if not taken and not context.store.labelled():
                msg = f"{file} has no label that this run has not: nothing to import"
                raise ConfigError(msg)
            _finish(context, cycle, step, progress)
            return
        wanted = [i for i, name in enumerate(names) if not context.store.is_labelled(name)]
        found = take_in(context, cycle, file, said, [names[i] for i in wanted], [frames[i] for i in wanted])
        progress.note(f"{len(found)} labels from {file}; {len(wanted) - len(found)} structures still wait")
        if not found:
            msg = f"{file} has none of the structures that wait: expected those of {directory / TO_LABEL}"
            raise ConfigError(msg)
        _finish(context, cycle, step, progress)


@contextmanager
def _opened(directory: Path, progress: Reporter, *, retry: bool = False) -> Iterator[Context]:
    """The run directory, locked, with its settings."""
    settings = config.load(directory)
    store = Store(directory)
    with store.lock():
        store.check()
        sweep_labels(store, store.cycles())
        context = Context(settings, store, local_pool(settings.executor), progress, retry)
        check_method(store, context.method)
        yield context


def _run(
    directory: Path, progress: Reporter, cycles: int | None, *, start_new: bool, retry: bool = False
) -> list[Assessment]:
    done: list[Assessment] = []
    with _opened(directory, progress, retry=retry) as context:
        store = context.store
        if context.baseline is not None:
            context.baseline.check()  # one that cannot be made is told before anything is begun
        wanted(context.settings, directory)  # likewise
        cycle, step = store.next_step()
        first_of_cycle = step == store.steps(cycle)[0]
        if not first_of_cycle or (cycle == 0 and start_new) or store.begun(cycle):
            done.append(_finish(context, cycle, step, progress))
            cycle += 1
        last = None if cycles is None else cycle + cycles
        while cycle < last if last is not None else not _is_converged(store, cycle):
            done.append(_finish(context, cycle, store.steps(cycle)[0], progress))
            cycle += 1
        if not done and cycles is None:
            last_of = store.read(cycle - 1, "assess", AssessRecord).last
            progress.note(f"{last_of.state}: {last_of.reason}; {_MORE}")
    return done


def _is_converged(store: Store, cycle: int) -> bool:
    return store.read(cycle - 1, "assess", AssessRecord).last.converged


def _finish(context: Context, cycle: int, step: str, progress: Reporter) -> Assessment:
    """Run the steps of a cycle from ``step`` on and commit each."""
    order = context.store.steps(cycle)
    for name in order[order.index(step) :]:
        _finish_step(context, cycle, name)
    close_all()  # members in other interpreters take memory that the walkers' own need now
    now = context.store.read(cycle, "assess", AssessRecord).last
    progress.table(cycle_table(now))
    if now.converged or (cycle and not now.n_selected):
        progress.note(f"{now.state}: {now.reason}{f'; {_MORE}' if now.converged else ''}")
    return now


def _finish_step(context: Context, cycle: int, name: str) -> None:
    """Run a step and commit it."""
    store = context.store
    store.make_cycle(cycle)
    for trained in _COMMITTEES[name]:
        if cycle + trained >= 0:
            fit_again(context, cycle + trained)
    record = _RUN[name](context, cycle)
    store.commit(cycle, name, record, _settings_hash(context, name))
    store.tidy(cycle, name)
    if name == "label":
        sweep_labels(store, [cycle])


def _settings_hash(context: Context, step: str) -> str:
    """Hash of the settings that a step depends on."""
    settings = context.settings.model_dump(mode="json", include=set(_SECTIONS[step]))
    if "baseline" in settings and context.baseline is not None:
        settings["baseline_identity"] = context.baseline.identity()  # a file may have another content now
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
