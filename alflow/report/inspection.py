"""What was selected, why, and what became of it."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from alflow.errors import ConfigError, StoreError
from alflow.records.batch import gather
from alflow.records.label import LabelRecord
from alflow.records.sample import SIGMAS
from alflow.records.select import SelectRecord
from alflow.report.run import run_directory
from alflow.state.store import Store


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
        ``largest_grade`` (extrapolation grade of an atom), ``reason``,
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


def selections(directory: Path, cycle: int | None = None) -> list[str]:
    """How many frames each cycle had to choose from, how many were selected, and why the others were not, in a line."""
    store = run_directory(directory)
    return [
        f"cycle {k}: {store.read(k, 'select', SelectRecord).summary}"
        for k in store.cycles()
        if cycle in {None, k} and store.exists(k, "select")
    ]


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
                **{name: _number(getattr(record, name)[i]) for name in SIGMAS},
                largest_grade=_number(record.largest_grade[i]) if len(record.largest_grade) else None,
                energy_predicted=_number(record.energy_predicted[i]),
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


def _number(value: float) -> float | None:
    """None for what is not known, as JSON has it."""
    return None if np.isnan(value) else float(value)


def _under_way(store: Store, cycle: int, names: list[str]) -> LabelRecord:
    """What is there of labels that are being made; the step may end, and gather them, while they are read."""
    try:
        failed = set(store.failed())
        record = gather(store, [name for name in names if store.is_labelled(name) or name in failed], "")
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
    largest_grade: float | None = None,
    **sigma: float | None,
) -> tuple[dict[str, Any], Atoms]:
    failure = found[1] if found else None
    energy = float(found[0].get_potential_energy(apply_constraint=False)) if found and failure is None else None
    both = energy is not None and energy_predicted is not None
    row = {
        "id": name,
        "cycle": cycle,
        "formula": atoms.get_chemical_formula(),
        **{name: sigma.get(name) for name in SIGMAS},
        "largest_grade": largest_grade,
        "reason": reason,
        "status": "pending" if found is None else "failed" if failure else "labelled",
        "failure": failure,
        "energy": energy,
        "energy_predicted": energy_predicted,
        "energy_error": 1e3 * (energy_predicted - energy) / len(atoms) if both else None,  # type: ignore[operator]
    }
    return row, found[0] if found else atoms
