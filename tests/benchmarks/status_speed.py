"""CPU time of `alflow status`, over that of importing what it needs at least: click, h5py, pydantic and rich.table.

Usage: python tests/benchmarks/status_speed.py. Of runs of 10 and of 100 cycles, made here. Exit code 1 when the
target is missed.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from alflow.records.assess import AssessRecord
from alflow.state.store import Store

from some_records import RECORDS, assessed

CYCLES, REPEATS, TARGET = (10, 100), 11, 1.6
ALONE = "import click, h5py, pydantic, rich.table"


def make_run(directory: Path, cycles: int) -> None:
    """Files of many cycles, each made from the one before; their assessments tell the whole history."""
    store = Store(directory)
    one = assessed().last
    for cycle in range(cycles):
        store.make_cycle(cycle)
        for step in store.steps(cycle):
            history = AssessRecord(tuple(replace(one, cycle=k) for k in range(cycle + 1)))
            record = history if step == "assess" else RECORDS[step]
            store.commit(cycle, step, record)
    (directory / "alflow.toml").write_text("")


def cpu_time(*command: str) -> float:
    """Of a process and those it waits for, s."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    ratios = {}
    for cycles in CYCLES:
        with tempfile.TemporaryDirectory() as name:
            make_run(Path(name), cycles)
            found = []
            for _ in range(REPEATS):
                alone = cpu_time(sys.executable, "-c", ALONE)
                found.append(cpu_time(sys.executable, "-m", "alflow", "status", name) / alone)
        ratios[cycles] = statistics.median(found)
        print(f"status of {cycles} cycles: {ratios[cycles]:.2f} x the imports alone (target {TARGET})")
    return int(max(ratios.values()) > TARGET)


if __name__ == "__main__":
    sys.exit(main())
