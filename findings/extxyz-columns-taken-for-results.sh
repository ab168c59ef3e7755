#!/usr/bin/env bash
# ASE 3.29.0: columns of an extended XYZ file whose names are those of results become results of the whole structure, of a wrong shape: a
# column `energy` makes an array of the total energy.
#
# One would expect a column, one number for each atom, to be a property of atoms. Seen: without energy= in the comment, a column `energy`
# is what get_potential_energy() returns, an array, also beside free_energy= or REF_energy=; a difference of energies is then an array
# too, and NumPy goes on with it. Beside energy= the column is lost. A column `stress` of six numbers is returned as the stress,
# (atoms, 6). A column `charge` is the *result* charges: the initial charges, which calculators start from, stay 0, and a structure without
# any label has a calculator, which is what many programs take for "labelled". Nothing is said. Remedy: write columns under names that ASE
# knows as those of atoms (energies, stresses, initial_charges) or does not know (atom_energy), and ask
# `"energy" in atoms.calc.results and numpy.ndim(atoms.calc.results["energy"]) == 0`.
#
# alflow/data/formats/extxyz.py hides the names of results from ASE's parser, and sorts them itself.
#
# Seen: as in `expected` below.
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
from ase.calculators.calculator import PropertyNotImplementedError

print("ASE", ase.__version__)
SIX = "1 2 3 4 5 6"
for comment, column, values in (
    ("energy=-7.5", "energy:R:1", ["-3.5", "-4.0"]),
    ("free_energy=-7.6", "energy:R:1", ["-3.5", "-4.0"]),
    ("REF_energy=-7.5", "energy:R:1", ["-3.5", "-4.0"]),
    ("energy=-7.5", "energies:R:1", ["-3.5", "-4.0"]),
    ("energy=-7.5", "stress:R:6", [SIX, SIX]),
    ("energy=-7.5", "charge:R:1", ["0.5", "-0.5"]),
    ("REF_energy=-7.5", "charge:R:1", ["0.5", "-0.5"]),
    ("energy=-7.5", "initial_charges:R:1", ["0.5", "-0.5"]),
):
    with open("two.xyz", "w") as file:
        file.write(f'2\n{comment} Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:{column}\n')
        file.writelines(f"H 0 0 {place} {value}\n" for place, value in zip((0.0, 0.8), values))
    atoms = ase.io.read("two.xyz")
    try:
        energy = np.asarray(atoms.get_potential_energy()).tolist()
    except (PropertyNotImplementedError, RuntimeError) as error:
        energy = type(error).__name__
    shapes = {name: np.shape(value) for name, value in atoms.calc.results.items()} if atoms.calc else None
    print(f"{comment}, {column}: energy {energy}, initial charges {atoms.get_initial_charges().tolist()}, shapes {shapes}")
E2
)
expected="ASE 3.29.0
energy=-7.5, energy:R:1: energy -7.5, initial charges [0.0, 0.0], shapes {'energy': ()}
free_energy=-7.6, energy:R:1: energy [-3.5, -4.0], initial charges [0.0, 0.0], shapes {'energy': (2,), 'free_energy': ()}
REF_energy=-7.5, energy:R:1: energy [-3.5, -4.0], initial charges [0.0, 0.0], shapes {'energy': (2,)}
energy=-7.5, energies:R:1: energy -7.5, initial charges [0.0, 0.0], shapes {'energies': (2,), 'energy': ()}
energy=-7.5, stress:R:6: energy -7.5, initial charges [0.0, 0.0], shapes {'stress': (2, 6), 'energy': ()}
energy=-7.5, charge:R:1: energy -7.5, initial charges [0.0, 0.0], shapes {'charges': (2,), 'energy': ()}
REF_energy=-7.5, charge:R:1: energy PropertyNotImplementedError, initial charges [0.0, 0.0], shapes {'charges': (2,)}
energy=-7.5, initial_charges:R:1: energy -7.5, initial charges [0.5, -0.5], shapes {'energy': ()}"
echo "$found"
if [ "$found" != "$expected" ]; then
  echo "this has changed: expected" >&2
  echo "$expected" >&2
  exit 1
fi
