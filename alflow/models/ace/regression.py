"""Ridge regression of all members at once from sums over structures.

A member is fitted to the sum of half of the groups (:mod:`alflow.models.ace.equations`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alflow.errors import PotentialError
from alflow.models.ace.consistency import energies_over_forces, stresses_over_others
from alflow.models.ace.distant import Distant, make_prior
from alflow.models.ace.equations import NormalEquations
from alflow.models.ace.packed import solution
from alflow.models.ace.scaled import Scaled
from alflow.models.ace.strength import criterion, energies_ask, lowest
from alflow.models.ace.threads import each, systems_at_once
from alflow.progress import Progress, Silent

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_LEFT_OUT = 16  # parts that are left out in turn, at most


@dataclass(frozen=True, eq=False)
class Solutions:
    """What follows from the sums, for features that count from zero.

    Attributes
    ----------
    members : ndarray, shape (M, D)
        Fitted to the groups that each of them sees.
    whole : ndarray, shape (D,)
        Fitted to all groups.
    without : ndarray, shape (G, D)
        Fitted to all groups but this one, and perhaps some others.
    strength : float
        The ridge in scaled columns, the same for all.
    prior : int
        Which of the penalties it goes with.
    responses : ndarray, shape (D, n)
        How the coefficients of the fit to all groups change if it is pulled along each of n force rows.
    left_open : ndarray, shape (D, M)
        What the labels leave of draws for the members (:mod:`alflow.models.ace.distant`); (D, 0) where there are none.
    energies_over_forces, stresses_over_others : float
        Of the labels (:mod:`alflow.models.ace.consistency`).
    """

    members: Array
    whole: Array
    without: Array
    strength: float
    prior: int
    responses: Array
    left_open: Array
    energies_over_forces: float
    stresses_over_others: float


def solve(
    equations: NormalEquations,
    seen: Flags,
    penalties: Array,
    rows: Array,
    n_apart: int,
    threads: int = 1,
    loath: Flags | None = None,
    stresses: tuple[Array, Array] | None = None,
    progress: Progress | None = None,
    distant: Distant | None = None,
    volumes: Array | None = None,
) -> Solutions:
    """Solve for all members, for all groups together, and for all but each of up to 16 parts of them.

    Features count from their mean over all atoms of their species, so that an atom's energy is its species'
    constant plus what its surroundings make different. The prior of a coefficient is a normal distribution of mean
    zero whose standard deviation is inversely proportional to the root mean square of its column and to one of the
    ``penalties``. Which one, and its strength, the same for all members, are those with the lowest score of four-fold
    cross-validation over the groups (:func:`alflow.models.ace.strength.score`): with more, all members would err alike,
    which no spread shows. With fewer than eight structures, twins counted once, they maximise the evidence (MacKay,
    Neural Comput. 4, 415 (1992), doi:10.1162/neco.1992.4.3.415).

    Independent of it, the energies of the atoms of a species are expected to be near their mean: what labels do not
    say, how neighbours share their energy, members then agree on. The weight is so small that errors of prediction
    do not show it, but where a sum of pair potentials is learned almost without error: there it decides on the
    error (Lennard-Jones liquid, 12 structures: 0.023 kT with 1e-3, 0.006 kT with 1e-4), and without it the energies
    of atoms say nothing (ethanol: sigma of 0.13 eV with 1e-3, 0.46 eV with 1e-6, 1.5 eV without).

    Parameters
    ----------
    equations : NormalEquations
        Sums over the structures.
    seen : ndarray of bool, shape (M, G)
        Which groups each member is fitted to. What all of them see is in every fit, and in no fold.
    penalties : ndarray, shape (K, F)
        To choose from, each larger for features that should be smaller.
    rows : ndarray, shape (D, n)
        Force rows that members may have to reproduce besides.
    n_apart : int
        How many structures there are that do not nearly coincide.
    threads : int
        How many members are solved for at once. BLAS is expected to use a single thread: then results do not depend
        on how many there are.
    loath : ndarray of bool, shape (F,), optional
        Features that are in stresses and no part of energies or forces. They are used where the energies of four-fold
        cross-validation are clearly better known with them, and unwillingly even then.
    stresses : tuple of ndarray, shape (n, D) and (n,), optional
        Rows and labels of stresses, to be compared with what energies and forces say.
    progress : Progress, optional
        Told how far this is.
    distant : Distant, optional
        Coefficients of which others let expect something.
    volumes : ndarray, shape (n,), optional
        Of structures, per atom, Å^3, where all have one: for :func:`energies_over_forces`.
    """
    progress = progress or Silent()
    progress.begin("find the strength of the ridge", 1)
    common, choices = np.asarray(seen.all(axis=0)), len(penalties)
    size, n_rows = rows.shape
    expected, fixed, pulls = np.zeros(size), None, np.zeros((size, 0))
    if distant is not None:
        expected, fixed, pulls = make_prior(equations, penalties, loath, common, n_apart, distant, threads)
        equations = equations.less(expected)
        stresses = None if stresses is None else (stresses[0], stresses[1] - stresses[0] @ expected)
    system = Scaled.of(equations, penalties, loath, fixed=fixed)
    log_strength, prior = lowest(*criterion(system, common, n_apart, threads), choices, threads)
    if equations.n_stresses and loath is not None:
        willing = Scaled.of(equations, penalties, loath, willing=True, fixed=fixed)
        if energies_ask(system, willing, common, (log_strength, prior), threads):
            system = willing
            log_strength, prior = lowest(*criterion(system, common, n_apart, threads), choices, threads)
    progress.advance()
    strength = system.mean_eigenvalue * 10.0**log_strength
    n_members, n_groups = seen.shape
    # Of many groups both of a pair, or more, are left out at once. What lacks groups without structures lacks
    # nothing: it is the solution of all.
    left_out = np.where(common, -1, np.arange(n_groups) // -(-int(np.sum(~common)) // _LEFT_OUT))
    lacking = np.unique(left_out[~common & (equations.n_structures > 0)])
    every = np.ones((1, n_groups), dtype=bool)
    fitted_to = np.concatenate([seen, every, left_out != lacking[:, None]])
    # One strength for all members: were it each member's own, their differences would be those of their priors too.
    # A member sees less than all together did, and its matrix may be indefinite by rounding where theirs was not.
    progress.begin("fit members, and all structures but some", len(fitted_to))
    found = _fitted(system, fitted_to, n_members, strength * system.ridges[prior], rows, pulls, threads, progress)
    while not all(np.isfinite(one).all() for one in found):
        if strength > system.mean_eigenvalue:
            msg = "the fit has no finite solution: look for labels that are many orders of magnitude off"
            raise PotentialError(msg)
        strength *= 10.0
        found = _fitted(system, fitted_to, n_members, strength * system.ridges[prior], rows, pulls, threads, Silent())
    coefficients = np.array([one[:, 0] for one in found])
    if distant is not None:
        coefficients += expected
    coefficients[:, -len(system.shift) :] += system.shift
    without = np.tile(coefficients[n_members], (n_groups, 1))
    for part, its in zip(lacking, coefficients[n_members + 1 :], strict=True):
        without[left_out == part] = its
    members, whole = coefficients[:n_members], coefficients[n_members]
    slopes = (
        energies_over_forces(system, prior, volumes),
        float("nan") if stresses is None else stresses_over_others(system, prior, *stresses),
    )
    return Solutions(
        members,
        whole,
        without,
        strength,
        prior,
        found[n_members][:, 1 : 1 + n_rows],
        found[n_members][:, 1 + n_rows :],
        *slopes,
    )


def _fitted(
    system: Scaled,
    fitted_to: Flags,
    n_members: int,
    ridge: Array,
    rows: Array,
    pulls: Array,
    threads: int,
    progress: Progress,
) -> list[Array]:
    """Solutions of fits to some groups each, without the shift: (D, 1), of that to all and responses (D, 1 + n + M)."""
    scaled = system.scale[:, None] * np.column_stack([rows, pulls])
    common = fitted_to.all(axis=0)
    # Scaled up to the number of all groups: against the same ridge a member then weighs its data like all.
    more = np.sum(~common) / np.maximum(np.sum(fitted_to & ~common, axis=1), 1.0)
    weights = np.where(common, 1.0, fitted_to * more[:, None])
    at_once = systems_at_once(threads)
    room = np.empty((at_once, *system.equations.gram.shape[1:]))
    found = []
    for begin in range(0, len(weights), at_once):
        matrices, rights, _ = system.assemble_several(weights[begin : begin + at_once], ridge, threads, room)

        def one(k: int, begin: int = begin, matrices: Array = matrices, rights: Array = rights) -> Array:
            right = rights[k][:, None]
            wanted = np.column_stack([right, scaled]) if begin + k == n_members else right
            return system.plain(solution(matrices[k], wanted)[0])

        found += each(one, range(len(matrices)), threads)
        progress.advance(len(matrices))
    return found
