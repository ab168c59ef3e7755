"""Select: the frames of a cycle that go to the reference method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.committee.committee import Committee
from alflow.models.ace.fingerprint import Fingerprint
from alflow.records.sample import SIGMAS, SampleRecord
from alflow.records.select import SelectRecord
from alflow.sampling.candidates import unknown_species
from alflow.sampling.selection import Places, Selection, select_fps
from alflow.sampling.settings import Select
from alflow.steps.context import Context, labelled_frames
from alflow.steps.train import read_trained, trained_file
from alflow.structures import distance_ratio, structure_id

Array = NDArray[np.float64]


def select(context: Context, cycle: int) -> SelectRecord:
    """Choose the frames of a cycle that go to the reference method.

    Candidates with species that the committee does not know come first, and what is left of the budget goes to those
    that it is unsure of.
    """
    record = context.store.read(cycle, "sample", SampleRecord)
    committee = read_trained(trained_file(context, cycle - 1)).model
    known_ids, known = labelled_frames(context.store, cycle - 1)
    context.progress.begin(f"cycle {cycle} select", 1)
    pool = _Pool(context, known, {*known_ids, *context.store.failed()})
    budget = _budget(context, len(known))
    unseen = _of_unseen(pool, record.unseen, budget)
    seen = _of_seen(pool, record, committee, budget - len(unseen.indices))
    chosen = _record(pool, record, committee, unseen, seen)
    context.progress.advance()
    context.progress.note(f"cycle {cycle} select: {chosen.summary}")
    return chosen


@dataclass(frozen=True, eq=False)
class _Pool:
    """What candidates are compared with: labelled structures, and the ids of what is not to be asked for again."""

    context: Context
    known: Sequence[Atoms]
    settled: set[str]

    def id_of(self, frame: Atoms) -> str:
        """Name of a structure's calculation."""
        return structure_id(frame, self.context.method.identity())

    def choose(
        self,
        frames: Sequence[Atoms],
        features: Callable[[Atoms], Array],
        known: Sequence[Atoms],
        sigma: Array,
        sane: NDArray[np.bool_],
        unsure: NDArray[np.bool_],
        budget: int,
    ) -> Selection:
        """Choose among some frames, with those of the labelled structures that have such features."""
        settings = self.context.settings.select
        kinds = [(str(frame.info.get("system", "")), frame.get_chemical_formula()) for frame in (*frames, *known)]
        number = {kind: k for k, kind in enumerate(sorted(set(kinds)))}
        n = len(frames)
        places = Places(
            np.array([features(frame) for frame in (*frames, *known)]), np.array([number[kind] for kind in kinds])
        )
        return select_fps(
            places[np.arange(n)],
            places[np.arange(n, len(places))],
            sigma,
            sane,
            sigma_min=settings.force_sigma_min,
            budget=budget,
            duplicate_distance=settings.duplicate_distance,
            unsure=unsure,
            settled=np.array([self.id_of(frame) in self.settled for frame in frames], dtype=bool),
        )


_NONE = Selection(np.zeros(0, dtype=np.intp), np.zeros(0), 0, 0, 0)


def _of_unseen(pool: _Pool, frames: Sequence[Atoms], budget: int) -> Selection:
    """Choose among candidates that the committee cannot evaluate: it is as unsure of them as can be."""
    if not frames:
        return _NONE
    sane = np.array([distance_ratio(f) for f in frames]) >= pool.context.settings.select.distance_ratio_min
    everything = [*pool.known, *frames]
    numbers = sorted({z for frame in everything for z in frame.numbers.tolist()})
    fingerprint = Fingerprint.of(everything, tuple(numbers))  # the committee's has no place for their species
    all_of_them = np.ones(len(frames), dtype=bool)
    return pool.choose(
        frames,
        lambda frame: fingerprint.features(fingerprint.descriptor.environment(frame)),
        pool.known,
        np.full(len(frames), np.inf),
        sane,
        all_of_them,
        budget,
    )


