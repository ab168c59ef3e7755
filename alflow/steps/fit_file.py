"""Fit: a committee for the structures of a file, outside any run."""

import json
import math
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alflow import config
from alflow.committee.committee import Committee
from alflow.committee.kinds import Weighs
from alflow.data.names import Names
from alflow.data.reading import AS_IT_IS, read_labelled
from alflow.errors import ConfigError, warnings_told
from alflow.executors.opening import open_reference
from alflow.models.ace.potential import AcePotential
from alflow.models.fitting import fit
from alflow.models.settings import AnyPotential, Workshop
from alflow.progress import Progress, Watched
from alflow.reference.method import BaselineMethod
from alflow.state.file import make_folder
from alflow.state.store import Store
from alflow.steps.contents import by_place, contents, line


@dataclass(frozen=True)
class Asked:
    """What is asked for; None: as the settings have it or, without any, the default.

    Attributes
    ----------
    settings : Path, optional
        An alflow.toml, of which ``seed``, ``[potential]``, ``[baseline]`` and ``[executor]`` count.
    baseline : Path, optional
        A file with a ``[baseline]``.
    members, seed, cutoff, features, energy_weight : int, int, float, int, float, optional
        In the place of those of the settings; Å.
    weights : tuple of str
        Of kinds of structures, KIND=NUMBER each, beside those of the settings or in their place.
    names : Names
        What is said of the file.
    """

    settings: Path | None = None
    baseline: Path | None = None
    members: int | None = None
    seed: int | None = None
    cutoff: float | None = None
    features: int | None = None
    energy_weight: float | None = None
    weights: tuple[str, ...] = ()
    names: Names = AS_IT_IS


def fit_file(data: Path, output: Path, asked: Asked, progress: Progress, *, closely: bool = False) -> Committee:
    """Fit a committee to labelled structures and write it.

    What a training program has finished is kept beside the output until that is written: the same command goes on.
    Watched ``closely``, a model says how far its fit is, which takes seconds or minutes.

    Raises
    ------
    ConfigError
        Settings that are not allowed, or that the kind of potential does not have.
    AlflowError
        As of :func:`alflow.models.fitting.fit`.
    """
    settings = None if asked.settings is None else config.load_parts(asked.settings)
    directory = Path() if asked.settings is None else asked.settings.parent
    potential = _changed(AcePotential() if settings is None else settings.potential, asked)
    labels = read_labelled(data, asked.names, progress)
    for remark in [line(contents(labels)), *labels.remarks()]:
        progress.note(remark)
    baseline = _baseline(settings, asked, directory)
    options: dict[str, Any] = {}
    if baseline is not None:
        options = {"baseline": baseline.calculator(), "baseline_identity": baseline.identity()}
    models = output.absolute().parent / f"{output.name}.models"
    executor = config.Local() if settings is None else settings.executor
    workshop = Workshop(
        directory=directory,
        models=models,
        scratch=models / "work",
        open_executor=lambda changes: open_reference(executor.changed(changes), directory, _purpose(output, changes)),
        progress=progress,
        retry=True,
        remedy="correct [potential], or remove the cause, and give the same command again",
    )
    seed = asked.seed if asked.seed is not None else 0 if settings is None else settings.seed
    with _alone(models), warnings_told(lambda text: progress.note(by_place(text, labels.places))):
        model = potential.unfitted(workshop)
        if closely and isinstance(model, Watched):
            model.progress = progress
        committee = fit(labels.frames, kind=model, seed=seed, **options)
        committee.save(output)
        shutil.rmtree(models, ignore_errors=True)
    for note in (committee.judgement.note, *committee.remarks):
        if note:
            progress.note(note)
    return committee


@contextmanager
def _alone(models: Path) -> Iterator[None]:
    """Be the only one who trains members for an output; LockedError if there is another.

    The folder goes where nothing was kept in it, whatever ended this.
    """
    make_folder(models)
    with Store(models).lock():
        try:
            yield
        finally:
            if all(path.name.startswith(".") for path in models.glob("*")):
                shutil.rmtree(models, ignore_errors=True)


def _purpose(output: Path, changes: Mapping[str, Any]) -> str:
    """Part of the names of jobs: those of one output, with the same resources, and of no run."""
    text = json.dumps([str(output.absolute()), changes], sort_keys=True)
    return f"-fit-{zlib.crc32(text.encode()):08x}"


def _changed(potential: AnyPotential, asked: Asked) -> AnyPotential:
    """With what was asked for instead; ConfigError if the kind has no such key, or not this value."""
    changes = {
        "n_members": asked.members,
        "cutoff": asked.cutoff,
        "n_features": asked.features,
        "energy_weight": asked.energy_weight,
    }
    wanted = {key: value for key, value in changes.items() if value is not None}
    for key in [*wanted, *(["weights"] if asked.weights else [])]:
        if key not in type(potential).model_fields:
            msg = f"[potential] of kind {potential.kind!r} has no {key}: leave it out"
            raise ConfigError(msg)
    changed = potential.model_copy(update=wanted)
    if asked.weights and isinstance(changed, Weighs):
        weights = dict(changed.weights) | dict(_weight(text) for text in asked.weights)
        changed = changed.model_copy(update={"weights": weights})
    return changed


def _weight(text: str) -> tuple[str, float]:
    """A kind and its weight."""
    kind, _, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = 0.0
    if not (kind and 0 < weight < math.inf):
        msg = f"weight: expected KIND=NUMBER with a number > 0, found {text!r}"
        raise ConfigError(msg)
    return kind, weight


def _baseline(settings: config.Settings | None, asked: Asked, directory: Path) -> BaselineMethod | None:
    if asked.baseline is not None:
        return config.load_baseline(asked.baseline).at(asked.baseline.parent)
    return None if settings is None or settings.baseline is None else settings.baseline.at(directory)
