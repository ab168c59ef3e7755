"""FHI-aims, through ASE."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from alflow.data.outputs.aims import END, NOT_CONVERGED, unconverged
from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import Electrons
from alflow.reference.electrons import CHARGES, ELECTRONS, MOMENTS, fixed_moment, has
from alflow.reference.method import Result, labelled, properties_of
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

_VERSION = re.compile(r"(?:FHI-aims version\s*:|^\s*Version)\s*(\S+)", re.MULTILINE)
_PLAIN = re.compile(r"\| Total energy uncorrected\s+:\s+(\S+) eV")
"""E without -TS."""
_FERMI = re.compile(r"\| Chemical potential \(Fermi level\)\D*?:\s*(-?\d+\.\d+(?:[Ee][-+]\d+)?)")


_WORKFLOW = """\
# A crystal with FHI-aims: silicon, PBE with all electrons and the light basis set.
seed = 0

[[system]]
name = "silicon"
structures = "silicon.xyz"   # with its cell; XYZ, POSCAR, CIF, ..., relative to this one
copies = 11                  # displaced copies that are labelled with it in cycle 0
rattle = 0.08                # their displacement, Å (standard deviation)

[potential]
n_members = 16               # of the committee

[reference]
kind = "aims"
command = "mpirun -np 4 aims.x"     # by default what ASE's configuration file says

[reference.parameters]       # keywords of control.in
species_dir = "/opt/FHIaims/species_defaults/defaults_2020/light"   # or leave it out, and set AIMS_SPECIES_DIR
xc = "pbe"
relativistic = "atomic_zora scalar"
k_grid = [3, 3, 3]           # of periodic structures only
sc_accuracy_rho = 1e-5
sc_iter_limit = 100          # iterations until it must be self-consistent

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


