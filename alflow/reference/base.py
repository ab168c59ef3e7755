"""What a reference method is."""

import importlib
from typing import Any, Protocol

from ase import Atoms
from ase.calculators.calculator import Calculator

from alflow.errors import ConfigError

_KINDS = {"tblite": ("alflow.reference.tblite", "TbliteMethod")}


class ReferenceMethod(Protocol):
    """A way to calculate energies and forces; its instances are small, frozen and can be sent to other processes."""

    def identity(self) -> str:
        """Everything that decides the result, as canonical JSON: part of the name of every calculation."""

    def code(self) -> str:
        """Program and version."""

    def calculate(self, atoms: Atoms) -> Atoms:
        """A copy with energy (eV), forces (eV/Å) and, if periodic, stress (eV/Å^3) as its calculator's results.

        ``atoms.info`` may hold ``charge`` (e) and ``multiplicity`` (2S + 1). The result does not depend on what was
        calculated before.

        Raises
        ------
        LabelError
            With one word of the taxonomy: not_converged, crashed, not_finite, ...
        """

    def calculator(self) -> Calculator:
        """An ASE calculator of this method, to serve as a baseline."""


def build(kind: str, **options: Any) -> ReferenceMethod:
    """The reference method of a kind with its options; ConfigError for a kind that there is not."""
    if kind not in _KINDS:
        msg = f"no reference method {kind!r}: expected one of {', '.join(_KINDS)}"
        raise ConfigError(msg)
    module, name = _KINDS[kind]
    method: ReferenceMethod = getattr(importlib.import_module(module), name)(**options)
    return method
