"""How strongly the mean of the members pushes two atoms apart, and the core that takes over from it further in."""

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.models.ace.core import WEAKEST, make_core, rising
from alflow.models.ace.environment import Descriptor, Environment
from alflow.models.ace.kernels.core import Core
from alflow.models.ace.kernels.functions import SOFT

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_MARGIN = 1.5  # of a core over the force it takes over, which is larger in some structure than in those looked at


def rows_of_pairs(descriptor: Descriptor, frames: Sequence[Atoms], shortest: Array) -> Array:
    """Force rows (S F, 3 n) of two atoms alone, of each of n pairs of species seen in ``frames``, but not alone.

    At the shortest distance seen, ``shortest`` (S, S), where the radial functions come to rest, and between.
    """
    numbers, inner = descriptor.numbers, descriptor.functions.inner
    alone = {tuple(sorted(f.numbers)) for f in frames if len(f) == 2 and not f.pbc.any()}
    rows = [np.zeros((0, len(numbers) * descriptor.basis.n_features))]
    # Of the plain functions: the rows say what the features would extrapolate to if they did not come to rest.
    bare = descriptor.with_inner(np.zeros_like(inner))
    for a, b in zip(*np.triu_indices(len(numbers)), strict=True):
        # Labels of two atoms alone know better than any prejudice: what they say is not overruled.
        if not np.isfinite(shortest[a, b]) or tuple(sorted((numbers[a], numbers[b]))) in alone:
            continue
        for r in inner[a, b] * np.linspace(1.0, 1.0 - SOFT / 2, 3):
            pair = Atoms([numbers[a], numbers[b]], [[0, 0, 0], [r, 0, 0]])
            rows.append(bare.rows(bare.environment(pair), strain=False)[0][None, :, 3])
    return np.ascontiguousarray(np.concatenate(rows).T)


def fitted_core(
    descriptor: Descriptor,
    gradient: Callable[[Environment], Array],
    frames: Sequence[Atoms],
    shortest: Array,
    closest: IntArray,
) -> Core:
    """Let each pair's core take over the force with which the mean pushes it apart at the shortest distance seen.

    In the structure where it was seen, and alone; there the force shall rise from d inwards.

    Parameters
    ----------
    descriptor : Descriptor
        With the distances d at which the cores begin.
    gradient : callable
        From an environment to the derivatives of the mean's energy by the vectors of all pairs, (P, 3), eV/Å.
    frames : sequence of Atoms
        Training set.
    shortest : ndarray, shape (S, S)
        Shortest distance of each pair of species in it, Å.
    closest : ndarray of int, shape (S, S)
        Structure in which that is.
    """
    numbers, inner = descriptor.numbers, descriptor.functions.inner
    force = np.full_like(inner, WEAKEST)
    for a, b in zip(*np.triu_indices(len(numbers)), strict=True):
        r = inner[a, b] * np.linspace(1.0, 1.0 - SOFT, 41)
        alone = _forces_alone(descriptor, gradient, (numbers[a], numbers[b]), r)
        near = 0.0
        if shortest[a, b] <= inner[a, b]:  # else it was seen only far beyond, and the force there says nothing of d
            near = _force_between(descriptor, gradient, frames[closest[a, b]], int(a), int(b))
        least = _MARGIN * max(WEAKEST, *alone, near)
        force[a, b] = force[b, a] = rising(numbers[a], numbers[b], r, alone, least)
    return make_core(numbers, inner, force)


def _forces_alone(
    descriptor: Descriptor, gradient: Callable[[Environment], Array], numbers: tuple[int, int], r: Array
) -> Array:
    """Force with which the mean, without the core, pushes two atoms alone apart at each of distances r (n,), eV/Å."""
    # All pairs in one structure, too far from each other to see each other: what a structure costs besides its atoms is
    # paid once, and of 89 elements there are 4005 pairs.
    positions = np.zeros((len(r), 2, 3))
    positions[:, :, 1] = 3 * descriptor.functions.cutoff * np.arange(len(r))[:, None]
    positions[:, 1, 0] = r
    env = descriptor.environment(Atoms(numbers * len(r), positions.reshape(-1, 3)))
    vector, forces = env.pairs.vector, np.zeros(len(r))
    along = np.sum(gradient(env) * vector, axis=1) / np.linalg.norm(vector, axis=1)
    np.subtract.at(forces, _first(env, len(descriptor.numbers)) // 2, along)
    return forces


def _force_between(
    descriptor: Descriptor, gradient: Callable[[Environment], Array], atoms: Atoms, a: int, b: int
) -> float:
    """The same of the two nearest atoms of species a and b in a structure."""
    env = descriptor.environment(atoms)
    pairs, i = env.pairs, _first(env, len(descriptor.numbers))
    right = (pairs.species[i] == a) & (pairs.species[pairs.j] == b)
    p = int(np.argmin(np.where(right, np.linalg.norm(pairs.vector, axis=1), np.inf)))
    g, total = gradient(env), 0.0
    for first, second, direction in ((i[p], pairs.j[p], pairs.vector[p]), (pairs.j[p], i[p], -pairs.vector[p])):
        same = (i == first) & (pairs.j == second) & (np.abs(pairs.vector - direction).max(axis=1) < 1e-6)
        total -= float(np.sum(g[same] @ direction) / np.linalg.norm(direction))
    return total


def _first(env: Environment, n_species: int) -> IntArray:
    """The first atom of each pair, shape (P,)."""
    return np.repeat(np.arange(len(env.pairs.start) - 1) // n_species, np.diff(env.pairs.start))
