"""What the documentation says is what the code does."""

from pathlib import Path

import pytest
from alflow import config
from alflow.config import load, templates
from alflow.config.places import sections
from alflow.steps.initial import initial_structures

ROOT = Path(__file__).parents[1]


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
