"""The table ``[potential]``: what is trained."""

from pydantic import Field

from alflow.section import Section


class Potential(Section):
    """A kind of ``[potential]``: a subclass has a literal ``kind``, and the keys of its own."""

    kind: str = Field(description="which model the committee is made of")
    n_members: int = Field(16, ge=8, le=256, description="members of the committee; 8 or more, to be calibrated")
