#!/usr/bin/env bash
# ASE 3.29.0: `lammps-data` takes the element whose mass is nearest, however far it is, also where the file names the elements; water whose
# hydrogen was made heavier for longer time steps is read as carbon and helium.
#
# One would expect a section "Atom Type Labels" with O and H to decide, since ASE reads it and takes its symbols where there are no masses;
# or an error for a mass that no element has. Seen: as soon as there is a section "Masses" it decides alone, and nothing is said. Masses are
# often not those of elements: with mass moved from heavy atoms to their hydrogens (O 11.967, H 3.024) O H is read as C He, and the C H of
# a methyl group as Li He; tritium is He; united atoms CH3 and CH2 are O and N; a coarse-grained bead of four waters is Ge. A symbol behind
# a mass as a comment ("1 11.967 # O"), as many programs write, is not looked at either. All that follows (a reference calculation, a
# potential by element) runs, for another substance. Remedy: tell `Z_of_type={1: 8, 2: 1}`, which wins over masses and keeps them.
#
# alflow/data/formats/lammps.py finds the elements itself, and refuses what nothing names.
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

print("ASE", ase.__version__)
FILE = """positions of {count} atoms

{count} atoms
{types} atom types
0 20 xlo xhi
0 20 ylo yhi
0 20 zlo zhi

{labels}Masses

{masses}

Atoms # atomic

{atoms}
"""


def read(labels, masses, named, **options):
    """Structure with one atom of each type, from a file that names the types in a section, a comment or not at all."""
    numbers = range(1, len(labels) + 1)
    section = "Atom Type Labels\n\n" + "".join(f"{i} {label}\n" for i, label in zip(numbers, labels)) + "\n"
    remarks = [f" # {label}" if named == "comment" else "" for label in labels]
    text = FILE.format(
        count=len(labels),
        types=len(labels),
        labels=section if named == "section" else "",
        masses="\n".join(f"{i} {mass}{remark}" for i, mass, remark in zip(numbers, masses, remarks)),
        atoms="\n".join(f"{i} {i} {i}.5 1.5 1.5" for i in numbers),
    )
    with open("system.data", "w") as file:
        file.write(text)
    return " ".join(ase.io.read("system.data", format="lammps-data", **options).symbols)


for name, labels, masses in (
    ("water", ["O", "H"], [15.999, 1.008]),
    ("water, mass moved to hydrogen", ["O", "H"], [11.967, 3.024]),
    ("methyl, mass moved to hydrogen", ["C", "H"], [5.963, 3.024]),
    ("tritium", ["H"], [3.016]),
):
    print(f"{name}: {' '.join(labels)} is read as", *(read(labels, masses, named) for named in ("section", "comment")), sep=" | ")
print("united atoms CH3 CH2 and a bead of four waters:", read(["CH3", "CH2", "W"], [15.035, 14.027, 72.06], "section"))
print("with Z_of_type:", read(["O", "H"], [11.967, 3.024], "section", Z_of_type={1: 8, 2: 1}))
E2
)
expected="ASE 3.29.0
water: O H is read as | O H | O H
water, mass moved to hydrogen: O H is read as | C He | C He
methyl, mass moved to hydrogen: C H is read as | Li He | Li He
tritium: H is read as | He | He
united atoms CH3 CH2 and a bead of four waters: O N Ge
with Z_of_type: O H"
echo "$found"
if [ "$found" != "$expected" ]; then
  echo "this has changed: expected" >&2
  echo "$expected" >&2
  exit 1
fi
