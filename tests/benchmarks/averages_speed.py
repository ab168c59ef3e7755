"""Averages of plain arrays: alflow against i-PI's own tool on the same files, in one run; and memory of a long run.

Usage: python tests/benchmarks/averages_speed.py [--repeat 7] [--folder FOLDER]

20,000 frames of 16 members and 50 observables, as text (i-PI's input), NumPy and HDF5 files. "call" is the function
that reads, averages and prints, in a process where everything is imported; "command" is the whole command, of which
i-PI spends 0.4 s and alflow 0.1 s on starting Python and importing. Ratios are of medians. i-PI's tool gives neither
statistical errors nor equilibration. Then the memory of the command on 1,000,000 frames.
"""

import argparse
import contextlib
import importlib.util
import io
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
from alflow.averages.sources.arrays import Arrays
from alflow.report import averages
from ase import units

FRAMES, MEMBERS, OBSERVABLES, LONG = 20_000, 16, 50, 1_000_000
TEMPERATURE = 300.0
BIN = Path(sys.executable).parent
SCRIPT = BIN / "i-pi-committee-reweight"
FORMS = {"text": "{}.txt", "npy": "{}.npy", "hdf5": "all.h5:{}"}


def make(folder: Path) -> None:
    """The files, energies in Ha."""
    rng = np.random.default_rng(0)
    mean = rng.normal(-50, 0.1, size=FRAMES)
    found = {
        "energies": mean[:, None] + 3e-4 * rng.normal(size=(FRAMES, MEMBERS)),
        "values": rng.normal(size=(FRAMES, OBSERVABLES)),
    }
    with h5py.File(folder / "all.h5", "w") as file:
        for name, value in found.items():
            np.savetxt(folder / f"{name}.txt", value)
            np.save(folder / f"{name}.npy", value)
            file[name] = value


def peer() -> ModuleType:
    """i-PI's script as a module."""
    loader = SourceFileLoader("committee_reweight", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("committee_reweight", loader))
    loader.exec_module(module)
    return module


def median(function: Callable[[], object], repeat: int) -> float:
    """Seconds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def command(folder: Path, form: str, *, of: str = "") -> list[str]:
    """The command line of alflow."""
    energies, values = (str(folder / FORMS[form].format(of + name)) for name in ("energies", "values"))
    return [
        str(BIN / "alflow"), "average", "--energies", energies, "--values", values, "--driving", "mean", "--unit", "Ha",
        "--temperature", str(TEMPERATURE),
    ]  # fmt: skip


def call(folder: Path, form: str) -> None:
    """What the command does, in this process."""
    energies, values = (str(folder / FORMS[form].format(name)) for name in ("energies", "values"))
    arrays = Arrays((energies,), ("mean",), (values,), units.Hartree)
    print(averages.text_table(averages.of_arrays(arrays, TEMPERATURE)))


def run(arguments: list[str]) -> None:
    subprocess.run(arguments, check=True, capture_output=True)


def long(folder: Path) -> float:
    """Largest memory, GB, of the command on a long run (written here piece by piece)."""
    rng = np.random.default_rng(1)
    for name, columns in (("energies", MEMBERS), ("values", OBSERVABLES)):
        array = np.lib.format.open_memmap(folder / f"long-{name}.npy", "w+", shape=(LONG, columns))
        for first in range(0, LONG, 50_000):
            array[first : first + 50_000] = rng.normal(size=(50_000, columns)) * 1e-3
    arguments = command(folder, "npy", of="long-")
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout) * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path("averages-speed"))
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    make(folder)
    module, kT = peer(), units.kB * TEMPERATURE / units.Hartree
    text = [str(folder / f"{name}.txt") for name in ("energies", "values")]
    theirs_call = median(lambda: module.commitee_reweight(*text, kT), options.repeat)
    theirs = median(lambda: run([str(SCRIPT), *text, "--kt", str(kT)]), options.repeat)
    print(f"i-PI, text: call {theirs_call:.3f} s, command {theirs:.3f} s")
    for form in FORMS:
        own_call = median(lambda form=form: call(folder, form), options.repeat)
        own = median(lambda form=form: run(command(folder, form)), options.repeat)
        print(
            f"alflow, {form}: call {own_call:.3f} s, {own_call / theirs_call:.2f} of i-PI's; "
            f"command {own:.3f} s, {own / theirs:.2f} of i-PI's"
        )
    print(f"{LONG} frames: {long(folder):.2f} GB at most")


if __name__ == "__main__":
    main()
