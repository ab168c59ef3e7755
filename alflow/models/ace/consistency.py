"""Whether energies, forces and stresses of the labels are of one and the same potential."""

from collections.abc import Iterator

import numpy as np
from ase import units
from numpy.typing import NDArray

from alflow.committee.judgement import Judgement
from alflow.committee.training import TrainingSet
from alflow.models.ace import packed
from alflow.models.ace.scaled import Scaled

Array = NDArray[np.float64]

_STRENGTHS = (-8.0, -10.0, -12.0)  # of the ridge, as of Scaled.ridge; the first with which forces tell of energies
_SAME_VOLUME = 1e-3  # relative
_FEWEST = 10  # energies from which a slope is taken
_MANY = 300  # of them that are compared, at most: all pairs are
_CLEAR = 0.85  # rank correlation from which it counts
_STEEP, _STEEPEST = 1.7, 3.0  # slope, or one over it, from which it is said of energies, and stresses are left out
_SHEARED, _UNRELATED = 0.1, 0.5  # shear components of which the order shows, and their rank correlation in another
_OFFSET, _OF_ERROR = 0.05, 0.5  # GPa, and of the error of stresses, that labels may lie off without a word


def energies_over_forces(system: Scaled, prior: int, volumes: Array | None = None) -> float:
    """How much the energies of the labels differ for each eV that their forces say.

    The slope of the energies against those of a fit to forces alone, the composition taken off both. It is 1 where
    forces are the derivatives of energies, whatever the accuracy, -1 where their sign is another, 51.4 where energies
    are in eV and forces in Hartree/Bohr.

    Parameters
    ----------
    system : Scaled
        With energies.
    prior : int
        Which of the penalties the fit goes with. Its strength is not that of the fit: where labels contradict each
        other, nothing is learned with it.
    volumes : ndarray, shape (n,), optional
        Of each structure, per atom, Å^3, where all are periodic in three directions. Of the energy of another volume
        the forces in few structures tell little: it is taken off both, where the rest says more without it.

    Returns
    -------
    float
        NaN without forces, with fewer than 10 energies beyond the number of species, or where forces tell too little of
        them (a rank correlation below 0.85).
    """
    equations, n_species = system.equations, len(system.shift)
    n_energies = 0 if equations.energies is None else len(equations.energies.targets)
    n_forces = equations.n_rows.sum() - equations.n_stresses - n_energies
    if n_energies - n_species < _FEWEST or n_forces <= 0:
        return float("nan")
    slopes = (slope for strength in _STRENGTHS for slope in _of_energies(system, prior, strength, volumes))
    return next((slope for slope in slopes if not np.isnan(slope)), float("nan"))


def _of_energies(system: Scaled, prior: int, strength: float, volumes: Array | None) -> Iterator[float]:
    """The slopes with one strength of the ridge: with the composition taken off, and with the volume as well."""
    n_species = len(system.shift)
    matrix, right = system.without_stress(system.ridge(strength, prior))
    rows, targets = system.energies()
    for take_off in packed.squares(matrix, np.ascontiguousarray(rows.T), -1.0):
        take_off()
    w, _ = packed.solution(matrix, right - targets @ rows)
    w[-n_species:] = 0.0  # of the energy of an atom alone forces say nothing
    counts = rows[:, -n_species:]
    both = np.column_stack([rows @ w, targets])
    if not np.isfinite(both).all():
        return
    columns = [counts]
    if volumes is not None and np.ptp(volumes) > _SAME_VOLUME * volumes.mean():
        v = (volumes / volumes.mean() - 1)[:, None]
        columns.append(np.hstack([counts, counts * v, counts * v**2]))
    for known in columns:
        if len(both) - known.shape[1] >= _FEWEST:
            told, labels = (both - known @ np.linalg.lstsq(known, both, rcond=1e-8)[0]).T
            yield _slope(told, labels)


