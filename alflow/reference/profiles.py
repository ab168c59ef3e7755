"""ORCA, VASP, FHI-aims and GPAW: inputs written and outputs read by ASE, which knows where the programs are.

Programs are run, and the end of their self-consistent field is verified, here: ASE reads energies of calculations that
did not converge all the same. Energies are those that forces are the gradient of: with smearing, free energies.
"""

import difflib
import importlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.config import cfg
from numpy.typing import NDArray

from alflow.errors import ConfigError, LabelError
from alflow.reference import programs
from alflow.reference.base import Result, labelled, reason_of

_OF_SYSTEM = "charge and multiplicity are those of [[system]]"
_SINGLE_POINT = "atoms are not moved: one calculation of the structure as it is"
_OF_ALFLOW = "alflow sets it"


@dataclass(frozen=True)
class _Profiled:
    """What these methods share.

    Attributes
    ----------
    parameters : mapping
        Keyword arguments of ASE's calculator.
    command : str, optional
        The program with its arguments; by default what ASE's configuration file, or its environment variable, says.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None

    kind: ClassVar[str]
    program: ClassVar[str]
    required: ClassVar[Mapping[str, str]] = {}
    refused: ClassVar[Mapping[str, str]] = {}

    def identity(self) -> str:
        """Canonical JSON of the parameters; not of the command, which decides only how fast it runs."""
        return _canonical(self.kind, self._deciding())

    def _deciding(self) -> dict[str, Any]:
        """What decides the result."""
        return dict(self.parameters)

    def code(self) -> str:
        """Program; its version is known when it has run."""
        return self.program

    def check(self) -> None:
        """ConfigError for parameters that cannot be, or no program."""
        _check_parameters(self.parameters, self.required, self.refused)
        self.identity()
        programs.check_command(self._command(), "reference")

    def _command(self) -> str:
        """The command line; ConfigError when nothing says it."""
        if self.command is not None:
            return self.command
        if self.kind in cfg.parser and "command" in cfg.parser[self.kind]:
            return str(cfg.parser[self.kind]["command"])
        msg = (
            f"reference.command is missing, and ASE's configuration file has no section [{self.kind}] with a command: "
            f"give the program with its arguments"
        )
        raise ConfigError(msg)


@dataclass(frozen=True)
class OrcaMethod(_Profiled):
    """ORCA: molecules; parameters ``orcasimpleinput`` (the line that begins with !) and ``orcablocks``."""

    kind = "orca"
    program = "ORCA"
    required: ClassVar[Mapping[str, str]] = {"orcasimpleinput": 'the line after the !: "PBE def2-SVP TightSCF"'}
    refused: ClassVar[Mapping[str, str]] = {"charge": _OF_SYSTEM, "mult": _OF_SYSTEM}

    def check(self) -> None:
        """ConfigError for parameters that cannot be, or no program."""
        if unknown := set(self.parameters) - {"orcasimpleinput", "orcablocks", "charge", "mult"}:
            msg = f"reference.parameters: no parameter {min(unknown)}: expected orcasimpleinput or orcablocks"
            raise ConfigError(msg)
        for name, pattern in (("orcasimpleinput", _ORCA_MOVES), ("orcablocks", _ORCA_MOVING_BLOCK)):
            if found := pattern.search(str(self.parameters.get(name, ""))):
                msg = f"reference.parameters.{name} has {found[0].strip()}: {_SINGLE_POINT}: leave it out"
                raise ConfigError(msg)
        if found := _ORCA_STRUCTURE.search(str(self.parameters.get("orcablocks", ""))):
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
            "charge": _charge(atoms),
            "mult": _multiplicity(atoms),
        }
        with programs.working_folder(folder) as place:
            with _writing(self.program):
                calculator = ORCA(profile=OrcaProfile(words[0]), directory=place, **parameters)
                calculator.write_inputfiles(_bare(atoms), ["energy", "forces"])
            # with MPI, ORCA must be called by its full path
            words = [shutil.which(words[0]) or words[0], *words[1:], calculator.template.inputname]
            output = place / calculator.template.outputname
            log = _run(words, place, output, _ORCA_NOT_CONVERGED)
            return read_orca(output, atoms, log)


@dataclass(frozen=True)
class AimsMethod(_Profiled):
    """FHI-aims: parameters are the keywords of control.in, with ``species_dir`` for the folder of basis sets."""

    kind = "aims"
    program = "FHI-aims"
    required: ClassVar[Mapping[str, str]] = {"xc": 'the functional, "pbe"'}
    refused: ClassVar[Mapping[str, str]] = {
        "charge": _OF_SYSTEM,
        "fixed_spin_moment": _OF_SYSTEM,
        "relax_geometry": _SINGLE_POINT,
        "relax_unit_cell": _SINGLE_POINT,
        "MD_run": _SINGLE_POINT,
        "use_pimd_wrapper": _SINGLE_POINT,
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
        section = dict(cfg.parser[self.kind]) if cfg.parser.has_section(self.kind) else {}
        given = self.parameters.get("species_dir", section.get("default_species_directory"))
        found = given or os.environ.get("AIMS_SPECIES_DIR")
        return str(Path(found).expanduser()) if found else None

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Run it; LabelError as of the protocol."""
        from ase.calculators.aims import Aims, AimsProfile

        if atoms.pbc.any() and not atoms.pbc.all():
            msg = f"FHI-aims: periodic in all directions or none, found pbc = {atoms.pbc.tolist()}: use vacuum"
            raise LabelError("crashed", msg)
        words = programs.words_of(self._command(), "reference")
        parameters = {**_aims_spin(atoms), **self.parameters, "species_dir": self._species()}
        if charge := _charge(atoms):
            parameters["charge"] = charge
        wanted = ["energy", "forces"]
        if atoms.pbc.all() and not {"compute_analytical_stress", "compute_numerical_stress"} & set(self.parameters):
            wanted.append("stress")
        with programs.working_folder(folder) as place:
            with _writing(self.program):
                calculator = Aims(profile=AimsProfile(words[0]), directory=place, **parameters)
                calculator.write_inputfiles(_bare(atoms), wanted)
            output = place / calculator.template.outputname
            log = _run(words, place, output, _AIMS_NOT_CONVERGED)
            return read_aims(output, atoms, log)


