"""What `alflow check` looks at: is everything there that a run needs, and is its state sound."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms

from alflow import config
from alflow.averages.observables.base import Frame
from alflow.errors import AlflowError, ConfigError, LabelError, StoreError
from alflow.executors.opening import open_reference
from alflow.records.assess import AssessRecord
from alflow.records.label import LabelRecord
from alflow.records.production import ProductionRecord
from alflow.records.sample import SampleRecord, Segment
from alflow.records.select import SelectRecord
from alflow.records.train import TrainRecord
from alflow.reference.codes.manual import ManualMethod
from alflow.reference.consistency import Limits
from alflow.reference.dispatch import try_one
from alflow.reference.method import BaselineMethod
from alflow.state.store import Store
from alflow.steps.assess import wanted
from alflow.steps.initial import initial_structures


def run(directory: Path) -> Iterator[tuple[str, AlflowError | None]]:
    """Check one thing after the other; what was checked, and the error (with its remedy) if it is wrong.

    Later checks that need what an earlier one found wrong are left out.
    """
    try:
        settings = config.load(directory)
    except AlflowError as error:
        yield "settings", error
        return
    yield "settings", None
    try:
        frames = initial_structures(settings, directory)
    except AlflowError as error:
        yield "initial structures", error
    else:
        yield f"initial structures: {len(frames)}", None
        yield _reference(settings, directory, frames[0])
        if settings.baseline is not None:
            yield _baseline(settings.baseline.at(directory), frames[0])
        if settings.converge.observable is not None:
            yield _measured(settings, directory, frames)
    wrong = problems(directory)
    for problem in wrong:
        yield "state", StoreError(problem)
    if not wrong:
        yield "state", None


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


def _reference(settings: config.Settings, directory: Path, atoms: Atoms) -> tuple[str, AlflowError | None]:
    """Calculate one structure where all would be calculated."""
    name = f"reference on {atoms.get_chemical_formula()}"
    try:
        method = settings.reference.at(directory)
        name = f"reference {method.code()} on {atoms.get_chemical_formula()}"
        method.check()
        if isinstance(method, ManualMethod):
            return f"{name}: by hand", None
        limits = Limits(settings.failures.net_force_max)
        folder = Store(directory).calculation_folder("check").absolute()
        with open_reference(settings.executor, directory, "-check") as executor:
            result, seconds = executor.submit(try_one, atoms, method, limits, folder).result()
    except AlflowError as error:
        return name, error
    energy, forces = result.frame.calc.results["energy"], result.frame.calc.results["forces"]
    net = np.linalg.norm(forces.sum(axis=0))
    stress = ", stress" if "stress" in result.frame.calc.results else ""
    found = f"{energy:.6f} eV, forces up to {np.abs(forces).max():.3g} eV/Å with a sum of {net:.1e}{stress}"
    return f"reference {result.code} on {atoms.get_chemical_formula()}: {found}, {seconds:.3g} s", None


def _baseline(method: BaselineMethod, atoms: Atoms) -> tuple[str, AlflowError | None]:
    """Calculate one structure."""
    name = f"baseline {method.code()} on {atoms.get_chemical_formula()}"
    try:
        return f"{name}: {method.calculate(atoms).frame.calc.results['energy']:.6f} eV", None
    except (ConfigError, LabelError) as error:
        return name, error


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
        return Store(directory).verify(steps, LabelRecord, Segment, ProductionRecord)
    except AlflowError as error:
        return [str(error)]
