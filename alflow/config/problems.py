"""What is wrong with a setting, in one line."""

import difflib
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from alflow.config.places import LISTS, description, dotted, kinds_at, known_keys, toml

_LONGEST = 80  # characters of a refused value that a message repeats


def told_already(problem: ErrorDetails, problems: list[ErrorDetails]) -> bool:
    """Whether a list is called too short only because an entry of it was refused."""
    place = problem["loc"]
    inside = any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in problems)
    return problem["type"] == "too_short" and inside


def explain(schema: type[BaseModel], problem: ErrorDetails) -> str:
    """One line: the key, what is allowed by the schema, what was found."""
    place = problem["loc"]
    key = dotted(schema, place)
    if problem["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        kinds = ", ".join(toml(kind) for kind in kinds_at(schema, place))
        return f"{key}.kind: expected one of {kinds}, found {_found(_kind_given(problem['input']))}"
    if problem["type"] == "extra_forbidden":
        known = sorted(known_keys(schema, place[:-1]))
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        return f"unknown key {key}: {hint}"
    if problem["type"] == "missing":
        about = description(schema, place)
        return f"{key} is missing: {about}" if about else f"{key} is missing"
    if problem["type"] in {"tuple_type", "model_type"}:
        table = f"[{key}]" if problem["type"] == "model_type" else "a number or a list of numbers"
        expected = f"tables [[{place[0]}]]" if place[0] in LISTS else table
        return f"{key}: expected {expected}, found {_found(problem['input'])}"
    if problem["type"] == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    if problem["type"] in {"too_short", "string_too_short"}:
        least = int(problem["ctx"]["min_length"])
        number = "one" if least == 1 else str(least)
        expected = f"at least {number}" if problem["type"] == "too_short" else "at least one character"
    elif problem["type"] == "string_pattern_mismatch":
        expected = f"a match of {problem['ctx']['pattern']}"
    else:
        expected = problem["msg"].removeprefix("Input should be ")
    about = description(schema, place)
    return f"{key}: expected {expected}{f' ({about})' if about else ''}, found {_found(problem['input'])}"


def _found(value: Any) -> str:
    """A refused value as it stands in the file, shortened."""
    text = toml(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _kind_given(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else value
