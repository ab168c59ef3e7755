"""What a feature is worth that no training structure has: that of species that were met, and how much these differ.

Where copper and gold never met, no label says anything of the features of gold around copper. With coefficients of zero
all members would agree that copper does not see gold. Instead, a coefficient c of a feature that was not met, of a
central atom s and neighbours t, u, ..., is drawn from what is known of n *analogues*: the coefficients c_k of features
that differ by one rule each,

- another central atom in the place of s, or
- another species in the place of one of the neighbours' (of t wherever it stands),

over the number of orders in which the channels of a feature can be written: ``(A + B)^2 = A^2 + 2 A B + B^2``, so of
two species that count alike the coefficient of A B is twice that of A^2. (Of products of four channels that are alike
but for their species it depends on L as well, and this is an approximation.)

An analogue counts by ``w_k = 1 / (1 + 0.01 M/m_k)``, with its mean square m_k over all atoms and the largest M of the
features that are alike but for species: coefficients of what is hardly there are not known. It counts not at all if it
has a pair of species that met near the cutoff only: that says nothing of shorter distances. With ``u_k = w_k / sum w``
and ``n = 1 / sum u_k^2``, the effective number of analogues, coefficients are taken to be ``c_k = m + e_k`` with an e_k
of variance v, by which species differ, and an m of variance q v, which they share, both of mean zero. With the mean
``a = sum_k u_k c_k``,

``<c> = s a``, ``var(c) = (1 + s/n) v``, ``s = q n/(q n + 1)``, ``v = sum_k u_k (c_k - a)^2 + a^2/(q n + 1)``,

the posterior of a normal hierarchical model (Gelman et al., Bayesian Data Analysis, 3rd edition, chapter 5) and the
estimate of the common variance. Members get <c> and draws of that variance, which sum to zero over them:

``sqrt(1 + s/n) (sum_k z_k sqrt(u_k) (c_k - a) + z_0 a / sqrt(q n + 1))``.

The numbers z of a member belong to a rule (z_k) and a central atom (z_0), not to a feature: functions of distances and
angles that are coefficients of many features vary as a whole, where independent draws would be noise. What has no
analogue that was met has perhaps one among those that were drawn, and so on. With q = 2 errors and their
uncertainties went together best in alloys of metals of which pairs or triples had not met
(``tests/benchmarks/unmet_species.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.basis import Basis, orders

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]

_SHARED = 2.0  # q
_HARDLY = 0.01  # of the largest mean square of a feature of this kind


class Rule(NamedTuple):
    """One species in the place of another, around a central atom; -1 for neither: then it is the central atom's own.

    Attributes
    ----------
    centre : int
        Species of the central atom.
    removed, put : int
        Species of neighbours; of another central atom -1 and its species.
    """

    centre: int
    removed: int
    put: int


@dataclass(frozen=True, eq=False)
class _Analogues:
    """Those of the features of a central atom by one rule.

    Attributes
    ----------
    rule : Rule
        Which.
    centre : int
        Species of the analogues' central atom.
    features, analogues : ndarray of int, shape (n,)
        Features of ``rule.centre``, and what stands for each.
    """

    rule: Rule
    centre: int
    features: IntArray
    analogues: IntArray


class Guess(NamedTuple):
    """What is expected of coefficients; zero where the fit says it, and where nothing has an analogue.

    Attributes
    ----------
    guessed : ndarray of bool, shape (S, F)
        Of which: such as no structure has, and such as have a pair of species that met near the cutoff only.
    mean, variance : ndarray, shape (S, F)
        Of their distribution, <c> and var(c).
    deviations : ndarray, shape (S, F, M)
        Of the members from the mean.
    """

    guessed: Flags
    mean: Array
    variance: Array
    deviations: Array


def unmet(basis: Basis, squares: Array, close: Flags, coefficients: Array, draws: Callable[[Rule], Array]) -> Guess:
    """Mean and deviations of the members' coefficients of what was not met, or near the cutoff only.

    Parameters
    ----------
    basis : Basis
        The features.
    squares : ndarray, shape (S, F)
        Mean square of each feature over the atoms of each species in the training set; 0 of what no structure has.
    close : ndarray of bool, shape (S, S)
        Whether pairs of species have met at distances that count.
    coefficients : ndarray, shape (S, F)
        Of the mean of the members.
    draws : callable
        From a rule to the numbers z of all members, (M,), of mean 0 and variance 1; ``Rule(s, -1, -1)`` is that of z_0.
    """
    ways = np.array([orders(product) for product in basis.products], dtype=float)
    said = (squares > 0) & _of_close_pairs(basis, close)
    known = said.copy()
    values, weights = np.where(known, coefficients / ways, 0.0), np.where(known, _weights(basis, squares), 0.0)
    deviations = np.zeros((*said.shape, len(draws(Rule(0, -1, -1)))))
    variance = np.zeros(said.shape)
    rules = [one for s in np.flatnonzero(~known.all(axis=1)).tolist() for one in _rules(basis, s, ~known[s])]
    while not known.all():
        used = [one for one in (_usable(one, known) for one in rules) if len(one.features)]
        if not used:
            break
        mean, n, total, found = _averages(used, values, weights)
        share = _SHARED * n / (_SHARED * n + 1)
        width = np.sqrt(1 + share / n)
        for one in used:
            here = one.rule.centre, one.features
            u = weights[one.centre, one.analogues] / total[here]
            apart = width[here] * np.sqrt(u) * (values[one.centre, one.analogues] - mean[here])
            deviations[here] += np.outer(apart, draws(one.rule))
            variance[here] += apart**2
        for k in np.flatnonzero(found.any(axis=1)).tolist():
            alike = (width * mean / np.sqrt(_SHARED * n + 1))[k, found[k]]
            deviations[k, found[k]] += np.outer(alike, draws(Rule(k, -1, -1)))
            variance[k, found[k]] += alike**2
        values, weights = np.where(found, share * mean, values), np.where(found, total / n, weights)
        known |= found
    guessed = known & ~said
    return Guess(guessed, np.where(guessed, values * ways, 0.0), variance * ways**2, deviations * ways[:, None])


def _weights(basis: Basis, squares: Array) -> Array:
    """How well coefficients are known, from 0 to 1, by the mean squares of their features (S, F)."""
    shapes: dict[object, list[int]] = {}
    for f, (channels, l) in enumerate(basis.products):
        shapes.setdefault((tuple((c.n, c.l) for c in channels), l), []).append(f)
    out = np.zeros_like(squares)
    for alike in shapes.values():
        mine = squares[:, alike]
        largest = float(mine.max())
        if largest > 0:
            out[:, alike] = mine / (mine + _HARDLY * largest)
    return out


def _averages(used: list[_Analogues], values: Array, weights: Array) -> tuple[Array, Array, Array, Flags]:
    """Weighted mean of the analogues, their effective number, the sum of their weights, and where there are any."""
    sums, squares, total = np.zeros((3, *values.shape))
    for one in used:
        here, weight = (one.rule.centre, one.features), weights[one.centre, one.analogues]
        sums[here] += weight * values[one.centre, one.analogues]
        squares[here] += weight**2
        total[here] += weight
    found = total > 0
    mean, n = (np.divide(x, y, out=np.ones_like(x), where=found) for x, y in ((sums, total), (total**2, squares)))
    return np.where(found, mean, 0.0), n, total, found


def _of_close_pairs(basis: Basis, close: Flags) -> Flags:
    """Which features have only pairs that have met at distances that count, shape (S, F)."""
    first = 0 if basis.n_pseudo == basis.n_species else basis.n_pseudo
    out = np.ones((basis.n_species, basis.n_features), dtype=bool)
    for f, (channels, _) in enumerate(basis.products):
        for c in channels:
            if c.species >= first:  # a pseudo-species is of all of them
                out[:, f] &= close[:, c.species - first]
    return out


def _usable(one: _Analogues, known: Flags) -> _Analogues:
    """What is not known, and its analogues, where these are."""
    right = ~known[one.rule.centre, one.features] & known[one.centre, one.analogues]
    return _Analogues(one.rule, one.centre, one.features[right], one.analogues[right])


def _rules(basis: Basis, s: int, unknown: Flags) -> list[_Analogues]:
    """All rules for features (F,) that are not known of a central atom of species s."""
    every = np.flatnonzero(unknown)
    others = [k for k in range(basis.n_species) if k != s]
    rules = [_Analogues(Rule(s, -1, k), k, every, every) for k in others]
    for t, u in permutations(range(basis.n_species), 2):
        features, analogues = _replaced(basis, t, u)
        mine = unknown[features]
        if mine.any():  # of many elements there are hundreds of thousands of rules
            rules.append(_Analogues(Rule(s, t, u), s, features[mine], analogues[mine]))
    return rules


@lru_cache(maxsize=8192)  # of 89 elements 7832 for each central atom, the same for all
def _replaced(basis: Basis, t: int, u: int) -> tuple[IntArray, IntArray]:
    """Features that have a channel of species t, and those that have one of u in its place (n,)."""
    place = {product: k for k, product in enumerate(basis.products)}
    pairs = [(k, place.get(basis.replaced(product, t, u))) for k, product in enumerate(basis.products)]
    found = [(k, other) for k, other in pairs if other is not None and other != k]
    return tuple(np.array(found, dtype=np.int64).reshape(-1, 2).T)  # type: ignore[return-value]
