"""What averaging gives: averages with both their errors, and how they were found."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Method = Literal["direct", "cea"]
"""How members are reached from a run that one potential drove (:mod:`alflow.averages.reweighting`)."""

MembersMethod = Literal["mbar", "own"]
"""How members are averaged that drove walkers themselves (:mod:`alflow.averages.members`)."""


@dataclass(frozen=True, eq=False)
class Average:
    """An average with both its errors; D values.

    Attributes
    ----------
    value : ndarray, shape (D,)
        Mean over the members (and models) of their averages.
    statistical : ndarray, shape (D,)
        Standard error of ``value`` that a longer run would make smaller.
    model : ndarray, shape (D,)
        Standard deviation (n - 1) over members (and models): the error that more labels would make smaller.
    model_noise : ndarray, shape (D,)
        Statistical error of ``model``: where it is as large, the run is too short to say.
    driven, driven_statistical : ndarray, shape (D,)
        Plain average of the run, not reweighted, and its statistical error.
    members : ndarray, shape (D, M_a, M)
        Average of each model with each member.
    sigma_a, sigma_aV : ndarray, shape (D,)
        The parts of ``model`` due to the models of the property and to the potential; NaN and ``model`` without models
        of its own (:func:`decompose`).
    """

    value: Array
    statistical: Array
    model: Array
    model_noise: Array
    driven: Array
    driven_statistical: Array
    members: Array
    sigma_a: Array
    sigma_aV: Array  # noqa: N815 - the paper's symbol

    @property
    def total(self) -> Array:
        """Both errors together, shape (D,)."""
        return np.hypot(self.statistical, self.model)


@dataclass(frozen=True, eq=False)
class Reweighted:
    """All averages of a run.

    Attributes
    ----------
    averages : tuple of Average
        Of each quantity.
    method : "direct", "cea", "mbar" or "own"
        How they were reweighted.
    reason : str
        Why so.
    n_frames, n_dropped : int
        Frames that were averaged, and that were left out before as not in equilibrium.
    n_walkers, n_members : int
        W, M.
    inefficiency : float
        Frames that count as one independent frame, by the driving energy.
    independent : float
        ``n_frames / inefficiency``.
    kept : float
        Share of the frames that direct reweighting leaves effective, of the member where it is smallest; where members
        drove, that of the frames that count for a member.
    h_spread : ndarray, shape (M,)
        Standard deviation of h_m over the frames; where members drove, of what they differ by from their mean.
    notes : tuple of str
        What to beware of, one line each.
    """

    averages: tuple[Average, ...]
    method: Method | MembersMethod
    reason: str
    n_frames: int
    n_dropped: int
    n_walkers: int
    n_members: int
    inefficiency: float
    independent: float
    kept: float
    h_spread: Array
    notes: tuple[str, ...]


def decompose(members: Array) -> tuple[Array, Array, Array]:
    """Standard deviations of averages (..., M_a, M), by the models of the property, by the potential, and in all.

    Eqs. (26) to (28) of the paper: sigma_a^2 is the variance over a of the mean over m, sigma_aV^2 the mean over a of
    the variance over m, and ``sigma^2 = M (M_a - 1)/(M M_a - 1) sigma_a^2 + M_a (M - 1)/(M M_a - 1) sigma_aV^2`` equals
    the variance of all M_a M values; all with n - 1. sigma_a is NaN for M_a = 1.

    Returns
    -------
    sigma_a, sigma_aV, sigma : ndarray, shape (...)
    """
    n_models, n_members = members.shape[-2:]
    potential = members.var(axis=-1, ddof=1).mean(axis=-1)
    if n_models == 1:
        sigma = np.sqrt(potential)
        return np.full_like(sigma, np.nan), sigma, sigma
    models = members.mean(axis=-1).var(axis=-1, ddof=1)
    return np.sqrt(models), np.sqrt(potential), np.sqrt(combined(models, potential, n_models, n_members))


def combined(models: Array, potential: Array, n_models: int, n_members: int) -> Array:
    """sigma^2 from sigma_a^2 and sigma_aV^2, as of :func:`decompose`."""
    if n_models == 1:
        return potential
    every = n_members * n_models - 1
    return n_members * (n_models - 1) / every * models + n_models * (n_members - 1) / every * potential
