"""The kinds of models, by the name that alflow.toml and files have for them."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from alflow.errors import PotentialError
from alflow.models.ace.potential import AcePotential
from alflow.models.calculators.potential import CalculatorsPotential
from alflow.models.settings import AnyPotential
from alflow.models.trained.potential import TrainedPotential
from alflow.section import kind_of

if TYPE_CHECKING:
    from alflow.committee.protocol import Model

POTENTIALS: Mapping[str, type[AnyPotential]] = {
    kind_of(section): section for section in (AcePotential, TrainedPotential, CalculatorsPotential)
}
"""What ``[potential]`` may be; installed packages may add others."""


def model_class(kind: str) -> "type[Model]":
    """The class of a kind of models: of alflow, or of an installed package with an entry point in ``alflow.models``.

    Raises
    ------
    PotentialError
        There is no such kind.
    """
    if kind in POTENTIALS:
        return POTENTIALS[kind].model_class()
    for point in entry_points(group="alflow.models", name=kind):
        section: type[AnyPotential] = point.load()
        return section.model_class()
    msg = f"kind of model: expected one of {', '.join(sorted(POTENTIALS))}, found {kind!r}: install what brings it"
    raise PotentialError(msg)
