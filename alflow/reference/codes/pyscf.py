"""Molecules by PySCF: Hartree-Fock, density functionals, and post-Hartree-Fock of closed shells."""

import json
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols
from numpy.typing import NDArray
from pydantic import Field

from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import Electrons, levels
from alflow.reference.electrons import STATE
from alflow.reference.method import MethodSection, Result, labelled
from alflow.reference.workflow import Workflow
from alflow.section import Count, Positive
from alflow.structures import charge_and_multiplicity
from alflow.workers import programs
from alflow.workers.programs import reason_of

_VERBOSE = 4  # every iteration
_DESCENTS = 5  # from a state that is not stable to a lower one, at most
_LAST_ELEMENT = 103


_WORKFLOW = """\
# A molecule with a density functional by PySCF: ethanol, PBE in a small basis set.
seed = 0

[[system]]
name = "ethanol"
structures = "ethanol.xyz"   # XYZ, POSCAR, CIF, ..., relative to this one
copies = 15                  # displaced copies that are labelled with it in cycle 0
rattle = 0.05                # their displacement, Å (standard deviation)

[potential]
n_members = 16               # of the committee

[reference]
kind = "pyscf"               # pip install alflow[pyscf]
method = "dft"               # or "hf"; "mp2", "ccsd", "ccsd(t)" for closed shells
xc = "pbe"                   # functional, by PySCF's name
basis = "def2-svp"           # basis set, by PySCF's name
density_fitting = true       # of the Coulomb integrals

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
# workers = 2                # calculations at once; all cores over `threads` by default
threads = 1                  # of each
"""