class AimsMethod(ProfiledMethod):
    """FHI-aims: parameters are the keywords of control.in, with ``species_dir`` for the folder of basis sets."""

    kind: Literal["aims"] = Field(description="FHI-aims by ASE")

    workflow: ClassVar[Workflow | None] = Workflow(_WORKFLOW)
    program: ClassVar[str] = "FHI-aims"
    required: ClassVar[Mapping[str, str]] = {"xc": 'the functional, "pbe"'}
    refused: ClassVar[Mapping[str, str]] = {
        "charge": OF_SYSTEM,
        "fixed_spin_moment": OF_SYSTEM,
        "relax_geometry": SINGLE_POINT,
        "relax_unit_cell": SINGLE_POINT,
        "MD_run": SINGLE_POINT,
        "use_pimd_wrapper": SINGLE_POINT,
        "cubes": "it cannot be written here",
    }

    def _deciding(self) -> dict[str, Any]:
        """With the last two parts of the folder of basis sets, defaults_2020/light: it may lie anywhere."""
        place = self._species()
        return {**self.parameters, "species_dir": "/".join(Path(place).parts[-2:]) if place else None}

    def check(self) -> None:
        """ConfigError for parameters that cannot be, no basis sets, or no program."""
        for one, other in (("kpts", "k_grid"), ("smearing", "occupation_type")):
            if one in self.parameters and other in self.parameters:
                msg = f"reference.parameters has {one} and {other}, which say the same: leave one out"
                raise ConfigError(msg)
        place = self._species()
        if place is None:
            msg = (
                "reference.parameters.species_dir is missing, and neither ASE's configuration file "
                "(default_species_directory) nor AIMS_SPECIES_DIR says it: give the folder of basis sets, "
                ".../species_defaults/defaults_2020/light"
            )
            raise ConfigError(msg)
        if not (Path(place).is_absolute() and Path(place).is_dir()):
            msg = f"reference.parameters.species_dir: {place}: expected an absolute path of a folder of basis sets"
            raise ConfigError(msg)
        super().check()

    def _species(self) -> str | None:
        """The folder of basis sets."""
        from ase.config import cfg  # it reads files of the user

        section = dict(cfg.parser[self.kind]) if cfg.parser.has_section(self.kind) else {}
        given = self.parameters.get("species_dir", section.get("default_species_directory"))
        found = given or os.environ.get("AIMS_SPECIES_DIR")
        return str(Path(found).expanduser()) if found else None

    def told(self) -> frozenset[str]:
        """All of it."""
        return ELECTRONS

    def untold(self, atoms: Atoms) -> str:
        """As of any method; and a spin that parameters turn off."""
        off = "spin" in self.parameters and self.parameters["spin"] != "collinear"
        if off and _spin(atoms):
            what = "initial magnetic moments" if has(atoms, MOMENTS) else "unpaired electrons"
            return f"it has {what}, but parameters.spin = {self.parameters['spin']}: leave it out"
        return super().untold(atoms)

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Run it; LabelError as of the protocol."""
        from ase.calculators.aims import Aims, AimsProfile

        if atoms.pbc.any() and not atoms.pbc.all():
            msg = f"FHI-aims: periodic in all directions or none, found pbc = {atoms.pbc.tolist()}: use vacuum"
            raise LabelError("crashed", msg)
        words = programs.words_of(self._command(), "reference")
        parameters = {**_spin(atoms), **self.parameters, "species_dir": self._species()}
        charge, _ = charge_and_multiplicity(atoms)
        if charge:
            parameters["charge"] = charge
        wanted = ["energy", "forces"]
        if atoms.pbc.all() and not {"compute_analytical_stress", "compute_numerical_stress"} & set(self.parameters):
            wanted.append("stress")
        with programs.working_folder(folder) as place:
            with writing(self.program):
                calculator = Aims(profile=AimsProfile(words[0]), directory=place, **parameters)
                calculator.write_inputfiles(bare_atoms(atoms, MOMENTS, CHARGES), wanted)
            output = place / calculator.template.outputname
            log = run_program(words, place, output, NOT_CONVERGED)
            return read_output(output, atoms, log)


def read_output(output: Path, atoms: Atoms, log: str) -> Result:
    """Electronic free energy, forces, stress and Fermi energy from the output of FHI-aims; errors of ORCA's."""
    from ase.io.aims import read_aims_output

    text = programs.text_of(output, "FHI-aims")
    if unconverged(text):
        msg = f"the self-consistent field did not converge\n{log}"
        raise LabelError("not_converged", msg)
    if END not in text:
        raise unfinished("FHI-aims", log)
    with reading("FHI-aims", log):
        found = read_aims_output(output, index=-1, non_convergence_ok=True).calc.results
        results = {"energy": float(found["free_energy"]), "forces": of_shape(found.get("forces"), atoms)}
        if atoms.pbc.all() and found.get("stress") is not None:
            results["stress"] = np.array(found["stress"])
    version, fermi = _VERSION.search(text), _FERMI.findall(text)
    plain, (of_structure, of_atoms) = _PLAIN.findall(text), properties_of(found, len(atoms))
    return Result(
        labelled(atoms, **results),
        f"FHI-aims {version[1]}" if version else "FHI-aims",
        log,
        plain_energy=float(plain[-1]) if plain else float("nan"),
        electrons=Electrons(float(fermi[-1])) if fermi else Electrons(),
        properties=of_structure,
        atom_properties=of_atoms,
    )


def _spin(atoms: Atoms) -> dict[str, Any]:
    """Keywords of control.in for initial moments, or a multiplicity above 1, with Hund's rules to begin with."""
    unpaired, begun = fixed_moment(atoms), has(atoms, MOMENTS)
    spin: dict[str, Any] = {"spin": "collinear"} if begun or unpaired is not None else {}
    if unpaired is not None:
        spin["fixed_spin_moment"] = float(unpaired)
    return {**spin, "default_initial_moment": "hund"} if spin and not begun else spin
