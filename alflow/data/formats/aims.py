"""Outputs of FHI-aims: single points, relaxations, dynamics.

ASE parses each structure; its energies are electronic free energies, whose gradient the forces are. What did not
converge is told here: ASE looks only whether the whole run has ended.
"""

import re
from pathlib import Path

from alflow.data.formats.base import Entries, Entry, Format, Unusable, opened
from alflow.data.formats.by_ase import entry
from alflow.data.formats.quiet import quietly
from alflow.data.outputs.aims import converged, unconverged
from alflow.errors import StructureError

_HEADER = re.compile(r"Invoking FHI-aims|^  \| Number of spin channels  ", re.MULTILINE)


def entries(path: Path) -> Entries:
    """The structures that were calculated.

    Raises
    ------
    StructureError
        The run ended before its first self-consistent field, or the beginning cannot be read.
    """
    yield from quietly(_entries(path))


def _entries(path: Path) -> Entries:
    from ase.io.aims import get_aims_out_chunks, get_header_chunk

    with opened(path) as file:
        try:
            header = get_header_chunk(file)
            _ = header.is_relaxation, header.header_summary  # what each structure needs: parsed when asked for
        except Exception as error:  # it raises whatever a malformed line makes it raise
            msg = f"{path} cannot be read as output of FHI-aims ({error}): expected a self-consistent field"
            raise StructureError(msg) from error
        for index, chunk in enumerate(get_aims_out_chunks(file, header)):
            text = "\n".join(chunk.lines)
            if index == 0 or "Self-consistency cycle" in text or "Begin self-consistency" in text:
                yield _entry(chunk, text)  # what is left is the summary of a relaxation


def _entry(chunk: object, text: str) -> Entry | Unusable:
    if unconverged(text):
        return Unusable("its self-consistent field did not converge")
    if not converged(text):
        return Unusable("the file ends in it: FHI-aims was stopped, or still runs")
    try:
        return entry(chunk.atoms)  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001 - it raises whatever a malformed line makes it raise
        return Unusable(f"cannot be read as FHI-aims writes it ({type(error).__name__}: {error})")


AIMS = Format("output of FHI-aims", lambda _path, head: bool(_HEADER.search(head)), entries)
