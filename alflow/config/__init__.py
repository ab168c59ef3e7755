"""alflow.toml as frozen, typed settings."""

from alflow.config.base import Section
from alflow.config.document import document
from alflow.config.loading import FILE, load, load_baseline, load_observables, parse
from alflow.config.places import sections
from alflow.config.reference import AseBaseline, Baseline, ModelBaseline, Tblite, TbliteBaseline, Weighted
from alflow.config.settings import (
    Converge,
    Executor,
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
    "ModelBaseline",
    "Potential",
    "Sample",
    "Section",
    "Select",
    "Settings",
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
    "sections",
]
