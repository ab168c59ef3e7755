"""The table ``[failures]``: why reference calculations can fail, and what becomes of those that do."""

from typing import Any

from pydantic import Field

from alflow.section import Positive, Section, Share
from alflow.workers.attempts import Attempts


class Failures(Section):
    """What becomes of calculations that fail, by the reason."""

    max_share: Share = Field(0.5, description="a batch in which more fail than this share stops the run")
    not_converged: Attempts = Field((), description="the self-consistent field, or another iteration, did not converge")
    crashed: Attempts = Field(({},), description="the program ended in an error or by a signal")
    timed_out: Attempts = Field((), description="it took longer than [executor] allows")
    out_of_memory: Attempts = Field((), description="it needed more memory than there is")
    no_output: Attempts = Field(({},), description="it ended well and left no energy and forces")
    not_finite: Attempts = Field((), description="an energy, a force or a stress is no number")
    inconsistent: Attempts = Field((), description="forces do not sum to zero, or the energy is far outside the data")
    net_force_max: Positive | None = Field(
        0.3, description="inconsistent above: the sum of the forces over the square root of the number of atoms, eV/Å"
    )
    energy_margin: Positive | None = Field(
        2.0, description="inconsistent further outside the energies of the labels so far than this, eV/atom"
    )


REASONS = tuple(name for name, field in Failures.model_fields.items() if field.annotation == tuple[dict[str, Any], ...])
"""Why a calculation can fail, the keys of further attempts: a :class:`alflow.errors.LabelError` has one of them."""
