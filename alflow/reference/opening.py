"""Methods as the tables of alflow.toml describe them."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alflow.config import Baseline, Settings
from alflow.errors import ConfigError
from alflow.reference.method import BaselineMethod, ReferenceMethod, build


def reference_method(settings: Settings, directory: Path, changes: Mapping[str, Any] | None = None) -> ReferenceMethod:
    """The method that ``[reference]`` describes.

    Parameters
    ----------
    settings : Settings
        The whole of alflow.toml.
    directory : Path
        The run directory: files are relative to it.
    changes : mapping, optional
        Settings of the table that are changed for this attempt.

    Raises
    ------
    ConfigError
        A file cannot be read.
    """
    section = settings.reference.changed(changes or {})
    method: ReferenceMethod = _built(section.model_dump(), directory)
    return method


def baseline_method(section: Baseline, directory: Path) -> BaselineMethod:
    """The method that a ``[baseline]`` describes; arguments as of :func:`reference_method`."""
    method: BaselineMethod = _built(section.model_dump(exclude={"weighting", "error"}), directory)
    return method


def _built(options: dict[str, Any], directory: Path) -> Any:
    place = directory.absolute()
    if "file" in options:
        options["file"] = str(place / options["file"])
    if "template" in options:
        path = place / options["template"]
        try:
            options["template"] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            msg = f"{path} cannot be read ({reason}): expected the input file that reference.template names"
            raise ConfigError(msg) from error
    if options.get("command"):
        options["command"] = _command(options["command"], place)
    return build(**options)


def _command(command: str, place: Path) -> str:
    """A command whose words that name files of the run directory are found from any other."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command  # told where it is checked
    return shlex.join(str(place / word) if (place / word).is_file() else word for word in words)
