#!/usr/bin/env bash
# PySCF 2.14.0 with numpy 2.4.6 and scipy 1.17.1: warnings go to standard error of the process as well, whatever `mol.stdout` is.
#
# One would expect all that a calculation prints in the file that `mol.stdout` is, as its iterations are. Seen: what its logger calls a
# warning (here: a beta orbital that is occupied lies above one that is empty, told in many iterations of an open shell) is written into
# that file, and a second time to sys.stderr; `mol.verbose` below 2 silences both. A program that runs several calculations beside each
# other, each with a log of its own, finds these lines of all of them mixed on its terminal, without a word of which they are. Remedy:
# contextlib.redirect_stderr(mol.stdout) around the calculation: it is Python's sys.stderr that is written to.
#
# alflow/reference/codes/pyscf.py does so.
#
# Seen: as in `expected` below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyscf==2.14.0 numpy==2.4.6 scipy==1.17.1
cd "$folder"
export OMP_NUM_THREADS=1
found=$(venv/bin/python - <<'E2'
import io
from contextlib import redirect_stderr
from importlib.metadata import version

from pyscf import gto, scf

ATOMS = [("O", (0, 0, 0)), ("H", (0.97, 0, 0)), ("O", (2.85, 0, 0)), ("H", (3.2, 0.75, 0.5)), ("H", (3.2, -0.75, 0.5))]


def counted(verbose, redirected=False):
    log, screen = io.StringIO(), io.StringIO()
    with redirect_stderr(log if redirected else screen):
        mol = gto.Mole()
        mol.stdout, mol.verbose, mol.atom, mol.basis, mol.spin = log, verbose, ATOMS, "sto-3g", 1
        field = scf.UHF(mol.build(dump_input=False, parse_arg=False))
        field.kernel()
    several = ["none" if not text.getvalue().count("WARN") else "some" for text in (log, screen)]
    print(f"verbose {verbose}, stderr {'redirected' if redirected else 'as it is'}: in the log {several[0]}, on stderr {several[1]}")


print("PySCF", version("pyscf"))
counted(4)
counted(1)
counted(4, redirected=True)
E2
)
echo "$found"
expected='PySCF 2.14.0
verbose 4, stderr as it is: in the log some, on stderr some
verbose 1, stderr as it is: in the log none, on stderr none
verbose 4, stderr redirected: in the log some, on stderr none'
[ "$found" = "$expected" ]
