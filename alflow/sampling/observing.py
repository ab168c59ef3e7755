"""What is kept of a frame: the structure, what the committee says of it, and whether it is sane."""

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError
from numpy.typing import NDArray

from alflow.committee.committee import Committee
from alflow.errors import PotentialError
from alflow.records.sample import MEASURED, SIGMAS, Ensemble, Segment
from alflow.structures import distance_ratio

Array = NDArray[np.float64]

FAILURES = (CalculatorError, PotentialError)
"""What a potential raises where it cannot be evaluated: a baseline that does not converge, atoms that coincide, ..."""

_OF_FORCES = {
    "largest_force_spread": "forces_spread",
    "largest_force_sigma": "forces_sigma",
    "largest_atom_spread": "atom_spread",
    "largest_atom_sigma": "atom_sigma",
}
_COLUMNS = ("energy", *SIGMAS, *MEASURED)


class Observed:
    """The frames of a segment as they are stored.

    Parameters
    ----------
    committee : Committee
        Says how sure it is of each.
    atoms : Atoms
        The structure that is looked at, with a calculator of the committee; it may move on, or be replaced.
    force_sigma : bool
        Whether stored frames have the uncertainty of forces, which costs as much as M forces, and those of atoms;
        without it they are NaN.
    """

    def __init__(self, committee: Committee, atoms: Atoms, *, force_sigma: bool = True) -> None:
        self.committee = committee
        self.atoms = atoms
        self.force_sigma = force_sigma
        self.frames: list[Atoms] = []
        self.energies: list[Array] = []
        self.rows: list[dict[str, float]] = []

    def measure(self) -> tuple[float, float, float]:
        """Largest norm of an atom's force (eV/Å), temperature (K) and distance ratio of the moment."""
        force = float(np.linalg.norm(self.atoms.get_forces(), axis=1).max())
        return force, float(self.atoms.get_temperature()), distance_ratio(self.atoms)

    def store(self, step: int, measured: tuple[float, float, float]) -> tuple[float, float]:
        """Store the frame, with what :meth:`measure` has just given.

        Returns
        -------
        sigma, grade : float
            Largest calibrated sigma of a force component, eV/Å, and largest extrapolation grade of an atom.
        """
        results = self.atoms.calc.results  # of this very structure: the forces have just been measured
        row = dict(zip(("largest_force", "temperature", "distance_ratio"), measured, strict=True))
        row |= {"step": float(step), "energy": float(results["energy"])}
        row |= {"smallest_weight": float(np.min(results.get("weight", 1.0)))}
        if self.force_sigma:
            energies = self._predict(row)
        else:
            energies = np.asarray(results["committee_energies"])
            row |= dict.fromkeys(_OF_FORCES, np.nan)
            row |= {name: float(results[name]) for name in ("energy_spread", "energy_sigma")}
            row |= {"largest_grade": float(self.committee.grade(self.atoms).max())}
        frame = self.atoms.copy()
        frame.calc = None
        self.frames.append(frame)
        self.energies.append(energies)
        self.rows.append(row)
        return row["largest_force_sigma"], row["largest_grade"]

    def _predict(self, row: dict[str, float]) -> Array:
        """Add all that the committee says of its uncertainty; the energies of its members."""
        p = self.committee.predict(self.atoms)
        row |= {"energy_spread": p.energy_spread, "energy_sigma": p.energy_sigma, "largest_grade": float(p.grade.max())}
        found = {name: getattr(p, of) for name, of in _OF_FORCES.items()}
        row |= {name: np.nan if values is None else float(values.max()) for name, values in found.items()}
        return p.energies

    def segment(self, step: int, stop: str, *, walker: int, ensemble: Ensemble, timestep: float) -> Segment:
        """Everything stored so far, as columns.

        Parameters
        ----------
        step : int
            Steps done at the end of the segment.
        stop : str
            Why it was the last one; empty when it was not.
        walker, ensemble, timestep
            As in :class:`alflow.records.sample.Segment`.
        """
        end = self.atoms.copy()
        end.calc = None
        columns: dict[str, Any] = {name: np.array([row[name] for row in self.rows]) for name in ("step", *_COLUMNS)}
        return Segment(
            walker=walker,
            ensemble=ensemble,
            timestep=timestep,
            frames=tuple(self.frames),
            energies=np.array(self.energies).reshape(len(self.energies), self.committee.n_members),
            **columns,
            bias_energy=np.zeros(len(self.rows)),  # nothing biases a walk yet
            properties={},
            atom_properties={},
            end=(end,),
            end_step=step,
            stop=stop,
        )
