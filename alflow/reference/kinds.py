"""The kinds of ``[reference]`` and ``[baseline]`` that are built into alflow, in the order of the documentation."""

import json
from collections.abc import Mapping
from typing import Any

from alflow.errors import ConfigError
from alflow.reference.codes.aims import AimsMethod
from alflow.reference.codes.ase_calculator import AseBaseline, AseMethod
from alflow.reference.codes.command import CommandMethod
from alflow.reference.codes.cp2k import Cp2kMethod
from alflow.reference.codes.dataset import DatasetMethod
from alflow.reference.codes.espresso import EspressoMethod
from alflow.reference.codes.gpaw import GpawMethod
from alflow.reference.codes.manual import ManualMethod
from alflow.reference.codes.model import ModelBaseline
from alflow.reference.codes.orca import OrcaMethod
from alflow.reference.codes.pyscf import PyscfMethod
from alflow.reference.codes.tblite import TbliteBaseline, TbliteMethod
from alflow.reference.codes.vasp import VaspMethod
from alflow.reference.method import BaselineMethod, MethodSection, Weighted
from alflow.section import kind_of

REFERENCES: Mapping[str, type[MethodSection]] = {
    kind_of(method): method
    for method in (
        TbliteMethod,
        PyscfMethod,
        Cp2kMethod,
        EspressoMethod,
        OrcaMethod,
        VaspMethod,
        AimsMethod,
        GpawMethod,
        AseMethod,
        CommandMethod,
        DatasetMethod,
        ManualMethod,
    )
}
"""What ``[reference]`` may be; the first where no kind is given."""

BASELINES: Mapping[str, type[Weighted]] = {
    kind_of(method): method for method in (TbliteBaseline, AseBaseline, ModelBaseline)
}
"""What ``[baseline]`` may be; the first where no kind is given."""

_BUILTIN = {"tblite"}
"""Kinds that a description in a file may name: nothing that a file says is imported."""


def build(kind: str, **options: Any) -> Any:
    """The reference method of a kind with its options, as the keys of its table in alflow.toml.

    Raises
    ------
    ConfigError
        There is no such kind.
    ValidationError
        An option is unknown, missing or not allowed.
    """
    if kind not in REFERENCES:
        msg = f"no reference method {kind!r}: expected one of {', '.join(REFERENCES)}"
        raise ConfigError(msg)
    return REFERENCES[kind].model_validate({"kind": kind, **options})


def described(identity: str) -> BaselineMethod | None:
    """The method of an identity that a file holds; None unless it is one of those built into alflow."""
    try:
        options = json.loads(identity)
        method: BaselineMethod | None = build(**options) if options["kind"] in _BUILTIN else None
    except (ValueError, TypeError, KeyError):
        return None
    return method
