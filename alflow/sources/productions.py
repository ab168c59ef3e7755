"""Production runs of alflow: ``begin.h5`` and the segments of its walkers, one file at a time."""

import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np

from alflow.averages.measuring import Batch, Source
from alflow.errors import AverageError, StoreError
from alflow.records import ProductionRecord, Segment
from alflow.store import read_file, segment_path


def is_production(folder: Path) -> bool:
    """Whether a folder holds a production run."""
    return (folder / "begin.h5").is_file()


def read_beginning(folder: Path) -> ProductionRecord:
    """How a production run began; StoreError when it is damaged."""
    return read_file(folder / "begin.h5", ProductionRecord)


def segments(folder: Path, record: ProductionRecord, walker: int) -> Iterator[Segment]:
    """What there is of a walker, also while it is written; StoreError at a file that is damaged."""
    for path in _paths(folder, record, walker):
        yield read_file(path, Segment)


def _paths(folder: Path, record: ProductionRecord, walker: int) -> Iterator[Path]:
    for index in count():
        path = segment_path(folder, walker, index, record.driver)
        if not path.exists():
            break
        yield path
    if len(list(folder.glob(f"{walker:03d}-*-{record.driver}.h5"))) > index:
        msg = f"{path} is missing, although later segments are there: restore it from a backup, or remove these"
        raise StoreError(msg)


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
    walkers = [w for w in range(len(record.frames)) if segment_path(folder, w, 0, record.driver).exists()]
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
    )


def _stopped(folder: Path, record: ProductionRecord, walkers: list[int]) -> Iterator[str]:
    """Which walkers left their bounds: averages over them end there."""
    for walker in walkers:
        (*_, last) = _paths(folder, record, walker)
        end = read_file(last, Segment)
        if end.stop:
            yield f"walker {walker} stopped after {end.end_step} steps: {end.stop}"


def walked(folder: Path) -> list[tuple[int, int, str]]:
    """Steps, frames, and the reason it stopped (empty while it goes on), of each walker."""
    record = read_beginning(folder)
    found = []
    for walker in range(len(record.frames)):
        last = [(s.end_step, len(s.frames), s.stop) for s in segments(folder, record, walker)]
        steps, stop = (last[-1][0], last[-1][2]) if last else (0, "")
        found.append((steps, int(np.sum([frames for _, frames, _ in last])), stop))
    return found
