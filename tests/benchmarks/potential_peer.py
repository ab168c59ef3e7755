"""The built-in potential beside ace-jax 0.4.1, a linear ACE in JAX, in one run: time to fit, to evaluate, and errors.

Usage: python tests/benchmarks/potential_peer.py [DATA] [--peer PYTHON] [--degree D], on an otherwise idle machine; DATA
holds mlearn_Si.train.xyz and mlearn_Si.test.xyz (by default ../shared/data beside this repository), PYTHON is an
interpreter with `pip install 'ace-jax[fast-neighbours]==0.4.1'` (by default this one). Both run in a process of their
own, on two cores, and learn energies and forces of the same 214 structures. alflow has default settings and 32 members.

The peer is a single model without an error estimate, fitted by its own command `aj fit` in double precision: products
of up to four functions (order 4) of degree 16 (D), which are 1445, cutoff 5.5 Å, coefficients, noise and prior by its
Bayesian regression, energies weighted by 30. Its default is no weights, and its evidence then gives up energies for
forces: of order 3 and degree 14, test errors are 19 meV/atom and 74 meV/Å without weights, 2.8 and 80 with them. It is
evaluated with tabulated radial functions, an option that makes it faster on a CPU.

Compilation is told apart. alflow compiles once for all processes: what a small fit and an evaluation take the first
time beyond the second, with nothing compiled before. The peer compiles in every process: what JAX itself counts during
the fit, and what the first evaluation takes beyond a later one. An evaluation is energy, forces and virial of 512
silicon atoms (of alflow: energies of all members, forces of their mean), which move by 0.001 Å in between: the peer
keeps its neighbours, alflow finds them again. Exit code 77 where the data or the peer are not there.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk

DATA = Path(__file__).parents[3] / "shared/data"
VERSION = "0.4.1"
MEMBERS = 32
THREADS = 2
DEGREE = 16
WEIGHTS = {"default": {"E": 30.0, "F": 1.0, "V": 1.0}}

Evaluate = Callable[[Atoms], tuple[float, np.ndarray]]
Figures = dict[str, float]


def evaluation(evaluate: Evaluate) -> Figures:
    """Time per atom of a later evaluation, µs, and what the first takes beyond it, s."""
    atoms = bulk("Si", cubic=True).repeat(4)
    rng = np.random.default_rng(0)
    atoms.positions += 0.05 * rng.normal(size=atoms.positions.shape)
    times = []
    for _ in range(25):
        start = time.perf_counter()
        evaluate(atoms)
        times.append(time.perf_counter() - start)
        atoms.positions += 0.001 * rng.normal(size=atoms.positions.shape)
    later = float(np.median(times[5:]))
    return {"evaluation": 1e6 * later / len(atoms), "evaluation_compilation": times[0] - later}


def errors(evaluate: Evaluate, frames: list[Atoms]) -> Figures:
    """Mean absolute errors of energies, meV/atom, and of forces, meV/Å."""
    energy, force = [], []
    for frame in frames:
        found, forces = evaluate(frame.copy())
        energy.append((found - frame.get_potential_energy()) / len(frame))
        force.append((forces - frame.get_forces()).ravel())
    e, f = (1e3 * float(np.mean(np.abs(one))) for one in (energy, np.concatenate(force)))
    return {"energy": e, "force": f}


def fit_alflow(data: Path) -> Figures:
    """Fit and evaluate a committee."""
    import alflow

    def evaluate(atoms: Atoms) -> tuple[float, np.ndarray]:
        mean = committee.drive(atoms, "none")
        return mean.energy, mean.forces

    train, test = (ase.io.read(data / f"mlearn_Si.{part}.xyz", ":") for part in ("train", "test"))
    times = []
    for frames in (train[::10], train[::10], train):
        start = time.perf_counter()
        committee = alflow.fit(frames, n_members=MEMBERS)
        times.append(time.perf_counter() - start)
    figures = {"fit": times[2], "fit_compilation": times[0] - times[1]}
    return figures | evaluation(evaluate) | errors(evaluate, test)


def fit_peer(data: Path, degree: int, folder: Path) -> Figures:
    """Fit by the peer's own command, and evaluate by its calculator."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from ace_jax import ACECalculator
    from ace_jax.cli import main as aj

    compilation = []

    def heard(event: str, duration: float, **_: object) -> None:
        if event.endswith(("/backend_compile_duration", "/jaxpr_to_mlir_module_duration")):
            compilation.append(duration)

    jax.monitoring.register_event_duration_secs_listener(heard)
    # Predicting the test set is part of its command: of one structure it takes next to no time.
    one = folder / "one.xyz"
    path = data / "mlearn_Si.train.xyz"
    lines = path.read_text().splitlines(keepends=True)
    one.write_text("".join(lines[: int(lines[0]) + 2]))
    command = ["fit", "--order", "4", "--max-degree", str(degree), "--rcut", "5.5", "--e0", "lsq"]
    command += ["--weights", json.dumps(WEIGHTS), "--train", str(path), "--test", str(one)]
    command += ["--coupling-cache-dir", str(folder / "coupling"), "--out", str(folder / "fit")]
    start = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        aj(command)
    whole, compiled = time.perf_counter() - start, sum(compilation)
    calculator = ACECalculator(folder / "fit/model.npz", radial_table=True)

    def evaluate(atoms: Atoms) -> tuple[float, np.ndarray]:
        calculator.calculate(atoms, ["energy", "forces"])
        return calculator.results["energy"], calculator.results["forces"]

    figures = {"fit": whole - compiled, "fit_compilation": compiled}
    return figures | evaluation(evaluate) | errors(evaluate, ase.io.read(data / "mlearn_Si.test.xyz", ":"))


