"""How well a committee's uncertainty matches its errors, and the two numbers that make it match. Functions of arrays.

A reference value is judged by J members that have not seen it: its error is that of their mean, its spread theirs. The
calibrated uncertainty of the whole committee is ``sigma^2 = alpha^2 s^2 + floor^2``, where s is the spread of the
members. ``alpha`` is the factor of Musil et al., J. Chem. Theory Comput. 15, 906 (2019), doi:10.1021/acs.jctc.8b00959:
members that share most of their data, and all of their form, differ less than they are wrong. ``floor`` is the part of
the error on which they all agree (the model's form, noise in the labels), which no spread can show.

SciPy is imported where it is used: whoever reads a calibration from a file does not need it.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alflow.committee.reliability import Reliability

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

MIN_JUDGED = 10
"""Fewest judged structures from which a calibration is taken."""

MIN_JUDGES = 4
"""Fewest members that can judge: the variance of their error over their spread is infinite below."""

_FORBIDDEN = 1e-2  # share of its root mean square below which a spread is nothing
_NOISE = 1e-1  # share of the median error that the reference's noise in a forbidden force is below
_LARGEST = 1e100  # of what can be squared twice
_WIDTH = 0.5  # prior standard deviation of log(alpha) around what it would be without a floor
_LIKE_FORCES = 0.2  # the same around that of the forces
_DEGREES = 30.0  # of freedom, at most: one wild label must not rule
_LIKE = 1e4  # degrees of freedom of spreads that are all alike
_MEDIAN = 0.4549364231195728  # of the square of a standard normal number
_BIN, _BINS = 10, 10  # values in a bin of the reliability diagram, at least; bins, at most


@dataclass(frozen=True, eq=False)
class Calibration:
    """What turns the spread of a committee into an uncertainty.

    Attributes
    ----------
    alpha : float
        Factor of the spread; NaN where it cannot be determined.
    floor : float
        Uncertainty that no spread shows: of an energy eV per square root of the number of atoms, of a force eV/Å.
    note : str
        Why there is no alpha; empty when there is.
    reliability : Reliability
        Of the judges, with this calibration.
    """

    alpha: float = float("nan")
    floor: float = 0.0
    note: str = ""
    reliability: Reliability = field(default_factory=Reliability)

    @property
    def factor(self) -> float:
        """``alpha``, or 1 where there is none: the note says that the spread is then given as it is."""
        return 1.0 if np.isnan(self.alpha) else self.alpha

    def sigma(self, spread: Array | float, size: Array | float = 1.0) -> Array:
        """Calibrated uncertainty, of the shape of ``spread``; ``size`` as of :func:`calibrate`."""
        return np.asarray(np.hypot(self.factor * np.asarray(spread), self.floor * np.asarray(size)))


def reliability(errors: Array, sigma: Array, spread: Array | None = None) -> Reliability:
    """Compare errors with their uncertainties.

    Parameters
    ----------
    errors, sigma : ndarray, shape (n,)
        Errors, and the standard deviation that was given for each, in the same unit.
    spread : ndarray, shape (n,), optional
        Of force components, raw: those that symmetry forbids (:func:`calibrate`) are left out. Not of energies.
    """
    from scipy.special import ndtr
    from scipy.stats import spearmanr

    usable = ~_forbidden(errors, spread) if spread is not None else np.ones(len(errors), dtype=bool)
    n_forbidden = int(np.sum(~usable))
    errors, sigma = np.abs(errors[usable]), sigma[usable]
    if not len(errors):
        return Reliability(n_forbidden=n_forbidden)
    z = np.divide(errors, sigma, out=np.where(errors > 0, np.inf, 0.0), where=sigma > 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        nll = np.log(sigma) + 0.5 * np.log(2 * np.pi) + 0.5 * z**2
        density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        crps = sigma * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    certain = sigma == 0  # and wrong: the score of a certainty is its error
    crps[certain], nll[certain] = errors[certain], np.inf
    # A rank correlation with something constant is undefined, and SciPy would warn.
    varied = len(errors) > 2 and np.ptp(sigma) > 0 and np.ptp(errors) > 0
    # Equally many values a bin rather than equally wide bins: sigmas span decades, and a bin of few values is noise.
    order = np.argsort(sigma, kind="stable")
    parts = np.array_split(order, max(1, min(_BINS, len(order) // _BIN)))
    return Reliability(
        n=len(errors),
        n_forbidden=n_forbidden,
        rms_z=_rms(z),
        coverage_1=float(np.mean(z < 1)),
        coverage_2=float(np.mean(z < 2)),
        nll=float(np.mean(nll)),
        crps=float(np.mean(crps)),
        spearman=float(spearmanr(errors, sigma).statistic) if varied else float("nan"),
        bins=np.array([(_rms(sigma[part]), _rms(errors[part]), float(len(part))) for part in parts]),
    )


def calibrate(
    errors: Array,
    spread: Array,
    n_judges: IntArray | int,
    structure: IntArray,
    size: Array | None = None,
    *,
    own: float = 1.0,
    expected: float = float("nan"),
) -> Calibration:
    r"""Find alpha and floor from errors of members that have not seen what they judge.

    The error of the mean of J judges is normal with variance :math:`(\alpha^2 + 1/J) \sigma^2 + f^2`, and their spread
    s is an estimate of :math:`\sigma` from J values. Where the spread rules, error over spread follows Student's t
    distribution with J - 1 degrees of freedom, whose second moment is the formula of the paper,
    :math:`\alpha^2 = -1/J + \frac{J-3}{J-1} \langle (E_\mathrm{ref} - \bar E)^2 / s^2 \rangle`; where the floor f
    rules there are more (Welch-Satterthwaite; at most 30, so that a few wild labels do not decide). Alpha and f
    maximise that likelihood. Two things keep alpha, with which averages are reweighted, from being lost to f:

    - What one spread tells is weighed against how different the spreads are at all: s^2 stands for its moderated
      value, which is nearer to the typical one the less they differ beyond their own noise (Smyth, Stat. Appl. Genet.
      Mol. Biol. 3, 3 (2004), doi:10.2202/1544-6115.1027).
    - Where all spreads are alike no data can tell the two apart: log(alpha) has a normal prior, of standard deviation
      0.5, around its value without a floor (from the median), against which every structure counts as one observation.
      Energies have one around the alpha of the forces, of standard deviation 0.2: energies and forces of a member are
      wrong by the same coefficients, and of the forces there are hundreds of times as many labels.

    Parameters
    ----------
    errors : ndarray, shape (n,)
        Reference minus mean of the judges.
    spread : ndarray, shape (n,)
        Standard deviation of the judges (J - 1), same unit.
    n_judges : ndarray of int, shape (n,), or int
        J: how many members judged each value. By those that fewer than 4 judged it is not calibrated.
    structure : ndarray of int, shape (n,)
        Of which structure each value is.
    size : ndarray, shape (n,), optional
        Of energies: what the floor is multiplied with, the square root of the number of atoms. Without it the values
        are force components, whose floor is the same for all; those that symmetry forbids say nothing and are left
        out: their spread is below a hundredth of its root mean square, and their error below a tenth of the median
        error of the others.
    own : float
        Which share q of what is in error was said by the judges themselves: 1 of their mean, 0 of another model that
        has not seen the label either. In the place of 1/J stands q^2/J.
    expected : float, optional
        Of energies: the alpha of the forces, where it is known.

    Returns
    -------
    Calibration
        With NaN for alpha, and the reason, where fewer than 4 judge, fewer than 10 structures were judged, something is
        not finite, alpha^2 is not positive, or the members do not differ; in the last case with a floor.
    """
    of_forces = spread if size is None else None
    size = np.ones_like(errors) if size is None else size

    def without(note: str, floor: float = 0.0) -> Calibration:
        return Calibration(
            floor=floor, note=note, reliability=reliability(errors, np.hypot(spread, floor * size), of_forces)
        )

    if not np.abs([errors, spread]).max(initial=0.0) < _LARGEST:
        return Calibration(note="errors or spreads that are not finite, or beyond all measure")
    n_judges = np.broadcast_to(n_judges, errors.shape)
    usable = n_judges >= MIN_JUDGES
    if not usable.any():
        return without(f"{n_judges.max(initial=0)} members judge each structure, at least {MIN_JUDGES} are needed")
    n_structures = len(np.unique(structure[usable]))
    if n_structures < MIN_JUDGED:
        return without(f"{n_structures} structures to judge by, at least {MIN_JUDGED} are needed")
    if of_forces is not None:
        usable &= ~_forbidden(errors, spread)
    # Symmetric structures: the members are wrong by the same, which is a floor; alpha has nothing to multiply.
    if not np.any(spread[usable] > 0):
        return without("the members do not differ", floor=_rms(errors / size))
    scatter = float(np.mean(own**2 / n_judges[usable]))
    ratio, floor = _most_likely(
        errors[usable], spread[usable], size[usable], n_judges[usable], n_structures, expected**2 + scatter
    )
    # The judges' mean errs more than that of all members, by the scatter of a mean of J: that share is not alpha's.
    alpha2 = ratio - scatter
    if not alpha2 > 0:
        return without(f"alpha^2 = {alpha2:.2g} is not positive: the errors are far below the spread")
    judged = np.sqrt(ratio * spread**2 + (floor * size) ** 2)
    return Calibration(float(np.sqrt(alpha2)), floor, "", reliability(errors, judged, of_forces))


def _most_likely(
    errors: Array, spread: Array, size: Array, n_judges: IntArray, n_structures: int, expected: float
) -> tuple[float, float]:
    """alpha^2 + 1/J, around what is expected of it where something is, and the floor."""
    from scipy.optimize import minimize

    # In units of their own mean squares, so that starts and tolerances below fit energies as they fit forces.
    scaled = (errors / size) ** 2, (spread / size) ** 2
    unit = tuple(float(np.mean(x)) for x in scaled)
    if unit[0] == 0:
        return 0.0, 0.0
    error2, spread2 = (x / u for x, u in zip(scaled, unit, strict=True))
    # A spread that is all but zero is that of a symmetry, not a small one drawn from the others' distribution: it would
    # dominate the logarithms with which spreads are moderated.
    seen = spread2 > _FORBIDDEN**2
    spread2, degrees = _moderated(spread2, seen, np.asarray(n_judges - 1.0, dtype=np.float64))
    # The prior's centre, what alpha would be without a floor, is from the median: one wild label must not move it.
    centre = np.log(max(float(np.median(error2[seen] / spread2[seen])) / _MEDIAN, 1e-12))
    width = _WIDTH
    # Two parameters are fitted to the errors; and what is taken for a t distribution with the most degrees of freedom
    # allowed has the variance of that.
    unit_error = unit[0] * n_structures / (n_structures - 2.0)
    wider = max(1.0, _t_variance(_DEGREES) / _t_variance(float(np.mean(degrees))))
    if np.isfinite(expected):
        centre = np.log(expected * unit[1] / (unit_error * wider))
        width = _LIKE_FORCES

    def minus_log(parameters: Array) -> float:
        log_ratio, log_floor = np.clip(parameters, -60.0, 60.0)
        from_spread = np.exp(log_ratio) * spread2
        total = from_spread + np.exp(log_floor)
        nu = np.minimum(degrees * (total / np.maximum(from_spread, 1e-12 * total)) ** 2, _DEGREES)
        norm = 1.0 / (24.0 * nu**3) - 0.25 / nu  # log Gamma((nu+1)/2) - log Gamma(nu/2) - log(nu/2)/2, to 2e-4
        likelihood = norm - 0.5 * np.log(total) - 0.5 * (nu + 1) * np.log1p(error2 / total / nu)
        prior = 0.5 * ((log_ratio - centre) / (2 * width)) ** 2
        return float(prior - n_structures * np.mean(likelihood))

    # Two parameters and a likelihood that may have two valleys, all spread and all floor: a simplex from each of them.
    starts = [(centre, -2.0), (centre, -8.0), (centre - 2.0, 0.0)]
    options = {"xatol": 1e-3, "fatol": 1e-6, "maxiter": 1000}
    found = [minimize(minus_log, start, method="Nelder-Mead", options=options) for start in starts]
    log_ratio, log_floor = min(found, key=lambda result: float(result.fun)).x
    ratio = np.exp(log_ratio) * unit_error / unit[1] * wider
    return float(ratio), float(np.sqrt(np.exp(log_floor) * unit_error * _t_variance(_DEGREES)))


def _t_variance(degrees: float) -> float:
    """Variance of Student's t distribution."""
    return degrees / (degrees - 2.0)


