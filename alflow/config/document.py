"""docs/settings.md: every key with its default and its meaning."""

from typing import get_args

from pydantic import BaseModel

from alflow.config.places import LISTS, sections, toml
from alflow.config.settings import Settings


def document() -> str:
    """Every key with its default and its meaning, as Markdown: docs/settings.md."""
    lines = [
        "# Settings: every key of alflow.toml",
        "",
        "Made from the models in `alflow/config`. Unknown keys are refused.",
        "",
    ]
    for name, field in Settings.model_fields.items():
        models = list(sections(field.annotation))
        if not models:
            lines += [f"`{name} = {field.default}`: {field.description}", ""]
            continue
        title = f"[[{name}]]" if name in LISTS else f"[{name}]"
        lines += [f"## `{title}`: {field.description}", ""]
        for model in models:
            if len(models) > 1:
                kind = get_args(model.model_fields["kind"].annotation)[0]
                lines += [f'With `kind = "{kind}"`:', ""]
            lines += [*_table(model), ""]
    return "\n".join(lines)


def _table(model: type[BaseModel]) -> list[str]:
    """The keys of a section as a table in Markdown."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key, entry in model.model_fields.items():
        default = "required" if entry.is_required() else "-" if entry.default is None else f"`{toml(entry.default)}`"
        lines.append(f"| `{key}` | {default} | {entry.description} |")
    return lines
