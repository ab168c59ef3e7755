"""ORCA, through ASE."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units

from alflow.errors import ConfigError, LabelError
from alflow.reference import programs
from alflow.reference.method import Result, labelled
from alflow.reference.profiles import (
    OF_SYSTEM,
    SINGLE_POINT,
    ProfiledMethod,
    bare_atoms,
    of_shape,
    reading,
    run_program,
    unfinished,
    writing,
)
from alflow.structures import charge_and_multiplicity

_MOVES = re.compile(
    r"(?<!\S)(?:[\w-]*opt(?:h|ts)?|[\w-]*neb[\w-]*|irc|md|goat[\w-]*|(?:num|an)?freq|scants)(?!\S)", re.IGNORECASE
)
_MOVING_BLOCK = re.compile(r"%(?:md|neb|irc|goat|compound)\b|\$new_job", re.IGNORECASE)
_STRUCTURE = re.compile(r"%?coords|^\s*\*\s*\w+", re.IGNORECASE | re.MULTILINE)
_NOT_CONVERGED = re.compile(r"SCF NOT CONVERGED AFTER|not fully converged|iterations have not converged", re.IGNORECASE)
_SAME_PLACE = 1e-4
"""To which ORCA says what positions its gradient is of, Å."""
_VERSION = re.compile(r"Program Version (\S+)")
_ORBITAL = re.compile(r"^\s*(\d+)\s+(\d\.\d+)\s+(-?\d+\.\d+)\s+-?\d+\.\d+\s*$")


@dataclass(frozen=True)
class OrcaMethod(ProfiledMethod):
    """ORCA: molecules; parameters ``orcasimpleinput`` (the line that begins with !) and ``orcablocks``."""

    kind = "orca"
    program = "ORCA"
    required: ClassVar[Mapping[str, str]] = {"orcasimpleinput": 'the line after the !: "PBE def2-SVP TightSCF"'}
    refused: ClassVar[Mapping[str, str]] = {"charge": OF_SYSTEM, "mult": OF_SYSTEM}

    def check(self) -> None:
        """ConfigError for parameters that cannot be, or no program."""
        if unknown := set(self.parameters) - {"orcasimpleinput", "orcablocks", "charge", "mult"}:
            msg = f"reference.parameters: no parameter {min(unknown)}: expected orcasimpleinput or orcablocks"
            raise ConfigError(msg)
        for name, pattern in (("orcasimpleinput", _MOVES), ("orcablocks", _MOVING_BLOCK)):
            if found := pattern.search(str(self.parameters.get(name, ""))):
                msg = f"reference.parameters.{name} has {found[0].strip()}: {SINGLE_POINT}: leave it out"
                raise ConfigError(msg)
        if found := _STRUCTURE.search(str(self.parameters.get("orcablocks", ""))):
            msg = f"reference.parameters.orcablocks has {found[0].strip()}: the structure is alflow's: leave it out"
            raise ConfigError(msg)
        super().check()

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Run it; LabelError as of the protocol."""
        from ase.calculators.orca import ORCA, OrcaProfile

        if atoms.pbc.any():
            msg = f"ORCA calculates molecules, found pbc = {atoms.pbc.tolist()}: set pbc to false, or use another code"
            raise LabelError("crashed", msg)
        words = programs.words_of(self._command(), "reference")
        simple = str(self.parameters["orcasimpleinput"])
        parameters = {
            "orcablocks": "",
            **self.parameters,
            "orcasimpleinput": simple if "engrad" in simple.lower().split() else f"{simple} EnGrad",
            "charge": charge_and_multiplicity(atoms)[0],
            "mult": charge_and_multiplicity(atoms)[1],
        }
        with programs.working_folder(folder) as place:
            with writing(self.program):
                calculator = ORCA(profile=OrcaProfile(words[0]), directory=place, **parameters)
                calculator.write_inputfiles(bare_atoms(atoms), ["energy", "forces"])
            # with MPI, ORCA must be called by its full path
            words = [shutil.which(words[0]) or words[0], *words[1:], calculator.template.inputname]
            output = place / calculator.template.outputname
            log = run_program(words, place, output, _NOT_CONVERGED)
            return read_output(output, atoms, log)


def read_output(output: Path, atoms: Atoms, log: str) -> Result:
    """Energy, forces and orbital energies from the output of ORCA 4 to 6, and the file .engrad beside it.

    Raises
    ------
    LabelError
        ``not_converged``, whatever energy was printed; ``no_output`` when the output has no end, energy or forces.
    """
    from ase.io.orca import read_energy, read_orca_engrad

    text = programs.text_of(output, "ORCA")
    if _NOT_CONVERGED.search(text):
        msg = f"the self-consistent field did not converge\n{log}"
        raise LabelError("not_converged", msg)
    if "ORCA TERMINATED NORMALLY" not in text:
        raise unfinished("ORCA", log)
    gradient = output.with_suffix(".engrad")
    with reading("ORCA", log):
        _check_places(programs.text_of(gradient, "ORCA"), atoms)
        energy = read_energy(text.splitlines())
        forces = of_shape(read_orca_engrad(gradient), atoms)
    if energy is None:
        msg = f"ORCA: no FINAL SINGLE POINT ENERGY in the output\n{log}"
        raise LabelError("no_output", msg)
    version = _VERSION.search(text)
    code = f"ORCA {version[1]}" if version else "ORCA"
    return Result(labelled(atoms, energy=energy, forces=forces), code, log, _orbitals(text))


def _check_places(gradient: str, atoms: Atoms) -> None:
    """LabelError if the gradient is that of other positions: symmetry can turn a molecule."""
    lines = gradient.partition("# The atomic numbers and current coordinates in Bohr")[2].splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    places = np.array([[float(x) for x in row[1:4]] for row in rows])
    if places.shape != atoms.positions.shape or np.abs(places * units.Bohr - atoms.positions).max() > _SAME_PLACE:
        msg = "ORCA calculated other positions than those it was given: leave symmetry (UseSym) out"
        raise LabelError("no_output", msg)


def _orbitals(text: str) -> dict[str, Any]:
    """The last list of orbital energies, eV, for each spin."""
    spins: list[list[tuple[float, float]]] = []
    for line in text[text.rfind("\nORBITAL ENERGIES") :].splitlines()[3:] if "\nORBITAL ENERGIES" in text else ():
        if found := _ORBITAL.match(line):
            if int(found[1]) == 0:
                spins.append([])
            if spins:
                spins[-1].append((float(found[3]) * units.Hartree, float(found[2])))
        elif spins and line.lstrip().startswith(("---", "***")):
            break
    if not spins:
        return {}
    return {
        "eigenvalues": [[energy for energy, _ in spin] for spin in spins],
        "occupations": [[occupation for _, occupation in spin] for spin in spins],
    }
