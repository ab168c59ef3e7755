"""Writing the file of a committee."""

import os
from collections.abc import Callable
from pathlib import Path

import h5py

from alflow.errors import PotentialError


def replace_file(path: Path, write: Callable[[h5py.File], None]) -> None:
    """Write an HDF5 file, completely or not at all; what is there is replaced.

    Raises
    ------
    PotentialError
        The operating system refuses it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temporary, "w") as file:
            write(file)
        # On disk before it has its name: a crash leaves the old file or the new one, never an empty one.
        descriptor = os.open(temporary, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        temporary.replace(path)
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror or error}): check the folder and the space left on its disk"
        raise PotentialError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)
