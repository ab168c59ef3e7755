#!/usr/bin/env bash
# SciPy 1.17.1: functions of scipy.linalg.blas and scipy.linalg.lapack hold the lock of the interpreter (GIL) while they compute, so several
# threads that factorise matrices of their own work one after the other.
#
# One would expect that BLAS and LAPACK, which know nothing of Python, let other threads go on, as NumPy's matmul does. Seen: while one thread
# is in scipy.linalg.lapack.dpotrf, another that wakes up every millisecond is silent until it has finished. The same routine called by its
# address in scipy.linalg.cython_lapack with ctypes, which gives the lock back for the call, lets it go on.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6 numba==0.68.1
cd "$folder"
found=$(OPENBLAS_NUM_THREADS=1 venv/bin/python - <<'E2'
import threading
import time
from ctypes import CFUNCTYPE, byref, c_char_p, c_int64, c_void_p

import numpy as np
from numba.extending import get_cython_function_address
from scipy.linalg import lapack

size = 5000
address = get_cython_function_address("scipy.linalg.cython_lapack", "dpotrf")
dpotrf = CFUNCTYPE(None, c_char_p, c_void_p, c_void_p, c_void_p, c_void_p)(address)


def by_scipy(matrix):
    lapack.dpotrf(matrix, overwrite_a=1)


def by_address(matrix):
    n, info = c_int64(size), c_int64(0)
    dpotrf(b"U", byref(n), matrix.ctypes.data, byref(n), byref(info))


for name, factorise in (("SciPy", by_scipy), ("address", by_address)):
    matrix = np.asfortranarray(np.eye(size))
    thread = threading.Thread(target=factorise, args=(matrix,))
    begin = last = time.perf_counter()
    thread.start()
    silence = 0.0
    while thread.is_alive():
        time.sleep(0.001)
        now = time.perf_counter()
        silence, last = max(silence, now - last), now
    silent = silence > 0.5 * (last - begin)
    print(f"dpotrf by {name}: another thread is {'silent meanwhile' if silent else 'awake meanwhile'}")
E2
)
echo "$found"
expected="dpotrf by SciPy: another thread is silent meanwhile
dpotrf by address: another thread is awake meanwhile"
if [ "$found" != "$expected" ]; then
  echo "this has changed: expected" >&2
  echo "$expected" >&2
  exit 1
fi
