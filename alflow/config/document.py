"""docs/settings.md: every key with its default and its meaning."""

from pydantic import BaseModel

from alflow.config.kinds import Kinds
from alflow.config.places import LISTS, is_list, sections, toml
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
                inner = list(sections(entry.annotation))
                if inner:
                    title = f"[[{name}.{key}]]" if is_list(entry.annotation) else f"[{name}.{key}]"
                    lines += [f"In it `{title}`: {entry.description}", ""]
                for one in inner:
                    if len(inner) > 1:
                        lines += [f'With `kind = "{kind_of(one)}"`, {_first_sentence(one)}:', ""]
                    lines += [*_table(one), ""]
    return "\n".join(lines)


def _first_sentence(model: type[BaseModel]) -> str:
    """Of what a section is, to be gone on with."""
    sentence = (model.__doc__ or "").partition(".")[0]
    return sentence[:1].lower() + sentence[1:]


def _table(model: type[BaseModel]) -> list[str]:
    """The keys of a section as a table in Markdown."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key, entry in model.model_fields.items():
        if entry.description is None:  # the kind, told above the table
            continue
        default = "required" if entry.is_required() else "-" if entry.default is None else f"`{toml(entry.default)}`"
        lines.append(f"| `{key}` | {default} | {entry.description} |")
    return lines