class PyscfMethod(MethodSection):
    """PySCF.

    Closed shells are restricted, open shells unrestricted. Forces of a functional include the response of the
    integration grid, so that they are minus the gradient of the energy and sum to zero. Heavy atoms have the effective
    core potential that belongs to the basis set, where PySCF has one of the same name. All electrons are correlated.
    Threads are those of OMP_NUM_THREADS, memory that of PYSCF_MAX_MEMORY (MB).
    """

    kind: Literal["pyscf"] = Field(description="molecules by PySCF: density functionals and post-Hartree-Fock")
    method: Literal["dft", "hf", "mp2", "ccsd", "ccsd(t)"] = Field("dft", description="mp2 and beyond: closed shells")
    xc: str = Field("pbe", min_length=1, description="functional, by PySCF's name; of dft")
    basis: str = Field("def2-svp", min_length=1, description="basis set, by PySCF's name")
    density_fitting: bool = Field(False, description="of the Coulomb integrals; of dft and hf")
    grid_level: int = Field(3, ge=0, le=9, description="of the integration grid; of dft")
    energy_tolerance: Positive = Field(1e-9, description="of the self-consistent field and coupled clusters, hartree")
    max_iterations: Count = Field(100, description="of the self-consistent field and of coupled clusters")
    level_shift: float = Field(0.0, ge=0, description="of the empty orbitals until it converges, hartree")

    stable: bool = Field(
        False, description="whether orbitals are made stable: those of open shells may be of a state above the lowest"
    )

    workflow: ClassVar[Workflow | None] = Workflow(_WORKFLOW)

    def identity(self) -> str:
        """Canonical JSON of everything above that decides the result of this method."""
        options = self.model_dump()
        if not self.stable:  # labels that were made before there was a choice keep their names
            del options["stable"]
        if self.method != "dft":
            del options["xc"], options["grid_level"]
        return json.dumps(options, sort_keys=True)

    def code(self) -> str:
        """Program and version."""
        try:
            return f"PySCF {version('pyscf')}"
        except PackageNotFoundError:  # told by the check
            return "PySCF"

    def check(self) -> None:
        """ConfigError when PySCF is not there, or does not know the functional or the basis set."""
        _imported()
        if self.density_fitting and self._correlated:
            msg = f"reference: density_fitting is of dft and hf, found method {self.method}: leave it out"
            raise ConfigError(msg)
        if self.method == "dft":
            _check_functional(self.xc)
        if not any(_has_basis(self.basis, symbol) for symbol in chemical_symbols[1 : _LAST_ELEMENT + 1]):
            msg = (
                f"reference.basis: PySCF knows no basis set {self.basis!r}: expected a name such as def2-svp or cc-pvdz"
            )
            raise ConfigError(msg)

    def told(self) -> frozenset[str]:
        """Charge and multiplicity."""
        return STATE

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Energy and forces of a molecule; LabelError as of the protocol."""
        _imported()
        self._refuse(atoms)
        with programs.working_folder(folder) as place:
            log = place / "pyscf.log"
            try:
                # Its warnings go to standard error as well, whatever its output is.
                with log.open("w", encoding="utf-8") as output, redirect_stderr(output):
                    field, energy, gradient = self._solve(self._molecule(atoms, output))
            except (LabelError, ConfigError):
                raise
            except Exception as error:  # PySCF raises whatever it likes
                text = str(error) or type(error).__name__
                raise LabelError(reason_of(error, text), f"{text}\n{programs.tail(log)}") from error
            forces = -gradient * units.Hartree / units.Bohr
            done = labelled(atoms, energy=float(energy) * units.Hartree, forces=forces)
            properties = {"spin_square": np.array(field.spin_square()[0])} if field.mol.spin else {}
            return Result(done, self.code(), programs.tail(log), electrons=_orbitals(field), properties=properties)

    @property
    def _correlated(self) -> bool:
        """Whether electrons are correlated after the self-consistent field."""
        return self.method not in {"dft", "hf"}

    def _refuse(self, atoms: Atoms) -> None:
        """LabelError for what this method cannot calculate."""
        charge, multiplicity = charge_and_multiplicity(atoms)
        electrons = int(atoms.numbers.sum()) - charge
        msg = ""
        if atoms.pbc.any():
            msg = f"pyscf is for molecules, found pbc = {atoms.pbc.tolist()}: choose another reference for crystals"
        elif electrons < 1 or multiplicity < 1 or multiplicity > electrons + 1 or (electrons + multiplicity) % 2 == 0:
            msg = (
                f"{electrons} electrons cannot have multiplicity {multiplicity}: set charge and multiplicity (2S + 1) "
                "in the info of the structure"
            )
        elif self._correlated and multiplicity != 1:
            msg = f"{self.method} is for closed shells here, found multiplicity {multiplicity}: use dft or hf"
        if msg:
            raise LabelError("crashed", msg)

    def _molecule(self, atoms: Atoms, output: Any) -> Any:
        """PySCF's, which prints into a file."""
        from pyscf import gto

        symbols = sorted(set(atoms.get_chemical_symbols()))
        for symbol in symbols:
            if not _has_basis(self.basis, symbol):
                msg = f"basis set {self.basis} has no {symbol}: choose one that has"
                raise LabelError("crashed", msg)
        charge, multiplicity = charge_and_multiplicity(atoms)
        mol = gto.Mole()
        mol.stdout, mol.verbose = output, _VERBOSE
        mol.atom = list(zip(atoms.get_chemical_symbols(), (atoms.positions / units.Bohr).tolist(), strict=True))
        mol.unit = "Bohr"
        mol.basis = self.basis
        mol.ecp = {symbol: self.basis for symbol in symbols if _has_core_potential(self.basis, symbol)}
        mol.charge, mol.spin = charge, multiplicity - 1
        return mol.build(dump_input=False, parse_arg=False)

    def _solve(self, mol: Any) -> tuple[Any, float, NDArray[np.float64]]:
        """The mean field, and energy (hartree) and its gradient (hartree/bohr)."""
        field = self._mean_field(mol)
        field.kernel()
        self._check_converged(field)
        if self.stable:
            self._make_stable(field)
        if not self._correlated:
            gradients = field.nuc_grad_method()
            if self.method == "dft":
                gradients.grid_response = True
            return field, field.e_tot, np.asarray(gradients.kernel())
        if self.method == "mp2":
            from pyscf import mp

            correlated = mp.MP2(field).run()
            return field, correlated.e_tot, np.asarray(correlated.nuc_grad_method().kernel())
        return field, *self._coupled_clusters(field)

    def _check_converged(self, field: Any) -> None:
        if not field.converged:
            steps = f"in {self.max_iterations} iterations"
            msg = f"the self-consistent field did not converge {steps}\n{_end(field.mol)}"
            raise LabelError("not_converged", msg)

    def _make_stable(self, field: Any) -> None:
        """Follow internal instabilities of the mean field down, until there are none."""
        for _ in range(_DESCENTS):
            orbitals, _, stable, _ = field.stability(return_status=True)
            if stable:
                return
            field.kernel(field.make_rdm1(orbitals, field.mo_occ))
            self._check_converged(field)
        msg = f"the mean field is not stable after {_DESCENTS} descents from instabilities\n{_end(field.mol)}"
        raise LabelError("not_converged", msg)

    def _mean_field(self, mol: Any) -> Any:
        """RHF, UHF, RKS or UKS, with this method's settings."""
        from pyscf import dft, scf

        restricted = mol.spin == 0
        if self.method == "dft":
            field = (dft.rks.RKS if restricted else dft.uks.UKS)(mol, xc=self.xc)
            field.grids.level = self.grid_level
        else:
            field = (scf.hf.RHF if restricted else scf.uhf.UHF)(mol)
        field.chkfile = None
        if temporary := vars(field).pop("_chkfile", None):  # it is made before it can be turned off
            temporary.close()
        if self.density_fitting:
            field = field.density_fit()
        field.conv_tol, field.max_cycle, field.level_shift = (
            self.energy_tolerance, self.max_iterations, self.level_shift
        )  # fmt: skip
        return field

    def _coupled_clusters(self, field: Any) -> tuple[float, NDArray[np.float64]]:
        """Energy (hartree) and its gradient (hartree/bohr) of CCSD or CCSD(T)."""
        from pyscf import cc
        from pyscf.cc import ccsd_t, ccsd_t_lambda
        from pyscf.grad import ccsd_t as ccsd_t_grad

        clusters = cc.ccsd.CCSD(field)
        clusters.conv_tol, clusters.max_cycle = self.energy_tolerance, self.max_iterations
        clusters.conv_tol_normt = 0.1 * np.sqrt(self.energy_tolerance)
        eris = clusters.ao2mo()
        clusters.kernel(eris=eris)
        _check_amplitudes(clusters.converged, "the amplitudes", field.mol)
        if self.method == "ccsd":
            clusters.solve_lambda(eris=eris)
            _check_amplitudes(clusters.converged_lambda, "the lambda equations", field.mol)
            gradient = clusters.nuc_grad_method().kernel(eris=eris)
            return clusters.e_tot, np.asarray(gradient)
        triples = ccsd_t.kernel(clusters, eris, clusters.t1, clusters.t2)
        converged, l1, l2 = ccsd_t_lambda.kernel(
            clusters, eris, clusters.t1, clusters.t2,
            max_cycle=clusters.max_cycle, tol=clusters.conv_tol_normt, verbose=clusters.verbose,
        )  # fmt: skip
        _check_amplitudes(converged, "the lambda equations", field.mol)
        gradient = ccsd_t_grad.Gradients(clusters).kernel(clusters.t1, clusters.t2, l1, l2, eris=eris)
        return clusters.e_tot + triples, np.asarray(gradient)


