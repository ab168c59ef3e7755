"""Whether the electrons of FHI-aims converged."""

import re

_CONVERGED = "Self-consistency cycle converged"
NOT_CONVERGED = re.compile(
    r"self-consistency cycle (?:has )?(?:not converged|did not converge)|SCF cycle not converged", re.IGNORECASE
)
"""What it says of a self-consistent field that did not."""
END = "Have a nice day"
"""What an output that is whole ends with."""


def unconverged(text: str) -> bool:
    """Whether the last self-consistent field of some text did not converge: it says so, or has ended without a word."""
    failed = [found.start() for found in NOT_CONVERGED.finditer(text)]
    converged = text.rfind(_CONVERGED)
    return bool((failed and failed[-1] > converged) or (END in text and converged < 0))


def converged(text: str) -> bool:
    """Whether it says that it did."""
    return _CONVERGED in text and not unconverged(text)
