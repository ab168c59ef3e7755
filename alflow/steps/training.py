"""Train: the committee fitted to every label there is."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.errors import warnings_told
from alflow.executors import run_all
from alflow.potentials.ace import Committee, fit
from alflow.records import LabelRecord, TrainRecord
from alflow.reference import ReferenceMethod, below
from alflow.steps.context import Context, labelled_frames
from alflow.store import commit_file, make_folder, read_file

Array = NDArray[np.float64]


def train(context: Context, cycle: int) -> TrainRecord:
    """Fit the committee to every label there is."""
    _, frames = labelled_frames(context.store, cycle)
    results = _baseline_results(context, cycle, frames)
    context.progress.begin(f"cycle {cycle} train", 1)
    potential = context.settings.potential.model_dump(exclude={"kind"})
    baseline, without = context.baseline, 0
    options: dict[str, Any] = {}
    if baseline is not None:
        usable = [k for k, result in enumerate(results) if result is not None and np.isfinite(result[0])]
        without = len(frames) - len(usable)
        frames, results = [frames[k] for k in usable], [results[k] for k in usable]
        options = {"baseline": baseline.calculator(), "baseline_identity": baseline.identity()}
        options["baseline_results"] = results
    if without:
        context.progress.note(f"{without} labels left out: the baseline failed for their structures")
    with warnings_told(context.progress.note):
        model = fit(frames, seed=context.settings.seed, **options, **potential)
    if model.judgement.note:
        context.progress.note(model.judgement.note)
    context.progress.advance()
    return TrainRecord(model=model, n_frames=len(frames))


def _baseline_results(context: Context, cycle: int, frames: Sequence[Atoms]) -> list[tuple[float, Array] | None]:
    """Energies and forces of the baseline for all labels: those kept with them, and new ones when it was changed."""
    baseline = context.baseline
    if baseline is None:
        return [None] * len(frames)
    identity = baseline.identity()
    results = [
        result
        for k in range(cycle + 1)
        for result in context.store.read(k, "label", LabelRecord).baseline_results(identity)
    ]
    missing = [k for k, result in enumerate(results) if result is None]
    if missing:
        context.progress.begin(f"cycle {cycle} baseline", len(missing))
    for number, outcome in run_all(context.pool, below, [(frames[k], baseline) for k in missing]):
        if isinstance(outcome, Exception):
            raise outcome
        results[missing[number]] = outcome
        context.progress.advance()
    return results


def model_path(context: Context, cycle: int) -> Path:
    """File of the committee of a finished cycle, fitted again to the same labels if the baseline was changed since.

    What is fitted again is scratch: it depends on labels and settings only, and is made anew when it is not there.
    """
    path = context.store.path(cycle, "train")
    identity = "" if context.baseline is None else context.baseline.identity()
    if context.store.read(cycle, "train", TrainRecord).model.baseline_identity == identity:
        return path
    potential = context.settings.potential.model_dump_json()
    name = hashlib.sha256(f"{context.store.checksum(cycle, 'train')}{identity}{potential}".encode()).hexdigest()[:12]
    again = context.store.scratch / f"refit-{cycle:03d}-{name}.h5"
    if not again.exists():
        context.progress.note("the baseline is not that of the newest committee: it is fitted again to the same labels")
        make_folder(again.parent)
        commit_file(again, train(context, cycle), exist_ok=True)
    return again


def load_model(path: Path, baseline: ReferenceMethod | None) -> Committee:
    """The committee of a train record, with its baseline."""
    model = _read_model(path)
    return model if baseline is None else model.with_baseline(baseline.calculator())


@lru_cache(maxsize=1)
def _read_model(path: Path) -> Committee:
    return read_file(path, TrainRecord).model
