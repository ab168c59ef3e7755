"""Whether the electrons of VASP converged.

It prints by what it ended an electronic loop, except version 5 where it has used all the steps that there may be.
"""

import re

_LOOP = re.compile(r"aborting loop (.*?)\s*-*\s*$", re.MULTILINE)
_ITERATION = re.compile(r"- Iteration\s+\d+\(\s*(\d+)\)")
_NELM = re.compile(r"^\s*NELM\s*=\s*(\d+)", re.MULTILINE)


def unconverged(text: str, nelm: int | None) -> str:
    """Why the last electronic loop of some text of OUTCAR did not converge; empty where it did.

    Parameters
    ----------
    text : str
        Of one ionic step at least.
    nelm : int, optional
        Steps that the loop may have.
    """
    loops, iterations = _LOOP.findall(text), _ITERATION.findall(text)
    if loops:
        return "" if "EDIFF is reached" in loops[-1] else f"aborting loop {loops[-1]}"
    if nelm is None or not iterations or int(iterations[-1]) >= nelm:
        # VASP 5 says nothing when it has used them all
        return f"did not converge in its {nelm or 'NELM'} electronic steps"
    return ""


def nelm_of(text: str) -> int | None:
    """Electronic steps that a loop may have, from the beginning of OUTCAR."""
    found = _NELM.search(text)
    return int(found[1]) if found else None
