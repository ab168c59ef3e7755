"""A slow program for tests: leaves a line when it begins, sleeps, labels with EMT. Arguments: log, seconds, in, out."""

import sys
import time
from pathlib import Path

import ase.io
from ase.calculators.emt import EMT

log, seconds, source, target = sys.argv[1:]
atoms = ase.io.read(source)
with Path(log).open("a") as file:
    file.write(f"{atoms.positions[0, 0]:.8f}\n")
time.sleep(float(seconds))
atoms.calc = EMT()
atoms.get_forces()
ase.io.write(target, atoms)
