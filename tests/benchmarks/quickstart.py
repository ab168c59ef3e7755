"""How long the quick start takes from a cold start, numba's compilation included, and whether its force error falls.

Usage: python tests/benchmarks/quickstart.py. Exit code 1 when it takes 180 s or more, or the force error does not
fall at each cycle. Run it when nothing else runs.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 180.0  # s, on 2 cores


def main() -> int:
    """Run it and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "hexamer"
        environment = os.environ | {"NUMBA_CACHE_DIR": str(Path(folder) / "numba")}
        alflow = [sys.executable, "-m", "alflow"]
        start = time.perf_counter()
        subprocess.run([*alflow, "init", str(run), "--template", "water-cluster"], env=environment, check=True)
        subprocess.run([*alflow, "iterate", str(run)], env=environment, check=True)
        seconds = time.perf_counter() - start
        falling = subprocess.run([sys.executable, ROOT / "examples/quickstart/force_error.py", run], check=False)
    print(f"cold start: {seconds:.0f} s (limit {LIMIT:.0f} s)")
    return int(seconds >= LIMIT or falling.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
