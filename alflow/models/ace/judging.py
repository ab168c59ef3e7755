"""How far the members are from the structures that they have not seen, without evaluating any structure again."""

from dataclasses import dataclass, field, fields
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from alflow.committee.calibration import Calibration, Reliability, calibrate
from alflow.committee.weighting import spread

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FORCES = 48  # force components kept of a structure
_MANY = 400  # structures of which all are kept; of a later one, the k-th, with probability 400/k


@dataclass(frozen=True, eq=False)
class Judgement:
    """Errors and calibration, each structure judged by the members that did not see it.

    Attributes
    ----------
    energy_rmse, force_rmse : float
        Of the mean of the judges, eV/atom and eV/Å; NaN where there is nothing to judge by.
    energy, force : Calibration
        Of energies (of whole structures, eV; the floor per square root of the number of atoms) and of force components
        (eV/Å).
    """

    energy_rmse: float = float("nan")
    force_rmse: float = float("nan")
    energy: Calibration = field(default_factory=lambda: Calibration(note="nothing was judged"))
    force: Calibration = field(default_factory=lambda: Calibration(note="nothing was judged"))

    @property
    def note(self) -> str:
        """What is not calibrated, and why; empty when everything is."""
        parts = [f"{what}: {c.note}" for what, c in (("energies", self.energy), ("forces", self.force)) if c.note]
        return "not calibrated, raw spread used: " + "; ".join(parts) if parts else ""

    def write(self, group: h5py.Group) -> None:
        """Write into an empty HDF5 group."""
        group.attrs.update(energy_rmse=self.energy_rmse, force_rmse=self.force_rmse)
        for name in ("energy", "force"):
            calibration: Calibration = getattr(self, name)
            mine = group.create_group(name)
            mine.attrs.update(alpha=calibration.alpha, floor=calibration.floor, note=calibration.note)
            for f in fields(Reliability):
                mine[f.name] = getattr(calibration.reliability, f.name)

    @classmethod
    def read(cls, group: h5py.Group) -> "Judgement":
        """Read what :meth:`write` wrote."""
        parts: dict[str, Any] = {}
        for name in ("energy", "force"):
            mine = group[name]
            known = {f.name: mine[f.name][()] for f in fields(Reliability) if f.name != "bins"}
            found = Reliability(**{key: value.item() for key, value in known.items()}, bins=mine["bins"][()])
            attributes = mine.attrs
            parts[name] = Calibration(
                float(attributes["alpha"]), float(attributes["floor"]), str(attributes["note"]), found
            )
        return cls(float(group.attrs["energy_rmse"]), float(group.attrs["force_rmse"]), **parts)


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
        """Judge coefficients (M, D) of members that were fitted to the groups they have ``seen`` (M, G).

        As many have seen each group.
        """
        judges = np.array([np.flatnonzero(~seen[:, g]) for g in range(seen.shape[1])])
        n_judges = judges.shape[1]
        if n_judges < 2:
            none = Calibration(note="a single member judges each structure, at least 4 are needed")
            return Judgement(energy=none, force=none)
        n_atoms = np.array(self.n_atoms)
        error, sigma = _judged(np.array(self.rows) @ coefficients.T, np.array(self.energies), judges[self.groups])
        energy = calibrate(error, sigma, n_judges, np.arange(len(error)), np.sqrt(n_atoms))
        energy_rmse = float(np.sqrt(np.mean((error / n_atoms) ** 2)))
        if not self.force_rows:
            return Judgement(energy_rmse, energy=energy, force=Calibration(note="no structure has any"))
        features = coefficients[:, : self.force_rows[0].shape[1]].T
        parts = [
            _judged(rows @ features, forces, np.tile(judges[group], (len(forces), 1)))
            for rows, forces, group in zip(self.force_rows, self.forces, self.force_groups, strict=True)
        ]
        error, sigma = (np.concatenate(x) for x in zip(*parts, strict=True))
        structure = np.repeat(np.arange(len(parts)), [len(forces) for forces in self.forces])
        force = calibrate(error, sigma, n_judges, structure)
        return Judgement(energy_rmse, float(np.sqrt(np.mean(error**2))), energy, force)


def _judged(members: Array, reference: Array, judges: NDArray[np.intp]) -> tuple[Array, Array]:
    """Error of the mean and spread of the judges (n, J) among the members (n, M), each of shape (n,)."""
    theirs = np.take_along_axis(members, judges, axis=1)
    return reference - theirs.mean(axis=1), spread(theirs)