@dataclass(frozen=True)
class VaspMethod(_Profiled):
    """VASP: parameters are the tags of INCAR in lower case, with ``xc``, ``kpts``, ``gamma`` and ``setups`` of ASE.

    Potentials are those of the environment variable VASP_PP_PATH, or of ASE's configuration file.
    """

    kind = "vasp"
    program = "VASP"
    refused: ClassVar[Mapping[str, str]] = {
        "charge": "for a charged system give nelect, the number of electrons",
        "net_charge": "for a charged system give nelect, the number of electrons",
        "ml_lmlff": "VASP's own force field would give the labels",
        **dict.fromkeys(("atoms", "restart", "directory", "label", "txt", "command"), _OF_ALFLOW),
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
                msg = f"reference.parameters.{name} = {found}: {_SINGLE_POINT}: leave it out"
                raise ConfigError(msg)
        self._check_names()
        if not {"xc", "pp"} & set(self.parameters):
            msg = 'reference.parameters.xc is missing: the functional, "pbe"; or pp, the folder of the potentials'
            raise ConfigError(msg)
        _check_parameters(self.parameters, self.required, self.refused)
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
        with _quiet():
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
            with _quiet():
                return str(self._calculator(".").make_command())
        except CalculatorSetupError as error:
            msg = "reference.command is missing, and ASE_VASP_COMMAND is not set: give the program with its arguments"
            raise ConfigError(msg) from error

    def _calculator(self, place: Path | str, **more: Any) -> Any:
        from ase.calculators.vasp import Vasp

        return Vasp(directory=str(place), **{**more, **self.parameters})

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Run it; LabelError as of the protocol."""
        if not atoms.pbc.all():
            msg = f"VASP: periodic structures only, found pbc = {atoms.pbc.tolist()}: put it into a cell, with vacuum"
            raise LabelError("crashed", msg)
        if _charge(atoms) and "nelect" not in self.parameters:
            msg = f"VASP: the structure has charge {_charge(atoms)}: give its number of electrons, parameters.nelect"
            raise LabelError("crashed", msg)
        command = self._command()
        words = ["/bin/sh", "-c", command] if self.command is None else programs.words_of(command, "reference")
        with programs.working_folder(folder) as place:
            with _writing(self.program):
                calculator = self._calculator(place, **_vasp_spin(atoms, self.parameters))
                calculator.write_input(_bare(atoms))
            log = _run(words, place, place / "vasp.out", _VASP_NOT_CONVERGED)
            return read_vasp(place, atoms, calculator.resort, log)


@dataclass(frozen=True)
class GpawMethod:
    """GPAW, in this process.

    Attributes
    ----------
    parameters : mapping
        Keyword arguments of GPAW: ``mode`` ({name = "pw", ecut = 400}), ``xc``, ``kpts``, ...
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)

    def identity(self) -> str:
        """Canonical JSON of the parameters."""
        return _canonical("gpaw", self.parameters)

    def code(self) -> str:
        """Program and version."""
        try:
            return f"GPAW {importlib.import_module('gpaw').__version__}"
        except ImportError:
            return "GPAW"

    def check(self) -> None:
        """ConfigError for parameters that cannot be, no GPAW, or no setups of atoms."""
        required = {"mode": '{name = "pw", ecut = 400}, or "lcao" or "fd"'}
        refused = {"charge": _OF_SYSTEM, **dict.fromkeys(("txt", "restart", "communicator"), _OF_ALFLOW)}
        _check_parameters(self.parameters, required, refused)
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

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Energy, forces and, in mode pw, stress of periodic structures; LabelError as of the protocol."""
        gpaw = importlib.import_module("gpaw")
        spin, moments = _gpaw_spin(atoms, self.parameters)
        bare = _bare(atoms)
        bare.set_initial_magnetic_moments(moments)
        with programs.working_folder(folder) as place:
            output = place / "gpaw.txt"
            try:
                bare.calc = gpaw.GPAW(txt=str(output), charge=_charge(atoms), **{**self.parameters, **spin})
                results: dict[str, Any] = {
                    "energy": float(bare.get_potential_energy(force_consistent=True)),
                    "forces": np.array(bare.get_forces()),
                }
                if atoms.pbc.all() and _is_plane_waves(self.parameters["mode"]):
                    with suppress(NotImplementedError):  # of some functionals
                        results["stress"] = np.array(bare.get_stress())
                extra = _levels(bare.calc)
            except Exception as error:  # calculators raise whatever they like
                text = _one_line(error)
                raise LabelError(reason_of(error, text), f"{text}\n{programs.tail(output)}") from error
            return Result(labelled(atoms, **results), self.code(), programs.tail(output), extra)


# ---------------------------------------------------------------------------------------------------------------------
# Reading

_ORCA_MOVES = re.compile(
    r"(?<!\S)(?:[\w-]*opt(?:h|ts)?|[\w-]*neb[\w-]*|irc|md|goat[\w-]*|(?:num|an)?freq|scants)(?!\S)", re.IGNORECASE
)
_ORCA_MOVING_BLOCK = re.compile(r"%(?:md|neb|irc|goat|compound)\b|\$new_job", re.IGNORECASE)
_ORCA_STRUCTURE = re.compile(r"%?coords|^\s*\*\s*\w+", re.IGNORECASE | re.MULTILINE)
_ORCA_NOT_CONVERGED = re.compile(
    r"SCF NOT CONVERGED AFTER|not fully converged|iterations have not converged", re.IGNORECASE
)
_SAME_PLACE = 1e-4
"""To which ORCA says what positions its gradient is of, Å."""
_ORCA_VERSION = re.compile(r"Program Version (\S+)")
_ORCA_ORBITAL = re.compile(r"^\s*(\d+)\s+(\d\.\d+)\s+(-?\d+\.\d+)\s+-?\d+\.\d+\s*$")
_AIMS_CONVERGED = "Self-consistency cycle converged"
_AIMS_NOT_CONVERGED = re.compile(
    r"self-consistency cycle (?:has )?(?:not converged|did not converge)|SCF cycle not converged", re.IGNORECASE
)
_AIMS_VERSION = re.compile(r"(?:FHI-aims version\s*:|^\s*Version)\s*(\S+)", re.MULTILINE)
_AIMS_FERMI = re.compile(r"\| Chemical potential \(Fermi level\)\D*?:\s*(-?\d+\.\d+(?:[Ee][-+]\d+)?)")
_VASP_LOOP = re.compile(r"aborting loop (.*?)\s*-*\s*$", re.MULTILINE)
_VASP_NOT_CONVERGED = re.compile(r"EDIFF was not reached")
_VASP_ITERATION = re.compile(r"- Iteration\s+\d+\(\s*(\d+)\)")
_VASP_NELM = re.compile(r"^\s*NELM\s*=\s*(\d+)", re.MULTILINE)
_VASP_END = "General timing and accounting"
_VASP_VERSION = re.compile(r"^ vasp\.(\S+)", re.MULTILINE)
_SHELL = re.compile(r"[;&|$<>`(]")


def read_orca(output: Path, atoms: Atoms, log: str) -> Result:
    """Energy, forces and orbital energies from the output of ORCA 4 to 6, and the file .engrad beside it.

    Raises
    ------
    LabelError
        ``not_converged``, whatever energy was printed; ``no_output`` when the output has no end, energy or forces.
    """
    from ase.io.orca import read_energy, read_orca_engrad

    text = programs.text_of(output, "ORCA")
    if _ORCA_NOT_CONVERGED.search(text):
        msg = f"the self-consistent field did not converge\n{log}"
        raise LabelError("not_converged", msg)
    if "ORCA TERMINATED NORMALLY" not in text:
        raise _unfinished("ORCA", log)
    gradient = output.with_suffix(".engrad")
    with _reading("ORCA", log):
        _check_places(programs.text_of(gradient, "ORCA"), atoms)
        energy = read_energy(text.splitlines())
        forces = _of_shape(read_orca_engrad(gradient), atoms)
    if energy is None:
        msg = f"ORCA: no FINAL SINGLE POINT ENERGY in the output\n{log}"
        raise LabelError("no_output", msg)
    version = _ORCA_VERSION.search(text)
    code = f"ORCA {version[1]}" if version else "ORCA"
    return Result(labelled(atoms, energy=energy, forces=forces), code, log, _orca_orbitals(text))


def _check_places(gradient: str, atoms: Atoms) -> None:
    """LabelError if the gradient is that of other positions: symmetry can turn a molecule."""
    lines = gradient.partition("# The atomic numbers and current coordinates in Bohr")[2].splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    places = np.array([[float(x) for x in row[1:4]] for row in rows])
    if places.shape != atoms.positions.shape or np.abs(places * units.Bohr - atoms.positions).max() > _SAME_PLACE:
        msg = "ORCA calculated other positions than those it was given: leave symmetry (UseSym) out"
        raise LabelError("no_output", msg)


def _orca_orbitals(text: str) -> dict[str, Any]:
    """The last list of orbital energies, eV, for each spin."""
    spins: list[list[tuple[float, float]]] = []
    for line in text[text.rfind("\nORBITAL ENERGIES") :].splitlines()[3:] if "\nORBITAL ENERGIES" in text else ():
        if found := _ORCA_ORBITAL.match(line):
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


def read_aims(output: Path, atoms: Atoms, log: str) -> Result:
    """Electronic free energy, forces, stress and Fermi energy from the output of FHI-aims; errors of `read_orca`."""
    from ase.io.aims import read_aims_output

    text = programs.text_of(output, "FHI-aims")
    failed = [found.start() for found in _AIMS_NOT_CONVERGED.finditer(text)]
    converged = text.rfind(_AIMS_CONVERGED)
    ended = "Have a nice day" in text
    if (failed and failed[-1] > converged) or (ended and converged < 0):
        msg = f"the self-consistent field did not converge\n{log}"
        raise LabelError("not_converged", msg)
    if not ended:
        raise _unfinished("FHI-aims", log)
    with _reading("FHI-aims", log):
        found = read_aims_output(output, index=-1, non_convergence_ok=True).calc.results
        results = {"energy": float(found["free_energy"]), "forces": _of_shape(found.get("forces"), atoms)}
        if atoms.pbc.all() and found.get("stress") is not None:
            results["stress"] = np.array(found["stress"])
    version, fermi = _AIMS_VERSION.search(text), _AIMS_FERMI.findall(text)
    extra = {"fermi_energy": float(fermi[-1])} if fermi else {}
    return Result(labelled(atoms, **results), f"FHI-aims {version[1]}" if version else "FHI-aims", log, extra)


def read_vasp(place: Path, atoms: Atoms, resort: list[int], log: str) -> Result:
    """Free energy, forces, stress and Fermi energy from vasprun.xml and OUTCAR of VASP 5 and 6; errors of `read_orca`.

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
    loops = _VASP_LOOP.findall(text)
    if loops and "EDIFF is reached" not in loops[-1]:
        msg = f"the self-consistent field did not converge: aborting loop {loops[-1]}\n{log}"
        raise LabelError("not_converged", msg)
    if _VASP_END not in text:
        raise _unfinished("VASP", log)
    nelm, iterations = _VASP_NELM.search(text), _VASP_ITERATION.findall(text)
    if not loops and (nelm is None or not iterations or int(iterations[-1]) >= int(nelm[1])):
        # VASP 5 says nothing when it has used them all
        msg = f"the self-consistent field did not converge in {nelm[1] if nelm else 'NELM'} iterations\n{log}"
        raise LabelError("not_converged", msg)
    with _reading("VASP", log):
        programs.text_of(place / "vasprun.xml", "VASP")
        calculator: Any = next(iread(place / "vasprun.xml", index=-1, format="vasp-xml")).calc
        found = calculator.results
        results = {"energy": float(found["free_energy"]), "forces": _of_shape(found.get("forces"), atoms)[resort]}
        if found.get("stress") is not None:
            results["stress"] = np.array(found["stress"])
        fermi = calculator.get_fermi_level()
    version = _VASP_VERSION.search(text)
    extra = {} if fermi is None else {"fermi_energy": float(fermi)}
    return Result(labelled(atoms, **results), f"VASP {version[1]}" if version else "VASP", log, extra)


