"""The structures that go to the reference method."""

from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_LATER = {"later": True}  # not in the files of earlier versions


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
        Index of each among the sampled frames, with candidates of unknown species after them.
    reason : tuple of str, length S
        Why it was chosen.
    energy_predicted : ndarray, shape (S,)
        Mean of the members, the baseline included, eV.
    energy_spread, energy_sigma, largest_force_spread, largest_force_sigma, largest_atom_spread, largest_atom_sigma, \
    smallest_weight : ndarray, shape (S,)
        As in :class:`alflow.records.sample.SampleRecord`; NaN for what the committee could not evaluate.
    n_candidates : int
        How many frames there were to choose from.
    n_rejected_sigma, n_rejected_unphysical, n_rejected_duplicate, n_rejected_failed : int
        How many the committee was sure of; how many no reference method should be asked about; how many coincide with
        a labelled or chosen structure, or with one whose calculation failed; how many cannot be evaluated although
        their species are known, or by the baseline.
    n_unseen : int
        How many have species that the committee does not know, and could be selected: they come first.
    largest_grade : ndarray, shape (S,)
        Largest extrapolation grade of an atom; NaN likewise, and none in files of earlier versions.
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
    n_rejected_failed: int = field(default=0, metadata=_LATER)
    n_unseen: int = field(default=0, metadata=_LATER)
    largest_grade: Array = field(default_factory=lambda: np.zeros(0), metadata=_LATER)

    @property
    def n_left(self) -> int:
        """How many were worth a label, and exceeded the budget."""
        fallen = (self.n_rejected_sigma, self.n_rejected_unphysical, self.n_rejected_duplicate, self.n_rejected_failed)
        return self.n_candidates - len(self.ids) - sum(fallen)

    @property
    def summary(self) -> str:
        """How many were selected and, of the others, why not, in one line."""
        others = {
            "that the committee is sure of": self.n_rejected_sigma,
            "unphysical": self.n_rejected_unphysical,
            "duplicates of labelled or selected ones": self.n_rejected_duplicate,
            "that cannot be evaluated": self.n_rejected_failed,
            "beyond the budget": self.n_left,
        }
        left = ", ".join(f"{n} {why}" for why, n in others.items() if n)
        unseen = f" ({self.n_unseen} candidates have species that the committee does not know)" if self.n_unseen else ""
        selected = f"{len(self.ids) or 'none'} of {self.n_candidates} frames selected{unseen}"
        return f"{selected}; left out: {left}" if left else selected

    @property
    def headline(self) -> dict[str, int]:
        """Number of structures selected."""
        return {"selected": len(self.ids)}
