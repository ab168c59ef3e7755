"""``start`` of ``[[system]]``: which structures are made for cycle 0."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field

from alflow.section import Count, NotNegative, Positive, Section, as_tuple


class Rattled(Section):
    """Copies with every atom displaced at random."""

    kind: Literal["rattled"] = "rattled"
    count: Count = Field(8, description="structures that are made")
    displacement: Positive = Field(0.1, description="standard deviation in each direction, Å")


class Strained(Section):
    """Copies with the cell strained at random, and atoms displaced a little; molecules keep their shape."""

    kind: Literal["strained"] = "strained"
    count: Count = Field(6, description="structures that are made")
    strain: Positive = Field(0.04, lt=0.3, description="largest component of the symmetric strain, either sign")
    displacement: NotNegative = Field(0.03, description="of atoms besides, as of rattled, Å")


class Vacancies(Section):
    """Copies that lack atoms, or molecules where there are such, of the structure or of a supercell of it."""

    kind: Literal["vacancies"] = "vacancies"
    count: Count = Field(4, description="structures that are made")
    vacant: Count = Field(1, description="atoms or molecules that each lacks")
    displacement: NotNegative = Field(0.05, description="of the other atoms, as of rattled, Å")


class Packed(Section):
    """Disordered cells of the same composition: cubic, at given densities."""

    kind: Literal["packed"] = "packed"
    count: Count = Field(6, description="structures that are made")
    density: Annotated[tuple[Positive, ...], BeforeValidator(as_tuple)] = Field(
        (), description="g/cm^3, in turn; by default 1, 0.9 and 1.1 times that of the structure"
    )
    atoms: Count = Field(32, description="in a cell, at least: the structure's own, as often as that takes")


class Dimers(Section):
    """Pairs of atoms alone, of every pair of species, from the core outwards: what repels, and how strongly."""

    kind: Literal["dimers"] = "dimers"
    count: Count = Field(6, description="distances for each pair of species")
    nearest: Positive = Field(0.6, ge=0.5, description="smallest distance, in sums of covalent radii")
    farthest: Positive = Field(1.8, description="largest distance, in sums of covalent radii")


Start = Rattled | Strained | Vacancies | Packed | Dimers


def _named(value: Any) -> Any:
    """A kind alone is that kind with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


AnyStart = Annotated[Annotated[Start, Discriminator("kind")], BeforeValidator(_named)]
