#!/usr/bin/env bash
# ASE 3.29.0: the forces of LennardJones(smooth=True) have a kink where its switching function sets in (ro, by default 0.66 rc), so a
# machine-learned potential of smooth functions of the distance cannot follow it closely.
#
# "smooth" makes energies and forces continuous at the cutoff. One would expect a function that is as smooth inside. Seen: the switching
# function meets 1 with a slope of zero but not with a curvature of zero, so the second derivative of the pair energy jumps at ro; with the
# usual rc = 2.5 sigma that is at 1.65 sigma, between the first two shells of neighbours of a liquid, where many pairs are. A polynomial
# in the distance (here by least squares on Chebyshev points, over 0.9 sigma to rc) gains a factor of four for each doubling of its degree
# beyond 16, and is wrong by 2e-5 epsilon with degree 64; without "smooth", degree 32 is enough for 1e-11. It matters where such a liquid is
# the "exact" reference of a test of fitted potentials: the error that is left, systematic and the same in all fits, is that of the kink.
# It also means jumps in the stiffness (phonons, elastic constants) when neighbours pass ro.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ase==3.29.0 numpy==2.3.5
cd "$folder"
found=$(venv/bin/python - <<'E2'
import numpy as np
from ase import Atoms
from ase.calculators.lj import LennardJones

cutoff, onset = 2.5, 0.66 * 2.5  # in sigma


def energies(distances, **options):
    calculator = LennardJones(sigma=1.0, epsilon=1.0, rc=cutoff, **options)
    return np.array([calculator.get_potential_energy(Atoms("Ar2", [[0, 0, 0], [r, 0, 0]])) for r in distances])


def curvature(r, side):
    """Second derivative from one side, of the second order in the step."""
    step = 1e-3 * side
    return float(np.dot([2, -5, 4, -1], energies(r + step * np.arange(4), smooth=True)) / step**2)


inside, outside = curvature(onset, -1), curvature(onset, 1)
print(f"curvature at 1.65 sigma: {inside:.1f} from inside, {outside:.1f} from outside (epsilon/sigma^2)")
points = np.cos(np.pi * (np.arange(400) + 0.5) / 400)
distances = 0.5 * (0.9 + cutoff) + 0.5 * (cutoff - 0.9) * points
for name, options in (("smooth", {"smooth": True}), ("bare", {})):
    values = energies(distances, **options)
    errors = []
    for degree in (16, 32, 64):
        fit = np.polynomial.chebyshev.chebfit(points, values, degree)
        errors.append(np.abs(np.polynomial.chebyshev.chebval(points, fit) - values).max())
    print(f"{name}: largest error with degree 16, 32, 64: " + ", ".join(f"{error:.0e}" for error in errors))
E2
)
echo "$found"
expected="curvature at 1.65 sigma: -2.5 from inside, -1.5 from outside (epsilon/sigma^2)
smooth: largest error with degree 16, 32, 64: 3e-04, 8e-05, 2e-05"
if [ "$(echo "$found" | head -2)" != "$expected" ]; then
  echo "this has changed: expected" >&2
  echo "$expected" >&2
  exit 1
fi
