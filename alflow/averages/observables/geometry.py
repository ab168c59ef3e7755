"""Neighbours, separations and angles, in any cell, periodic in any directions."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry import complete_cell, find_mic

from alflow.averages.observables.base import Array, Indices
from alflow.errors import ObservableError

_MOST = 1_000_000  # points that a small cell may be repeated to
_MARGIN = 1.001  # on lengths that freud compares in single precision


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Pairs of atoms, sorted by the first.

    Attributes
    ----------
    i, j : ndarray of int, shape (K,)
        Centre and neighbour; the same j as often as it has images near i, and i itself where these are its own.
    vectors : ndarray, shape (K, 3)
        From i to j, Å, in axes of freud's own: good for lengths and angles.
    distances : ndarray, shape (K,)
        Their lengths, Å.
    """

    i: Indices
    j: Indices
    vectors: Array
    distances: Array


def chosen(atoms: Atoms, symbol: str) -> Indices:
    """Indices of the atoms of a species; ObservableError if there are none."""
    found = np.flatnonzero(atoms.numbers == atomic_numbers[symbol])
    if not len(found):
        msg = f"no {symbol} in {atoms.symbols}: expected at least one; name a species of the run"
        raise ObservableError(msg)
    return found


def check_indices(atoms: Atoms, indices: tuple[int, ...]) -> None:
    """ObservableError for an atom that there is not."""
    if max(indices) >= len(atoms):
        msg = f"there is no atom {max(indices)}: expected indices from 0 to {len(atoms) - 1}"
        raise ObservableError(msg)


def check_periodic(atoms: Atoms) -> None:
    """ObservableError for a structure without a volume."""
    if not atoms.pbc.all():
        msg = f"it needs a structure that is periodic in three directions, found pbc = {atoms.pbc.tolist()}"
        raise ObservableError(msg)
    cell_of(atoms)


def cell_of(atoms: Atoms) -> Array:
    """Cell vectors as rows; unit vectors normal to the others where it is not periodic. ObservableError: no volume."""
    vectors = atoms.cell.array[atoms.pbc]
    if len(vectors) and np.linalg.matrix_rank(vectors, tol=1e-3) < len(vectors):
        msg = f"the cell {atoms.cell.cellpar().round(3).tolist()} of a periodic structure has no volume: correct it"
        raise ObservableError(msg)
    # Vectors of directions that are not periodic mean nothing, and may depend on the others: they are replaced.
    return np.asarray(complete_cell(np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)), dtype=float)


def heights(cell: Array) -> Array:
    """Distances between opposite faces of a cell, shape (3,), Å."""
    return np.asarray(1 / np.linalg.norm(np.linalg.inv(cell), axis=0))


def freud_points(cell: Array, fractional: Array) -> tuple[object, Array]:
    """A freud box, and the points with fractional coordinates (N, 3) in it.

    freud has the first vector of a cell along x and the second in the plane xy. Such a cell is the Cholesky factor of
    the matrix of scalar products of the vectors: turned, or mirrored, it has the same distances and angles. Points are
    moved into the cell in double precision.
    """
    import freud

    lower = np.linalg.cholesky(cell @ cell.T)
    (a, _, _), (xy, b, _), (xz, yz, c) = lower
    box = freud.box.Box(a, b, c, xy / b, xz / c, yz / c)
    return box, (fractional - np.round(fractional)) @ lower


def neighbours(atoms: Atoms, of: Indices, among: Indices, cutoff: float) -> Neighbours:
    """All pairs nearer than a cutoff, found by freud.

    freud wants a periodic cell of more than twice the cutoff between its faces; a smaller one is repeated, so that all
    images of a pair are found.

    Parameters
    ----------
    atoms : Atoms
        The structure.
    of, among : ndarray of int
        Centres, and which atoms can be their neighbours.
    cutoff : float
        Å.

    Raises
    ------
    ObservableError
        A periodic cell without a volume, or one so small that it would be repeated to a million points.
    """
    import freud

    cell, fractional = _periodic(atoms, cutoff)
    n_cells = np.maximum(np.ceil(2 * _MARGIN * cutoff / heights(cell)).astype(int), 1)
    if np.prod(n_cells.astype(float)) * len(among) > _MOST:
        faces = heights(cell).round(2).tolist()
        msg = f"{cutoff:g} Å is far larger than the cell, {faces} Å between its faces: lower it"
        raise ObservableError(msg)
    shifts = np.array(list(np.ndindex(*n_cells)))
    centres, others = fractional[of] / n_cells, ((fractional[among] + shifts[:, None]) / n_cells).reshape(-1, 3)
    box, points = freud_points(cell * n_cells[:, None], np.concatenate([centres, others]))
    tree = freud.locality.AABBQuery(box, points[len(of) :])
    found = tree.query(points[: len(of)], {"r_max": cutoff, "exclude_ii": False}).toNeighborList()
    i, place = of[found.query_point_indices], np.asarray(found.point_indices, dtype=np.intp)
    j = np.tile(among, len(shifts))[place]
    pairs = (i != j) | (place >= len(among))  # not an atom with itself
    return Neighbours(i[pairs], j[pairs], found.vectors[pairs].astype(float), found.distances[pairs].astype(float))


def _periodic(atoms: Atoms, cutoff: float) -> tuple[Array, Array]:
    """A periodic cell in which nothing nearer than the cutoff is added to a structure; fractional coordinates in it."""
    cell = cell_of(atoms)
    fractional = atoms.positions @ np.linalg.inv(cell)
    if atoms.pbc.all():
        return cell, fractional
    middle, extent = (fractional.max(axis=0) + fractional.min(axis=0)) / 2, np.ptp(fractional, axis=0)
    # Where it is not periodic, fractional coordinates are along unit vectors: lengths.
    lengths = np.where(atoms.pbc, 1.0, extent + 2 * _MARGIN * cutoff + 1.0)
    return cell * lengths[:, None], np.where(atoms.pbc, fractional, fractional - middle) / lengths


def same_centre(first: Indices, second: Indices) -> tuple[Indices, Indices]:
    """All places p and q with ``first[p] == second[q]``; ``second`` must be sorted."""
    start, stop = np.searchsorted(second, first), np.searchsorted(second, first, side="right")
    count = stop - start
    p = np.repeat(np.arange(len(first)), count)
    return p, np.arange(len(p)) + np.repeat(start - (np.cumsum(count) - count), count)


def separations(atoms: Atoms, i: Indices | int, j: Indices | int) -> Array:
    """Vectors (K, 3) from atoms i to the nearest images of atoms j, Å."""
    vectors = np.atleast_2d(atoms.positions[j] - atoms.positions[i])
    return np.asarray(find_mic(vectors, cell_of(atoms), atoms.pbc)[0]) if atoms.pbc.any() else vectors


def angles(u: Array, v: Array) -> Array:
    """Angles between vectors (K, 3), degrees; as precise near 0 and 180 as elsewhere."""
    return np.asarray(
        np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), np.einsum("...x,...x->...", u, v)))
    )
