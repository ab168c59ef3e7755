"""Candidates: structures that are there already, of a file, which the committee looks at instead of walking."""

from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from alflow.committee.committee import Committee
from alflow.committee.protocol import Weighting
from alflow.committee.training import evaluated
from alflow.errors import PotentialError
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
        A frame for each candidate, whose step is its number. Those that cannot be evaluated have no uncertainty to
        choose them by, and are kept apart: structures with a species that the committee does not know, and the reasons
        of all others.
    """
    observed = Observed(committee, candidates.frames[0])
    unseen: list[Atoms] = []
    failures: list[str] = []
    for step, frame in enumerate(candidates.frames):
        observed.atoms = frame.copy()
        observed.atoms.calc = committee.calculator(candidates.weighting, candidates.baseline_error)
        try:
            # A structure far outside may overflow: what comes of it is not finite, and left out by the selection.
            with np.errstate(over="ignore", invalid="ignore"):
                observed.store(step, observed.measure())
        except FAILURES as error:
            why = _hopeless(frame, error, committee)
            if why:
                failures.append(why)
            else:
                unseen.append(frame.copy())
    # No thermostat has made them, and several systems may be among them: they are no sample of an ensemble.
    ensemble = Ensemble(temperature=np.inf)
    segment = observed.segment(
        len(candidates.frames), "finished", walker=candidates.number, ensemble=ensemble, timestep=np.nan
    )
    return replace(segment, unseen=tuple(unseen), failures=tuple(failures))


def unknown_species(atoms: Atoms, committee: Committee) -> list[str]:
    """Symbols of the species of a structure that a committee was not fitted to, sorted."""
    return sorted(chemical_symbols[z] for z in set(atoms.numbers.tolist()) - set(committee.model.numbers))


def _hopeless(frame: Atoms, error: Exception, committee: Committee) -> str:
    """Why a candidate that cannot be evaluated would not help as a label either; empty where it would."""
    if unknown_species(frame, committee):
        if committee.baseline is None:
            return ""
        try:
            # What the baseline cannot do is left out of every training: labels of it would be asked for in vain.
            evaluated(committee.baseline, frame)
        except PotentialError as of_baseline:
            error = of_baseline
        else:
            return ""
    return (str(error) or type(error).__name__).splitlines()[0]
