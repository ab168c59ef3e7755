"""Formats of files: one module for each that is read otherwise than by ASE alone."""

from pathlib import Path

from alflow.data.formats import (
    aims,
    ase_db,
    by_ase,
    castep,
    cp2k,
    deepmd,
    espresso,
    extxyz,
    ipi,
    lammps,
    ml_ab,
    mtp,
    orca,
    runner,
    vasp,
)
from alflow.data.formats.base import HEAD, Format, opened

FORMATS: tuple[Format, ...] = (
    deepmd.DEEPMD,
    mtp.MTP,
    ml_ab.ML_AB,
    runner.RUNNER,
    lammps.DUMP_WITH_UNITS,
    lammps.DUMP,
    lammps.DATA_WITH_UNITS,
    lammps.DATA,
    ipi.IPI,
    vasp.VASPRUN,
    vasp.OUTCAR,
    espresso.ESPRESSO,
    aims.AIMS,
    cp2k.CP2K,
    orca.ORCA,
    orca.ENGRAD,
    castep.CASTEP,
    ase_db.DATABASE,
    extxyz.EXTXYZ,
    by_ase.BY_ASE,
)
"""Those that are known; the first that claims a file reads it, and the last claims all that is left."""


def format_of(path: Path) -> Format:
    """The format of a file or folder."""
    head = _head(path)
    return next(known for known in FORMATS if known.claims(path, head))


def _head(path: Path) -> str:
    """The first characters of a file of text; nothing of others."""
    if not path.is_file():
        return ""
    try:
        with opened(path) as file:
            beginning = file.read(HEAD)
    except (OSError, EOFError):  # of what is not compressed as its name says
        return ""
    return "" if "\0" in beginning else beginning
