"""Frames of several members' ensembles as one sample of their mixture: the multistate Bennett acceptance ratio (MBAR).

Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008), doi:10.1063/1.2978177. N_k frames are of the ensemble of member
k, ``u_k = V_k/kT``. All of them together count as frames of the mixture

``exp(-u) = sum_k N_k exp(f_k - u_k)``, with the free energies f_k that solve ``sum_n p_k(x_n) = N_k``,

where ``p_k = N_k exp(f_k - u_k + u)`` is the share of member k in a frame. So what drove the run is, for all that
follows, ``U = kT u``, and reweighting from it to each member is direct reweighting. Nothing uses frames better where
ensembles overlap; where they do not, shares are 0 and 1, f is not determined, and each member is left with its own.

The solution is the minimum of the convex ``sum_n ln sum_k N_k exp(f_k - u_k(x_n)) - sum_k N_k f_k`` (same source, its
appendix), found by SciPy with first and second derivatives: fifteen to a hundred times as fast as pymbar 4.0, whose
results it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, logsumexp

from alflow.errors import AverageError

Array = NDArray[np.float64]

OVERLAP_MIN = 0.03
"""Overlap from which two ensembles tell each other's free energy (Klimovich, Shirts and Mobley, J. Comput. Aided Mol.
Des. 29, 397 (2015), doi:10.1007/s10822-015-9840-9); 0.5 of equal ones."""

_GTOL, _ACCEPTED = 1e-9, 1e-6  # of sum p_k - N_k, over all frames: aimed at, and where rounding may end it


@dataclass(frozen=True, eq=False)
class Mixture:
    """What all frames together are a sample of.

    Attributes
    ----------
    kT : float
        eV.
    counts : ndarray, shape (M,)
        N_k, frames that each member drove.
    free : ndarray, shape (M,)
        f_k, free energies of the members over kT; of one that drove no frame by reweighting.
    overlap : ndarray, shape (M, M)
        Of frames that one member drove, the share that another, driving as many, would take for its own: 0.5 where two
        ensembles are the same. The smaller one of both directions; 0 on the diagonal and of members without frames.
    """

    kT: float  # noqa: N815 - the paper's symbol
    counts: Array
    free: Array
    overlap: Array

    @classmethod
    def of(cls, walks: Sequence[Array], drivers: Sequence[int], kT: float) -> "Mixture":
        """Solve for the free energies.

        Parameters
        ----------
        walks : sequence of ndarray, shape (n_w, M)
            Energies of all members in the frames of each walker, eV.
        drivers : sequence of int
            Which member drove each of them.
        kT : float
            eV.
        """
        energies = np.concatenate(walks)
        # A constant of a frame is one of all members: it changes nothing but digits.
        u = (energies - energies.mean(axis=1, keepdims=True)) / kT
        driver = np.repeat(drivers, [len(walk) for walk in walks])
        counts = np.bincount(driver, minlength=u.shape[1]).astype(float)
        free = _free_energies(u, driver, counts)
        return cls(kT, counts, free, _overlap(u, driver, free))

    @property
    def logs(self) -> Array:
        """Ln N_k + f_k, shape (M,); minus infinity of a member that drove no frame."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.counts) + self.free)

    def potential(self, energies: Array) -> Array:
        """U of frames with these energies (n, M) of the members, shape (n,), eV."""
        return np.asarray(-self.kT * logsumexp(self.logs - energies / self.kT, axis=1))

    def weights(self, energies: Array) -> Array:
        """p_k/N_k = exp(f_k - u_k + u), by which the frames count for each member, shape (n, M); they sum to 1."""
        exponents = self.logs - energies / self.kT
        total = logsumexp(exponents, axis=1, keepdims=True)
        return np.asarray(np.exp(self.free - energies / self.kT - total))

    @property
    def groups(self) -> int:
        """How many groups the members that drove frames fall into, none of which overlaps with another."""
        there = self.counts > 0
        linked = self.overlap[np.ix_(there, there)] >= OVERLAP_MIN
        return int(connected_components(linked, directed=False, return_labels=False))


def _free_energies(u: Array, driver: NDArray[np.int64], counts: Array) -> Array:
    """f_k, shape (M,), of which that of the first member with frames is 0."""
    there = np.flatnonzero(counts)
    n, logs, mine = len(u), np.log(counts[there]), u[:, there]

    def shares(free: Array) -> tuple[Array, Array]:
        """p_k (n, K), and the logarithm of what they are over, (n,)."""
        exponents = logs + np.append(0.0, free) - mine
        total = logsumexp(exponents, axis=1)
        return np.exp(exponents - total[:, None]), total

    def value(free: Array) -> tuple[float, Array]:
        p, total = shares(free)
        return float(total.sum() - counts[there][1:] @ free) / n, (p.sum(axis=0) - counts[there])[1:] / n

    def curvature(free: Array) -> Array:
        p, _ = shares(free)
        return np.asarray((np.diag(p.sum(axis=0)) - p.T @ p)[1:, 1:] / n)

    # Where members differ by Gaussian noise of one width this is the solution.
    begin = np.array([u[driver == k, k].mean() for k in there])
    out = np.zeros(u.shape[1])
    if len(there) > 1:
        found = minimize(
            value, (begin - begin[0])[1:], jac=True, hess=curvature, method="trust-exact", options={"gtol": _GTOL}
        )
        if not np.abs(found.jac).max() < _ACCEPTED:
            msg = "the free energies of the members' ensembles were not found: average with --method own"
            raise AverageError(msg)
        out[there[1:]] = found.x
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        total = shares(out[there[1:]])[1]
        out[absent] = -logsumexp(-u[:, absent] - total[:, None], axis=0)
    return out


def _overlap(u: Array, driver: NDArray[np.int64], free: Array) -> Array:
    """As of :attr:`Mixture.overlap`."""
    found = np.zeros((len(free), len(free)))
    for k in np.unique(driver):
        mine = free - u[driver == k]
        found[k] = expit(mine - mine[:, [k]]).mean(axis=0)
    np.fill_diagonal(found, 0.0)
    return np.minimum(found, found.T)
