"""Further attempts at what has failed, with settings that are changed for them."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator

_WORDS: dict[str, tuple[dict[str, Any], ...]] = {"retry": ({},), "give up": ()}


def _attempts(value: Any) -> Any:
    """Words for what is wanted most; a table is a list of one."""
    if isinstance(value, dict):
        return (value,)
    if isinstance(value, str):
        return _WORDS.get(value, value)
    return tuple(value) if isinstance(value, list) else value


Attempts = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_attempts)]
"""Further attempts: each a table of settings that are changed for it."""


def changes_for(policy: object, reasons: Sequence[str]) -> dict[str, Any] | None:
    """Settings changed for the next attempt, after those that failed for these reasons; None when there is none.

    The n-th failure for a reason takes the n-th entry of the policy for it, which is the attribute of that name.
    """
    if not reasons:
        return {}
    attempts: Sequence[dict[str, Any]] = getattr(policy, reasons[-1])
    number = reasons.count(reasons[-1]) - 1
    return attempts[number] if number < len(attempts) else None
