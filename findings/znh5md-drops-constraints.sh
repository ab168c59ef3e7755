#!/usr/bin/env bash
# znh5md 0.4.8 with ASE 3.29.0: a structure written to H5MD and read again has lost its constraints, without a warning.
#
# Seen: masses that are not the element's, tags, initial charges and initial magnetic moments come back; FixAtoms does not,
# neither from a file of its own nor beside frames without one. So whoever continues a simulation of a slab from such a
# file moves the layer that was held. ASE's own trajectory format keeps it (shown beside it).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ase==3.29.0 znh5md==0.4.8
cd "$folder"
found=$("$folder/venv/bin/python" -W error::UserWarning - <<'E2'
import ase.io
import znh5md
from ase.build import molecule
from ase.constraints import FixAtoms

atoms = molecule("H2O")
atoms.set_masses([15.999, 2.014, 2.014])
atoms.set_tags([1, 2, 3])
atoms.set_initial_charges([-0.8, 0.4, 0.4])
atoms.set_initial_magnetic_moments([0, 1, -1])
atoms.set_constraint(FixAtoms([0]))

znh5md.IO("water.h5").extend([atoms, molecule("H2")])
ase.io.write("water.traj", atoms)
for name, back in (("znh5md", znh5md.IO("water.h5")[0]), ("trajectory", ase.io.read("water.traj"))):
    kept = [key for key in ("initial_charges", "initial_magmoms", "masses", "tags") if back.has(key)]
    print(f"{name}: constraints {len(back.constraints)}; kept {' '.join(kept)}")
E2
)
expected="znh5md: constraints 0; kept initial_charges initial_magmoms masses tags
trajectory: constraints 1; kept initial_charges initial_magmoms masses tags"
echo "$found"
if [ "$found" != "$expected" ]; then
  echo "this has changed: expected" >&2
  echo "$expected" >&2
  exit 1
fi
