"""What each finished step leaves behind: frozen, columnar dataclasses (:mod:`alflow.encoding` puts them into files).

Lengths: K frames sampled, W walkers, S frames selected, L labels, F failures, M members, N atoms.
Units: eV, Å, fs, K, e; energies per structure unless said.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.calibration import Reliability
from alflow.potentials.ace import Committee

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

SIGMAS = (
    "energy_spread",
    "energy_sigma",
    "force_spread_max",
    "force_sigma_max",
    "atom_spread_max",
    "atom_sigma_max",
    "weight_min",
)
"""What a stored frame keeps of how sure the committee is, from :class:`Segment` to :class:`SelectRecord`."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Frames stored during one segment of a walk, and the state at its end.

    Attributes
    ----------
    frames : tuple of Atoms, length K
        Stored structures, with momenta.
    step : ndarray, shape (K,)
        Steps since the walk began.
    energies : ndarray, shape (K, M)
        Energies of the calibrated members, eV.
    energy, energy_spread, energy_sigma, force_spread_max, force_sigma_max, atom_spread_max, atom_sigma_max, \
    weight_min, grade_max, force_max, temperature, distance_ratio : ndarray, shape (K,)
        As in :class:`SampleRecord`.
    end : tuple of Atoms, length 1
        State at the end of the segment.
    end_step : int
        Steps done at the end of the segment.
    stop : str
        Why the walker stopped in this segment; empty while it goes on.
    """

    frames: tuple[Atoms, ...]
    step: Array
    energies: Array
    energy: Array
    energy_spread: Array
    energy_sigma: Array
    force_spread_max: Array
    force_sigma_max: Array
    atom_spread_max: Array
    atom_sigma_max: Array
    weight_min: Array
    grade_max: Array
    force_max: Array
    temperature: Array
    distance_ratio: Array
    end: tuple[Atoms, ...]
    end_step: int
    stop: str


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
    force_spread_max, force_sigma_max : ndarray, shape (K,)
        Largest raw spread and largest calibrated sigma of a force component, eV/Å.
    atom_spread_max, atom_sigma_max : ndarray, shape (K,)
        Largest raw spread and largest calibrated sigma of an atom's energy, eV.
    weight_min : ndarray, shape (K,)
        Smallest weight of the learned correction of a baseline; 1 without one.
    grade_max : ndarray, shape (K,)
        Largest extrapolation grade of an atom.
    force_max : ndarray, shape (K,)
        Largest norm of an atom's force, eV/Å.
    temperature : ndarray, shape (K,)
        Instantaneous, K.
    distance_ratio : ndarray, shape (K,)
        Smallest distance of two atoms over the sum of their covalent radii.
    walker_stop : tuple of str, length W
        Why each walker stopped; ``finished`` when it did all its steps.
    walker_steps : ndarray of int, shape (W,)
        Steps each walker did.
    walker_temperature : ndarray, shape (W,)
        Of its thermostat, K.
    walker_start : tuple of str, length W
        Id of the label each walker started from.
    """

    frames: tuple[Atoms, ...]
    walker: IntArray
    time: Array
    energies: Array
    energy: Array
    energy_spread: Array
    energy_sigma: Array
    force_spread_max: Array
    force_sigma_max: Array
    atom_spread_max: Array
    atom_sigma_max: Array
    weight_min: Array
    grade_max: Array
    force_max: Array
    temperature: Array
    distance_ratio: Array
    walker_stop: tuple[str, ...]
    walker_steps: IntArray
    walker_temperature: Array
    walker_start: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ProductionRecord:
    """How a production run began; its :class:`Segment` files stand beside it.

    Attributes
    ----------
    frames : tuple of Atoms, length W
        Where each walker starts.
    system : str
        Name of their system.
    temperature, pressure : float
        K; eV/Å^3, NaN at constant volume.
    timestep, friction : float
        fs; 1/fs.
    stride, segment : int
        Steps between stored frames; steps of a segment, a multiple of it.
    seed : int
        Of the run.
    name : str
        Of the production run.
    cycle : int
        Whose committee drives it.
    driver : str
        Hash of what drives it.
    weighting : str
        How a baseline is weighted; empty without one.
    baseline_error : float
        s_b, eV; NaN when it is from the data.
    force_max, temperature_max, distance_ratio_min, force_sigma_max : float
        Where a walker stops (:class:`alflow.sampling.Bounds`); infinite when nowhere.
    note : str
        What the committee could not be calibrated for.
    model : Committee
        What drives it: a run goes on whatever becomes of the cycle.
    """

    frames: tuple[Atoms, ...]
    system: str
    temperature: float
    pressure: float
    timestep: float
    friction: float
    stride: int
    segment: int
    seed: int
    name: str
    cycle: int
    driver: str
    weighting: str
    baseline_error: float
    force_max: float
    temperature_max: float
    distance_ratio_min: float
    force_sigma_max: float
    note: str
    model: Committee


