"""Whether energies, forces and stresses of the labels are of one and the same potential."""

import numpy as np
from ase import units
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk
from scipy.stats import spearmanr, theilslopes

from alflow.committee.judgement import Judgement
from alflow.committee.training import TrainingSet
from alflow.models.ace.scaled import Scaled, solution

Array = NDArray[np.float64]

_STRENGTH = -8.0  # of the ridge, as of Scaled.ridge
_FEWEST = 10  # energies from which a slope is taken
_MANY = 300  # of them that are compared, at most: all pairs are
_CLEAR, _STEEPEST = 0.85, 2.0  # rank correlation from which it counts; slope, or one over it, from which it is said
_OFFSET, _OF_ERROR = 0.05, 0.5  # GPa, and of the error of stresses, that labels may lie off without a word
_UNKNOWN, _KNOWN = 0.7, 0.3  # errors over how much labels differ: stresses that are not learned, forces that are


def energies_over_forces(system: Scaled, prior: int) -> float:
    """How much the energies of the labels differ for each eV that their forces say.

    The slope of the energies against those of a fit to all the rest, composition by composition. It is 1 where forces
    are the derivatives of energies, whatever the accuracy, -1 where their sign is another, 51.4 where energies are in
    eV and forces in Hartree/Bohr.

    Parameters
    ----------
    system : Scaled
        With energies.
    prior : int
        Which of the penalties the fit goes with. Its strength is not that of the fit: where labels contradict each
        other, nothing is learned with it.

    Returns
    -------
    float
        NaN with fewer than 10 energies, or where forces tell too little of them (a rank correlation below 0.85).
    """
    equations, n_species = system.equations, len(system.shift)
    if equations.energies is None or len(equations.energies.targets) < _FEWEST:
        return float("nan")
    matrix, right, _ = system.assemble(np.ones(len(equations.gram)), system.ridge(_STRENGTH, prior))
    rows, targets = system.energies()
    dsyrk(-1.0, rows, beta=1.0, c=matrix.T, trans=1, lower=1, overwrite_c=1)
    w, _ = solution(matrix, right - targets @ rows)
    w[-n_species:] = 0.0  # of the energy of an atom alone forces say nothing
    counts = rows[:, -n_species:]
    both = np.column_stack([rows @ w, targets])
    if not np.isfinite(both).all():
        return float("nan")
    told, labels = (both - counts @ np.linalg.lstsq(counts, both, rcond=1e-8)[0]).T
    # Medians of slopes and correlations of ranks: a structure far from all others, of which forces tell little, is no
    # proof.
    some = np.linspace(0, len(told) - 1, min(len(told), _MANY)).astype(int)
    if not abs(float(spearmanr(told[some], labels[some]).statistic)) > _CLEAR:
        return float("nan")
    return float(theilslopes(labels[some], told[some]).slope)


def remarks_on_labels(training: TrainingSet, judgement: Judgement, virial: Array, slope: float) -> list[str]:
    """What is odd about the labels, in lines.

    Parameters
    ----------
    training : TrainingSet
        Labels.
    judgement : Judgement
        Out-of-bag errors.
    virial : ndarray, shape (S,)
        Constant virial of an atom of each species that stresses have and derivatives of energies have not, eV.
    slope : float
        Of :func:`energies_over_forces`.
    """
    found = _of_stresses(training, judgement, virial)
    if not 1 / _STEEPEST < slope < _STEEPEST and not np.isnan(slope):
        what = f"energies of the labels change by {slope:.3g} times what their forces say"
        found.append(f"{what}: check the units and the sign of energies and forces")
    return found


def _of_stresses(training: TrainingSet, judgement: Judgement, virial: Array) -> list[str]:
    """Stresses that are away from energies by a constant virial, or do not go with them at all."""
    known = [k for k, stress in enumerate(training.stresses) if stress is not None]
    error = judgement.stress_rmse / units.GPa
    if np.isnan(error):
        return []
    volumes = np.array([training.frames[k].get_volume() for k in known])
    offset = float(np.mean(training.composition()[known] @ virial / volumes)) / units.GPa
    found = []
    if abs(offset) > max(_OFFSET, _OF_ERROR * error):
        what = (
            f"stresses of the labels are {offset:+.2g} GPa away from the derivatives of their energies (Pulay stress?)"
        )
        found.append(f"{what}: energies are believed")
    stresses = np.array([training.stresses[k] for k in known]) / units.GPa
    forces = np.concatenate([f.ravel() for f in training.forces if f is not None] or [np.zeros(0)])
    usual = float(np.sqrt(np.mean((stresses - stresses.mean(axis=0)) ** 2)))
    # Where forces are known well, so are stresses, if they are of the same energies.
    if error > _UNKNOWN * usual and judgement.force_rmse < _KNOWN * float(np.sqrt(np.mean(forces**2))):
        what = (
            f"stresses of the labels do not go with their energies and forces: an error of {error:.2g} GPa, where they "
        )
        what += f"differ by {usual:.2g} GPa"
        found.append(f"{what}: check their sign, unit and order, or set stress_weight to 0")
    return found
