"""Quantum ESPRESSO, with an input file of the user's own."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms, units
from pydantic import Field

from alflow.data.outputs.espresso import entropy_term, free_energy, threshold_of, unconverged
from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import Electrons
from alflow.reference.electrons import CHARGE, MOMENTS, MULTIPLICITY
from alflow.reference.method import Result, labelled, properties_of
from alflow.reference.templated import NAME, TemplateMethod, field_in, fill, vector_lines
from alflow.reference.workflow import Workflow
from alflow.structures import charge_and_multiplicity
from alflow.workers import programs

_DEMANDS = (
    (r"\btprnfor\s*=\s*\.t", "does not print forces: write tprnfor = .true. in &CONTROL"),
    (
        r"\btstress\s*=\s*\.[tf]",
        "does not say whether to print stress: write tstress = .true., or .false., in &CONTROL",
    ),
    (r"\bibrav\s*=\s*0\b", "takes its lattice from ibrav: write ibrav = 0 and CELL_PARAMETERS angstrom"),
    (r"^\s*cell_parameters\W+angstrom", "has no CELL_PARAMETERS angstrom: write it before {{ cell }}"),
    (r"^\s*atomic_positions\W+angstrom", "has no ATOMIC_POSITIONS angstrom: write it before {{ positions }}"),
    (r"^\s*atomic_species\b", "has no ATOMIC_SPECIES: list mass and pseudopotential of every species"),
    (r"\boutdir\s*=", "does not say where files go: write outdir = './', the folder of the calculation"),
)
_FORBIDDEN = (
    (r"\bcalculation\s*=\s*['\"](?!scf['\"])", "calculates more than one structure: write calculation = 'scf'"),
    (r"\boutdir\s*=\s*['\"][/~$]", "keeps files where other calculations do: write outdir = './'"),
    (
        r"\bpseudo_dir\s*=\s*['\"](?!/)",
        "has a relative pseudo_dir, which each calculation's folder lacks: write it whole",
    ),
)
_SPECIES = re.compile(r"^\s*([A-Za-z]\w*)\s+[\d.+-]\S*\s+(\S+)\s*$")
_VERSION = re.compile(r"Program PWSCF v\.(\S+)")
_TOLERANCE = 1e-4
"""To which the output says what structure it is of, Å."""


_WORKFLOW = """\
# A crystal with Quantum ESPRESSO: silicon, PBE in plane waves; espresso.in is the input file.
seed = 0

[[system]]
name = "silicon"
structures = "silicon.xyz"   # with its cell; XYZ, POSCAR, CIF, ..., relative to this one
copies = 11                  # displaced copies that are labelled with it in cycle 0
rattle = 0.08                # their displacement, Å (standard deviation)

[potential]
n_members = 16               # of the committee

[reference]
kind = "espresso"
template = "espresso.in"     # with fields {{ cell }}, {{ positions }}, {{ n_atoms }}, {{ n_species }} and {{ charge }}
command = "pw.x"             # or "mpirun -np 8 pw.x -nk 4", "srun pw.x"

[reference.variables]        # fields of your own in it
ecutwfc = 30                 # of the plane waves, Ry; forces are those of 40 Ry within 1e-3 eV/Å
max_scf = 60                 # iterations until it must be self-consistent

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

_ESPRESSO_IN = """\
! Silicon: PBE, norm-conserving pseudopotential, 2 x 2 x 2 k-points. Double braces are filled in.
&CONTROL
  calculation = 'scf'
  tprnfor = .true.
  tstress = .true.
  disk_io = 'none'
  outdir = './'
  pseudo_dir = '/usr/share/espresso/pseudo'   ! of Debian's quantum-espresso-data; otherwise where yours are
/
&SYSTEM
  ibrav = 0
  nat = {{ n_atoms }}
  ntyp = {{ n_species }}
  tot_charge = {{ charge }}
  ecutwfc = {{ ecutwfc }}     ! Ry
  nosym = .true.              ! k-points of every structure alike: energies and stress then belong together
/
&ELECTRONS
  conv_thr = 1.0d-9
  electron_maxstep = {{ max_scf }}
/
ATOMIC_SPECIES
  Si 28.0855 Si.pbe-rrkj.UPF
K_POINTS automatic
  2 2 2 1 1 1
CELL_PARAMETERS angstrom
  {{ cell }}
ATOMIC_POSITIONS angstrom
  {{ positions }}
"""


