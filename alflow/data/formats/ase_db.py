"""Databases of ASE: .db, .json and .aselmdb.

``ase.io.read`` loses what a row has besides its structure: keys and values, and data. Both reach ``info`` here, and
``arrays`` where there is a row of numbers for each atom.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alflow.data.formats.base import Entries, Entry, Format, Unusable
from alflow.data.formats.by_ase import entry
from alflow.errors import StructureError

_JSON = re.compile(r'\s*\{\s*"(?:\d+|ids|nextid)"\s*:')


def entries(path: Path) -> Entries:
    """The rows of a database, in the order of their numbers.

    Raises
    ------
    StructureError
        It cannot be opened, or needs a package that is not there.
    """
    number = 0
    try:
        for row in _rows(path):
            yield _entry(row)
            number += 1
    except ImportError as error:
        msg = f"{path} needs a package that is not there ({error.name}): pip install ase-db-backends"
        raise StructureError(msg) from error
    except Exception as error:  # it raises whatever a damaged file makes it raise
        found = f"{type(error).__name__}: {error}"
        if number == 0:
            msg = f"{path} cannot be read ({found}): expected a database of ASE"
            raise StructureError(msg) from error
        yield Unusable(f"cannot be read from here on ({found})")


def _rows(path: Path) -> Any:
    import ase.db

    # an LMDB is opened for writing otherwise, which a folder of data may not allow
    more = {"readonly": True} if path.suffix == ".aselmdb" else {}
    with ase.db.connect(path, serial=True, use_lock_file=False, **more) as database:
        yield from database.select()


def _entry(row: Any) -> Entry | Unusable:
    try:
        found = entry(row.toatoms())
        # A key `charge`, `mass` or `volume` is there, but key_value_pairs has what is computed from the structure
        # (findings/ase-db-key-charge-comes-back-as-zero.sh).
        _add(found, {name: vars(row).get(name, value) for name, value in row.key_value_pairs.items()})
        _add(found, row.data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Unusable(f"row {row.id} cannot be read ({type(error).__name__}: {error})")
    return found


def _add(found: Entry, values: Mapping[str, Any]) -> None:
    atoms = found.atoms
    for name, value in values.items():
        if isinstance(value, np.ndarray) and value.ndim == 2 and len(value) == len(atoms) and name not in atoms.arrays:
            atoms.arrays[name] = value
        else:
            atoms.info[name] = value


DATABASE = Format(
    "database of ASE",
    lambda path, head: path.suffix in {".db", ".aselmdb"} or (path.suffix == ".json" and bool(_JSON.match(head))),
    entries,
    units="assumed",
)
