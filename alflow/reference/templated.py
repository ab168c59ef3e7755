"""Methods whose input file is a template of the user's own, with ``{{ fields }}`` to be filled in."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ase import Atoms
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from alflow.errors import ConfigError, LabelError
from alflow.reference.method import MethodSection
from alflow.section import kind_of
from alflow.workers import programs

NAME = "reference.template"
_FIELD = re.compile(r"\{\{\s*(\w+)\s*\}\}")

Values = Mapping[str, str | int | float]


class TemplateMethod(MethodSection):
    """A program with an input file of the user's own.

    A subclass adds ``kind`` and ``command``, the program, MPI included, and the class variables below.
    """

    template: str = Field(min_length=1, description="input file with {{ fields }} to be filled in; relative to here")
    variables: dict[str, str | int | float] = Field({}, description="what fills fields of your own in it, a table")

    if TYPE_CHECKING:  # a key of every subclass, where it stands after `kind` and has a default of its own
        command: str

    program: ClassVar[str]
    """Its name for a reader."""
    fields: ClassVar[frozenset[str]]
    """Those that the structure fills."""
    required: ClassVar[Mapping[str, str]]
    """Fields that must be there, and where."""

    _text: str | None = PrivateAttr(None)

    def at(self, directory: Path) -> Self:
        """The method in a run directory, with the text of its template as it is now.

        Whoever edits the template while a batch runs changes the next batch, not the rest of this one.

        Raises
        ------
        ConfigError
            The template cannot be read.
        """
        path = directory.absolute() / self.template
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            msg = f"{path} cannot be read ({reason}): expected the input file that {NAME} names"
            raise ConfigError(msg) from error
        return self.model_copy(update={"command": programs.located(self.command, directory)}).with_text(text)

    def with_text(self, text: str) -> Self:
        """The method with the text of its template."""
        method = self.model_copy()
        method._text = text  # noqa: SLF001 - of its own class
        return method

    @property
    def text(self) -> str:
        """The text of the template; ConfigError before :meth:`at` or :meth:`with_text` has given it."""
        if self._text is None:
            msg = f"{NAME}: {self.template} is not read yet: expected a method in its run directory"
            raise ConfigError(msg)
        return self._text

    def identity(self) -> str:
        """Canonical JSON of the filled template; not of the command, which decides only how fast it runs."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        return json.dumps(
            {"kind": kind_of(type(self)), "template": digest, "variables": self.variables}, sort_keys=True
        )

    def code(self) -> str:
        """Program; its version is known when it has run."""
        return self.program

    def check(self) -> None:
        """ConfigError for a template that is not one, or no program."""
        _check_fields(self.text, self.fields, self.variables)
        for name, place in self.required.items():
            if not self.has(name):
                msg = f"{NAME} has no {{{{ {name} }}}}: write it {place}"
                raise ConfigError(msg)
        self._check_text()
        programs.check_command(self.command, "reference")

    def _check_text(self) -> None:
        """ConfigError for what the program would not do, or do otherwise than is needed."""

    def has(self, name: str) -> bool:
        """Whether the template has a field."""
        return field_in(name, self.text)


def field_in(name: str, text: str) -> bool:
    """Whether a text has a field."""
    return name in _FIELD.findall(text)


def _check_fields(text: str, known: frozenset[str], variables: Values) -> None:
    """ConfigError if a template has a ``{{ field }}`` that nothing fills, or a variable is nowhere in it."""
    found = set(_FIELD.findall(text))
    if unknown := found - known - set(variables):
        allowed = ", ".join(sorted({*known, *variables}))
        msg = f"{NAME}: nothing fills {{{{ {min(unknown)} }}}}: expected one of {allowed}, or a variable of that name"
        raise ConfigError(msg)
    if unused := set(variables) - found:
        msg = f"{NAME}: variable {min(unused)} is nowhere in it: write {{{{ {min(unused)} }}}} where it belongs"
        raise ConfigError(msg)


def fill(text: str, values: Values) -> str:
    """A template with every ``{{ field }}`` replaced; lines that follow the first of a value are indented like it."""

    def put(match: re.Match[str]) -> str:
        start = text.rfind("\n", 0, match.start()) + 1
        indent = text[start : match.start()]
        return str(values[match[1]]).replace("\n", "\n" + indent if not indent.strip() else "\n")

    return _FIELD.sub(put, text)


def vector_lines(vectors: NDArray[Any], labels: list[str]) -> str:
    """One line for each row of ``vectors``, shape (n, 3), with its label before it; digits for a double."""
    return "\n".join(
        f"{label} {x:.16g} {y:.16g} {z:.16g}".strip() for label, (x, y, z) in zip(labels, vectors, strict=True)
    )


def periodic_needs_cell(atoms: Atoms, text: str) -> None:
    """LabelError for a periodic structure and a template that would put it into a cell of its own."""
    if atoms.pbc.any() and "cell" not in _FIELD.findall(text):
        msg = f"{NAME} has no {{{{ cell }}}}, and the structure is periodic: put it where the cell belongs"
        raise LabelError("crashed", msg)
