"""Production: walkers of one system at one temperature on the committee of a cycle, as long as they are wanted.

A production run is a folder of the run directory, ``production/NAME``: ``begin.h5`` says what it is, and the segments
of its walkers stand beside it. It goes on from where it is, also after a kill, and can always be made longer.
"""

import math
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from ase import Atoms, units
from scipy.special import gammainccinv

from alflow.averages.sources.productions import is_production, read_beginning
from alflow.committee.committee import Committee
from alflow.committee.protocol import Weighting
from alflow.errors import ConfigError, SampleError
from alflow.executors import run_all
from alflow.randomness import generator
from alflow.records.production import ProductionRecord
from alflow.records.sample import SampleRecord
from alflow.sampling.walker import Bounds, Walker
from alflow.state.file import commit_file, make_folder
from alflow.state.store import BEGINNING, STEPS, check_beginning, segment_path
from alflow.steps.context import Context, labelled_frames, largest_force
from alflow.steps.sample import Walk, driver_of, walk
from alflow.steps.train import fit_again, load_model, read_trained, trained_file

T = TypeVar("T")

_ENDLESS = 2**62  # steps: a walk ends with the segments that are asked for
_WALKERS = 4
_MOST_WALKERS = 999
_CHANCE = 1e-12  # that a walker in equilibrium is stopped for its temperature, each step
_ONE_VOLUME = 1e-2  # of the volume of an atom, that structures differ by where it is one and the same
_LOOK = 1.0  # s between two looks at how far walkers are


@dataclass(frozen=True)
class Asked:
    """What is asked for; None: as it began or, of a new run, from ``[sample]``.

    Attributes
    ----------
    steps : int
        Of each walker, in all; rounded up to whole segments.
    name : str
        Of the production run.
    walkers, stride, cycle, seed : int, optional
        Number of walkers (4; driven by members 1 for each), steps between stored frames, whose committee (the newest),
        seed.
    temperature, pressure, timestep, friction, force_sigma_max : float, optional
        K, GPa (constant volume by default), fs, 1/fs, eV/Å (a walker stops above; costs as much as M forces a frame).
    system : str, optional
        Which; needed when there are several.
    drive : "mean" or "members", optional
        What drives walkers: the mean of the committee (or the weighted baseline), or single members, each its own.
    """

    steps: int
    name: str = "run"
    walkers: int | None = None
    temperature: float | None = None
    pressure: float | None = None
    timestep: float | None = None
    stride: int | None = None
    friction: float | None = None
    system: str | None = None
    cycle: int | None = None
    seed: int | None = None
    force_sigma_max: float | None = None
    drive: Literal["mean", "members"] | None = None