def _of_seen(pool: _Pool, record: SampleRecord, committee: Committee, budget: int) -> Selection:
    """Choose among the frames that the committee has evaluated."""
    if not record.frames:
        return _NONE
    settings, of_force = pool.context.settings.select, committee.judgement.force
    sane = (
        (record.distance_ratio >= settings.distance_ratio_min)
        & (record.largest_force <= settings.force_max)
        & np.isfinite(record.energy_sigma)
    )
    # What no label can lower, the floor, makes no frame a new one. Without a bound everything is a candidate, and only
    # distances can tell what is new.
    unsure = of_force.factor * record.largest_force_spread >= settings.force_sigma_min
    unsure &= settings.force_sigma_min > 0
    # Where members agree on what none of them knows, only the grade tells.
    sigma = np.where(record.largest_grade >= settings.grade_min, np.inf, record.largest_force_sigma)
    # A label that the baseline fails for is in no training set, so its species may have no place among the features.
    known = [frame for frame in pool.known if not unknown_species(frame, committee)]
    return pool.choose(record.frames, committee.features, known, sigma, sane, unsure, budget)


def _record(
    pool: _Pool, record: SampleRecord, committee: Committee, unseen: Selection, seen: Selection
) -> SelectRecord:
    """What was chosen of both, and why the others were not."""
    n, i = len(unseen.indices), seen.indices
    frames = [*(record.unseen[k] for k in unseen.indices), *(record.frames[k] for k in i)]
    of_unseen = [f"{', '.join(unknown_species(frame, committee))} not known to the committee" for frame in frames[:n]]
    of_seen = [_unsure_of(record, int(k), pool.context.settings.select) for k in i]
    distances = [*unseen.distances, *seen.distances]
    return SelectRecord(
        ids=tuple(pool.id_of(frame) for frame in frames),
        frames=tuple(_bare(frame) for frame in frames),
        source=np.concatenate([unseen.indices + len(record.frames), i]).astype(np.int64),
        reason=tuple(
            f"{why}; {distance:.2f} from known" for why, distance in zip([*of_unseen, *of_seen], distances, strict=True)
        ),
        energy_predicted=np.concatenate([np.full(n, np.nan), record.energies[i].mean(axis=1)]),
        **{name: np.concatenate([np.full(n, np.nan), getattr(record, name)[i]]) for name in SIGMAS},
        n_candidates=record.n_candidates,
        n_rejected_sigma=seen.n_sigma,
        n_rejected_unphysical=unseen.n_unphysical + seen.n_unphysical,
        n_rejected_duplicate=unseen.n_duplicate + seen.n_duplicate,
        n_rejected_failed=len(record.failures),
        largest_grade=np.concatenate([np.full(n, np.nan), record.largest_grade[i]]),
        n_unseen=len(record.unseen) - unseen.n_unphysical - unseen.n_duplicate,
    )


def _unsure_of(record: SampleRecord, k: int, settings: Select) -> str:
    """Why a frame that the committee has evaluated is a candidate."""
    sigma, grade, words = record.largest_force_sigma[k], record.largest_grade[k], []
    if grade >= settings.grade_min:
        words.append(f"extrapolation grade {grade:.3g} >= {settings.grade_min:g}")
    if sigma >= settings.force_sigma_min:
        words.append(f"force sigma {sigma:.3f} >= {settings.force_sigma_min:g} eV/Å")
    return ", ".join(words)


def _budget(context: Context, n_known: int) -> int:
    """How many may be chosen: the cycle's budget, or what is left of the whole run's."""
    limit = context.settings.converge.max_labels
    budget = context.settings.select.budget
    return budget if limit is None else max(0, min(budget, limit - n_known))


def _bare(atoms: Atoms) -> Atoms:
    """The structure alone: no calculator, no momenta."""
    bare: Atoms = atoms.copy()
    bare.calc = None
    if bare.has("momenta"):
        del bare.arrays["momenta"]
    return bare
