"""The committee of a cycle."""

from dataclasses import dataclass, field

from alflow.committee.committee import Committee
from alflow.models.files import read_committee


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

    model: Committee = field(metadata={"read": read_committee})
    n_frames: int
    left_out: str
