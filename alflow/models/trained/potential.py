"""The table ``[potential]`` of members that a program trains."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from alflow.models.settings import AnyPotential, Workshop
from alflow.models.trained.settings import TrainedKeys, TrainingFailures
from alflow.section import merge

if TYPE_CHECKING:
    from alflow.committee.protocol import Model


class TrainedPotential(TrainedKeys, AnyPotential):
    """Members that a program trains, each on its own half of the labels."""

    by_atom: ClassVar[bool] = False

    kind: Literal["trained"] = Field(description="members that a program trains, one run for each")

    @classmethod
    def model_class(cls) -> "type[Model]":
        """Members that share nothing."""
        from alflow.models.trained.model import TrainedModel

        return TrainedModel

    @property
    def goes_on(self) -> bool:
        """Where members go on from their earlier models."""
        return self.start is not None

    def unfitted(self, workshop: Workshop) -> "Model":
        """Members that are trained in the run directory, by its executor."""
        from alflow.models.trained.model import TrainedModel

        return TrainedModel(self, workshop)

    def executor_changes(self) -> Mapping[str, Mapping[str, Any]]:
        """Of trainings, and of further attempts at them."""
        found: dict[str, Mapping[str, Any]] = {"potential.executor": self.executor}
        for reason in TrainingFailures.model_fields:
            for number, changes in enumerate(getattr(self.failures, reason)):
                place = f"potential.failures.{reason}[{number}].executor"
                found[place] = merge(self.executor, changes.get("executor", {}))
        return found
