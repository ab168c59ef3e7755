"""Any ASE calculator, by the name of its class."""

import importlib
import json
import weakref
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import ase
from ase import Atoms
from pydantic import Field, PrivateAttr

from alflow.errors import ConfigError
from alflow.reference.method import MethodSection, Result, Weighted, evaluate
from alflow.workers.recipe import PYTHON, Recipe
from alflow.workers.server import UnusableError, check_parameters

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


class AseMethod(MethodSection):
    """Any ASE calculator."""

    kind: Literal["ase"] = Field(description='any ASE calculator; kind = "ase:module.Class" says the same')
    name: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*\.[A-Za-z_][A-Za-z0-9_]*$", description="module.Class of an ASE calculator"
    )
    parameters: dict[str, Any] = Field({}, description="its keyword arguments, a table")
    python: str | None = Field(None, min_length=1, description=PYTHON)

    after_colon: ClassVar[str | None] = "name"

    _folder: str = PrivateAttr("")

    def at(self, directory: Path) -> Self:
        """The method in a run directory: an interpreter of its own, and files named to that, are found there."""
        if self.python is None:
            return self
        here = self._recipe().located(directory)
        made = self.model_copy(update={"parameters": here.parameters, "python": here.python or None})
        made._folder = here.folder  # noqa: SLF001 - of a copy of its own
        return made

    def _recipe(self) -> Recipe:
        """How the calculator is made."""
        return Recipe(self.name, self.parameters, self.python or "", self._folder)

    def identity(self) -> str:
        """Canonical JSON of name and parameters.

        An interpreter is no part of it: where a calculator runs does not decide what comes of it. Files and folders
        that are named to one are there by their content.
        """
        parameters = self.parameters if self.python is None else self._recipe().contents()
        parts = {"kind": "ase", "name": self.name, "parameters": parameters}
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

        One that writes files writes them into the folder, by default a temporary one of its own. One with an
        interpreter of its own is made there, once for each process of alflow.
        """
        if self.python is not None:
            from alflow.workers.calculator import ServedCalculator
            from alflow.workers.interpreters import default_threads

            return ServedCalculator(self._recipe().versioned(), default_threads())
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
            try:
                check_parameters(f"ASE calculator {self.name}", made, self.parameters)
            except UnusableError as error:
                raise ConfigError(str(error)) from error
        found: Calculator = made
        return found

    def check(self) -> None:
        """ConfigError when there is no such class, or it does not take the parameters."""
        self.identity()
        if self.python is None:
            self.calculator()
        else:
            from alflow.workers.interpreters import default_threads, interpreter

            interpreter(self._recipe(), default_threads()).make(self._recipe().versioned())

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Energy, forces and, where there is one, stress; LabelError as of the protocol."""
        return evaluate(atoms, self.calculator(folder), self.code())


class AseBaseline(Weighted, AseMethod):
    """Any ASE calculator as a baseline."""
