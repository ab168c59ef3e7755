"""ASE calculators as packages bring them: what each does is what some package was seen to do."""

import os
import signal

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.stress import voigt_6_to_full_3x3_stress


class Odd(LennardJones):
    """Lennard-Jones with an oddity, named by ``what``."""

    def __init__(self, what: str = "", **kwargs) -> None:
        super().__init__(**{"sigma": 2.2, "epsilon": 0.3, "rc": 5.0, "smooth": True, **kwargs})
        self.what = what
        if what == "needs a GPU":
            msg = "no CUDA\ndevice"
            raise RuntimeError(msg)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        what = self.what
        if what == "three directions for one":
            atoms = atoms.copy()
            atoms.pbc = True
        super().calculate(atoms, properties, system_changes)
        if what == "prints":
            print("CHGNet will run on cpu")
        if what == "only silicon" and set(self.atoms.numbers) != {14}:
            raise KeyError(next(iter(set(self.atoms.numbers) - {14})))
        if what == "dies":
            print("segmentation fault soon", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        self.results = self._odd_results(self.results)

    def _odd_results(self, r: dict) -> dict:
        stress = r.get("stress", np.zeros(6))
        mirrored = np.linalg.det(self.atoms.cell.array) < 0
        odd = {
            "stress of a molecule": {"stress": np.full(6, -163.0)},
            "stress is NaN": {"stress": np.full(6, np.nan)},
            "stress 3x3": {"stress": voigt_6_to_full_3x3_stress(stress).astype(np.float32)},
            "left-handed": {"stress": -stress if mirrored else stress},
            "free energy": {"free_energy": r["energy"], "energy": r["energy"] + 1.0},
            "energies of another kind": {"energies": r["energies"] + 1.0},
            "single": {name: np.float32(value) for name, value in r.items()},
            "wrong forces": {"forces": 2 * r["forces"]},
            "wrong stress": {"stress": -stress},
            "charged": {"free_energy": r["energy"] + 10.0 * self.atoms.info.get("charge", 0)},
            "charges": {"free_energy": r["energy"] + self.atoms.get_initial_charges().sum()},
        }
        found = {**r, **odd.get(self.what, {})}
        return {name: value for name, value in found.items() if (self.what, name) != ("no forces", "forces")}

    def check_state(self, atoms, tol=1e-15):
        if self.what == "raises at the door":
            msg = "structure has no charge"
            raise AttributeError(msg)
        return super().check_state(atoms, tol)


class NoStress(Calculator):
    """Says that it has a stress, and has none."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        middle = self.atoms.positions.mean(axis=0)
        self.results = {"energy": 0.5 * np.sum((self.atoms.positions - middle) ** 2)}
        self.results["forces"] = middle - self.atoms.positions


def factory(strength: float) -> Odd:
    """A function that makes a calculator."""
    return Odd(epsilon=strength)


class Shop:
    """A class whose method makes one."""

    @classmethod
    def order(cls, strength: float) -> Odd:
        """A method that makes a calculator."""
        return Odd(epsilon=strength)
