"""alflow.toml as frozen, typed settings."""

from alflow.config import reference
from alflow.config.base import Section
from alflow.config.document import document
from alflow.config.executor import Executor, Local, Parsl, Slurm
from alflow.config.failures import Failures
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
