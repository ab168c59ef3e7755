"""What every step may use: settings, store, executor, and where it reports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ase import Atoms

from alflow.config import Baseline, Settings
from alflow.executors import Pool
from alflow.records import LabelRecord
from alflow.reference import ReferenceMethod, build
from alflow.store import Store


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
