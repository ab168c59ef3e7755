"""alflow.toml as frozen, typed settings."""

from alflow.config import reference
from alflow.config.document import document
from alflow.config.loading import FILE, load, load_baseline, load_observables, parse
from alflow.config.places import sections
from alflow.config.reference import AseBaseline, Baseline, ModelBaseline, Reference, Tblite, TbliteBaseline, Weighted
from alflow.config.settings import (
    Converge,
    Potential,
    Sample,
    Select,
    Settings,
    System,
    UserObservable,
)
from alflow.executors.settings import Executor, Local, Parsl, Slurm
from alflow.reference.failures import Failures
from alflow.section import Section

__all__ = [
    "FILE",
    "AseBaseline",
    "Baseline",
    "Converge",
    "Executor",
    "Failures",
    "Local",
    "ModelBaseline",
    "Parsl",
    "Potential",
    "Reference",
    "Sample",
    "Section",
    "Select",
    "Settings",
    "Slurm",
    "System",
    "Tblite",
    "TbliteBaseline",
    "UserObservable",
    "Weighted",
    "document",
    "load",
    "load_baseline",
    "load_observables",
    "parse",
    "reference",
    "sections",
]
