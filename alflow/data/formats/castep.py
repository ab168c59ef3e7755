"""Outputs of CASTEP (.castep), by ASE, with what it misses.

ASE 3.29 leaves a dispersion correction out of both energies, though the forces have it, and reads steps whose electrons
did not converge unmarked.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from alflow.data.formats import by_ase
from alflow.data.formats.base import Entries, Entry, Format, Unusable, text_of

_STEP = re.compile(r"^.*(?:BFGS: (?:starting|improving) iteration|Starting MD iteration).*$", re.MULTILINE)
_BEGIN = re.compile(r"^.*(?:Welcome|Materials Studio).*CASTEP.*$", re.MULTILINE)
_NOT_CONVERGED = re.compile(r"max\. SCF cycles performed but system has not reached the groundstate", re.IGNORECASE)
_CORRECTED = {  # what each is said to be, the last that is there wins
    "energy": (r"Dispersion corrected final energy", r"NB dispersion corrected est\. 0K energy"),
    "free_energy": (r"Dispersion corrected final energy", r"Dispersion corrected final free energy"),
}


def entries(path: Path) -> Entries:
    """The steps of the last run in a file; StructureError if it has not ended, or ASE stumbles."""
    steps = _steps(text_of(path))
    for found in by_ase.entries(path, "castep-castep"):
        text = next(steps, "")
        if _NOT_CONVERGED.search(text):
            yield Unusable("its self-consistent field did not converge")
        elif isinstance(found, Entry):
            yield replace(found, said={**found.said, **_corrected(text)})
        else:
            yield found


def _steps(text: str) -> Iterator[str]:
    """The text of each step."""
    begins = list(_BEGIN.finditer(text))
    yield from _STEP.split(text[begins[-1].start() if begins else 0 :])


def _corrected(text: str) -> dict[str, float]:
    """Energies (eV) with the dispersion correction, where there is one."""
    said: dict[str, float] = {}
    for name, keys in _CORRECTED.items():
        for key in keys:
            if found := re.findall(rf"^\s*{key}.*=\s*(-?\d+\.\d+)\s+eV", text, re.MULTILINE):
                said[name] = float(found[-1])
    return said


CASTEP = Format("output of CASTEP", lambda path, head: path.suffix == ".castep" and bool(head), entries)
