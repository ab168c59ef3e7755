"""What defines a committee, and the length scales that follow from its species."""

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from alflow.errors import PotentialError
from alflow.section import Count, NotNegative, Positive, Section

Array = NDArray[np.float64]

USUAL_CUTOFF = 5.5
"""What :mod:`alflow.models.ace.choice` begins with, Å."""

USUAL_ENERGY_WEIGHT = 20.0
"""Likewise."""

_LENGTH = 1.6  # r_0 over the sum of two covalent radii
_SIGNS = {"greater than or equal to": ">=", "less than or equal to": "<=", "greater than": ">"}
_COLUMNS = 4000  # features of all species together, unless n_features is given
_PAIR, _PAIRS = 36, 500  # radial functions of pair terms, and further pair terms of all species, unless n_pair is given


class AceKeys(Section):
    """What alflow.toml and the keywords of ``alflow.fit`` have in common; the same defaults serve all matter.

    They were chosen by cross-validation within training sets of silicon, copper, water and ethanol: molecules, liquids
    and solids. Cutoff, number of features and weight of energies are chosen for the labels at hand
    (:func:`alflow.models.ace.choice.choose`).
    """

    cutoff: Positive | None = Field(
        None, description="radius within which an atom sees others, Å; by default 4.5 to 6.5, as suits the labels"
    )
    n_max: Count = Field(8, le=30, description="radial functions")
    l_max: int = Field(4, ge=0, le=12, description="largest l of the spherical harmonics")
    n_pair: Count | None = Field(
        None,
        le=60,
        description="radial functions of pair terms, n_max at least; 36 by default, fewer from five species on",
    )
    n_features: Count | None = Field(
        None,
        description="features of an atom, at most, besides those of n_pair; by default as many as suit the labels, "
        "up to 1250, or fewer for four species",
    )
    n_pseudo_species: Count | None = Field(
        None,
        le=118,
        description="pseudo-species that stand for more species in products; 4 by default, fewer with few features",
    )
    energy_weight: Positive | None = Field(
        None,
        description="weight of energies: eV over sqrt(atoms), relative to forces in eV/Å; by default 20, 60 or 200, as "
        "suits the labels, and 20 where both cutoff and n_features are given",
    )
    force_weight: NotNegative = Field(1.0, description="weight of forces")
    stress_weight: NotNegative = Field(
        0.1, description="weight of stresses: eV of virial over sqrt(atoms), relative to forces in eV/Å"
    )
    weights: dict[str, Positive] = Field(
        {},
        description="by what errors of structures of a kind are multiplied in the fit, a table: "
        "the kind is a system, a `config_type` of a file, `initial` or `cycle 3`",
    )


class AceSettings(AceKeys):
    """What defines the potential.

    An energy row is weighted by ``energy_weight`` over the square root of the number of atoms, relative to 1 eV/Å of
    force: 20 makes 1 meV/atom in 100 atoms count like 0.2 eV/Å of one force component. A stress is learned as a virial,
    stress times volume, which is weighted by ``stress_weight`` over the same root. The largest default of
    ``n_features`` leaves all species 4000 together: a fit takes memory in proportion to the square of that and time to
    the cube.
    """

    smoothness: NotNegative = Field(
        2.0, description="the prior's standard deviation of a coefficient falls with its degree to this power"
    )

    @classmethod
    def checked(cls, given: Mapping[str, Any]) -> "AceSettings":
        """Settings from keywords; PotentialError for an unknown one or a value that is not allowed."""
        known = list(cls.model_fields)
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
                msg = f"unknown setting {name} of the potential: {hint}"
                raise PotentialError(msg)
        # numbers of NumPy are as good as Python's, which a file has
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            problem = error.errors()[0]
            expected = problem["msg"].removeprefix("Input should be ")
            for words, sign in _SIGNS.items():
                expected = expected.replace(words, f"a number {sign}")
            msg = f"potential setting {problem['loc'][0]}: expected {expected}, found {problem['input']}"
            raise PotentialError(msg) from error

    def plain(self) -> dict[str, Any]:
        """The settings by name, as JSON can hold them: what :meth:`checked` takes again."""
        return self.model_dump()

    def pairs_of(self, n_species: int) -> int:
        """Radial functions of the features of one neighbour."""
        further = _PAIRS // n_species**2  # their number grows with the square of that of species
        return min(_PAIR, self.n_max + further) if self.n_pair is None else int(self.n_pair)

    @property
    def radius(self) -> float:
        """The cutoff, the usual one where none is given, Å."""
        return USUAL_CUTOFF if self.cutoff is None else float(self.cutoff)

    @property
    def weight_of_energies(self) -> float:
        """The usual one where none is given."""
        return USUAL_ENERGY_WEIGHT if self.energy_weight is None else float(self.energy_weight)

    def features_of(self, n_species: int) -> int:
        """Features of an atom, at most."""
        return min(1250, _COLUMNS // n_species) if self.n_features is None else int(self.n_features)


def covalent(numbers: tuple[int, ...]) -> Array:
    """Sum of the covalent radii of each pair of species, shape (S, S), Å."""
    radii = covalent_radii[list(numbers)]
    return np.asarray(radii[:, None] + radii)


def lengths(numbers: tuple[int, ...]) -> Array:
    """r_0 of the radial functions of each pair of species, shape (S, S), Å."""
    return _LENGTH * covalent(numbers)
