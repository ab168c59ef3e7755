"""What a reference method is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import Field

from alflow.data.labels import NotFiniteError, checked
from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import Electrons
from alflow.reference.electrons import CHARGES, MOMENTS, untold
from alflow.reference.workflow import Workflow
from alflow.section import Positive, Section
from alflow.workers.programs import reason_of
from alflow.workers.server import UnusableError, evaluated

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Result:
    """What a reference calculation gave.

    Attributes
    ----------
    frame : Atoms
        The structure with energy (eV), forces (eV/Å) and, where there is one, stress (eV/Å^3) as results of its
        calculator. The energy is the one whose gradient the forces are: with smearing, the free energy E - TS.
    code : str
        Program and version, as it says itself.
    log : str
        The end of what it printed.
    plain_energy : float
        E without the -TS of smearing, eV; NaN where the code does not tell it apart.
    electrons : Electrons
        Their levels, where the code tells them.
    properties : mapping of str to ndarray
        Of the structure: ``dipole``, shape (3,), e Å; ``magmom``, shape (), Bohr magnetons.
    atom_properties : mapping of str to ndarray
        Of each atom, first axis N: ``charges``, e; ``magmoms``, Bohr magnetons.
    """

    frame: Atoms
    code: str
    log: str = ""
    plain_energy: float = float("nan")
    electrons: Electrons = field(default_factory=Electrons)
    properties: Mapping[str, Array] = field(default_factory=dict)
    atom_properties: Mapping[str, Array] = field(default_factory=dict)


class ReferenceMethod(Protocol):
    """A way to calculate energies and forces; its instances are small, frozen and can be sent to other processes."""

    def identity(self) -> str:
        """Everything that decides the result, as canonical JSON: part of the name of every calculation."""

    def code(self) -> str:
        """Program and version, as far as it is known before it has run."""

    def check(self) -> None:
        """Look at all that can be looked at before a calculation; ConfigError with what is wrong."""

    def untold(self, atoms: Atoms) -> str:
        """What of a structure's electrons would not reach its calculation, and what to do; empty if all of it does."""

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Calculate a structure.

        Parameters
        ----------
        atoms : Atoms
            ``info`` may hold ``charge`` (e) and ``multiplicity`` (2S + 1). The result does not depend on what was
            calculated before.
        folder : Path, optional
            An empty one for the files of a program; by default a temporary one is made.

        Raises
        ------
        LabelError
            With one word of the taxonomy, :data:`alflow.reference.failures.REASONS`.
        """


class BaselineMethod(ReferenceMethod, Protocol):
    """A reference method that is cheap enough to drive walks."""

    def calculator(self) -> "Calculator":
        """An ASE calculator of this method."""


class MethodSection(Section, ABC):
    """A table ``[reference]`` or ``[baseline]`` of one kind, which is the method that it describes.

    A subclass has a field ``kind``, a literal that no other kind has, and what follows here. Methods are those of
    :class:`ReferenceMethod`.
    """

    workflow: ClassVar[Workflow | None] = None
    """What ``alflow init --template KIND`` writes."""

    after_colon: ClassVar[str | None] = None
    """The key that ``kind = "KIND:VALUE"`` gives besides."""

    how_to_tell: ClassVar[Mapping[str, str]] = {}
    """What a user can do to have the rest of :data:`alflow.reference.electrons.ELECTRONS` told, by its name."""

    def at(self, directory: Path) -> Self:  # noqa: ARG002 - most methods name no files
        """The method in a run directory: files that it names are found from anywhere, and what they say is kept.

        Raises
        ------
        ConfigError
            A file cannot be read.
        """
        return self

    @abstractmethod
    def identity(self) -> str:
        """Everything that decides the result, as canonical JSON."""

    @abstractmethod
    def code(self) -> str:
        """Program and version, as far as it is known before it has run."""

    @abstractmethod
    def check(self) -> None:
        """Look at all that can be looked at before a calculation; ConfigError with what is wrong."""

    def told(self) -> frozenset[str]:
        """What of a structure's electrons reaches its calculation, of :data:`alflow.reference.electrons.ELECTRONS`.

        Nothing, unless a kind says so: a structure that has the rest is refused before anything is calculated. The
        lowest multiplicity, 1 for an even number of electrons and 2 for an odd one, needs no telling.
        """
        return frozenset()

    def untold(self, atoms: Atoms) -> str:
        """What of a structure's electrons would not reach its calculation, and what to do; empty if all of it does."""
        return untold(atoms, self.told(), self.code(), self.how_to_tell)

    @abstractmethod
    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Calculate a structure; arguments and errors as of :class:`ReferenceMethod`."""

    def calculator(self) -> "Calculator":
        """An ASE calculator of this method; ConfigError of one that cannot be a baseline."""
        msg = f"{self.code()} has no calculator that walks could use: it cannot be a baseline"
        raise ConfigError(msg)


class Weighted(MethodSection):
    """How a baseline takes part in the walks: no part of its identity, as it decides nothing of its own results."""

    weighting: Literal["total", "atom", "none"] = Field(
        "total", description="walks trust the committee's correction by its sigma, in total or atom by atom, or always"
    )
    error: Positive | None = Field(
        None, description="uncertainty of the baseline, eV: of a structure or, with `atom`, of an atom; from the data"
    )

    def untold(self, atoms: Atoms) -> str:
        """As of any method, but for initial charges and moments that it has no use for.

        They are where the reference begins, and no state of their own: what they change is learned as any other
        difference from the baseline.
        """
        bare = atoms.copy()
        for name in (CHARGES, MOMENTS):
            if name in bare.arrays and name not in self.told():
                del bare.arrays[name]
        return super().untold(bare)


def evaluate(atoms: Atoms, calculator: "Calculator", code: str) -> Result:
    """Energy, forces and, if periodic in three directions and there is one, stress, by an ASE calculator.

    Raises
    ------
    LabelError
        ``not_converged``, ``out_of_memory``, ``crashed``, ``no_output`` or ``not_finite``.
    """
    from ase.calculators.calculator import PropertyNotImplementedError

    # without constraints, which would zero forces, and without momenta and results of earlier calculations
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=atoms.info)
    for name in (MOMENTS, CHARGES):  # they name the calculation, so it has to know them
        if name in atoms.arrays:
            bare.arrays[name] = atoms.arrays[name].copy()
    try:
        found = evaluated(calculator, bare)
    except ConfigError:
        raise
    except (PropertyNotImplementedError, UnusableError) as error:
        raise LabelError("no_output", f"{code} gives no {error}") from error
    except Exception as error:  # calculators raise whatever they like
        text = str(error) or type(error).__name__
        raise LabelError(reason_of(error, text), text) from error
    frame = labelled(atoms, **{name: found[name] for name in ("energy", "forces", "stress") if name in found})
    of_structure, of_atoms = properties_of(found["extras"], len(atoms))
    told = float("nan")
    with suppress(ValueError):  # it is no label: one that is malformed is none
        told = float(checked("energy", found["plain_energy"], len(atoms)))
    if told == frame.calc.results["energy"]:  # two energies that are equal are one: nothing is told apart
        told = float("nan")
    return Result(frame, code, plain_energy=told, properties=of_structure, atom_properties=of_atoms)


def labelled(atoms: Atoms, **results: Any) -> Atoms:
    """A copy with energy, forces and stress, checked for shape, type and size.

    Raises
    ------
    LabelError
        ``not_finite``; ``no_output`` when they are not what they should be.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    try:
        good = {name: checked(name, value, len(atoms)) for name, value in results.items()}
    except NotFiniteError as error:
        raise LabelError("not_finite", str(error)) from error
    except ValueError as error:
        raise LabelError("no_output", str(error)) from error
    done: Atoms = atoms.copy()
    parts = {name: float(value) if name == "energy" else value for name, value in good.items()}
    done.calc = SinglePointCalculator(done, **parts)
    return done


_OF_STRUCTURE = {"dipole": (3,), "magmom": ()}
_OF_ATOMS = ("charges", "magmoms")


def properties_of(results: Mapping[str, Any], n_atoms: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """What else an ASE calculator has found, by name: of the structure, and of each atom.

    They are no part of the label, so what is malformed is left out rather than being the failure of a calculation.
    """
    found = {name: np.asarray(results[name]) for name in (*_OF_STRUCTURE, *_OF_ATOMS) if results.get(name) is not None}
    good = {name: x.astype(float) for name, x in found.items() if x.dtype.kind in "iuf" and np.isfinite(x).all()}
    of_structure = {name: x for name, x in good.items() if name in _OF_STRUCTURE and x.shape == _OF_STRUCTURE[name]}
    of_atoms = {name: x for name, x in good.items() if name in _OF_ATOMS and x.shape[:1] == (n_atoms,)}
    return of_structure, of_atoms
