"""Extended tight binding (GFN1-xTB, GFN2-xTB, IPEA1-xTB) through the tblite library."""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError
from ase.calculators.singlepoint import SinglePointCalculator

from alflow.errors import LabelError


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

    def calculator(self, charge: int = 0, multiplicity: int = 1) -> Calculator:
        """A fresh calculator."""
        from tblite.ase import TBLite

        return TBLite(**asdict(self), charge=charge, multiplicity=multiplicity, verbosity=0)

    def calculate(self, atoms: Atoms) -> Atoms:
        """Energy, forces and, if periodic in three directions, stress; LabelError as of the protocol."""
        bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        # A calculator of its own for every structure: the bits of a result never depend on what came before.
        bare.calc = self.calculator(int(atoms.info.get("charge", 0)), int(atoms.info.get("multiplicity", 1)))
        try:
            results: dict[str, Any] = {
                "energy": float(bare.get_potential_energy()),
                "forces": np.array(bare.get_forces()),
            }
            if atoms.pbc.all():
                results["stress"] = np.array(bare.get_stress())
        except (CalculatorError, RuntimeError) as error:
            text = str(error)
            reason = "not_converged" if "converge" in text.lower() else "crashed"
            raise LabelError(reason, text) from error
        if not all(np.isfinite(value).all() for value in results.values()):
            msg = "energy, forces or stress are not finite"
            raise LabelError("not_finite", msg)
        done: Atoms = atoms.copy()
        done.calc = SinglePointCalculator(done, **results)
        return done