def stresses_over_others(system: Scaled, prior: int, rows: Array, labels: Array) -> float:
    """The same of stresses and what a fit to energies and forces says of them, each less its median.

    Parameters
    ----------
    rows : ndarray, shape (6 n, D)
        Of the stresses of n structures, (xx, yy, zz, yz, xz, xy) of one after the other, for plain features.
    labels : ndarray, shape (6 n,)
        Stresses.

    Returns
    -------
    float
        NaN with stresses of fewer than 10 structures, or where the others tell too little of them; 0 where they tell
        the normal components, but not the others.
    """
    from scipy.stats import spearmanr  # not before it is needed: it takes as long to import as all of numpy and ASE

    if len(labels) < 6 * _FEWEST:
        return float("nan")
    w, _ = packed.solution(*system.without_stress(system.ridge(_STRENGTHS[0], prior)))
    if not np.isfinite(w).all():
        return float("nan")
    w[system.loath] = 0.0
    both = np.stack([rows @ system.plain(w[:, None])[:, 0], labels]).reshape(2, -1, 6)
    told, given = both - np.median(both, axis=1, keepdims=True)
    slope = _slope(told[:, :3].ravel(), given[:, :3].ravel())
    shear = [x[:, 3:].ravel() for x in (told, given)]
    if not np.isnan(slope) and np.std(shear[0]) > _SHEARED * np.std(told) and np.ptp(shear[1]) > 0:
        # The normal components go together: if these do not, their order is another.
        slope = slope if abs(float(spearmanr(*shear).statistic)) > _UNRELATED else 0.0
    return slope


def _slope(told: Array, labels: Array) -> float:
    """Of labels against what is told; NaN where the two do not go together."""
    from scipy.stats import spearmanr, theilslopes

    some = np.linspace(0, len(told) - 1, min(len(told), _MANY)).astype(int)
    told, labels = told[some], labels[some]
    if np.ptp(told) == 0 or np.ptp(labels) == 0:
        return float("nan")
    # Medians of slopes and correlations of ranks: a structure far from all others, of which the others tell little, is
    # no proof.
    if not abs(float(spearmanr(told, labels).statistic)) > _CLEAR:
        return float("nan")
    return float(theilslopes(labels, told).slope)


def contradicts(slope: float, most: float = _STEEPEST) -> bool:
    """Whether a slope says that labels are not of one potential: it, or one over it, is above ``most``, or negative."""
    return not (np.isnan(slope) or 1 / most < slope < most)


def remarks_on_labels(training: TrainingSet, judgement: Judgement, virial: Array, slope: float) -> list[str]:
    """What is odd about the labels, in lines.

    Parameters
    ----------
    training : TrainingSet
        Labels.
    judgement : Judgement
        Out-of-bag errors.
    virial : ndarray, shape (S,)
        Constant virial of an atom of each species that stresses have and derivatives of energies have not, eV; its sign
        is that of the stress.
    slope : float
        Of :func:`energies_over_forces`.
    """
    found = _of_stresses(training, judgement, virial)
    if contradicts(slope, _STEEP):
        what = f"energies of the labels change by {slope:.3g} times what their forces say"
        found.append(f"{what}: check the units and the sign of energies and forces")
    return found


def stress_remark(slope: float) -> str:
    """That stresses are not of the potential of energies and forces, as :func:`stresses_over_others` says."""
    what = f"stresses of the labels change by {slope:.3g} times what their energies and forces say"
    return f"{what}: they are left out; check their sign, unit (eV/Å^3) and order (xx, yy, zz, yz, xz, xy)"


def _of_stresses(training: TrainingSet, judgement: Judgement, virial: Array) -> list[str]:
    """Stresses that are away from energies by a constant virial."""
    known = [k for k, stress in enumerate(training.stresses) if stress is not None]
    if not known or not virial.any():
        return []
    volumes = np.array([training.frames[k].get_volume() for k in known])
    offset = float(np.mean(training.composition()[known] @ virial / volumes)) / units.GPa
    if not abs(offset) > max(_OFFSET, _OF_ERROR * judgement.stress_rmse / units.GPa):
        return []
    what = f"stresses of the labels are {offset:+.2g} GPa away from the derivatives of their energies (Pulay stress?)"
    return [f"{what}: energies are believed"]
