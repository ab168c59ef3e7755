"""What a committee needs of its model: forward once, backward once, whatever the number of members is.

Every force that is needed, of the mean, of one member, of a weighted baseline, is the gradient of one weighted sum of
the members' energies: members that share their features (a linear model, the last layer of a network) then cost what
one model costs. :func:`alflow.committee.testing.check_model` tries whether a model keeps to it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import h5py
import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from alflow.committee.judgement import Judgement
from alflow.committee.resampling import Resampling
from alflow.committee.training import TrainingSet

Array = NDArray[np.float64]

Weighting = Literal["total", "atom", "none"]
"""By what a correction of a baseline is faded out."""


@dataclass(frozen=True, eq=False)
class Forward:
    """Energies of all members.

    Attributes
    ----------
    energies : ndarray, shape (M,)
        Of each member, eV.
    atom_energies : ndarray, shape (N, M), or None
        The same per atom; their sum over the atoms is ``energies``. None of a model that has no energies of atoms.
    """

    energies: Array
    atom_energies: Array | None


@dataclass(frozen=True, eq=False)
class Gradient:
    """Derivatives of a weighted sum of member energies.

    Attributes
    ----------
    forces : ndarray, shape (N, 3)
        Minus the derivative with respect to the positions, eV/Å.
    stress : ndarray, shape (6,), or None
        Derivative with respect to the strain over the volume, eV/Å^3, in ASE's sign and Voigt order (xx, yy, zz, yz,
        xz, xy); None unless the structure is periodic in three directions, and where the model gives none.
    virial : ndarray, shape (3, 3)
        Minus the derivative with respect to the strain, eV, whatever the periodicity; without periodicity it is
        ``sum_i r_i F_i``. NaN where a model cannot tell it.
    """

    forces: Array
    stress: Array | None
    virial: Array

    @classmethod
    def of(cls, atoms: Atoms, forces: Array, stress: Array | None) -> "Gradient":
        """From forces and stress alone: the virial of a structure that is periodic in some directions is not known."""
        if atoms.pbc.any():
            virial = np.full((3, 3), np.nan)
            if stress is not None:
                virial = -atoms.get_volume() * voigt_6_to_full_3x3_stress(stress)
        else:
            moment = atoms.positions.T @ forces
            virial = (moment + moment.T) / 2
        return cls(forces, stress, virial)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What fitting a model says, beside the model.

    Attributes
    ----------
    judgement : Judgement
        Errors of the members on what they have not seen, and their calibration.
    strength : float
        Of the regularisation; NaN for a model that has no such number.
    atom_zero : ndarray, shape (S,)
        Mean learned energy of the atoms of each species, over the training set, eV; NaN without energies of atoms.
    atom_error : float
        Root mean square deviation of the atoms' learned energies from it, eV; likewise.
    remarks : tuple of str
        What the user should know of these members, a line each.
    virial_zero : ndarray, shape (S,)
        Stress times volume of an atom of each species that labels' stresses have beside the derivatives of energies,
        eV, with the sign of the stress, the opposite of :attr:`Gradient.virial`; empty of a model that does not ask.
    """

    judgement: Judgement
    strength: float
    atom_zero: Array
    atom_error: float
    remarks: tuple[str, ...] = ()
    virial_zero: Array = field(default_factory=lambda: np.zeros(0))


class Potential(Protocol):
    """Energies of M members, and gradients of any weighted sum of them."""

    @property
    def n_members(self) -> int:
        """M."""

    def forward(self, atoms: Atoms) -> Forward:
        """Energies of all members.

        Raises
        ------
        PotentialError
            The structure cannot be evaluated: an unknown species, no atoms, atoms that coincide, ...
        """

    def backward(self, weights: Array) -> Gradient:
        """Forces and stress of ``sum_m w_m E_m`` (shape (M,)) or ``sum_im w_im E_im`` (shape (N, M)).

        Of the structure of the last :meth:`forward`.

        Raises
        ------
        PotentialError
            No forward before; weights of another shape, or of atoms where the model has no gradients of their energies.
        """


