#!/usr/bin/env bash
# ASE 3.29.0: texts in Atoms.info, such as a label of the kind of a structure, do not come back from an extended XYZ file as they were, and
# an empty one takes the periodicity with it.
#
# One would expect a file that ASE writes to give back what was written. Seen: a text that looks like a number, a truth value or several
# of them becomes that ("007" is 7, "1_000" is 1000, "T" is True, "1 2" an array), so whoever groups structures by such a label compares
# numbers with texts, or meets an array where a truth value is asked for. An empty text is written as `label=` with nothing behind it: the
# next entry of the line is read as its value, and is lost itself. That next entry is pbc, so a slab, periodic in two directions, is
# periodic in three afterwards; there is no warning. So labels should begin with a letter and hold no lone T or F, and empty ones should
# be left out before writing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ase==3.29.0 numpy==2.3.5
cd "$folder"
found=$(venv/bin/python - <<'E2'
import ase.io
import numpy as np
from ase import Atoms

for label in ("bulk", "bulk 2", "007", "1_000", "1e3", "T", "1 2", "T F", ""):
    slab = Atoms("H", cell=[3, 3, 9], pbc=[True, True, False])
    slab.info["label"] = label
    ase.io.write("slab.xyz", slab)
    read = ase.io.read("slab.xyz")
    value = read.info["label"]
    kind = type(value).__name__
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    print(f"{label!r} comes back as {value!r} ({kind}), periodic in {int(sum(read.pbc))} directions")
E2
)
expected="'bulk' comes back as 'bulk' (str), periodic in 2 directions
'bulk 2' comes back as 'bulk 2' (str), periodic in 2 directions
'007' comes back as 7 (int64), periodic in 2 directions
'1_000' comes back as 1000 (int64), periodic in 2 directions
'1e3' comes back as 1000.0 (float64), periodic in 2 directions
'T' comes back as True (bool), periodic in 2 directions
'1 2' comes back as [1, 2] (ndarray), periodic in 2 directions
'T F' comes back as [True, False] (list), periodic in 2 directions
'' comes back as 'pbc=T T F' (str), periodic in 3 directions"
echo "$found"
if [ "$found" != "$expected" ]; then
  echo "this has changed: expected" >&2
  echo "$expected" >&2
  exit 1
fi
