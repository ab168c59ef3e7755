"""Reference methods: structures in, energies and forces out, and every failure with its reason."""

from alflow.reference.base import ReferenceMethod, build
from alflow.reference.dispatch import failure, label_one

__all__ = ["ReferenceMethod", "build", "failure", "label_one"]
