"""Pair distributions, coordination numbers, angles between bonds, hydrogen bonds."""

from functools import partial

import numpy as np

from alflow.averages.observables.base import Array, Frame, Observable, centres, histogram
from alflow.averages.observables.geometry import (
    angles,
    cell_of,
    check_periodic,
    chosen,
    freud_points,
    heights,
    neighbours,
    same_centre,
)
from alflow.averages.observables.words import Words
from alflow.errors import ObservableError

_MARGIN = 1e-5  # relative, of cell heights that freud compares in single precision


def rdf(words: Words) -> Observable:
    """Pair distribution g(r), 1 where species are independent of each other, by freud.density.RDF.

    Of N atoms of one species there are N (N - 1) pairs, not N^2: freud's normalisation ``finite_size`` for these. Each
    frame is normalised with its own volume.
    """
    a, b = words.species(2)
    r_max, bins = words.option("r_max", 6.0), words.bins(120)
    return Observable(
        words.text, f"g(r) {a}-{b}", "", partial(_rdf, a, b, r_max, bins),
        grid=centres(0.0, r_max, bins), grid_name="r / Å",
    )  # fmt: skip


def coordination(words: Words) -> Observable:
    """Mean number of atoms B nearer than r to an atom A; an atom does not count for itself."""
    a, b = words.species(2)
    return Observable(words.text, f"coordination {a}-{b}", "", partial(_coordination, a, b, words.positive("r")))


def angle(words: Words) -> Observable:
    """Distribution of the angle at B between bonds B-A and B-C, both shorter than r, per degree.

    Two bonds count once; NaN where there are never two.
    """
    a, b, c = words.species(3)
    r, bins = words.positive("r"), words.bins(90)
    return Observable(
        words.text, f"angle {a}-{b}-{c}", "1/degree", partial(_angle, a, b, c, r, bins),
        finish=partial(_distribution, 180.0 / bins), grid=centres(0.0, 180.0, bins), grid_name="angle / degree",
    )  # fmt: skip


def hydrogen_bonds(words: Words) -> Observable:
    """Hydrogen bonds that an oxygen atom donates, on average over all oxygen atoms.

    A bond is an H of a donor O together with another O, the acceptor, for which O-O < r and the angle H-O...O at the
    donor is below ``angle``: Luzar and Chandler, Nature 379, 55 (1996), doi:10.1038/379055a0. An H belongs to the
    nearest atom that is not hydrogen, if that is an O and nearer than r. An H that has two acceptors counts twice. In
    water, where an oxygen accepts as many on average, a molecule takes part in twice this number of bonds.
    """
    return Observable(
        words.text, "hydrogen bonds donated per O", "",
        partial(_hydrogen_bonds, words.option("r", 3.5), words.option("angle", 30.0)),
    )  # fmt: skip


def _rdf(a: str, b: str, r_max: float, bins: int, frame: Frame) -> Array:
    import freud

    atoms = frame.atoms
    check_periodic(atoms)
    cell = cell_of(atoms)
    half = float(heights(cell).min()) / 2
    if r_max >= half * (1 - _MARGIN):
        msg = f"r_max = {r_max:g} Å: expected less than half of the smallest height of the cell, {half:.4g} Å; lower it"
        raise ObservableError(msg)
    first, second = chosen(atoms, a), chosen(atoms, b)
    if a == b and len(first) == 1:
        msg = f"there is a single {a}: expected two or more for a pair"
        raise ObservableError(msg)
    box, points = freud_points(cell, atoms.positions @ np.linalg.inv(cell))
    found = freud.density.RDF(bins, r_max, normalization_mode="finite_size" if a == b else "exact")
    found.compute((box, points[second]), query_points=None if a == b else points[first])
    return np.asarray(found.rdf, dtype=float)


def _coordination(a: str, b: str, r: float, frame: Frame) -> Array:
    of = chosen(frame.atoms, a)
    return np.array([len(neighbours(frame.atoms, of, chosen(frame.atoms, b), r).i) / len(of)])


def _angle(a: str, b: str, c: str, r: float, bins: int, frame: Frame) -> Array:
    """Numbers of angles, shape (bins,)."""
    atoms = frame.atoms
    of = chosen(atoms, b)
    first = neighbours(atoms, of, chosen(atoms, a), r)
    second = first if a == c else neighbours(atoms, of, chosen(atoms, c), r)
    p, q = same_centre(first.i, second.i)
    if a == c:
        p, q = p[p < q], q[p < q]
    found = angles(first.vectors[p], second.vectors[q])
    return histogram(np.minimum(found, np.nextafter(180.0, 0.0)), 0.0, 180.0, bins)  # 180 belongs to the last bin


def _distribution(width: float, averages: Array) -> Array:
    total = averages.sum(axis=-1, keepdims=True) * width
    density: Array = np.divide(averages, total, out=np.full(averages.shape, np.nan), where=total > 0)
    return density


def _hydrogen_bonds(r: float, largest: float, frame: Frame) -> Array:
    atoms = frame.atoms
    oxygens, hydrogens = chosen(atoms, "O"), chosen(atoms, "H")
    bonds = neighbours(atoms, hydrogens, np.flatnonzero(atoms.numbers != 1), r)
    order = np.lexsort((bonds.distances, bonds.i))
    nearest = order[np.unique(bonds.i[order], return_index=True)[1]]  # of each hydrogen
    nearest = nearest[atoms.numbers[bonds.j[nearest]] == 8]
    nearest = nearest[np.argsort(bonds.j[nearest], kind="stable")]
    pairs = neighbours(atoms, oxygens, oxygens, r)
    p, q = same_centre(pairs.i, bonds.j[nearest])
    found = angles(pairs.vectors[p], -bonds.vectors[nearest[q]])
    return np.array([np.count_nonzero(found < largest) / len(oxygens)])
