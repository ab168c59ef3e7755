"""docs/settings.md: every key with its default and its meaning."""

from typing import get_origin

from pydantic import BaseModel

from alflow.config.kinds import Kinds
from alflow.config.places import LISTS, sections, toml
from alflow.config.schema import schema
from alflow.section import kind_of


def document() -> str:
    """Every key of the kinds that alflow has, with its default and its meaning, as Markdown: docs/settings.md."""
    lines = [
        "# Settings: every key of alflow.toml",
        "",
        "Made from the sections that `alflow/config` puts together. Unknown keys are refused.",
        "",
    ]
    for name, field in schema(Kinds()).model_fields.items():
        models = list(sections(field.annotation))
        if not models:
            lines += [f"`{name} = {field.default}`: {field.description}", ""]
            continue
        title = f"[[{name}]]" if name in LISTS else f"[{name}]"
        lines += [f"## `{title}`: {field.description}", ""]
        for model in models:
            if len(models) > 1:
                lines += [f'With `kind = "{kind_of(model)}"`:', ""]
            lines += [*_table(model), ""]
            for key, entry in model.model_fields.items():
                for inner in sections(entry.annotation):
                    title = f"[[{name}.{key}]]" if get_origin(entry.annotation) is tuple else f"[{name}.{key}]"
                    lines += [f"In it `{title}`: {entry.description}", "", *_table(inner), ""]
    return "\n".join(lines)


def _table(model: type[BaseModel]) -> list[str]:
    """The keys of a section as a table in Markdown."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key, entry in model.model_fields.items():
        default = "required" if entry.is_required() else "-" if entry.default is None else f"`{toml(entry.default)}`"
        lines.append(f"| `{key}` | {default} | {entry.description} |")
    return lines
