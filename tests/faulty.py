"""A calculator that fails in the way asked for, for structures whose first atom has moved to positive x."""

import os
import signal
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, SCFError, all_changes


class Faulty(Calculator):
    """Harmonic bonds to the origin; ``fixed`` mends the fault."""

    implemented_properties = ("energy", "forces")
    default_parameters: ClassVar = {"fault": "", "fixed": False, "log": ""}

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        positions = self.atoms.positions
        if self.parameters["log"]:
            with Path(self.parameters["log"]).open("a") as file:
                file.write(f"{positions[0, 0]:.12f}\n")
        middle = positions.mean(axis=0)
        energy, forces = 0.5 * ((positions - middle) ** 2).sum(), -(positions - middle)
        if self.parameters["fault"] and not self.parameters["fixed"] and positions[0, 0] > 0:
            energy, forces = self._fail(self.parameters["fault"], energy, forces)
        self.results = {"energy": energy} if forces is None else {"energy": energy, "forces": forces}

    @staticmethod
    def _fail(fault: str, energy: float, forces: np.ndarray) -> tuple[float, np.ndarray | None]:
        if fault == "not_converged":
            msg = "SCF failed to converge after 100 iterations"
            raise SCFError(msg)
        if fault == "crashed":
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "raised":
            msg = "something broke"
            raise RuntimeError(msg)
        if fault == "timed_out":
            time.sleep(600)
        if fault == "out_of_memory":
            raise MemoryError
        if fault == "no_output":
            return energy, None
        if fault == "not_finite":
            forces[1, 1] = np.nan
        if fault == "inconsistent":
            forces += 1.0
        return energy, forces
