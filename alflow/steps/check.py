"""What `alflow check` looks at: is everything there that a run needs, and is its state sound."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow import config
from alflow.averages.observables.base import Frame
from alflow.errors import AlflowError, ConfigError, StoreError
from alflow.executors.opening import open_reference
from alflow.models.independent import IndependentMembers
from alflow.models.settings import Workshop
from alflow.models.trained import keeping
from alflow.models.trained.potential import TrainedPotential
from alflow.models.trained.training import check_trainer
from alflow.progress import Silent
from alflow.records.assess import AssessRecord
from alflow.records.label import LabelRecord
from alflow.records.production import ProductionRecord
from alflow.records.sample import SampleRecord, Segment
from alflow.records.select import SelectRecord
from alflow.records.train import TrainRecord
from alflow.reference.codes.dataset import DatasetMethod
from alflow.reference.codes.manual import ManualMethod
from alflow.reference.consistency import Limits
from alflow.reference.dispatch import try_one
from alflow.reference.method import BaselineMethod, MethodSection, Result, evaluate
from alflow.state.store import Store
from alflow.steps.assess import wanted
from alflow.steps.contents import contents, line
from alflow.steps.context import asked_for
from alflow.steps.initial import check_states, check_told, initial_structures
from alflow.steps.label import check_method
from alflow.steps.sample import candidate_frames
from alflow.structures import structure_id
from alflow.workers.calculator import ServedCalculator
from alflow.workers.interpreters import default_threads
from alflow.workers.recipe import Recipe
from alflow.workers.trial import Calculate, tried

_OF_REFERENCES = 10.0  # lenience with grids and k-points


def run(directory: Path, *, reference: bool = False) -> Iterator[tuple[str, AlflowError | None]]:
    """Check one thing after the other; what was checked, and the error (with its remedy) if it is wrong.

    Later checks that need what an earlier one found wrong are left out. Members that are calculators, and the baseline,
    are tried on one structure (:mod:`alflow.workers.trial`); with ``reference`` the reference is too, some fifteen
    calculations instead of one.
    """
    try:
        settings = config.load(directory)
    except AlflowError as error:
        yield "settings", error
        return
    yield "settings", None
    try:
        told: list[str] = []
        frames = initial_structures(settings, directory, told.append)
    except AlflowError as error:
        yield "initial structures", error
    else:
        yield f"initial structures: {len(frames)}{''.join(f'; {line}' for line in told)}", None
        structures = list(frames)
        yield from _candidates(settings, directory, structures)
        yield "charge and multiplicity", _same_states(structures)
        yield _reference(settings, directory, structures, tries=reference)
        yield from _labelled(settings, directory)
        yield from _labels(settings.reference, directory)
        if settings.baseline is not None:
            yield _baseline(settings.baseline.at(directory), structures)
        yield from _members(settings, directory, frames[0])
        if settings.converge.observable is not None:
            yield _measured(settings, directory, frames)
    wrong = problems(directory)
    for problem in wrong:
        yield "state", StoreError(problem)
    if not wrong:
        yield "state", None


def _labelled(settings: config.Settings, directory: Path) -> Iterator[tuple[str, AlflowError | None]]:
    """What the settings of now make of a run that has begun."""
    store = Store(directory)
    last = store.last("label")
    if last < 0:
        return
    try:
        method = settings.reference.at(directory)
        check_method(store, method)
        known, begun = asked_for(store, last)
        if not begun & {system.name for system in settings.system}:
            msg = f"no system of alflow.toml has any, they are of {', '.join(sorted(begun))}: keep one of these"
            raise ConfigError(msg)
        frames = initial_structures(settings, directory, begun=begun)
        new = Counter(frame.info["system"] for frame in frames if structure_id(frame, method.identity()) not in known)
    except StoreError:  # told of the state
        return
    except AlflowError as error:
        yield "calculations so far", error
        return
    grown = [f"{count} initial structures of system {name} are new, for the next cycle" for name, count in new.items()]
    yield "; ".join([f"calculations so far: {len(known)}", *grown]), None


def _labels(section: MethodSection, directory: Path) -> Iterator[tuple[str, AlflowError | None]]:
    """What a file of labels holds, and how it is read."""
    if isinstance(section, DatasetMethod):
        try:
            labels = section.at(directory).labels()
            for said in [line(contents(labels)), *labels.remarks()]:
                yield said, None
        except AlflowError:  # told of the reference
            return


def _measured(settings: config.Settings, directory: Path, frames: list[Atoms]) -> tuple[str, AlflowError | None]:
    """Measure the observable of [converge] on every initial structure."""
    name = "observable"
    try:
        observable = wanted(settings, directory)
        for atoms in frames:
            atoms.set_momenta(np.zeros((len(atoms), 3)))  # walkers have some
            if observable is not None:
                observable.parts(Frame(atoms, np.zeros(2), settings.sample.temperature[0], None))
    except AlflowError as error:
        return name, error
    return name, None


def _candidates(
    settings: config.Settings, directory: Path, structures: list[Atoms]
) -> Iterator[tuple[str, AlflowError | None]]:
    """Read the file of candidates, if there is one, and add them to the structures that may be calculated."""
    if settings.sample.candidates is None:
        return
    try:
        told: list[str] = []
        candidates = candidate_frames(settings, directory, settings.sample.candidates, told.append)
    except AlflowError as error:
        yield "candidates", error
        return
    structures += candidates
    yield f"candidates: {len(candidates)}{''.join(f'; {line}' for line in told)}", None


def _same_states(frames: Sequence[Atoms]) -> AlflowError | None:
    """ConfigError for a composition with two charges or multiplicities."""
    try:
        check_states(frames)
    except ConfigError as error:
        return error
    return None


def _reference(
    settings: config.Settings, directory: Path, frames: Sequence[Atoms], *, tries: bool
) -> tuple[str, AlflowError | None]:
    """Calculate the first structure where all would be calculated; with ``tries``, some more."""
    atoms = frames[0]
    name = f"reference on {atoms.get_chemical_formula()}"
    try:
        method = settings.reference.at(directory)
        name = f"reference {method.code()} on {atoms.get_chemical_formula()}"
        method.check()
        check_told(method, frames, "reference")
        if isinstance(method, ManualMethod):
            return f"{name}: by hand", None
        limits = Limits(settings.failures.net_force_max)
        folder = Store(directory).calculation_folder("check").absolute()
        with open_reference(settings.executor, directory, "-check") as executor:
            result, seconds = executor.submit(try_one, atoms, method, limits, folder).result()
            if tries:

                def calculate(frame: Atoms) -> Said:
                    return _said(executor.submit(try_one, frame, method, Limits(), folder).result()[0])

                # Grids and k-points change with place and cell: that is told, and only much of it is wrong.
                return _tried(name, calculate, atoms, lenience=_OF_REFERENCES)
    except AlflowError as error:
        return name, error
    energy, forces = result.frame.calc.results["energy"], result.frame.calc.results["forces"]
    net = np.linalg.norm(forces.sum(axis=0))
    stress = ", stress" if "stress" in result.frame.calc.results else ""
    found = f"{energy:.6f} eV, forces up to {np.abs(forces).max():.3g} eV/Å with a sum of {net:.1e}{stress}"
    return f"reference {result.code} on {atoms.get_chemical_formula()}: {found}, {seconds:.3g} s", None


def _baseline(method: BaselineMethod, frames: Sequence[Atoms]) -> tuple[str, AlflowError | None]:
    """Try the baseline on the first structure."""
    atoms = frames[0]
    name = f"baseline {method.code()} on {atoms.get_chemical_formula()}"
    try:
        check_told(method, frames, "baseline")
    except ConfigError as error:
        return name, error
    return _tried(name, lambda frame: _said(method.calculate(frame)), atoms)


Said = tuple[float, NDArray[np.float64], NDArray[np.float64] | None]
"""Energy (eV), forces (eV/Å), and stress (eV/Å^3) or None."""


def _said(result: Result) -> Said:
    results = result.frame.calc.results
    return float(results["energy"]), np.array(results["forces"]), results.get("stress")


def _tried(name: str, calculate: Calculate, atoms: Atoms, lenience: float = 1.0) -> tuple[str, AlflowError | None]:
    """What was found of a calculator, and what is wrong with it."""
    try:
        trial = tried(calculate, atoms)
    except AlflowError as error:
        return name, error
    wrong = trial.problems(lenience)
    return f"{name}: {trial.text}", ConfigError("; ".join(wrong)) if wrong else None


def _members(settings: config.Settings, directory: Path, atoms: Atoms) -> Iterator[tuple[str, AlflowError | None]]:
    """Try each member that is a calculator; of members that are still to be trained, look at what trains them."""
    try:
        model = _independent(settings, directory)
        if model is None:
            return
        recipes = model.recipes()
        if isinstance(settings.potential, TrainedPotential):
            yield "training", _trainer(settings.potential, directory)
    except AlflowError as error:
        yield "members", error
        return
    for number, recipe in enumerate(recipes):
        yield _member(f"member {number} {recipe.name} on {atoms.get_chemical_formula()}", recipe, atoms)
    if recipes:
        began = time.perf_counter()
        with suppress(AlflowError):  # told of the member that is to blame
            model.say([atoms])
            seconds = time.perf_counter() - began
            yield f"committee: {len(recipes)} members share nothing, a structure takes {seconds:.2g} s", None


def _independent(settings: config.Settings, directory: Path) -> IndependentMembers | None:
    """The members that are there: of the settings, or of the newest cycle."""
    if isinstance(settings.potential, TrainedPotential):
        store = Store(directory)
        last = store.last("train")
        if last >= 0:
            found = store.read(last, "train", TrainRecord).model.model
            return found if isinstance(found, IndependentMembers) else None
    model = settings.potential.unfitted(_nowhere(directory))
    return model if isinstance(model, IndependentMembers) else None


def _nowhere(directory: Path) -> Workshop:
    """Where nothing is trained."""
    store = Store(directory)
    return Workshop(directory, store.models, store.scratch, lambda _: nullcontext(), Silent())  # type: ignore[arg-type,return-value]


def _trainer(section: TrainedPotential, directory: Path) -> AlflowError | None:
    """ConfigError if there is no program, or no calculator for what it leaves."""
    try:
        check_trainer(section, directory)
    except ConfigError as error:
        return error
    return None


def _member(name: str, recipe: Recipe, atoms: Atoms) -> tuple[str, AlflowError | None]:
    """Try one calculator."""
    calculator = ServedCalculator(recipe, default_threads())
    return _tried(name, lambda frame: _said(evaluate(frame, calculator, recipe.name)), atoms)


def problems(directory: Path) -> list[str]:
    """What is wrong with the files of a run, one line each; nothing when all of them can be read and verified."""
    steps = {
        "sample": SampleRecord,
        "select": SelectRecord,
        "label": LabelRecord,
        "train": TrainRecord,
        "assess": AssessRecord,
    }
    try:
        found = Store(directory).verify(steps, LabelRecord, Segment, ProductionRecord)
    except AlflowError as error:
        return [str(error)]
    for folder in keeping.members(Store(directory).models):
        try:
            keeping.check_member(folder)
        except StoreError as error:
            found.append(str(error))
    return found
