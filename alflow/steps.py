"""The five steps of a cycle, each a function from settings and earlier records to a record.

``sample -> select -> label -> train -> assess``; cycle 0 labels, trains on and assesses the initial structures.
Steps read and return records; committing them is the workflow's business. What is long inside a step is durable in
pieces: a walker's segments and every single reference result, each a file of its own from the moment it exists.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError
from numpy.typing import NDArray

from alflow import structures
from alflow.calibration import Reliability, reliability
from alflow.config import Baseline, Settings
from alflow.errors import SampleError, StoreError, warnings_told
from alflow.executors import Pool, limit_threads, run_all, shield
from alflow.potentials.ace import Committee, fit
from alflow.records import AssessRecord, LabelRecord, SampleRecord, Segment, SelectRecord, TrainRecord
from alflow.reference import ReferenceMethod, below, build, failure, label_one
from alflow.sampling import Bounds, Walker, run_segment
from alflow.selection import select_fps
from alflow.store import STEPS, Store, commit_file, make_folder, read_file

Array = NDArray[np.float64]


class Progress(Protocol):
    """What a step tells about itself while it runs."""

    def begin(self, what: str, total: int) -> None:
        """A piece of work of ``total`` items begins."""

    def advance(self, done: int = 1) -> None:
        """``done`` more items are finished."""

    def note(self, message: str) -> None:
        """One line worth reading."""


@dataclass(frozen=True)
class Context:
    """What every step may use.

    Attributes
    ----------
    settings : Settings
        The whole of alflow.toml.
    store : Store
        The run directory; steps read from it and keep their finished pieces in it.
    pool : Pool
        Opens the executor.
    progress : Progress
        Where to report.
    """

    settings: Settings
    store: Store
    pool: Pool
    progress: Progress

    @property
    def method(self) -> ReferenceMethod:
        """The reference method of the settings."""
        return build(**self.settings.reference.model_dump())

    @property
    def baseline(self) -> ReferenceMethod | None:
        """The baseline of the settings, if there is one."""
        section = self.settings.baseline
        return None if section is None else baseline_method(section, self.store.directory)


def baseline_method(section: Baseline, directory: Path) -> ReferenceMethod:
    """The method that a ``[baseline]`` describes; files are relative to the directory."""
    options = section.model_dump(exclude={"weighting", "error"})
    if "file" in options:
        options["file"] = str(directory.absolute() / options["file"])
    return build(**options)


def labelled_frames(store: Store, cycle: int) -> tuple[list[str], list[Atoms]]:
    """Ids and structures (with energies and forces) of all labels up to and including ``cycle``, in order."""
    ids: list[str] = []
    frames: list[Atoms] = []
    for k in range(cycle + 1):
        record = store.read(k, "label", LabelRecord)
        ids.extend(record.ids)
        frames.extend(record.frames)
    return ids, frames


# --- sample -----------------------------------------------------------------------------------------------------------


def sample(context: Context, cycle: int) -> SampleRecord:
    """Run the walkers of a cycle on the newest committee and gather their frames.

    Raises
    ------
    SampleError
        No labelled structure can serve as a start.
    """
    walkers, starts = _walkers(context, cycle)
    folder = context.store.walkers(cycle)
    make_folder(folder)
    model, baseline = model_path(context, cycle - 1), context.baseline
    tasks = [(_Walk(walker, folder, number, model, baseline),) for number, walker in enumerate(walkers)]
    context.progress.begin(f"cycle {cycle} sample", len(tasks))
    for number, outcome in run_all(context.pool, walk, tasks):
        if isinstance(outcome, Exception):
            raise outcome
        context.progress.note(f"walker {number}: {outcome}")
        context.progress.advance()
    return _gather(folder, walkers, starts)


@dataclass(frozen=True, eq=False)
class _Walk:
    """A walker and where its segments are kept: what travels to the worker process."""

    walker: Walker
    folder: Path
    number: int
    model: Path
    baseline: ReferenceMethod | None

    def path(self, index: int) -> Path:
        return _segment_path(self.folder, self.number, index)


def _segment_path(folder: Path, number: int, index: int) -> Path:
    return folder / f"{number:03d}-{index:04d}.h5"


def walk(task: _Walk) -> str:
    """Do, in a worker process, the segments of a walk that are not on disk yet; the reason it stopped."""
    committee = _load_model(task.model, task.baseline)
    state: Atoms | None = None
    stop = ""
    for index in range(task.walker.n_segments):
        path = task.path(index)
        if path.exists():
            segment = read_file(path, Segment)
        else:
            segment = run_segment(task.walker, index, state, committee)
            with shield():
                commit_file(path, segment, exist_ok=True)
        state, stop = segment.end[0], segment.stop
        if stop:
            break
    return f"{stop} after {segment.end_step} steps"


def _load_model(path: Path, baseline: ReferenceMethod | None) -> Committee:
    model = _read_model(path)
    return model if baseline is None else model.with_baseline(baseline.calculator())


@lru_cache(maxsize=1)
def _read_model(path: Path) -> Committee:
    return read_file(path, TrainRecord).model


def _walkers(context: Context, cycle: int) -> tuple[list[Walker], list[str]]:
    """Walkers of every system at every temperature, and the ids of the structures they start from."""
    settings = context.settings.sample
    step = STEPS.index("sample")
    ids, frames = labelled_frames(context.store, cycle - 1)
    walkers: list[Walker] = []
    starts: list[str] = []
    for system in context.settings.system:
        mine = [i for i, frame in enumerate(frames) if frame.info.get("system") == system.name]
        usable = [i for i in mine if np.linalg.norm(frames[i].get_forces(), axis=1).max() <= settings.force_max]
        if not usable:
            msg = (
                f"system {system.name}: none of its {len(mine)} labelled structures can start a walker (largest force "
                f"at most sample.force_max = {settings.force_max:g} eV/Å): relax them, or lower system.rattle"
            )
            raise SampleError(msg)
        for temperature in settings.temperature:
            for _ in range(settings.walkers):
                key = (cycle, step, len(walkers))
                rng = np.random.default_rng(np.random.SeedSequence(context.settings.seed, spawn_key=key))
                start = usable[int(rng.integers(len(usable)))]
                bare = frames[start].copy()
                bare.calc = None
                walkers.append(_walker(context.settings, bare, temperature, key))
                starts.append(ids[start])
    return walkers, starts


def _walker(settings: Settings, start: Atoms, temperature: float, key: tuple[int, ...]) -> Walker:
    s = settings.sample
    bounds = Bounds(
        force_sigma=s.force_sigma_max,
        force=s.force_max,
        temperature=s.temperature_factor_max * temperature,
        distance_ratio=s.distance_ratio_min,
    )
    baseline = settings.baseline
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
        weighting=None if baseline is None else baseline.weighting,
        baseline_error=None if baseline is None else baseline.error,
    )


def _gather(folder: Path, walkers: Sequence[Walker], starts: Sequence[str]) -> SampleRecord:
    """Join the segments of all walkers, in the order of the walkers."""
    segments: list[tuple[int, Segment]] = []
    ends: list[Segment] = []
    for number, walker in enumerate(walkers):
        for index in range(walker.n_segments):
            segment = read_file(_segment_path(folder, number, index), Segment)
            segments.append((number, segment))
            if segment.stop:
                break
        ends.append(segment)

    def column(name: str) -> Array:
        return np.concatenate([getattr(segment, name) for _, segment in segments])

    numbers = np.concatenate([np.full(len(s.frames), number) for number, s in segments])
    return SampleRecord(
        frames=tuple(frame for _, segment in segments for frame in segment.frames),
        walker=numbers.astype(np.int64),
        time=column("step") * np.array([walkers[n].timestep for n in numbers]),
        energies=np.concatenate([segment.energies for _, segment in segments if segment.frames]),
        energy=column("energy"),
        energy_spread=column("energy_spread"),
        energy_sigma=column("energy_sigma"),
        force_spread_max=column("force_spread_max"),
        force_sigma_max=column("force_sigma_max"),
        atom_sigma_max=column("atom_sigma_max"),
        weight_min=column("weight_min"),
        grade_max=column("grade_max"),
        force_max=column("force_max"),
        temperature=column("temperature"),
        distance_ratio=column("distance_ratio"),
        walker_stop=tuple(segment.stop for segment in ends),
        walker_steps=np.array([segment.end_step for segment in ends], dtype=np.int64),
        walker_temperature=np.array([walker.temperature for walker in walkers]),
        walker_start=tuple(starts),
    )


# --- select -----------------------------------------------------------------------------------------------------------


def select(context: Context, cycle: int) -> SelectRecord:
    """Choose the frames of a cycle that go to the reference method."""
    settings = context.settings.select
    record = context.store.read(cycle, "sample", SampleRecord)
    model = read_file(model_path(context, cycle - 1), TrainRecord).model
    known_ids, known = labelled_frames(context.store, cycle - 1)
    context.progress.begin(f"cycle {cycle} select", 1)
    identity = context.method.identity()
    ids = [structures.structure_id(frame, identity) for frame in record.frames]
    sane = (
        (record.distance_ratio >= settings.distance_ratio_min)
        & (record.force_max <= settings.force_max)
        & np.isfinite(record.energy_sigma)
    )
    chosen = select_fps(
        np.array([model.features(frame) for frame in record.frames]),
        np.array([model.features(frame) for frame in known]),
        record.force_sigma_max,
        sane & ~np.isin(ids, [*known_ids, *context.store.failed()]),
        sigma_min=settings.force_sigma_min,
        budget=_budget(context, len(known)),
        duplicate_distance=settings.duplicate_distance,
    )
    context.progress.advance()
    i = chosen.indices
    return SelectRecord(
        ids=tuple(ids[k] for k in i),
        frames=tuple(_bare(record.frames[k]) for k in i),
        source=i.astype(np.int64),
        reason=tuple(
            f"force sigma {record.force_sigma_max[k]:.3f} >= {settings.force_sigma_min:g} eV/Å; {d:.2f} from known"
            for k, d in zip(i, chosen.distances, strict=True)
        ),
        energy_predicted=record.energy[i],
        energy_spread=record.energy_spread[i],
        energy_sigma=record.energy_sigma[i],
        force_spread_max=record.force_spread_max[i],
        force_sigma_max=record.force_sigma_max[i],
        atom_sigma_max=record.atom_sigma_max[i],
        weight_min=record.weight_min[i],
        n_candidates=len(record.frames),
        n_rejected_sigma=chosen.n_sigma,
        n_rejected_unphysical=chosen.n_unphysical,
        n_rejected_duplicate=chosen.n_duplicate,
    )


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


# --- label ------------------------------------------------------------------------------------------------------------


def label(context: Context, cycle: int) -> LabelRecord:
    """Ask the reference method about the chosen structures; every result is durable the moment it is there."""
    method = context.method
    ids, frames = _to_label(context, cycle, method)
    store = context.store
    todo = [i for i, name in enumerate(ids) if not (store.is_labelled(name) or store.is_failed(name))]
    context.progress.begin(f"cycle {cycle} label", len(ids))
    context.progress.advance(len(ids) - len(todo))
    baseline = context.baseline
    tasks = [(ids[i], frames[i], method, baseline, store.label_path(ids[i]), store.failure_path(ids[i])) for i in todo]
    for number, outcome in run_all(context.pool, label_one, tasks, timeout=context.settings.executor.timeout):
        name, frame = tasks[number][:2]
        if isinstance(outcome, StoreError):
            raise outcome
        if isinstance(outcome, Exception):
            commit_file(store.failure_path(name), failure(name, frame, outcome, method), exist_ok=True)
        if outcome:
            context.progress.note(f"{name} failed: {str(outcome).splitlines()[0]}")
        context.progress.advance()
    return store.gather(ids, method.identity())


def _to_label(context: Context, cycle: int, method: ReferenceMethod) -> tuple[list[str], list[Atoms]]:
    """Ids and structures of a cycle's reference calculations, no structure twice."""
    if cycle == 0:
        frames = structures.initial_structures(context.settings, context.store.directory)
        unique = {structures.structure_id(frame, method.identity()): frame for frame in frames}
        return list(unique), list(unique.values())
    record = context.store.read(cycle, "select", SelectRecord)
    return list(record.ids), list(record.frames)


