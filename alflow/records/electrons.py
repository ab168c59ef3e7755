"""What a calculation tells of its electrons."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _no_levels() -> Array:
    return np.zeros((0, 0, 0))


@dataclass(frozen=True, eq=False)
class Electrons:
    """Levels of the electrons, as far as a code tells them.

    Attributes
    ----------
    fermi_energy : float
        eV; NaN where there is none.
    eigenvalues, occupations : ndarray, shape (spins, k-points, bands)
        eV, and electrons; shape (0, 0, 0) where there are none, NaN where one spin has fewer bands than the other.
    kpoint_weights : ndarray, shape (k-points,)
        They sum to 1; shape (0,) where there are no levels.
    """

    fermi_energy: float = float("nan")
    eigenvalues: Array = field(default_factory=_no_levels)
    occupations: Array = field(default_factory=_no_levels)
    kpoint_weights: Array = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        """Levels without weights are those of a single k-point, whose weight is 1."""
        levels = self.eigenvalues if self.eigenvalues.size else self.occupations
        if not self.kpoint_weights.size and levels.shape[1] == 1:
            object.__setattr__(self, "kpoint_weights", np.ones(1))


def levels(rows: Sequence[Sequence[float]]) -> Array:
    """The levels of each spin at a single k-point, shape (spins, 1, bands), NaN where a spin has fewer."""
    if not rows:
        return _no_levels()
    found = np.full((len(rows), 1, max(len(row) for row in rows)), np.nan)
    for values, row in zip(found, rows, strict=True):
        values[0, : len(row)] = row
    return found


def as_lists(electrons: Electrons) -> dict[str, Any]:
    """The same as plain lists, for files of other formats.

    ``fermi_energy``; ``eigenvalues`` and ``occupations``, a list for each spin, of all k-points one after the other;
    and, where there are several k-points, ``weights``, what the k-point of each level weighs.
    """
    extra: dict[str, Any] = {}
    if np.isfinite(electrons.fermi_energy):
        extra["fermi_energy"] = electrons.fermi_energy
    for name in ("eigenvalues", "occupations"):
        values = getattr(electrons, name)
        if values.size:
            extra[name] = [spin[~np.isnan(spin)].tolist() for spin in values]
    if len(electrons.kpoint_weights) > 1 and electrons.eigenvalues.size:
        each = np.broadcast_to(electrons.kpoint_weights[:, None], electrons.eigenvalues.shape[1:])
        extra["weights"] = [each[~np.isnan(spin)].tolist() for spin in electrons.eigenvalues]
    return extra
