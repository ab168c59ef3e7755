"""Committees from files, whatever the kind of their model."""

from pathlib import Path

import h5py
from ase.calculators.calculator import Calculator

from alflow.committee.committee import Committee
from alflow.errors import PotentialError
from alflow.models.kinds import model_class


def read_committee(group: h5py.Group) -> Committee:
    """Read a committee that :meth:`Committee.write` wrote; errors as of :meth:`Committee.read`."""
    return Committee.read(group, model_class)


def load(path: str | Path, baseline: Calculator | None = None) -> Committee:
    """Read a committee from a file of :meth:`Committee.save` or from the train.h5 of a run.

    Raises
    ------
    PotentialError
        The file is missing or not a model.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            committee = read_committee(file["model"])
    except FileNotFoundError as error:
        msg = f"{path}: no such file: give the path of a model written by `alflow train` or `alflow export`"
        raise PotentialError(msg) from error
    except (OSError, KeyError, PotentialError) as error:
        msg = f"{path} is not a model that alflow can read ({error}): make it again with `alflow train`"
        raise PotentialError(msg) from error
    return committee if baseline is None else committee.with_baseline(baseline)
