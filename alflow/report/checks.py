"""What `alflow check` looks at: is everything there that a run needs, and is its state sound."""

from collections.abc import Iterator
from pathlib import Path

from alflow import config, structures
from alflow.errors import AlflowError, LabelError, StoreError
from alflow.reference import build
from alflow.report.views import problems


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
        method = build(**settings.reference.model_dump())
        try:
            labelled = method.calculate(frames[0])
        except LabelError as error:
            yield f"reference {method.code()} on {frames[0].get_chemical_formula()}", error
        else:
            energy = labelled.get_potential_energy()
            yield f"reference {method.code()} on {frames[0].get_chemical_formula()}: {energy:.6f} eV", None
    wrong = problems(directory)
    for problem in wrong:
        yield "state", StoreError(problem)
    if not wrong:
        yield "state", None
