"""GPAW, in this process."""

import importlib
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import Field

from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import Electrons, levels
from alflow.reference.electrons import MOMENTS, STATE, fixed_moment, has
from alflow.reference.method import MethodSection, Result, labelled, properties_of
from alflow.reference.profiled import OF_ALFLOW, OF_SYSTEM, bare_atoms, canonical, check_parameters, one_line
from alflow.reference.workflow import Workflow
from alflow.structures import charge_and_multiplicity
from alflow.workers import programs
from alflow.workers.programs import reason_of

_ENTROPY = re.compile(r"^Entropy \(-ST\):\s+([-+]?\d+\.\d+)\s*$", re.MULTILINE)
"""-TS, eV: part of the free energy. The energy that GPAW extrapolates to no smearing is neither of the two."""

_WORKFLOW = """\
# A crystal with GPAW: silicon, PBE with projector augmented waves.
seed = 0

[[system]]
name = "silicon"
structures = "silicon.xyz"   # with its cell; XYZ, POSCAR, CIF, ..., relative to this one
copies = 11                  # displaced copies that are labelled with it in cycle 0
rattle = 0.08                # their displacement, Å (standard deviation)

[potential]
n_members = 16               # of the committee

[reference]
kind = "gpaw"                # pip install gpaw

[reference.parameters]       # keyword arguments of GPAW
mode = {name = "pw", ecut = 300}    # plane waves, eV; only they have stress
xc = "PBE"
kpts = {size = [2, 2, 2]}
convergence = {density = 1e-5}
maxiter = 100                # iterations until it must be self-consistent

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
"""


class GpawMethod(MethodSection):
    """GPAW, in this process: ``mode`` ({name = "pw", ecut = 400}), ``xc``, ``kpts``, ... are its keyword arguments."""

    kind: Literal["gpaw"] = Field(description="GPAW, which must be installed")
    parameters: dict[str, Any] = Field({}, description="keyword arguments of GPAW, a table")

    workflow: ClassVar[Workflow | None] = Workflow(_WORKFLOW)

    def identity(self) -> str:
        """Canonical JSON of the parameters."""
        return canonical("gpaw", self.parameters)

    def code(self) -> str:
        """Program and version."""
        try:
            return f"GPAW {importlib.import_module('gpaw').__version__}"
        except ImportError:
            return "GPAW"

    def check(self) -> None:
        """ConfigError for parameters that cannot be, no GPAW, or no setups of atoms."""
        required = {"mode": '{name = "pw", ecut = 400}, or "lcao" or "fd"'}
        refused = {"charge": OF_SYSTEM, **dict.fromkeys(("txt", "restart", "communicator"), OF_ALFLOW)}
        check_parameters(self.parameters, required, refused)
        self.identity()
        try:
            gpaw = importlib.import_module("gpaw")
        except ImportError as error:
            msg = f"reference: GPAW cannot be imported ({error}): pip install gpaw, which needs libxc and BLAS"
            raise ConfigError(msg) from error
        paths = [str(path) for path in gpaw.setup_paths]
        if not any(Path(path).is_dir() for path in paths):
            msg = f"reference: GPAW finds no setups of atoms in {', '.join(paths) or 'no folder'}: gpaw install-data"
            raise ConfigError(msg)

    def told(self) -> frozenset[str]:
        """Charge, multiplicity and initial moments."""
        return STATE | {MOMENTS}

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Energy, forces and, in mode pw, stress of periodic structures; LabelError as of the protocol."""
        gpaw = importlib.import_module("gpaw")
        spin, moments = _spin(atoms, self.parameters)
        plain, (charge, _) = bare_atoms(atoms), charge_and_multiplicity(atoms)
        plain.set_initial_magnetic_moments(moments)
        with programs.working_folder(folder) as place:
            output = place / "gpaw.txt"
            try:
                plain.calc = gpaw.GPAW(txt=str(output), charge=charge, **{**self.parameters, **spin})
                results: dict[str, Any] = {
                    "energy": float(plain.get_potential_energy(force_consistent=True)),
                    "forces": np.array(plain.get_forces()),
                }
                if atoms.pbc.all() and _is_plane_waves(self.parameters["mode"]):
                    with suppress(NotImplementedError):  # of some functionals
                        results["stress"] = np.array(plain.get_stress())
                electrons = _levels(plain.calc)
            except Exception as error:  # calculators raise whatever they like
                text = one_line(error)
                raise LabelError(reason_of(error, text), f"{text}\n{programs.tail(output)}") from error
            entropy = _ENTROPY.findall(output.read_text(encoding="utf-8", errors="replace"))
            of_structure, of_atoms = properties_of(plain.calc.results, len(atoms))
            return Result(
                labelled(atoms, **results),
                self.code(),
                programs.tail(output),
                plain_energy=results["energy"] - float(entropy[-1]) if entropy else float("nan"),
                electrons=electrons,
                properties=of_structure,
                atom_properties=of_atoms,
            )


def _levels(calculator: Any) -> Electrons:
    """Fermi energy and, at a single k-point, eigenvalues and occupations of GPAW, eV."""
    fermi = float("nan")
    with suppress(Exception):  # not every occupation has a Fermi level
        fermi = float(calculator.get_fermi_level())
    if len(calculator.get_ibz_k_points()) != 1:
        return Electrons(fermi)
    spins = range(calculator.get_number_of_spins())
    return Electrons(
        fermi,
        levels([np.array(calculator.get_eigenvalues(spin=s)).tolist() for s in spins]),
        levels([np.array(calculator.get_occupation_numbers(spin=s)).tolist() for s in spins]),
    )


def _spin(atoms: Atoms, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """Arguments and initial moments: those of the structure, or for a multiplicity above 1; there their sum is kept."""
    unpaired = fixed_moment(atoms)
    begin = np.array(atoms.arrays[MOMENTS], dtype=float) if has(atoms, MOMENTS) else None
    if unpaired is None:
        return ({} if begin is None else {"spinpol": True}), begin
    width = 0.1 if atoms.pbc.any() else 0.0  # GPAW's own defaults, eV
    occupations = {"name": "fermi-dirac", "width": width, **parameters.get("occupations", {}), "fixmagmom": True}
    begin = np.full(len(atoms), unpaired / len(atoms)) if begin is None else begin
    return {"spinpol": True, "occupations": occupations}, begin


def _is_plane_waves(mode: Any) -> bool:
    """Whether GPAW has stress in a mode."""
    name = mode.get("name") if isinstance(mode, Mapping) else mode
    return name == "pw"
