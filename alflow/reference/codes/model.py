"""Another committee of alflow as a baseline."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from ase import Atoms
from pydantic import Field

from alflow.errors import ConfigError, PotentialError
from alflow.reference.electrons import ELECTRONS
from alflow.reference.method import Result, Weighted, evaluate
from alflow.version import __version__

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

    from alflow.committee.committee import Committee


class ModelBaseline(Weighted):
    """The mean of another committee of alflow."""

    kind: Literal["model"] = Field(description="another committee of alflow, its mean")
    file: str = Field(min_length=1, description="of `alflow train` or `alflow export`; relative to here")
    trust: bool = Field(False, description="run the calculators that the file names, programs of others")

    def at(self, directory: Path) -> Self:
        """The baseline in a run directory: its file is found from anywhere."""
        return self.model_copy(update={"file": str(directory.absolute() / self.file)})

    def identity(self) -> str:
        """Canonical JSON of the content of the file, wherever it lies; ConfigError when it cannot be read."""
        try:
            digest = hashlib.sha256(Path(self.file).read_bytes()).hexdigest()
        except OSError as error:
            msg = f"{self.file}: {error.strerror}: give the file of a model, relative to the run directory"
            raise ConfigError(msg) from error
        return json.dumps({"kind": "model", "sha256": digest}, sort_keys=True)

    def code(self) -> str:
        """Program and version."""
        return f"alflow {__version__}"

    def calculator(self) -> "Calculator":
        """Of the mean; ConfigError when the file is not that of a model."""
        try:
            committee = _loaded(self.file, self.identity(), self.trust)
        except PotentialError as error:
            raise ConfigError(str(error)) from error
        if committee.has_baseline:
            msg = f"{self.file}: trained on a baseline of its own, which a baseline cannot have: train it without"
            raise ConfigError(msg)
        return committee.calculator()

    def check(self) -> None:
        """ConfigError when the file is not that of a model."""
        self.calculator()

    def told(self) -> frozenset[str]:
        """All of it: a potential has no electrons, and is as good a baseline of one state as of another."""
        return ELECTRONS

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:  # noqa: ARG002 - it writes no files
        """Energy, forces and, if periodic, stress; LabelError as of the protocol."""
        return evaluate(atoms, self.calculator(), self.code())


@lru_cache(maxsize=1)
def _loaded(file: str, _identity: str, trust: bool) -> "Committee":
    from alflow.models.files import load  # it compiles the kernels

    return load(file, trust=trust)
