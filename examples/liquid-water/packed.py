"""A packed start of liquid water: molecules on a face-centred cubic grid, each turned at random."""

import argparse

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule

DENSITY = 0.997  # g/cm3


def packed(seed: int = 0) -> Atoms:
    """32 molecules in a cubic cell."""
    rng = np.random.default_rng(seed)
    mass = 32 * molecule("H2O").get_masses().sum() / units.kg * 1e3  # g
    length = (mass / DENSITY) ** (1 / 3) * 1e8  # Å
    atoms = Atoms(cell=[length] * 3, pbc=True)
    for place in bulk("Ar", "fcc", a=length / 2, cubic=True).repeat(2).positions:
        water = molecule("H2O")
        turn, upper = np.linalg.qr(rng.normal(size=(3, 3)))
        turn = turn * np.sign(np.diag(upper))  # uniformly distributed, but for
        turn[:, 0] *= np.linalg.det(turn)  # reflections
        water.positions = (water.positions - water.positions[0]) @ turn.T + place
        atoms += water
    atoms.wrap()
    return atoms


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", default="packed.xyz")
    ase.io.write(parser.parse_args().output, packed())
