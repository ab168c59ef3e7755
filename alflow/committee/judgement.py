"""How far the members are from the structures that they have not seen, and the calibration that follows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import h5py
import numpy as np
from ase import units
from numpy.typing import NDArray

from alflow.committee.calibration import Calibration, calibrate
from alflow.committee.reliability import Reliability

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]

_WILD_RATIO = 20.0  # of the median
_NOTHING = 1e-8  # eV/Å of a force, eV of the energy of an atom
_SAME = 1e-6  # of a composition, below which two do not differ
_CALIBRATED = ("energy", "force", "stress")
_KINDS, _OF_KIND = 6, 4  # kinds whose errors are told, at most, and structures of one, at least
_NO_STRESS = "no stress was judged"


@dataclass(frozen=True, eq=False)
class Judgement:
    """Errors and calibration, each structure judged by the members that did not see it.

    Attributes
    ----------
    energy_rmse, force_rmse, stress_rmse : float
        Of the mean of the judges, eV/atom, eV/Å and eV/Å^3; NaN where there is nothing to judge by.
    energy, force, stress : Calibration
        Of energies (of whole structures, eV; the floor per square root of the number of atoms), of force components
        (eV/Å) and of stress components (eV/Å^3; the floor, in eV, times the square root of the number of atoms over the
        volume).
    noise : float
        Of the members' energies, per square root of the number of atoms, eV: no spread below it means anything.
    by_kind : tuple of str
        Errors of each kind of structures, a line each; told, and not kept in files.
    """

    energy_rmse: float = float("nan")
    force_rmse: float = float("nan")
    energy: Calibration = field(default_factory=lambda: Calibration(note="nothing was judged"))
    force: Calibration = field(default_factory=lambda: Calibration(note="nothing was judged"))
    noise: float = 0.0
    stress_rmse: float = float("nan")
    stress: Calibration = field(default_factory=lambda: Calibration(note=_NO_STRESS))
    by_kind: tuple[str, ...] = ()

    def stress_sigma(self, spread: Array, size: float) -> Array:
        """Calibrated uncertainty of stress components, eV/Å^3, ``size`` as of :class:`Statements`.

        Where it could not be determined, by the factor of forces: they are wrong by the same coefficients.
        """
        known = self.force if np.isnan(self.stress.alpha) else self.stress
        return np.asarray(np.hypot(known.factor * spread, self.stress.floor * size))

    @property
    def note(self) -> str:
        """What is not calibrated, and why; empty when everything is."""
        parts = [f"{what}: {c.note}" for what, c in (("energies", self.energy), ("forces", self.force)) if c.note]
        if self.stress.note not in {"", _NO_STRESS}:
            parts.append(f"stresses, by the factor of forces: {self.stress.note}")
        return "not calibrated, raw spread used: " + "; ".join(parts) if parts else ""

    @property
    def accuracy(self) -> str:
        """The errors, in words; what cannot be told is not."""
        parts = (
            ("energies", self.energy_rmse, "meV/atom", self.energy),
            ("forces", self.force_rmse, "meV/Å", self.force),
        )
        known = [f"{1e3 * error:.3g} {unit}" for _, error, unit, _ in parts if not np.isnan(error)]
        if not np.isnan(self.stress_rmse):
            known.append(f"{self.stress_rmse / units.GPa:.3g} GPa")
        unknown = [f"of {what} nothing can be told ({c.note})" for what, error, _, c in parts if np.isnan(error)]
        said = " and ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)
        return "; ".join([*([f"out-of-bag RMSE {said}"] if known else []), *unknown])

    def write(self, group: h5py.Group) -> None:
        """Write into an empty HDF5 group."""
        group.attrs.update(energy_rmse=self.energy_rmse, force_rmse=self.force_rmse, stress_rmse=self.stress_rmse)
        if self.noise:
            group.attrs["noise"] = self.noise
        for name in _CALIBRATED:
            calibration: Calibration = getattr(self, name)
            mine = group.create_group(name)
            mine.attrs.update(alpha=calibration.alpha, floor=calibration.floor, note=calibration.note)
            for f in fields(Reliability):
                mine[f.name] = getattr(calibration.reliability, f.name)

    @classmethod
    def read(cls, group: h5py.Group) -> "Judgement":
        """Read what :meth:`write` wrote."""
        parts: dict[str, Any] = {}
        for name in (name for name in _CALIBRATED if name in group):  # no stress in files from before it was learned
            mine = group[name]
            known = {f.name: mine[f.name][()] for f in fields(Reliability) if f.name != "bins"}
            found = Reliability(**{key: value.item() for key, value in known.items()}, bins=mine["bins"][()])
            attributes = mine.attrs
            parts[name] = Calibration(
                float(attributes["alpha"]), float(attributes["floor"]), str(attributes["note"]), found
            )
        parts |= {f"{name}_rmse": float(group.attrs.get(f"{name}_rmse", np.nan)) for name in _CALIBRATED}
        return cls(**parts, noise=float(group.attrs.get("noise", 0.0)))


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
    with_stress : sequence of int, length l
        Of which structures the stress is judged.
    stresses : sequence of l ndarrays, shape (6,)
        Labels, eV/Å^3.
    stress_sizes : sequence of float, length l
        The square root of each structure's number of atoms over its volume, 1/Å^3: like that errors of stresses go.
    stress_members : iterable of l ndarrays, shape (6, M)
        The members' stresses, eV/Å^3.
    stress_without : sequence of l ndarrays, shape (6,), optional
        As of energies and forces.
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
    with_stress: Sequence[int] = ()
    stresses: Sequence[Array] = ()
    stress_sizes: Sequence[float] = ()
    stress_members: Iterable[Array] = ()
    stress_without: Sequence[Array] = ()


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
    for judged in _by_judges(statements, seen)[:2]:  # the stress is a sum of forces over whole structures
        if judged is not None and np.any(judged.error):
            size = np.maximum(np.abs(judged.error), np.abs(judged.without))
            usual = size <= _WILD_RATIO * np.median(size)  # one wild label must not move the mean
            error, step = judged.error[usual], (judged.error - judged.without)[usual]
            square = max(float(np.mean(error**2)), np.finfo(float).tiny)
            gain += float(np.mean(error * step)) / square
            norm += float(np.mean(step**2)) / square
    return min(max(gain / norm, 0.0), 1.0) if norm > 0 else 1.0


def judge(
    statements: Statements, seen: Flags | None, share: float = 0.0, kinds: Sequence[str] | None = None
) -> Judgement:
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
    kinds : sequence of str, length n, optional
        By which errors are told apart.
    """
    of_energies, of_forces, of_stresses, nothing = _by_judges(statements, seen)
    force_rmse, force = float("nan"), Calibration(note=nothing if statements.forces else "none were fitted to")
    if of_forces is not None and _vanish(statements, of_forces):
        force = Calibration(note="all forces vanish, by symmetry")
    elif of_forces is not None:
        error = of_forces.centred(share)
        force_rmse = float(np.sqrt(np.mean(error**2)))
        force = calibrate(error, of_forces.spread, of_forces.n_judges, of_forces.structure, own=1.0 - share)
    stress_rmse, stress = float("nan"), Calibration(note=nothing if statements.stresses else _NO_STRESS)
    if of_stresses is not None:
        error = of_stresses.centred(share)
        stress_rmse = float(np.sqrt(np.mean(error**2)))
        # Judged as virials over the square root of the number of atoms, which structures of all sizes have in common.
        sizes = dict(zip(statements.with_stress, statements.stress_sizes, strict=True))
        size = np.array([sizes[k] for k in of_stresses.structure])
        stress = calibrate(
            error / size,
            of_stresses.spread / size,
            of_stresses.n_judges,
            of_stresses.structure,
            own=1.0 - share,
            expected=force.alpha,
        )
    told = _by_kind(kinds, statements.composition.sum(axis=1), of_energies, of_forces, share) if kinds else ()
    judged = Judgement(force_rmse=force_rmse, force=force, stress_rmse=stress_rmse, stress=stress, by_kind=told)
    if of_energies is None:
        return replace(judged, energy=Calibration(note=nothing))
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
    return replace(judged, energy_rmse=float(np.sqrt(np.mean((error / n_atoms) ** 2))), energy=energy)