# --- train ------------------------------------------------------------------------------------------------------------


def train(context: Context, cycle: int) -> TrainRecord:
    """Fit the committee to every label there is."""
    _, frames = labelled_frames(context.store, cycle)
    results = _baseline_results(context, cycle, frames)
    context.progress.begin(f"cycle {cycle} train", 1)
    potential = context.settings.potential.model_dump(exclude={"kind"})
    baseline, without = context.baseline, 0
    options: dict[str, Any] = {}
    if baseline is not None:
        usable = [k for k, result in enumerate(results) if result is not None and np.isfinite(result[0])]
        without = len(frames) - len(usable)
        frames, results = [frames[k] for k in usable], [results[k] for k in usable]
        options = {"baseline": baseline.calculator(), "baseline_identity": baseline.identity()}
        options["baseline_results"] = results
    if without:
        context.progress.note(f"{without} labels left out: the baseline failed for their structures")
    with warnings_told(context.progress.note):
        model = fit(frames, seed=context.settings.seed, **options, **potential)
    if model.judgement.note:
        context.progress.note(model.judgement.note)
    context.progress.advance()
    return TrainRecord(model=model, n_frames=len(frames))


def _baseline_results(context: Context, cycle: int, frames: Sequence[Atoms]) -> list[tuple[float, Array] | None]:
    """Energies and forces of the baseline for all labels: those kept with them, and new ones when it was changed."""
    baseline = context.baseline
    if baseline is None:
        return [None] * len(frames)
    identity = baseline.identity()
    results = [
        result
        for k in range(cycle + 1)
        for result in context.store.read(k, "label", LabelRecord).baseline_results(identity)
    ]
    missing = [k for k, result in enumerate(results) if result is None]
    if missing:
        context.progress.begin(f"cycle {cycle} baseline", len(missing))
    for number, outcome in run_all(context.pool, below, [(frames[k], baseline) for k in missing]):
        if isinstance(outcome, Exception):
            raise outcome
        results[missing[number]] = outcome
        context.progress.advance()
    return results


