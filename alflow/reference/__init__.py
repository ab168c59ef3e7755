"""Reference methods: structures in, energies and forces out, and every failure with its reason."""

from alflow.reference.base import ReferenceMethod, build, described
from alflow.reference.dispatch import baseline_result, failure, label_one

__all__ = ["ReferenceMethod", "baseline_result", "build", "described", "failure", "label_one"]
