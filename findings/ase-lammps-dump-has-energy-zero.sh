#!/usr/bin/env bash
# ASE 3.29.0: a LAMMPS dump with forces is read with an energy of exactly 0.0 eV in every frame, as a result like any other.
#
# A text dump has no energy: that is in the log. So one would expect forces as the only result, and an exception when asked for the energy,
# as it is for a dump without forces. Seen: a calculator with the true forces and an energy of 0.0. Whatever asks for it (a
# test whether a frame is labelled, a writer, a trainer) takes the zero for a label, and extended XYZ gets energy=0.0 for good. A potential
# trained on it learns a flat energy against forces that say otherwise. Remedy: after reading, `atoms.calc.results.pop("energy")`, or
# set it to the energy in the log that belongs to the time step in `atoms.info["timestep"]`.
#
# alflow/data/formats/lammps.py reads dumps itself, with forces only.
#
# Seen: true energy -0.0080 eV, energy 0.0 beside right forces.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ase==3.29.0 numpy==2.3.5
cd "$folder"
found=$(venv/bin/python -W error - <<'E2'
import ase
import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.lj import LennardJones

print("ASE", ase.__version__)
atoms = Atoms("Ar2", [[1, 1, 1], [4.6, 1, 1]], cell=[15, 15, 15], pbc=True)
atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=7)
print(f"true energy {atoms.get_potential_energy():.4f} eV")
columns = {"": ("", np.empty((2, 0))), " with forces": (" fx fy fz", atoms.get_forces())}
for name, (words, values) in columns.items():
    rows = [" ".join(map(repr, map(float, row))) for row in np.hstack([atoms.positions, values])]
    with open("argon.dump", "w") as file:
        file.write("ITEM: UNITS\nmetal\nITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n")
        file.write("0 15\n" * 3 + f"ITEM: ATOMS id element x y z{words}\n")
        file.writelines(f"{number} Ar {row}\n" for number, row in enumerate(rows, 1))
    read = ase.io.read("argon.dump", format="lammps-dump-text")
    print(f"dump{name}: {'no results' if read.calc is None else sorted(read.calc.results)}")
print(f"energy {read.get_potential_energy()}, right forces {np.allclose(read.get_forces(), atoms.get_forces(), rtol=0, atol=1e-12)}")
ase.io.write("argon.xyz", read)
with open("argon.xyz") as file:
    print("written as extended XYZ:", *(word for word in file.read().split() if word.startswith("energy")))
E2
)
expected="ASE 3.29.0
true energy -0.0080 eV
dump: no results
dump with forces: ['energy', 'forces']
energy 0.0, right forces True
written as extended XYZ: energy=0.0"
echo "$found"
if [ "$found" != "$expected" ]; then
  echo "this has changed: expected" >&2
  echo "$expected" >&2
  exit 1
fi
