"""VASP, through ASE."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from alflow.data.outputs.vasp import nelm_of, unconverged
from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import Electrons
from alflow.reference.electrons import MOMENTS, STATE, fixed_moment, has
from alflow.reference.method import Result, labelled, properties_of
from alflow.reference.profiled import (
    OF_ALFLOW,
    OF_SYSTEM,
    SINGLE_POINT,
    ProfiledMethod,
    bare_atoms,
    check_parameters,
    of_shape,
    quiet,
    reading,
    run_program,
    unfinished,
    writing,
)
from alflow.reference.workflow import Workflow
from alflow.structures import charge_and_multiplicity
from alflow.workers import programs

_NOT_CONVERGED = re.compile(r"EDIFF was not reached")
_PLAIN = re.compile(r"energy\s+without entropy\s*=\s*(-?\d+\.\d+)\s+energy\(sigma->0\)")
"""E without -TS: neither the free energy nor its limit without smearing, which ASE calls the energy."""
_END = "General timing and accounting"
_VERSION = re.compile(r"^ vasp\.(\S+)", re.MULTILINE)
_SHELL = re.compile(r"[;&|$<>`(]")


_WORKFLOW = """\
# A crystal with VASP: silicon, PBE with projector augmented waves; VASP_PP_PATH must be set.
seed = 0

[[system]]
name = "silicon"
structures = "silicon.xyz"   # with its cell; XYZ, POSCAR, CIF, ..., relative to this one
copies = 11                  # displaced copies that are labelled with it in cycle 0
rattle = 0.08                # their displacement, Å (standard deviation)

[potential]
n_members = 16               # of the committee

[reference]
kind = "vasp"
command = "mpirun -np 4 vasp_std"   # by default what ASE_VASP_COMMAND or ASE's configuration file says

[reference.parameters]       # tags of INCAR in lower case, and those of ASE's calculator
xc = "pbe"
kpts = [3, 3, 3]
gamma = true                 # the grid of k-points has Gamma in it
encut = 320                  # eV
ediff = 1e-6                 # eV
nelm = 60                    # iterations until it must be self-consistent
ismear = 0
sigma = 0.05                 # eV; energies are free energies, whose gradient the forces are
prec = "Accurate"
lreal = false
lwave = false
lcharg = false

[failures]
not_converged = {parameters = {nelm = 200, algo = "All"}}   # a second attempt

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


