"""The committee of a cycle."""

from dataclasses import dataclass

from alflow.models.ace import Committee


@dataclass(frozen=True, eq=False)
class TrainRecord:
    """The committee fitted to every label so far.

    Attributes
    ----------
    model : Committee
        With its training set and its calibration.
    n_frames : int
        How many structures it was fitted to.
    left_out : str
        How many labels were left out because the baseline fails for their structures, and why; empty when none.
    """

    model: Committee
    n_frames: int
    left_out: str
