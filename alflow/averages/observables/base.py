"""What an observable is, and what it may look at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.averages.observables.words import Words

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Frame:
    """What an observable may look at.

    Attributes
    ----------
    atoms : Atoms
        The structure, with momenta where the run has them.
    energies : ndarray, shape (M,)
        Calibrated members, the baseline included, eV.
    temperature : float
        Of the thermostat, K.
    pressure : float or None
        Of the barostat, eV/Å^3; None at constant volume.
    """

    atoms: Atoms
    energies: Array
    temperature: float
    pressure: float | None


def identity(averages: Array) -> Array:
    """The averages themselves."""
    return averages


@dataclass(frozen=True, eq=False)
class Observable:
    """Something to average over one run; D values from the averages of P parts.

    Attributes
    ----------
    text : str
        As the user wrote it, with single spaces.
    name : str
        For a title.
    unit : str
        Of its values; empty when they have none.
    parts : callable
        What is averaged, of a :class:`Frame`: shape (P,) for kind ``plain``; (P, M) for ``member``, where column m
        belongs to the ensemble of member m alone; (P, M_a) for ``committee``, of M_a models of one property. It raises
        ObservableError, beginning with ``text``, where the frame has no such value. Numbers that ``finish`` needs and
        that are constant in a run, as kT is, are parts of their own.
    kind : "plain", "member" or "committee"
        What the columns of its parts are.
    finish : callable
        From averages (..., P) to values (..., D); NaN, without a warning, where they are not defined.
    grid : ndarray, shape (D,), or None
        Where the values of a curve are; None for numbers, and for arrays of the user's own.
    grid_name : str
        What ``grid`` is, with its unit.
    of_structure : bool
        Whether it looks at more of a frame than its energies.
    """

    text: str
    name: str
    unit: str
    parts: Callable[[Frame], Array]
    kind: Literal["plain", "member", "committee"] = "plain"
    finish: Callable[[Array], Array] = identity
    grid: Array | None = None
    grid_name: str = ""
    of_structure: bool = True


@dataclass(frozen=True)
class Kind:
    """A kind of observable.

    Attributes
    ----------
    usage : str
        How it is written: ``"rdf A-B [r_max=6] [bins=120]"``.
    build : callable
        What makes an :class:`Observable` of the words after its name; ObservableError for words that it cannot use.
    """

    usage: str
    build: Callable[[Words], Observable]


class Function(Protocol):
    """A function of the user's own."""

    @property
    def function(self) -> Callable[..., Any]:
        """Of an Atoms; returns a number or an array."""

    @property
    def unit(self) -> str:
        """Of what it returns."""

    @property
    def committee(self) -> bool:
        """Whether the first axis of what it returns are models of one property."""


def centres(low: float, high: float, bins: int) -> Array:
    """The middles of equal bins, shape (bins,)."""
    return np.asarray(low + (np.arange(bins) + 0.5) * ((high - low) / bins), dtype=float)


def histogram(values: Array, low: float, high: float, bins: int) -> Array:
    """How many values are in each of the equal bins of low <= value < high, shape (bins,)."""
    inside = values[(values >= low) & (values < high)]
    place = np.minimum(((inside - low) * (bins / (high - low))).astype(np.intp), bins - 1)  # may round up to `bins`
    return np.bincount(place, minlength=bins).astype(float)
