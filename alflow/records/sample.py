"""What walkers leave: the segments of a walk, and all frames of a cycle."""

from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

SIGMAS = (
    "energy_spread",
    "energy_sigma",
    "largest_force_spread",
    "largest_force_sigma",
    "largest_atom_spread",
    "largest_atom_sigma",
    "smallest_weight",
)
"""How sure the committee is of a stored frame, kept from :class:`Segment` to selection."""

_LATER = {"later": True}  # not in the files of earlier versions


MEASURED = ("largest_grade", "largest_force", "temperature", "distance_ratio")
"""What else is measured on a stored frame."""


@dataclass(frozen=True)
class Ensemble:
    """What the frames of a walker are drawn from.

    Attributes
    ----------
    system : str
        Name of the system; empty where it has none.
    temperature : float
        Of the thermostat, K; infinite for candidates, which no thermostat has made.
    pressure : float
        Of the barostat, eV/Å^3; NaN at constant volume.
    """

    system: str = ""
    temperature: float = float("nan")
    pressure: float = float("nan")


@dataclass(frozen=True, eq=False)
class Segment:
    """Frames stored during one segment of a walk, and the state at its end.

    Attributes
    ----------
    walker : int
        Whose segment it is.
    ensemble : Ensemble
        Of the walker.
    timestep : float
        fs.
    frames : tuple of Atoms, length K
        Stored structures, with momenta.
    step : ndarray, shape (K,)
        Steps since the walk began.
    energies : ndarray, shape (K, M)
        Energies of the calibrated members, eV.
    energy, energy_spread, energy_sigma, largest_force_spread, largest_force_sigma, largest_atom_spread, \
    largest_atom_sigma, smallest_weight, largest_grade, largest_force, temperature, distance_ratio : ndarray, shape (K,)
        As in :class:`SampleRecord`.
    bias_energy : ndarray, shape (K,)
        What a bias adds to ``energy``, eV; 0 without one.
    properties, atom_properties : dict of ndarray, shapes (K, ...) and (sum N, ...)
        What else is known of each frame, and of each atom of the frames one after the other, by name.
    end : tuple of Atoms, length 1
        State at the end of the segment.
    end_step : int
        Steps done at the end of the segment.
    stop : str
        Why the walker stopped in this segment; empty while it goes on.
    unseen : tuple of Atoms
        Candidates with species that no member knows: nothing can be said of them, but that a label would tell much.
    failures : tuple of str
        Of each other candidate that cannot be evaluated, why.
    """

    walker: int
    ensemble: Ensemble
    timestep: float
    frames: tuple[Atoms, ...]
    step: Array
    energies: Array
    energy: Array
    energy_spread: Array
    energy_sigma: Array
    largest_force_spread: Array
    largest_force_sigma: Array
    largest_atom_spread: Array
    largest_atom_sigma: Array
    smallest_weight: Array
    largest_grade: Array
    largest_force: Array
    temperature: Array
    distance_ratio: Array
    bias_energy: Array
    properties: dict[str, Array]
    atom_properties: dict[str, Array]
    end: tuple[Atoms, ...]
    end_step: int
    stop: str
    unseen: tuple[Atoms, ...] = field(default=(), metadata=_LATER)
    failures: tuple[str, ...] = field(default=(), metadata=_LATER)


@dataclass(frozen=True, eq=False)
class SampleRecord:
    """Every frame that the walkers of a cycle stored.

    Attributes
    ----------
    frames : tuple of Atoms, length K
        Structures with momenta, walker after walker.
    walker : ndarray of int, shape (K,)
        Which walker a frame is from.
    time : ndarray, shape (K,)
        Since the walk began, fs.
    energies : ndarray, shape (K, M)
        Energies of the calibrated members, the baseline included, eV; their standard deviation (M - 1) is alpha times
        ``energy_spread``.
    energy : ndarray, shape (K,)
        Energy of the potential that drove the walk, eV: the mean or the weighted baseline.
    energy_spread, energy_sigma : ndarray, shape (K,)
        Raw spread of the members' energies, and calibrated uncertainty of their mean, eV.
    largest_force_spread, largest_force_sigma : ndarray, shape (K,)
        Largest raw spread and largest calibrated sigma of a force component, eV/Å.
    largest_atom_spread, largest_atom_sigma : ndarray, shape (K,)
        Largest raw spread and largest calibrated sigma of an atom's energy, eV.
    smallest_weight : ndarray, shape (K,)
        Smallest weight of the learned correction of a baseline; 1 without one.
    largest_grade : ndarray, shape (K,)
        Largest extrapolation grade of an atom.
    largest_force : ndarray, shape (K,)
        Largest norm of an atom's force, eV/Å.
    temperature : ndarray, shape (K,)
        Instantaneous, K.
    distance_ratio : ndarray, shape (K,)
        Smallest distance of two atoms over the sum of their covalent radii.
    bias_energy : ndarray, shape (K,)
        What a bias adds to ``energy``, eV; 0 without one.
    properties, atom_properties : dict of ndarray, shapes (K, ...) and (sum N, ...)
        As in :class:`Segment`.
    walker_stop : tuple of str, length W
        Why each walker stopped; ``finished`` when it did all its steps.
    walker_steps : ndarray of int, shape (W,)
        Steps each walker did.
    ensembles : tuple of Ensemble, length W
        Of each walker.
    walker_start : tuple of str, length W
        Id of the label each walker started from.
    unseen, failures : tuple of Atoms, tuple of str
        As in :class:`Segment`.
    """

    frames: tuple[Atoms, ...]
    walker: IntArray
    time: Array
    energies: Array
    energy: Array
    energy_spread: Array
    energy_sigma: Array
    largest_force_spread: Array
    largest_force_sigma: Array
    largest_atom_spread: Array
    largest_atom_sigma: Array
    smallest_weight: Array
    largest_grade: Array
    largest_force: Array
    temperature: Array
    distance_ratio: Array
    bias_energy: Array
    properties: dict[str, Array]
    atom_properties: dict[str, Array]
    walker_stop: tuple[str, ...]
    walker_steps: IntArray
    ensembles: tuple[Ensemble, ...]
    walker_start: tuple[str, ...]
    unseen: tuple[Atoms, ...] = field(default=(), metadata=_LATER)
    failures: tuple[str, ...] = field(default=(), metadata=_LATER)

    @property
    def n_candidates(self) -> int:
        """How many structures there are to choose from, those included that cannot be evaluated."""
        return len(self.frames) + len(self.unseen) + len(self.failures)
