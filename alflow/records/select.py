"""The structures that go to the reference method."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SelectRecord:
    """The frames of a cycle that go to the reference method.

    Attributes
    ----------
    ids : tuple of str, length S
        Hash of structure and method: the names of the reference calculations.
    frames : tuple of Atoms, length S
        Structures.
    source : ndarray of int, shape (S,)
        Index of each among the sampled frames.
    reason : tuple of str, length S
        Why it was chosen.
    energy_predicted : ndarray, shape (S,)
        Mean of the members, the baseline included, eV.
    energy_spread, energy_sigma, largest_force_spread, largest_force_sigma, largest_atom_spread, largest_atom_sigma, \
    smallest_weight : ndarray, shape (S,)
        As in :class:`alflow.records.sample.SampleRecord`.
    n_candidates : int
        How many frames there were to choose from.
    n_rejected_sigma, n_rejected_unphysical, n_rejected_duplicate : int
        How many the committee was sure of; how many no reference method should be asked about; how many coincide with
        a labelled or chosen structure.
    """

    ids: tuple[str, ...]
    frames: tuple[Atoms, ...]
    source: IntArray
    reason: tuple[str, ...]
    energy_predicted: Array
    energy_spread: Array
    energy_sigma: Array
    largest_force_spread: Array
    largest_force_sigma: Array
    largest_atom_spread: Array
    largest_atom_sigma: Array
    smallest_weight: Array
    n_candidates: int
    n_rejected_sigma: int
    n_rejected_unphysical: int
    n_rejected_duplicate: int

    @property
    def headline(self) -> dict[str, int]:
        """Number of structures selected."""
        return {"selected": len(self.ids)}