@dataclass(frozen=True, eq=False)
class SelectRecord:
    """The frames of a cycle that go to the reference method.

    Attributes
    ----------
    ids : tuple of str, length S
        Hash of structure and method: the names of the reference calculations.
    frames : tuple of Atoms, length S
        Structures.
    source : ndarray of int, shape (S,)
        Index of each among the sampled frames.
    reason : tuple of str, length S
        Why it was chosen.
    energy_predicted : ndarray, shape (S,)
        Mean of the members, the baseline included, eV.
    energy_spread, energy_sigma, force_spread_max, force_sigma_max, atom_spread_max, atom_sigma_max, weight_min : \
    ndarray, shape (S,)
        As in :class:`SampleRecord`.
    n_candidates : int
        How many frames there were to choose from.
    n_rejected_sigma, n_rejected_unphysical, n_rejected_duplicate : int
        How many the committee was sure of; how many no reference method should be asked about; how many coincide with
        a labelled or chosen structure.
    """

    ids: tuple[str, ...]
    frames: tuple[Atoms, ...]
    source: IntArray
    reason: tuple[str, ...]
    energy_predicted: Array
    energy_spread: Array
    energy_sigma: Array
    force_spread_max: Array
    force_sigma_max: Array
    atom_spread_max: Array
    atom_sigma_max: Array
    weight_min: Array
    n_candidates: int
    n_rejected_sigma: int
    n_rejected_unphysical: int
    n_rejected_duplicate: int


