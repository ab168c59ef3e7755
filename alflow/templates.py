"""The ready settings that ship with alflow, from workflows/."""

import re
import shutil
from pathlib import Path

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
    """Copy a template, and the structure files it names, into a new run directory.

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
    named = re.findall(r'^structures\s*=\s*"([^"]+)"', source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        written = []
        for file in named:
            if (folder() / file).is_file() and not (directory / file).exists():
                shutil.copyfile(folder() / file, directory / file)
                written.append(directory / file)
        shutil.copyfile(source, target)  # last: where it is, everything it names is
    except OSError as error:
        msg = f"{directory} cannot be written ({error.strerror}): choose another directory"
        raise StoreError(msg) from error
    return [target, *written]
