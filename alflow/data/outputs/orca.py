"""Whether the electrons of ORCA 4 to 6 converged."""

import re

NOT_CONVERGED = re.compile(
    r"SCF NOT CONVERGED AFTER|\(SCF not converged\)|not fully converged|iterations have not converged", re.IGNORECASE
)
"""What it says of a self-consistent field that did not, whatever energy it prints."""
END = "ORCA TERMINATED NORMALLY"
"""What an output that is whole ends with."""
