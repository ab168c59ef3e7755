"""Collective variables and their free energies."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from ase import Atoms, units

from alflow.averages.observables.base import Array, Frame, Observable, centres, histogram
from alflow.averages.observables.geometry import angles, check_indices, chosen, neighbours, separations
from alflow.averages.observables.words import Words, suggestion
from alflow.errors import ObservableError


@dataclass(frozen=True, eq=False)
class Variable:
    """A collective variable.

    Attributes
    ----------
    name, unit : str
        For titles.
    values : callable
        Of an Atoms and the largest value that matters: all values of the structure, one or more; above the largest
        some may be missing. Distances are those of nearest images.
    """

    name: str
    unit: str
    values: Callable[[Atoms, float], Array]

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} / {self.unit}" if self.unit else self.name


def free_energy(words: Words) -> Observable:
    """Free energy -kT ln p(s) of a collective variable s over a range, eV.

    p is the probability density of s, per unit of s (Å or degree), in the range: it integrates to 1 there. No constant
    is added, so curves of different ensembles can be compared. Bins (low <= s < high) never visited are NaN.
    """
    variable = _variable(words)
    low, high = words.interval()
    bins = words.bins(50)
    return Observable(
        words.text, f"free energy of {variable.name}", "eV", partial(_counts, variable, low, high, bins),
        finish=partial(_free_energy, (high - low) / bins), grid=centres(low, high, bins), grid_name=variable.title,
    )  # fmt: skip


def free_energy_difference(words: Words) -> Observable:
    """Free energy of a range of a collective variable over that of another, -kT ln(P(c..d)/P(a..b)), eV.

    P is the probability of a <= s < b; NaN where either was never visited.
    """
    variable = _variable(words)
    first, second = words.interval(), words.interval()
    return Observable(
        words.text, f"free-energy difference of {variable.name}", "eV",
        partial(_two_counts, variable, first, second), finish=_difference,
    )  # fmt: skip


def _counts(variable: Variable, low: float, high: float, bins: int, frame: Frame) -> Array:
    """Parts: the histogram and kT, shape (bins + 1,)."""
    values = variable.values(frame.atoms, high)
    return np.append(histogram(values, low, high, bins), units.kB * frame.temperature)


def _two_counts(variable: Variable, a: tuple[float, float], b: tuple[float, float], frame: Frame) -> Array:
    """Parts: how many values are in either range, and kT; shape (3,)."""
    values = variable.values(frame.atoms, max(a[1], b[1]))
    counts = [np.count_nonzero((values >= low) & (values < high)) for low, high in (a, b)]
    return np.array([*counts, units.kB * frame.temperature])


def _free_energy(width: float, averages: Array) -> Array:
    counts, kT = averages[..., :-1], averages[..., -1:]
    return -kT * (_log(counts) - _log(counts.sum(axis=-1, keepdims=True) * width))


def _difference(averages: Array) -> Array:
    first, second, kT = np.moveaxis(averages, -1, 0)
    return np.asarray(-kT * (_log(second) - _log(first)))[..., None]


def _log(x: Array) -> Array:
    """NaN where x is not positive (the cumulant expansion of a rare event may be negative)."""
    return np.asarray(np.log(x, out=np.full(np.shape(x), np.nan), where=x > 0))


def _variable(words: Words) -> Variable:
    name = words.word("the collective variable")
    if name not in _VARIABLES:
        known = ", ".join(_VARIABLES)
        raise words.error(f"unknown collective variable {name!r}, known are {known}{suggestion(name, _VARIABLES)}")
    return _VARIABLES[name](words)


def _distance(words: Words) -> Variable:
    if any(letter.isalpha() for letter in words.next):
        a, b = words.species(2)
        return Variable(f"distance {a}-{b}", "Å", partial(_pair_distances, a, b))
    i, j = words.atoms(2)
    return Variable(f"distance {i}-{j}", "Å", partial(_distance_of, i, j))


def _angle(words: Words) -> Variable:
    i, j, k = words.atoms(3)
    return Variable(f"angle {i}-{j}-{k}", "degree", partial(_angle_of, i, j, k))


def _coordination(words: Words) -> Variable:
    (i,) = words.atoms(1)
    (b,) = words.species(1)
    return Variable(f"coordination {i}-{b}", "", partial(_coordination_of, i, b, words.positive("r0")))


def _distance_difference(words: Words) -> Variable:
    i, j, k = words.atoms(3)
    return Variable(f"distance difference {i}-{j}-{k}", "Å", partial(_distance_difference_of, i, j, k))


_VARIABLES = {
    "distance": _distance,
    "angle": _angle,
    "coordination": _coordination,
    "distance_difference": _distance_difference,
}


def _pair_distances(a: str, b: str, atoms: Atoms, largest: float) -> Array:
    """Of all pairs of two species with their nearest images; a pair of like atoms comes twice."""
    first, second = chosen(atoms, a), chosen(atoms, b)
    if a == b and len(first) == 1:
        msg = f"there is a single {a}: expected two or more for a pair"
        raise ObservableError(msg)
    if largest <= 0:
        return np.array([])
    found = neighbours(atoms, first, second, largest)
    apart = found.i != found.j  # not an atom and its own image
    nearest = np.full((len(first), len(second)), np.inf)
    place = np.searchsorted(first, found.i[apart]), np.searchsorted(second, found.j[apart])
    np.minimum.at(nearest, place, found.distances[apart])
    return np.asarray(nearest[np.isfinite(nearest)])


def _distance_of(i: int, j: int, atoms: Atoms, _: float) -> Array:
    check_indices(atoms, (i, j))
    return np.asarray(np.linalg.norm(separations(atoms, i, j), axis=1))


def _angle_of(i: int, j: int, k: int, atoms: Atoms, _: float) -> Array:
    check_indices(atoms, (i, j, k))
    u, v = separations(atoms, j, np.array([i, k]))
    return angles(u[None], v[None])


def _coordination_of(i: int, b: str, r0: float, atoms: Atoms, _: float) -> Array:
    """Sum over atoms B of (1 - x^6)/(1 - x^12), x = r/r0; which is 1/(1 + x^6), for x = 1 too."""
    check_indices(atoms, (i,))
    others = chosen(atoms, b)
    others = others[others != i]
    if not len(others):
        msg = f"there is no {b} but atom {i}: expected another"
        raise ObservableError(msg)
    x = np.linalg.norm(separations(atoms, i, others), axis=1) / r0
    return np.array([np.sum(1 / (1 + x**6))])


def _distance_difference_of(i: int, j: int, k: int, atoms: Atoms, _: float) -> Array:
    check_indices(atoms, (i, j, k))
    to_i, to_k = np.linalg.norm(separations(atoms, j, np.array([i, k])), axis=1)
    return np.array([to_i - to_k])
