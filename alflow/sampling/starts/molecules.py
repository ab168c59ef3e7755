"""Which atoms of a structure are one molecule."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_BOND = 1.2  # longest bond, in sums of covalent radii


@dataclass(frozen=True, eq=False)
class Units:
    """What moves as one: molecules or, where atoms are bonded without end or not at all, each atom.

    Attributes
    ----------
    of_atom : array, shape (N,)
        Which one an atom belongs to.
    positions : array, shape (N, 3)
        Of the atoms, Å, with no molecule cut by the edge of the cell.
    are_molecules : bool
        Whether any of them has more than one atom.
    """

    of_atom: IntArray
    positions: Array
    are_molecules: bool

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.of_atom.max()) + 1

    @property
    def centres(self) -> Array:
        """Mean position of each, Å, shape (count, 3)."""
        sums = np.zeros((self.count, 3))
        np.add.at(sums, self.of_atom, self.positions)
        return sums / np.bincount(self.of_atom)[:, None]


def units(atoms: Atoms) -> Units:
    """Molecules of a structure: atoms that are bonded, with an end to it in every periodic direction."""
    radii = _BOND * covalent_radii[atoms.numbers]
    i, j, images = neighbor_list("ijS", atoms, radii)
    order = np.argsort(i, kind="stable")
    i, j, images = i[order], j[order], images[order]
    begins = np.searchsorted(i, np.arange(len(atoms) + 1))
    of_atom, image = np.full(len(atoms), -1), np.zeros((len(atoms), 3), dtype=int)
    for first in range(len(atoms)):
        if of_atom[first] >= 0:
            continue
        of_atom[first] = of_atom.max() + 1
        waiting = [first]
        while waiting:
            atom = waiting.pop()
            for k in range(begins[atom], begins[atom + 1]):
                other, place = j[k], image[atom] + images[k]
                if of_atom[other] < 0:
                    of_atom[other], image[other] = of_atom[first], place
                    waiting.append(other)
                elif (image[other] != place).any():  # bonded to an image of itself: there is no end
                    return Units(np.arange(len(atoms)), atoms.positions.copy(), are_molecules=False)
    whole = atoms.positions + image @ atoms.cell.array
    return Units(of_atom, whole, are_molecules=bool(of_atom.max() + 1 < len(atoms)))
