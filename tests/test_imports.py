"""Imports point downward only, nowhere in circles, and cost nothing until they are needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "alflow"
ROOMS = (
    "__main__", "cli", "testing", "__init__", "loop", "report", "steps", "config", "averages", "sampling", "reference",
    "records", "models", "committee", "workers", "executors", "data", "state", "structures", "section", "progress",
    "randomness", "errors", "version",
)  # fmt: skip
"""From top to bottom; ``__init__`` is what ``import alflow`` gives."""


def modules() -> dict[str, Path]:
    """Every module by its name; a package is its ``__init__``."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of alflow that a module imports, wherever in it: in functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "alflow")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            if (node.module or "").split(".")[0] == "alflow":
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    yield name if name in MODULES else str(node.module)


GRAPH = {name: sorted(set(imported(ast.parse(path.read_text())))) for name, path in MODULES.items()}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_every_room_has_its_place() -> None:
    assert {room(module) for module in MODULES} == set(ROOMS)


def test_imports_point_downward() -> None:
    """A module imports only what stands below its room, and modules of its own room."""
    upward = {
        (module, other)
        for module, others in GRAPH.items()
        for other in others
        if room(module) != room(other) and ROOMS.index(room(other)) < ROOMS.index(room(module))
    }
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not within a room either: whoever reads one module need not know those that use it."""
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_the_package_itself_imports_only_its_version_until_it_is_asked() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [name for node in imports for name in imported(node)] == ["alflow.version"]
    assert {room(name) for name in imported(tree)} == {"version", "models", "committee", "data"}


def test_numerical_modules_know_neither_files_nor_settings() -> None:
    """Arrays and atoms in, arrays out; only what keeps a committee, and finds it again, knows what a file is."""
    files = {"config", "state", "records", "loop", "steps", "report"}
    averages = {f"averages.{name}" for name in ("reweighting", "blocks", "statistics", "results", "run", "measuring")}
    numerical = ("committee.", "models.", "sampling.selection", "averages.observables.", *averages)
    for module, others in GRAPH.items():
        name = module.removeprefix("alflow.")
        if name.startswith(numerical) and name not in {"committee.committee", "models.files", "models.trained.keeping"}:
            found = {(module, other) for other in others if room(other) in files}
            assert not found


def loaded(statement: str, names: set[str]) -> set[str]:
    """Which of some modules are there after a statement, in a new process."""
    code = f"import sys; {statement}; print(*sorted({names!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_does_nothing() -> None:
    """Neither numpy nor ASE, no file, no thread."""
    code = (
        "import sys, threading; import alflow; "
        "print(sorted({'numpy', 'ase', 'h5py', 'numba', 'pydantic'} & set(sys.modules)), threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split("\n")[0] == "[] 1"


def test_settings_are_read_without_what_calculates() -> None:
    heavy = {"numba", "sklearn", "scipy", "tblite", "pyscf", "freud", "ase.io", "ase.calculators.calculator", "h5py"}
    assert loaded("from alflow import config; config.schema()", heavy) == set()
