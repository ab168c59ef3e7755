"""Structures for files."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import ase.io
from ase import Atoms

from alflow.errors import StructureError


def write_structures(path: Path, frames: Sequence[Atoms]) -> None:
    """Write extended XYZ, completely or not at all; what is there is replaced; StructureError if it cannot be."""
    temporary = path.with_name(f".{os.getpid()}.tmp.{path.name}")  # the end of the name decides on compression
    try:
        ase.io.write(temporary, list(frames), format="extxyz")
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror or error}): check the folder and the space left on its disk"
        raise StructureError(msg) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
