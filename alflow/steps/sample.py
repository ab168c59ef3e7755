"""Sample: walkers of every system at every temperature, driven by the newest committee."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.committee.committee import Committee
from alflow.committee.protocol import Weighting
from alflow.config import Settings
from alflow.data.names import Names
from alflow.data.reading import read_usable
from alflow.errors import SampleError, StructureError
from alflow.executors import run_all, shield
from alflow.randomness import generator
from alflow.records.production import ProductionRecord
from alflow.records.properties import together
from alflow.records.sample import MEASURED, SIGMAS, SampleRecord, Segment
from alflow.records.train import TrainRecord
from alflow.reference.method import BaselineMethod
from alflow.sampling.candidates import Candidates, judge_candidates
from alflow.sampling.walker import Bounds, Walker, run_segment
from alflow.state.file import checksum, commit_file, make_folder, origin
from alflow.state.store import STEPS, read_segment, segment_path, segment_place
from alflow.steps.context import Context, asked_for, labelled_frames, largest_force
from alflow.steps.initial import check_states, of_system
from alflow.steps.train import load_model, trained_file
from alflow.structures import structure_id

Array = NDArray[np.float64]

_PART = 50  # candidates that one task looks at
_NAMED = 3  # kinds of candidates that cannot be evaluated of which a line tells


def sample(context: Context, cycle: int) -> SampleRecord:
    """Run the walkers of a cycle on the newest committee and gather their frames.

    Raises
    ------
    SampleError
        No labelled structure can serve as a start, or none of the starts can be evaluated.
    """
    works, starts = _works(context, cycle)
    folder = context.store.walkers(cycle)
    make_folder(folder)
    model, baseline = trained_file(context, cycle - 1), context.baseline
    drivers = [_driver(model, baseline, work) for work in works]
    tasks = [
        (Walk(work, _n_segments(work), folder, number, model, baseline, driver),)
        for number, (work, driver) in enumerate(zip(works, drivers, strict=True))
    ]
    context.progress.begin(f"cycle {cycle} sample", len(tasks))
    for number, outcome in run_all(context.pool, walk, tasks):
        if isinstance(outcome, Exception):
            raise outcome
        context.progress.note(f"walker {number}: {outcome}")
        context.progress.advance()
    record = _gather(folder, works, starts, drivers, context.settings.sample.timestep)
    for note in unevaluated(record):
        context.progress.note(note)
    return record


def unevaluated(record: SampleRecord) -> list[str]:
    """Which candidates the committee cannot evaluate, and why, a line for each kind of them."""
    notes = []
    if record.unseen:
        formulas = _counted([frame.get_chemical_formula() for frame in record.unseen])
        notes.append(
            f"{len(record.unseen)} candidates have species that the committee does not know ({formulas}): none is less "
            "known, so they are selected first"
        )
    if record.failures:
        notes.append(f"{len(record.failures)} candidates cannot be evaluated ({_counted(record.failures)})")
    return notes


def _counted(texts: Sequence[str]) -> str:
    """The commonest of some texts, and how often each of them is there."""
    common = [f"{n} {text}" for text, n in Counter(texts).most_common(_NAMED)]
    others = len(set(texts)) - len(common)
    return ", ".join(common) + (f" and {others} others" if others else "")


def driver_of(model: Path, baseline: BaselineMethod | None, weighting: Weighting | None, error: float | None) -> str:
    """Name of what drives walks: segments of another potential are not gone on with."""
    parts = (checksum(model), "" if baseline is None else baseline.identity(), weighting, error)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


def _driver(model: Path, baseline: BaselineMethod | None, work: Walker | Candidates) -> str:
    """Name of what drives a walk, and of all that it does: none is gone on with under other conditions."""
    frames = work.frames if isinstance(work, Candidates) else (work.start,)
    said = {part.name: getattr(work, part.name) for part in fields(work) if part.name not in {"frames", "start"}}
    parts = (
        driver_of(model, baseline, work.weighting, work.baseline_error),
        sorted((name, repr(value)) for name, value in said.items()),
        [(structure_id(frame, ""), str(frame.info.get("system", ""))) for frame in frames],
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


@dataclass(frozen=True, eq=False)
class Walk:
    """A walker, or candidates, and where its segments are kept: what travels to the worker process.

    ``model`` is a file, of the kind ``record``, with the committee that drives it.
    """

    work: Walker | Candidates
    n_segments: int
    folder: Path
    number: int
    model: Path
    baseline: BaselineMethod | None
    driver: str
    record: type[TrainRecord | ProductionRecord] = TrainRecord

    def path(self, index: int) -> Path:
        """File of one segment."""
        return segment_path(self.folder, self.number, index, self.driver)


def walk(task: Walk) -> str:
    """Do, in a worker process, the segments of a walk that are not on disk yet; the reason it stopped."""
    done = next((k for k in range(task.n_segments) if not task.path(k).exists()), task.n_segments)
    segment: Segment | None = None
    committee: Committee | None = None
    for index in range(max(done - 1, 0), task.n_segments):
        path = task.path(index)
        if path.exists():
            segment = read_segment(path, Segment)
        else:
            committee = committee or load_model(task.model, task.baseline, task.record)
            segment = _segment(task.work, index, segment.end[0] if segment else None, committee)
            with shield():
                before = [task.path(index - 1)] if index else []
                made_from = origin(path, [task.model, *before])
                commit_file(path, segment, place=segment_place(path), made_from=made_from, exist_ok=True)
        if segment.stop:
            break
    if segment is None:
        return "nothing to do"
    return f"{segment.stop} after {segment.end_step} steps" if segment.stop else f"{segment.end_step} steps done"


def _segment(work: Walker | Candidates, index: int, state: Atoms | None, committee: Committee) -> Segment:
    if isinstance(work, Candidates):
        return judge_candidates(work, committee)
    return run_segment(work, index, state, committee)


def _n_segments(work: Walker | Candidates) -> int:
    return 1 if isinstance(work, Candidates) else work.n_segments


def _works(context: Context, cycle: int) -> tuple[Sequence[Walker | Candidates], list[str]]:
    """What brings the frames of a cycle, walkers or candidates, and where each of them starts."""
    file = context.settings.sample.candidates
    return _walkers(context, cycle) if file is None else _candidates(context, file)


def _walkers(context: Context, cycle: int) -> tuple[list[Walker], list[str]]:
    """Walkers of every system at every temperature, and the ids of the structures they start from."""
    settings = context.settings.sample
    step = STEPS.index("sample")
    ids, frames = labelled_frames(context.store, cycle - 1)
    _, asked = asked_for(context.store, cycle - 1)
    walkers: list[Walker] = []
    starts: list[str] = []
    for system in context.settings.system:
        mine = [i for i, frame in enumerate(frames) if frame.info.get("system") == system.name]
        usable = [i for i in mine if largest_force(frames[i]) <= settings.force_max]
        if not mine:
            why = "all its calculations failed, see `alflow inspect --failed`" if system.name in asked else "it is new"
            context.progress.note(f"system {system.name} has no labels ({why}): it has walkers as soon as it has some")
            continue
        if not usable:
            msg = (
                f"system {system.name}: none of its {len(mine)} labelled structures can start a walker (largest force "
                f"at most sample.force_max = {settings.force_max:g} eV/Å): relax them, or lower system.rattle"
            )
            raise SampleError(msg)
        for temperature in settings.temperature:
            for _ in range(settings.walkers):
                key = (cycle, step, len(walkers))
                rng = generator(context.settings.seed, *key)
                start = usable[int(rng.integers(len(usable)))]
                bare = frames[start].copy()
                bare.calc = None
                walkers.append(_walker(context.settings, bare, temperature, key))
                starts.append(ids[start])
    if not walkers:
        msg = (
            f"no system of alflow.toml has labels, those so far are of {', '.join(sorted(asked))}: keep one of these, "
            "or begin a new run directory"
        )
        raise SampleError(msg)
    return walkers, starts


def _candidates(context: Context, file: str) -> tuple[list[Candidates], list[str]]:
    """The structures of a file, in parts."""
    frames = candidate_frames(context.settings, context.store.directory, file, context.progress.note)
    check_states(frames)
    weighting, error = _weighting(context.settings)
    begins = range(0, len(frames), _PART)
    parts = [
        Candidates(tuple(frames[begin : begin + _PART]), weighting, error, number)
        for number, begin in enumerate(begins)
    ]
    return parts, [f"{file} from {begin}" for begin in begins]


def candidate_frames(settings: Settings, directory: Path, file: str, tell: Callable[[str], None]) -> list[Atoms]:
    """The structures of a file of candidates, with the charge and multiplicity of their systems.

    A structure belongs to the system that its ``info`` names or, without one, to the only system. One that cannot be
    used is left out and told. StructureError for a file without any that can be used, or a system that is not there.
    """
    path = directory / file
    systems = {system.name: system for system in settings.system}
    frames: list[Atoms] = []
    differ: set[str] = set()
    names = Names(length_unit=settings.sample.length_unit, species=settings.sample.species)
    for index, frame in read_usable(path, tell, names, close=True).items():
        name = frame.info.get("system", next(iter(systems)) if len(systems) == 1 else None)
        if name not in systems:
            msg = f"{path} frame {index}: system {name!r}: expected one of {', '.join(systems)} of alflow.toml"
            raise StructureError(msg)
        frames.append(of_system(frame, systems[name], path, differ))
    for line in sorted(differ):
        tell(line)
    return frames


def _weighting(settings: Settings) -> tuple[Weighting | None, float | None]:
    """How the baseline is weighted, and its s_b, eV."""
    baseline = settings.baseline
    return (None, None) if baseline is None else (baseline.weighting, baseline.error)


def _walker(settings: Settings, start: Atoms, temperature: float, key: tuple[int, ...]) -> Walker:
    s = settings.sample
    bounds = Bounds(
        force_sigma=s.force_sigma_max,
        force=s.force_max,
        temperature=s.temperature_factor_max * temperature,
        distance_ratio=s.distance_ratio_min,
        grade=s.grade_max,
    )
    weighting, error = _weighting(settings)
    return Walker(
        start=start,
        temperature=temperature,
        timestep=s.timestep,
        friction=s.friction,
        steps=s.steps,
        stride=s.stride,
        segment=s.stride * max(1, s.checkpoint // s.stride),
        bounds=bounds,
        seed=settings.seed,
        key=key,
        weighting=weighting,
        baseline_error=error,
    )


def _gather(
    folder: Path, works: Sequence[Walker | Candidates], starts: Sequence[str], drivers: Sequence[str], timestep: float
) -> SampleRecord:
    """Join all segments, in the order of the walkers or candidates; ``timestep`` in fs."""
    segments: list[tuple[int, Segment]] = []
    ends: list[Segment] = []
    for number, (work, driver) in enumerate(zip(works, drivers, strict=True)):
        for index in range(_n_segments(work)):
            segment = read_segment(segment_path(folder, number, index, driver), Segment)
            segments.append((number, segment))
            if segment.stop:
                break
        ends.append(segment)
    frames, unseen, failures = (
        tuple(item for _, segment in segments for item in getattr(segment, name))
        for name in ("frames", "unseen", "failures")
    )
    if not frames and not unseen:
        if failures:
            msg = f"none of {len(failures)} candidates can be evaluated ({_counted(failures)}): look at the baseline"
            raise SampleError(msg)
        why = "; ".join(sorted({end.stop for end in ends}))
        msg = f"no walker could begin ({why}): look at the baseline and the initial structures"
        raise SampleError(msg)

    def column(name: str) -> Array:
        return np.concatenate([getattr(segment, name) for _, segment in segments])

    numbers = np.concatenate([np.full(len(s.frames), number) for number, s in segments])
    return SampleRecord(
        frames=frames,
        walker=numbers.astype(np.int64),
        time=column("step") * timestep,
        energies=column("energies"),
        **{name: column(name) for name in ("energy", *SIGMAS, *MEASURED, "bias_energy")},
        properties=together([s.properties for _, s in segments], [len(s.frames) for _, s in segments]),
        atom_properties=together(
            [s.atom_properties for _, s in segments], [sum(map(len, s.frames)) for _, s in segments]
        ),
        walker_stop=tuple(segment.stop for segment in ends),
        walker_steps=np.array([segment.end_step for segment in ends], dtype=np.int64),
        ensembles=tuple(segment.ensemble for segment in ends),
        walker_start=tuple(starts),
        unseen=unseen,
        failures=failures,
    )
