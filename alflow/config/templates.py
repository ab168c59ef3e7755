"""The ready settings that ship with alflow, from workflows/."""

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alflow.errors import ConfigError, StoreError


def folder() -> Path:
    """Where the templates are: inside the installed package, or beside it in a source tree."""
    package = Path(__file__).parent
    installed = package / "workflows"
    return installed if installed.is_dir() else package.parent / "workflows"


def describe() -> dict[str, str]:
    """Name and first comment line of each template."""
    found = {}
    for path in sorted(folder().glob("*.toml")):
        found[path.stem] = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()
    return found


def copy(name: str, directory: Path) -> list[Path]:
    """Copy a template, and the files it names (structures, inputs, scripts), into a new run directory.

    Raises
    ------
    ConfigError
        No such template, or the directory has an alflow.toml already.
    StoreError
        The directory cannot be written.
    """
    source = folder() / f"{name}.toml"
    if name not in describe():
        msg = f"no template {name!r}: expected one of {', '.join(describe())}"
        raise ConfigError(msg)
    target = directory / "alflow.toml"
    if target.exists():
        msg = f"{target} exists already and is not overwritten: edit it, or choose another directory"
        raise ConfigError(msg)
    named = dict.fromkeys(_words(tomllib.loads(source.read_text(encoding="utf-8"))))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        written = []
        for file in named:
            if Path(file).name == file and (folder() / file).is_file() and not (directory / file).exists():
                shutil.copyfile(folder() / file, directory / file)
                written.append(directory / file)
        shutil.copyfile(source, target)  # last: where it is, everything it names is
    except OSError as error:
        msg = f"{directory} cannot be written ({error.strerror}): choose another directory"
        raise StoreError(msg) from error
    return [target, *written]


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
