"""Structures for files."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from alflow.errors import StructureError
from alflow.state.atomic import whole_file


def write_structures(path: Path, frames: Sequence[Atoms]) -> None:
    """Write extended XYZ, completely or not at all; what is there is replaced; StructureError if it cannot be."""
    try:
        with whole_file(path, overwrite=True) as temporary:
            ase.io.write(temporary, [_writable(frame) for frame in frames], format="extxyz")
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror or error}): check the folder and the space left on its disk"
        raise StructureError(msg) from error


def _writable(frame: Atoms) -> Atoms:
    """With ``info`` and ``arrays`` as ASE 3.29 writes them and reads the same again, or, of odd ones, their text.

    It stops at some itself (numbers as keys, complex columns), and writes others so that they cannot be read, or are
    read for something else: empty texts, new lines, a key ``Lattice``, columns ``species``, the names of results.
    """
    results = _LABEL if frame.calc is None else _LABEL | set(frame.calc.results)
    of_structure, of_atoms = _OF_STRUCTURE | results, _OF_ATOMS | results
    info = {_key(name, of_structure): _value(value) for name, value in frame.info.items() if not _is_empty(value)}
    arrays = {
        name if name in _PARTS else _key(name, of_atoms): values if name in _PARTS else _column(values)
        for name, values in frame.arrays.items()
        if name in _PARTS or np.size(values)
    }
    other: Atoms = frame.copy()
    other.calc, other.info, other.arrays = frame.calc, info, arrays
    return other


def _key(name: Any, taken: frozenset[str]) -> str:
    """A name without what ends one."""
    text = re.sub(r"[\s=:,\\\"'{}\[\]]+", "_", str(name)) or "unnamed"
    return f"given_{text}" if text in taken else text


def _is_empty(value: Any) -> bool:
    return isinstance(value, str | np.ndarray) and len(np.ravel(value) if isinstance(value, np.ndarray) else value) == 0


def _value(value: Any) -> Any:
    if isinstance(value, str):
        # read, a backslash stands for what follows it, and the mark of JSON for JSON
        return " ".join(value.splitlines()).removeprefix("_JSON ").replace("\\", "\\\\")
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        value = value.tolist()
    try:
        if np.asarray(value).dtype.kind in "biuf":
            return value
        text = json.dumps(value)
    except (TypeError, ValueError):
        return _value(str(value))
    return value if "\\" not in text else _value(text)


def _column(values: Any) -> Any:
    """Numbers or words of each atom, one or a row of them."""
    array = np.asarray(values)
    if array.ndim > 2:
        array = array.reshape(len(array), -1)
    if array.dtype.kind in "iu":
        return array.astype(np.int32 if np.abs(array.astype(float)).max() < _INTEGERS else float)
    if array.dtype.kind in "bf":
        return array
    texts = ["_".join(str(word).split()) or "_" for word in array.ravel()]
    return np.array(texts).reshape(array.shape)


_PARTS = frozenset({"numbers", "positions"})
_LABEL = frozenset({"energy", "free_energy", "forces", "stress", "virial"})
_OF_STRUCTURE = frozenset({"Lattice", "Properties", "pbc"})
_OF_ATOMS = frozenset({"species", "symbols", "symbol", "element", "elements", "pos", "position", "Z"})
_INTEGERS = 2**31  # what ASE reads of them
