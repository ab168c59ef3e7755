"""The model of alflow.toml for the kinds that there are."""

from collections.abc import Mapping
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, create_model

from alflow.config.kinds import Kinds, installed
from alflow.config.settings import Settings
from alflow.section import Section


def schema(kinds: Kinds | None = None) -> type[Settings]:
    """The class of the settings; ``kinds`` are what tables of several kinds may be, by default those installed.

    Raises
    ------
    ConfigError
        As of :func:`alflow.config.kinds.installed`.
    """
    return _schema(installed() if kinds is None else kinds)


@lru_cache(maxsize=16)
def _schema(kinds: Kinds) -> type[Settings]:
    # Only these tables depend on what is installed. The others, and the checks across tables, are those of the base
    # class, whose fields have the base types of the sections: code that uses settings is written against these.
    tables: dict[str, Any] = {
        "potential": (_one_of(kinds.potentials), _first(kinds.potentials)),
        "baseline": (_one_of(kinds.baselines) | None, None),
        "reference": (_one_of(kinds.references), _first(kinds.references)),
    }
    described: Any = {
        name: (annotation, Field(default, description=Settings.model_fields[name].description))
        for name, (annotation, default) in tables.items()
    }
    made: type[Settings] = create_model("Settings", __base__=Settings, __module__=__name__, **described)
    made.kinds = kinds
    return made


def _first(sections: Mapping[str, type[Section]]) -> Section:
    """What a table is that is not there: its first kind, with the defaults of that."""
    return next(iter(sections.values()))()


def _one_of(sections: Mapping[str, type[Section]]) -> Any:
    """The annotation of a table that is one of these sections, by its ``kind``."""
    if len(sections) == 1:  # nothing to choose from: pydantic knows no union of one
        return next(iter(sections.values()))
    default = next(iter(sections))

    # Told apart by `kind` before anything is validated: a mistake is then told of the one section that is meant, and
    # not of every one that it might have been.
    def kind(value: Any) -> str | None:
        found = value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", default)
        return found if isinstance(found, str) else None

    def split(value: Any) -> Any:
        """``kind = "ase:module.Class"`` names the class with the kind."""
        word, colon, rest = str(value.get("kind", "") if isinstance(value, dict) else "").partition(":")
        key = getattr(sections.get(word), "after_colon", None)
        return {**value, "kind": word, key: rest} if colon and key else value

    union = reduce(or_, (Annotated[section, Tag(name)] for name, section in sections.items()))
    return Annotated[union, Discriminator(kind), BeforeValidator(split)]
