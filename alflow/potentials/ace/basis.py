"""Which products of densities are features, and how they are summed: index tables for the kernels.

The density of species s around an atom is expanded in channels c = (s, n) and real spherical harmonics lm,
``A[c, lm] = sum_j R_n(r_ij) Y_lm(r_ij)``. Rotation-invariant features are its products of

- one factor: ``A[c, 00]``;
- two factors: ``sum_m A[c1, lm] A[c2, lm] / sqrt(2l + 1)``;
- three factors: ``sum_m1m2m3 G(l1m1, l2m2, l3m3) A[c1, l1m1] A[c2, l2m2] A[c3, l3m3]`` with the integral G of three
  real spherical harmonics,

each unordered set of factors once: the atomic cluster expansion, Drautz, Phys. Rev. B 99, 014104 (2019),
doi:10.1103/PhysRevB.99.014104. A factor has degree n + 1 + l; products are kept up to a total degree.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sphericart import SphericalHarmonics

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Basis:
    """Index tables of the features of one atom; the same for every species of the central atom.

    Attributes
    ----------
    n_species, n_max, l_max : int
        Numbers of species and radial functions, and largest l.
    degree : ndarray of int, shape (F,)
        Total degree of each feature.
    first, second, third : ndarray of int, shape (terms,)
        Densities (indices into A, flattened to (species, n, lm)) that each term multiplies; -1 where the term has
        fewer factors.
    coefficient : ndarray, shape (terms,)
        Coefficient of each term.
    start : ndarray of int, shape (F + 1,)
        Terms of feature f: ``start[f]`` to ``start[f + 1] - 1``.
    """

    n_species: int
    n_max: int
    l_max: int
    degree: IntArray
    first: IntArray
    second: IntArray
    third: IntArray
    coefficient: Array
    start: IntArray

    @property
    def n_features(self) -> int:
        """F."""
        return len(self.degree)

    @property
    def n_densities(self) -> int:
        """Length of A for one atom."""
        return self.n_species * self.n_max * (self.l_max + 1) ** 2


@lru_cache(maxsize=8)
def make_basis(n_species: int, n_max: int, l_max: int, degree_2: int, degree_3: int) -> Basis:
    """Build the index tables.

    Parameters
    ----------
    n_species, n_max, l_max : int
        Numbers of species and radial functions (n = 0 .. n_max - 1), and largest l.
    degree_2, degree_3 : int
        Largest total degree of a product of two and of three densities.

    Returns
    -------
    Basis
        Tables; the number of features grows with the number of species to the third power.
    """
    n_lm = (l_max + 1) ** 2
    channels = [(s, n) for s in range(n_species) for n in range(n_max)]
    factors = [(c, n + 1 + l, l) for c, (_, n) in enumerate(channels) for l in range(l_max + 1)]  # noqa: E741
    degrees: list[int] = [n + 1 for _, n in channels]
    terms: list[list[tuple[int, int, int, float]]] = [[(c * n_lm, -1, -1, 1.0)] for c in range(len(channels))]
    for i, (c1, d1, l1) in enumerate(factors):
        for c2, d2, l2 in factors[i:]:
            if l1 == l2 and d1 + d2 <= degree_2:
                norm = 1.0 / np.sqrt(2 * l1 + 1)
                terms.append([(c1 * n_lm + lm, c2 * n_lm + lm, -1, norm) for lm in range(l1**2, (l1 + 1) ** 2)])
                degrees.append(d1 + d2)
    gaunt = _gaunt(l_max)
    for i, (c1, d1, l1) in enumerate(factors):
        for j, (c2, d2, l2) in enumerate(factors[i:], start=i):
            for c3, d3, l3 in factors[j:]:
                even = (l1 + l2 + l3) % 2 == 0 and abs(l1 - l2) <= l3 <= l1 + l2
                if even and d1 + d2 + d3 <= degree_3:
                    terms.append([(c1 * n_lm + a, c2 * n_lm + b, c3 * n_lm + c, g) for a, b, c, g in gaunt[l1, l2, l3]])
                    degrees.append(d1 + d2 + d3)
    flat = [term for feature in terms for term in feature]
    columns = np.array([term[:3] for term in flat], dtype=np.int64)
    return Basis(
        n_species=n_species,
        n_max=n_max,
        l_max=l_max,
        degree=np.array(degrees, dtype=np.int64),
        first=columns[:, 0].copy(),
        second=columns[:, 1].copy(),
        third=columns[:, 2].copy(),
        coefficient=np.array([term[3] for term in flat]),
        start=np.concatenate([[0], np.cumsum([len(feature) for feature in terms])]).astype(np.int64),
    )


@lru_cache(maxsize=4)
def _gaunt(l_max: int) -> dict[tuple[int, int, int], list[tuple[int, int, int, float]]]:
    """Integrals of three real spherical harmonics over the sphere, by an exact quadrature.

    Gauss-Legendre points in cos(theta) and equidistant ones in phi integrate products up to degree 3 l_max exactly.
    """
    x, weight = np.polynomial.legendre.leggauss(2 * l_max + 2)
    n_phi = 3 * l_max + 1
    phi = 2 * np.pi * np.arange(n_phi) / n_phi
    sin = np.sqrt(1 - x**2)
    points = np.stack(
        [np.outer(sin, np.cos(phi)), np.outer(sin, np.sin(phi)), np.outer(x, np.ones(n_phi))], axis=-1
    ).reshape(-1, 3)
    y = SphericalHarmonics(l_max).compute(points)
    integrals = np.einsum("p,pa,pb,pc->abc", np.repeat(weight, n_phi) * 2 * np.pi / n_phi, y, y, y, optimize=True)
    integrals[np.abs(integrals) < 1e-12] = 0.0
    tables = {}
    for l1 in range(l_max + 1):
        for l2 in range(l_max + 1):
            for l3 in range(l_max + 1):
                o1, o2, o3 = l1**2, l2**2, l3**2
                block = integrals[o1 : (l1 + 1) ** 2, o2 : (l2 + 1) ** 2, o3 : (l3 + 1) ** 2]
                tables[l1, l2, l3] = [
                    (o1 + int(a), o2 + int(b), o3 + int(c), float(block[a, b, c])) for a, b, c in np.argwhere(block)
                ]
    return tables
