"""ORCA, through ASE."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms, units
from pydantic import Field

from alflow.data.outputs.orca import END, NOT_CONVERGED
from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import Electrons, levels
from alflow.reference.electrons import STATE
from alflow.reference.method import Result, labelled
from alflow.reference.profiled import (
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
from alflow.reference.workflow import Workflow
from alflow.structures import charge_and_multiplicity
from alflow.workers import programs

_MOVES = re.compile(
    r"(?<!\S)(?:[\w-]*opt(?:h|ts)?|[\w-]*neb[\w-]*|irc|md|goat[\w-]*|(?:num|an)?freq|scants)(?!\S)", re.IGNORECASE
)
_MOVING_BLOCK = re.compile(r"%(?:md|neb|irc|goat|compound)\b|\$new_job", re.IGNORECASE)
_STRUCTURE = re.compile(r"%?coords|^\s*\*\s*\w+", re.IGNORECASE | re.MULTILINE)
_SAME_PLACE = 1e-4
"""To which ORCA says what positions its gradient is of, Å."""
_VERSION = re.compile(r"Program Version (\S+)")
_ORBITAL = re.compile(r"^\s*(\d+)\s+(\d\.\d+)\s+(-?\d+\.\d+)\s+-?\d+\.\d+\s*$")


_WORKFLOW = """\
# A molecule with ORCA: ethanol, PBE0 with dispersion in a small basis set.
seed = 0

[[system]]
name = "ethanol"
structures = "ethanol.xyz"   # XYZ, POSCAR, CIF, ..., relative to this one
copies = 15                  # displaced copies that are labelled with it in cycle 0
rattle = 0.05                # their displacement, Å (standard deviation)

[potential]
n_members = 16               # of the committee

[reference]
kind = "orca"
command = "orca"             # its full path; by default what ASE's configuration file says

[reference.parameters]
orcasimpleinput = "PBE0 D4 def2-SVP def2/J RIJCOSX TightSCF"   # the line after the !; EnGrad is added
orcablocks = "%pal nprocs 4 end"

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
workers = 1                  # calculations at once, each with the ranks of the command
timeout = 3600               # s after which a calculation is killed
"""


class OrcaMethod(ProfiledMethod):
    """ORCA: molecules; parameters ``orcasimpleinput`` (the line that begins with !) and ``orcablocks``."""

    kind: Literal["orca"] = Field(description="ORCA by ASE: parameters orcasimpleinput and orcablocks")

    workflow: ClassVar[Workflow | None] = Workflow(_WORKFLOW)
    program: ClassVar[str] = "ORCA"
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

    def told(self) -> frozenset[str]:
        """Charge and multiplicity."""
        return STATE

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
            log = run_program(words, place, output, NOT_CONVERGED)
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
    if NOT_CONVERGED.search(text):
        msg = f"the self-consistent field did not converge\n{log}"
        raise LabelError("not_converged", msg)
    if END not in text:
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
    return Result(labelled(atoms, energy=energy, forces=forces), code, log, electrons=_orbitals(text))


def _check_places(gradient: str, atoms: Atoms) -> None:
    """LabelError if the gradient is that of other positions: symmetry can turn a molecule."""
    lines = gradient.partition("# The atomic numbers and current coordinates in Bohr")[2].splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    places = np.array([[float(x) for x in row[1:4]] for row in rows])
    if places.shape != atoms.positions.shape or np.abs(places * units.Bohr - atoms.positions).max() > _SAME_PLACE:
        msg = "ORCA calculated other positions than those it was given: leave symmetry (UseSym) out"
        raise LabelError("no_output", msg)


def _orbitals(text: str) -> Electrons:
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
    return Electrons(
        eigenvalues=levels([[energy for energy, _ in spin] for spin in spins]),
        occupations=levels([[occupation for _, occupation in spin] for spin in spins]),
    )
