"""Committees from files, whatever the kind of their model."""

from pathlib import Path

import h5py
from ase.calculators.calculator import Calculator

from alflow.committee.committee import Committee
from alflow.errors import PotentialError, StoreError
from alflow.models.kinds import model_class
from alflow.state.file import opened_file

_HDF5 = b"\x89HDF\r\n\x1a\n"  # with what models of the format before begin: they have no checksum in front


def read_committee(group: h5py.Group, path: Path | None = None) -> Committee:
    """Read the committee of a run, whose settings name the same calculators; errors as of :meth:`Committee.read`."""
    return Committee.read(group, model_class, path, trust=True)


def load(path: str | Path, baseline: Calculator | None = None, *, trust: bool = False) -> Committee:
    """Read a committee from a file of :meth:`Committee.save` or from the train.h5 of a run.

    Parameters
    ----------
    path : str or Path
        The file.
    baseline : ASE calculator, optional
        What its members were fitted to the differences from.
    trust : bool
        Whether calculators and interpreters that the file names may be run: those of members of the kinds "trained" and
        "calculators" are programs of others, and may do anything.

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
            committee = Committee.read(content["model"], model_class, path, trust=trust)
    except (KeyError, PotentialError, StoreError) as error:
        msg = f"{path} is not a model that alflow can read ({error}): make it again with `alflow train`"
        raise PotentialError(msg) from error
    return committee if baseline is None else committee.with_baseline(baseline)
