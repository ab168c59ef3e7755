"""The ready settings that ``alflow init`` copies: those of the folder workflows/, and one for each reference code."""

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alflow.config.kinds import Kinds, installed
from alflow.errors import ConfigError, StoreError
from alflow.reference.workflow import Workflow


def folder() -> Path:
    """Where structures and the settings of no single code are: inside the installed package, or beside it."""
    package = Path(__file__).parents[1]
    inside = package / "workflows"
    return inside if inside.is_dir() else package.parent / "workflows"


def texts(kinds: Kinds | None = None) -> dict[str, str]:
    """The alflow.toml of each template, by name; codes are those of ``kinds``, by default what is installed."""
    found = {name: workflow.text for name, workflow in _of_codes(kinds).items()}
    found |= {path.stem: path.read_text(encoding="utf-8") for path in folder().glob("*.toml")}
    return dict(sorted(found.items()))


def describe(kinds: Kinds | None = None) -> dict[str, str]:
    """Name and first comment line of each template; ``kinds`` as of :func:`texts`."""
    return {name: text.splitlines()[0].removeprefix("#").strip() for name, text in texts(kinds).items()}


def copy(name: str, directory: Path, kinds: Kinds | None = None) -> list[Path]:
    """Write a template, and the files it names (structures, inputs, scripts), into a new run directory.

    Parameters
    ----------
    name : str
        One of :func:`describe`.
    directory : Path
        Where to.
    kinds : Kinds, optional
        As of :func:`texts`.

    Returns
    -------
    list of Path
        What was written, alflow.toml first.

    Raises
    ------
    ConfigError
        No such template, or the directory has an alflow.toml already.
    StoreError
        The directory cannot be written.
    """
    templates = texts(kinds)
    if name not in templates:
        msg = f"no template {name!r}: expected one of {', '.join(templates)}"
        raise ConfigError(msg)
    target = directory / "alflow.toml"
    if target.exists():
        msg = f"{target} exists already and is not overwritten: edit it, or choose another directory"
        raise ConfigError(msg)
    named = dict.fromkeys(_words(tomllib.loads(templates[name])))
    of_codes = {file: text for workflow in _of_codes(kinds).values() for file, text in workflow.files.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        written = []
        for file in named:
            if Path(file).name != file or (directory / file).exists():  # a path is no name, and what is there is kept
                continue
            if file in of_codes:
                (directory / file).write_text(of_codes[file], encoding="utf-8")
            elif (folder() / file).is_file():
                shutil.copyfile(folder() / file, directory / file)
            else:
                continue
            written.append(directory / file)
        target.write_text(templates[name], encoding="utf-8")  # last: where it is, everything it names is
    except OSError as error:
        msg = f"{directory} cannot be written ({error.strerror}): choose another directory"
        raise StoreError(msg) from error
    return [target, *written]


def _of_codes(kinds: Kinds | None) -> dict[str, Workflow]:
    """What the codes begin with, by their kind."""
    references = (installed() if kinds is None else kinds).references
    return {kind: section.workflow for kind, section in references.items() if section.workflow is not None}


def _words(value: Any) -> Iterator[str]:
    """The words of every text in a table: a command names its script among others."""
    if isinstance(value, str):
        yield from value.split()
    elif isinstance(value, dict):
        for part in value.values():
            yield from _words(part)
    elif isinstance(value, list):
        for part in value:
            yield from _words(part)
