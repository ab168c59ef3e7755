"""Label: reference calculations, several at once, every result durable the moment it is there."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from alflow.data.names import Names
from alflow.errors import ConfigError, LabelError
from alflow.executors.opening import check_nothing_runs
from alflow.records.batch import gather, labels_besides
from alflow.records.earlier import read_label_steps
from alflow.records.label import LabelRecord, label_place
from alflow.records.select import SelectRecord
from alflow.reference.codes.dataset import DatasetMethod
from alflow.reference.codes.manual import ManualMethod
from alflow.reference.consistency import check_consistent, limits_of
from alflow.reference.method import ReferenceMethod
from alflow.state.file import commit_file
from alflow.state.store import Store
from alflow.steps.batch import calculate
from alflow.steps.context import Context, asked_for, evaluate_baseline, labelled_frames
from alflow.steps.initial import check_states, check_told, initial_structures
from alflow.structures import structure_id

_ID_MIN = 4  # digits of an id that are enough


def label(context: Context, cycle: int) -> LabelRecord:
    """Ask the reference method about the chosen structures; every result is durable the moment it is there.

    Labels that have come in besides, of calculations that failed in an earlier cycle and were tried again, are gathered
    with them. Errors as of :func:`alflow.steps.batch.calculate`; ConfigError for charges or multiplicities that would
    not reach their calculation, or that no potential could tell apart.
    """
    ids, frames = to_label(context, cycle, context.progress.note)
    data = labelled_frames(context.store, cycle - 1)[1] if cycle else []
    check_states([*data, *frames])
    check_told(context.method, frames, "reference")
    if context.baseline is not None:
        check_told(context.baseline, frames, "baseline")
    calculate(context, f"cycle {cycle} label", ids, frames, data, dict.fromkeys(ids, cycle))
    method = context.method.identity()
    besides = labels_besides(context.store, set(ids), method)
    return _with_baseline(context, gather(context.store, [*ids, *besides], method))


def try_again(context: Context, which: str) -> list[str]:
    """Calculate again what failed, with the settings as they are now; returns the ids of what was tried.

    Labels of earlier cycles that come out of it are gathered by the next label step.

    Parameters
    ----------
    context : Context
        Settings, run directory, executor and progress.
    which : str
        ``failed`` for all, a reason, or the beginning of an id.

    Raises
    ------
    ConfigError
        Nothing of that kind has failed, or jobs of an interrupted batch are in the queue.
    AlflowError
        As of :func:`alflow.steps.batch.calculate`.
    """
    store = context.store
    check_nothing_runs(context.settings.executor, store.directory)
    labelled = {*store.labelled(), *labelled_frames(store, store.last("label"))[0]}
    paths = {name: found for name, found in store.failures().items() if name not in labelled}
    records = {name: store.read_failure(found[-1], LabelRecord) for name, found in paths.items()}
    chosen = [
        name
        for name, record in records.items()
        if which in {"failed", record.failed_reason[0]} or (len(which) >= _ID_MIN and name.startswith(which))
    ]
    if not chosen:
        have = ", ".join(sorted({record.failed_reason[0] for record in records.values()})) or "nothing"
        msg = f"no failed calculation is {which!r}: expected `failed`, a reason or an id; {have} has failed"
        raise ConfigError(msg)
    frames = [records[name].failed_frames[0] for name in chosen]
    check_told(context.method, frames, "reference")
    for path in (path for name in chosen for path in paths[name]):
        path.unlink()
    names = [structure_id(frame, context.method.identity()) for frame in frames]
    calculate(context, "retry", names, frames, labelled_frames(store, store.last("label"))[1], _interrupted(context))
    return names


def _interrupted(context: Context) -> dict[str, int]:
    """The cycle of every calculation of a label step that is not finished: what is tried again is then part of it."""
    cycle, step = context.store.next_step()
    if step != "label" or not (cycle == 0 or context.store.exists(cycle, "select")):
        return {}
    return dict.fromkeys(to_label(context, cycle)[0], cycle)


def take_in(
    context: Context, cycle: int, file: Path, said: Names, names: Sequence[str], frames: Sequence[Atoms]
) -> list[str]:
    """Take labels from a file of the user; returns the ids of those structures that it has.

    Parameters
    ----------
    context : Context
        Settings, run directory and progress.
    cycle : int
        Whose label step takes them.
    file : Path
        Structures with energies and forces, in any format that is read and in any order.
    said : Names
        What the user says of the file.
    names, frames : sequence
        What is wanted.

    Raises
    ------
    ConfigError
        The file cannot be read, or no structure in it has energy and forces.
    LabelError
        ``inconsistent``: forces that do not sum to zero, or an energy far outside the labels so far.
    """
    policy, store = context.settings.failures, context.store
    data = labelled_frames(store, store.last("label"))[1]
    limits = limits_of(data, policy.net_force_max, policy.energy_margin)
    source = DatasetMethod(kind="dataset", file=str(file.absolute()), **said.model_dump())
    source.check()
    for remark in source.labels().remarks():
        context.progress.note(remark)
    found: dict[str, LabelRecord] = {}
    for name, frame in zip(names, frames, strict=True):
        try:
            result = source.calculate(frame)
        except LabelError:  # the file has it not, or what is no label: that is told already
            continue
        check_consistent(result.frame, limits)
        record = LabelRecord.empty(context.method.identity())
        found[name] = record.with_label(
            name,
            result.frame,
            0.0,
            context.method.code(),
            result.log,
            plain_energy=result.plain_energy,
            electrons=result.electrons,
            properties=result.properties,
            atom_properties=result.atom_properties,
        )
    store.make_cycle(cycle)
    for name, record in found.items():
        place = label_place(name, cycle, context.method.identity())
        commit_file(store.label_path(name), record, place=place, exist_ok=True)
    return list(found)


def take_over(context: Context, cycle: int, folder: Path) -> list[str]:
    """Take all labels of another run, of this format or of the one before it; returns the ids of those that are new.

    Those that no structure of this cycle waits for are gathered by the label step all the same: no reference
    calculation is lost.

    Parameters
    ----------
    context : Context
        Settings and run directory.
    cycle : int
        Whose label step takes them.
    folder : Path
        The other run's ``cycles``, or its directory.

    Raises
    ------
    StructureError
        There are no labels, or a file is damaged.
    ConfigError
        They were made with another method.
    """
    store, method = context.store, context.method.identity()
    waiting = set(to_label(context, cycle)[0])
    known = {*store.labelled(), *labelled_frames(store, store.last("label"))[0]}
    new: list[str] = []
    records = read_label_steps(folder)
    for record in records:
        if record.method != method and not isinstance(context.method, ManualMethod):
            msg = f"{folder}: its labels were made with {record.method}, [reference] is {method}: expected the same"
            raise ConfigError(msg)
    store.make_cycle(cycle)
    for one in (part for record in records for part in record.parts()):
        name = structure_id(one.frames[0], method)
        if name in known:
            continue
        known.add(name)
        new.append(name)
        place = label_place(name, cycle if name in waiting else -1, method)
        commit_file(store.label_path(name), replace(one, ids=(name,), method=method), place=place, exist_ok=True)
    return new


def to_label(
    context: Context, cycle: int, tell: Callable[[str], None] = lambda _line: None
) -> tuple[list[str], list[Atoms]]:
    """Ids and structures of a cycle's reference calculations, no structure twice; of what is left out is told.

    Those of cycle 0 are the initial structures; later ones what was selected and, of systems or of files that have
    grown since, the initial structures that are new.
    """
    wanted: dict[str, Atoms] = {}
    known, begun = asked_for(context.store, cycle - 1)
    if cycle:
        record = context.store.read(cycle, "select", SelectRecord)
        wanted |= dict(zip(record.ids, record.frames, strict=True))
    n_new = Counter[str]()
    for frame in initial_structures(context.settings, context.store.directory, tell if not cycle else _silent, begun):
        name = structure_id(frame, context.method.identity())
        if name not in known and name not in wanted:
            wanted[name] = frame
            n_new[frame.info["system"]] += 1
    if cycle:
        for system, count in n_new.items():
            tell(f"system {system}: {count} initial structures are new, and labelled in this cycle")
    return list(wanted), list(wanted.values())


def check_method(store: Store, method: ReferenceMethod) -> None:
    """Refuse to mix labels of two reference methods in one data set.

    Raises
    ------
    ConfigError
        The labels so far were made with another one.
    """
    last = store.last("label")
    used = store.read(last, "label", LabelRecord).method if last >= 0 else method.identity()
    if used != method.identity():
        msg = (
            f"{store.directory / 'alflow.toml'}: [reference] is now {method.identity()}, but the labels so far were "
            f"made with {used}; change it back, or begin a new run directory"
        )
        raise ConfigError(msg)


def _silent(_line: str) -> None:
    """What was told in cycle 0 is not told again."""


def _with_baseline(context: Context, record: LabelRecord) -> LabelRecord:
    """Labels with the baseline's results beside them; where it fails there are none, and the label stays."""
    baseline = context.baseline
    if baseline is None:
        return record
    found = evaluate_baseline(context, baseline, record.frames)
    nothing = [(np.nan, np.full((len(frame), 3), np.nan), np.full(6, np.nan)) for frame in record.frames]
    results = [none if isinstance(x, str) else x for none, x in zip(nothing, found, strict=True)]
    return replace(
        record,
        baseline=(baseline.identity(),) * len(record.frames),
        baseline_energy=np.array([energy for energy, _, _ in results]),
        baseline_forces=np.concatenate([np.zeros((0, 3)), *(forces for _, forces, _ in results)]),
        baseline_stress=np.array([stress for _, _, stress in results]).reshape(-1, 6),
    )