def figures_of(who: str, python: str, data: Path, degree: int) -> Figures:
    """Figures of one of the two, from a process of its own that has compiled nothing before."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(THREADS))
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | threads | {"JAX_PLATFORMS": "cpu", "NUMBA_CACHE_DIR": f"{folder}/numba"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        command = [python, __file__, str(data), "--degree", str(degree), "--work", who, "--folder", folder]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        sys.exit(f"{who} failed with exit code {done.returncode}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def main(data: Path, peer: str, degree: int) -> int:
    """Print a table of both, and the peer's over ours."""
    if not (data / "mlearn_Si.train.xyz").exists():
        print(f"{data}: the published data are not there", file=sys.stderr)
        return 77
    question = "import importlib.metadata, ase; print(importlib.metadata.version('ace-jax'))"
    try:
        found = subprocess.run([peer, "-c", question], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        print(f"{peer}: the peer is not there: pip install 'ace-jax[fast-neighbours]=={VERSION}'", file=sys.stderr)
        return 77
    if found != VERSION:
        print(f"{peer}: ace-jax {found}, whose settings may differ; expected {VERSION}", file=sys.stderr)
        return 77
    # As many threads as cores, whichever library starts them.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    ours = figures_of("alflow", sys.executable, data, degree)
    theirs = figures_of("ace-jax", peer, data, degree)
    for one in (ours, theirs):
        one["fit_whole"] = one["fit"] + one["fit_compilation"]
    print(f"{'silicon, 214 structures':48} alflow, {MEMBERS} members  ace-jax, one  ratio")
    for key, what in {
        "fit": "fit without compilation, s",
        "fit_compilation": "compilation for it, s",
        "fit_whole": "fit in a process that has to compile, s",
        "evaluation": "energy, forces and virial, 512 atoms, µs/atom",
        "evaluation_compilation": "compilation for it, s",
        "energy": "test MAE of energies, meV/atom",
        "force": "test MAE of forces, meV/Å",
    }.items():
        print(f"{what:48} {ours[key]:18.2f}  {theirs[key]:12.2f}  {theirs[key] / ours[key]:5.2f}")
    return 0


def option(arguments: list[str], name: str, default: str) -> str:
    """The value that follows a name, both of which are taken out."""
    if name not in arguments:
        return default
    k = arguments.index(name)
    value = arguments[k + 1]
    del arguments[k : k + 2]
    return value


if __name__ == "__main__":
    words = sys.argv[1:]
    interpreter, size = option(words, "--peer", sys.executable), int(option(words, "--degree", str(DEGREE)))
    # Of the processes that do the work: which of the two, and where it may write.
    one, place = option(words, "--work", ""), Path(option(words, "--folder", ""))
    published = Path(words[0]) if words else DATA
    if one:
        print(json.dumps(fit_alflow(published) if one == "alflow" else fit_peer(published, size, place)))
    else:
        sys.exit(main(published, interpreter, size))
