"""How a production run began."""

from dataclasses import dataclass, field

from ase import Atoms

from alflow.committee.committee import Committee
from alflow.models.files import read_committee


@dataclass(frozen=True, eq=False)
class ProductionRecord:
    """How a production run began; its :class:`alflow.records.sample.Segment` files stand beside it.

    Attributes
    ----------
    frames : tuple of Atoms, length W
        Where each walker starts.
    system : str
        Name of their system.
    temperature, pressure : float
        K; eV/Å^3, NaN at constant volume.
    timestep, friction : float
        fs; 1/fs.
    stride, segment : int
        Steps between stored frames; steps of a segment, a multiple of it.
    seed : int
        Of the run.
    name : str
        Of the production run.
    cycle : int
        Whose committee drives it.
    driver : str
        Hash of what drives it.
    weighting : str
        How a baseline is weighted; empty without one.
    baseline_error : float
        s_b, eV; NaN when it is from the data.
    force_max, temperature_max, distance_ratio_min, force_sigma_max : float
        Where a walker stops (:class:`alflow.sampling.walker.Bounds`); infinite when nowhere.
    note : str
        What the committee could not be calibrated for.
    model : Committee
        What drives it: a run goes on whatever becomes of the cycle.
    drive : "mean" or "members"
        Whether all walkers are driven by the mean (or weighted baseline), or walker w by calibrated member w modulo M.
    """

    frames: tuple[Atoms, ...]
    system: str
    temperature: float
    pressure: float
    timestep: float
    friction: float
    stride: int
    segment: int
    seed: int
    name: str
    cycle: int
    driver: str
    weighting: str
    baseline_error: float
    force_max: float
    temperature_max: float
    distance_ratio_min: float
    force_sigma_max: float
    note: str
    model: Committee = field(metadata={"read": read_committee})
    drive: str = field(default="mean", metadata={"later": True})

    @property
    def drivers(self) -> tuple[int, ...] | None:
        """Which member drives each walker, length W; None where all of them together do."""
        if self.drive == "mean":
            return None
        return tuple(number % self.model.n_members for number in range(len(self.frames)))
