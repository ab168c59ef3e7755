"""Extended tight binding (GFN1-xTB, GFN2-xTB, IPEA1-xTB) through the tblite library."""

import json
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ase import Atoms
from pydantic import Field

from alflow.reference.electrons import STATE
from alflow.reference.method import MethodSection, Result, Weighted, evaluate
from alflow.section import Count, Positive
from alflow.structures import charge_and_multiplicity

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

_Parametrisation = Literal["GFN2-xTB", "GFN1-xTB", "IPEA1-xTB"]


class TbliteMethod(MethodSection):
    """Extended tight binding.

    GFN2-xTB is that of Bannwarth et al., J. Chem. Theory Comput. 15, 1652 (2019).
    """

    kind: Literal["tblite"] = Field("tblite", description="extended tight binding")
    method: _Parametrisation = Field("GFN2-xTB", description="parametrisation")
    accuracy: Positive = Field(1.0, description="numerical accuracy; smaller is tighter")
    electronic_temperature: Positive = Field(300.0, description="of the Fermi smearing, K")
    max_iterations: Count = Field(250, description="iterations until the charges must be self-consistent")

    def identity(self) -> str:
        """Canonical JSON of everything above."""
        return json.dumps({"kind": "tblite", **self._options()}, sort_keys=True)

    def _options(self) -> dict[str, Any]:
        """What the library is told: not how a baseline takes part in walks."""
        return self.model_dump(include=set(TbliteMethod.model_fields) - {"kind"})

    def code(self) -> str:
        """Program and version."""
        return f"tblite {version('tblite')}"

    def calculator(self) -> "Calculator":
        """An ASE calculator whose results depend on the structure alone; ``info`` may hold charge and multiplicity."""
        made: Calculator = _from_scratch()(**self._options(), verbosity=0, cache_api=False)
        return made

    def told(self) -> frozenset[str]:
        """Charge and multiplicity."""
        return STATE

    def check(self) -> None:
        """Nothing: the library is part of every installation, and settings are checked where they are read."""

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:  # noqa: ARG002 - it writes no files
        """Energy, forces and, if periodic in three directions, stress; LabelError as of the protocol."""
        return evaluate(atoms, self.calculator(), self.code())


class TbliteBaseline(Weighted, TbliteMethod):
    """Extended tight binding as a baseline."""

    method: _Parametrisation = Field("GFN1-xTB", description="parametrisation")


@lru_cache(maxsize=1)
def _from_scratch() -> Any:
    """The class of the calculator, made when it is used: the library takes long to import."""
    from ase.calculators.calculator import InputError, all_changes
    from tblite.ase import TBLite

    class FromScratch(TBLite):
        """Tblite that begins every calculation from its own guess, with the charge and multiplicity of ``atoms.info``.

        By default it begins with the charges of the structure before, and then the last digits of forces depend on the
        history: a walk that was interrupted would go on otherwise than one that was not.
        """

        def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
            """What differs from the structure of the results; ASE calls this, and looks at atoms and cell only."""
            changes: list[str] = super().check_state(atoms, tol)  # type: ignore[no-untyped-call]
            return changes if changes or self.atoms is None or _state(atoms) == _state(self.atoms) else ["info"]

        def calculate(
            self,
            atoms: Atoms | None = None,
            properties: list[str] | None = None,
            system_changes: list[str] = all_changes,
        ) -> None:
            """Calculate; ASE calls this. InputError for a structure that is periodic in one or two directions."""
            if atoms is not None:
                if atoms.pbc.any() and not atoms.pbc.all():
                    msg = (
                        f"tblite knows periodicity in all directions or none, found pbc = {atoms.pbc.tolist()}: "
                        "for a slab or a wire set all, with vacuum in the others"
                    )
                    raise InputError(msg)
                self.parameters.update(_state(atoms))
            self._xtb = self._res = None
            super().calculate(atoms, properties, system_changes)

    return FromScratch


def _state(atoms: Atoms) -> dict[str, int]:
    return dict(zip(("charge", "multiplicity"), charge_and_multiplicity(atoms), strict=True))
