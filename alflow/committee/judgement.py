"""How far the members are from the structures that they have not seen, and the calibration that follows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from alflow.committee.calibration import Calibration, calibrate
from alflow.committee.reliability import Reliability

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]

_WILD_RATIO = 20.0  # of the median
_NOTHING = 1e-8  # eV/Å of a force, eV of the energy of an atom
_SAME = 1e-6  # of a composition, below which two do not differ


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

    @property
    def accuracy(self) -> str:
        """The errors, in words; what cannot be told is not."""
        parts = (
            ("energies", self.energy_rmse, "meV/atom", self.energy),
            ("forces", self.force_rmse, "meV/Å", self.force),
        )
        known = [f"{1e3 * error:.3g} {unit}" for _, error, unit, _ in parts if not np.isnan(error)]
        unknown = [f"of {what} nothing can be told ({c.note})" for what, error, _, c in parts if np.isnan(error)]
        return "; ".join([*([f"out-of-bag errors {' and '.join(known)}"] if known else []), *unknown])

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
    composition : ndarray, shape (n, S)
        Number of atoms of each species in each structure.
    groups : sequence of int, length n
        To which group each structure was dealt (:mod:`alflow.committee.resampling`).
    energies : sequence of float, length n
        Labels, counted from where the members count, eV.
    members : ndarray, shape (n, M)
        The members' energies, eV; what is not finite is not judged.
    with_forces : sequence of int, length k
        Of which structures forces are judged.
    forces : sequence of k ndarrays, shape (c,)
        Labels of force components of each of these structures, eV/Å.
    force_members : iterable of k ndarrays, shape (c, M)
        The members' force components, eV/Å; taken one after the other, so that they need not all be held at once.
    without : ndarray, shape (n,), optional
        Energies by a model that was fitted to other groups than that of the structure, to all or nearly all of them,
        eV, where there are such.
    force_without : sequence of k ndarrays, shape (c,), optional
        Their force components, eV/Å.
    """

    composition: Array
    groups: Sequence[int]
    energies: Sequence[float]
    members: Array
    with_forces: Sequence[int]
    forces: Sequence[Array]
    force_members: Iterable[Array]
    without: Array | None = None
    force_without: Sequence[Array] = ()


@dataclass(frozen=True, eq=False)
class _Judged:
    """Labels less what is said of them by those that have not seen them, each array of shape (n,).

    Attributes
    ----------
    error : ndarray
        Of the mean of the judges.
    without : ndarray
        Of a model that was fitted to all, or nearly all, other groups; the same where there is none.
    spread : ndarray
        Of the judges.
    n_judges : ndarray of int
        How many these are.
    structure : ndarray of int
        Of which structure the label is.
    """

    error: Array
    without: Array
    spread: Array
    n_judges: IntArray
    structure: IntArray

    def centred(self, share: float) -> Array:
        """Errors of a mean that is moved by a share of the way to the model without the group."""
        return self.error + share * (self.without - self.error)


def share_of_whole(statements: Statements, seen: Flags) -> float:
    """How far the mean of the members is to be moved to a model that was fitted to all of the structures, 0 to 1.

    So that, out of bag, squared errors of energies and of forces are least, both counted in the mean square of the
    judges' own. 1 where nothing can be judged.
    """
    gain = norm = 0.0
    for judged in _by_judges(statements, seen)[:2]:
        if judged is not None and np.any(judged.error):
            size = np.maximum(np.abs(judged.error), np.abs(judged.without))
            usual = size <= _WILD_RATIO * np.median(size)  # one wild label must not move the mean
            error, step = judged.error[usual], (judged.error - judged.without)[usual]
            square = max(float(np.mean(error**2)), np.finfo(float).tiny)
            gain += float(np.mean(error * step)) / square
            norm += float(np.mean(step**2)) / square
    return min(max(gain / norm, 0.0), 1.0) if norm > 0 else 1.0