class Model(Potential, Protocol):
    """M members of one kind, fitted together; raw (not calibrated), and without a baseline.

    ``copy.copy`` gives one that can be evaluated and updated without the other being changed.
    """

    kind: ClassVar[str]
    """Name in ``[potential]`` of alflow.toml and in files."""

    by_atom: ClassVar[bool]
    """Whether it has energies of atoms, and their gradients: baselines can then be weighted atom by atom."""

    whole: ClassVar[bool]
    """Whether its members are potentials for themselves, and not fitted to the differences from a baseline.

    :meth:`update` is then given whole energies, and the committee takes the baseline off what members say.
    """

    threads: int
    """How many threads evaluate a structure; results do not depend on it."""

    @property
    def settings(self) -> Any:
        """What defines the model, as its kind has it."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers of the species it was fitted to, sorted."""

    @classmethod
    def make(cls, n_members: int, settings: dict[str, Any]) -> Self:
        """A model that is still to be fitted; PotentialError for settings that are unknown or out of range."""

    def update(self, training: TrainingSet, first: int, resampling: Resampling, *, repels: bool) -> Fitted:
        """Fit again to a training set of which structures from ``first`` on are new.

        Gives what fitting all at once would. After an error the model is evaluated as before.

        Parameters
        ----------
        training : TrainingSet
            All structures, the known ones first.
        first : int
            How many of them were there in the last update.
        resampling : Resampling
            Which structures each member sees.
        repels : bool
            Whether the model has to hold atoms apart where nothing is known; with a baseline that is its part.

        Raises
        ------
        PotentialError
            Atoms that coincide, or labels that no finite model fits.
        """

    def grade(self, atoms: Atoms) -> Array:
        """Extrapolation grade of every atom, shape (N,): about 1 in the training set, far above 1 for the unknown."""

    def features(self, atoms: Atoms) -> Array:
        """A structure's place in feature space, shape (D,): distances tell how different structures are."""

    def write(self, group: h5py.Group) -> None:
        """Write into the HDF5 group of its committee all that evaluation needs, but for the training set.

        The committee has taken the names energy_zero, atom_zero, virial_zero, groups, judgement, training and twins.
        """

    @classmethod
    def read(cls, group: h5py.Group, training: TrainingSet) -> Self:
        """Read what :meth:`write` wrote; KeyError when something is missing."""


@runtime_checkable
class KeepsFiles(Protocol):
    """A model that keeps files of its own beside that of its committee, and lets calculators of others read them."""

    trusted: bool
    """Whether what it names may be run: a file that somebody else wrote must not start programs unasked."""

    def found_at(self, path: Path) -> None:
        """Told where the file of the committee that it was read from lies: what it names is looked for near it."""

    def enclose(self, group: h5py.Group) -> None:
        """Write these files too: the file of the committee is to stand for itself."""


@dataclass(frozen=True, eq=False)
class Driving:
    """A potential to simulate with.

    Attributes
    ----------
    energy : float
        U, eV, of which ``forces`` (N, 3), eV/Å, and ``stress`` (6,), eV/Å^3, are the exact derivatives; no stress
        unless the structure is periodic in three directions, nor with a baseline that has none.
    weight : ndarray, shape () or (N,)
        Of the learned correction, of all or of each atom: 1 where the committee is sure, 0 where the baseline is alone.
    mean_energy : float
        Mean of the members, the baseline included, eV.
    forward : Forward
        The members' energies, raw and without the baseline.
    calibrated : bool
        False when the energies' calibration factor could not be determined and 1 stands in its place, in the weight.
    """

    energy: float
    forces: Array
    stress: Array | None
    weight: Array
    mean_energy: float
    forward: Forward
    calibrated: bool


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a committee says of a structure, with its uncertainty.

    Attributes
    ----------
    energy : float
        Mean of the members, eV.
    energies : ndarray, shape (M,)
        Calibrated members ``mean + alpha (E_m - mean)``, eV.
    energy_spread : float
        Raw: the members' standard deviation (M - 1), eV.
    energy_sigma : float
        Calibrated uncertainty of the energy, eV: alpha times the spread, and the floor
        (:class:`alflow.committee.calibration.Calibration`).
    forces : ndarray, shape (N, 3)
        Of the mean, eV/Å.
    forces_spread, forces_sigma : ndarray, shape (N, 3)
        The same two of each force component, eV/Å.
    atom_spread : ndarray, shape (N,), or None
        Raw spread of each atom's energy, eV; None where the members do not tell energies of atoms.
    atom_sigma : ndarray, shape (N,), or None
        The same times the alpha of energies, eV: *where* the structure is unknown. Compare atoms with each
        other only: labels do not say how neighbours share their energy, so these may be larger than a share of
        ``energy_sigma``.
    stress : ndarray, shape (6,), or None
        Of the mean, eV/Å^3, ASE's sign and Voigt order; None unless periodic in three directions, and with a baseline
        that has none.
    grade : ndarray, shape (N,)
        Extrapolation grade of each atom: about 1 for surroundings like those of the training set, far above 1 for
        others, whether the members agree on them or not.
    calibrated : bool
        False when a calibration factor could not be determined and 1 stands in its place.
    stress_spread, stress_sigma : ndarray, shape (6,), or None
        Of each component of the stress, eV/Å^3: raw, and calibrated, by the alpha of forces where no stress was judged;
        None where the members give none.
    """

    energy: float
    energies: Array
    energy_spread: float
    energy_sigma: float
    forces: Array
    forces_spread: Array
    forces_sigma: Array
    atom_spread: Array | None
    atom_sigma: Array | None
    stress: Array | None
    grade: Array
    calibrated: bool
    stress_spread: Array | None = None
    stress_sigma: Array | None = None
