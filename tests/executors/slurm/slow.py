"""A slow program: leaves a line in $SLOW_LOG, sleeps, labels with EMT. Arguments: seconds, input, output.

It fails while there is a file $SLOW_LOG.fail. It tells what MPI ranks it can start in $SLOW_LOG.ranks if that is there.
"""

import os
import subprocess
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
if Path(f"{os.environ['SLOW_LOG']}.fail").exists():
    sys.exit("told to fail")
if (ranks := Path(f"{os.environ['SLOW_LOG']}.ranks")).exists():
    command = ["mpirun", "sh", "-c", "echo rank"]
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    ranks.write_text(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout)
atoms.calc = EMT()
atoms.get_forces()
ase.io.write(target, atoms)
