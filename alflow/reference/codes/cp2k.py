"""CP2K, with an input file of the user's own."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray
from pydantic import Field

from alflow.data.outputs.cp2k import END, NOT_CONVERGED, NUMBER, forces, free_energy, number, stress, unconverged
from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import Electrons, levels
from alflow.reference.electrons import CHARGE, MOMENTS, MULTIPLICITY, STATE
from alflow.reference.method import Result, labelled
from alflow.reference.templated import NAME, TemplateMethod, field_in, fill, periodic_needs_cell, vector_lines
from alflow.reference.workflow import Workflow
from alflow.structures import charge_and_multiplicity
from alflow.workers import programs

_VERSION = re.compile(r"version string:\s+(CP2K version \S+)")
_FERMI = re.compile(rf"^  Fermi energy:\s+({NUMBER})|E\(Fermi\):\s+({NUMBER}) a\.u\.", re.MULTILINE)
_ENTROPY = re.compile(rf"^\s+Electronic entropic energy:\s+({NUMBER})\s*$", re.MULTILINE)
"""-TS, hartree: part of the energy that is printed."""
_KPOINTS = re.compile(r"^\s*&KPOINTS\b(.*?)^\s*&END", re.MULTILINE | re.IGNORECASE | re.DOTALL)
_SYMMETRY = re.compile(r"^\s*SYMMETRY(?:\s+\.?(?:T|TRUE|ON|YES)\b\.?)?\s*(?:[!#].*)?$", re.MULTILINE | re.IGNORECASE)
_ORBITALS = re.compile(r"^ MO\|.*EIGENVALUES AND OCCUPATION NUMBERS", re.MULTILINE)
_ORBITAL = re.compile(rf"^ MO\|\s+\d+\s+({NUMBER})\s+({NUMBER})\s+({NUMBER})\s*$")
_COMMENT = re.compile(r"[!#].*$", re.MULTILINE)
_POLARISED = re.compile(
    r"^\s*(?:UKS|UNRESTRICTED_KOHN_SHAM|LSD|SPIN_POLARIZED|ROKS|RESTRICTED_OPEN_KOHN_SHAM)\b"
    r"(?!\s+(?:\.?F(?:ALSE)?\.?|NO|OFF|0)\b)",
    re.MULTILINE | re.IGNORECASE,
)
"""Without it CP2K puts electrons into pairs, whatever MULTIPLICITY says: with smearing half of one, without a word."""


_WORKFLOW = """\
# A crystal with CP2K: silicon, PBE with GTH pseudopotentials; cp2k.inp is the input file.
seed = 0

[[system]]
name = "silicon"
structures = "silicon.xyz"   # with its cell; XYZ, POSCAR, CIF, ..., relative to this one
copies = 11                  # displaced copies that are labelled with it in cycle 0
rattle = 0.08                # their displacement, Å (standard deviation)

[potential]
n_members = 16               # of the committee

[reference]
kind = "cp2k"
template = "cp2k.inp"        # with fields {{ cell }}, {{ coordinates }}, {{ charge }} and {{ multiplicity }}
command = "cp2k.psmp"        # or "mpirun -np 8 cp2k.psmp", "srun cp2k.psmp"

[reference.variables]        # fields of your own in it
cutoff = 300                 # of the grid, Ry; forces are those of 600 Ry within 1e-5 eV/Å
max_scf = 50                 # iterations until it must be self-consistent

[failures]
not_converged = {variables = {max_scf = 200}}   # a second attempt

[sample]
temperature = [300, 600]     # K, one walker each
timestep = 1.0               # fs
steps = 1000                 # of each walker in each cycle
stride = 20                  # steps between stored frames

[select]
budget = 10                  # structures in each cycle, at most
force_sigma_min = 0.03       # eV/Å, calibrated; less uncertain frames are not labelled

[converge]
force_sigma = 0.05           # eV/Å; stop when no sampled sigma is above this
max_cycles = 5

[executor]
kind = "local"               # processes on this machine
workers = 1                  # calculations at once, each with the ranks of the command
timeout = 3600               # s after which a calculation is killed
"""

_CP2K_INP = """\
! Silicon: PBE, GTH pseudopotential, 2 x 2 x 2 k-points. Double braces are filled in.
&GLOBAL
  PROJECT silicon
  RUN_TYPE ENERGY_FORCE
  PRINT_LEVEL LOW
