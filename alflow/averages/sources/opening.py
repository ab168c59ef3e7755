"""What a path names: a run directory, one of its production runs, or the sample of a cycle."""

from pathlib import Path

from alflow.averages.measuring import Source
from alflow.averages.sources.productions import is_production, production_source
from alflow.averages.sources.samples import sample_source
from alflow.errors import AverageError
from alflow.state.store import Store


def open_source(path: Path, temperature: float | None = None, system: str | None = None) -> Source:
    """The source at a path; ``temperature`` (K) and ``system`` choose walkers where there are several.

    Raises
    ------
    AverageError
        There is no such source.
    """
    if path.is_file() and path.name.startswith("sample") and path.suffix == ".h5":
        return sample_source(path, temperature, system)
    if is_production(path):
        return production_source(path, temperature, system)
    if names := Store(path).productions():
        msg = f"{path} is a run directory: expected one of its production runs, {path}/production/{' or '.join(names)}"
        raise AverageError(msg)
    msg = (
        f"{path}: no such source: expected a production run (my-run/production/NAME), the samples of a cycle "
        "(my-run/cycles/001/sample.h5), --ipi PREFIX, or --energies with --driving and --values"
    )
    raise AverageError(msg)