def model_path(context: Context, cycle: int) -> Path:
    """File of the committee of a finished cycle, fitted again to the same labels if the baseline was changed since.

    What is fitted again is scratch: it depends on labels and settings only, and is made anew when it is not there.
    """
    path = context.store.path(cycle, "train")
    identity = "" if context.baseline is None else context.baseline.identity()
    if context.store.read(cycle, "train", TrainRecord).model.baseline_identity == identity:
        return path
    potential = context.settings.potential.model_dump_json()
    name = hashlib.sha256(f"{context.store.checksum(cycle, 'train')}{identity}{potential}".encode()).hexdigest()[:12]
    again = context.store.scratch / f"refit-{cycle:03d}-{name}.h5"
    if not again.exists():
        context.progress.note("the baseline is not that of the newest committee: it is fitted again to the same labels")
        make_folder(again.parent)
        commit_file(again, train(context, cycle), exist_ok=True)
    return again


# --- assess -----------------------------------------------------------------------------------------------------------


def assess(context: Context, cycle: int) -> AssessRecord:
    """Judge the committee by labels it has not seen, and decide whether to go on.

    The errors *before* training are those of the previous cycle's committee on this cycle's new labels; cycle 0 has no
    previous committee, there they are out-of-bag: each structure is judged by the members that did not see it.
    """
    context.progress.begin(f"cycle {cycle} assess", 1)
    labels = context.store.read(cycle, "label", LabelRecord)
    model = _load_model(context.store.path(cycle, "train"), context.baseline)
    judgement = model.judgement
    before = Judged(judgement.energy_rmse, judgement.force_rmse, Reliability(), Reliability())
    sigma_max = math.nan
    with limit_threads(context.settings.executor.threads, "openmp"):  # a baseline's last digits may depend on it
        if cycle:
            before = judged(_load_model(model_path(context, cycle - 1), context.baseline), labels.frames)
            sampled = context.store.read(cycle, "sample", SampleRecord)
            sigma_max = float(sampled.force_sigma_max.max(initial=-math.inf))
        after = judged(model, labels.frames)
    n_labelled = len(labelled_frames(context.store, cycle)[0])
    converged, reason = _converged(context, cycle, sigma_max, n_labelled)
    context.progress.advance()
    return AssessRecord(
        n_labelled=n_labelled,
        n_failed=len(labels.failed_ids),
        energy_rmse=before.energy_rmse,
        force_rmse=before.force_rmse,
        energy_rmse_after=after.energy_rmse,
        force_rmse_after=after.force_rmse,
        alpha_energy=judgement.energy.alpha,
        alpha_force=judgement.force.alpha,
        floor_energy=judgement.energy.floor,
        floor_force=judgement.force.floor,
        energy=judgement.energy.reliability,
        force=judgement.force.reliability,
        new_energy=before.energy,
        new_force=before.force,
        note=judgement.note,
        sigma_max=sigma_max,
        converged=converged,
        reason=reason,
    )


