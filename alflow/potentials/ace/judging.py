"""How far the members are from the structures that they have not seen, without evaluating any structure again."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alflow.committee import calibration, spread

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FORCES = 48  # force components kept of a structure
_MANY = 400  # structures of which all are kept; of a later one, the k-th, with probability 400/k


@dataclass(frozen=True, eq=False)
class Judgement:
    """Errors and calibration factors, each structure judged by the members that did not see it.

    Attributes
    ----------
    energy_rmse, force_rmse : float
        Of the mean of the judges, eV/atom and eV/Å; NaN where there is nothing to judge by.
    alpha_energy, alpha_force : float
        Calibration factors; NaN where they cannot be determined.
    note : str
        Why a factor is missing; empty when both are there.
    """

    energy_rmse: float = float("nan")
    force_rmse: float = float("nan")
    alpha_energy: float = float("nan")
    alpha_force: float = float("nan")
    note: str = ""


@dataclass(eq=False)
class Jury:
    """Rows of the structures, kept to be multiplied with the coefficients of every new fit.

    All energies, and of the forces as many as make sure that neither memory nor time grow with the whole data: a random
    sample of the components of a structure, of all structures at first and of ever fewer later.
    """

    rows: list[Array] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    n_atoms: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    force_rows: list[NDArray[np.float32]] = field(default_factory=list)
    forces: list[Array] = field(default_factory=list)
    force_groups: list[int] = field(default_factory=list)

    def add(self, row: Array, energy: float, n_atoms: int, group: int) -> None:
        """Add a structure's energy row (D,) and energy."""
        self.rows.append(row)
        self.energies.append(energy)
        self.n_atoms.append(n_atoms)
        self.groups.append(group)

    def add_forces(self, rows: Array, forces: Array, group: int, rng: np.random.Generator) -> None:
        """Add some of the last added structure's force rows (S F, n) and forces (n,)."""
        number = len(self.rows)
        keep = number <= _MANY or rng.random() < _MANY / number
        if keep:
            chosen = np.sort(rng.permutation(len(forces))[:_FORCES])
            self.force_rows.append(rows[:, chosen].T.astype(np.float32))
            self.forces.append(forces[chosen])
            self.force_groups.append(group)

    def judge(self, coefficients: Array, seen: Flags) -> Judgement:
        """Judge coefficients (M, D) of members that were fitted to the groups they have ``seen`` (M, G)."""
        n_judges = len(seen) - len(seen) // 2
        if n_judges < 2:
            return Judgement(note=f"not calibrated: {n_judges} member judges each structure, more than 3 are needed")
        judges = np.array([np.flatnonzero(~seen[:, g]) for g in range(seen.shape[1])])
        members = np.array(self.rows) @ coefficients.T
        error, sigma = _judged(members, np.array(self.energies), judges[self.groups])
        alpha_energy, why = calibration(error, sigma, n_judges)
        notes = [f"energies: {why}"] if why else []
        force_rmse = alpha_force = float("nan")
        if self.force_rows:
            features = coefficients[:, : self.force_rows[0].shape[1]].T
            parts = [
                _judged(rows @ features, forces, np.tile(judges[group], (len(forces), 1)))
                for rows, forces, group in zip(self.force_rows, self.forces, self.force_groups, strict=True)
            ]
            force_error, force_sigma = (np.concatenate(x) for x in zip(*parts, strict=True))
            force_rmse = float(np.sqrt(np.mean(force_error**2)))
            alpha_force, why = calibration(force_error, force_sigma, n_judges)
            notes += [f"forces: {why}"] if why else []
        else:
            notes.append("forces: no structure has any")
        return Judgement(
            energy_rmse=float(np.sqrt(np.mean((error / np.array(self.n_atoms)) ** 2))),
            force_rmse=force_rmse,
            alpha_energy=alpha_energy,
            alpha_force=alpha_force,
            note="not calibrated, raw spread used: " + "; ".join(notes) if notes else "",
        )


def _judged(members: Array, reference: Array, judges: NDArray[np.intp]) -> tuple[Array, Array]:
    """Error of the mean and spread of the judges (n, J) among the members (n, M), each of shape (n,)."""
    theirs = np.take_along_axis(members, judges, axis=1)
    return reference - theirs.mean(axis=1), spread(theirs)