def _by_kind(
    kinds: Sequence[str], n_atoms: Array, energies: _Judged | None, forces: _Judged | None, share: float
) -> tuple[str, ...]:
    """Errors of each kind of structures, in words; nothing where there are fewer than two that have enough."""
    numbers = Counter(kinds)
    some = [kind for kind, number in numbers.most_common(_KINDS) if number >= _OF_KIND]
    if len(some) < 2:
        return ()
    lines = []
    for kind in (kind for kind in numbers if kind in some):  # in the order in which they came
        mine, parts = np.array([one == kind for one in kinds]), []
        for judged, sizes, unit in ((energies, n_atoms, "meV/atom"), (forces, np.ones_like(n_atoms), "meV/Å")):
            here = np.zeros(0, dtype=bool) if judged is None else mine[judged.structure]
            if judged is not None and here.any():
                error = (judged.centred(share) / sizes[judged.structure])[here]
                parts.append(f"{1e3 * float(np.sqrt(np.mean(error**2))):.3g} {unit}")
        if parts:
            lines.append(f"out-of-bag RMSE of {kind} ({numbers[kind]} structures): {', '.join(parts)}")
    return tuple(lines)


def _by_judges(t: Statements, seen: Flags | None) -> tuple[_Judged | None, _Judged | None, _Judged | None, str]:
    """Energies, forces and stresses as judges see them; None where nothing can be judged, and why not."""
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

    def components(
        structures: Sequence[int], members: Iterable[Array], labels: Sequence[Array], without: Sequence[Array]
    ) -> _Judged | None:
        """Of each structure those of its forces or its stress."""
        others: Sequence[Array | None] = without or [None] * len(labels)
        return _joined(
            [
                _judged(mine, label, other, np.tile(judges[k], (len(label), 1)), np.full(len(label), k))
                for k, mine, label, other in zip(structures, members, labels, others, strict=True)
            ]
        )

    forces = components(t.with_forces, t.force_members, t.forces, t.force_without)
    stresses = components(t.with_stress, t.stress_members, t.stresses, t.stress_without)
    return _joined([energies]), forces, stresses, nothing


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
