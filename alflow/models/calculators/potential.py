"""The table ``[potential]`` of members that are there already."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from alflow.models.calculators.settings import CalculatorsKeys
from alflow.models.settings import AnyPotential, Workshop

if TYPE_CHECKING:
    from alflow.committee.protocol import Model


class CalculatorsPotential(CalculatorsKeys, AnyPotential):
    """Members that are there already, each an ASE calculator."""

    by_atom: ClassVar[bool] = False

    kind: Literal["calculators"] = Field(description="ASE calculators, or models of alflow, that are there already")

    @classmethod
    def model_class(cls) -> "type[Model]":
        """Members that share nothing."""
        from alflow.models.calculators.model import CalculatorsModel

        return CalculatorsModel

    @property
    def goes_on(self) -> bool:
        """What members have said of labels is not asked again."""
        return True

    def unfitted(self, workshop: Workshop) -> "Model":
        """The members, with their files found in the run directory, and what was evaluated before."""
        from alflow.models.calculators.model import CalculatorsModel

        model = CalculatorsModel(self.members, workshop.directory)
        if workshop.before is not None:
            model.remember(workshop.before)
        return model
