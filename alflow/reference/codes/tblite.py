"""Extended tight binding (GFN1-xTB, GFN2-xTB, IPEA1-xTB) through the tblite library."""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import tblite.ase
from ase import Atoms
from ase.calculators.calculator import Calculator, InputError, all_changes

from alflow.reference.method import Result, evaluate
from alflow.structures import charge_and_multiplicity


@dataclass(frozen=True)
class TbliteMethod:
    """Extended tight binding.

    Attributes
    ----------
    method : str
        GFN2-xTB (Bannwarth et al., J. Chem. Theory Comput. 15, 1652 (2019)), GFN1-xTB or IPEA1-xTB.
    accuracy : float
        Numerical accuracy; smaller is tighter.
    electronic_temperature : float
        Of the Fermi smearing, K.
    max_iterations : int
        Iterations until the charges must be self-consistent.
    """

    method: str = "GFN2-xTB"
    accuracy: float = 1.0
    electronic_temperature: float = 300.0
    max_iterations: int = 250

    def identity(self) -> str:
        """Canonical JSON of everything above."""
        return json.dumps({"kind": "tblite", **asdict(self)}, sort_keys=True)

    def code(self) -> str:
        """Program and version."""
        return f"tblite {version('tblite')}"

    def calculator(self) -> Calculator:
        """An ASE calculator whose results depend on the structure alone; ``info`` may hold charge and multiplicity."""
        return _FromScratch(**asdict(self), verbosity=0, cache_api=False)

    def check(self) -> None:
        """Nothing: the library is part of every installation, and settings are checked where they are read."""

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:  # noqa: ARG002 - it writes no files
        """Energy, forces and, if periodic in three directions, stress; LabelError as of the protocol."""
        return evaluate(atoms, self.calculator(), self.code())


class _FromScratch(tblite.ase.TBLite):
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


def _state(atoms: Atoms) -> dict[str, int]:
    return dict(zip(("charge", "multiplicity"), charge_and_multiplicity(atoms), strict=True))
