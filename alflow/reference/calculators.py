"""Potentials that are cheap enough to be baselines: any ASE calculator by name, and models of alflow."""

import difflib
import hashlib
import importlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase
from ase import Atoms
from ase.calculators.calculator import Calculator, FileIOCalculator

from alflow import __version__
from alflow.errors import ConfigError, PotentialError
from alflow.potentials import load
from alflow.reference.base import evaluate


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
        return json.dumps(parts, sort_keys=True)

    def code(self) -> str:
        """Program and version."""
        return f"{self.name} in ase {ase.__version__}"

    def calculator(self) -> Calculator:
        """A new one; ConfigError when there is no such class, or it does not take the parameters."""
        module, _, class_name = self.name.rpartition(".")
        try:
            made: Calculator = getattr(importlib.import_module(module), class_name)(**self.parameters)
        except (ImportError, AttributeError, ValueError) as error:
            msg = f"ASE calculator {self.name}: {error}; expected module.Class, and the module installed"
            raise ConfigError(msg) from error
        except TypeError as error:
            msg = f"ASE calculator {self.name} with parameters {dict(self.parameters)}: {error}"
            raise ConfigError(msg) from error
        self._check_parameters(made)
        if not hasattr(made, "get_potential_energy"):
            msg = f"{self.name}: expected the class of an ASE calculator, found {type(made).__name__}"
            raise ConfigError(msg)
        return made

    def _check_parameters(self, made: Calculator) -> None:
        """Refuse a misspelt one: ASE's calculators take any, and use those they know."""
        known = set(getattr(made, "default_parameters", ()))
        if not known or isinstance(made, FileIOCalculator):
            return
        known |= set(inspect.signature(type(made).__init__).parameters)
        for name in set(self.parameters) - known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"
            msg = f"ASE calculator {self.name}: no parameter {name}: {hint}"
            raise ConfigError(msg)

    def calculate(self, atoms: Atoms) -> Atoms:
        """Energy, forces and, where there is one, stress; LabelError as of the protocol."""
        return evaluate(atoms, self.calculator())


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
            committee = load(self.file)
        except PotentialError as error:
            raise ConfigError(str(error)) from error
        if committee.has_baseline:
            msg = f"{self.file}: trained on a baseline of its own, which a baseline cannot have: train it without"
            raise ConfigError(msg)
        return committee.calculator()

    def calculate(self, atoms: Atoms) -> Atoms:
        """Energy, forces and, if periodic, stress; LabelError as of the protocol."""
        return evaluate(atoms, self.calculator())