def _moderated(spread2: Array, seen: NDArray[np.bool_], degrees: Array) -> tuple[Array, Array]:
    """Squared spreads of so many degrees of freedom drawn to their typical value, and the degrees they then have.

    Smyth (2004), in its form for degrees that differ.
    """
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    # The logarithm of a squared spread scatters by trigamma(d/2) by chance alone; what it scatters beyond tells how
    # different the spreads are, as degrees of freedom of the distribution that they come from.
    # The mean of the logarithms is not the logarithm of the mean: both chi-squared distributions shift it.
    half = degrees[seen] / 2
    logs = np.log(spread2[seen]) - digamma(half) + np.log(half)
    excess = float(np.var(logs) - np.mean(polygamma(1, half)))
    if excess <= float(polygamma(1, _LIKE / 2)):
        more = _LIKE
    else:
        more = float(brentq(lambda x: float(polygamma(1, x / 2)) - excess, 1e-3, _LIKE))
    typical = float(np.exp(np.mean(logs) + digamma(more / 2) - np.log(more / 2)))
    out = spread2.copy()
    out[seen] = (more * typical + degrees[seen] * spread2[seen]) / (more + degrees[seen])
    return out, degrees + more


def _forbidden(errors: Array, spread: Array) -> NDArray[np.bool_]:
    """Values that are nothing, and known to be."""
    # Both must be nothing: an error without a spread is what a floor is made of, and must not be left out.
    agreed = spread < _FORBIDDEN * _rms(spread)
    if agreed.all():
        return np.zeros(len(errors), dtype=bool)
    return np.asarray(agreed & (np.abs(errors) < _NOISE * np.median(np.abs(errors[~agreed]))))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0
