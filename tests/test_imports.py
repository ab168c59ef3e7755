"""Imports point downward only, and cost nothing until they are needed."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "alflow"
LAYERS = [
    {"errors"},
    {"committee", "calibration"},
    {"potentials", "averages"},
    {"config"},
    {"structures", "templates"},
    {"records", "encoding"},
    {"statefile"},
    {"store"},
    {"executors"},
    {"sampling", "selection", "reference"},
    {"sources"},
    {"steps"},
    {"report"},
    {"workflow"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imported(tree: ast.AST) -> set[str]:
    """Parts of alflow that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "alflow":
            parts = (node.module or "").split(".")
            found.update([parts[1]] if len(parts) > 1 else [alias.name for alias in node.names])
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("alflow."))
    return found - {"__version__"}


def test_imports_point_downward() -> None:
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if part == "__init__":
            continue
        for other in imported(ast.parse(path.read_text())):
            assert LEVEL[other] < LEVEL[part] or other == part, f"{path.name} imports alflow.{other}"


def test_every_part_has_a_level() -> None:
    parts = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}
    assert parts - {"__init__"} == set(LEVEL)


def test_the_package_itself_imports_only_potentials_and_only_when_asked() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    assert imported(tree) == {"potentials"}
    assert not any(imported(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))


def test_numerical_modules_know_neither_files_nor_settings() -> None:
    files = {"config", "store", "statefile", "records", "encoding"}
    for path in [
        PACKAGE / "committee.py",
        PACKAGE / "calibration.py",
        PACKAGE / "selection.py",
        *(PACKAGE / "potentials").rglob("*.py"),
        *(PACKAGE / "averages").rglob("*.py"),
    ]:
        assert not imported(ast.parse(path.read_text())) & files, path.name


def test_importing_does_nothing() -> None:
    """Neither numpy nor ASE, no file, no thread."""
    code = (
        "import sys, threading; import alflow; "
        "print(sorted({'numpy', 'ase', 'h5py', 'numba', 'pydantic'} & set(sys.modules)), threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split("\n")[0] == "[] 1"
