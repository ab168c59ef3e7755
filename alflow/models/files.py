"""Committees from files, whatever the kind of their model."""

from pathlib import Path

import h5py
from ase.calculators.calculator import Calculator

from alflow.committee.committee import Committee
from alflow.errors import PotentialError, StoreError
from alflow.models.kinds import model_class
from alflow.state.file import opened_file

_HDF5 = b"\x89HDF\r\n\x1a\n"  # with what models of the format before begin: they have no checksum in front


def read_committee(group: h5py.Group) -> Committee:
    """Read a committee that :meth:`Committee.write` wrote; errors as of :meth:`Committee.read`."""
    return Committee.read(group, model_class)


def load(path: str | Path, baseline: Calculator | None = None) -> Committee:
    """Read a committee from a file of :meth:`Committee.save` or from the train.h5 of a run.

    Raises
    ------
    PotentialError
        The file is missing, damaged, not a model, or one of an earlier format.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path}: no such file: give the path of a model written by `alflow train` or `alflow export`"
        raise PotentialError(msg)
    with path.open("rb") as file:
        if file.read(len(_HDF5)) == _HDF5:
            msg = f"{path} was written by an alflow before its first release: train it again from its labels"
            raise PotentialError(msg)
    try:
        with opened_file(path, remedy="restore it from a backup") as (_, content):
            committee = read_committee(content["model"])
    except (KeyError, PotentialError, StoreError) as error:
        msg = f"{path} is not a model that alflow can read ({error}): make it again with `alflow train`"
        raise PotentialError(msg) from error
    return committee if baseline is None else committee.with_baseline(baseline)
