"""Structures for files."""

from collections.abc import Sequence
from pathlib import Path

import ase.io
from ase import Atoms

from alflow.errors import StructureError
from alflow.state.atomic import whole_file


def write_structures(path: Path, frames: Sequence[Atoms]) -> None:
    """Write extended XYZ, completely or not at all; what is there is replaced; StructureError if it cannot be."""
    try:
        with whole_file(path, overwrite=True) as temporary:
            ase.io.write(temporary, [_without_empty_texts(frame) for frame in frames], format="extxyz")
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror or error}): check the folder and the space left on its disk"
        raise StructureError(msg) from error


def _without_empty_texts(frame: Atoms) -> Atoms:
    """ASE 3.29 writes an empty text of ``info`` as nothing, and the next entry, pbc or an energy, is read for it."""
    kept = {key: value for key, value in frame.info.items() if not (isinstance(value, str) and value == "")}
    if len(kept) == len(frame.info):
        return frame
    other: Atoms = frame.copy()
    other.calc, other.info = frame.calc, kept
    return other
