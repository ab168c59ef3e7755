"""Production runs of alflow: ``begin.h5`` and the segments of its walkers, one file at a time."""

import math
from collections.abc import Iterator
from pathlib import Path

from alflow.averages.measuring import Batch, Source
from alflow.errors import AverageError
from alflow.records.production import ProductionRecord
from alflow.records.sample import Segment
from alflow.sampling.settings import Select
from alflow.state.file import read_file
from alflow.state.store import BEGINNING, read_segment, segment_paths

_STRANGE = Select.model_fields["grade_min"].default  # extrapolation grade from which on it is said


def is_production(folder: Path) -> bool:
    """Whether a folder holds a production run."""
    return (folder / BEGINNING).is_file()


def read_beginning(folder: Path) -> ProductionRecord:
    """How a production run began; StoreError when it is damaged."""
    return read_file(folder / BEGINNING, ProductionRecord)


def segments(folder: Path, record: ProductionRecord, walker: int) -> Iterator[Segment]:
    """What there is of a walker, also while it is written; StoreError at a file that is damaged or missing between."""
    for path in segment_paths(folder, walker, record.driver):
        yield read_segment(path, Segment)


def production_source(folder: Path, temperature: float | None = None, system: str | None = None) -> Source:
    """A production run as a source.

    Raises
    ------
    AverageError
        ``temperature`` (K) or ``system`` is not that of the run, or it has no frames yet.
    StoreError
        A file is damaged.
    """
    record = read_beginning(folder)
    for name, asked, own in (("temperature", temperature, record.temperature), ("system", system, record.system)):
        if asked is not None and asked != own:
            msg = f"{folder} is a run of {name} {own}, found --{name} {asked}: leave it out"
            raise AverageError(msg)
    walkers = [w for w in range(len(record.frames)) if segment_paths(folder, w, record.driver)]
    if not walkers:
        msg = f"{folder} has no frames yet: go on with `alflow produce`"
        raise AverageError(msg)

    def batches() -> Iterator[Batch]:
        for walker in walkers:
            for segment in segments(folder, record, walker):
                # Where a walker left its bounds is no sample of the ensemble.
                kept = slice(len(segment.frames) - bool(segment.stop))
                if segment.frames[kept]:
                    yield Batch(walker, segment.energies[kept], segment.energy[kept], segment.frames[kept])

    return Source(
        name=str(folder),
        temperature=record.temperature,
        pressure=None if math.isnan(record.pressure) else record.pressure,
        n_walkers=len(walkers),
        batches=batches,
        notes=(*([record.note] if record.note else []), *_stopped(folder, record, walkers)),
        drivers=record.drivers,
    )


def _stopped(folder: Path, record: ProductionRecord, walkers: list[int]) -> Iterator[str]:
    """Which walkers left their bounds, where averages over them end, or what the labels know."""
    for walker in walkers:
        end = read_segment(segment_paths(folder, walker, record.driver)[-1], Segment)
        if end.stop:
            yield f"walker {walker} stopped after {end.end_step} steps: {end.stop}"
        elif (grade := float(end.largest_grade.max(initial=0.0))) > _STRANGE:
            yield (
                f"walker {walker} is where surroundings are unlike those of all labels (extrapolation grade "
                f"{grade:.2g}): averages of such frames say nothing; label some of them"
            )


def walked(folder: Path) -> list[tuple[int, int, str]]:
    """Steps, frames, and the reason it stopped (empty while it goes on), of each walker, by its last segment."""
    record = read_beginning(folder)
    found = []
    for walker in range(len(record.frames)):
        paths = segment_paths(folder, walker, record.driver)
        if not paths:
            found.append((0, 0, ""))
            continue
        end = read_segment(paths[-1], Segment)
        n_before = (len(paths) - 1) * (record.segment // record.stride) + (len(paths) > 1)  # and the start
        found.append((end.end_step, n_before + len(end.frames), end.stop))
    return found
