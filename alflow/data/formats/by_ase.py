"""Whatever ASE reads, and reads right."""

from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError

from alflow.data.formats.base import Entries, Entry, Format
from alflow.errors import StructureError


def entries(path: Path, form: str | None = None) -> Entries:
    """Structures that ASE reads; ``form``: in one of its formats, else it looks itself.

    Raises
    ------
    StructureError
        ASE does not know the format, or stumbles.
    """
    try:
        frames = ase.io.read(path, index=":", format=form, do_not_split_by_at_sign=True)
    except UnknownFileTypeError as error:
        msg = f"{path}: unknown format ({error}): expected one that ASE reads, extended XYZ for example"
        raise StructureError(msg) from error
    except Exception as error:  # ASE's readers raise whatever a malformed line makes them raise
        msg = f"{path} cannot be read ({type(error).__name__}: {error}): expected a format that ASE reads"
        raise StructureError(msg) from error
    for frame in frames:
        yield entry(frame)


def entry(frame: Atoms) -> Entry:
    """A structure as ASE reads it, its results apart."""
    results: dict[str, Any] = {} if frame.calc is None else dict(frame.calc.results)
    frame.calc = None
    of_atoms = {name: results.pop(name) for name in OF_ATOMS if name in results}
    return Entry(frame, results, of_atoms)


OF_ATOMS = ("forces", "energies", "stresses", "charges", "magmoms", "born_effective_charges")
"""Results of each atom, by the names of ASE."""

BY_ASE = Format("any that ASE reads", lambda _path, _head: True, entries, units="assumed")
