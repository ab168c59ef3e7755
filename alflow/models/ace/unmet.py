"""What a feature is worth that no training structure has: that of species that were met, and how much these differ.

Where copper and gold never met, no label says anything of the features of gold around copper. With coefficients of zero
all members would agree that copper does not see gold. Instead, a coefficient c of a feature that was not met, of a
central atom s and neighbours t, u, ..., is drawn from what is known of n *analogues*: the coefficients c_k of features
that differ by one rule each,

- another central atom in the place of s, or
- another species in the place of one of the neighbours' (of t wherever it stands),

over the number of orders in which the channels of a feature can be written: ``(A + B)^2 = A^2 + 2 A B + B^2``, so of
two species that count alike the coefficient of A B is twice that of A^2.

Coefficients are taken to be ``c_k = m + e_k`` with an e_k of variance v, by which species differ, and an m of variance
q v, which they share, both of mean zero. Given n of them, with the mean ``a = sum_k c_k / n``,

``<c> = w a``, ``var(c) = (1 + w/n) v``, ``w = q n/(q n + 1)``, ``v = (sum_k (c_k - a)^2 + a^2/(q + 1/n)) / n``,

the posterior of a normal hierarchical model (Gelman et al., Bayesian Data Analysis, 3rd edition, chapter 5) and the
estimate of the common variance. Members get <c> and draws of that variance, which sum to zero over them:

``sqrt((1 + w/n)/n) (sum_k z_k (c_k - a) + z_s a / sqrt(q + 1/n))``.

The numbers z of a member belong to a rule (z_k) and a central atom (z_s), not to a feature: functions of distances and
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


def unmet(basis: Basis, met: Flags, coefficients: Array, draws: Callable[[Rule], Array]) -> tuple[Array, Array]:
    """Mean and deviations of the members' coefficients of what was not met.

    Parameters
    ----------
    basis : Basis
        The features.
    met : ndarray of bool, shape (S, F)
        Which features of the atoms of each species any training structure has.
    coefficients : ndarray, shape (S, F)
        Of the mean of the members.
    draws : callable
        From a rule to the numbers z of all members, (M,), of mean 0 and variance 1; ``Rule(s, -1, -1)`` is that of z_s.

    Returns
    -------
    mean, deviations : ndarray, shape (S, F) and (S, F, M)
        Zero where something was met, and where nothing has an analogue.
    """
    ways = np.array([orders(product) for product in basis.products], dtype=float)
    known, values = met.copy(), np.where(met, coefficients / ways, 0.0)
    n_members = len(draws(Rule(0, -1, -1)))
    deviations = np.zeros((*met.shape, n_members))
    rules = [one for s in np.flatnonzero(~met.all(axis=1)).tolist() for one in _rules(basis, s, ~met[s])]
    while not known.all():
        count, total = np.zeros(met.shape), np.zeros(met.shape)
        used = [(one, *_usable(one, known)) for one in rules]
        for one, features, analogues in used:
            count[one.rule.centre, features] += 1
            total[one.rule.centre, features] += values[one.centre, analogues]
        if not count.any():
            break
        n = np.maximum(count, 1.0)
        mean, share = total / n, _SHARED * n / (_SHARED * n + 1)
        of_deviation = np.sqrt((1 + share / n) / n)
        of_mean = of_deviation / np.sqrt(_SHARED + 1 / n)
        for one, features, analogues in used:
            s = one.rule.centre
            if len(features):
                apart = of_deviation[s, features] * (values[one.centre, analogues] - mean[s, features])
                deviations[s, features] += np.outer(apart, draws(one.rule))
        found = count > 0
        for k in np.flatnonzero(found.any(axis=1)).tolist():
            here = found[k]
            deviations[k, here] += np.outer((of_mean * mean)[k, here], draws(Rule(k, -1, -1)))
        values = np.where(found, share * mean, values)
        known |= found
    return np.where(met, 0.0, values * ways), deviations * ways[:, None]


def _usable(one: _Analogues, known: Flags) -> tuple[IntArray, IntArray]:
    """What is not known, and its analogues, where these are."""
    right = ~known[one.rule.centre, one.features] & known[one.centre, one.analogues]
    return one.features[right], one.analogues[right]


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
