"""The run directory as readers open it."""

from pathlib import Path

from alflow.errors import ConfigError
from alflow.state.store import Store


def run_directory(directory: Path) -> Store:
    """The store of a run, its chain of files followed by their headers.

    Raises
    ------
    ConfigError
        The directory is not that of a run.
    StoreError
        A file is missing in between, belongs elsewhere, or is not the one that a later one was made from.
    """
    if not (directory / "alflow.toml").is_file():
        msg = f"no alflow.toml in {directory}: give a run directory, or make one with `alflow init {directory}`"
        raise ConfigError(msg)
    store = Store(directory)
    store.check()
    return store
