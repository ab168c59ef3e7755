"""How good the committee of a cycle is."""

import math
from dataclasses import dataclass, field

from alflow.committee.reliability import Reliability

_LATER = {"later": True}  # not in the files of earlier versions


@dataclass(frozen=True, eq=False)
class Assessment:
    """How good the committee of one cycle is, and whether to go on.

    Attributes
    ----------
    cycle : int
        Which.
    n_selected, n_new, n_failed : int
        Structures that were to be labelled in this cycle, labels that it brought, calculations of it that failed.
    n_labelled : int
        Labels so far.
    energy_rmse, force_rmse : float
        Errors on this cycle's labels *before* they were trained on, eV/atom and eV/Å; out-of-bag in cycle 0; NaN when
        the cycle has no labels.
    energy_rmse_after, force_rmse_after : float
        The same after training.
    alpha_energy, alpha_force : float
        Calibration factors of the new committee; NaN where they cannot be determined.
    floor_energy, floor_force : float
        What its uncertainty does not fall below: eV per square root of the number of atoms, and eV/Å.
    energy, force : Reliability
        Of the new committee, out-of-bag: errors against calibrated uncertainty.
    new_energy, new_force : Reliability
        Of the committee before, on this cycle's labels; of no values in cycle 0.
    stress_rmse, stress_rmse_after, alpha_stress, floor_stress : float
        The same of the stresses, eV/Å^3 (the floor in eV, :class:`alflow.committee.judgement.Judgement`); NaN where
        labels have none.
    stress, new_stress : Reliability
        Likewise.
    reached : bool
        Whether the cycles end here because what ``[converge]`` asks for is reached.
    note : str
        What could not be calibrated, and which labels were left out, and why.
    largest_force_sigma : float
        Largest calibrated sigma of a force component in the frames sampled, eV/Å; NaN in cycle 0.
    observable : str
        The average that ``[converge]`` names; empty when none.
    observable_error, observable_noise : float
        Its model error over the frames sampled, in its unit, and the statistical error of that: of several values
        or ensembles the largest. NaN in cycle 0, or when it cannot be computed.
    observable_note : str
        Of which value and ensemble, by which method, and what to beware of; or why there is none.
    converged : bool
        Whether the cycles end here, for whatever reason.
    reason : str
        Why, or why not.
    """

    cycle: int
    n_selected: int
    n_new: int
    n_failed: int
    n_labelled: int
    energy_rmse: float
    force_rmse: float
    energy_rmse_after: float
    force_rmse_after: float
    alpha_energy: float
    alpha_force: float
    floor_energy: float
    floor_force: float
    energy: Reliability
    force: Reliability
    new_energy: Reliability
    new_force: Reliability
    note: str
    largest_force_sigma: float
    observable: str
    observable_error: float
    observable_noise: float
    observable_note: str
    converged: bool
    reason: str
    stress_rmse: float = field(default=math.nan, metadata=_LATER)
    stress_rmse_after: float = field(default=math.nan, metadata=_LATER)
    alpha_stress: float = field(default=math.nan, metadata=_LATER)
    floor_stress: float = field(default=math.nan, metadata=_LATER)
    stress: Reliability = field(default_factory=Reliability, metadata=_LATER)
    new_stress: Reliability = field(default_factory=Reliability, metadata=_LATER)
    reached: bool = field(default=False, metadata=_LATER)

    def __post_init__(self) -> None:
        # Files of earlier versions tell the two ends apart by the reason only.
        if self.converged and not self.reason.startswith(("converge.max_", "nothing in ")):
            object.__setattr__(self, "reached", True)

    @property
    def state(self) -> str:
        """In one word: whether the run has converged, has ended all the same, or goes on."""
        return "converged" if self.reached else "ended" if self.converged else "not converged"


@dataclass(frozen=True, eq=False)
class AssessRecord:
    """The history of a run: one file tells how all cycles so far went.

    Attributes
    ----------
    cycles : tuple of Assessment
        Of every cycle, this one last.
    """

    cycles: tuple[Assessment, ...]

    @property
    def last(self) -> Assessment:
        """Of this cycle."""
        return self.cycles[-1]
