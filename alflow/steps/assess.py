"""Assess: how good the committee of a cycle is, how far its sigma can be trusted, and whether to go on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.averages.measuring import average
from alflow.averages.observables.base import Observable
from alflow.averages.observables.functions import user_functions
from alflow.averages.observables.parsing import parse
from alflow.averages.sources.samples import groups
from alflow.averages.sources.samples import sampled as sampled_source
from alflow.committee.calibration import reliability
from alflow.committee.committee import Committee
from alflow.committee.reliability import Reliability
from alflow.config import Converge, Settings
from alflow.errors import AverageError, PotentialError
from alflow.executors import limit_threads
from alflow.records.assess import Assessment, AssessRecord
from alflow.records.label import LabelRecord
from alflow.records.sample import SampleRecord
from alflow.records.select import SelectRecord
from alflow.steps.context import Context, labelled_frames
from alflow.steps.train import load_model, read_trained, trained_file

Array = NDArray[np.float64]


def assess(context: Context, cycle: int) -> AssessRecord:
    """Judge the committee by labels it has not seen, and decide whether to go on.

    The errors *before* training are those of the previous cycle's committee on this cycle's new labels; cycle 0 has no
    previous committee, there they are out-of-bag: each structure is judged by the members that did not see it.
    """
    context.progress.begin(f"cycle {cycle} assess", 1)
    labels = context.store.read(cycle, "label", LabelRecord)
    path = trained_file(context, cycle)
    model, left_out = load_model(path, context.baseline), read_trained(path).left_out
    judgement = model.judgement
    before = Judged(judgement.energy_rmse, judgement.force_rmse, judgement.stress_rmse)
    earlier = context.store.read(cycle - 1, "assess", AssessRecord).cycles if cycle else ()
    largest, observed = math.nan, Observed(context.settings.converge.observable or "")
    selected: SelectRecord | None = None
    with limit_threads(context.settings.executor.threads, "openmp"):  # a baseline's last digits may depend on it
        if cycle:
            before = judged(load_model(trained_file(context, cycle - 1), context.baseline), labels.frames)
            sampled = context.store.read(cycle, "sample", SampleRecord)
            largest = float(sampled.largest_force_sigma.max()) if sampled.frames else math.nan
            observed = observe(context, sampled)
            selected = context.store.read(cycle, "select", SelectRecord)
        after = judged(model, labels.frames)
    n_labelled = len(labelled_frames(context.store, cycle)[0])
    n_new, n_failed = len(labels.ids), len(labels.gave_up)
    verdict = _verdict(context.settings, earlier, largest, observed, selected, n_new, n_labelled)
    reason, target = verdict.reason, context.settings.converge.force_sigma
    if not verdict.ends and target is not None and judgement.force.floor > target:
        reason += f"; it cannot fall below its floor of {judgement.force.floor:.3g}, converge.force_sigma is {target:g}"
    context.progress.advance()
    now = Assessment(
        cycle=cycle,
        n_selected=len(selected.ids) if selected else n_new + n_failed,
        n_new=n_new,
        n_failed=n_failed,
        n_labelled=n_labelled,
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
        note="; ".join(part for part in (judgement.note, left_out) if part),
        largest_force_sigma=largest,
        observable=observed.observable,
        observable_error=observed.error,
        observable_noise=observed.noise,
        observable_note=observed.note,
        converged=verdict.ends,
        reason=reason,
        stress_rmse=before.stress_rmse,
        stress_rmse_after=after.stress_rmse,
        alpha_stress=judgement.stress.alpha,
        floor_stress=judgement.stress.floor,
        stress=judgement.stress.reliability,
        new_stress=before.stress,
        reached=verdict.reached,
    )
    return AssessRecord((*earlier, now))


@dataclass(frozen=True)
class Observed:
    """Model error of the observable of ``[converge]``, as in :class:`alflow.records.assess.Assessment`."""

    observable: str
    error: float = math.nan
    noise: float = math.nan
    note: str = ""


def wanted(settings: Settings, directory: Path) -> Observable | None:
    """The observable of ``[converge]``, if there is one; functions of the user's are looked for in ``directory``.

    Raises
    ------
    ObservableError, ConfigError
        It is not known, or its function cannot be imported.
    """
    text = settings.converge.observable
    if text is None:
        return None
    return parse(text, user_functions(settings.observable, directory), settings.kinds.observables)


def observe(context: Context, sampled: SampleRecord) -> Observed:
    """The largest model error of the observable over the frames of a cycle, of all systems and temperatures."""
    observable = wanted(context.settings, context.store.directory)
    if observable is None:
        return Observed("")
    text = observable.text
    found: list[Observed] = []
    for system, temperature in groups(sampled):
        source = sampled_source(sampled, "the cycle's sample", temperature, system)
        try:
            result = average(source, [observable])
        except AverageError as error:
            return Observed(text, note=str(error))
        one = result.averages[0]
        if not np.any(one.model > 0):
            return Observed(text, note=f"{system} at {temperature:g} K: constant or undefined in all frames")
        k = int(np.nanargmax(one.model))
        place = "" if observable.grid is None else f"{observable.grid_name} = {observable.grid[k]:.3g}, "
        note = "; ".join([f"{place}{system} at {temperature:g} K, {result.method}", *result.notes])
        found.append(Observed(text, float(one.model[k]), float(one.model_noise[k]), note))
    return max(found, key=lambda one: one.error)


@dataclass(frozen=True, eq=False)
class Judged:
    """Root-mean-square errors of energies (eV/atom), forces (eV/Å) and stresses (eV/Å^3), and how sigma compares."""

    energy_rmse: float = math.nan
    force_rmse: float = math.nan
    stress_rmse: float = math.nan
    energy: Reliability = field(default_factory=Reliability)
    force: Reliability = field(default_factory=Reliability)
    stress: Reliability = field(default_factory=Reliability)


def judged(model: Committee, frames: Sequence[Atoms]) -> Judged:
    """Judge a committee by labels; NaN without any. Where its baseline fails there is nothing to judge."""
    found: list[tuple[Array, Array, Array, Array]] = []
    rmse: list[Array] = []
    for frame in frames:
        try:
            p = model.predict(frame)
        except PotentialError:
            continue
        energy = np.array([[p.energy - frame.get_potential_energy(apply_constraint=False)], [p.energy_sigma]])
        force = np.array(
            [p.forces - frame.get_forces(apply_constraint=False), p.forces_sigma, p.forces_spread]
        ).reshape(3, -1)
        label, stress = frame.calc.results.get("stress"), np.zeros((3, 0))
        if label is not None and p.stress is not None and p.stress_sigma is not None:
            error = p.stress + model.stress_offset(frame) - label
            size = np.sqrt(len(frame)) / frame.get_volume()  # judged as virials, as in the judgement of the members
            stress = np.array([error, p.stress_sigma, p.stress_spread]) / size
            rmse.append(error)
        found.append((np.array([len(frame)]), energy, force, stress))
    if not found:
        return Judged()
    n_atoms, energies, forces, stresses = (np.concatenate(x, axis=-1) for x in zip(*found, strict=True))
    return Judged(
        energy_rmse=float(np.sqrt(np.mean((energies[0] / n_atoms) ** 2))),
        force_rmse=float(np.sqrt(np.mean(forces[0] ** 2))),
        stress_rmse=float(np.sqrt(np.mean(np.square(rmse)))) if rmse else math.nan,
        energy=reliability(*energies),
        force=reliability(*forces),
        stress=reliability(*stresses),
    )


@dataclass(frozen=True)
class _Verdict:
    """Whether the cycles end here, whether because what ``[converge]`` asks for is reached, and why or why not."""

    ends: bool
    reached: bool
    reason: str


def _verdict(
    settings: Settings,
    history: Sequence[Assessment],
    largest: float,
    observed: Observed,
    selected: SelectRecord | None,
    n_new: int,
    n_labelled: int,
) -> _Verdict:
    """Whether the cycles end here, and why.

    ``largest`` is the largest sampled sigma of a force; ``selected`` None in cycle 0.
    """
    limits, cycle = settings.converge, len(history)
    n_unseen = selected.n_unseen if selected else 0
    # Where members agree on what none of them knows, sigma is small, and says nothing of it.
    n_unlike = int(np.sum(selected.largest_grade >= settings.select.grade_min)) if selected else 0
    if not n_unseen + n_unlike and (what := _reached(limits, history, largest, observed)):
        return _Verdict(ends=True, reached=True, reason=f"{what} for {limits.cycles} cycle(s)")
    now = "initial structures only"
    if selected:
        now = f"largest sampled force sigma {largest:.3g} eV/Å"
        now += "" if not observed.observable else f", model error of {observed.observable} {observed.error:.3g}"
        now += f", {n_unseen} candidates of species that the committee did not know" if n_unseen else ""
        now += f", {n_unlike} selected frames unlike all labels" if n_unlike else ""
        # Frames far above every bound, and none of them selected: whoever waits for labels has to know why.
        now += "" if selected.ids else f"; {selected.summary}"
    ended = ""
    if cycle >= limits.max_cycles:
        ended = f"converge.max_cycles = {limits.max_cycles} cycles done"
    elif limits.max_labels is not None and n_labelled >= limits.max_labels:
        ended = f"converge.max_labels = {limits.max_labels} labels spent"
    elif selected and not selected.ids and not n_new and settings.sample.candidates is not None:
        # The same committee, of the same labels, would say the same of the same candidates, cycle after cycle.
        ended = f"nothing in {settings.sample.candidates} is left to be labelled"
    return _Verdict(ends=bool(ended), reached=False, reason=f"{ended}; {now}" if ended and selected else ended or now)


def _reached(settings: Converge, history: Sequence[Assessment], largest: float, observed: Observed) -> str:
    """What ``[converge]`` asks for, if the last cycles have it; empty if not."""
    if len(history) < settings.cycles:
        return ""
    earlier = history[len(history) - settings.cycles + 1 :]
    reached = []
    if settings.force_sigma is not None:
        sigmas = [*(one.largest_force_sigma for one in earlier), largest]
        reached.append((sigmas, settings.force_sigma, "largest sampled force sigma", " eV/Å"))
    if settings.tolerance is not None:
        errors = [one.observable_error if one.observable == settings.observable else math.nan for one in earlier]
        reached.append(([*errors, observed.error], settings.tolerance, f"model error of {settings.observable}", ""))
    if reached and all(value <= limit for values, limit, _, _ in reached for value in values):
        return " and ".join(f"{name} <= {limit:g}{unit}" for _, limit, name, unit in reached)
    return ""
