"""What defines a committee, and the length scales that follow from its species."""

import difflib
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from alflow.errors import PotentialError

Array = NDArray[np.float64]

_LENGTH = 1.6  # r_0 over the sum of two covalent radii
_COLUMNS = 4000  # features of all species together, unless n_features is given


@dataclass(frozen=True)
class AceSettings:
    """What defines the potential; the same defaults serve molecules, liquids and solids.

    They were chosen by cross-validation within training sets of silicon, copper, water and ethanol.

    Attributes
    ----------
    cutoff : float
        Radius within which an atom sees others, Å.
    n_max, l_max : int
        Number of radial functions, and largest l of the spherical harmonics.
    n_features : int, optional
        Features of an atom, at most. By default 1250, and fewer when there are more than three species, so that all
        species have 4000 together: a fit takes memory in proportion to the square of that and time to the cube.
    energy_weight : float
        Weight of an energy row, divided by the square root of the number of atoms, relative to 1 eV/Å of force:
        20 makes 1 meV/atom in 100 atoms count like 0.2 eV/Å of one force component.
    force_weight : float
        Weight of a force row.
    smoothness : float
        The prior's standard deviation of a coefficient falls with its degree to this power.
    """

    cutoff: float = 5.5
    n_max: int = 8
    l_max: int = 4
    n_features: int | None = None
    energy_weight: float = 20.0
    force_weight: float = 1.0
    smoothness: float = 2.0

    @classmethod
    def checked(cls, given: dict[str, Any]) -> "AceSettings":
        """Settings from keywords; PotentialError for an unknown one or a value out of range."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
                msg = f"unknown setting {name} of the potential: {hint}"
                raise PotentialError(msg)
        settings = cls(**given)
        for name, value in asdict(settings).items():
            least = 0 if name in {"l_max", "smoothness", "force_weight"} else np.nextafter(0, 1)
            if value is not None and not (np.isfinite(value) and value >= least):
                msg = f"potential setting {name}: expected a number {'>=' if least == 0 else '>'} 0, found {value}"
                raise PotentialError(msg)
        return settings

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
