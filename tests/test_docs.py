"""What the documentation says is what the code does."""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from alflow import config
from alflow.config import load, templates
from alflow.config.places import sections
from alflow.data.formats import FORMATS
from alflow.data.formats.writers import WRITERS
from alflow.data.names import Names
from alflow.steps.initial import initial_structures

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
MODULES = sorted((ROOT / "alflow").rglob("*.py"))
GROUPS = {"alflow.references", "alflow.baselines", "alflow.observables"}
"""Of entry points; ``alflow.models`` is a package besides."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """What links may name in a page: its headings in lower case, without punctuation, joined by hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for target in (target for target in targets if "://" not in target):
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_of_the_repository_are_there(page: Path) -> None:
    """Those that a page names in code, from the top of the repository; a name in capitals stands for any."""
    for path in re.findall(r"`((?:alflow|docs|examples|tests|workflows|\.ci)/[\w./-]+)", page.read_text()):
        assert (ROOT / path).exists() or re.search(r"/[A-Z]+/$", path), path


def member(thing: Any, name: str) -> Any:
    """An attribute, or the name of a field that has no default."""
    if hasattr(thing, name):
        return getattr(thing, name)
    assert any(name in inspect.get_annotations(cls) for cls in getattr(thing, "__mro__", ())), f"{thing} has no {name}"
    return None


def resolve(dotted: str) -> Any:
    """What a name that begins with ``alflow.`` stands for; an error if it is nothing."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            module = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return reduce(member, parts[length:], module)
    raise ModuleNotFoundError(dotted)


def dotted_names(text: str) -> set[str]:
    """Names that begin with ``alflow.``, but for those of files and of entry points."""
    found = set(re.findall(r"(?<![\w./@-])alflow(?:\.[A-Za-z_]\w*)+(?![\w-]*\.\w)", text))
    return {name for name in found if name.rpartition(".")[2] not in {"toml", "dev"}} - GROUPS


@pytest.mark.parametrize("page", [*PAGES, *MODULES], ids=name_of)
def test_names_can_be_imported(page: Path) -> None:
    for name in sorted(dotted_names(page.read_text())):
        resolve(name)


def roles(path: Path) -> Iterator[str]:
    """What docstrings refer to by ``:func:``, ``:class:``, ``:meth:`` and so on."""
    yield from re.findall(r":(?:func|class|mod|meth|data|attr):`~?([\w.]+)`", path.read_text())


@pytest.mark.parametrize("path", [path for path in MODULES if any(roles(path))], ids=name_of)
def test_docstrings_refer_to_what_there_is(path: Path) -> None:
    """By a full name, or by one of the module, of its package or of one of its classes."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    classes = [thing for _, thing in inspect.getmembers(module, inspect.isclass)]
    for name in roles(path):
        if name.startswith("alflow."):
            resolve(name)
            continue
        first, *rest = name.split(".")
        owner = next((one for one in (module, *classes) if hasattr(one, first) or first in _fields(one)), None)
        assert owner is not None, f"{name} is nothing in {module.__name__}"
        reduce(member, rest, member(owner, first))


def _fields(thing: Any) -> set[str]:
    return {name for cls in getattr(thing, "__mro__", ()) for name in inspect.get_annotations(cls)}


def test_every_page_is_in_the_index() -> None:
    text = (ROOT / "docs/README.md").read_text()
    for page in PAGES:
        if page != ROOT / "docs/README.md":
            target = page.name if page.parent == ROOT / "docs" else f"../{name_of(page)}"
            assert f"]({target}" in text, target


def test_every_format_is_documented() -> None:
    """By the name that `alflow data` prints, each way out, and all that can be said of a file."""
    text = (ROOT / "docs/formats.md").read_text()
    for known in FORMATS:
        assert f"\n| {known.name} |" in text, known.name
    for name in WRITERS:
        assert f"\n| `--format {name}`" in text, name
    for key in Names.model_fields:
        assert f"\n| `--{key.replace('_', '-')} " in text, key
        assert f"| `{key}` |" in text, key


def test_settings_are_documented() -> None:
    """docs/settings.md is made by python -c "from alflow import config; print(config.document(), end='')"."""
    assert (ROOT / "docs/settings.md").read_text() == config.document()


@pytest.mark.parametrize("name", sorted(templates.describe()))
def test_template(name: str, tmp_path: Path) -> None:
    written = templates.copy(name, tmp_path / "run")
    settings = load(tmp_path / "run")
    assert len(written) >= 1 + len(settings.system)
    assert initial_structures(settings, tmp_path / "run")


def test_laptop_template_shows_every_default() -> None:
    """Every key of every section stands in it, with the default unless its comment says otherwise."""
    text = (ROOT / "workflows/laptop.toml").read_text()
    for name, field in config.schema().model_fields.items():
        kinds = list(sections(field.annotation))
        for model in kinds if name == "baseline" else kinds[:1]:  # other methods and executors have templates
            for key in model.model_fields:
                assert any(f"\n{mark}{key} = " in text for mark in ("", "# ", "## ")), f"{name}.{key}"


def test_readme_has_the_commands_that_ci_runs() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("<!-- command") == 2
    assert ".venv/bin/pytest" in text


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "examples").rglob("*.py")), *sorted((ROOT / "tests/benchmarks").glob("*.py"))], ids=name_of
)
def test_scripts_import_what_there_is(path: Path) -> None:
    """Examples and benchmarks take long: that their imports are right is seen without running them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "alflow":
            module = import_module(str(node.module))
            for alias in node.names:
                known = hasattr(module, alias.name) or find_spec(f"{node.module}.{alias.name}")
                assert known, f"{node.module} has no {alias.name}"
