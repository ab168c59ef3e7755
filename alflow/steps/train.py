"""Train: the committee fitted to every label there is."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from ase import Atoms
from numpy.typing import NDArray

from alflow.committee.committee import Committee
from alflow.errors import warnings_told
from alflow.models.fitting import fit
from alflow.records.label import LabelRecord
from alflow.records.train import TrainRecord
from alflow.reference.method import BaselineMethod
from alflow.state.file import checksum, commit_file, make_folder, read_file
from alflow.steps.context import Context, evaluate_baseline
from alflow.structures import bits

Array = NDArray[np.float64]

_ROOM = 2.0  # memory that is free over what this process takes, from which sums are kept for the next cycle


def train(context: Context, cycle: int) -> TrainRecord:
    """Fit the committee to every label there is."""
    records = [context.store.read(k, "label", LabelRecord) for k in range(cycle + 1)]
    frames = [frame for record in records for frame in record.frames]
    # Structures of one cycle are alike: of each every member is to see half.
    origins = [f"cycle {k}" if k else "initial" for k, record in enumerate(records) for _ in record.frames]
    options: dict[str, Any] = {}
    left_out = ""
    if context.baseline is not None:
        results, left_out = _baseline_results(context, context.baseline, records, frames)
        usable = [k for k, result in enumerate(results) if result is not None]
        frames, origins = [frames[k] for k in usable], [origins[k] for k in usable]
        options |= {"baseline": context.baseline.calculator(), "baseline_identity": context.baseline.identity()}
        options["baseline_results"] = [results[k] for k in usable]
    if left_out:
        context.progress.note(left_out)
    context.progress.begin(f"cycle {cycle} train", 1)
    with warnings_told(context.progress.note):
        model = _fitted(context, cycle, frames, origins, options)
    for note in (model.judgement.note, *model.remarks):
        if note:
            context.progress.note(note)
    context.progress.advance()
    return TrainRecord(model=model, n_frames=len(frames), left_out=left_out)


def _fitted(
    context: Context, cycle: int, frames: list[Atoms], origins: list[str], options: dict[str, Any]
) -> Committee:
    """The committee fitted to all frames: to the new ones beside those of the last fit, where that is kept.

    Which of both makes no difference but time, nor to a bit.
    """
    last, potential = context.last_fit, context.settings.potential
    results = options.get("baseline_results", [None] * len(frames))
    labels = [_identity(*label) for label in zip(frames, origins, results, strict=True)]
    known, committee = len(last.labels), last.committee
    last.committee = None  # what ends half-way is not gone on with
    if committee is not None and known < len(labels) and labels[:known] == last.labels:
        new = results[known:] if context.baseline is not None else None
        committee.update(frames[known:], new, origins[known:])
    else:
        kind = potential.unfitted(context.workshop(_before(context, cycle)))
        committee = fit(frames, kind=kind, seed=context.settings.seed, origins=origins, growing=True, **options)
    # Walkers and reference calculations come next, and need memory more than this saves time.
    if potential.adds and psutil.virtual_memory().available > _ROOM * psutil.Process().memory_info().rss:
        last.committee, last.labels = committee, labels
    return committee


def _identity(frame: Atoms, origin: str, result: tuple[float, Array, Array | None] | None) -> bytes:
    """What tells a label apart: structure, results, those of the baseline, and where it comes from."""
    told = sorted((name, str(value)) for name, value in frame.info.items())
    numbers = [*sorted(frame.calc.results.items()), *enumerate(result or ())]
    parts = [np.asarray(value, dtype=float).tobytes() for _, value in numbers if isinstance(value, float | np.ndarray)]
    return hashlib.sha256(b"|".join([repr((origin, told)).encode(), *bits(frame), *parts])).digest()


def _before(context: Context, cycle: int) -> Committee | None:
    """The committee of the cycle before, where it is of use.

    As it was committed, not as it may have been fitted again to another baseline: that is scratch, and what a step
    gives must not depend on whether it is still there.
    """
    if not (cycle and context.settings.potential.goes_on):
        return None
    return read_trained(context.store.path(cycle - 1, "train")).model


def _baseline_results(
    context: Context, baseline: BaselineMethod, records: list[LabelRecord], frames: list[Atoms]
) -> tuple[list[tuple[float, Array, Array] | None], str]:
    """Results of the baseline for the labels, kept with them or new, None where it fails, and why it does."""
    identity = baseline.identity()
    kept = [result for record in records for result in record.baseline_results(identity)]
    missing = [k for k, result in enumerate(kept) if result is None]
    found = dict(zip(missing, evaluate_baseline(context, baseline, [frames[k] for k in missing]), strict=True))
    results = [found[k] if result is None else result for k, result in enumerate(kept)]
    usable = [None if isinstance(result, str) else result for result in results]
    reasons = sorted({r for r in results if isinstance(r, str)})
    left_out = usable.count(None)
    note = f"{left_out} labels left out: the baseline fails for their structures ({'; '.join(reasons[:3])})"
    return usable, note if left_out else ""


def trained_file(context: Context, cycle: int) -> Path:
    """File of the committee of a finished cycle.

    If the baseline was changed since, this is the one that :func:`fit_again` makes: scratch, as it depends on labels
    and settings only.
    """
    path = context.store.path(cycle, "train")
    identity = "" if context.baseline is None else context.baseline.identity()
    if read_trained(path).model.baseline_identity == identity:
        return path
    made_of = (checksum(path), identity, context.settings.potential.model_dump_json(), str(context.settings.seed))
    name = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:12]
    return context.store.scratch / f"refit-{cycle:03d}-{name}.h5"


def fit_again(context: Context, cycle: int) -> None:
    """Fit the committee of a finished cycle again to the same labels, if the baseline was changed since."""
    path = trained_file(context, cycle)
    if not path.exists():
        context.progress.note("the baseline is not that of the newest committee: it is fitted again to the same labels")
        make_folder(path.parent)
        commit_file(path, train(context, cycle), place={"cycle": cycle, "step": "train"}, exist_ok=True)


def load_model(path: Path, baseline: BaselineMethod | None, kind: Any = TrainRecord) -> Committee:
    """The committee of a record, with its baseline."""
    model: Committee = _read_once(path.absolute(), checksum(path), kind).model
    return model if baseline is None else model.with_baseline(baseline.calculator())


def read_trained(path: Path) -> TrainRecord:
    """A train record; the last one read is kept, as long as its file is the same."""
    record: TrainRecord = _read_once(path.absolute(), checksum(path), TrainRecord)
    return record


@lru_cache(maxsize=1)
def _read_once(path: Path, _checksum: str, kind: Any) -> Any:
    return read_file(path, kind)
