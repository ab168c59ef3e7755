"""What the tables of alflow.toml are made of."""

from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


def as_tuple(value: Any) -> Any:
    """A single number is a list of one; TOML's lists are our tuples."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Section(BaseModel):
    """A table of alflow.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """With some keys changed, tables inside merged; ValidationError if that is not allowed."""
        return self.model_validate(merge(self.model_dump(), changes))


def kind_of(section: type[BaseModel]) -> str:
    """The ``kind`` that a table of several kinds has when it is this one."""
    kind: str = get_args(section.model_fields["kind"].annotation)[0]
    return kind


def merge(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Options with some changed; tables inside are merged."""
    merged = dict(options)
    for key, value in changes.items():
        inside = merged.get(key)
        merged[key] = merge(inside, value) if isinstance(inside, dict) and isinstance(value, dict) else value
    return merged
