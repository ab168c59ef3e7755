"""How a few pseudo-species stand for many species, so that features do not grow in number with them.

S species have S^2, S^3 and S^4 times the products of two, three and four densities that one has. Beyond four species,
products are those of C <= 4 *pseudo-species*, with the densities ``A[c] = sum_s W[c, s] A[s]``. The first counts all
neighbours much alike: what hardly depends on the elements is learned from all of them, and angles are always seen. The
others tell elements apart ever more finely, and count as higher degrees do: products with them are fewer, and expected
to be smaller. Of the species remain the coefficients, which are those of the central atom's, the radial functions,
whose r_0 is that of the pair, and the features of one channel as far as the number of features allows.

The weights depend on the atomic numbers alone, never on data, so that sums over structures can be extended. Elements
near each other in the periodic table are alike, ``k(s, t) = 0.9 exp(-(dg/3)^2/2 - (dp/2)^2/2)`` of groups g and periods
p for s != t. Rows of W after the first, of ones, are columns of an incomplete Cholesky factor of k less its means,
those of the elements by which the others are told best. Then each element's weights are divided by their norm, so that
none counts more than another.

Pseudo-elements: Willatt, Musil and Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018), doi:10.1039/C8CP05921G, who fit
W to data; with random W: Darby et al., Phys. Rev. Lett. 131, 028001 (2023), doi:10.1103/PhysRevLett.131.028001, which
made larger errors here (``tests/benchmarks/many_elements.py``).
"""

import numpy as np
from numpy.typing import NDArray

from alflow.models.ace.basis import n_until_angles

Array = NDArray[np.float64]

MOST = 4
"""Pseudo-species, unless their number is given; up to so many species nothing is mixed."""

_NOBLE = np.array([0, 2, 10, 18, 36, 54, 86, 118])  # atomic numbers at which periods end
_GROUPS, _PERIODS = 3.0, 2.0  # over which similarity fades
_ALIKE = 0.9  # similarity of two elements at one place: none is quite like another


def layout(
    n_species: int, n_max: int, l_max: int, n_features: int, n_pair: int, given: int | None = None
) -> tuple[int, int]:
    """How many pseudo-species there are, and how many radial functions have features of one channel for each species.

    As many pseudo-species as leave room for a feature that depends on an angle. What these leave is for features of one
    channel of each species, as pair forces are steep and differ; half of all features at most.

    Parameters
    ----------
    n_species, n_max, l_max, n_features, n_pair : int
        As of :func:`alflow.models.ace.basis.make_basis`.
    given : int, optional
        Pseudo-species, where the user decides.

    Returns
    -------
    n_pseudo, n_own : int
        As many pseudo-species as species, and 0, where nothing is mixed.
    """
    if n_species <= (MOST if given is None else given):
        return n_species, 0

    def needed(n_pseudo: int) -> int:
        return n_pseudo * n_max + n_until_angles(n_pseudo, n_max, l_max)

    fitting = (k for k in range(MOST, 1, -1) if needed(k) <= n_features)
    n_pseudo = next(fitting, 1) if given is None else given
    left = n_features - needed(n_pseudo)
    n_own = max(min(left // (n_species - n_pseudo), n_features // (2 * n_species)), 0)
    return n_pseudo, n_pair if n_own >= n_max else n_own


def mixing(numbers: tuple[int, ...], n_pseudo: int) -> Array:
    """W, shape (C, S), of species by atomic numbers; (0, S) for as many pseudo-species as species, which are the same.

    The pivots of the factor are those that leave least of the trace: it then comes near to the leading eigenvectors,
    which themselves would turn by any amount where two eigenvalues coincide.
    """
    if n_pseudo >= len(numbers):
        return np.zeros((0, len(numbers)))
    alike = _similarity(numbers)
    means = alike.mean(axis=0)
    rest = alike - means - means[:, None] + means.mean()
    rows = [np.ones(len(numbers))]
    for _ in range(1, n_pseudo):
        # Rounded: equal gains are those of the element of lower atomic number, whatever the processor.
        diagonal = np.maximum(np.diagonal(rest), 1e-3)  # of earlier pivots: zero
        pivot = int(np.argmax(np.round(np.sum(rest**2, axis=0) / diagonal, 9)))
        rows.append(rest[:, pivot] / np.sqrt(rest[pivot, pivot]))
        rest = rest - np.outer(rows[-1], rows[-1])
    weights = np.array(rows)
    return np.asarray(weights / np.sqrt(np.sum(weights**2, axis=0)))


def _similarity(numbers: tuple[int, ...]) -> Array:
    """Similarity k of each pair of elements, shape (S, S)."""
    group, period = places(numbers)
    square = ((group[:, None] - group) / _GROUPS) ** 2 + ((period[:, None] - period) / _PERIODS) ** 2
    return np.asarray(np.where(np.eye(len(numbers)) > 0, 1.0, _ALIKE * np.exp(-square / 2)))


def places(numbers: tuple[int, ...]) -> tuple[Array, Array]:
    """Groups and periods of elements in the periodic table; those of the f-block are between groups 2 and 3."""
    z = np.array(numbers)
    period = np.searchsorted(_NOBLE, z)
    length = _NOBLE[period] - _NOBLE[period - 1]
    position = z - _NOBLE[period - 1]
    left = position <= np.minimum(length // 2, 2)
    return np.where(left, position, np.maximum(18 - length + position, 2 + (position - 2) / 15)), period.astype(float)
