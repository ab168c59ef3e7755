"""How a record, a dataclass of :mod:`alflow.records`, lies in an HDF5 file.

A field is of one of these kinds, and its kind decides where it goes in the file:

=========================  ============================================================================
field type                 place in the file
=========================  ============================================================================
``int, float, bool, str``  an attribute of the group ``/record``
``ndarray``                the dataset ``/record/<field>``
``tuple[str, ...]``        the dataset ``/record/<field>``, variable-length UTF-8 strings
``dict[str, ndarray]``     the group ``/record/<field>``, a dataset for each name
``tuple[Atoms, ...]``      the H5MD group ``/particles/<field>`` (znh5md writes and reads it); beside it
                           ``/record/<field>_info``, ``Atoms.info`` as JSON, ``/record/<field>_more``, what
                           else is kept of a structure, as JSON (empty for most), and
                           ``/record/<field>_momenta``, shape (sum N, 3), because H5MD holds velocities,
                           whose division by the mass loses a bit
another dataclass          the group ``/record/<field>``, by the same rules
tuple of a dataclass       the group ``/record/<field>`` with a column for each of its fields: numbers as
                           an array, arrays of any shapes one after the other, with their shapes beside
anything else              the group ``/model``: it is written by its method ``write(group)``, and read by
                           the function that the field's metadata name as ``read``, from the group and
                           the path of the file
=========================  ============================================================================

Of ``Atoms`` a record keeps species, positions, cell, periodicity, momenta, info, the energy, forces and stress of the
calculator, and, where the structure has them, constraints, masses that are not the element's, initial charges and
magnetic moments. Tags are dropped. What is kept comes back to the last bit, except in ``info``, where arrays and tuples
become lists and keys become text. Text that HDF5 cannot hold is mended: NUL and lone surrogates, which occur in what a
crashed program says, become replacement characters.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

import h5py
import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

Record = TypeVar("Record")

_RESULTS = ("energy", "forces", "stress")


def write(record: Any, file: h5py.File) -> None:
    """Write a record (any dataclass of the field kinds above) into an empty HDF5 file.

    The same record gives the same bytes.

    Raises
    ------
    TypeError
        ``Atoms.info`` holds something that JSON has no form for, or a constraint says nothing of itself.
    ValueError
        A structure has no atoms, or positions, momenta, cell or results that are not finite.
    """
    group = file.create_group("record")
    group.attrs["kind"] = type(record).__name__
    _write_fields(file, group, record)


def _write_fields(file: h5py.File, group: h5py.Group, record: Any) -> None:
    for name, hint in _hints(type(record)).items():
        value = getattr(record, name)
        if hint is str:
            group.attrs[name] = _text(value)
        elif hint in {int, float, bool}:
            group.attrs[name] = hint(value)
        elif hint == tuple[str, ...]:
            _write_texts(group, name, [_text(text) for text in value])
        elif _are_structures(hint):
            _write_frames(file, group, name, value)
        elif get_origin(hint) is np.ndarray:
            group.create_dataset(name, data=value)
        elif get_origin(hint) is dict:
            _write_named(group.create_group(name), value)
        elif is_dataclass(hint) and not hasattr(hint, "write"):
            _write_fields(file, group.create_group(name), value)
        elif (item := _item(hint)) is not None:
            _write_columns(group.create_group(name), item, value)
        else:
            value.write(file.create_group("model"))


def read(cls: type[Record], file: h5py.File, path: Path | None = None) -> Record:
    """Read a record of the given class; ``path`` is that of the file, for what names others near it.

    Raises
    ------
    TypeError
        The file holds a record of another class.
    AlflowError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError
        The file was not written by :func:`write`; which of them depends on what stands there instead.
    """
    group = file["record"]
    if group.attrs["kind"] != cls.__name__:
        msg = f"holds a {group.attrs['kind']}, not a {cls.__name__}"
        raise TypeError(msg)
    return _read_fields(cls, file, group, path)


def _read_fields(cls: type[Record], file: h5py.File, group: h5py.Group, path: Path | None) -> Record:
    values: dict[str, Any] = {}
    readers = {f.name: f.metadata.get("read") for f in fields(cls)}  # type: ignore[arg-type]
    later = {f.name for f in fields(cls) if f.metadata.get("later")}  # type: ignore[arg-type]
    for name, hint in _hints(cls).items():
        if name in later and not _is_there(group, name, hint):
            continue  # of a file from before there was such a field: it has its default
        if hint in {int, float, bool, str}:
            values[name] = hint(group.attrs[name])
        elif hint == tuple[str, ...]:
            values[name] = _read_texts(group, name)
        elif _are_structures(hint):
            values[name] = _read_frames(file, group, name)
        elif get_origin(hint) is np.ndarray:
            values[name] = group[name][()]
        elif get_origin(hint) is dict:
            values[name] = {key: dataset[()] for key, dataset in group[name].items()}
        elif is_dataclass(hint) and not hasattr(hint, "write"):
            values[name] = _read_fields(hint, file, group[name], path)  # type: ignore[arg-type]
        elif (item := _item(hint)) is not None:
            values[name] = _read_columns(item, group[name])
        else:
            reader: Callable[[h5py.Group, Path | None], Any] = readers[name] or hint.read
            values[name] = reader(file["model"], path)
    return cls(**values)


def _is_there(group: h5py.Group, name: str, hint: Any) -> bool:
    """Whether a field was written."""
    return name in group.attrs or (f"{name}_info" if _are_structures(hint) else name) in group


def _hints(cls: type[Any]) -> dict[str, Any]:
    """The types of the fields of a dataclass, in their order."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def _are_structures(hint: Any) -> bool:
    """Whether a type is a tuple of structures, without importing what a structure is."""
    item = _item_of_tuple(hint)
    return item is not None and (item.__module__, item.__name__) == ("ase.atoms", "Atoms")


