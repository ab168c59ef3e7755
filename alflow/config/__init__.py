"""alflow.toml as frozen, typed settings."""

from alflow.config.document import document
from alflow.config.kinds import Kinds, installed
from alflow.config.loading import FILE, load, load_baseline, load_observables, parse
from alflow.config.schema import schema
from alflow.config.settings import Converge, Settings, System

__all__ = [
    "FILE",
    "Converge",
    "Kinds",
    "Settings",
    "System",
    "document",
    "installed",
    "load",
    "load_baseline",
    "load_observables",
    "parse",
    "schema",
]
