"""The loops, compiled. Serial and in a fixed order, so that the same input gives the same bits.

Symbols: N atoms, P pairs, K densities of an atom, F features of an atom; ``lm`` runs over (l_max + 1)^2 harmonics.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@njit(cache=True)
def radial(distance: Array, cutoff: float, n_max: int) -> tuple[Array, Array]:
    """R_n(r) = T_n(x) (1 - (r/r_c)^2)^2 and dR_n/dr; x is linear in 1/(1 + (r/r_0)^2), r_0 = r_c/3, from 1 to -1.

    Parameters: distance (P,), Å. Returns: two arrays (P, n_max).
    """
    r0 = cutoff / 3.0
    low = 1.0 / (1.0 + (cutoff / r0) ** 2)
    value = np.empty((distance.size, n_max))
    slope = np.empty((distance.size, n_max))
    for p in range(distance.size):
        r = distance[p]
        u = 1.0 / (1.0 + (r / r0) ** 2)
        x = 2.0 * (u - low) / (1.0 - low) - 1.0
        dx = -2.0 / (1.0 - low) * u * u * 2.0 * r / r0**2
        edge = 1.0 - (r / cutoff) ** 2
        f = edge * edge
        df = -4.0 * edge * r / cutoff**2
        t0, t1, d0, d1 = 1.0, x, 0.0, 1.0
        for n in range(n_max):
            value[p, n] = t0 * f
            slope[p, n] = d0 * dx * f + t0 * df
            t0, t1, d0, d1 = t1, 2.0 * x * t1 - t0, d1, 2.0 * t1 + 2.0 * x * d1 - d0
    return value, slope


@njit(cache=True)
def densities(i: IntArray, species_j: IntArray, value: Array, y: Array, n_atoms: int, n_species: int) -> Array:
    """A[i, (s, n, lm)] = sum over pairs of R_n Y_lm; i and species_j (P,), value (P, n_max), y (P, lm); (N, K)."""
    n_max, n_lm = value.shape[1], y.shape[1]
    a = np.zeros((n_atoms, n_species * n_max * n_lm))
    for p in range(i.size):
        base = species_j[p] * n_max * n_lm
        for n in range(n_max):
            for lm in range(n_lm):
                a[i[p], base + n * n_lm + lm] += value[p, n] * y[p, lm]
    return a


@njit(cache=True)
def features(
    a: Array, first: IntArray, second: IntArray, third: IntArray, coefficient: Array, start: IntArray
) -> Array:
    """B[i, f]: the products of densities (:mod:`alflow.potentials.ace.basis`); a (N, K); returns (N, F)."""
    n_atoms, n_features = a.shape[0], start.size - 1
    b = np.zeros((n_atoms, n_features))
    for i in range(n_atoms):
        for f in range(n_features):
            total = 0.0
            for t in range(start[f], start[f + 1]):
                product = coefficient[t] * a[i, first[t]]
                if second[t] >= 0:
                    product *= a[i, second[t]]
                if third[t] >= 0:
                    product *= a[i, third[t]]
                total += product
            b[i, f] = total
    return b


@njit(cache=True)
def features_adjoint(
    a: Array, db: Array, first: IntArray, second: IntArray, third: IntArray, coefficient: Array, start: IntArray
) -> Array:
    """dE/dA (N, K) from dE/dB (N, F)."""
    da = np.zeros_like(a)
    for i in range(a.shape[0]):
        for f in range(start.size - 1):
            for t in range(start[f], start[f + 1]):
                c = coefficient[t] * db[i, f]
                k1, k2, k3 = first[t], second[t], third[t]
                if k3 >= 0:
                    da[i, k1] += c * a[i, k2] * a[i, k3]
                    da[i, k2] += c * a[i, k1] * a[i, k3]
                    da[i, k3] += c * a[i, k1] * a[i, k2]
                elif k2 >= 0:
                    da[i, k1] += c * a[i, k2]
                    da[i, k2] += c * a[i, k1]
                else:
                    da[i, k1] += c
    return da


@njit(cache=True)
def pair_gradients(
    i: IntArray, species_j: IntArray, unit: Array, value: Array, slope: Array, y: Array, dy: Array, da: Array
) -> Array:
    """dE/dD of every pair vector D = r_j - r_i: (P, 3); unit (P, 3) = D/r, dy (P, 3, lm) the gradient of Y."""
    n_max, n_lm = value.shape[1], y.shape[1]
    g = np.zeros((i.size, 3))
    for p in range(i.size):
        base = species_j[p] * n_max * n_lm
        along = 0.0
        for lm in range(n_lm):
            u, v = 0.0, 0.0
            for n in range(n_max):
                d = da[i[p], base + n * n_lm + lm]
                u += d * value[p, n]
                v += d * slope[p, n]
            along += v * y[p, lm]
            for x in range(3):
                g[p, x] += u * dy[p, x, lm]
        for x in range(3):
            g[p, x] += along * unit[p, x]
    return g


@njit(cache=True)
def collect(i: IntArray, j: IntArray, vector: Array, g: Array, n_atoms: int) -> tuple[Array, Array]:
    """Forces (N, 3) and dE/d(strain) (3, 3) from the gradients g (P, 3) with respect to the pair vectors (P, 3)."""
    forces = np.zeros((n_atoms, 3))
    strain = np.zeros((3, 3))
    for p in range(i.size):
        for x in range(3):
            forces[i[p], x] += g[p, x]
            forces[j[p], x] -= g[p, x]
            for z in range(3):
                strain[x, z] += g[p, x] * vector[p, z]
    return forces, strain


@njit(cache=True)
def jacobian(
    a: Array, first: IntArray, second: IntArray, third: IntArray, coefficient: Array, start: IntArray
) -> Array:
    """dB/dA of one atom: (K, F); a (K,)."""
    out = np.zeros((a.size, start.size - 1))
    for f in range(start.size - 1):
        for t in range(start[f], start[f + 1]):
            c = coefficient[t]
            k1, k2, k3 = first[t], second[t], third[t]
            if k3 >= 0:
                out[k1, f] += c * a[k2] * a[k3]
                out[k2, f] += c * a[k1] * a[k3]
                out[k3, f] += c * a[k1] * a[k2]
            elif k2 >= 0:
                out[k1, f] += c * a[k2]
                out[k2, f] += c * a[k1]
            else:
                out[k1, f] += c
    return out


@njit(cache=True)
def density_gradients(unit: Array, value: Array, slope: Array, y: Array, dy: Array) -> Array:
    """d(R_n Y_lm)/dD of some pairs: (3 P, n_max lm), the three components of a pair in consecutive rows."""
    n_max, n_lm = value.shape[1], y.shape[1]
    out = np.empty((3 * unit.shape[0], n_max * n_lm))
    for p in range(unit.shape[0]):
        for x in range(3):
            for n in range(n_max):
                for lm in range(n_lm):
                    out[3 * p + x, n * n_lm + lm] = slope[p, n] * unit[p, x] * y[p, lm] + value[p, n] * dy[p, x, lm]
    return out


@njit(cache=True)
def scatter(rows: Array, block: Array, i: int, j: IntArray, offset: int) -> None:
    """Add dB_i/dD (3 P, F) of the pairs of one atom to the force rows (3 N, columns), from column ``offset`` on."""
    for p in range(j.size):
        for x in range(3):
            for f in range(block.shape[1]):
                rows[3 * i + x, offset + f] += block[3 * p + x, f]
                rows[3 * j[p] + x, offset + f] -= block[3 * p + x, f]
