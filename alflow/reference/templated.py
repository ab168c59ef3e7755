"""Methods whose input file is a template of the user's own, with ``{{ fields }}`` to be filled in."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ase import Atoms
from numpy.typing import NDArray

from alflow.errors import ConfigError, LabelError
from alflow.reference import programs

NAME = "reference.template"
_FIELD = re.compile(r"\{\{\s*(\w+)\s*\}\}")

Values = Mapping[str, str | int | float]


@dataclass(frozen=True)
class TemplateMethod:
    """What these methods share.

    Attributes
    ----------
    template : str
        Text of the input file.
    variables : mapping
        What is filled in besides the structure.
    command : str
        The program, MPI included.
    """

    template: str
    variables: Values = field(default_factory=dict)
    command: str = ""

    kind: ClassVar[str]
    program: ClassVar[str]
    fields: ClassVar[frozenset[str]]
    """That the structure fills."""
    required: ClassVar[Mapping[str, str]]
    """Fields that must be there, and where."""

    def identity(self) -> str:
        """Canonical JSON of the filled template; not of the command, which decides only how fast it runs."""
        digest = hashlib.sha256(self.template.encode()).hexdigest()
        return json.dumps({"kind": self.kind, "template": digest, "variables": dict(self.variables)}, sort_keys=True)

    def code(self) -> str:
        """Program; its version is known when it has run."""
        return self.program

    def check(self) -> None:
        """ConfigError for a template that is not one, or no program."""
        _check_fields(self.template, self.fields, self.variables)
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
        return name in _FIELD.findall(self.template)


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
