"""Labels of other runs: of this format, and of the one before it (schema 4), which nothing else reads any more."""

import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alflow.errors import StoreError, StructureError
from alflow.records.electrons import Electrons, levels
from alflow.records.label import LabelRecord
from alflow.state.file import read_file

if TYPE_CHECKING:
    import h5py
    from ase import Atoms

_OLD = b"alflow state file, sha256 of what follows: "
_BLOCK = 512  # bytes of its header
_SCHEMA = 4


def read_label_steps(folder: Path) -> list[LabelRecord]:
    """Read the labels of every cycle of a run, whatever format it has.

    Parameters
    ----------
    folder : Path
        The folder ``cycles`` of a run directory, or that directory.

    Raises
    ------
    StructureError
        There is no label.h5; one that is damaged, of another cycle, or of a format that is not known; one is missing
        between others.
    """
    place = folder / "cycles" if (folder / "cycles").is_dir() else folder
    cycles = sorted(int(path.name) for path in place.glob("[0-9]*") if path.name.isdigit())
    paths = {cycle: place / f"{cycle:03d}" / "label.h5" for cycle in cycles}
    there = [cycle for cycle, path in paths.items() if path.is_file()]
    if not there:
        msg = f"{folder} has no label.h5: give the folder cycles of a run directory that has finished a label step"
        raise StructureError(msg)
    missing = next((path for cycle, path in paths.items() if cycle < there[-1] and cycle not in there), None)
    if missing is not None:
        msg = f"{missing} is missing, although later labels are there: restore it from a backup"
        raise StructureError(msg)
    try:
        return [_read(paths[cycle], cycle) for cycle in there]
    except StoreError as error:
        raise StructureError(str(error)) from error


def _read(path: Path, cycle: int) -> LabelRecord:
    place: dict[str, str | int] = {"cycle": cycle, "step": "label"}
    content = path.read_bytes()
    if not content.startswith(_OLD):
        return read_file(path, LabelRecord, place)
    import h5py

    stated = content[len(_OLD) : len(_OLD) + 64].decode(errors="replace")
    if hashlib.sha256(content[_BLOCK:]).hexdigest() != stated:
        msg = f"{path} is damaged: its content does not match its checksum: restore it from a backup"
        raise StructureError(msg)
    with h5py.File(io.BytesIO(content), "r") as file:
        if (schema := int(file.attrs["schema"])) != _SCHEMA:
            msg = f"{path} has schema {schema}: expected {_SCHEMA}, or the present one"
            raise StructureError(msg)
        if any(file.attrs[key] != value for key, value in place.items()):
            msg = f"{path} is the file of {file.attrs['step']} of cycle {file.attrs['cycle']}: restore the right one"
            raise StructureError(msg)
        return _record_of_schema_4(file)


def _record_of_schema_4(file: "h5py.File") -> LabelRecord:
    """The labels of an old file; its failures, and what a baseline said, are left out."""
    group = file["record"]
    texts = {name: _texts(group, name) for name in ("ids", "code", "log", "extra", "changes")}
    record = LabelRecord.empty(str(group.attrs["method"]))
    for i, frame in enumerate(_structures(file)):
        extra = json.loads(texts["extra"][i] or "{}")
        record = record.with_label(
            texts["ids"][i],
            frame,
            float(group["wall_time"][i]),
            texts["code"][i],
            texts["log"][i],
            texts["changes"][i],
            electrons=_electrons(extra),
        )
    return record


def _structures(file: "h5py.File") -> "list[Atoms]":
    import znh5md

    infos = _texts(file["record"], "frames_info")
    frames = znh5md.IO(file_handle=file, particles_group="frames")[:] if infos else []
    for frame, info in zip(frames, infos, strict=True):
        frame.info = json.loads(info)
    return list(frames)


def _electrons(extra: dict[str, Any]) -> Electrons:
    """A list for each spin was kept, k-points one after the other, and what the k-point of each value weighs."""
    found = {name: levels(extra.get(name, ())) for name in ("eigenvalues", "occupations")}
    kpoint_weights = np.zeros(0)
    if "weights" in extra:
        weights = np.array(extra["weights"][0])  # those of all values together sum to the number of bands
        n_bands = round(float(weights.sum()))
        kpoint_weights = weights[::n_bands]
        found = {name: values.reshape(len(values), -1, n_bands) for name, values in found.items() if values.size}
    return Electrons(extra.get("fermi_energy", np.nan), kpoint_weights=kpoint_weights, **found)


def _texts(group: "h5py.Group", name: str) -> tuple[str, ...]:
    return tuple(group[name].asstr()[()]) if len(group[name]) else ()
