"""What every step may use: settings, store, executor, and where it reports."""

import json
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.committee.committee import Committee
from alflow.config import Settings
from alflow.executors import Pool, run_all
from alflow.executors.opening import open_reference
from alflow.models.settings import Workshop
from alflow.progress import Progress
from alflow.records.label import LabelRecord
from alflow.reference.dispatch import baseline_result
from alflow.reference.method import BaselineMethod, ReferenceMethod
from alflow.state.store import Store

Array = NDArray[np.float64]


@dataclass(eq=False)
class LastFit:
    """The last committee that was fitted in this process, with the sums over its structures, to add others to.

    Attributes
    ----------
    committee : Committee or None
        None where there is none, or none is kept.
    labels : list of bytes
        What tells apart the labels that it was fitted to.
    """

    committee: Committee | None = None
    labels: list[bytes] = field(default_factory=list)


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
        Opens the executor of everything but reference calculations: processes on this machine.
    progress : Progress
        Where to report.
    retry : bool
        Whether trainings that have failed are tried again.
    last_fit : LastFit
        So that a cycle's training costs in proportion to the labels that are new.
    """

    settings: Settings
    store: Store
    pool: Pool
    progress: Progress
    retry: bool = False
    last_fit: LastFit = field(default_factory=LastFit)

    @cached_property
    def method(self) -> ReferenceMethod:
        """The reference method of the settings."""
        return self.settings.reference.at(self.store.directory)

    def workshop(self, before: Committee | None = None) -> Workshop:
        """Where members are trained, with the committee of the cycle before."""
        return Workshop(
            directory=self.store.directory,
            models=self.store.models,
            scratch=self.store.scratch,
            open_executor=lambda changes: self.open_reference(changes, "-train"),
            progress=self.progress,
            before=before,
            retry=self.retry,
            remedy="see `alflow inspect --failed`, correct [potential], or remove the cause and go on with --retry",
        )

    @property
    def baseline(self) -> BaselineMethod | None:
        """The baseline of the settings, if there is one."""
        section = self.settings.baseline
        return None if section is None else section.at(self.store.directory)

    def open_reference(self, changes: Mapping[str, Any], purpose: str = "") -> AbstractContextManager[Executor]:
        """Open the executor of reference calculations, with some settings of ``[executor]`` changed.

        Jobs with changed settings, or for another purpose, have a name of their own.
        """
        purpose += f"-{zlib.crc32(json.dumps(changes, sort_keys=True).encode()):08x}" if changes else ""
        return open_reference(self.settings.executor.changed(changes), self.store.directory, purpose)


def labelled_frames(store: Store, cycle: int) -> tuple[list[str], list[Atoms]]:
    """Ids and structures (with energies and forces) of all labels up to and including ``cycle``, in order."""
    ids: list[str] = []
    frames: list[Atoms] = []
    for k in range(cycle + 1):
        record = store.read(k, "label", LabelRecord)
        ids.extend(record.ids)
        frames.extend(record.frames)
    return ids, frames


def asked_for(store: Store, cycle: int) -> tuple[set[str], set[str]]:
    """Ids of all reference calculations up to and including ``cycle``, failed ones too, and their systems."""
    records = [store.read(k, "label", LabelRecord) for k in range(cycle + 1)]
    names = {name for record in records for name in (*record.ids, *record.failed_ids)}
    frames = (frame for record in records for frame in (*record.frames, *record.failed_frames))
    return names, {str(frame.info.get("system", "")) for frame in frames}


def largest_force(frame: Atoms) -> float:
    """Largest norm of the force on an atom of a labelled structure, one that is held fixed included, eV/Å."""
    return float(np.linalg.norm(frame.get_forces(apply_constraint=False), axis=1).max())


def evaluate_baseline(
    context: Context, baseline: BaselineMethod, frames: Sequence[Atoms]
) -> list[tuple[float, Array, Array] | str]:
    """Energy (eV), forces (eV/Å) and stress (eV/Å^3) of each structure by the baseline, or why there are none."""
    results: list[tuple[float, Array, Array] | str] = ["not evaluated"] * len(frames)
    tasks = [(frame, baseline) for frame in frames]
    for number, outcome in run_all(context.pool, baseline_result, tasks, timeout=context.settings.executor.timeout):
        failed = isinstance(outcome, Exception)
        results[number] = (str(outcome) or type(outcome).__name__).splitlines()[0] if failed else outcome
    return results
