"""Structures from files."""

from pathlib import Path

import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError

from alflow.errors import StructureError
from alflow.structures import check_structure


def read_structures(path: Path, *, close: bool = False) -> list[Atoms]:
    """Read every structure of a file, in any format that ASE knows; ``close`` as of :func:`check_structure`.

    Raises
    ------
    StructureError
        As of :func:`read_unchecked`; or one of them cannot be used (:func:`check_structure`).
    """
    frames = read_unchecked(path)
    for index, frame in enumerate(frames):
        check_structure(frame, f"{path} frame {index}", close=close)
    return frames


def read_unchecked(path: Path) -> list[Atoms]:
    """Read every structure of a file, those included that nothing can use.

    Raises
    ------
    StructureError
        The file is missing, cannot be read, or holds no structures.
    """
    if not path.is_file():
        msg = f"{path}: no such file: give the path of a file with structures"
        raise StructureError(msg)
    if path.stat().st_size == 0:
        msg = f"{path} is empty: expected at least one structure"
        raise StructureError(msg)
    try:
        frames = ase.io.read(path, index=":", do_not_split_by_at_sign=True)
    except UnknownFileTypeError as error:
        msg = f"{path}: unknown format ({error}): expected one that ASE reads, extended XYZ for example"
        raise StructureError(msg) from error
    except Exception as error:  # ASE's readers raise whatever a malformed line makes them raise
        msg = f"{path} cannot be read ({type(error).__name__}: {error}): expected a format that ASE reads"
        raise StructureError(msg) from error
    if not frames:
        msg = f"{path} holds no structures: expected at least one"
        raise StructureError(msg)
    return list(frames)
