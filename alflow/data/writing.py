"""Structures for files."""

from collections.abc import Sequence
from pathlib import Path

import ase.io
from ase import Atoms

from alflow.errors import StructureError
from alflow.state.atomic import whole_file

_LABEL = {"energy", "free_energy", "forces", "stress"}


def write_structures(path: Path, frames: Sequence[Atoms]) -> None:
    """Write extended XYZ, completely or not at all; what is there is replaced; StructureError if it cannot be."""
    try:
        with whole_file(path, overwrite=True) as temporary:
            ase.io.write(temporary, [_writable(frame) for frame in frames], format="extxyz")
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror or error}): check the folder and the space left on its disk"
        raise StructureError(msg) from error


def _writable(frame: Atoms) -> Atoms:
    """As ASE 3.29 can write it and read it again.

    It writes an empty text of ``info`` as nothing, and the next entry, pbc or an energy, is read for it. What ``info``
    or ``arrays`` have under the name of a result it refuses beside that result, and an energy of theirs would be read
    for one that belongs to the structure: it is written as ``given_NAME``.
    """
    kept = {key: value for key, value in frame.info.items() if not (isinstance(value, str) and value == "")}
    results = set() if frame.calc is None else set(frame.calc.results)
    colliding = {*kept, *frame.arrays} & (results | _LABEL)
    if len(kept) == len(frame.info) and not colliding:
        return frame
    other: Atoms = frame.copy()
    other.calc, other.info = frame.calc, kept
    for name in colliding:
        for said in (other.info, other.arrays):
            if name in said:
                said[f"given_{name}"] = said.pop(name)
    return other
