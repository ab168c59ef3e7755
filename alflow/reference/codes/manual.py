"""Calculations that the user does, with whatever program."""

import json
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from alflow.errors import LabelError
from alflow.reference.method import Result


@dataclass(frozen=True)
class ManualMethod:
    """Structures are written for the user, who brings back their energies and forces.

    Attributes
    ----------
    name : str
        Of what is calculated with: labels of one name belong together.
    """

    name: str = "manual"

    def identity(self) -> str:
        """Canonical JSON of the name."""
        return json.dumps({"kind": "manual", "name": self.name}, sort_keys=True)

    def code(self) -> str:
        """Program."""
        return self.name

    def check(self) -> None:
        """Nothing: results are checked when they are imported."""

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:  # noqa: ARG002 - as of the protocol
        """LabelError: nothing can be calculated here."""
        msg = f"{atoms.get_chemical_formula()} is to be calculated by hand and imported with `alflow label --import`"
        raise LabelError("no_output", msg)
