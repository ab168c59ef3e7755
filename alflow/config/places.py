"""Places in alflow.toml: which section a path of keys leads to in a schema, and how it is written."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from alflow.section import kind_of

LISTS = ("system", "observable")
"""Sections of which there may be several."""


def known_keys(schema: type[BaseModel], place: tuple[int | str, ...]) -> set[str]:
    """The keys of the section there."""
    model = model_at(schema, place)
    return set(model.model_fields) if model else set()


def description(schema: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """What a key means; empty when it has no description."""
    while place and isinstance(place[-1], int):
        place = place[:-1]
    if not place:
        return ""
    model = model_at(schema, place[:-1])
    return (model.model_fields[place[-1]].description or "") if model and place[-1] in model.model_fields else ""


def model_at(schema: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The section that a path of keys leads to."""
    return _followed(schema, place)[0]


def kinds_at(schema: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The kinds that the table there may be."""
    return list(_followed(schema, place)[1])


def _followed(
    schema: type[BaseModel], place: tuple[int | str, ...]
) -> tuple[type[BaseModel] | None, dict[str, type[BaseModel]]]:
    """The section that a path of keys leads to, and what it may be where that is several."""
    model: type[BaseModel] | None = schema
    kinds: dict[str, type[BaseModel]] = {}
    for part in place:
        if part in kinds:
            model, kinds = kinds[str(part)], {}
        elif isinstance(part, str) and model is not None:
            field = model.model_fields.get(part)
            model = next(sections(field.annotation), None) if field else None
            kinds = choices(field.annotation) if field else {}
    return model, kinds


def dotted(schema: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """A path of keys as it is written in TOML."""
    out = ""
    for part in _untagged(schema, place):
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            out += f"{'.' if out else ''}{part if bare else json.dumps(part, ensure_ascii=False)}"
    return out


def _untagged(schema: type[BaseModel], place: tuple[int | str, ...]) -> Iterator[int | str]:
    """A path of keys as it stands in the file: a problem inside a table of several kinds names the kind besides."""
    for end, part in enumerate(place):
        if part not in _followed(schema, place[:end])[1]:
            yield part


def choices(annotation: Any) -> dict[str, type[BaseModel]]:
    """The sections that a table may be, by their ``kind``; empty when there is only one."""
    found = list(sections(annotation))
    return {kind_of(model): model for model in found} if len(found) > 1 else {}


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections named in the annotation of a field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from sections(argument)


def is_list(annotation: Any) -> bool:
    """Whether a field is a list of tables."""
    return get_origin(annotation) is tuple or any(get_origin(one) is tuple for one in get_args(annotation))


def toml(value: Any) -> str:
    """A value as it stands in TOML."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(part) for part in value)}]"
    if isinstance(value, BaseModel):
        return toml(value.model_dump())
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {toml(part)}' for key, part in value.items())}}}"
    return str(value)
