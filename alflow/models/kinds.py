"""The kinds of models, by the name that alflow.toml and files have for them."""

from collections.abc import Callable

from alflow.committee.protocol import Model
from alflow.errors import PotentialError


def _ace() -> type[Model]:
    from alflow.models.ace.model import AceModel

    return AceModel


KINDS: dict[str, Callable[[], type[Model]]] = {"ace": _ace}
"""Kind of a model: what imports its class. Takes further ones; nothing is imported before it is asked for."""


def model_class(kind: str) -> type[Model]:
    """The class of a kind of models.

    Raises
    ------
    PotentialError
        There is no such kind.
    """
    if kind not in KINDS:
        msg = f"kind of model: expected one of {', '.join(sorted(KINDS))}, found {kind!r}: install what brings it"
        raise PotentialError(msg)
    return KINDS[kind]()
