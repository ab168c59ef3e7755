#!/usr/bin/env bash
# pymbar 4.0.3 with SciPy 1.17.1: MBAR with its default settings solves nothing, without a word, where the energies of
# states have zeros that are 50 kT apart or more, as those of independently fitted potentials may have.
#
# Three harmonic wells of one width, 0.75 of it apart from their neighbours, 200 frames of each: they overlap well, and
# their free energies differ by their zeros of energy, which are 0, c and 2 c. With c = 20 the answer is right to a few
# hundredths. With c = 50 all three free energies come back as 0, and the weights of frames, which sum to 1 for each state
# by definition, sum to 3, 0 and 0. There is no exception, no warning and no line on the log at level ERROR; only the time
# tells (half a minute instead of hundredths of a second). Solved with solver_protocol="robust" the same input is right.
#
# alflow/averages/multistate.py solves for the free energies itself, begins where the means of the energies are, and
# refuses a solution whose weights do not sum to 1; tests compare it with solver_protocol="robust".
#
# Seen: free energies less the zeros for c = 20: 0.0 0.01 0.04; for c = 50: 0.0 -50.0 -100.0; robust: 0.0 0.01 0.04.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pymbar==4.0.3 numpy==2.4.6 scipy==1.17.1 numexpr==2.14.2
cat > "$folder/show.py" <<'EOF'
import logging
import warnings

logging.getLogger("pymbar").setLevel(logging.ERROR)
import numpy as np
import pymbar
import scipy

print("pymbar", pymbar.__version__, "SciPy", scipy.__version__, "numpy", np.__version__)
rng = np.random.default_rng(0)
centres = np.array([0.0, 0.75, 1.5])
x = np.concatenate([centre + rng.normal(size=200) for centre in centres])


def solved(c, **options):
    zeros = c * np.arange(3)
    energies = 0.5 * (x - centres[:, None]) ** 2 + zeros[:, None]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = pymbar.MBAR(energies, [200, 200, 200], **options)
    error, sums = found.f_k - zeros, found.weights().sum(axis=0)
    print(f"c = {c} {options}: free energies less zeros {error.round(2)}, weights sum to {sums.round(3)}, warnings {len(said)}")
    return error, sums, said


near, far, robust = solved(20), solved(50), solved(50, solver_protocol="robust")
assert np.abs(near[0]).max() < 0.2
assert np.abs(robust[0]).max() < 0.2
assert np.abs(far[0] + [0, 50, 100]).max() < 0.2, "zeros no longer come back"
assert np.abs(far[1] - [3, 0, 0]).max() < 0.01
assert not far[2], "it warns now"
EOF
"$folder/venv/bin/python" "$folder/show.py"