def _item(hint: Any) -> type[Any] | None:
    """The dataclass that a type is a tuple of; None for any other type."""
    item = _item_of_tuple(hint)
    return item if item is not None and is_dataclass(item) else None


def _item_of_tuple(hint: Any) -> type[Any] | None:
    arguments = get_args(hint)
    return arguments[0] if get_origin(hint) is tuple and arguments[1:] == (...,) else None


# Text, and arrays by name


def _write_texts(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    group.create_dataset(name, data=list(texts), dtype=h5py.string_dtype(), shape=(len(texts),))


def _read_texts(group: h5py.Group, name: str) -> tuple[str, ...]:
    return tuple(group[name].asstr()[()]) if len(group[name]) else ()


def _text(text: str) -> str:
    """Without what HDF5 refuses in a string."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _write_named(group: h5py.Group, arrays: dict[str, Any]) -> None:
    for name in sorted(arrays):
        group.create_dataset(name, data=arrays[name])


# A tuple of a dataclass, column by column: reading takes as long for many as for one


def _write_columns(group: h5py.Group, cls: type[Any], items: Sequence[Any]) -> None:
    group.attrs["length"] = len(items)
    for name, hint in _hints(cls).items():
        values = [getattr(item, name) for item in items]
        if hint is str:
            _write_texts(group, name, [_text(text) for text in values])
        elif hint in {int, float, bool}:
            group.create_dataset(name, data=np.array(values, dtype=_NUMBERS[hint]))
        elif get_origin(hint) is np.ndarray:
            _write_ragged(group.create_group(name), [np.asarray(value) for value in values])
        elif is_dataclass(hint):
            _write_columns(group.create_group(name), hint, values)  # type: ignore[arg-type]
        else:
            msg = f"{cls.__name__}.{name}: a column holds text, numbers, arrays or dataclasses of them, found {hint}"
            raise TypeError(msg)


def _read_columns(cls: type[Any], group: h5py.Group) -> tuple[Any, ...]:
    columns: dict[str, Sequence[Any]] = {}
    later = {f.name for f in fields(cls) if f.metadata.get("later")}
    for name, hint in _hints(cls).items():
        if name in later and name not in group:
            continue  # of a file from before there was such a field
        if hint is str:
            columns[name] = _read_texts(group, name)
        elif hint in {int, float, bool}:
            columns[name] = group[name][()].tolist()
        elif get_origin(hint) is np.ndarray:
            columns[name] = _read_ragged(group[name])
        else:
            columns[name] = _read_columns(hint, group[name])
    items = tuple(cls(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True))
    if len(items) != group.attrs["length"]:
        msg = f"{group.name} has {len(items)} entries: expected {group.attrs['length']}"
        raise ValueError(msg)
    return items


_NUMBERS = {int: np.int64, float: np.float64, bool: np.bool_}


def _write_ragged(group: h5py.Group, arrays: Sequence[Any]) -> None:
    """Arrays of different shapes: all their numbers one after the other, and their shapes."""
    dimensions = max((array.ndim for array in arrays), default=0)
    shapes = np.full((len(arrays), dimensions), -1, dtype=np.int64)  # -1: no such dimension
    for shape, array in zip(shapes, arrays, strict=True):
        shape[: array.ndim] = array.shape
    group.create_dataset("shapes", data=shapes)
    group.create_dataset("values", data=np.concatenate([np.zeros(0), *(array.ravel() for array in arrays)]))


def _read_ragged(group: h5py.Group) -> list[Any]:
    shapes = [tuple(int(n) for n in shape if n >= 0) for shape in group["shapes"][()]]
    sizes = [int(np.prod(shape)) for shape in shapes]
    parts = np.split(group["values"][()], np.cumsum(sizes)[:-1]) if sizes else []
    return [part.reshape(shape).copy() for part, shape in zip(parts, shapes, strict=True)]


# Structures


def _write_frames(file: h5py.File, group: h5py.Group, name: str, frames: "Sequence[Atoms]") -> None:
    import znh5md

    plain = [_plain(frame) for frame in frames]
    names = [f"structure {index} of {name}" for index in range(len(plain))]
    for frame, where in zip(plain, names, strict=True):
        _check(frame, where)
    infos = [_json(frame.info, f"{where}: info") for frame, where in zip(frames, names, strict=True)]
    _write_texts(group, f"{name}_info", infos)
    _write_texts(group, f"{name}_more", [_more(frame, where) for frame, where in zip(frames, names, strict=True)])
    momenta = [frame.arrays["momenta"] for frame in plain if "momenta" in frame.arrays]
    group.create_dataset(f"{name}_momenta", data=np.concatenate([np.zeros((0, 3)), *momenta]))
    if plain:
        znh5md.IO(file_handle=file, particles_group=name).extend(plain)


def _read_frames(file: h5py.File, group: h5py.Group, name: str) -> "tuple[Atoms, ...]":
    import znh5md

    infos = _read_texts(group, f"{name}_info")
    if not infos:
        return ()
    momenta = group[f"{name}_momenta"][()]
    frames = [_plain(frame) for frame in znh5md.IO(file_handle=file, particles_group=name)[:]]
    first = 0
    for frame, info, more in zip(frames, infos, _read_texts(group, f"{name}_more"), strict=True):
        frame.info = json.loads(info)
        if "momenta" in frame.arrays:
            frame.arrays["momenta"] = momenta[first : first + len(frame)].copy()
            first += len(frame)
        if more:
            _add_more(frame, json.loads(more))
    return tuple(frames)


def _plain(atoms: "Atoms") -> "Atoms":
    """Copy what H5MD has a place for, info excepted."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    plain = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if "momenta" in atoms.arrays:
        plain.arrays["momenta"] = np.array(atoms.arrays["momenta"], dtype=float)
    if atoms.calc is not None:
        results = {key: atoms.calc.results[key] for key in _RESULTS if atoms.calc.results.get(key) is not None}
        if "energy" in results:
            results["energy"] = float(results["energy"])
        if results:
            plain.calc = SinglePointCalculator(plain, **results)
    return plain


def _more(atoms: "Atoms", where: str) -> str:
    """Constraints, masses, initial charges and moments as JSON; empty where the structure has none of them."""
    from alflow.structures import OF_ATOMS

    # znh5md drops constraints (findings/znh5md-drops-constraints.sh), and pads what some structures lack.
    found: dict[str, Any] = {key: atoms.arrays[key] for key in OF_ATOMS if key in atoms.arrays}
    if atoms.constraints:
        try:
            found["constraints"] = [constraint.todict() for constraint in atoms.constraints]
        except (AttributeError, NotImplementedError) as error:
            names = ", ".join(type(constraint).__name__ for constraint in atoms.constraints)
            msg = f"{where}: constraints cannot be kept ({names}): expected such as ASE can write, FixAtoms for example"
            raise TypeError(msg) from error
    return _json(found, f"{where}: what belongs to its atoms") if found else ""


def _add_more(atoms: "Atoms", found: dict[str, Any]) -> None:
    from ase.constraints import dict2constraint

    constraints = found.pop("constraints", [])
    for key, values in found.items():
        atoms.arrays[key] = np.array(values, dtype=float)
    atoms.set_constraint([dict2constraint(constraint) for constraint in constraints])
    if atoms.calc is not None:  # whose results ASE hands out for the very structure only, charges and moments included
        atoms.calc.atoms = atoms.copy()


def _check(plain: "Atoms", where: str) -> None:
    """Refuse what would not come back: H5MD pads structures of different size with NaN, and takes NaN for padding."""
    if len(plain) == 0:
        msg = f"{where} has no atoms: expected at least one"
        raise ValueError(msg)
    values: dict[str, Any] = {**plain.arrays, "cell": plain.cell.array}
    if plain.calc is not None:
        values |= plain.calc.results
    for name, value in values.items():
        if not np.isfinite(value).all():
            msg = f"{where}: {name} not finite: expected numbers"
            raise ValueError(msg)


def _json(value: dict[str, Any], where: str) -> str:
    """A dictionary as JSON, numpy's numbers and arrays included."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic) and value.dtype.char != "g":  # a long double has no plain form
            return value.tolist()
        msg = f"found a {type(value).__name__}, expected text, numbers, or lists and dictionaries of them"
        raise TypeError(msg)

    try:
        return json.dumps(value, sort_keys=True, default=plain)
    except (TypeError, ValueError) as error:
        msg = f"{where} cannot be kept: {error}; remove that entry from Atoms.info"
        raise TypeError(msg) from error
