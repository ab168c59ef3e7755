"""Species that met near the cutoff only: what is expected of them, which labels correct.

A pair that is never nearer than 4.2 of 4.5 Å has features, but tiny ones: labels tell what the pair does there, and a
ridge that goes by the size of columns lets its coefficients be anything farther in. So these get a prior of their own.
Its mean p and its width S are what :mod:`alflow.models.ace.unmet` says of features that no structure has, from the
coefficients of a fit without them. Its precision P is in two parts: for the coefficients x around an atom of a species,

``(x - p)^T P (x - p) = a sum_i (x_i - p_i)^2 / S_i^2 + b <((x - p) . B)^2> / u^2``,

B being the features of such atoms in structures in which they do meet: training structures in which half of the atoms
were made one of the two. There the energies of atoms are expected to be those of p, the more surely the larger b; u is
how much draws around p differ there. So labels change what the pair does near the cutoff, and nothing farther in.

How stiff this is, a and b, the labels decide: it is as stiff as four-fold cross-validation allows, with an error at
most 10 % above the least. Where a pair is near the cutoff in all of a crystal its features matter as much as any, and
the first choice is little more than a ridge; where it is so in few structures, mostly the last is taken, and what is
said of structures in which the pair meets is what would be said if it never had met.

The fit is one to the labels less what p says of them, with a ridge ``v P`` (v: mean square error of the rows that the
first fit has not seen). Of draws d around p, one for each member, the labels leave ``H^-1 v P d``, with the normal
equations H, ridges included: what the solution changes by where p changes by d.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.models.ace.environment import Descriptor
from alflow.models.ace.equations import NormalEquations
from alflow.models.ace.packed import solution
from alflow.models.ace.scaled import FixedRidge, Scaled
from alflow.models.ace.strength import criterion, enough_to_judge, lowest, square_error, squares
from alflow.randomness import generator

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]

_STIFFNESS = ((1e-2, 1e2), (1.0, 1e2), (1.0, 1e4), (1.0, 1e6))  # a and b
_USUAL = 1  # of these, where there are too few structures to judge
_AS_GOOD = 1.2  # squared error over the least, up to which the stiffest is taken
_HALF = 0x68616C66  # first element of a random key: of which atoms are made another species
_FRAMES, _ALL_FRAMES = 40, 400  # in which a pair is made to meet, of each pair and of all


class Expected(NamedTuple):
    """Of n coefficients.

    Attributes
    ----------
    mean, deviation : ndarray, shape (n,)
        p and S.
    draws : ndarray, shape (n, M)
        For each member around p.
    """

    mean: Array
    deviation: Array
    draws: Array


@dataclass(frozen=True, eq=False)
class Distant:
    """Which coefficients are of pairs that met near the cutoff only, and what others let expect of them.

    Attributes
    ----------
    columns : ndarray of int, shape (n,)
        Which of the D coefficients.
    expect : callable
        From all coefficients (D,) of a fit without them.
    together : ndarray, shape (S, F, F)
        <B B^T> of the features of the atoms of each species where such pairs meet, see :func:`meeting`.
    """

    columns: IntArray
    expect: Callable[[Array], Expected]
    together: Array


class Prior(NamedTuple):
    """What goes into a fit.

    Attributes
    ----------
    mean : ndarray, shape (D,)
        p; zero of all other coefficients.
    ridge : FixedRidge
        Theirs.
    pulls : ndarray, shape (D, M)
        ``v P d`` of the draws of the members.
    """

    mean: Array
    ridge: FixedRidge
    pulls: Array


def meeting(descriptor: Descriptor, frames: Sequence[Atoms], pairs: Flags) -> Array:
    """Mean products of features of the atoms of each species, shape (S, F, F), where species meet.

    In structures that have one of two species and in which half of the atoms, drawn, are made the other.

    Parameters
    ----------
    descriptor : Descriptor
        Features.
    frames : sequence of Atoms
        Structures, of which up to 40 are taken for a pair.
    pairs : ndarray of bool, shape (S, S)
        Which species are to meet.
    """
    numbers, n_features = descriptor.numbers, descriptor.basis.n_features
    sums, counts = np.zeros((len(numbers), n_features, n_features)), np.zeros(len(numbers))
    chosen = np.argwhere(np.triu(pairs))
    most = max(1, min(_FRAMES, _ALL_FRAMES // max(len(chosen), 1)))
    for a, b in [(numbers[a], numbers[b]) for a, b in chosen]:
        some = [k for k, frame in enumerate(frames) if len(frame) > 1 and {a, b} & set(frame.numbers.tolist())]
        for k in np.unique(np.linspace(0, len(some) - 1, min(most, len(some))).astype(int)).tolist():
            frame = frames[some[k]].copy()
            # Drawn: in files of crystals every second atom often is of one species already.
            half = generator(_HALF, some[k], a, b).permutation(len(frame))[: (len(frame) + 1) // 2]
            frame.numbers[half] = b if a in frame.numbers else a
            env = descriptor.environment(frame)
            features = descriptor.features(env)
            for s in range(len(numbers)):
                mine = features[:, env.pairs.species == s]
                sums[s] += mine @ mine.T
                counts[s] += mine.shape[1]
    return np.asarray(sums / np.maximum(counts, 1.0)[:, None, None])


def make_prior(
    equations: NormalEquations,
    penalties: Array,
    loath: Flags | None,
    common: Flags,
    n_apart: int,
    distant: Distant,
    threads: int,
) -> Prior:
    """Prior of some coefficients, from a fit to all groups without them; arguments as of ``regression.solve``."""
    size, columns = len(equations.total), distant.columns
    fixed = np.zeros(size, dtype=bool)
    fixed[columns] = True
    none = FixedRidge(fixed, np.zeros(size), np.zeros_like(equations.atomic))
    system = Scaled.of(equations, penalties, loath, fixed=none)
    log_strength, choice = lowest(*criterion(system, common, n_apart, threads), len(penalties), threads)
    noise = square_error(system, common, n_apart, (log_strength, choice), threads)
    strength = system.mean_eigenvalue * 10.0**log_strength
    expected = distant.expect(_coefficients(system, strength * system.ridges[choice]))
    mean = np.zeros(size)
    mean[columns] = expected.mean
    rest = equations.less(mean)
    # Of the width that goes with a ridge of 1: columns of all coefficients then are of one size.
    scale = np.zeros(size)
    scale[columns] = expected.deviation * np.sqrt(strength / noise)

    def ridge_of(k: int) -> FixedRidge:
        return FixedRidge(fixed, scale, noise * _precision(distant, expected, *_STIFFNESS[k]))

    def error(k: int) -> float:
        system = Scaled.of(rest, penalties, loath, fixed=ridge_of(k))
        return squares(system, common, (float(np.log10(strength / system.mean_eigenvalue)), choice), threads)

    taken = _USUAL
    if enough_to_judge(system, common, n_apart):
        errors = np.array([error(k) for k in range(len(_STIFFNESS))])
        taken = int(np.flatnonzero(errors <= _AS_GOOD * errors.min()).max(initial=0))
    ridge, draws = ridge_of(taken), np.zeros((size, expected.draws.shape[1]))
    draws[columns] = expected.draws
    return Prior(mean, ridge, ridge.times(draws))


def _coefficients(system: Scaled, ridge: Array) -> Array:
    """Of a fit to all groups, shape (D,)."""
    found = np.full(len(ridge), np.nan)
    for _ in range(20):  # the matrix may be indefinite by rounding where those of the folds were not
        matrix, right, _ = system.assemble(np.ones(len(system.equations.gram)), ridge)
        found, _ = solution(matrix, right)
        if np.isfinite(found).all():
            break
        ridge = 10.0 * ridge
    coefficients = system.plain(np.nan_to_num(found)[:, None])[:, 0]
    coefficients[-len(system.shift) :] += system.shift
    return np.asarray(coefficients)


def _precision(distant: Distant, expected: Expected, a: float, b: float) -> Array:
    """P, shape (S, F, F), zero of what it is not for."""
    out = np.zeros_like(distant.together)
    for s, (here, together) in enumerate(zip(out, distant.together, strict=True)):
        mine = distant.columns // len(here) == s
        block = np.ix_(*2 * [distant.columns[mine] - s * len(here)])
        width, draws, square = expected.deviation[mine], expected.draws[mine], together[block]
        variance = float(np.mean(np.sum(draws * (square @ draws), axis=0))) if len(draws) else 0.0  # u^2
        if variance > 0:
            here[block] = b * square / variance
        here[block] += np.diag(np.divide(a, width**2, out=np.zeros_like(width), where=width > 0))
    return out
