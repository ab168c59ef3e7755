#!/usr/bin/env bash
# ASE 3.29.0: after initial charges or magnetic moments are set on a labelled structure, its energy and forces are not told any more, and
# are missing from .traj, .db and .json files written from it, without a warning.
#
# One sets charges or moments on structures of a file so that the next calculation starts from them, and would expect labels that were
# read to stay: positions and cell are the same. Seen: SinglePointCalculator takes any change of charges, moments or pbc for another
# structure (one of masses is none). The numbers are still in `atoms.calc.results`, but asking raises PropertyNotImplementedError, and
# writers part ways: extended XYZ writes the results, the trajectory and both databases leave them out in silence. So labels are gone after
# a conversion, depending on the format. Remedy: attach the results again after the last change,
# `atoms.calc = SinglePointCalculator(atoms, **atoms.calc.results)`.
#
# alflow/data/entering.py attaches the labels last, when all else of a structure is set.
#
# Seen: as in `expected` below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ase==3.29.0 numpy==2.3.5
cd "$folder"
found=$(venv/bin/python -W error - <<'E2'
import os

import ase
import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator

print("ASE", ase.__version__)
oxygen = Atoms("O2", [[0, 0, 0], [0, 0, 1.2]], cell=[6, 6, 6])
oxygen.calc = SinglePointCalculator(oxygen, energy=-9.8, forces=np.zeros((2, 3)))
ase.io.write("labelled.xyz", oxygen)


def told(atoms):
    try:
        return str(float(atoms.get_potential_energy()))
    except (PropertyNotImplementedError, RuntimeError) as error:
        return type(error).__name__


def attached_again(atoms):
    atoms.set_initial_magnetic_moments([1, 1])
    atoms.calc = SinglePointCalculator(atoms, **atoms.calc.results)


for name, change in (
    ("nothing", lambda atoms: None),
    ("masses", lambda atoms: atoms.set_masses([18, 18])),
    ("initial charges", lambda atoms: atoms.set_initial_charges([0.5, 0.5])),
    ("initial moments", lambda atoms: atoms.set_initial_magnetic_moments([1, 1])),
    ("periodicity", lambda atoms: atoms.set_pbc(True)),
    ("initial moments, results attached again", attached_again),
):
    atoms = ase.io.read("labelled.xyz")
    change(atoms)
    told_after = [f"asked {told(atoms)}", f"stored {atoms.calc.results['energy']}"]
    for suffix in ("xyz", "traj", "db", "json"):
        path = f"after.{suffix}"
        if os.path.exists(path):
            os.remove(path)
        ase.io.write(path, atoms)
        told_after.append(f"{suffix} {told(ase.io.read(path))}")
    print(f"{name}: {', '.join(told_after)}")
E2
)
expected="ASE 3.29.0
nothing: asked -9.8, stored -9.8, xyz -9.8, traj -9.8, db -9.8, json -9.8
masses: asked -9.8, stored -9.8, xyz -9.8, traj -9.8, db -9.8, json -9.8
initial charges: asked PropertyNotImplementedError, stored -9.8, xyz -9.8, traj PropertyNotImplementedError, db RuntimeError, json RuntimeError
initial moments: asked PropertyNotImplementedError, stored -9.8, xyz -9.8, traj PropertyNotImplementedError, db RuntimeError, json RuntimeError
periodicity: asked PropertyNotImplementedError, stored -9.8, xyz -9.8, traj PropertyNotImplementedError, db RuntimeError, json RuntimeError
initial moments, results attached again: asked -9.8, stored -9.8, xyz -9.8, traj -9.8, db -9.8, json -9.8"
echo "$found"
if [ "$found" != "$expected" ]; then
  echo "this has changed: expected" >&2
  echo "$expected" >&2
  exit 1
fi
