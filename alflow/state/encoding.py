"""How a record, a dataclass of :mod:`alflow.records`, lies in an HDF5 file.

A field is of one of these kinds, and its kind decides where it goes in the file:

=========================  ============================================================================
field type                 place in the file
=========================  ============================================================================
``int, float, bool, str``  an attribute of the group ``/record``
``ndarray``                the dataset ``/record/<field>``
``tuple[str, ...]``        the dataset ``/record/<field>``, variable-length UTF-8 strings
``tuple[Atoms, ...]``      the H5MD group ``/particles/<field>`` (znh5md writes and reads it); beside it
                           ``/record/<field>_info``, ``Atoms.info`` as JSON, and ``/record/<field>_momenta``, shape
                           (sum N, 3), because H5MD holds velocities, whose division by the mass loses a bit
another dataclass          the group ``/record/<field>``, by the same rules
anything else              the group ``/model``: its ``write`` and the function ``read`` of the field's metadata
=========================  ============================================================================

Of ``Atoms`` a record keeps species, positions, cell, periodicity, momenta, info, and the energy, forces and stress of
the calculator. The rest is dropped without a word: constraints, tags, masses that are not the element's, initial
charges and moments; a state file says where atoms are, not how somebody else treated them. What is kept comes back to
the last bit, except in ``info``, where arrays and tuples become lists and keys become text. Text that HDF5 cannot hold
is mended: NUL and lone surrogates, which occur in what a crashed program says, become replacement characters.
"""

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast, get_origin, get_type_hints

import h5py
import numpy as np
import znh5md
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

Record = TypeVar("Record")

_RESULTS = ("energy", "forces", "stress")


def write(record: Any, file: h5py.File) -> None:
    """Write a record (any dataclass of the field kinds above) into an empty HDF5 file.

    The same record gives the same bytes.

    Raises
    ------
    TypeError
        ``Atoms.info`` holds something that JSON has no form for.
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
        elif hint == tuple[Atoms, ...]:
            _write_frames(file, group, name, value)
        elif get_origin(hint) is np.ndarray:
            group.create_dataset(name, data=value)
        elif is_dataclass(hint):
            _write_fields(file, group.create_group(name), value)
        else:
            value.write(file.create_group("model"))


def read(cls: type[Record], file: h5py.File) -> Record:
    """Read a record of the given class.

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
    return _read_fields(cls, file, group)


def _read_fields(cls: type[Record], file: h5py.File, group: h5py.Group) -> Record:
    values: dict[str, Any] = {}
    readers = _readers(cls)
    for name, hint in _hints(cls).items():
        if hint in {int, float, bool, str}:
            values[name] = hint(group.attrs[name])
        elif hint == tuple[str, ...]:
            values[name] = _read_texts(group, name)
        elif hint == tuple[Atoms, ...]:
            values[name] = _read_frames(file, group, name)
        elif get_origin(hint) is np.ndarray:
            values[name] = group[name][()]
        elif is_dataclass(hint):
            values[name] = _read_fields(cast("type", hint), file, group[name])
        else:
            values[name] = readers[name](file["model"])
    return cls(**values)


def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _readers(cls: type) -> dict[str, Any]:
    return {field.name: field.metadata.get("read") for field in fields(cls)}


def _write_texts(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    group.create_dataset(name, data=list(texts), dtype=h5py.string_dtype(), shape=(len(texts),))


def _read_texts(group: h5py.Group, name: str) -> tuple[str, ...]:
    return tuple(group[name].asstr()[()]) if len(group[name]) else ()


def _text(text: str) -> str:
    """Without what HDF5 refuses in a string."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _write_frames(file: h5py.File, group: h5py.Group, name: str, frames: Sequence[Atoms]) -> None:
    plain = [_plain(frame) for frame in frames]
    names = [f"structure {index} of {name}" for index in range(len(plain))]
    for frame, where in zip(plain, names, strict=True):
        _check(frame, where)
    infos = [_json(frame.info, where) for frame, where in zip(frames, names, strict=True)]
    _write_texts(group, f"{name}_info", infos)
    momenta = [frame.arrays["momenta"] for frame in plain if "momenta" in frame.arrays]
    group.create_dataset(f"{name}_momenta", data=np.concatenate([np.zeros((0, 3)), *momenta]))
    if plain:
        znh5md.IO(file_handle=file, particles_group=name).extend(plain)


def _read_frames(file: h5py.File, group: h5py.Group, name: str) -> tuple[Atoms, ...]:
    infos = _read_texts(group, f"{name}_info")
    if not infos:
        return ()
    momenta = group[f"{name}_momenta"][()]
    frames = [_plain(frame) for frame in znh5md.IO(file_handle=file, particles_group=name)[:]]
    first = 0
    for frame, info in zip(frames, infos, strict=True):
        frame.info = json.loads(info)
        if "momenta" in frame.arrays:
            frame.arrays["momenta"] = momenta[first : first + len(frame)].copy()
            first += len(frame)
    return tuple(frames)


def _plain(atoms: Atoms) -> Atoms:
    """Copy what a record keeps of a structure, info excepted."""
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


def _check(plain: Atoms, where: str) -> None:
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


def _json(info: dict[str, Any], where: str) -> str:
    """``Atoms.info`` as JSON, numpy's numbers and arrays included."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic) and value.dtype.char != "g":  # a long double has no plain form
            return value.tolist()
        msg = f"found a {type(value).__name__}, expected text, numbers, or lists and dictionaries of them"
        raise TypeError(msg)

    try:
        return json.dumps(info, sort_keys=True, default=plain)
    except (TypeError, ValueError) as error:
        msg = f"{where}: info cannot be kept: {error}; remove that entry from Atoms.info"
        raise TypeError(msg) from error
