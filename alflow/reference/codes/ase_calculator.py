"""Any ASE calculator, by the name of its class."""

import difflib
import importlib
import inspect
import json
import weakref
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import ase
from ase import Atoms
from pydantic import Field

from alflow.errors import ConfigError
from alflow.reference.method import MethodSection, Result, Weighted, evaluate

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


class AseMethod(MethodSection):
    """Any ASE calculator."""

    kind: Literal["ase"] = Field(description='any ASE calculator; kind = "ase:module.Class" says the same')
    name: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*\.[A-Za-z_][A-Za-z0-9_]*$", description="module.Class of an ASE calculator"
    )
    parameters: dict[str, Any] = Field({}, description="its keyword arguments, a table")

    after_colon: ClassVar[str | None] = "name"

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

    def calculator(self, folder: Path | None = None) -> "Calculator":
        """A new one; ConfigError when there is no such class, or it does not take the parameters.

        One that writes files writes them into the folder, by default a temporary one of its own.
        """
        from ase.calculators.calculator import BaseCalculator, FileIOCalculator
        from ase.calculators.genericfileio import GenericFileIOCalculator

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


class AseBaseline(Weighted, AseMethod):
    """Any ASE calculator as a baseline."""
