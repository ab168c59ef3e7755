"""Calculations that the user does, with whatever program."""

import json
from pathlib import Path
from typing import ClassVar, Literal

from ase import Atoms
from pydantic import Field

from alflow.errors import LabelError
from alflow.reference.electrons import ELECTRONS
from alflow.reference.method import MethodSection, Result
from alflow.reference.workflow import Workflow

_WORKFLOW = """\
# A molecule whose calculations you do yourself, with any program, and import.
seed = 0

[[system]]
name = "ethanol"
structures = "ethanol.xyz"   # XYZ, POSCAR, CIF, ..., relative to this one
copies = 15                  # displaced copies that are labelled with it in cycle 0
rattle = 0.05                # their displacement, Å (standard deviation)

[potential]
n_members = 16               # of the committee

[reference]
kind = "manual"              # `alflow label` says how structures are exported and results imported
name = "my functional"       # of what you calculate with: another one, another data set

[sample]
temperature = [300, 450]     # K, one walker each
timestep = 0.5               # fs
steps = 2000                 # of each walker in each cycle
stride = 20                  # steps between stored frames

[select]
budget = 15                  # structures in each cycle, at most
force_sigma_min = 0.05       # eV/Å, calibrated; less uncertain frames are not labelled

[converge]
force_sigma = 0.08           # eV/Å; stop when no sampled sigma is above this
max_cycles = 5

[executor]
kind = "local"               # processes on this machine
"""


class ManualMethod(MethodSection):
    """Structures are written for the user, who brings back their energies and forces.

    Labels of one name belong together.
    """

    kind: Literal["manual"] = Field(description="you calculate, and import with `alflow label --import`")
    name: str = Field("manual", min_length=1, description="of what you calculate with: another one, another data set")

    workflow: ClassVar[Workflow | None] = Workflow(_WORKFLOW)

    def identity(self) -> str:
        """Canonical JSON of the name."""
        return json.dumps({"kind": "manual", "name": self.name}, sort_keys=True)

    def code(self) -> str:
        """Program."""
        return self.name

    def check(self) -> None:
        """Nothing: results are checked when they are imported."""

    def told(self) -> frozenset[str]:
        """All of it: it is written with the structures."""
        return ELECTRONS

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:  # noqa: ARG002 - as of the protocol
        """LabelError: nothing can be calculated here."""
        msg = f"{atoms.get_chemical_formula()} is to be calculated by hand and imported with `alflow label --import`"
        raise LabelError("no_output", msg)
