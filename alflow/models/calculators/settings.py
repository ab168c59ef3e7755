"""What defines members that are there already."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from alflow.section import Section
from alflow.workers.recipe import PYTHON, Parameters, Recipe

MEAN = "alflow.models.mean.mean_of"
"""Makes the calculator of a member that is a model file of alflow."""

DOTTED = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$"


class Member(Section):
    """A member: an ASE calculator, or a model file of alflow."""

    calculator: str | None = Field(
        None, pattern=DOTTED, description="module.Class of an ASE calculator, or of a function that makes one"
    )
    parameters: Parameters = Field({}, description="its keyword arguments, a table; files are found here")
    python: str | None = Field(None, min_length=1, description=PYTHON)
    file: str | None = Field(None, min_length=1, description="a model of `alflow train` or `alflow export` instead")

    trust: bool = Field(False, description="run the calculators that `file` names, programs of others")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.calculator is None) == (self.file is None):
            msg = "expected calculator or file, one of both"
            raise ValueError(msg)
        if self.file is not None and (self.parameters or self.python):
            msg = "a file of alflow takes neither parameters nor python"
            raise ValueError(msg)
        return self

    def recipe(self, directory: Path) -> Recipe:
        """How its calculator is made, files found in a directory."""
        if self.file is not None:
            return Recipe(MEAN, {"file": str(directory.absolute() / self.file), "trust": self.trust})
        return Recipe(str(self.calculator), self.parameters, self.python or "").located(directory)


class CalculatorsKeys(Section):
    """What alflow.toml and the keywords of ``alflow.fit`` have in common."""

    members: tuple[Member, ...] = Field(
        min_length=2, strict=False, description="of the committee; 4 or more, to be calibrated"
    )
