"""Observables of the user's own: functions of a structure, named in alflow.toml."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from alflow.averages.observables.settings import UserObservable
from alflow.errors import ConfigError


@dataclass(frozen=True)
class UserFunction:
    """A function of an ``Atoms``, its unit, and whether it returns a value of each of several models."""

    function: Callable[..., Any]
    unit: str
    committee: bool


def user_functions(observables: Sequence[UserObservable], directory: Path) -> dict[str, UserFunction]:
    """The functions of ``[[observable]]`` by name.

    Parameters
    ----------
    observables : sequence of UserObservable
        From alflow.toml.
    directory : Path
        Of alflow.toml: ``module.py`` there goes before an installed module.

    Raises
    ------
    ConfigError
        A module that cannot be imported, or has no such function.
    """
    return {o.name: UserFunction(_function(o, directory), o.unit, o.committee) for o in observables}


def _function(observable: UserObservable, directory: Path) -> Callable[..., Any]:
    name, _, attribute = observable.function.partition(":")
    where = f"observable {observable.name}: {observable.function}"
    try:
        module = _module(name, directory)
    except Exception as error:  # whatever the user's module raises
        msg = f"{where}: {name} cannot be imported ({type(error).__name__}: {error}): put {name}.py beside alflow.toml"
        raise ConfigError(msg) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        msg = f"{where}: module {name} has no function {attribute}: correct the name"
        raise ConfigError(msg)
    return function  # type: ignore[no-any-return]


def _module(name: str, directory: Path) -> ModuleType:
    path = directory / f"{name.replace('.', '/')}.py"
    if not path.is_file():
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - of a .py file there is always one
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
