"""What every step may use: settings, store, executor, and where it reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.config import Baseline, Settings
from alflow.executors import Pool, run_all
from alflow.records import LabelRecord
from alflow.reference import ReferenceMethod, baseline_result, build
from alflow.store import Store

Array = NDArray[np.float64]


class Progress(Protocol):
    """What a step tells about itself while it runs."""

    def begin(self, what: str, total: int) -> None:
        """A piece of work of ``total`` items begins."""

    def advance(self, done: int = 1) -> None:
        """``done`` more items are finished."""

    def note(self, message: str) -> None:
        """One line worth reading."""


@dataclass(frozen=True)
class Context:
    """What every step may use.

    Attributes
    ----------
    settings : Settings
        The whole of alflow.toml.
    store : Store
        The run directory; steps read from it and keep their finished pieces in it.
    pool : Pool
        Opens the executor.
    progress : Progress
        Where to report.
    """

    settings: Settings
    store: Store
    pool: Pool
    progress: Progress

    @property
    def method(self) -> ReferenceMethod:
        """The reference method of the settings."""
        return build(**self.settings.reference.model_dump())

    @property
    def baseline(self) -> ReferenceMethod | None:
        """The baseline of the settings, if there is one."""
        section = self.settings.baseline
        return None if section is None else baseline_method(section, self.store.directory)


def baseline_method(section: Baseline, directory: Path) -> ReferenceMethod:
    """The method that a ``[baseline]`` describes; files are relative to the directory."""
    options = section.model_dump(exclude={"weighting", "error"})
    if "file" in options:
        options["file"] = str(directory.absolute() / options["file"])
    return build(**options)


def labelled_frames(store: Store, cycle: int) -> tuple[list[str], list[Atoms]]:
    """Ids and structures (with energies and forces) of all labels up to and including ``cycle``, in order."""
    ids: list[str] = []
    frames: list[Atoms] = []
    for k in range(cycle + 1):
        record = store.read(k, "label", LabelRecord)
        ids.extend(record.ids)
        frames.extend(record.frames)
    return ids, frames


def evaluate_baseline(
    context: Context, baseline: ReferenceMethod, frames: Sequence[Atoms]
) -> list[tuple[float, Array] | str]:
    """Energy (eV) and forces (eV/Å) of each structure by the baseline, or why there are none."""
    results: list[tuple[float, Array] | str] = ["not evaluated"] * len(frames)
    tasks = [(frame, baseline) for frame in frames]
    for number, outcome in run_all(context.pool, baseline_result, tasks, timeout=context.settings.executor.timeout):
        failed = isinstance(outcome, Exception)
        results[number] = (str(outcome) or type(outcome).__name__).splitlines()[0] if failed else outcome
    return results
