#!/usr/bin/env bash
# CP2K 2023.1 (Debian 12's package 2023.1-2): of an optimisation with OPTIMIZER CG, the trajectories pair structures and forces with an
# energy that is not theirs.
#
# One would expect a frame of PROJECT-pos-1.xyz, the frame of PROJECT-frc-1.xyz with the same number, and the "E =" in the comments of both
# to be of one calculation, as they are with BFGS (shown beside it). Seen: with conjugate gradients every step ends with a line search of
# several calculations; positions and forces are those of one of them, and E is that of another, which is lower. Here the two differ by 0.3
# to 2.4 microhartree, up to 65 microelectronvolt, and by more where the line search is coarse: little, but they are not of one structure,
# and looking an energy up in the output finds forces that differ by some 0.001 hartree/bohr (0.05 eV/Å). Who collects labels from such
# trajectories should look for the calculation that has the forces, not for the one that has the energy.
#
# alflow/data/formats/cp2k_steps.py does so.
#
# Seen: as in `expected` below. Needs Debian 12 (amd64), whose packages are unpacked into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
options=(--recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances)
names=$(apt-cache depends "${options[@]}" cp2k | grep '^[a-z]' | grep -vE '^(libc6|libc-bin|libgcc-s1|gcc-12-base|dpkg|debconf|perl.*)$' | sort -u)
mkdir debs root
(cd debs && for name in $names; do apt-get download -qq "$name$([ "$name" != cp2k ] || echo =2023.1-2)" 2>/dev/null || true; done)
for deb in debs/*.deb; do dpkg -x "$deb" root; done
libraries=$(find "$PWD/root" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
mpi=$PWD/root/usr/lib/x86_64-linux-gnu/openmpi/lib
export LD_LIBRARY_PATH=$libraries OPAL_PREFIX=$PWD/root/usr OPAL_LIBDIR=$mpi OPAL_PKGLIBDIR=$mpi/openmpi3 OMP_NUM_THREADS=1
export CP2K_DATA_DIR=$PWD/root/usr/share/cp2k

run() {
  cat >"$1.inp" <<E2
&GLOBAL
  PROJECT $1
  RUN_TYPE GEO_OPT
&END GLOBAL
&MOTION
  &GEO_OPT
    OPTIMIZER $1
    MAX_ITER 5
  &END GEO_OPT
  &PRINT
    &FORCES
    &END FORCES
  &END PRINT
&END MOTION
&FORCE_EVAL
  METHOD QUICKSTEP
  &PRINT
    &FORCES ON
    &END FORCES
  &END PRINT
  &DFT
    BASIS_SET_FILE_NAME BASIS_MOLOPT
    POTENTIAL_FILE_NAME GTH_POTENTIALS
    &MGRID
      CUTOFF 120
      REL_CUTOFF 30
    &END MGRID
    &SCF
      EPS_SCF 1.0E-6
      MAX_SCF 40
      &OT
      &END OT
      &PRINT
        &RESTART OFF
        &END RESTART
      &END PRINT
    &END SCF
    &XC
      &XC_FUNCTIONAL PADE
      &END XC_FUNCTIONAL
    &END XC
  &END DFT
  &SUBSYS
    &CELL
      ABC 5.0 5.2 5.4
      ALPHA_BETA_GAMMA 90 80 100
    &END CELL
    &COORD
      H 0 0 0
      H 0 0.1 0.80
      He 2.5 2.4 2.0
    &END COORD
    &KIND H
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PADE-q1
    &END KIND
    &KIND He
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PADE-q2
    &END KIND
  &END SUBSYS
&END FORCE_EVAL
E2
  root/usr/bin/cp2k.psmp -i "$1.inp" -o "$1.out" >/dev/null 2>&1
}

run CG
run BFGS
python3 - >found <<'E2'
import re

NUMBER = r"-?\d+\.\d+"


def frames(path):
    lines = open(path).read().splitlines()
    for begin in range(0, len(lines), 5):
        energy = re.search(rf"E = +({NUMBER})", lines[begin + 1])[1]
        yield energy, [float(x) for line in lines[begin + 2 : begin + 5] for x in line.split()[1:]]


def calculations(text):
    parts = re.split(rf"^ ENERGY\|.* ({NUMBER})$", text, flags=re.M)
    for energy, after in zip(parts[1::2], parts[2::2]):
        rows = re.findall(rf"^ +\d+ +\d+ +H\w* +({NUMBER}) +({NUMBER}) +({NUMBER})$", after, re.M)[:3]
        yield float(energy), [float(x) for row in rows for x in row]


def apart(a, b):
    return max(abs(x - y) for x, y in zip(a, b)) if len(a) == len(b) else float("inf")


print(re.search(r"CP2K version \S+", open("CG.out").read())[0])
for name in ("BFGS", "CG"):
    done = list(calculations(open(f"{name}.out").read()))
    for (energy, places), (_, forces) in zip(frames(f"{name}-pos-1.xyz"), frames(f"{name}-frc-1.xyz"), strict=True):
        by_energy = min(apart(found, forces) for value, found in done if found and f"{value:.10f}" == energy)
        off = min(abs(value - float(energy)) for value, found in done if apart(found, forces) < 1e-7)
        same = "of one calculation" if by_energy < 1e-7 and off < 1e-9 else "of two"
        print(f"{name}: E and forces are {same}" + (", energies less than 1e-5 hartree apart" if 1e-9 < off < 1e-5 else ""))
E2
cat found
expected='CP2K version 2023.1
BFGS: E and forces are of one calculation
BFGS: E and forces are of one calculation
BFGS: E and forces are of one calculation
BFGS: E and forces are of one calculation
BFGS: E and forces are of one calculation
CG: E and forces are of two, energies less than 1e-5 hartree apart
CG: E and forces are of two, energies less than 1e-5 hartree apart
CG: E and forces are of two, energies less than 1e-5 hartree apart
CG: E and forces are of two, energies less than 1e-5 hartree apart
CG: E and forces are of two, energies less than 1e-5 hartree apart'
[ "$(cat found)" = "$expected" ]
