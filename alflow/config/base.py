"""What the tables of alflow.toml are made of."""

from typing import Annotated, Any

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
