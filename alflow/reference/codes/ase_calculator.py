"""Any ASE calculator, by the name of its class."""

import importlib
import json
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import ase
from ase import Atoms
from pydantic import Field, PrivateAttr

from alflow.errors import ConfigError
from alflow.reference.electrons import CHARGE, CHARGES, ELECTRONS, MOMENTS, MULTIPLICITY, untold
from alflow.reference.method import MethodSection, Result, Weighted, evaluate
from alflow.structures import charge_and_multiplicity
from alflow.workers.recipe import PYTHON, Recipe, mapped
from alflow.workers.server import UnusableError, check_parameters

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


_PLACES: Mapping[str, Callable[[int, int], int]] = {
    "{charge}": lambda charge, _: charge,
    "{multiplicity}": lambda _, multiplicity: multiplicity,
    "{unpaired}": lambda _, multiplicity: multiplicity - 1,
}
"""What texts among the parameters stand for, by the charge and multiplicity of a structure."""

_TELL = (
    'if it has a parameter for it, give that {place}; if it reads Atoms.info, write electrons = "info"; if it has no '
    'electrons, electrons = "none"'
)


class AseMethod(MethodSection):
    """Any ASE calculator.

    Texts ``{charge}``, ``{multiplicity}`` and ``{unpaired}`` (the multiplicity less 1) among its parameters stand for
    the numbers of each structure. Initial charges and moments that a structure file has are those of ASE's ``Atoms``.
    """

    kind: Literal["ase"] = Field(description='any ASE calculator; kind = "ase:module.Class" says the same')
    name: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*\.[A-Za-z_][A-Za-z0-9_]*$", description="module.Class of an ASE calculator"
    )
    parameters: dict[str, Any] = Field({}, description="its keyword arguments, a table")
    electrons: Literal["parameters", "info", "none"] = Field(
        "parameters",
        description="where it finds charge and multiplicity: {charge}, {multiplicity}, {unpaired} in parameters; "
        "`charge`, `spin` of Atoms.info; or it has none, as a force field",
    )
    python: str | None = Field(None, min_length=1, description=PYTHON)

    after_colon: ClassVar[str | None] = "name"
    how_to_tell: ClassVar[Mapping[str, str]] = {
        CHARGE: _TELL.format(place='"{charge}"'),
        MULTIPLICITY: _TELL.format(place='"{multiplicity}" or "{unpaired}"'),
    }

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

    def told(self) -> frozenset[str]:
        """What has a place among the parameters, and whatever a structure says of its atoms."""
        if self.electrons != "parameters":
            return ELECTRONS
        by_place = {"{charge}": CHARGE, "{multiplicity}": MULTIPLICITY, "{unpaired}": MULTIPLICITY}
        return frozenset({MOMENTS, CHARGES, *(by_place[place] for place in self._places())})

    def untold(self, atoms: Atoms) -> str:
        """As of any method; a charge that is written among the parameters must be that of the structure."""
        written, (charge, _) = self.parameters.get("charge"), charge_and_multiplicity(atoms)
        if self.electrons == "parameters" and isinstance(written, int | float) and not isinstance(written, bool):
            if written != charge:
                return (
                    f'its charge is {charge}, and its parameters have charge = {written:g}: write charge = "{{charge}}"'
                )
            return untold(atoms, self.told() | {CHARGE}, self.code(), self.how_to_tell)
        return super().untold(atoms)

    def _places(self) -> set[str]:
        """Which texts among the parameters stand for numbers of a structure."""
        found: set[str] = set()

        def note(text: str) -> str:
            found.update(place for place in _PLACES if place in text)
            return text

        mapped(self.parameters, note)
        return found

    def _filled(self, charge: int, multiplicity: int) -> Self:
        """With the numbers of a structure among the parameters."""

        def put(text: str) -> Any:
            if text in _PLACES:
                return _PLACES[text](charge, multiplicity)
            for place, number in _PLACES.items():
                text = text.replace(place, str(number(charge, multiplicity)))
            return text

        return self.model_copy(update={"parameters": mapped(self.parameters, put)})

    def calculator(self, folder: Path | None = None) -> "Calculator":
        """A new one; arguments and errors as of :meth:`_made`."""
        if self.electrons != "info" and not self._places():
            return self._made(folder)
        from alflow.workers.calculator import OfStateCalculator

        def make(charge: int, multiplicity: int) -> "Calculator":
            return self._filled(charge, multiplicity)._made(folder)  # noqa: SLF001 - of its own class

        make(0, 1)  # errors now, and not with the first structure
        return OfStateCalculator(make)

    def _made(self, folder: Path | None = None) -> "Calculator":
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

            recipe = self._filled(0, 1)._recipe()  # noqa: SLF001 - of its own class
            interpreter(recipe, default_threads()).make(recipe.versioned())

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Energy, forces and, where there is one, stress; LabelError as of the protocol."""
        return evaluate(atoms, self.calculator(folder), self.code())


class AseBaseline(Weighted, AseMethod):
    """Any ASE calculator as a baseline."""
