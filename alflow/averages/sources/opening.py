"""What a path names: a run directory, one of its production runs, or the sample of a cycle."""

from collections.abc import Sequence
from pathlib import Path

from alflow import config
from alflow.averages.measuring import Source
from alflow.averages.observables import Observable, parse
from alflow.averages.sources.functions import user_functions
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


def observables(texts: Sequence[str], place: Path) -> list[Observable]:
    """The observables that texts describe, with the user's own from the alflow.toml in or above ``place``.

    Raises
    ------
    AverageError
        None is given.
    ObservableError
        One is not known.
    ConfigError
        An alflow.toml that cannot be read, or a function that cannot be imported.
    """
    if not texts:
        msg = "no observable is given: expected --observable potential_energy, 'rdf O-O', ...; --help lists them"
        raise AverageError(msg)
    folders = [folder for folder in (place, *place.absolute().parents) if (folder / config.FILE).is_file()]
    own = user_functions(config.load_observables(folders[0] / config.FILE), folders[0]) if folders else {}
    return [parse(text, own) for text in texts]
