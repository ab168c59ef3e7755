"""alflow.toml as frozen, typed settings."""

from alflow.config.document import document
from alflow.config.kinds import Kinds, installed
from alflow.config.loading import FILE, load, load_baseline, load_observables, load_parts, parse
from alflow.config.schema import schema
from alflow.config.settings import Converge, Settings, System
from alflow.executors.settings import Local

__all__ = [
    "FILE",
    "Converge",
    "Kinds",
    "Local",
    "Settings",
    "System",
    "document",
    "installed",
    "load",
    "load_baseline",
    "load_observables",
    "load_parts",
    "parse",
    "schema",
]