&END GLOBAL
&FORCE_EVAL
  METHOD QUICKSTEP
  STRESS_TENSOR ANALYTICAL
  &PRINT
    &FORCES ON
    &END FORCES
    &STRESS_TENSOR ON
    &END STRESS_TENSOR
  &END PRINT
  &DFT
    BASIS_SET_FILE_NAME BASIS_MOLOPT
    POTENTIAL_FILE_NAME GTH_POTENTIALS
    CHARGE {{ charge }}
    MULTIPLICITY {{ multiplicity }}
    &MGRID
      CUTOFF {{ cutoff }}              ! Ry
      REL_CUTOFF 50
    &END MGRID
    &QS
      EPS_DEFAULT 1.0E-12
    &END QS
    &KPOINTS
      SCHEME MONKHORST-PACK 2 2 2
    &END KPOINTS
    &SCF
      SCF_GUESS ATOMIC             ! nothing of another structure
      EPS_SCF 1.0E-7
      MAX_SCF {{ max_scf }}
      &DIAGONALIZATION
      &END DIAGONALIZATION
      &MIXING
        METHOD BROYDEN_MIXING
        ALPHA 0.4
      &END MIXING
      &PRINT
        &RESTART OFF
        &END RESTART
      &END PRINT
    &END SCF
    &XC
      &XC_FUNCTIONAL PBE
      &END XC_FUNCTIONAL
    &END XC
  &END DFT
  &SUBSYS
    &CELL
      {{ cell }}
    &END CELL
    &COORD
      {{ coordinates }}
    &END COORD
    &KIND Si
      BASIS_SET DZVP-MOLOPT-SR-GTH
      POTENTIAL GTH-PBE-q4
    &END KIND
  &END SUBSYS
&END FORCE_EVAL
"""


class Cp2kMethod(TemplateMethod):
    """CP2K.

    In its template ``{{ cell }}`` (vectors A, B and C, and PERIODIC, for ``&CELL``), ``{{ coordinates }}`` (for
    ``&COORD``), ``{{ charge }}`` and ``{{ multiplicity }}`` stand for the structure, and others for variables.
    ``-i cp2k.inp`` is added to the command.
    """

    kind: Literal["cp2k"] = Field(description="CP2K; fields of the template: cell, coordinates, charge, multiplicity")
    command: str = Field("cp2k.psmp", min_length=1, description=programs.COMMAND)

    workflow: ClassVar[Workflow | None] = Workflow(_WORKFLOW, {"cp2k.inp": _CP2K_INP})
    program: ClassVar[str] = "CP2K"
    fields: ClassVar[frozenset[str]] = frozenset({"cell", "coordinates", "charge", "multiplicity"})
    how_to_tell: ClassVar[Mapping[str, str]] = {
        CHARGE: f"write CHARGE {{{{ charge }}}} in &DFT of {NAME}",
        MULTIPLICITY: f"write UKS and MULTIPLICITY {{{{ multiplicity }}}} in &DFT of {NAME}",
        MOMENTS: f"leave them out of the structure file, and write MAGNETIZATION in each &KIND of {NAME}",
    }
    required: ClassVar[Mapping[str, str]] = {"coordinates": "inside &COORD, without a unit (they are in Å)"}

    def _check_text(self) -> None:
        """ConfigError if forces would not be printed, or k-points be reduced by symmetry."""
        if not re.search(r"^\s*&FORCES\b", self.text, re.MULTILINE | re.IGNORECASE):
            msg = f"{NAME} does not print forces: add &PRINT with &FORCES in &FORCE_EVAL, and RUN_TYPE ENERGY_FORCE"
            raise ConfigError(msg)
        if any(_SYMMETRY.search(section) for section in _KPOINTS.findall(self.text)):
            msg = f"{NAME} has SYMMETRY in &KPOINTS, with which CP2K's energies are wrong without a word: leave it out"
            raise ConfigError(msg)

    def told(self) -> frozenset[str]:
        """Charge and multiplicity where the template has a place for them."""
        text = _COMMENT.sub("", self.text)
        return frozenset(name for name in STATE if field_in(name, text))

    def untold(self, atoms: Atoms) -> str:
        """As of any method; and unpaired electrons in a template that has spins only in pairs."""
        multiplicity = charge_and_multiplicity(atoms)[1]
        text = fill(_COMMENT.sub("", self.text), {**dict.fromkeys(self.fields, ""), **self.variables})
        if multiplicity > 1 and not _POLARISED.search(text):
            return f"its multiplicity {multiplicity} has no effect in CP2K without UKS: write UKS in &DFT of {NAME}"
        return super().untold(atoms)

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Run it; LabelError as of the protocol."""
        periodic_needs_cell(atoms, self.text)
        with programs.working_folder(folder) as place:
            (place / "cp2k.inp").write_text(self._input(atoms), encoding="utf-8")
            output = place / "cp2k.out"
            words = [*programs.words_of(self.command, "reference"), "-i", "cp2k.inp"]
            log = programs.run(words, place, output)
            return read_output(programs.text_of(output, "CP2K"), atoms, log)

    def _input(self, atoms: Atoms) -> str:
        """The input file for a structure."""
        periodic = "".join(axis for axis, flag in zip("XYZ", atoms.pbc, strict=True) if flag) or "NONE"
        charge, multiplicity = charge_and_multiplicity(atoms)
        values = {
            **self.variables,
            "cell": f"{vector_lines(atoms.cell.array, ['A', 'B', 'C'])}\nPERIODIC {periodic}",
            "coordinates": vector_lines(atoms.positions, atoms.get_chemical_symbols()),
            "charge": charge,
            "multiplicity": multiplicity,
        }
        return fill(self.text, values)


