"""A calculator tried on one structure: what must make no difference, and forces against differences of the energy."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.workers.server import with_vacuum

Array = NDArray[np.float64]

Calculate = Callable[[Atoms], tuple[float, Array, Array | None]]
"""Energy (eV), forces (eV/Å) and, where there is one, stress (eV/Å^3, (6,)) of a structure."""

_SHIFT = (0.37, -1.21, 2.05)  # Å
_STEP, _STRAIN = 0.01, 0.002  # of differences: large enough for energies in single precision; Å for a mean atom
_FOURTH_ORDER = ((1, 8.0), (2, -1.0))  # weights of central differences, over 12 steps
_ENERGY, _RELATIVE = 5e-3, 1e-6  # eV, and of the energy: what may change
_FORCE, _STRESS, _SHARE = 1e-2, 1e-3, 2e-2  # eV/Å, eV/Å^3, and of either along the direction: what may be off


@dataclass(frozen=True)
class Trial:
    """What was found; energies in eV.

    Attributes
    ----------
    energy : float
        Of the structure.
    seconds : float
        That it took.
    largest_force : float
        Largest force component, eV/Å.
    moved, reordered, other_cell, vacuum : float
        By how much the energy changes when nothing but the description does; NaN where it was not tried, as there is
        no such description.
    forces : float
        How far the force along a random direction is from differences of the energy, eV/Å.
    along : float
        That force.
    stress, pressed : float
        The same two of the stress along a random strain, eV/Å^3; NaN where there is none.
    """

    energy: float
    seconds: float
    largest_force: float
    moved: float
    reordered: float
    other_cell: float
    vacuum: float
    forces: float
    along: float
    stress: float
    pressed: float

    @property
    def text(self) -> str:
        """All of it in one line."""
        changes = {
            "moved": self.moved,
            "reordered": self.reordered,
            "in another cell": self.other_cell,
            "with other vacuum": self.vacuum,
        }
        same = ", ".join(f"{what} {change:.1g}" for what, change in changes.items() if not np.isnan(change))
        stress = "no stress" if np.isnan(self.stress) else f"stress to {self.stress:.1g} eV/Å^3"
        return (
            f"{self.energy:.6f} eV, forces up to {self.largest_force:.3g} eV/Å; energy changes by {same} eV; forces "
            f"agree with differences to {self.forces:.1g} eV/Å, {stress}; {self.seconds:.2g} s"
        )

    def problems(self, lenience: float = 1.0) -> list[str]:
        """What is not as it should be, in words; ``lenience`` multiplies what is allowed."""
        allowed = lenience * (_ENERGY + _RELATIVE * abs(self.energy))
        found = [
            f"its energy changes by {change:.3g} eV {how}"
            for how, change in (
                ("when the structure is moved", self.moved),
                ("when the atoms are reordered", self.reordered),
                ("when another cell describes the same lattice", self.other_cell),
                ("with the vacuum along a direction that is not periodic: it takes it for periodic", self.vacuum),
            )
            if change > allowed
        ]
        if not self.forces <= lenience * (_FORCE + _SHARE * abs(self.along)):
            found.append(f"its forces are off by {self.forces:.3g} eV/Å from differences of its energy")
        if self.stress > lenience * (_STRESS + _SHARE * abs(self.pressed)):
            found.append(f"its stress is off by {self.stress:.3g} eV/Å^3 from differences of its energy")
        return found


def tried(calculate: Calculate, atoms: Atoms) -> Trial:
    """Try a calculator on a structure; whatever it raises passes."""
    start = time.perf_counter()
    energy, forces, stress = calculate(atoms)
    seconds = time.perf_counter() - start
    rng = np.random.default_rng(0)

    def change(other: Atoms | None) -> float:
        return float("nan") if other is None else abs(calculate(other)[0] - energy)

    moved = atoms.copy()
    moved.positions += _SHIFT
    direction = rng.normal(size=forces.shape)
    direction /= np.linalg.norm(direction)
    step = _STEP * np.sqrt(len(atoms))  # of the whole structure: each atom moves as far, however many there are
    along = float(np.sum(forces * direction))
    slope = _slope(lambda h: calculate(_displaced(atoms, h * direction))[0], step)
    off = pressed = float("nan")
    if stress is not None and atoms.pbc.all():
        strain = rng.normal(size=(3, 3))
        strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)
        pressed = float(np.sum(strain[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] * stress * [1, 1, 1, 2, 2, 2]))
        rise = _slope(lambda h: calculate(_strained(atoms, h * strain))[0], _STRAIN)
        off = abs(rise / atoms.get_volume() - pressed)
    return Trial(
        energy=energy,
        seconds=seconds,
        largest_force=float(np.abs(forces).max()),
        moved=change(moved),
        reordered=change(atoms[rng.permutation(len(atoms))]),
        other_cell=change(_sheared(atoms)),
        vacuum=_vacuum(calculate, atoms),
        forces=abs(slope + along),
        along=along,
        stress=off,
        pressed=pressed,
    )


def _slope(function: Callable[[float], float], h: float) -> float:
    """Derivative at zero by central differences."""
    return sum(w * (function(k * h) - function(-k * h)) for k, w in _FOURTH_ORDER) / (12 * h)


def _displaced(atoms: Atoms, by: Array) -> Atoms:
    out: Atoms = atoms.copy()
    out.positions += by
    return out


def _strained(atoms: Atoms, strain: Array) -> Atoms:
    out: Atoms = atoms.copy()
    out.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return out


def _sheared(atoms: Atoms) -> Atoms | None:
    """The same lattice by other vectors, where at least two directions are periodic."""
    axes = np.flatnonzero(atoms.pbc)
    if len(axes) < 2:
        return None
    out: Atoms = atoms.copy()
    cell = atoms.cell.array.copy()
    cell[axes[1]] += cell[axes[0]]
    out.set_cell(cell)
    return out


def _vacuum(calculate: Calculate, atoms: Atoms) -> float:
    """By how much the energy depends on the length of the cell along directions that are not periodic."""
    energies = [calculate(other)[0] for other in with_vacuum(atoms)]
    return abs(energies[1] - energies[0]) if energies else float("nan")
