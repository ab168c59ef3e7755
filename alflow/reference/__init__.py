"""Reference methods: structures in, energies and forces out, and every failure with its reason."""

from alflow.reference.base import ReferenceMethod, build, described
from alflow.reference.dispatch import below, failure, label_one

__all__ = ["ReferenceMethod", "below", "build", "described", "failure", "label_one"]
