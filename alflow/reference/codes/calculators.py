"""Potentials that are cheap enough to be baselines: any ASE calculator by name, and models of alflow."""

import difflib
import hashlib
import importlib
import inspect
import json
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ase
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, FileIOCalculator
from ase.calculators.genericfileio import GenericFileIOCalculator

from alflow.committee.committee import Committee
from alflow.errors import ConfigError, PotentialError
from alflow.models.files import load
from alflow.reference.method import Result, evaluate
from alflow.version import __version__


@dataclass(frozen=True)
class AseMethod:
    """Any ASE calculator.

    Attributes
    ----------
    name : str
        Module and name of its class: ``ase.calculators.lj.LennardJones``.
    parameters : mapping
        Its keyword arguments.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def identity(self) -> str:
        """Canonical JSON of everything above."""
        parts = {"kind": "ase", "name": self.name, "parameters": dict(self.parameters)}
        try:
            return json.dumps(parts, sort_keys=True)
        except TypeError as error:
            msg = f"ASE calculator {self.name}: parameters: {error}; expected text, numbers, lists or tables"
            raise ConfigError(msg) from error

    def code(self) -> str:
        """Program and version."""
        return f"{self.name} by ase {ase.__version__}"

    def calculator(self, folder: Path | None = None) -> Calculator:
        """A new one; ConfigError when there is no such class, or it does not take the parameters.

        One that writes files writes them into the folder, by default a temporary one of its own.
        """
        module, _, class_name = self.name.rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), class_name)
        except (ImportError, AttributeError, ValueError) as error:
            msg = f"ASE calculator {self.name}: {error}; expected module.Class, and the module installed"
            raise ConfigError(msg) from error
        if not (isinstance(cls, type) and issubclass(cls, BaseCalculator)):
            msg = f"{self.name}: expected the class of an ASE calculator, found {cls!r}"
            raise ConfigError(msg)
        try:
            made: Any = cls(**self.parameters)
        except (TypeError, ValueError, KeyError) as error:
            msg = f"ASE calculator {self.name} with parameters {dict(self.parameters)}: {error}"
            raise ConfigError(msg) from error
        if isinstance(made, FileIOCalculator | GenericFileIOCalculator):
            if folder is not None:
                made.directory = str(folder)
            elif "directory" not in self.parameters:  # workers would overwrite each other's files
                temporary = TemporaryDirectory(prefix="alflow-", ignore_cleanup_errors=True)
                made.directory = temporary.name
                weakref.finalize(made, temporary.cleanup)
        else:
            self._check_parameters(made)
        found: Calculator = made
        return found

    def _check_parameters(self, made: Any) -> None:
        """Refuse a misspelt one: ASE's calculators take any, and use those they know."""
        known = set(getattr(made, "default_parameters", ()))
        if not known:
            return
        known |= {name for cls in type(made).__mro__ for name in inspect.signature(cls).parameters}
        known -= {"self", "args", "kwargs", "parameters"}
        for name in set(self.parameters) - known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"
            msg = f"ASE calculator {self.name}: no parameter {name}: {hint}"
            raise ConfigError(msg)

    def check(self) -> None:
        """ConfigError when there is no such class, or it does not take the parameters."""
        self.identity()
        self.calculator()

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Energy, forces and, where there is one, stress; LabelError as of the protocol."""
        return evaluate(atoms, self.calculator(folder), self.code())


@dataclass(frozen=True)
class ModelMethod:
    """The mean of another committee of alflow.

    Attributes
    ----------
    file : str
        Of ``alflow train`` or ``alflow export``.
    """

    file: str

    def identity(self) -> str:
        """Canonical JSON of the content of the file, wherever it lies; ConfigError when it cannot be read."""
        try:
            digest = hashlib.sha256(Path(self.file).read_bytes()).hexdigest()
        except OSError as error:
            msg = f"{self.file}: {error.strerror}: give the file of a model, relative to the run directory"
            raise ConfigError(msg) from error
        return json.dumps({"kind": "model", "sha256": digest}, sort_keys=True)

    def code(self) -> str:
        """Program and version."""
        return f"alflow {__version__}"

    def calculator(self) -> Calculator:
        """Of the mean; ConfigError when the file is not that of a model."""
        try:
            committee = _loaded(self.file, self.identity())
        except PotentialError as error:
            raise ConfigError(str(error)) from error
        if committee.has_baseline:
            msg = f"{self.file}: trained on a baseline of its own, which a baseline cannot have: train it without"
            raise ConfigError(msg)
        return committee.calculator()

    def check(self) -> None:
        """ConfigError when the file is not that of a model."""
        self.calculator()

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:  # noqa: ARG002 - it writes no files
        """Energy, forces and, if periodic, stress; LabelError as of the protocol."""
        return evaluate(atoms, self.calculator(), self.code())


@lru_cache(maxsize=1)
def _loaded(file: str, _identity: str) -> Committee:
    return load(file)
