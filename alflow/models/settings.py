"""The table ``[potential]``: what is trained."""

from typing import TYPE_CHECKING

from pydantic import Field

from alflow.section import Section

if TYPE_CHECKING:
    from alflow.committee.protocol import Model


class Potential(Section):
    """A kind of ``[potential]``: a subclass has a literal ``kind``, and the keys of its own.

    All keys but ``kind`` and ``n_members`` are the settings that :meth:`alflow.committee.protocol.Model.make` takes.
    """

    kind: str = Field(description="which model the committee is made of")
    n_members: int = Field(16, ge=8, le=256, description="members of the committee; 8 or more, to be calibrated")

    @classmethod
    def model_class(cls) -> "type[Model]":
        """The class of the models, imported only here: settings are read without loading what evaluates them."""
        raise NotImplementedError
