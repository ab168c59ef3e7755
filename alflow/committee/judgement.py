"""How far the members are from the structures that they have not seen, and the calibration that follows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from alflow.committee.calibration import Calibration, calibrate
from alflow.committee.reliability import Reliability
from alflow.committee.weighting import spread

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


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
    noise : float
        Of the members' energies, per square root of the number of atoms, eV: no spread below it means anything.
    """

    energy_rmse: float = float("nan")
    force_rmse: float = float("nan")
    energy: Calibration = field(default_factory=lambda: Calibration(note="nothing was judged"))
    force: Calibration = field(default_factory=lambda: Calibration(note="nothing was judged"))
    noise: float = 0.0

    @property
    def note(self) -> str:
        """What is not calibrated, and why; empty when everything is."""
        parts = [f"{what}: {c.note}" for what, c in (("energies", self.energy), ("forces", self.force)) if c.note]
        return "not calibrated, raw spread used: " + "; ".join(parts) if parts else ""

    def write(self, group: h5py.Group) -> None:
        """Write into an empty HDF5 group."""
        group.attrs.update(energy_rmse=self.energy_rmse, force_rmse=self.force_rmse)
        if self.noise:
            group.attrs["noise"] = self.noise
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
        noise = float(group.attrs.get("noise", 0.0))
        return cls(float(group.attrs["energy_rmse"]), float(group.attrs["force_rmse"]), **parts, noise=noise)


@dataclass(frozen=True, eq=False)
class Statements:
    """What all members say of labels, some of which each of them has seen.

    Attributes
    ----------
    n_atoms : sequence of int, length n
        Of each structure.
    groups : sequence of int, length n
        To which group each structure was dealt (:mod:`alflow.committee.resampling`).
    energies : sequence of float, length n
        Labels, counted from where the members count, eV.
    members : ndarray, shape (n, M)
        The members' energies, eV.
    force_groups : sequence of int, length k
        Groups of the structures of which forces are judged.
    forces : sequence of k ndarrays, shape (c,)
        Labels of force components of each of these structures, eV/Å.
    force_members : iterable of k ndarrays, shape (c, M)
        The members' force components, eV/Å; taken one after the other, so that they need not all be held at once.
    """

    n_atoms: Sequence[int]
    groups: Sequence[int]
    energies: Sequence[float]
    members: Array
    force_groups: Sequence[int]
    forces: Sequence[Array]
    force_members: Iterable[Array]


def judge(statements: Statements, seen: Flags) -> Judgement:
    """Judge members by the labels that each of them has not seen.

    Parameters
    ----------
    statements : Statements
        Labels, and what the members say of them.
    seen : ndarray of bool, shape (M, G)
        Which groups each member was fitted to; as many members have seen each group.
    """
    t = statements
    judges = np.array([np.flatnonzero(~seen[:, g]) for g in range(seen.shape[1])])
    n_judges = judges.shape[1]
    if n_judges < 2:
        none = Calibration(note="a single member judges each structure, at least 4 are needed")
        return Judgement(energy=none, force=none)
    n_atoms = np.array(t.n_atoms)
    error, sigma = _judged(t.members, np.array(t.energies), judges[t.groups])
    # Atoms err independently: the floor of an energy grows with the square root of their number.
    energy = calibrate(error, sigma, n_judges, np.arange(len(error)), np.sqrt(n_atoms))
    energy_rmse = float(np.sqrt(np.mean((error / n_atoms) ** 2)))
    if not t.forces:
        return Judgement(energy_rmse, energy=energy, force=Calibration(note="no structure has any"))
    parts = [
        _judged(members, forces, np.tile(judges[group], (len(forces), 1)))
        for members, forces, group in zip(t.force_members, t.forces, t.force_groups, strict=True)
    ]
    error, sigma = (np.concatenate(x) for x in zip(*parts, strict=True))
    structure = np.repeat(np.arange(len(parts)), [len(forces) for forces in t.forces])
    force = calibrate(error, sigma, n_judges, structure)
    return Judgement(energy_rmse, float(np.sqrt(np.mean(error**2))), energy, force)


def _judged(members: Array, reference: Array, judges: NDArray[np.intp]) -> tuple[Array, Array]:
    """Error of the mean and spread of the judges (n, J) among the members (n, M), each of shape (n,)."""
    theirs = np.take_along_axis(members, judges, axis=1)
    return reference - theirs.mean(axis=1), spread(theirs)
