"""The whole of alflow.toml, put together from the tables of all rooms; those of no other room are here.

The models are the documentation of every key: its unit, its default and what is allowed.
"""

from typing import Any, ClassVar

from pydantic import Field, ValidationError, model_validator

from alflow.averages.observables.settings import UserObservable
from alflow.config.kinds import Kinds
from alflow.executors.settings import Executor, Local
from alflow.models.settings import AnyPotential
from alflow.reference.failures import REASONS, Failures
from alflow.reference.method import MethodSection, Weighted
from alflow.sampling.settings import Sample, Select
from alflow.sampling.starts.settings import AnyStart
from alflow.section import Count, Positive, Section


class System(Section):
    """A system to be learned; one ``[[system]]`` for each."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="letters, digits, - and _; unique")
    structures: str = Field(
        min_length=1,
        description="file of initial structures, extended XYZ or another format of docs/formats.md; relative to here",
    )
    length_unit: str | None = Field(None, description="of that file, if not its format's: A, bohr, nm")
    species: tuple[str, ...] = Field(
        (), description="chemical symbols of its types, in their order, if it only numbers them", strict=False
    )
    charge: int = Field(0, description="total charge, e")
    multiplicity: Count = Field(1, description="spin multiplicity 2S+1")
    copies: int = Field(0, ge=0, description="randomly displaced copies of each structure that are labelled with it")
    rattle: Positive = Field(0.05, description="standard deviation of these displacements, Å")
    start: tuple[AnyStart, ...] | None = Field(
        None,
        description="structures made for cycle 0 besides, kinds or tables; by default some if there are fewer than 8",
        strict=False,
    )


class Converge(Section):
    """When to stop."""

    force_sigma: Positive | None = Field(None, description="stop when no sampled force sigma is above this, eV/Å")
    observable: str | None = Field(
        None, min_length=1, description="an average, as `alflow average` takes it, whose model error each cycle records"
    )
    tolerance: Positive | None = Field(
        None, description="stop when the model error of `observable` is below this, in its unit; of a curve the largest"
    )
    cycles: Count = Field(2, description="for so many cycles in a row; what is given of force_sigma and tolerance")
    max_cycles: Count = Field(10, description="stop after so many cycles in any case")
    max_labels: Count | None = Field(None, description="stop after so many labels in any case")

    @model_validator(mode="after")
    def _tolerance_of_something(self) -> "Converge":
        if self.tolerance is not None and self.observable is None:
            msg = f"tolerance = {self.tolerance:g} is of no observable: name one"
            raise ValueError(msg)
        return self


class Settings(Section):
    """The whole of alflow.toml.

    What is read from a file is of a class that :func:`alflow.config.schema.schema` makes of this one: there, tables of
    several kinds are one of the kinds that are installed.
    """

    kinds: ClassVar[Kinds]
    """What the tables with a ``kind`` may be."""

    seed: int = Field(0, ge=0, description="of every random choice")
    system: tuple[System, ...] = Field(min_length=1, description="what is to be learned", strict=False)
    potential: AnyPotential = Field(description="what is trained")
    baseline: Weighted | None = Field(
        None, description="a cheaper potential; the committee learns the difference from it"
    )
    reference: MethodSection = Field(description="what labels structures")
    sample: Sample = Field(Sample(), description="how new structures are found")
    select: Select = Field(Select(), description="which of them are labelled")
    converge: Converge = Field(Converge(), description="when to stop")
    observable: tuple[UserObservable, ...] = Field((), description="observables of your own", strict=False)
    executor: Executor = Field(Local(), description="where reference calculations run")
    failures: Failures = Field(Failures(), description="what becomes of reference calculations that fail")

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Settings":
        for what, names in (
            ("system", [s.name for s in self.system]),
            ("observable", [o.name for o in self.observable]),
        ):
            if len(set(names)) < len(names):
                msg = f"{what} names must differ, found {', '.join(names)}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _averages_are_over_walks(self) -> "Settings":
        if self.sample.candidates is not None and self.converge.observable is not None:
            msg = "converge.observable is an average over walks, and sample.candidates are none: leave out one of them"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _further_attempts_are_settings(self) -> "Settings":
        """Every change that [failures] makes gives a [reference], and an [executor], that are allowed."""
        for reason in REASONS:
            for number, changes in enumerate(getattr(self.failures, reason)):
                place = f"failures.{reason}[{number}]"
                of_method = {key: value for key, value in changes.items() if key != "executor"}
                _changed(self.reference, of_method, place)
                _changed(self.executor, changes.get("executor", {}), f"{place}.executor")
        return self

    @model_validator(mode="after")
    def _trainings_can_run(self) -> "Settings":
        """Every change that [potential] makes gives an [executor] that is allowed."""
        for place, changes in self.potential.executor_changes().items():
            _changed(self.executor, changes, place)
        return self

    @model_validator(mode="after")
    def _atoms_have_energies(self) -> "Settings":
        if self.baseline is not None and self.baseline.weighting == "atom" and not self.potential.by_atom:
            msg = (
                f'baseline.weighting = "atom": members of kind "{self.potential.kind}" have no gradients of the '
                'energies of atoms: expected "total" or "none"'
            )
            raise ValueError(msg)
        return self


def _changed(section: Section, changes: Any, place: str) -> None:
    """ValueError if a section with some keys changed is not allowed."""
    try:
        section.changed(changes)
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        keys = ".".join(str(part) for part in first["loc"])
        hint = f"expected a key of [{place.rpartition('.')[2] if 'executor' in place else 'reference'}]"
        msg = f"{place}: {keys}: {first['msg']}: {hint}"
        raise ValueError(msg) from error
