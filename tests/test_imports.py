"""Imports point downward only."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "alflow"
LAYERS = [
    {"errors"},
    {"committee"},
    {"potentials"},
    {"config"},
    {"structures", "templates"},
    {"records"},
    {"statefile"},
    {"store"},
    {"executors"},
    {"sampling", "selection", "reference"},
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
