"""Observables that are functions of the user's own."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alflow.averages.observables.base import Array, Frame, Function, Observable
from alflow.averages.observables.words import Words
from alflow.errors import ObservableError


def user_observable(words: Words, name: str, function: Function) -> Observable:
    """What a function of an Atoms returns, number or array, flat; from a committee (M_a, ...) for M_a models."""
    parts = _Parts(function)
    return Observable(words.text, name, function.unit, parts, "committee" if function.committee else "plain")


@dataclass(eq=False)
class _Parts:
    """Calls the function, and checks what it returns; the first frame decides on the shape of the others."""

    function: Function
    shape: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, frame: Frame) -> Array:
        """Shape (P,), or (P, M_a)."""
        atoms = frame.atoms.copy()  # the function may do with it what it likes
        atoms.calc = frame.atoms.calc
        try:
            returned = self.function.function(atoms)
        except Exception as error:  # whatever the user's function raises
            msg = f"the function raised {type(error).__name__}: {error}"
            raise ObservableError(msg) from error
        value = _numbers(returned)
        if not self.shape:
            self.shape.append(value.shape)
        if value.shape != self.shape[0]:
            msg = f"the function returned shape {value.shape}, and before {self.shape[0]}: expected one shape always"
            raise ObservableError(msg)
        if not self.function.committee:
            return value.ravel()
        if value.ndim == 0 or len(value) < 2:
            msg = f"the function returned shape {value.shape}: expected two or more models along the first axis"
            raise ObservableError(msg)
        return value.reshape(len(value), -1).T


def _numbers(returned: Any) -> Array:
    """The numbers that a function returned; ObservableError if there are none, or any is not finite."""
    expected = "expected a number or an array of numbers"
    try:
        value = np.asarray(returned)
    except ValueError as error:  # rows of different lengths
        msg = f"the function returned no array ({error}): {expected}"
        raise ObservableError(msg) from error
    if value.dtype.kind not in "biuf" or not value.size:
        msg = f"the function returned {type(returned).__name__} {str(returned)[:40]!r}: {expected}"
        raise ObservableError(msg)
    if not np.isfinite(value).all():
        msg = f"the function returned {value[~np.isfinite(value)][0]}: expected finite numbers"
        raise ObservableError(msg)
    return value.astype(float)
