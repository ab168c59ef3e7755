"""The table ``[potential]`` of the built-in linear ACE."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from alflow.models.ace.settings import AceKeys
from alflow.models.settings import Potential

if TYPE_CHECKING:
    from alflow.committee.protocol import Model


class AcePotential(AceKeys, Potential):
    """Linear ACE."""

    adds: ClassVar[bool] = True
    kind: Literal["ace"] = Field("ace", description="linear atomic cluster expansion, built in")

    @classmethod
    def model_class(cls) -> "type[Model]":
        """Linear ACE; importing it compiles kernels."""
        from alflow.models.ace.model import AceModel

        return AceModel