def read_output(text: str, atoms: Atoms, log: str) -> Result:
    """Energy, forces, stress, orbital energies and Fermi energy from the output of versions 7 to 2025.

    With smearing the energy is the electronic free energy, E - TS, whose gradient the forces are.

    Raises
    ------
    LabelError
        ``not_converged`` when a self-consistent calculation did not converge; ``no_output`` when the output has no
        end, energy or forces.
    """
    if unconverged(text):
        msg = f"the self-consistent field did not converge\n{_scf_tail(text)}"
        raise LabelError("not_converged", msg)
    energy = free_energy(text)
    if END not in text or energy is None:
        msg = f"the output ends without an energy\n{log}"
        raise LabelError("no_output", msg)
    results = {"energy": energy, "forces": _forces(text, len(atoms))}
    tensor = stress(text)
    if tensor is not None and atoms.pbc.all():
        results["stress"] = tensor
    version = _VERSION.search(text)
    entropy = _ENTROPY.findall(text)
    plain = energy - number(entropy[-1]) * units.Hartree if entropy else float("nan")
    code = version[1] if version else "CP2K"
    return Result(labelled(atoms, **results), code, log, plain_energy=plain, electrons=_electrons(text))


def _forces(text: str, n_atoms: int) -> NDArray[np.float64]:
    try:
        found = forces(text, n_atoms)
    except ValueError as error:
        raise LabelError("no_output", str(error)) from error
    if found is None:
        msg = "no forces in the output: add &PRINT with &FORCES to &FORCE_EVAL, and RUN_TYPE ENERGY_FORCE"
        raise LabelError("no_output", msg)
    return found


def _electrons(text: str) -> Electrons:
    """Fermi energy and orbital energies, eV, where the output has them."""
    fermi = _FERMI.findall(text)
    blocks = [_block(text[found.end() :]) for found in _ORBITALS.finditer(text)]
    # a list is printed at every step that &EACH asks for, with spin one for each: the last count
    last = blocks[-2:] if "ALPHA" in text and len(blocks) > 1 else blocks[-1:]
    return Electrons(
        fermi_energy=number(fermi[-1][0] or fermi[-1][1]) * units.Hartree if fermi else float("nan"),
        eigenvalues=levels([[row[0] for row in block] for block in last]),
        occupations=levels([[row[1] for row in block] for block in last]),
    )


def _block(text: str) -> list[tuple[float, float]]:
    """Energy (eV) and occupation of each orbital of a list."""
    rows: list[tuple[float, float]] = []
    for line in text.splitlines()[1:]:
        found = _ORBITAL.match(line)
        if found:
            rows.append((number(found[1]) * units.Hartree, number(found[3])))
        elif rows or not line.startswith(" MO|"):
            break
    return rows


def _scf_tail(text: str) -> str:
    """The last steps of the self-consistent field."""
    steps = text[text.rfind("SCF WAVEFUNCTION OPTIMIZATION") :]
    end = NOT_CONVERGED.search(steps)
    lines = (steps[: end.end()] if end else steps).splitlines()
    return "\n".join(lines[-12:])
