"""The tables ``[reference]`` and ``[baseline]``."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from alflow.config.base import Count, Positive, Section


class Tblite(Section):
    """Extended tight binding by tblite."""

    kind: Literal["tblite"] = Field("tblite", description="extended tight binding")
    method: Literal["GFN2-xTB", "GFN1-xTB", "IPEA1-xTB"] = Field("GFN2-xTB", description="parametrisation")
    accuracy: Positive = Field(1.0, description="numerical accuracy; smaller is tighter")
    electronic_temperature: Positive = Field(300.0, description="of the Fermi smearing, K")
    max_iterations: Count = Field(250, description="iterations until the charges must be self-consistent")


class Weighted(Section):
    """How a baseline takes part in the walks."""

    weighting: Literal["total", "atom", "none"] = Field(
        "total", description="walks trust the committee's correction by its sigma, in total or atom by atom, or always"
    )
    error: Positive | None = Field(
        None, description="uncertainty of the baseline, eV: of a structure or, with `atom`, of an atom; from the data"
    )


class TbliteBaseline(Weighted, Tblite):
    """Extended tight binding as a baseline."""

    method: Literal["GFN2-xTB", "GFN1-xTB", "IPEA1-xTB"] = Field("GFN1-xTB", description="parametrisation")


class AseBaseline(Weighted):
    """Any ASE calculator as a baseline."""

    kind: Literal["ase"] = Field(description="any ASE calculator")
    name: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*\.[A-Za-z_][A-Za-z0-9_]*$", description="module.Class of an ASE calculator"
    )
    parameters: dict[str, Any] = Field({}, description="its keyword arguments, a table")


class ModelBaseline(Weighted):
    """Another committee as a baseline."""

    kind: Literal["model"] = Field(description="another committee of alflow, its mean")
    file: str = Field(min_length=1, description="of `alflow train` or `alflow export`; relative to here")


def _kind(value: Any) -> str | None:
    """Which of the baselines a table describes."""
    kind = value.get("kind", "tblite") if isinstance(value, dict) else getattr(value, "kind", "tblite")
    return kind if isinstance(kind, str) else None


Baseline = Annotated[
    Annotated[TbliteBaseline, Tag("tblite")]
    | Annotated[AseBaseline, Tag("ase")]
    | Annotated[ModelBaseline, Tag("model")],
    Discriminator(_kind),
]