@dataclass(frozen=True, eq=False)
class Judged:
    """Root-mean-square errors of energies (eV/atom) and forces (eV/Å), and how they compare with their sigma."""

    energy_rmse: float
    force_rmse: float
    energy: Reliability
    force: Reliability


def judged(model: Committee, frames: Sequence[Atoms]) -> Judged:
    """Judge a committee by labels; NaN without any. Where its baseline fails there is nothing to judge."""
    found: list[tuple[Array, Array, Array]] = []
    for frame in frames:
        try:
            p = model.predict(frame)
        except CalculatorError:
            continue
        energy = np.array([[p.energy - frame.get_potential_energy()], [p.energy_sigma], [p.energy_spread]])
        force = np.array([p.forces - frame.get_forces(), p.forces_sigma, p.forces_spread]).reshape(3, -1)
        found.append((np.array([len(frame)]), energy, force))
    if not found:
        return Judged(math.nan, math.nan, Reliability(), Reliability())
    n_atoms, energies, forces = (np.concatenate(x, axis=-1) for x in zip(*found, strict=True))
    return Judged(
        energy_rmse=float(np.sqrt(np.mean((energies[0] / n_atoms) ** 2))),
        force_rmse=float(np.sqrt(np.mean(forces[0] ** 2))),
        energy=reliability(*energies),
        force=reliability(*forces),
    )


def _converged(context: Context, cycle: int, sigma_max: float, n_labelled: int) -> tuple[bool, str]:
    """Whether the cycles end here, and why."""
    settings = context.settings.converge
    if settings.force_sigma is not None and cycle >= settings.cycles:
        earlier = [
            context.store.read(k, "assess", AssessRecord).sigma_max for k in range(cycle - settings.cycles + 1, cycle)
        ]
        if all(sigma <= settings.force_sigma for sigma in [*earlier, sigma_max]):
            return True, f"largest sampled force sigma <= {settings.force_sigma:g} eV/Å for {settings.cycles} cycle(s)"
    if cycle >= settings.max_cycles:
        return True, f"converge.max_cycles = {settings.max_cycles} cycles done"
    if settings.max_labels is not None and n_labelled >= settings.max_labels:
        return True, f"converge.max_labels = {settings.max_labels} labels spent"
    return False, f"largest sampled force sigma {sigma_max:.3g} eV/Å" if cycle else "initial structures only"