def _levels(calculator: Any) -> dict[str, Any]:
    """Fermi energy and, at a single k-point, eigenvalues and occupations of GPAW, eV."""
    extra: dict[str, Any] = {}
    with suppress(Exception):  # not every occupation has a Fermi level
        extra["fermi_energy"] = float(calculator.get_fermi_level())
    if len(calculator.get_ibz_k_points()) == 1:
        spins = range(calculator.get_number_of_spins())
        extra["eigenvalues"] = [np.array(calculator.get_eigenvalues(spin=s)).tolist() for s in spins]
        extra["occupations"] = [np.array(calculator.get_occupation_numbers(spin=s)).tolist() for s in spins]
    return extra


# ---------------------------------------------------------------------------------------------------------------------
# Structures, parameters and errors


def _bare(atoms: Atoms) -> Atoms:
    """Without tags, momenta, moments or constraints, which these programs would see."""
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _charge(atoms: Atoms) -> int:
    return int(atoms.info.get("charge", 0))


def _multiplicity(atoms: Atoms) -> int:
    return int(atoms.info.get("multiplicity", 1))


def _aims_spin(atoms: Atoms) -> dict[str, Any]:
    """Keywords of control.in for a multiplicity above 1, with moments of Hund's rules to begin with."""
    unpaired = _multiplicity(atoms) - 1
    if not unpaired:
        return {}
    return {"spin": "collinear", "fixed_spin_moment": float(unpaired), "default_initial_moment": "hund"}


