"""A disordered start of liquid gallium: atoms at random, pushed apart until neighbours are where a liquid has them."""

import argparse

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.lj import LennardJones
from ase.optimize import FIRE

DENSITY = 6.08  # g/cm3, of the liquid near its melting point
NEAREST = 2.8  # Å, where g(r) of the liquid has its first maximum


def packed(n_atoms: int = 32, seed: int = 0) -> Atoms:
    """Atoms in a cubic cell: at random, then quenched with a purely repulsive pair potential."""
    rng = np.random.default_rng(seed)
    mass = n_atoms * Atoms("Ga").get_masses().sum() / units.kg * 1e3  # g
    length = (mass / DENSITY) ** (1 / 3) * 1e8  # Å
    atoms = Atoms(f"Ga{n_atoms}", positions=length * rng.random((n_atoms, 3)), cell=[length] * 3, pbc=True)
    atoms.calc = LennardJones(sigma=NEAREST / 2 ** (1 / 6), epsilon=0.05, rc=NEAREST, smooth=False)
    FIRE(atoms, logfile=None, maxstep=0.05).run(fmax=0.02, steps=2000)
    atoms.wrap()
    atoms.calc = None
    return atoms


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", default="packed.xyz")
    ase.io.write(parser.parse_args().output, packed())
