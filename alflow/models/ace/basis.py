"""Which products of densities are features: index tables for the kernels.

The density of species s around an atom is expanded in radial functions n and real spherical harmonics lm,
``A[s, n, lm] = sum_j R_n(r_ij) Y_lm(r_ij)``; the 2l + 1 numbers of one (s, n, l) are a *channel*, of degree n + 1 + l.
Two channels couple to a *node* ``P[LM] = sum_m1m2 G(l1 m1, l2 m2, L M) A[c1, l1 m1] A[c2, l2 m2]`` with the integral G
of three real spherical harmonics. Rotation-invariant features are, each unordered set of channels once, the products

- of one channel: ``A[c, 00]``;
- of two: ``sum_m A[c1, lm] A[c2, lm]``;
- of three: ``sum_M P[(c1 c2) LM] A[c3, LM]``;
- of four: ``sum_M P[(c1 c2) LM] P[(c3 c4) LM]``, one for every L:

the atomic cluster expansion, Drautz, Phys. Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104. All are dot
products of two vectors, channels or nodes. Those of one channel are always there, and have more radial functions than
the others: a sum over pairs costs little, and pair forces are steep. Of the others there are those of lowest *level*:
the sum of the channels' degrees, and 2 more for each channel above two.

Of many species, s is one of few *pseudo-species*, whose densities are weighted sums of those of the species
(:mod:`alflow.models.ace.pseudo_species`). The first, s = 0, counts all neighbours much alike, the others tell them
apart ever more finely: their channels are of degree n + 1 + l + s. Features of one channel with n < n_own are of the
species themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import factorial, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sphericart import SphericalHarmonics

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Channel(NamedTuple):
    """The densities of one (s, n, l); those of species themselves, beside pseudo-species, are counted behind these."""

    degree: int
    l: int
    species: int
    n: int


Product = tuple[tuple[Channel, ...], int]
"""Sorted channels, and the L to which their halves couple."""


class Tables(NamedTuple):
    """What the kernels read; arrays of int but ``coefficient``.

    The *vectors* of an atom are one array: K densities, then all nodes, then the number one.

    Attributes
    ----------
    radial_start : ndarray, shape (n_max + 1,)
        Densities of radial function n within those of a species: ``radial_start[n]`` to ``radial_start[n + 1] - 1``.
    n_own : int
        Behind the densities of all pseudo-species stand those of every species with n < n_own and l = 0.
    first, second, target : ndarray, shape (terms,)
        ``vectors[target] += coefficient * vectors[first] * vectors[second]`` makes the nodes.
    coefficient : ndarray, shape (terms,)
        See above.
    left, right, length : ndarray, shape (F,)
        Feature f is ``sum_m vectors[left[f] + m] * vectors[right[f] + m]``, m < length[f].
    node_terms : ndarray, shape (F, 2, 2)
        First and last + 1 of the terms that make the left and the right vector of a feature; equal for a channel.
    channel_start : ndarray, shape (F + 1,)
        Channels of feature f, each once: ``channel_start[f]`` to ``channel_start[f + 1] - 1`` of the next two.
    channel, channel_length : ndarray
        First density of a channel, and 2l + 1.
    """

    radial_start: IntArray
    n_own: int
    first: IntArray
    second: IntArray
    target: IntArray
    coefficient: Array
    left: IntArray
    right: IntArray
    length: IntArray
    node_terms: IntArray
    channel_start: IntArray
    channel: IntArray
    channel_length: IntArray


@dataclass(frozen=True, eq=False)
class Basis:
    """The features of one atom; the same for every species of the central atom.

    Attributes
    ----------
    n_species, n_pseudo, n_max, l_max : int
        Numbers of species, of pseudo-species and of radial functions (of products and of one channel, whichever are
        more), and largest l.
    degree : ndarray of int, shape (F,)
        Total degree of each feature.
    order : ndarray of int, shape (F,)
        Number of channels of each feature.
    products : tuple of Product, length F
        What each feature is.
    tables : Tables
        For the kernels.
    """

    n_species: int
    n_pseudo: int
    n_max: int
    l_max: int
    degree: IntArray
    order: IntArray
    products: tuple[Product, ...]
    tables: Tables

    @property
    def n_features(self) -> int:
        """F."""
        return len(self.degree)

    @property
    def sees_angles(self) -> bool:
        """Whether a feature depends on an angle between two neighbours."""
        return bool(np.any((self.order > 1) & (self.tables.length > 1)))

    @property
    def n_densities(self) -> int:
        """K, densities of one atom."""
        return self.n_pseudo * self.n_of_one + self.n_species * self.tables.n_own

    @property
    def n_of_one(self) -> int:
        """Densities of one species, or pseudo-species."""
        return int(self.tables.radial_start[-1])

    def replaced(self, product: Product, t: int, u: int) -> Product:
        """A product with species u in the place of species t, among the neighbours."""
        first = 0 if self.n_pseudo == self.n_species else self.n_pseudo  # where species are counted, if they are
        channels, l = product
        other = (c._replace(species=first + u) if c.species == first + t else c for c in channels)
        return tuple(sorted(other)), l

    @property
    def n_vectors(self) -> int:
        """Length of the vectors of one atom."""
        return int(max(self.tables.target.max(initial=-1) + 1, self.n_densities)) + 1


def orders(product: Product) -> int:
    """In how many orders the channels of a product can be written."""
    channels = product[0]
    return factorial(len(channels)) // prod(factorial(channels.count(c)) for c in set(channels))


@lru_cache(maxsize=8)
def make_basis(
    n_species: int,
    n_max: int,
    l_max: int,
    n_features: int,
    n_pair: int = 0,
    n_pseudo: int | None = None,
    n_own: int = 0,
) -> Basis:
    """Build the tables.

    Parameters
    ----------
    n_species, n_max, l_max : int
        Numbers of species and radial functions (n = 0 .. n_max - 1), and largest l.
    n_pair : int
        Radial functions of the features of one channel; no fewer than the others have.
    n_features : int
        Features of an atom, at most; those of one channel are there in any case. Products of the same level and the
        same number of channels are all in or all out.
    n_pseudo, n_own : int
        Pseudo-species (None: every species is one), and radial functions whose features of one channel are of the
        species themselves.
    """
    n_pair = max(n_pair, n_max)
    n_pseudo = n_species if n_pseudo is None else n_pseudo
    channels = _channels(n_pseudo, n_max, l_max, mixed=n_pseudo < n_species)
    singles = _channels(n_pseudo, n_pair, 0, mixed=n_pseudo < n_species)
    if n_own:  # species are counted behind the pseudo-species
        of_species = [Channel(n + 1, 0, n_pseudo + s, n) for n in range(n_own) for s in range(n_species)]
        singles = [*of_species, *(c for c in singles if c.n >= n_own)]
    features = _chosen(channels, singles, n_max, n_features)
    return Basis(
        n_species=n_species,
        n_pseudo=n_pseudo,
        n_max=n_pair,
        l_max=l_max,
        degree=np.array([sum(c.degree for c in product) for product, _ in features], dtype=np.int64),
        order=np.array([len(product) for product, _ in features], dtype=np.int64),
        products=tuple(features),
        tables=_make_tables(features, _Vectors(features, n_pseudo, n_species, n_own, n_pair, l_max)),
    )


@lru_cache(maxsize=64)
def n_until_angles(n_pseudo: int, n_max: int, l_max: int) -> int:
    """Products of pseudo-species up to the first shell of which one depends on an angle, or just the first if l = 0."""
    n = 0
    for shell in _shells(_channels(n_pseudo, n_max, l_max, mixed=True)):
        n += len(shell)
        if l_max == 0 or any(l > 0 for _, l in shell):
            break
    return n


def _channels(n_pseudo: int, n_max: int, l_max: int, *, mixed: bool) -> list[Channel]:
    """All of them, by degree."""
    return sorted(
        Channel(n + 1 + l + s * mixed, l, s, n) for s in range(n_pseudo) for n in range(n_max) for l in range(l_max + 1)
    )


def _chosen(channels: list[Channel], singles: list[Channel], n_max: int, n_features: int) -> list[Product]:
    """At most so many features: those of one channel first, then whole shells of the others.

    Of the first those with n >= n_max do not count.
    """
    features: list[Product] = [((c,), 0) for c in singles]
    n_features += sum(c.n >= n_max for c in singles)
    # Whole shells: part of one would prefer some species or some l to others that cost and say as much.
    for shell in _shells(channels):
        if len(features) + len(shell) > n_features:
            break
        features += shell
    features.sort(key=lambda feature: len(feature[0]))  # nodes before the products that use them again
    return features


class _Vectors:
    """Where channels and nodes are among the vectors of an atom; a node is made when it is first asked for.

    Attributes
    ----------
    radial_start, n_own
        As of :class:`Tables`.
    terms : list of tuples
        First, second, target and coefficient, of the nodes made so far.
    end : int
        Behind the last of them.
    """

    def __init__(
        self, features: list[Product], n_pseudo: int, n_species: int, n_own: int, n_max: int, l_max: int
    ) -> None:
        # Densities that no feature uses are not computed: the higher n, the fewer l there are.
        l_of = [max((c.l for product, _ in features for c in product if c.n == n), default=0) for n in range(n_max)]
        self.radial_start = np.concatenate([[0], np.cumsum([(l + 1) ** 2 for l in l_of])])
        self.terms: list[tuple[int, int, int, float]] = []
        self.n_pseudo, self.n_own = n_pseudo, n_own
        self.end = n_pseudo * int(self.radial_start[-1]) + n_species * n_own
        self._gaunt = _gaunt(l_max)
        self._nodes: dict[tuple[Channel, Channel, int], tuple[int, int, int]] = {}

    def place(self, c: Channel) -> int:
        """Where a channel is."""
        width = int(self.radial_start[-1])
        if c.species < self.n_pseudo:
            return c.species * width + int(self.radial_start[c.n]) + c.l**2
        return self.n_pseudo * width + (c.species - self.n_pseudo) * self.n_own + c.n

    def node(self, c1: Channel, c2: Channel, l: int) -> tuple[int, int, int]:
        """Where a node is, and its terms: the first, and behind the last."""
        if (c1, c2, l) not in self._nodes:
            begin = len(self.terms)
            one, two, end = self.place(c1), self.place(c2), self.end
            self.terms.extend(
                (one + a, two + b, end + c, g) for a, b, c, g in sorted(self._gaunt[c1.l, c2.l, l], key=_last)
            )
            self._nodes[c1, c2, l] = end, begin, len(self.terms)
            self.end += 2 * l + 1
        return self._nodes[c1, c2, l]

    def side(self, half: tuple[Channel, ...], l: int) -> tuple[int, int, int]:
        """Where half of a product is, -1 for the number one, and its terms."""
        if len(half) < 2:
            return (self.place(half[0]) if half else -1), 0, 0
        return self.node(half[0], half[1], l)


def _make_tables(features: list[Product], vectors: _Vectors) -> Tables:
    """The index tables of features."""
    sides = []
    for product, l in features:
        halves = [product[:1], product[1:]] if len(product) < 3 else [product[:2], product[2:]]
        left, right = [vectors.side(half, l) for half in halves]
        # A node times itself has its terms once: its derivative by them would be counted twice.
        sides.append([left, right if right[0] != left[0] else (right[0], 0, 0)])
    left_right = np.array([[where for where, _, _ in pair] for pair in sides], dtype=np.int64)
    left_right[left_right < 0] = vectors.end  # the number one
    used = [sorted({(vectors.place(c), 2 * c.l + 1) for c in product}) for product, _ in features]
    flat = np.array([channel for one in used for channel in one], dtype=np.int64)
    columns = np.array([term[:3] for term in vectors.terms], dtype=np.int64).reshape(-1, 3).T
    return Tables(
        radial_start=vectors.radial_start.astype(np.int64),
        n_own=vectors.n_own,
        first=columns[0].copy(),
        second=columns[1].copy(),
        target=columns[2].copy(),
        coefficient=np.array([term[3] for term in vectors.terms]),
        left=left_right[:, 0].copy(),
        right=left_right[:, 1].copy(),
        length=np.array([2 * l + 1 for _, l in features], dtype=np.int64),
        node_terms=np.array([[part[1:] for part in pair] for pair in sides], dtype=np.int64),
        channel_start=np.concatenate([[0], np.cumsum([len(one) for one in used])]).astype(np.int64),
        channel=flat[:, 0].copy(),
        channel_length=flat[:, 1].copy(),
    )


def _last(entry: tuple[int, int, int, float]) -> int:
    return entry[2]


def _shells(channels: list[Channel]) -> Iterator[list[Product]]:
    """Products of two, three and four channels: of each level in turn, and of each number of channels."""
    highest = channels[-1].degree
    for level in range(2, 4 * highest + 5):
        for size in (2, 3, 4):
            degree = level - 2 * (size - 2)
            shell = [(product, l) for product in _products(channels, size, degree) for l in _couplings(product)]
            if shell:
                yield shell


def _products(channels: list[Channel], size: int, degree: int, first: int = 0) -> Iterator[tuple[Channel, ...]]:
    """Unordered sets of ``size`` channels, sorted, of a total degree."""
    for k in range(first, len(channels)):
        if size * channels[k].degree > degree:  # they are sorted by degree: the others have no less
            return
        if size > 1:
            for rest in _products(channels, size - 1, degree - channels[k].degree, k):
                yield (channels[k], *rest)
        elif channels[k].degree == degree:
            yield (channels[k],)


def _couplings(product: tuple[Channel, ...]) -> list[int]:
    """The l to which both halves of a product can couple."""
    ls = [c.l for c in product]
    if len(ls) == 2:
        return [ls[0]] if ls[0] == ls[1] else []
    left = set(range(abs(ls[0] - ls[1]), ls[0] + ls[1] + 1, 2))
    right = {ls[2]} if len(ls) == 3 else set(range(abs(ls[2] - ls[3]), ls[2] + ls[3] + 1, 2))
    return sorted(left & right)


@lru_cache(maxsize=4)
def _gaunt(l_max: int) -> dict[tuple[int, int, int], list[tuple[int, int, int, float]]]:
    """Integrals of three real spherical harmonics over the sphere, as (m1, m2, m3, integral), m counted from 0.

    Of two channels, and of an l to which they can couple, 2 l_max at most. By a quadrature: Gauss-Legendre points in
    cos(theta) and equidistant ones in phi are exact up to degree 4 l_max.
    """
    x, weight = np.polynomial.legendre.leggauss(2 * l_max + 2)
    n_phi = 4 * l_max + 1
    phi = 2 * np.pi * np.arange(n_phi) / n_phi
    sin = np.sqrt(1 - x**2)
    points = np.stack(
        [np.outer(sin, np.cos(phi)), np.outer(sin, np.sin(phi)), np.outer(x, np.ones(n_phi))], axis=-1
    ).reshape(-1, 3)
    coupled = SphericalHarmonics(2 * l_max).compute(points)
    y = coupled[:, : (l_max + 1) ** 2]
    weights = np.repeat(weight, n_phi) * 2 * np.pi / n_phi
    integrals = np.einsum("p,pa,pb,pc->abc", weights, y, y, coupled, optimize=True)
    integrals[np.abs(integrals) < 1e-12] = 0.0
    tables = {}
    for l1 in range(l_max + 1):
        for l2 in range(l_max + 1):
            for l3 in range(2 * l_max + 1):
                o1, o2, o3 = l1**2, l2**2, l3**2
                block = integrals[o1 : (l1 + 1) ** 2, o2 : (l2 + 1) ** 2, o3 : (l3 + 1) ** 2]
                tables[l1, l2, l3] = [(int(a), int(b), int(c), float(block[a, b, c])) for a, b, c in np.argwhere(block)]
    return tables
