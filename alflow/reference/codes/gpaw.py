"""GPAW, in this process."""

import importlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.errors import ConfigError, LabelError
from alflow.reference import programs
from alflow.reference.method import Result, labelled, reason_of
from alflow.reference.profiles import OF_ALFLOW, OF_SYSTEM, bare_atoms, canonical, check_parameters, one_line
from alflow.structures import charge_and_multiplicity


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
                extra = _levels(plain.calc)
            except Exception as error:  # calculators raise whatever they like
                text = one_line(error)
                raise LabelError(reason_of(error, text), f"{text}\n{programs.tail(output)}") from error
            return Result(labelled(atoms, **results), self.code(), programs.tail(output), extra)


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


def _spin(atoms: Atoms, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """Arguments and initial moments for a multiplicity above 1: the total moment is fixed."""
    unpaired = charge_and_multiplicity(atoms)[1] - 1
    if not unpaired:
        return {}, None
    width = 0.1 if atoms.pbc.any() else 0.0  # GPAW's own defaults, eV
    occupations = {"name": "fermi-dirac", "width": width, **parameters.get("occupations", {}), "fixmagmom": True}
    return {"spinpol": True, "occupations": occupations}, np.full(len(atoms), unpaired / len(atoms))


def _is_plane_waves(mode: Any) -> bool:
    """Whether GPAW has stress in a mode."""
    name = mode.get("name") if isinstance(mode, Mapping) else mode
    return name == "pw"
