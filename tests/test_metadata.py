"""What is said of the package, for citation and for type checkers, agrees with the package."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import alflow
from alflow.version import __version__

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"(?P<indent>(?:  )*)(?P<dash>- )?(?:(?P<key>[a-z-]+):)?(?: ?(?P<value>\S.*))?")


def outline(text: str) -> list[tuple[int, str, str]]:
    """Depth, key and value of every line of plain YAML: keys with values in one line, lists and indentation by two."""
    found = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match is not None, line
        value = (match["value"] or "").strip()
        plain = value[1:-1] if value.startswith('"') and value.endswith('"') else value
        assert plain != value or not re.search(r": |\s#|^[\[{&*!|>%@`'\"]", plain), f"needs quotation marks: {line}"
        depth = len(match["indent"]) // 2 + bool(match["dash"])
        found.append((depth, match["key"] or "", plain))
    depths = [depth for depth, _, _ in found]
    assert depths[0] == 0
    assert all(after - before <= 2 for before, after in pairwise(depths))
    return found


def test_citation() -> None:
    lines = outline((ROOT / "CITATION.cff").read_text())
    top = {key: value for depth, key, value in lines if depth == 0}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (top["cff-version"], top["type"]) == ("1.2.0", "software")
    assert top["version"] == __version__ == project["version"]
    assert top["license"] == project["license"]
    assert {"message", "title", "authors"} <= set(top)  # what the format demands besides
    assert (2, "name", project["authors"][0]["name"]) in lines


def test_the_paper_is_the_one_that_the_readme_names() -> None:
    lines = outline((ROOT / "CITATION.cff").read_text())
    paper = {key: value for depth, key, value in lines[[key for _, key, _ in lines].index("references") :] if depth}
    assert (paper["doi"], paper["volume"], paper["start"], paper["year"]) == (
        "10.1063/5.0036522",
        "154",
        "074102",
        "2021",
    )
    assert f"doi.org/{paper['doi']}" in (ROOT / "README.md").read_text()
    families = [value for _, key, value in lines if key == "family-names"]
    assert families == ["Imbalzano", "Zhuang", "Kapil", "Rossi", "Engel", "Grasselli", "Ceriotti"]


def test_type_checkers_may_read_the_package() -> None:
    """Every file of the package is in the wheel, as hatchling takes whole folders."""
    assert (Path(alflow.__file__).parent / "py.typed").read_bytes() == b""
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"]["packages"] == ["alflow"]
