"""Labelled structures for the tests of potentials."""

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator

SMALL = {"n_max": 4, "l_max": 2, "n_pair": 4, "n_features": 60, "cutoff": 4.0, "n_members": 8}
"""Settings of a committee that is fitted in a moment."""

SIX = (1, 6, 7, 8, 9, 15)
"""Atomic numbers of more species than are told apart in products."""


def with_label(atoms: Atoms, calculator: Calculator) -> Atoms:
    """The structure with the energy and the forces of a calculator, which it keeps without it."""
    atoms.calc = calculator
    atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
    return atoms


def with_stress(atoms: Atoms, calculator: Calculator) -> Atoms:
    """The same with the stress of the calculator, too."""
    copy = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, calculator=calculator)
    results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces(), "stress": copy.get_stress()}
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def labelled(
    start: Atoms, n: int, seed: int = 0, scale: float = 0.08, calculator: Calculator | None = None
) -> list[Atoms]:
    """Displaced and strained copies with Lennard-Jones energies and forces, or those of another calculator."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = start.copy()
        if atoms.pbc.any():
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += scale * rng.normal(size=atoms.positions.shape)
        sigma = 2.2 if atoms.pbc.any() else 0.8  # bonds of molecules are short
        frames.append(with_label(atoms, calculator or LennardJones(sigma=sigma, epsilon=0.3, rc=6.0, smooth=True)))
    return frames


def bonded(start: Atoms, n: int, seed: int = 0, scale: float = 0.08) -> list[Atoms]:
    """The same with the energies of a molecule, a few eV."""
    return labelled(start, n, seed, scale, MorsePotential(epsilon=0.5, r0=1.6, rho0=3.0, rcut1=3.0, rcut2=4.5))


def water() -> Atoms:
    second = molecule("H2O")
    second.translate([0.3, 0.2, 2.9])
    return molecule("H2O") + second


def crowded(numbers: tuple[int, ...] = SIX, n: int = 14) -> Atoms:
    """Atoms at random places of a small cell, which see their own images."""
    rng = np.random.default_rng(3)
    cell = 4.0 * np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))
    return Atoms(np.resize(numbers, n), rng.uniform(0, 4, (n, 3)), cell=cell, pbc=True)
