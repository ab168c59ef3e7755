"""Plain arrays: member energies, driving energies and observables from NumPy, text or HDF5 files.

Rows are frames, columns are members, observables, or the models of one observable.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from alflow.averages.reweighting import Chunk, Quantity
from alflow.data.units import ENERGIES
from alflow.errors import AverageError

Array = NDArray[np.float64]

MEAN = "mean"
"""Given for a file of driving energies: the mean of the members drove the run."""

_ROWS = 8192  # of a piece, at most
_NUMBERS = 1_000_000  # of a piece of a binary file, at most
_BYTES = 250_000  # of a piece of a text file: it stays in a processor's cache while it is parsed
_HDF5 = {".h5", ".hdf5", ".hdf"}


@dataclass(frozen=True)
class Arrays:
    """Files of a walker each, in the same order.

    Attributes
    ----------
    energies : sequence of str
        Member energies, (n, M): a path; for HDF5 ``path:dataset``.
    driving : sequence of str
        Driving energies, (n,), or ``mean``.
    values : sequence of str
        Observables, (n, D); none for the potential energy alone.
    unit : float
        Of the energies, eV (:func:`energy_unit`).
    models : bool
        The columns of ``values`` are models of one observable.
    """

    energies: Sequence[str]
    driving: Sequence[str]
    values: Sequence[str]
    unit: float = 1.0
    models: bool = False

    def quantities(self) -> list[Quantity]:
        """What is averaged: the observables, or the potential energy where none are given."""
        if not self.values:
            return [Quantity("potential_energy")]
        n_models = _first_row(self.values[0]).shape[1] if self.models else 1
        return [Quantity(", ".join(self.values), n_models=n_models)]

    def chunks(self) -> Iterator[Chunk]:
        """Every frame of every walker.

        Raises
        ------
        AverageError
            A file is missing or cannot be read, or files do not fit each other.
        """
        driving = list(self.driving) * (len(self.energies) if list(self.driving) == [MEAN] else 1)
        lists = {"driving energies": driving, **({"observables": list(self.values)} if self.values else {})}
        for name, files in lists.items():
            if len(files) != len(self.energies):
                msg = (
                    f"expected as many files of {name} as of member energies, {len(self.energies)}, found {len(files)}"
                )
                raise AverageError(msg)
        for walker, place in enumerate(self.energies):
            names = [place]
            names += [] if driving[walker] == MEAN else [driving[walker]]
            names += [self.values[walker]] if self.values else []
            for pieces in _aligned(names):
                energies = pieces[0] * self.unit
                drive = (
                    energies.mean(axis=1)
                    if driving[walker] == MEAN
                    else _single(pieces[1], driving[walker]) * self.unit
                )
                values = pieces[-1] if self.values else energies[:, None, :]
                yield Chunk(walker, energies, drive, (values,))


def _single(rows: Array, name: str) -> Array:
    if rows.shape[1] != 1:
        msg = f"{name}: expected one driving energy in each row, found {rows.shape[1]} columns"
        raise AverageError(msg)
    return rows[:, 0]


def _first_row(place: str) -> Array:
    for piece in _rows(place):
        return piece[:1]
    msg = f"{place} has no rows: expected a row for each frame"
    raise AverageError(msg)


def _aligned(places: Sequence[str]) -> Iterator[list[Array]]:
    """Pieces of several files with the same number of rows; AverageError when one ends before the others."""
    readers = [_rows(place) for place in places]
    rest: list[Array | None] = [None] * len(places)
    done = 0
    while True:
        rest = [next(r, None) if x is None or not len(x) else x for r, x in zip(readers, rest, strict=True)]
        ended = [place for place, x in zip(places, rest, strict=True) if x is None]
        if len(ended) == len(places):
            return
        if ended:
            longer = next(place for place in places if place not in ended)
            msg = f"{ended[0]} has {done} frames, {longer} has more: expected a row for each frame in both"
            raise AverageError(msg)
        there = [x for x in rest if x is not None]
        n = min(len(x) for x in there)
        yield [x[:n] for x in there]
        rest = [x[n:] for x in there]
        done += n


def _rows(place: str) -> Iterator[Array]:
    """A file piece by piece, (n, columns)."""
    path, _, dataset = place.partition(":")
    if not Path(path).is_file():
        msg = f"{path}: no such file: give the path of a .npy, text or HDF5 file (of the latter path:dataset)"
        raise AverageError(msg)
    suffix = Path(path).suffix
    try:
        if suffix == ".npy":
            yield from _sliced(np.load(path, mmap_mode="r"), place)
        elif suffix in _HDF5:
            yield from _hdf5(path, dataset)
        else:
            yield from _text(Path(path))
    except (OSError, ValueError) as error:
        msg = f"{place} cannot be read as an array of numbers: {' '.join(str(error).split())}"
        raise AverageError(msg) from error


def _hdf5(path: str, dataset: str) -> Iterator[Array]:
    import h5py

    with h5py.File(path) as file:
        found = file.get(dataset) if dataset else None
        if not isinstance(found, h5py.Dataset):
            names: list[str] = []
            file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
            what = f"no dataset {dataset!r}" if dataset else "which dataset?"
            msg = f"{path}: {what}: expected {path}:NAME with one of {', '.join(names[:10]) or '(none)'}"
            raise AverageError(msg)
        yield from _sliced(found, f"{path}:{dataset}")


def _sliced(array: Array, name: str) -> Iterator[Array]:
    if array.ndim not in {1, 2} or array.dtype.kind not in "fiu":
        msg = f"{name}: expected numbers of shape (frames,) or (frames, columns), found {array.dtype} {array.shape}"
        raise AverageError(msg)
    count = max(1, min(_ROWS, _NUMBERS // (array.shape[1] if array.ndim == 2 else 1)))
    for first in range(0, len(array), count):
        piece = np.asarray(array[first : first + count], dtype=float)
        yield piece.reshape(len(piece), -1)


def _text(path: Path) -> Iterator[Array]:
    """Columns of numbers; what follows # is a comment."""
    columns: int | None = None
    rows: list[Array] = []
    with path.open("rb") as file:
        for text in _lines(file):
            columns, some = _parsed(text, columns)
            rows.append(some)
            if sum(map(len, rows)) >= _ROWS:
                yield np.concatenate(rows)
                rows = []
    if sum(map(len, rows)):
        yield np.concatenate([some for some in rows if len(some)])


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Some lines at a time."""
    rest = b""
    while block := file.read(_BYTES):
        text, cut, rest = (rest + block).rpartition(b"\n")
        if cut:
            yield text
    if rest.strip():
        yield rest


def _parsed(text: bytes, columns: int | None) -> tuple[int | None, Array]:
    """Numbers of some lines, and how many columns there are."""
    rows = _plain(text)
    if rows is None:
        lines = [line for line in text.decode().splitlines() if line.partition("#")[0].strip()]
        rows = np.loadtxt(lines, ndmin=2) if lines else np.zeros((0, columns or 0))
    if columns is not None and len(rows) and rows.shape[1] != columns:
        msg = f"expected {columns} columns in every row, found {rows.shape[1]}"
        raise ValueError(msg)
    return (rows.shape[1] if len(rows) else columns), rows


def _plain(text: bytes) -> Array | None:
    """The same by a reader of JSON, three times as fast; None for what is not plain: comments, NaN, ragged rows."""
    for separate in (_single_spaces, _any_spaces):
        try:
            rows = np.array(orjson.loads(b"[[" + separate(text) + b"]]"), dtype=float)
        except ValueError:
            continue
        if rows.ndim == 2 and rows.size:
            return rows
    return None


def _single_spaces(text: bytes) -> bytes:
    return text.replace(b"\n", b"],[").replace(b" ", b",")


def _any_spaces(text: bytes) -> bytes:
    return b"],[".join(b",".join(line.split()) for line in text.split(b"\n"))


def energy_unit(text: str) -> float:
    """A unit of energy in eV; AverageError when it is none."""
    known = {name.lower(): value for name, value in ENERGIES.items()}
    key = re.sub(r"\s", "", text).lower()
    if key not in known:
        msg = f"unknown unit of energy {text!r}: expected one of {', '.join(ENERGIES)}"
        raise AverageError(msg)
    return known[key]
