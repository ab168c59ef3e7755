"""Label the structure of an extended XYZ file: replace the calculator by your own. Usage: label.py INPUT OUTPUT."""

import sys

from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

atoms = read(sys.argv[1])
atoms.calc = EMT()
results = {
    "energy": atoms.get_potential_energy(),  # eV
    "forces": atoms.get_forces(),  # eV/Å
    "stress": atoms.get_stress(),  # eV/Å^3; leave it out where there is none
}
atoms.calc = SinglePointCalculator(atoms, **results)
write(sys.argv[2], atoms, format="extxyz")