def produce(context: Context, asked: Asked) -> Path:
    """Begin a production run, go on with it, or make it longer.

    Returns
    -------
    Path
        Its folder.

    Raises
    ------
    ConfigError
        No committee yet; something that is needed and not given; not what the run was begun with.
    SampleError
        No structure to start from, or one that has no pressure.
    StoreError
        A file of the run is damaged, or its beginning is missing.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", asked.name):
        msg = f"name {asked.name!r} of a production run: expected letters, digits, - and _"
        raise ConfigError(msg)
    for f in fields(asked):
        value = getattr(asked, f.name)
        if isinstance(value, float) and not (math.isfinite(value) and (value > 0 or f.name == "pressure")):
            wanted = "a number" if f.name == "pressure" else "a number > 0"
            msg = f"{f.name} of a production run: expected {wanted}, found {value}"
            raise ConfigError(msg)
    folder = context.store.production(asked.name)
    if is_production(folder):
        record = read_beginning(folder)
        _same(folder, record, asked)
        _same_baseline(folder, record, context)
    else:
        check_beginning(folder)
        record = _begin(context, asked)
    baseline = "" if context.baseline is None else context.baseline.identity()
    if baseline != record.model.baseline_identity:
        msg = (
            f"{folder} was begun on the baseline {record.model.baseline_identity or 'none'}, "
            f"found {baseline or 'none'}: restore it, or choose another --name"
        )
        raise ConfigError(msg)
    if not is_production(folder):
        make_folder(folder)
        commit_file(folder / BEGINNING, record, place={"production": asked.name})
    n_segments = math.ceil(asked.steps / record.segment)
    if n_segments * record.segment != asked.steps:
        context.progress.note(f"{asked.steps} steps are {n_segments * record.segment} in whole segments")
    _run(context, folder, record, n_segments)
    return folder


def _run(context: Context, folder: Path, record: ProductionRecord, n_segments: int) -> None:
    """Do what is missing of the first segments of every walker."""
    walkers = [_walker(record, number) for number in range(len(record.frames))]
    if record.drive == "members":
        context.progress.note(
            f"{record.model.n_members} members drive {len(walkers)} walkers, each of which has to reach equilibrium by "
            "itself; a step costs what one of the mean costs"
        )
    begin = folder / BEGINNING
    tasks = [
        (Walk(w, n_segments, folder, k, begin, context.baseline, record.driver, ProductionRecord),)
        for k, w in enumerate(walkers)
    ]
    context.progress.begin(f"production {record.name}, segments of {record.segment} steps", n_segments * len(tasks))
    with _watched(context, folder, record, n_segments):
        for number, outcome in run_all(context.pool, walk, tasks):
            if isinstance(outcome, Exception):
                raise outcome
            context.progress.note(f"walker {number}: {outcome}")


@contextmanager
def _watched(context: Context, folder: Path, record: ProductionRecord, n_segments: int) -> Iterator[None]:
    """Report segments as their files appear."""
    over = threading.Event()
    done = [0] * len(record.frames)

    def look() -> None:
        last = False
        while not last:
            last = over.wait(_LOOK)
            before = sum(done)
            for walker in range(len(done)):
                while done[walker] < n_segments and segment_path(folder, walker, done[walker], record.driver).exists():
                    done[walker] += 1
            context.progress.advance(sum(done) - before)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _walker(record: ProductionRecord, number: int) -> Walker:
    start = record.frames[number].copy()
    return Walker(
        start=start,
        temperature=record.temperature,
        timestep=record.timestep,
        friction=record.friction,
        steps=_ENDLESS,
        stride=record.stride,
        segment=record.segment,
        bounds=Bounds(record.force_sigma_max, record.force_max, record.temperature_max, record.distance_ratio_min),
        seed=record.seed,
        key=(record.cycle, len(STEPS), zlib.crc32(record.name.encode()), number),
        weighting=record.weighting or None,  # type: ignore[arg-type]
        baseline_error=None if math.isnan(record.baseline_error) else record.baseline_error,
        pressure=None if math.isnan(record.pressure) else record.pressure,
        force_sigma=math.isfinite(record.force_sigma_max),
        member=None if record.drivers is None else record.drivers[number],
    )


def _same(folder: Path, record: ProductionRecord, asked: Asked) -> None:
    """Refuse to go on with other settings than a run was begun with."""
    begun = {f.name: getattr(record, f.name, None) for f in fields(asked)}
    begun["walkers"] = len(record.frames) // (record.model.n_members if record.drivers else 1)
    begun["pressure"] = float(f"{record.pressure / units.GPa:.12g}")
    for f in fields(asked):
        found = getattr(asked, f.name)
        if f.name in {"steps", "name"} or found is None:
            continue
        own = begun[f.name]
        same = math.isclose(found, own) if isinstance(found, float) and isinstance(own, float) else found == own
        if not same:
            was = "none" if isinstance(own, float) and not math.isfinite(own) else own
            msg = f"{folder} was begun with {f.name} {was}, found {found}: leave it out, or choose another --name"
            raise ConfigError(msg)


def _same_baseline(folder: Path, record: ProductionRecord, context: Context) -> None:
    """Refuse another weighting, or s_b, than a run was begun with: before a committee is fitted to another baseline."""
    weighting, error = _weighting(context, record.drive)
    found = weighting or "none", "from the data" if error is None else error
    begun = record.weighting or "none", "from the data" if math.isnan(record.baseline_error) else record.baseline_error
    for name, own, now in zip(("weighting", "error"), begun, found, strict=True):
        if own != now:
            msg = f"{folder} was begun with baseline {name} {own}, found {now}: restore it, or choose another --name"
            raise ConfigError(msg)


def _weighting(context: Context, drive: str) -> tuple[Weighting | None, float | None]:
    """How the baseline is weighted, and its s_b, eV: a single member has no spread to be weighted by."""
    baseline = context.settings.baseline
    if baseline is None:
        return None, None
    return ("none", None) if drive == "members" else (baseline.weighting, baseline.error)


def _begin(context: Context, asked: Asked) -> ProductionRecord:
    """Everything about a new production run."""
    settings, sample = context.settings, context.settings.sample
    cycle = _cycle(context, asked.cycle)
    fit_again(context, cycle)
    path = trained_file(context, cycle)
    model = read_trained(path).model
    system = _one(asked.system, [s.name for s in settings.system], "system")
    temperature = _one(asked.temperature, list(dict.fromkeys(sample.temperature)), "temperature")
    seed = settings.seed if asked.seed is None else asked.seed
    stride = asked.stride or sample.stride
    drive = asked.drive or "mean"
    n_walkers = asked.walkers or _WALKERS if drive == "mean" else (asked.walkers or 1) * model.n_members
    if n_walkers > _MOST_WALKERS:
        msg = f"{n_walkers} walkers, {asked.walkers} for each of {model.n_members} members: expected at most 999 in all"
        raise ConfigError(msg)
    starts = _starts(context, cycle, system, temperature, n_walkers, asked.name, seed)
    weighting, error = _weighting(context, drive)
    if asked.pressure is not None:
        committee = load_model(path, context.baseline)
        _check_pressure(committee, starts)
        _warn_of_one_volume(context, committee, starts[0])
    return ProductionRecord(
        frames=tuple(starts),
        system=system,
        temperature=temperature,
        pressure=math.nan if asked.pressure is None else asked.pressure * units.GPa,
        timestep=asked.timestep or sample.timestep,
        friction=asked.friction or sample.friction,
        stride=stride,
        segment=stride * _strides(math.ceil(asked.steps / stride), max(1, sample.checkpoint // stride)),
        seed=seed,
        name=asked.name,
        cycle=cycle,
        driver=driver_of(path, context.baseline, weighting, error),
        weighting=weighting or "",
        baseline_error=error or math.nan,
        force_max=sample.force_max,
        temperature_max=max(sample.temperature_factor_max, _hottest(len(starts[0]))) * temperature,
        distance_ratio_min=sample.distance_ratio_min,
        force_sigma_max=asked.force_sigma_max or math.inf,
        note=model.judgement.energy.note,
        model=model,
        drive=drive,
    )


def _strides(wanted: int, most: int) -> int:
    """Strides in a segment: as many as a checkpoint has or, where that gives just the steps wanted, some fewer."""
    if wanted <= most:
        return wanted
    return next((n for n in range(most, most // 2, -1) if wanted % n == 0), most)


def _hottest(n_atoms: int) -> float:
    """What the instantaneous temperature, over its mean, does not exceed by chance: a few atoms are often very hot."""
    return 2 * float(gammainccinv(1.5 * n_atoms, _CHANCE)) / (3 * n_atoms)


def _cycle(context: Context, asked: int | None) -> int:
    """The cycle whose committee is to drive the run."""
    trained = [k for k in context.store.cycles() if context.store.exists(k, "train")]
    if not trained:
        msg = f"{context.store.directory} has no committee yet: run `alflow iterate` first"
        raise ConfigError(msg)
    if asked is not None and asked not in trained:
        msg = f"cycle {asked} has no committee: expected one of 0 to {trained[-1]}"
        raise ConfigError(msg)
    return trained[-1] if asked is None else asked


def _one(asked: T | None, known: list[T], what: str) -> T:
    """What is asked for, or the only one there is; a temperature may be any."""
    there = ", ".join(f"{value}" for value in known)
    if asked is None and len(known) > 1:
        msg = f"which {what}? alflow.toml has {there}: choose with --{what}"
        raise ConfigError(msg)
    if asked is not None and what == "system" and asked not in known:
        msg = f"unknown system {asked}: expected one of {there}"
        raise ConfigError(msg)
    return known[0] if asked is None else asked


def _starts(
    context: Context, cycle: int, system: str, temperature: float, n_walkers: int, name: str, seed: int
) -> list[Atoms]:
    """A start for each walker: sampled frames of the cycle, of the later half of walks, or labelled ones."""
    frames = _sampled(context, cycle, system, temperature)
    if not frames:
        limit = context.settings.sample.force_max
        labelled = [f for f in labelled_frames(context.store, cycle)[1] if f.info.get("system") == system]
        frames = [f for f in labelled if largest_force(f) <= limit]
    if not frames:
        msg = f"system {system}: no structure to start from in cycle {cycle}: run another cycle"
        raise SampleError(msg)
    starts = []
    for number in range(n_walkers):
        key = (cycle, len(STEPS), zlib.crc32(name.encode()), number)
        rng = generator(seed, *key)
        bare = frames[int(rng.integers(len(frames)))].copy()
        bare.calc = None
        starts.append(bare)
    return starts


def _sampled(context: Context, cycle: int, system: str, temperature: float) -> list[Atoms]:
    """Frames of the later half of finished walks at the temperature that is nearest."""
    if not cycle:
        return []
    record = context.store.read(cycle, "sample", SampleRecord)
    done = [w for w, stop in enumerate(record.walker_stop) if stop == "finished"]
    mine = [
        k
        for k, w in enumerate(record.walker)
        if w in done and record.frames[k].info.get("system") == system and 2 * record.time[k] >= _end(record, int(w))
    ]
    if not mine:
        return []
    kelvin = np.array([ensemble.temperature for ensemble in record.ensembles])
    away = np.abs(kelvin[record.walker[mine]] - temperature)
    return [record.frames[k] for k, distance in zip(mine, away, strict=True) if distance == away.min()]


def _end(record: SampleRecord, walker: int) -> float:
    return float(record.time[record.walker == walker].max())


def _check_pressure(committee: Committee, starts: list[Atoms]) -> None:
    """Constant pressure needs a cell, and a stress of all that drives it."""
    if not all(start.pbc.all() for start in starts):
        msg = "constant pressure needs structures that are periodic in three directions: leave out --pressure"
        raise SampleError(msg)
    if any(start.constraints for start in starts):
        msg = "constant pressure needs structures without constraints, which a changing cell would break: leave out one"
        raise SampleError(msg)
    # Calculated, not asked for: what calculators declare and what they give are two things.
    if committee.drive(starts[0], "none").stress is None:
        whose = "members" if committee.model.backward(np.ones(committee.n_members)).stress is None else "the baseline"
        msg = f"constant pressure needs a stress, of which there is none from {whose}: leave out --pressure"
        raise SampleError(msg)


def _warn_of_one_volume(context: Context, committee: Committee, start: Atoms) -> None:
    """Say so where no label tells what a pressure does to the volume of such a structure."""
    if context.settings.potential.kind == "calculators":  # labels only judge these
        return
    formula = start.get_chemical_formula(empirical=True)
    volumes = [
        frame.get_volume() / len(frame)
        for frame in committee.training.frames
        if frame.pbc.all() and frame.get_chemical_formula(empirical=True) == formula
    ]
    if volumes and max(volumes) < (1.0 + _ONE_VOLUME) * min(volumes):
        but = ", and no stress was learned" if np.isnan(committee.judgement.stress_rmse) else ""
        context.progress.note(
            f"warning: all {formula} of the training set have {np.mean(volumes):.4g} Å^3 per atom{but}: the density "
            "at a pressure is an extrapolation, add strained structures"
        )
