"""Reference methods: structures in, energies and forces out, and every failure with its reason."""

from alflow.reference.base import REASONS, BaselineMethod, ReferenceMethod, Result, build, described
from alflow.reference.consistency import Limits, check_consistent, limits_of
from alflow.reference.dataset import DatasetMethod
from alflow.reference.dispatch import Task, baseline_result, failure, label_one, try_one
from alflow.reference.manual import ManualMethod
from alflow.reference.opening import baseline_method, reference_method

__all__ = [
    "REASONS",
    "BaselineMethod",
    "DatasetMethod",
    "Limits",
    "ManualMethod",
    "ReferenceMethod",
    "Result",
    "Task",
    "baseline_method",
    "baseline_result",
    "build",
    "check_consistent",
    "described",
    "failure",
    "label_one",
    "limits_of",
    "reference_method",
    "try_one",
]