@dataclass(frozen=True, eq=False)
class LabelRecord:
    """Reference calculations, finished and failed.

    Attributes
    ----------
    ids : tuple of str, length L
        Hash of structure and method.
    frames : tuple of Atoms, length L
        Structures with energy (eV), forces (eV/Å) and, where there is one, stress (eV/Å^3).
    wall_time : ndarray, shape (L,)
        Of each calculation, s.
    code : tuple of str, length L
        Program and version.
    log : tuple of str, length L
        The end of what the program printed; empty where it prints nothing.
    extra : tuple of str, length L
        What else it gave, JSON: ``fermi_energy`` (eV), ``eigenvalues`` (eV, a list for each spin), ``occupations``.
    changes : tuple of str, length L
        Settings that were changed for the attempt that gave the label, JSON; empty for the first.
    baseline : tuple of str, length L
        Identity of the baseline whose results stand beside the label, JSON; empty where there is none.
    baseline_energy : ndarray, shape (L,)
        Energy by the baseline, eV; NaN where there is none or it failed. Labels hold the whole reference energy, so
        another baseline needs no new reference calculation.
    baseline_forces : ndarray, shape (sum N, 3)
        Forces by the baseline, structure after structure, eV/Å; NaN likewise.
    failed_ids, failed_reason, failed_detail, failed_changes : tuple of str, length F
        Attempts that failed, of a calculation one after the other: its id, one word of the taxonomy, the end of what
        the program said, and the settings changed for the attempt, JSON.
    failed_frames : tuple of Atoms, length F
        Their structures.
    method : str
        Identity of the reference method, JSON.
    """

    ids: tuple[str, ...]
    frames: tuple[Atoms, ...]
    wall_time: Array
    code: tuple[str, ...]
    log: tuple[str, ...]
    extra: tuple[str, ...]
    changes: tuple[str, ...]
    baseline: tuple[str, ...]
    baseline_energy: Array
    baseline_forces: Array
    failed_ids: tuple[str, ...]
    failed_frames: tuple[Atoms, ...]
    failed_reason: tuple[str, ...]
    failed_detail: tuple[str, ...]
    failed_changes: tuple[str, ...]
    method: str

    @classmethod
    def empty(cls, method: str) -> "LabelRecord":
        """No label and no failure, of a method."""
        return cls.join([], method)

    def with_label(
        self, name: str, frame: Atoms, wall_time: float, code: str, log: str = "", extra: str = "", changes: str = ""
    ) -> "LabelRecord":
        """One label more, without a baseline's result."""
        return replace(
            self,
            ids=(*self.ids, name),
            frames=(*self.frames, frame),
            wall_time=np.append(self.wall_time, wall_time),
            code=(*self.code, code),
            log=(*self.log, log),
            extra=(*self.extra, extra),
            changes=(*self.changes, changes),
            baseline=(*self.baseline, ""),
            baseline_energy=np.append(self.baseline_energy, np.nan),
            baseline_forces=np.concatenate([self.baseline_forces, np.full((len(frame), 3), np.nan)]),
        )

    def with_failure(self, name: str, frame: Atoms, reason: str, detail: str, changes: str = "") -> "LabelRecord":
        """One failed attempt more."""
        return replace(
            self,
            failed_ids=(*self.failed_ids, name),
            failed_frames=(*self.failed_frames, frame),
            failed_reason=(*self.failed_reason, reason),
            failed_detail=(*self.failed_detail, detail),
            failed_changes=(*self.failed_changes, changes),
        )

    @property
    def gave_up(self) -> tuple[str, ...]:
        """Calculations that have failed and no label, in order."""
        return tuple(name for name in dict.fromkeys(self.failed_ids) if name not in set(self.ids))

    @classmethod
    def join(cls, records: Sequence["LabelRecord"], method: str) -> "LabelRecord":
        """One record of all the labels and failures of several, in their order."""

        def column(name: str) -> tuple[Any, ...]:
            return tuple(item for record in records for item in getattr(record, name))

        arrays = {"wall_time": (0,), "baseline_energy": (0,), "baseline_forces": (0, 3)}
        joined: dict[str, Any] = {f.name: column(f.name) for f in fields(cls) if f.name not in {*arrays, "method"}}
        for name, shape in arrays.items():
            joined[name] = np.concatenate([np.zeros(shape), *(getattr(record, name) for record in records)])
        return cls(**joined, method=method)

    def baseline_results(self, identity: str) -> list[tuple[float, Array] | None]:
        """Energy and forces by the baseline of that identity, for each label; None where they are not kept."""
        cuts = np.cumsum([len(frame) for frame in self.frames])[:-1]
        forces = np.split(self.baseline_forces, cuts) if self.frames else []
        return [
            (float(energy), pull) if name == identity and np.isfinite(energy) else None
            for name, energy, pull in zip(self.baseline, self.baseline_energy, forces, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class TrainRecord:
    """The committee fitted to every label so far.

    Attributes
    ----------
    model : Committee
        With its training set and its calibration.
    n_frames : int
        How many structures it was fitted to.
    left_out : str
        How many labels were left out because the baseline fails for their structures, and why; empty when none.
    """

    model: Committee
    n_frames: int
    left_out: str


@dataclass(frozen=True, eq=False)
class AssessRecord:
    """How good the committee of a cycle is, and whether to go on.

    Attributes
    ----------
    n_labelled, n_failed : int
        Labels so far, and calculations of this cycle that failed.
    energy_rmse, force_rmse : float
        Errors on this cycle's labels *before* they were trained on, eV/atom and eV/Å; out-of-bag in cycle 0; NaN when
        the cycle has no labels.
    energy_rmse_after, force_rmse_after : float
        The same after training.
    alpha_energy, alpha_force : float
        Calibration factors of the new committee; NaN where they cannot be determined.
    floor_energy, floor_force : float
        What its uncertainty does not fall below: eV per square root of the number of atoms, and eV/Å.
    energy, force : Reliability
        Of the new committee, out-of-bag: errors against calibrated uncertainty.
    new_energy, new_force : Reliability
        Of the committee before, on this cycle's labels; of no values in cycle 0.
    note : str
        What could not be calibrated, and which labels were left out, and why.
    sigma_max : float
        Largest calibrated sigma of a force component in the frames sampled, eV/Å; NaN in cycle 0.
    observable : str
        The average that ``[converge]`` names; empty when none.
    observable_error, observable_noise : float
        Its model error over the frames sampled, in its unit, and the statistical error of that: of several values
        or ensembles the largest. NaN in cycle 0, or when it cannot be computed.
    observable_note : str
        Of which value and ensemble, by which method, and what to beware of; or why there is none.
    converged : bool
        Whether the cycles end here.
    reason : str
        Why, or why not.
    """

    n_labelled: int
    n_failed: int
    energy_rmse: float
    force_rmse: float
    energy_rmse_after: float
    force_rmse_after: float
    alpha_energy: float
    alpha_force: float
    floor_energy: float
    floor_force: float
    energy: Reliability
    force: Reliability
    new_energy: Reliability
    new_force: Reliability
    note: str
    sigma_max: float
    observable: str
    observable_error: float
    observable_noise: float
    observable_note: str
    converged: bool
    reason: str
