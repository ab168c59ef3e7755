"""Every table of alflow.toml but those of methods.

The models are the documentation of every key: its unit, its default and what is allowed.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from alflow.config.reference import Baseline, Reference, Tblite
from alflow.executors.settings import Executor, Local
from alflow.reference.failures import Failures
from alflow.section import Count, NotNegative, Positive, Section, Share, as_tuple


class System(Section):
    """A system to be learned; one ``[[system]]`` for each."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="letters, digits, - and _; unique")
    structures: str = Field(
        min_length=1, description="file of initial structures, any format ASE reads; relative to here"
    )
    charge: int = Field(0, description="total charge, e")
    multiplicity: Count = Field(1, description="spin multiplicity 2S+1")
    copies: int = Field(0, ge=0, description="randomly displaced copies of each structure that are labelled with it")
    rattle: Positive = Field(0.05, description="standard deviation of these displacements, Å")


class Potential(Section):
    """The built-in linear ACE committee."""

    kind: Literal["ace"] = Field("ace", description="the only kind so far")
    cutoff: Positive = Field(5.5, description="radius within which an atom sees others, Å")
    n_members: int = Field(16, ge=8, le=256, description="members of the committee; 8 or more, to be calibrated")
    n_max: Count = Field(8, le=30, description="radial functions")
    l_max: int = Field(4, ge=0, le=12, description="largest l of the spherical harmonics")
    n_features: Count | None = Field(
        None, description="features of an atom, at most; 1250 by default, fewer with more than three species"
    )
    energy_weight: Positive = Field(
        20.0, description="weight of energies: eV over sqrt(atoms), relative to forces in eV/Å"
    )
    force_weight: NotNegative = Field(1.0, description="weight of forces")


class Sample(Section):
    """Walkers: Langevin dynamics on the committee's mean or, with a baseline, on the weighted baseline."""

    candidates: str | None = Field(
        None, min_length=1, description="structures that are judged instead of walks, a file; relative to here"
    )
    temperature: Annotated[tuple[Positive, ...], BeforeValidator(as_tuple)] = Field(
        (300.0,), min_length=1, description="of the thermostat, K: a number or a list; `walkers` for each"
    )
    walkers: Count = Field(1, description="for each system and temperature")
    timestep: Positive = Field(0.5, le=10, description="fs")
    steps: Count = Field(2000, description="of each walker in each cycle")
    stride: Count = Field(20, description="steps between stored frames")
    friction: Positive = Field(0.01, description="of the thermostat, 1/fs")
    checkpoint: Count = Field(500, description="steps after which a walk is durable on disk")
    force_sigma_max: Positive = Field(1.0, description="a walker stops above this sigma of a force component, eV/Å")
    force_max: Positive = Field(30.0, description="a walker stops above this force on an atom, eV/Å")
    temperature_factor_max: Positive = Field(
        4.0, description="a walker stops when it is hotter than so many times its thermostat"
    )
    distance_ratio_min: Share = Field(
        0.55, description="a walker stops when two atoms are closer than this share of their covalent radii"
    )

    @model_validator(mode="after")
    def _stride_fits(self) -> "Sample":
        if self.stride > self.steps:
            msg = f"stride = {self.stride} is larger than steps = {self.steps}: no frame would be stored"
            raise ValueError(msg)
        return self


class Select(Section):
    """Which sampled frames go to the reference method."""

    strategy: Literal["fps"] = Field("fps", description="farthest-point sampling, measured from the training set")
    budget: Count = Field(20, description="structures in each cycle, at most")
    force_sigma_min: NotNegative = Field(
        0.05, description="calibrated sigma from which on a frame is a candidate, eV/Å"
    )
    duplicate_distance: NotNegative = Field(
        0.05, description="closer structures count as one; 1 is the spread of the training set"
    )
    force_max: Positive = Field(30.0, description="frames with larger forces are not labelled, eV/Å")
    distance_ratio_min: Share = Field(
        0.55, description="frames with closer atoms are not labelled (share of the covalent radii)"
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


class UserObservable(Section):
    """An observable of your own, for `alflow average` and ``[converge]``; one ``[[observable]]`` for each."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="by which it is asked for; unique")
    function: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$",
        description="module:function of the structure (ASE Atoms), a number or an array; module.py may be here",
    )
    unit: str = Field("", description="of what it returns")
    committee: bool = Field(
        False, description="it returns a value of each of several models of the property, along the first axis"
    )


_REASONS = ("not_converged", "crashed", "timed_out", "out_of_memory", "no_output", "not_finite", "inconsistent")


class Settings(Section):
    """The whole of alflow.toml."""

    seed: int = Field(0, ge=0, description="of every random choice")
    system: tuple[System, ...] = Field(min_length=1, description="what is to be learned", strict=False)
    potential: Potential = Field(Potential(), description="what is trained")
    baseline: Baseline | None = Field(
        None, description="a cheaper potential; the committee learns the difference from it"
    )
    reference: Reference = Field(Tblite(), description="what labels structures")
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
        for reason in _REASONS:
            for number, changes in enumerate(getattr(self.failures, reason)):
                place = f"failures.{reason}[{number}]"
                of_method = {key: value for key, value in changes.items() if key != "executor"}
                _changed(self.reference, of_method, place)
                _changed(self.executor, changes.get("executor", {}), f"{place}.executor")
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
