"""A slow program: leaves a line in $SLOW_LOG, sleeps, labels with EMT. Arguments: seconds, input, output."""

import os
import sys
import time
from pathlib import Path

import ase.io
from ase.calculators.emt import EMT

seconds, source, target = sys.argv[1:]
atoms = ase.io.read(source)
with Path(os.environ["SLOW_LOG"]).open("a") as file:
    file.write(f"{atoms.positions[0, 0]:.8f}\n")
time.sleep(float(seconds))
atoms.calc = EMT()
atoms.get_forces()
ase.io.write(target, atoms)
