"""How an ASE calculator is made: a name, parameters and an interpreter, and the files that they mean."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator

from alflow.errors import ConfigError
from alflow.workers.programs import content_hash

PYTHON = "interpreter of Python in which it is made, of another environment; relative to here, or of PATH"
"""Description of the key ``python``."""


def _jsonable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        msg = f"{error}; expected text, finite numbers, lists or tables"
        raise ValueError(msg) from error
    return value


Parameters = Annotated[dict[str, Any], AfterValidator(_jsonable)]
"""Keyword arguments that can be sent to another interpreter."""


@dataclass(frozen=True)
class Recipe:
    """How a calculator is made where it is used: what is made of it cannot be sent to other processes.

    Attributes
    ----------
    name : str
        Dotted name of what makes it, a class or a function.
    parameters : mapping
        Its keyword arguments, as JSON can hold them.
    python : str
        The interpreter in which it is made; empty for that of alflow.
    folder : str
        Where modules of the user's own are found besides.
    version : str
        Of the files that it names: with others it is another calculator.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    python: str = ""
    folder: str = ""
    version: str = ""

    @property
    def key(self) -> str:
        """Canonical JSON of all of it."""
        return json.dumps([self.name, self.parameters, self.python, self.folder, self.version], sort_keys=True)

    @property
    def interpreter(self) -> str:
        """The program that is started."""
        return self.python or sys.executable

    def located(self, directory: Path) -> Self:
        """With the files of a directory found from anywhere, and modules that lie there."""
        return replace(
            self,
            parameters=mapped(self.parameters, lambda text: _absolute(text, directory)),
            python=interpreter_of(self.python, directory),
            folder=str(directory.absolute()),
        )

    def with_file(self, word: str, path: str) -> Self:
        """With a path in the place of a word in braces."""
        return replace(self, parameters=mapped(self.parameters, lambda text: text.replace(word, path)))

    def files(self) -> dict[str, str]:
        """SHA-256 of every file, or folder of the run, that the parameters name; ConfigError if one cannot be read."""
        found: dict[str, str] = {}

        def note(text: str) -> str:
            path = _path_of(text)
            if path is not None and self.folder and path.is_dir() and path.is_relative_to(self.folder):
                parts = [
                    (str(one.relative_to(path)), content_hash(one)) for one in sorted(path.rglob("*")) if one.is_file()
                ]
                found[text] = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
            elif path is not None and path.is_file():
                found[text] = content_hash(path)
            return text

        try:
            mapped(self.parameters, note)
        except OSError as error:
            msg = f"{error.filename}: {error.strerror}: {self.name} needs this file"
            raise ConfigError(msg) from error
        return found

    def versioned(self) -> Self:
        """With the version that its files have now; ConfigError as of :meth:`files`."""
        return replace(self, version=json.dumps(sorted(self.files().values())))

    def contents(self) -> Any:
        """The parameters with the content of files in the place of their paths; ConfigError as of :meth:`files`."""
        found = self.files()
        return mapped(self.parameters, lambda text: {"sha256": found[text]} if text in found else text)


def _path_of(text: str) -> Path | None:
    """The path, if a text is the absolute one of a file or folder that is there."""
    try:
        path = Path(text)
        return path if path.is_absolute() and path != Path(path.anchor) and path.exists() else None
    except (OSError, ValueError):  # no name of a file
        return None


def mapped(value: Any, change: Callable[[str], Any]) -> Any:
    """Tables and lists with every text in them changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: mapped(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [mapped(part, change) for part in value]
    return value


def interpreter_of(python: str, directory: Path) -> str:
    """An interpreter that is found from anywhere; a name without a folder is looked for on PATH.

    Links are not followed: that of a virtual environment is what makes it one.
    """
    if not python:
        return ""
    if "/" not in python:
        return shutil.which(python) or python
    return str(directory.absolute() / Path(python).expanduser())


def _absolute(text: str, directory: Path) -> str:
    """The path of a file of a directory, or of a folder there, if the text names one.

    A word without a slash is not taken for a folder: too many of them are names of something else.
    """
    try:
        path = directory.absolute() / text
        return str(path) if path.is_file() or ("/" in text and path.is_dir()) else text
    except (OSError, ValueError):  # no name of a file
        return text
