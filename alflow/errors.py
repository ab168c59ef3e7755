"""Every error that alflow raises on purpose.

A message says in one line what is wrong, what was expected, what was found and what to do about it.
``exit_code`` is what the command line returns: 1 when a run failed, 2 for bad usage, settings or input,
3 when it waits for the user.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar


class AlflowError(Exception):
    """Base class: catch this to catch everything alflow raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(AlflowError):
    """A setting is missing, misspelt, of the wrong type or out of range."""

    exit_code = 2


class StructureError(AlflowError):
    """A structure file or a structure cannot be used: unreadable, empty, not finite, overlapping atoms, ..."""

    exit_code = 2


class StoreError(AlflowError):
    """The run directory cannot be read or written, or a state file is damaged."""


class LockedError(StoreError):
    """Another process is writing to the run directory."""


class PotentialError(AlflowError):
    """A potential cannot be fitted or evaluated: an unknown species, too few structures, ..."""


class PotentialWarning(UserWarning):
    """Structures were left out of a fit, or their labels look wrong; the message names them."""


@contextmanager
def warnings_told(tell: Callable[[str], None]) -> Iterator[None]:
    """Hand the text of every :class:`PotentialWarning` to ``tell``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PotentialWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, PotentialWarning):
            tell(f"warning: {warning.message}")
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


class AverageError(AlflowError):
    """Something cannot be averaged: arrays that do not fit each other, another temperature, no committee, ..."""

    exit_code = 2


class ObservableError(AverageError):
    """An observable is misspelt, or has no value in a frame: a species that is not there, no momenta, ..."""


class SampleError(AlflowError):
    """No walker could produce a usable frame."""


class BatchError(AlflowError):
    """Too many reference calculations of a batch failed."""


class TrainingError(AlflowError):
    """Members of a committee could not be trained."""


class WaitingError(AlflowError):
    """The user is to do something before the run can go on."""

    exit_code = 3


class LabelError(AlflowError):
    """A reference calculation failed; ``reason`` is one word of the taxonomy, the message tells the rest."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["LabelError"], tuple[str, str]]:
        """Survive the trip from a worker process (a plain exception would be rebuilt from its message alone)."""
        return type(self), (self.reason, self.detail)
