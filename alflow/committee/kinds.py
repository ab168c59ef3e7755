"""Kinds of structures: where each comes from, in words, and how much structures of a kind count in a fit.

An origin is what a structure is known by, as "system water, config_type surface, cycle 3": each of its parts, and what
follows "system" or "config_type", is the name of a kind, so a structure may be of several.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from ase import Atoms

from alflow.errors import PotentialError

_SAID = ("system", "config_type")
_NAMED = 12  # kinds in a message


@runtime_checkable
class Weighs(Protocol):
    """Settings of a model that weights structures by kind."""

    @property
    def weights(self) -> Mapping[str, float]:
        """By the name of the kind: what multiplies the errors of its structures, so their squares by its square."""


def origin_of(frame: Atoms, origin: str) -> str:
    """Where a structure comes from: what its ``info`` says of ``system`` and ``config_type``, and an origin."""
    said = {name: str(frame.info.get(name, "")) for name in _SAID}
    named = [f"{name} {value}" for name, value in said.items() if value]
    return ", ".join([*named, *([origin] if origin else [])])


def names(origin: str) -> list[str]:
    """Of the kinds that a structure of that origin is of."""
    parts = [part for part in origin.split(", ") if part]
    after = [part.removeprefix(f"{name} ") for part in parts for name in _SAID if part.startswith(f"{name} ")]
    return [*after, *parts, *([origin] if len(parts) > 1 else [])]


def weight(origin: str, weights: Mapping[str, float]) -> float:
    """Of a structure: the product of those of its kinds, 1 where none is given."""
    product = 1.0
    for name in dict.fromkeys(names(origin)):
        product *= weights.get(name, 1.0)
    return product


def unknown(origins: Sequence[str], weights: Mapping[str, float]) -> str:
    """Weights of kinds of which there is no structure, in words; empty where there are none."""
    if not weights:
        return ""
    there = dict.fromkeys(name for origin in origins for name in names(origin))
    missing = [name for name in weights if name not in there]
    if not missing:
        return ""
    listed = [*list(there)[:_NAMED], *(["..."] if len(there) > _NAMED else [])]
    expected = f"one of {', '.join(listed)}" if there else "none, as the structures have no config_type"
    return f"no structure is of kind {', '.join(missing)}: expected {expected}"


def check_weights(frames: Sequence[Atoms], origins: Sequence[str] | None, weights: Mapping[str, float]) -> None:
    """Refuse weights of kinds of which there is no structure; PotentialError."""
    whole = origins if origins is not None and len(origins) == len(frames) else [""] * len(frames)
    problem = unknown([origin_of(frame, origin) for frame, origin in zip(frames, whole, strict=True)], weights)
    if problem:
        msg = f"weights: {problem}"
        raise PotentialError(msg)
