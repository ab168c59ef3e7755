"""Run a Python program that the kernel kills when the process that started it ends.

``python -m alflow.executors.tether FILE``
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the program."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 - a program of our own environment


if __name__ == "__main__":
    main()
