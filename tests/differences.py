"""Structures of all kinds, and differences to compare derivatives with."""

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111

from lj_frames import water


def triclinic() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.2)
    atoms.set_cell(atoms.cell.array @ np.array([[1, 0.1, 0], [0, 1.05, 0.2], [0.05, 0, 1]]), scale_atoms=True)
    return atoms


def slab() -> Atoms:
    atoms = fcc111("Cu", (1, 2, 2), vacuum=3.0)
    atoms.info = {}
    return atoms


STARTS: dict[str, Callable[[], Atoms]] = {
    "molecule": water,
    "cell smaller than the cutoff": lambda: bulk("Cu", "fcc", a=3.6),
    "slab": slab,
    "triclinic": triclinic,
}


def derivative(function: Callable[[float], float], h: float) -> float:
    """First derivative at zero, central differences of sixth order."""
    c = [(1, 45.0), (2, -9.0), (3, 1.0)]
    return sum(w * (function(k * h) - function(-k * h)) for k, w in c) / (60 * h)


def moved(atoms: Atoms, i: int, x: int, by: float) -> Atoms:
    out = atoms.copy()
    out.positions[i, x] += by
    return out


def strained(atoms: Atoms, a: int, b: int, by: float) -> Atoms:
    strain = np.eye(3)
    strain[a, b] += by / 2
    strain[b, a] += by / 2
    out = atoms.copy()
    out.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return out


def assert_close(found, expected) -> None:
    """To 1e-6 relative to the largest component."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert np.abs(found - expected).max() < 1e-6 * max(np.abs(expected).max(), 1e-2)