def _imported() -> None:
    """ConfigError when PySCF cannot be imported."""
    try:
        import pyscf  # noqa: F401
    except ImportError as error:
        msg = f"reference: kind pyscf needs PySCF ({error}): pip install 'alflow[pyscf]'"
        raise ConfigError(msg) from error


def _check_functional(xc: str) -> None:
    """ConfigError for a functional that PySCF does not know, or whose dispersion is not there."""
    from pyscf.dft import libxc
    from pyscf.scf.dispersion import parse_dft

    try:
        functional, _, dispersion = parse_dft(xc)
        libxc.parse_xc(functional)
    except (KeyError, ValueError, NotImplementedError) as error:
        msg = f"reference.xc: PySCF knows no functional {xc!r} ({error.args[0] if error.args else error})"
        raise ConfigError(msg) from error
    if dispersion and find_spec("pyscf.dispersion") is None:
        msg = f"reference.xc: {xc} needs the dispersion of another package: pip install pyscf-dispersion"
        raise ConfigError(msg)


def _has_basis(name: str, symbol: str) -> bool:
    from pyscf.gto import basis

    return _found(basis.load, name, symbol)


def _has_core_potential(name: str, symbol: str) -> bool:
    from pyscf.gto import basis

    return _found(basis.load_ecp, name, symbol)


def _found(load: Callable[[str, str], Any], name: str, symbol: str) -> bool:
    """Whether one of PySCF's libraries has something for an element."""
    with warnings.catch_warnings(), suppress(RuntimeError, KeyError, AttributeError):
        warnings.simplefilter("ignore")  # it advertises another package
        return bool(load(name, symbol))
    return False


def _check_amplitudes(converged: bool, what: str, mol: Any) -> None:
    if not converged:
        msg = f"{what} of the coupled clusters did not converge\n{_end(mol)}"
        raise LabelError("not_converged", msg)


def _end(mol: Any) -> str:
    """The end of what it printed so far."""
    mol.stdout.flush()
    return programs.tail(Path(mol.stdout.name))


def _orbitals(field: Any) -> Electrons:
    """Energies (eV) and occupations of the orbitals of the mean field."""
    energies, occupations = np.atleast_2d(field.mo_energy), np.atleast_2d(field.mo_occ)
    return Electrons(eigenvalues=levels((energies * units.Hartree).tolist()), occupations=levels(occupations.tolist()))