class VaspMethod(ProfiledMethod):
    """VASP: parameters are the tags of INCAR in lower case, with ``xc``, ``kpts``, ``gamma`` and ``setups`` of ASE.

    Potentials are those of the environment variable VASP_PP_PATH, or of ASE's configuration file.
    """

    kind: Literal["vasp"] = Field(description="VASP by ASE, which needs VASP_PP_PATH")

    workflow: ClassVar[Workflow | None] = Workflow(_WORKFLOW)
    program: ClassVar[str] = "VASP"
    refused: ClassVar[Mapping[str, str]] = {
        "charge": OF_SYSTEM,
        "net_charge": OF_SYSTEM,
        "ml_lmlff": "VASP's own force field would give the labels",
        **dict.fromkeys(("atoms", "restart", "directory", "label", "txt", "command"), OF_ALFLOW),
    }

    def _deciding(self) -> dict[str, Any]:
        """With the release of the potentials; not with the folder of them, which may lie anywhere."""
        release = self.parameters.get("pp_version", _of_environment("VASP_PP_VERSION"))
        return {**self.parameters, **({"pp_version": release} if release else {})}

    def check(self) -> None:
        """ConfigError for parameters that cannot be, no potentials, or no program."""
        given = {**self.parameters.get("custom", {}), **self.parameters}
        given = {name.lower(): value for name, value in given.items()}
        for name, still in (("nsw", 0), ("ibrion", -1)):
            if (found := given.get(name, still)) != still:
                msg = f"reference.parameters.{name} = {found}: {SINGLE_POINT}: leave it out"
                raise ConfigError(msg)
        self._check_names()
        if not {"xc", "pp"} & set(self.parameters):
            msg = 'reference.parameters.xc is missing: the functional, "pbe"; or pp, the folder of the potentials'
            raise ConfigError(msg)
        check_parameters(self.parameters, self.required, self.refused)
        self.identity()
        potentials = _of_environment("VASP_PP_PATH")
        if potentials is None or not Path(potentials).is_dir():
            found = "is not set" if potentials is None else f"= {potentials} is no folder"
            msg = f"VASP_PP_PATH {found}: set it to the folder that has potpaw_PBE in it"
            raise ConfigError(msg)
        command = self._command()
        if self.command is not None or not _SHELL.search(command):
            programs.check_command(command, "reference")

    def _check_names(self) -> None:
        """ConfigError for a tag that ASE does not know: VASP itself ignores a misspelt one."""
        with quiet():
            tables = [value for name, value in vars(self._empty()).items() if name.endswith("_params")]
        known = {name for table in tables for name in table}
        for name in self.parameters:
            if name not in known and name not in self.refused:
                near = difflib.get_close_matches(name.lower(), known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                msg = f"reference.parameters: ASE knows no tag {name}: {hint}Others are given in a table, custom"
                raise ConfigError(msg)

    @staticmethod
    def _empty() -> Any:
        from ase.calculators.vasp import Vasp

        return Vasp()

    def _command(self) -> str:
        """The command line, ASE's for a shell; ConfigError when nothing says it."""
        if self.command is not None:
            return self.command
        from ase.calculators.calculator import CalculatorSetupError

        try:
            with quiet():
                return str(self._calculator(".").make_command())
        except CalculatorSetupError as error:
            msg = "reference.command is missing, and ASE_VASP_COMMAND is not set: give the program with its arguments"
            raise ConfigError(msg) from error

    def _calculator(self, place: Path | str, **more: Any) -> Any:
        from ase.calculators.vasp import Vasp

        return Vasp(directory=str(place), **{**more, **self.parameters})

    def told(self) -> frozenset[str]:
        """Charge, as a number of electrons, multiplicity and initial moments."""
        return STATE | {MOMENTS}

    def untold(self, atoms: Atoms) -> str:
        """As of any method; and what parameters of INCAR contradict."""
        return super().untold(atoms) or _contradiction(atoms, self.parameters)

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Run it; LabelError as of the protocol."""
        if not atoms.pbc.all():
            msg = f"VASP: periodic structures only, found pbc = {atoms.pbc.tolist()}: put it into a cell, with vacuum"
            raise LabelError("crashed", msg)
        if msg := _contradiction(atoms, self.parameters):
            raise LabelError("crashed", f"VASP: {msg}")
        command = self._command()
        words = ["/bin/sh", "-c", command] if self.command is None else programs.words_of(command, "reference")
        with programs.working_folder(folder) as place:
            with writing(self.program):
                calculator = self._calculator(place, **_charge(atoms), **_spin(atoms))
                calculator.write_input(bare_atoms(atoms, MOMENTS))
            log = run_program(words, place, place / "vasp.out", _NOT_CONVERGED)
            return read_output(place, atoms, calculator.resort, log)


def read_output(place: Path, atoms: Atoms, resort: list[int], log: str) -> Result:
    """Free energy, forces, stress and Fermi energy from vasprun.xml and OUTCAR of VASP 5 and 6; errors of ORCA's.

    Parameters
    ----------
    place : Path
        Folder of the calculation.
    atoms : Atoms
        Structure.
    resort : list of int
        Where each atom is in the files of VASP, which are sorted by species.
    log : str
        End of what VASP printed.
    """
    from ase.io import iread

    text = programs.text_of(place / "OUTCAR", "VASP")
    reason, ended = unconverged(text, nelm_of(text)), _END in text
    if reason and (ended or "aborting loop" in reason):
        msg = f"the self-consistent field did not converge: {reason}\n{log}"
        raise LabelError("not_converged", msg)
    if not ended:
        raise unfinished("VASP", log)
    with reading("VASP", log):
        programs.text_of(place / "vasprun.xml", "VASP")
        calculator: Any = next(iread(place / "vasprun.xml", index=-1, format="vasp-xml")).calc
        found = calculator.results
        results = {"energy": float(found["free_energy"]), "forces": of_shape(found.get("forces"), atoms)[resort]}
        if found.get("stress") is not None:
            results["stress"] = np.array(found["stress"])
        fermi = calculator.get_fermi_level()
    version = _VERSION.search(text)
    plain = _PLAIN.findall(text)
    of_structure, of_atoms = properties_of(found, len(atoms))
    return Result(
        labelled(atoms, **results),
        f"VASP {version[1]}" if version else "VASP",
        log,
        plain_energy=float(plain[-1]) if plain else float("nan"),
        electrons=Electrons() if fermi is None else Electrons(float(fermi)),
        properties=of_structure,
        atom_properties={name: value[resort] for name, value in of_atoms.items()},
    )


def _charge(atoms: Atoms) -> dict[str, Any]:
    """The charge, from which ASE counts NELECT by the potentials; with nelect among the parameters it compares them."""
    charge, _ = charge_and_multiplicity(atoms)
    return {"charge": charge} if charge else {}


def _spin(atoms: Atoms) -> dict[str, Any]:
    """Tags of INCAR for a multiplicity above 1, or for initial moments."""
    unpaired = fixed_moment(atoms)
    if unpaired is not None:
        return {"ispin": 2, "nupdown": unpaired}
    return {"ispin": 2} if has(atoms, MOMENTS) else {}


def _contradiction(atoms: Atoms, parameters: Mapping[str, Any]) -> str:
    """What parameters say otherwise than a structure; empty if nothing."""
    unpaired = fixed_moment(atoms)
    what = "initial magnetic moments" if unpaired is None else f"multiplicity {unpaired + 1}"
    for name, value in _spin(atoms).items():
        if (found := parameters.get(name, value)) != value:
            return f"the structure has {what}, but parameters.{name} = {found}: leave it out"
    if has(atoms, MOMENTS) and "magmom" in parameters:
        return "the structure has initial magnetic moments, and so have the parameters, magmom: leave one out"
    return ""


def _of_environment(name: str) -> str | None:
    """What ASE's configuration file or the environment says."""
    from ase.config import cfg  # it reads files of the user

    with quiet():
        return str(cfg[name]) if name in cfg else None
