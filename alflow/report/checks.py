"""What `alflow check` looks at: is everything there that a run needs, and is its state sound."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms

from alflow import config, structures
from alflow.averages.observables import Frame
from alflow.errors import AlflowError, ConfigError, LabelError, StoreError
from alflow.reference import ReferenceMethod, baseline_method, reference_method
from alflow.report.views import problems
from alflow.steps import wanted


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
        frames = structures.initial_structures(settings, directory)
    except AlflowError as error:
        yield "initial structures", error
    else:
        yield f"initial structures: {len(frames)}", None
        yield _tried("reference", reference_method(settings, directory), frames[0])
        if settings.baseline is not None:
            yield _tried("baseline", baseline_method(settings.baseline, directory), frames[0])
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


def _tried(what: str, method: ReferenceMethod, atoms: Atoms) -> tuple[str, AlflowError | None]:
    """Calculate one structure."""
    name = f"{what} {method.code()} on {atoms.get_chemical_formula()}"
    try:
        return f"{name}: {method.calculate(atoms).frame.get_potential_energy():.6f} eV", None
    except (ConfigError, LabelError) as error:
        return name, error
