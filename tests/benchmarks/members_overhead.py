"""What a committee of served calculators costs over its members: the same evaluations, called directly in a loop.

``python tests/benchmarks/members_overhead.py`` takes EMT, an evaluation of which costs next to nothing: the worst case.
``--python mace-env/bin/python --calculator mace.calculators.MACECalculator --parameters '{"model_paths": "a.model"}'``
takes another calculator in its environment. Both sides run in turn, on one thread, several times; printed are the
medians of the ratio and of its parts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from alflow.workers.interpreters import evaluate
from alflow.workers.recipe import Recipe, interpreter_of
from ase.build import bulk

DIRECT = """
import importlib, json, sys, time
from ase.build import bulk
name, parameters, symbol, repeats, members, n = json.loads(sys.argv[1])
module, _, cls = name.rpartition(".")
made = [getattr(importlib.import_module(module), cls)(**parameters) for _ in range(members)]
atoms = bulk(symbol, cubic=True).repeat(repeats)
times = []
for k in range(n + 1):
    atoms.rattle(0.001, seed=k)
    start = time.perf_counter()
    for calculator in made:
        atoms.calc = calculator
        atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    times.append(time.perf_counter() - start)
print(json.dumps(times[1:]))
"""


def direct(python: str, given: list[object]) -> float:
    """Seconds of a structure, all members."""
    command = [python, "-c", DIRECT, json.dumps(given)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return statistics.median(json.loads(done.stdout.splitlines()[-1]))


def served(recipe: Recipe, given: list[object]) -> float:
    """Seconds of a structure, all members."""
    _, _, symbol, repeats, members, n = given
    atoms = bulk(symbol, cubic=True).repeat(repeats)
    recipes = [replace(recipe, version=str(m)) for m in range(members)]  # as many calculators, not one asked often
    times = []
    for k in range(n + 1):
        atoms.rattle(0.001, seed=k)
        start = time.perf_counter()
        found = evaluate(recipes, [atoms])
        times.append(time.perf_counter() - start)
        assert all(np.isfinite(one.forces).all() for one in found)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="")
    parser.add_argument("--calculator", default="ase.calculators.emt.EMT")
    parser.add_argument("--parameters", default="{}")
    parser.add_argument("--symbol", default="Cu")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("-n", type=int, default=30)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    recipe = Recipe(asked.calculator, json.loads(asked.parameters), asked.python).located(Path())
    given = [recipe.name, recipe.parameters, asked.symbol, asked.repeats, asked.members, asked.n]
    python = interpreter_of(asked.python, Path()) or sys.executable
    pairs = [(served(recipe, given), direct(python, given)) for _ in range(asked.runs)]
    ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    n_atoms = 4 * asked.repeats**3
    print(f"{asked.members} members, {n_atoms} atoms: served {1e3 * ours:.3g} ms, direct {1e3 * theirs:.3g} ms")
    print(f"ratio {ratio:.3f}; {1e6 * (ours - theirs) / asked.members:.0f} us a member and structure")


if __name__ == "__main__":
    main()
