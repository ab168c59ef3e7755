"""Candidates: structures that are there already, of a file, which the committee looks at instead of walking."""

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from alflow.committee.committee import Committee
from alflow.committee.protocol import Weighting
from alflow.records.sample import Ensemble, Segment
from alflow.sampling.observing import FAILURES, Observed


@dataclass(frozen=True, eq=False)
class Candidates:
    """Structures that one task looks at.

    Attributes
    ----------
    frames : tuple of Atoms
        One or more.
    weighting : "total", "atom" or "none", optional
        How a baseline is weighted (:meth:`alflow.committee.committee.Committee.drive`).
    baseline_error : float, optional
        s_b, eV; from the data by default.
    number : int
        Which of the tasks this is: it stands in the place of a walker's number.
    """

    frames: tuple[Atoms, ...]
    weighting: Weighting | None = None
    baseline_error: float | None = None
    number: int = 0


def judge_candidates(candidates: Candidates, committee: Committee) -> Segment:
    """What the committee says of candidates.

    They are judged like the frames of a walk, so that the same selection chooses among both.

    Parameters
    ----------
    candidates : Candidates
        The structures.
    committee : Committee
        Says how sure it is of them.

    Returns
    -------
    Segment
        A frame for each candidate, whose step is its number; those that cannot be evaluated are left out, as there is
        no uncertainty to choose them by.
    """
    observed = Observed(committee, candidates.frames[0])
    for step, frame in enumerate(candidates.frames):
        observed.atoms = frame.copy()
        observed.atoms.calc = committee.calculator(candidates.weighting, candidates.baseline_error)
        # A structure far outside may overflow: what comes of it is not finite, and left out by the selection.
        with np.errstate(over="ignore", invalid="ignore"), suppress(*FAILURES):
            observed.store(step, observed.measure())
    # No thermostat has made them, and several systems may be among them: they are no sample of an ensemble.
    ensemble = Ensemble(temperature=np.inf)
    return observed.segment(
        len(candidates.frames), "finished", walker=candidates.number, ensemble=ensemble, timestep=np.nan
    )
