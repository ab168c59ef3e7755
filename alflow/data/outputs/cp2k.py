"""What CP2K 7 to 2025 prints of a structure, or of each step of a run.

Energy, forces, stress, and whether its electrons converged.
"""

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ase import units
from numpy.typing import NDArray

Array = NDArray[np.float64]

NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
NOT_CONVERGED = re.compile(r"SCF run NOT converged|SCF loop FAILED to converge", re.IGNORECASE)
"""What it says of a self-consistent field that did not."""
END = "PROGRAM ENDED"
"""What an output that is whole ends with."""

_ENERGY = re.compile(rf"^ ENERGY\| Total FORCE_EVAL (.*?)({NUMBER})\s*$", re.MULTILINE)
_SCF = re.compile(r"SCF WAVEFUNCTION OPTIMIZATION")
_CONVERGED = re.compile(r"SCF run converged in|outer SCF loop converged in")
_FORCE = re.compile(rf"^ (?:FORCES\|)?\s+\d+(?:\s+\d+\s+[A-Z][a-z]?)?\s+({NUMBER})\s+({NUMBER})\s+({NUMBER})")
_FORCES_BEGIN = re.compile(r"^ (?:FORCES\| Atomic forces|ATOMIC FORCES) (?:in )?\[(.*?)\]", re.MULTILINE)
_STRESS_BEGIN = re.compile(r"^ STRESS\| Analytical stress tensor \[(.*?)\]", re.MULTILINE)
_STRESS = re.compile(rf"^ STRESS\|\s+[xyz]\s+({NUMBER})\s+({NUMBER})\s+({NUMBER})", re.MULTILINE)
_FORCE_UNITS = {"a.u.": units.Hartree / units.Bohr, "hartree/bohr": units.Hartree / units.Bohr}
_STRESS_UNITS = {"GPa": units.GPa, "bar": 1e-4 * units.GPa}


@dataclass(frozen=True)
class Evaluation:
    """One calculation of an output that has many.

    Attributes
    ----------
    hartree : float
        Its energy, hartree.
    converged : bool
        Whether its self-consistent field did.
    after : str
        What the output says from its energy on, up to the next calculation.
    """

    hartree: float
    converged: bool
    after: str

    @property
    def energy(self) -> float:
        """With smearing the free energy, eV."""
        return self.hartree * units.Hartree

    def forces(self, n_atoms: int) -> Array | None:
        """As of :func:`forces`."""
        return forces(self.after, n_atoms)

    def stress(self) -> Array | None:
        """As of :func:`stress`."""
        return stress(self.after)


def evaluations(text: str) -> list[Evaluation]:
    """All calculations of an output, of a mixed one those that put it together."""
    found = list(_ENERGY.finditer(text))
    mixed = [one for one in found if "MIXED" in one[1] or "EMBED" in one[1]]
    ends = mixed or found
    begins = [0, *(one.end() for one in ends)]
    following = {one.end(): other.start() for one, other in pairwise(found)}
    return [
        Evaluation(
            number(one[2]),
            converged=not _failed(text[begin : one.end()]),
            after=text[one.end() : following.get(one.end(), len(text))],
        )
        for begin, one in zip(begins[:-1], ends, strict=True)
    ]


def _failed(text: str) -> bool:
    """Whether a self-consistent field that has ended did not converge."""
    return bool(NOT_CONVERGED.search(text) or (_SCF.search(text) and not _CONVERGED.search(text)))


def unconverged(text: str) -> bool:
    """Whether a self-consistent field did not converge: it says so, or has ended without a word."""
    return bool(NOT_CONVERGED.search(text)) or (END in text and _failed(text))


def free_energy(text: str) -> float | None:
    """The last energy (eV): with smearing it is E - TS, whose gradient the forces are."""
    found = _ENERGY.findall(text)
    return number(found[-1][1]) * units.Hartree if found else None


def forces(text: str, n_atoms: int) -> Array | None:
    """The last forces (eV/Å); None where there are none; ValueError where they are those of other atoms."""
    begins = list(_FORCES_BEGIN.finditer(text))
    if not begins:
        return None
    unit = _FORCE_UNITS.get(begins[-1][1])
    rows: list[list[float]] = []
    for line in text[begins[-1].end() :].splitlines()[1:]:
        found = _FORCE.match(line)
        if found and len(rows) < n_atoms:
            rows.append([number(x) for x in found.groups()])
        elif rows:
            break
    if unit is None or len(rows) != n_atoms:
        msg = f"forces of {len(rows)} atoms in {begins[-1][1]}: expected {n_atoms}, in hartree/bohr"
        raise ValueError(msg)
    return unit * np.array(rows)


def stress(text: str) -> Array | None:
    """The last stress in ASE's sign and order (eV/Å^3), where there is one: CP2K prints the pressure tensor."""
    begins = list(_STRESS_BEGIN.finditer(text))
    if not begins or begins[-1][1] not in _STRESS_UNITS:
        return None
    rows = _STRESS.findall(text, begins[-1].end())[:3]
    tensor = -_STRESS_UNITS[begins[-1][1]] * np.array([[number(x) for x in row] for row in rows])
    return np.asarray(tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])


def number(text: str) -> float:
    """As Fortran writes it."""
    return float(text.replace("D", "E").replace("d", "e"))
