"""Pairs of atoms alone."""

from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from alflow.sampling.starts.settings import Dimers

_BOX = 12.0  # Å; edge of the cell where the system is periodic, at least, and at least twice the distance


def dimers(species: list[int], section: Dimers, *, periodic: bool) -> list[Atoms]:
    """Of every pair of species (atomic numbers) at every distance, evenly spaced; ``periodic``: in a box."""
    found = []
    for pair in combinations_with_replacement(species, 2):
        for distance in np.linspace(section.nearest, section.farthest, section.count):
            half = distance * covalent_radii[list(pair)].sum() / 2
            atoms = Atoms(pair, positions=[[0, 0, -half], [0, 0, half]])
            if periodic:
                atoms.set_cell([max(_BOX, 4 * half)] * 3)
                atoms.pbc = True
                atoms.center()
            found.append(atoms)
    return found