def _vasp_spin(atoms: Atoms, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Tags of INCAR for a multiplicity above 1; LabelError when parameters say otherwise."""
    unpaired = _multiplicity(atoms) - 1
    if not unpaired:
        return {}
    spin = {"ispin": 2, "nupdown": unpaired}
    for name, value in spin.items():
        if (found := parameters.get(name, value)) != value:
            msg = f"VASP: the structure has multiplicity {unpaired + 1}, but parameters.{name} = {found}: leave it out"
            raise LabelError("crashed", msg)
    return spin


def _gpaw_spin(atoms: Atoms, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """Arguments and initial moments for a multiplicity above 1: the total moment is fixed."""
    unpaired = _multiplicity(atoms) - 1
    if not unpaired:
        return {}, None
    width = 0.1 if atoms.pbc.any() else 0.0  # GPAW's own defaults, eV
    occupations = {"name": "fermi-dirac", "width": width, **parameters.get("occupations", {}), "fixmagmom": True}
    return {"spinpol": True, "occupations": occupations}, np.full(len(atoms), unpaired / len(atoms))


def _is_plane_waves(mode: Any) -> bool:
    """Whether GPAW has stress in a mode."""
    name = mode.get("name") if isinstance(mode, Mapping) else mode
    return name == "pw"


def _canonical(kind: str, parameters: Mapping[str, Any]) -> str:
    try:
        return json.dumps({"kind": kind, "parameters": dict(parameters)}, sort_keys=True)
    except TypeError as error:
        msg = f"reference.parameters: {error}; expected text, numbers, lists or tables"
        raise ConfigError(msg) from error


def _check_parameters(parameters: Mapping[str, Any], required: Mapping[str, str], refused: Mapping[str, str]) -> None:
    """ConfigError for a parameter that is missing, or may not be there."""
    for name, example in required.items():
        if name not in parameters:
            msg = f"reference.parameters.{name} is missing: {example}"
            raise ConfigError(msg)
    for name, why in refused.items():
        if name in parameters:
            msg = f"reference.parameters.{name}: {why}: leave it out"
            raise ConfigError(msg)


def _of_environment(name: str) -> str | None:
    """What ASE's configuration file or the environment says."""
    with _quiet():
        return str(cfg[name]) if name in cfg else None


def _of_shape(forces: Any, atoms: Atoms) -> NDArray[np.float64]:
    """Forces as an array; LabelError when there are not those of all atoms."""
    if forces is None or np.shape(forces) != (len(atoms), 3):
        found = "no forces" if forces is None else f"forces of shape {np.shape(forces)}"
        msg = f"{found} in the output: expected those of {len(atoms)} atoms"
        raise LabelError("no_output", msg)
    return np.array(forces, dtype=float)


def _run(words: list[str], place: Path, output: Path, not_converged: re.Pattern[str]) -> str:
    """Run a program; a failure after its self-consistent field did not converge is one of that."""
    try:
        return programs.run(words, place, output)
    except LabelError as error:
        text = output.read_text(encoding="utf-8", errors="replace") if output.is_file() else ""
        if error.reason == "crashed" and not_converged.search(text):
            raise LabelError("not_converged", error.detail) from error
        raise


def _unfinished(program: str, log: str) -> LabelError:
    """The error for an output without an end: for a reason that it tells, or none."""
    reason = reason_of(None, log)
    return LabelError("no_output" if reason == "crashed" else reason, f"{program}: the output has no end\n{log}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what ASE deprecates: that it is told by environment variables, and its readers of FHI-aims."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _writing(program: str) -> Iterator[None]:
    """Errors of ASE that writes an input are LabelErrors."""
    try:
        with _quiet():
            yield
    except LabelError:
        raise
    except Exception as error:  # it raises whatever it likes
        msg = f"{program}: the input cannot be written: {_one_line(error)}"
        raise LabelError("crashed", msg) from error


@contextmanager
def _reading(program: str, log: str) -> Iterator[None]:
    """Errors of ASE that reads an output are LabelErrors."""
    try:
        with _quiet():
            yield
    except LabelError:
        raise
    except Exception as error:  # it raises whatever it likes
        msg = f"{program}: the output cannot be read: {_one_line(error)}\n{log}"
        raise LabelError("no_output", msg) from error


def _one_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())
