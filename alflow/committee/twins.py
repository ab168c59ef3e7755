"""Structures that all but coincide: rounded, moved, turned, wrapped, or with their atoms in another order.

What a structure looks like from each of its atoms does not change by any of these. Of every atom the distances r to its
neighbours are taken, as ``w (1 - r/R)^2`` up to a cutoff R, with a weight w for the neighbour's species; the largest
come first. Of the atoms of one species each of these columns is sorted by itself. Sorting never makes two rows of
numbers differ by more than they did before, so a structure whose distances all change by little has nearly the same
fingerprint, and it costs no search for which atom is which. What is beyond 6 Å of every atom is not seen, nor that few
of hundreds of atoms have moved by a tenth of an Å.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.structures import charge_and_multiplicity, neighbours

Array = NDArray[np.float32]
IntArray = NDArray[np.int64]

TOLERANCE = 1e-3
"""By which fingerprints of twins differ at most: some 0.005 Å of the distance between neighbours."""

# Atoms that move by thousandths of an Å from each of a thousand frames to the next are not all one structure: a twin is
# no farther than this, times the tolerance, from the first of its set.
_WIDEST = 4.0
_CUTOFF = 6.0  # Å
_NEIGHBOURS = 24  # of each atom: in hexagonal and cubic close packing the first 18 are equally far
_ATOMS = 32  # of each species, evenly spaced in each sorted column: memory stays small for large structures
_LEAST = 0.8  # weight of a species; the largest is 1
_GOLDEN = 0.6180339887498949  # its multiples are spread evenly modulo 1


def fingerprint(atoms: Atoms) -> Array:
    """What a structure looks like from its atoms, one species after the other, flat."""
    i, j, distance = neighbours(atoms, _CUTOFF, full=True)
    weight = _LEAST + (1.0 - _LEAST) * (atoms.numbers[j] * _GOLDEN % 1.0)
    near = weight * (1.0 - distance / _CUTOFF) ** 2
    order = np.lexsort([-near, i])
    i, near = i[order], near[order]
    rank = np.arange(len(i)) - np.searchsorted(i, i)
    kept = rank < _NEIGHBOURS
    seen = np.zeros((len(atoms), _NEIGHBOURS))
    seen[i[kept], rank[kept]] = near[kept]
    parts = []
    for number in np.unique(atoms.numbers):
        columns = np.sort(seen[atoms.numbers == number], axis=0)
        chosen = np.linspace(0, len(columns) - 1, min(len(columns), _ATOMS)).round().astype(int)
        parts.append(columns[chosen].ravel())
    return np.concatenate(parts).astype(np.float32)


@dataclass(eq=False)
class Twins:
    """Which of the structures seen so far all but coincide.

    Attributes
    ----------
    first : list of int
        Of each structure the first one of its set of twins; itself where it has none before it.
    isolated : list of int
        Which of the structures have no two atoms within 6 Å: the atoms alone that fix the zero of energy.
    """

    first: list[int] = field(default_factory=list)
    isolated: list[int] = field(default_factory=list)
    _known: dict[tuple[bytes, ...], "_Alike"] = field(default_factory=dict)

    def add(self, frames: Sequence[Atoms]) -> None:
        """Compare further structures with those that are there, and with each other."""
        for atoms in frames:
            index = len(self.first)
            # Only what has the same atoms can coincide; and no potential that sees charges may take two for one.
            state = repr(charge_and_multiplicity(atoms)).encode()
            key = (np.sort(atoms.numbers).tobytes(), atoms.pbc.tobytes(), state)
            alike = self._known.setdefault(key, _Alike())
            mine = fingerprint(atoms)
            self.first.append(alike.add(index, mine))
            if not mine.any():
                self.isolated.append(index)


class _Alike:
    """Structures of the same atoms: their fingerprints, and the first of the set of twins of each, by its place."""

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.first: list[int] = []
        self.prints = np.zeros((0, 0), dtype=np.float32)
        self.extremes = np.zeros((0, 0), dtype=np.float32)

    def add(self, index: int, mine: Array) -> int:
        """Add one; the index of the first of its twins."""
        place = len(self.indices)
        # Of each sorted column its ends, which differ most from one structure to another: for nearly all the first few
        # of them tell that they are no twins.
        extremes = mine.reshape(-1, _NEIGHBOURS)[[0, -1]].ravel()
        self.prints, self.extremes = _with_row(self.prints, place, mine), _with_row(self.extremes, place, extremes)
        self.indices.append(index)
        self.first.append(place)
        near = np.arange(place)
        for column, value in zip(self.extremes.T, extremes, strict=True):
            near = near[np.abs(column[near] - value) <= TOLERANCE]
        if len(near):
            differences = np.abs(self.prints[near] - mine).max(axis=1)
            first = self.first[int(near[np.argmin(differences)])]
            widest = np.abs(self.prints[first] - mine).max()
            if differences.min() <= TOLERANCE and widest <= _WIDEST * TOLERANCE:
                self.first[place] = first
        return self.indices[self.first[place]]


def _with_row(rows: Array, place: int, row: Array) -> Array:
    """Rows with one more; there is twice as much room as is needed, so that each is copied but a few times."""
    if place == len(rows):
        room = np.zeros((max(8, 2 * place), len(row)), dtype=np.float32)
        room[:place] = rows[:place].reshape(place, len(row))
        rows = room
    rows[place] = row
    return rows
