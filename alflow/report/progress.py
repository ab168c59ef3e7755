"""Progress: bars on a terminal, plain log lines without one."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from alflow.report.tables import show

_MINUTE = 60.0  # s


class Reporter(Protocol):
    """What a workflow tells: :class:`alflow.progress.Progress`, and the table at the end of a cycle."""

    def begin(self, what: str, total: int) -> None:
        """A piece of work begins."""

    def advance(self, done: int = 1) -> None:
        """Some of it is done."""

    def detail(self, text: str) -> None:
        """How it stands now."""

    def note(self, message: str) -> None:
        """One line worth reading."""

    def table(self, table: Table) -> None:
        """A table at the end of a cycle."""


class _Plain:
    """One line when something begins, when it ends, at every tenth of what is long, and every minute that it takes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream

    def begin(self, what: str, total: int) -> None:
        self.what, self.total, self.done, self.told = what, total, 0, 0
        self.said = time.monotonic()
        self.note(f"{what}: {total} to do" if total != 1 else what)

    def advance(self, done: int = 1) -> None:
        self.done += done
        if self.total > 1 and (self.done == self.total or 10 * self.done // self.total > self.told) and done:
            self.told = 10 * self.done // self.total
            self.note(f"{self.what}: {self.done}/{self.total}")

    def detail(self, text: str) -> None:
        if time.monotonic() > self.said + _MINUTE:
            self.said = time.monotonic()
            self.note(f"{self.what}: {self.done}/{self.total}: {text}")

    def note(self, message: str) -> None:
        stream = self.stream or sys.stdout
        stream.write(f"{datetime.now().astimezone():%H:%M:%S} {message}\n")
        stream.flush()

    def table(self, table: Table) -> None:
        show(table)
        sys.stdout.flush()


class _Bars:
    """A bar for each step of the current cycle."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task: TaskID | None = None

    def begin(self, what: str, total: int) -> None:
        self.task = self.progress.add_task(what, total=total, detail="")

    def advance(self, done: int = 1) -> None:
        if self.task is not None:
            self.progress.advance(self.task, done)

    def detail(self, text: str) -> None:
        if self.task is not None:
            self.progress.update(self.task, detail=text)

    def note(self, message: str) -> None:
        self.progress.console.print(message, highlight=False, markup=False)

    def table(self, table: Table) -> None:
        for task in list(self.progress.task_ids):
            self.progress.remove_task(task)
        self.progress.console.print(table)


@contextmanager
def terminal_progress(*, errors: bool = False) -> Iterator[Reporter]:
    """Bars if standard output is a terminal, plain lines if it is not; with ``errors`` the same of standard error."""
    stream = sys.stderr if errors else sys.stdout
    if not stream.isatty():
        yield _Plain(stream)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=Console(stderr=errors)) as progress:
        yield _Bars(progress)
