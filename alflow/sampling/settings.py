"""The tables ``[sample]`` and ``[select]``: how new structures are found, and which of them are labelled."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from alflow.section import Count, NotNegative, Positive, Section, Share, as_tuple


class Sample(Section):
    """Walkers: Langevin dynamics on the committee's mean or, with a baseline, on the weighted baseline."""

    candidates: str | None = Field(
        None, min_length=1, description="structures that are judged instead of walks, a file; relative to here"
    )
    length_unit: str | None = Field(None, description="of the file of candidates, if not its format's: A, bohr, nm")
    species: tuple[str, ...] = Field(
        (), description="chemical symbols of its types, in their order, if it only numbers them", strict=False
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
    grade_max: Positive = Field(
        1e5, description="a walker stops above this extrapolation grade of an atom, which is about 1 where labels are"
    )
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
    grade_min: Positive = Field(
        1e3, description="extrapolation grade of an atom from which on a frame is a candidate, whatever its sigma"
    )
    duplicate_distance: NotNegative = Field(
        0.05,
        description="closer structures count as one; 1 is the distance of neighbours among the labelled structures of "
        "their system and composition",
    )
    force_max: Positive = Field(30.0, description="frames with larger forces are not labelled, eV/Å")
    distance_ratio_min: Share = Field(
        0.55, description="frames with closer atoms are not labelled (share of the covalent radii)"
    )