def judge(statements: Statements, seen: Flags | None, share: float = 0.0) -> Judgement:
    """Judge members by the labels that each of them has not seen.

    A member that has seen nothing of a species does not judge structures with it, and one that has seen no structures
    of such a composition does not judge their energies: what it says of them is no prediction.

    Parameters
    ----------
    statements : Statements
        Labels, and what the members say of them.
    seen : ndarray of bool, shape (M, G), or None
        Which groups each member was fitted to; None of members that were there before: all of them judge everything.
    share : float
        By which the members' mean was moved to a model of all structures (:func:`share_of_whole`).
    """
    of_energies, of_forces, nothing = _by_judges(statements, seen)
    force_rmse, force = float("nan"), Calibration(note=nothing if statements.forces else "none were fitted to")
    if of_forces is not None and _vanish(statements, of_forces):
        force = Calibration(note="all forces vanish, by symmetry")
    elif of_forces is not None:
        error = of_forces.centred(share)
        force_rmse = float(np.sqrt(np.mean(error**2)))
        force = calibrate(error, of_forces.spread, of_forces.n_judges, of_forces.structure, own=1.0 - share)
    if of_energies is None:
        return Judgement(force_rmse=force_rmse, energy=Calibration(note=nothing), force=force)
    error = of_energies.centred(share)
    # Atoms err independently: the floor of an energy grows with the square root of their number.
    n_atoms = statements.composition.sum(axis=1)[of_energies.structure]
    energy = calibrate(
        error,
        of_energies.spread,
        of_energies.n_judges,
        of_energies.structure,
        np.sqrt(n_atoms),
        own=1.0 - share,
        expected=force.alpha,
    )
    return Judgement(float(np.sqrt(np.mean((error / n_atoms) ** 2))), force_rmse, energy, force)


def _by_judges(t: Statements, seen: Flags | None) -> tuple[_Judged | None, _Judged | None, str]:
    """Energies, and forces, as judges see them; None where nothing can be judged, and why not."""
    numbers = np.arange(len(t.groups))
    judges = np.ones(t.members.shape, dtype=bool)
    of_energies = np.isfinite(t.members)
    nothing = "members and labels have no common zero of energy: add structures"
    if seen is not None:
        saw = seen[:, np.array(t.groups, dtype=np.int64)].T
        has = t.composition > 0
        lacks = ~(saw.T @ has)  # species of which a member has seen nothing
        judges = ~saw & ~(has @ lacks.T)
        of_energies = of_energies & judges & knows(t.composition, saw)
        most = np.max(judges.sum(axis=1), initial=0)
        nothing = "members that have not seen a structure have seen nothing like it: add structures"
        if most == 1:
            nothing = "a single member judges each structure, at least 4 are needed"
    energies = _judged(t.members, np.array(t.energies), t.without, of_energies, numbers)
    none: Sequence[Array | None] = [None] * len(t.forces)
    parts = [
        _judged(members, forces, without, np.tile(judges[k], (len(forces), 1)), np.full(len(forces), k))
        for k, members, forces, without in zip(
            t.with_forces, t.force_members, t.forces, t.force_without or none, strict=True
        )
    ]
    return _joined([energies]), _joined(parts), nothing


def _vanish(t: Statements, judged: _Judged) -> bool:
    """Whether all forces are nothing, by symmetry, and known to be: that they are right shows nothing.

    Where energies are nothing, too, a baseline is the reference itself.
    """
    of_atoms = np.abs(t.energies) / t.composition.sum(axis=1)
    of_forces = [np.abs(forces).max(initial=0.0) for forces in (judged.error, *t.forces)]
    return bool(max(of_forces) < _NOTHING <= of_atoms.max())


def _joined(parts: Sequence[_Judged]) -> _Judged | None:
    """Those labels that two members or more judge."""
    if not parts:
        return None
    joined = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(_Judged)}
    kept = joined["n_judges"] > 1
    return _Judged(**{name: values[kept] for name, values in joined.items()}) if kept.any() else None


def knows(composition: Array, saw: Flags) -> Flags:
    """Whether the structures that a member saw (n, M) say what atoms of each composition contribute, shape (n, M)."""
    compositions, which = np.unique(composition, axis=0, return_inverse=True)
    which = which.ravel()  # NumPy 2.0 gives a column
    knows = np.zeros((len(compositions), saw.shape[1]), dtype=bool)
    for m, mine in enumerate(saw.T):
        there = compositions[np.unique(which[mine])]
        # What is left of a composition that the others combine to, in whatever proportions, is nothing but rounding.
        rest = compositions - compositions @ (np.linalg.pinv(there, rcond=_SAME) @ there)
        knows[:, m] = np.linalg.norm(rest, axis=1) < _SAME * np.linalg.norm(compositions, axis=1)
    return np.asarray(knows[which])


def _judged(members: Array, reference: Array, without: Array | None, judges: Flags, structure: IntArray) -> _Judged:
    """By the judges among the members (n, M)."""
    n_judges = judges.sum(axis=1)
    members = np.where(judges, members, 0.0)  # others may have said what is no number
    mean = np.sum(members, axis=1, where=judges) / np.maximum(n_judges, 1)
    squares = np.sum((members - mean[:, None]) ** 2, axis=1, where=judges)
    spread = np.sqrt(squares / np.maximum(n_judges - 1, 1))
    return _Judged(reference - mean, reference - (mean if without is None else without), spread, n_judges, structure)