class EspressoMethod(TemplateMethod):
    """The program pw.x of Quantum ESPRESSO.

    In its template ``{{ cell }}`` (three lines for ``CELL_PARAMETERS angstrom``), ``{{ positions }}`` (for
    ``ATOMIC_POSITIONS angstrom``), ``{{ n_atoms }}``, ``{{ n_species }}`` (as many as ``ATOMIC_SPECIES`` lists),
    ``{{ charge }}`` (for ``tot_charge``) and ``{{ magnetization }}`` (for ``tot_magnetization``: the multiplicity less
    1) stand for the structure, and others for variables. Nothing is added to it. Write ``nosym = .true.``: otherwise
    automatic k-points follow the symmetry of the lattice, and the energy jumps where a strain breaks it.
    ``-in pw.in`` is added to the command.
    """

    kind: Literal["espresso"] = Field(
        description="pw.x of Quantum ESPRESSO; fields of the template: cell, positions, n_atoms, n_species, charge, "
        "magnetization"
    )
    command: str = Field("pw.x", min_length=1, description=programs.COMMAND)

    workflow: ClassVar[Workflow | None] = Workflow(_WORKFLOW, {"espresso.in": _ESPRESSO_IN})
    program: ClassVar[str] = "Quantum ESPRESSO"
    fields: ClassVar[frozenset[str]] = frozenset(
        {"cell", "positions", "n_atoms", "n_species", "charge", "magnetization"}
    )
    how_to_tell: ClassVar[Mapping[str, str]] = {
        CHARGE: f"write tot_charge = {{{{ charge }}}} in {NAME}",
        MULTIPLICITY: f"write nspin = 2 and tot_magnetization = {{{{ magnetization }}}} in {NAME}",
        MOMENTS: f"leave them out of the structure file, and write starting_magnetization of each species in {NAME}",
    }
    required: ClassVar[Mapping[str, str]] = {
        "cell": "after CELL_PARAMETERS angstrom",
        "positions": "after ATOMIC_POSITIONS angstrom",
        "n_atoms": "as nat",
    }

    def _check_text(self) -> None:
        """ConfigError for what pw.x would not do, or do otherwise than is needed, and for no pseudopotentials."""
        text = self._without_comments()
        faults = [fault for pattern, fault in _DEMANDS if not _found(pattern, text)]
        faults += [fault for pattern, fault in _FORBIDDEN if _found(pattern, text)]
        if faults:
            msg = f"{NAME} {faults[0]}"
            raise ConfigError(msg)
        directory = re.search(r"\bpseudo_dir\s*=\s*['\"]([^'\"]+)", text, re.IGNORECASE)
        for name in self._species().values() if directory else ():
            if directory and not (Path(directory[1]) / name).is_file():
                msg = f"{NAME}: no pseudopotential {name} in {directory[1]}: put it there, or correct its name"
                raise ConfigError(msg)

    def told(self) -> frozenset[str]:
        """Charge and multiplicity where the template has a place for them."""
        text = self._without_comments()
        fields = {CHARGE: "charge", MULTIPLICITY: "magnetization"}
        return frozenset(name for name, field in fields.items() if field_in(field, text))

    def untold(self, atoms: Atoms) -> str:
        """As of any method; and a doublet, which pw.x does not take by itself: without spin it is half in each."""
        multiplicity = charge_and_multiplicity(atoms)[1]
        if multiplicity > 1 and MULTIPLICITY not in self.told():
            return f"its multiplicity {multiplicity} does not reach pw.x: {self.how_to_tell[MULTIPLICITY]}"
        return super().untold(atoms)

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Run it; LabelError as of the protocol."""
        self._refuse(atoms)
        with programs.working_folder(folder) as place:
            (place / "pw.in").write_text(self._input(atoms), encoding="utf-8")
            output = place / "pw.out"
            words = [*programs.words_of(self.command, "reference"), "-in", "pw.in"]
            try:
                log = programs.run(words, place, output)
            except LabelError:
                if output.is_file():
                    _check_converged(output.read_text(encoding="utf-8", errors="replace"))
                raise
            return read_output(output, atoms, log)

    def _without_comments(self) -> str:
        """The template with the variables filled in, fields of the structure as they are, and no comments."""
        values = {name: f"{{{{ {name} }}}}" for name in self.fields}
        text = fill(self.text, {**values, **self.variables})
        return re.sub(r"^\s*[!#].*$|!.*$", "", text, flags=re.MULTILINE)

    def _species(self) -> dict[str, str]:
        """Pseudopotential of each species that ATOMIC_SPECIES lists."""
        species: dict[str, str] = {}
        card = re.search(r"^\s*atomic_species\b.*$", text := self._without_comments(), re.MULTILINE | re.IGNORECASE)
        for line in text[card.end() :].splitlines() if card else ():
            if found := _SPECIES.match(line):
                species[found[1]] = found[2]
            elif line.strip():
                break
        return species

    def _refuse(self, atoms: Atoms) -> None:
        """LabelError for a structure that this template cannot describe."""
        unknown = sorted(set(atoms.get_chemical_symbols()) - set(self._species()))
        msg = ""
        if atoms.cell.rank < 3:
            msg = (
                f"Quantum ESPRESSO needs a cell, found {atoms.cell.rank} vectors: give the structure a box with vacuum"
            )
        elif unknown:
            msg = f"ATOMIC_SPECIES of {NAME} has no {unknown[0]}: add its mass and pseudopotential"
        msg = msg or self.untold(atoms)
        if msg:
            raise LabelError("crashed", msg)

    def _input(self, atoms: Atoms) -> str:
        """The input file for a structure."""
        charge, magnetization = _state(atoms)
        values = {
            **self.variables,
            "cell": vector_lines(atoms.cell.array, ["", "", ""]),
            "positions": vector_lines(atoms.positions, atoms.get_chemical_symbols()),
            "n_atoms": len(atoms),
            "n_species": len(self._species()),
            "charge": charge,
            "magnetization": magnetization,
        }
        return fill(self.text, values)


def read_output(path: Path, atoms: Atoms, log: str) -> Result:
    """Energy, forces, stress, eigenvalues and Fermi energy from the output of one self-consistent calculation.

    With smearing the energy is the free energy, E - TS, whose gradient the forces are. Eigenvalues are those of all
    k-points.

    Raises
    ------
    LabelError
        ``not_converged`` when a self-consistent field did not converge; ``no_output`` when the output has no end,
        energy or forces, or is not that of the structure.
    """
    import ase.io

    text = programs.text_of(path, "pw.x")
    _check_converged(text)
    energy = free_energy(text)
    last = text.rfind("End of self-consistent calculation")
    if "JOB DONE" not in text or energy is None or "convergence has been achieved" not in text[last:]:
        msg = f"the output ends without an energy that is self-consistent\n{log}"
        raise LabelError("no_output", msg)
    try:
        frames = list(ase.io.iread(path, index=":", format="espresso-out"))
        calculator = frames[-1].calc
        found = {name: np.array(value) for name, value in calculator.results.items() if name in {"forces", "stress"}}
    except Exception as error:
        msg = f"the output cannot be read ({type(error).__name__}: {error})\n{log}"
        raise LabelError("no_output", msg) from error
    _check_structure(frames, atoms)
    if "forces" not in found:
        msg = "no forces in the output: write tprnfor = .true. in &CONTROL"
        raise LabelError("no_output", msg)
    if not atoms.pbc.all():
        found.pop("stress", None)
    version = _VERSION.search(text)
    code = f"Quantum ESPRESSO {version[1]}" if version else "Quantum ESPRESSO"
    energy, entropy = energy * units.Ry, entropy_term(text)
    of_structure, of_atoms = properties_of(calculator.results, len(atoms))
    return Result(
        labelled(atoms, energy=energy, **found),
        code,
        log,
        plain_energy=float("nan") if entropy is None else energy - entropy * units.Ry,
        electrons=_electrons(calculator, "the Fermi energy is" in text),
        properties=of_structure,
        atom_properties=of_atoms,
    )


def _check_converged(text: str) -> None:
    """LabelError when a self-consistent field did not converge."""
    reason = unconverged(text, threshold_of(text))
    if "NOT achieved" in reason or (reason and "JOB DONE" in text):
        end = text.rfind("End of self-consistent calculation")
        lines = (text[:end] if end >= 0 else text).splitlines()[-12:]
        msg = "\n".join([f"the self-consistent field did not converge: {reason.strip()}", *lines])
        raise LabelError("not_converged", msg)


def _check_structure(frames: list[Atoms], atoms: Atoms) -> None:
    """LabelError when what was calculated is not the structure."""
    found = frames[-1]
    if len(frames) != 1 or len(found) != len(atoms) or (found.numbers != atoms.numbers).any():
        msg = f"the output is of {len(frames)} structures, the last {found.get_chemical_formula()}: expected one"
        raise LabelError("no_output", f"{msg} of {atoms.get_chemical_formula()}")
    error = max(np.abs(found.positions - atoms.positions).max(), np.abs(found.cell.array - atoms.cell.array).max())
    if error > _TOLERANCE:
        msg = f"the output is of a structure that differs by {error:.2g} Å: look at the units and the lattice of {NAME}"
        raise LabelError("no_output", msg)


def _electrons(calculator: Any, is_metal: bool) -> Electrons:
    """Fermi energy and eigenvalues, eV, where the output has them."""
    fermi = float(calculator.get_fermi_level()) if is_metal else float("nan")
    points = calculator.kpts
    if not points:
        return Electrons(fermi)
    spins = sorted({point.s for point in points})
    of_spin = [[point for point in points if point.s == spin] for spin in spins]
    longest = max(of_spin, key=len)
    eigenvalues = np.full((len(spins), len(longest), max(len(point.eps_n) for point in points)), np.nan)
    for values, group in zip(eigenvalues, of_spin, strict=True):
        for row, point in zip(values, group, strict=False):
            row[: len(point.eps_n)] = point.eps_n
    # both spins have the same k-points; what the output gives sums to 2 without spin, and may be rounded
    weights = np.array([point.weight for point in longest], dtype=float)
    return Electrons(fermi, eigenvalues, kpoint_weights=weights / weights.sum())


def _state(atoms: Atoms) -> tuple[int, int]:
    """Charge (e) and magnetization (Bohr magnetons)."""
    charge, multiplicity = charge_and_multiplicity(atoms)
    return charge, multiplicity - 1


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.MULTILINE | re.IGNORECASE) is not None
