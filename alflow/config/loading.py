"""alflow.toml read and checked; unknown keys and values out of range are refused, in one line each."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alflow.averages.observables.settings import UserObservable
from alflow.config.kinds import Kinds
from alflow.config.problems import explain, told_already
from alflow.config.schema import schema
from alflow.config.settings import Settings
from alflow.errors import ConfigError
from alflow.reference.method import Weighted

FILE = "alflow.toml"

_NO_SYSTEM = {"system": [{"name": "none", "structures": "none"}]}  # for a file of which one section is wanted


def load(directory: Path, kinds: Kinds | None = None) -> Settings:
    """Read the settings of a run directory.

    Parameters
    ----------
    directory : Path
        It has an alflow.toml.
    kinds : Kinds, optional
        What tables with a ``kind`` may be; by default what is installed.

    Raises
    ------
    ConfigError
        No alflow.toml, not TOML, or settings that are not allowed: one line for each, with the file, the key, what was
        found and what is allowed.
    """
    path = directory / FILE
    if not path.exists():
        msg = f"no {FILE} in {directory}: give a run directory, or make one with `alflow init {directory}`"
        raise ConfigError(msg)
    return parse(_toml_of(path), str(path), kinds)


def load_baseline(path: Path, kinds: Kinds | None = None) -> Weighted:
    """The ``[baseline]`` of a TOML file, whatever else it holds; ConfigError as of :func:`load`."""
    data = _toml_of(path)
    if "baseline" not in data:
        msg = f"{path} has no [baseline]: expected a table that describes one, as in alflow.toml"
        raise ConfigError(msg)
    found = parse({"baseline": data["baseline"], **_NO_SYSTEM}, str(path), kinds).baseline
    assert found is not None  # noqa: S101
    return found


def load_parts(path: Path, kinds: Kinds | None = None) -> Settings:
    """``seed``, ``[potential]``, ``[baseline]`` and ``[executor]`` of a TOML file; ConfigError as of :func:`load`."""
    data = _toml_of(path)
    parts: dict[str, Any] = {name: data[name] for name in ("seed", "potential", "baseline", "executor") if name in data}
    return parse({**parts, **_NO_SYSTEM}, str(path), kinds)


def load_observables(path: Path, kinds: Kinds | None = None) -> tuple[UserObservable, ...]:
    """The ``[[observable]]`` of a TOML file, whatever else it holds; ConfigError as of :func:`load`."""
    return parse({"observable": _toml_of(path).get("observable", []), **_NO_SYSTEM}, str(path), kinds).observable


def _toml_of(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read: {error}"
        raise ConfigError(msg) from error
    except tomllib.TOMLDecodeError as error:
        msg = f"{path} is not TOML: {error}"
        raise ConfigError(msg) from error


def parse(data: Mapping[str, Any], where: str, kinds: Kinds | None = None) -> Settings:
    """Settings from the content of alflow.toml; ConfigError, its lines beginning with ``where``, as of :func:`load`."""
    model = schema(kinds)
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        problems = [problem for problem in error.errors() if not told_already(problem, error.errors())]
        lines = [f"{where}: {explain(model, problem)}" for problem in problems]
        raise ConfigError("\n".join(lines)) from None
