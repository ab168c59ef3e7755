"""Averages over walkers that single members drove, in the ensembles of all members.

Reweighting from one run fails where members differ by many kT. Here each member has frames of its own:

========  ==============================================================================================================
method    average of a with member m
========  ==============================================================================================================
``mbar``  over the frames of all walkers, reweighted from their mixture (:mod:`alflow.averages.multistate`)
``own``   over the frames of the walkers that m drove
========  ==============================================================================================================

The first where all members overlap, by way of others at least: it uses every frame for every member. The second
otherwise.

Statistical errors are those of the jackknife over blocks (:mod:`alflow.averages.run`). A block b of a walker that
member s drove also tells the free energies of the mixture: without it they change, with ``c_k = ln N_k + f_k``, by

``dc = H^-1 (P_b - n_b e_s)``,  ``P_b = sum_(n in b) p(x_n)``,  ``H = sum_n (diag p - p p^T)``,

to first order, and the average with member m by ``-sum_k dc_k (<a p_k>_m - <a>_m <p_k>_m)``.

Averages of members that have noise of their own scatter by more than the model error. With ``s_m`` the statistical
error of ``A_m - mean A`` of the M averages A_m,

``model^2 = var_m A_m - sum_m s_m^2/(M - 1)``,

not below zero; for ``own`` that is the scatter less the mean square of the members' statistical errors. Of that
difference the variance by statistics alone is, with ``b`` the second term and nu its degrees of freedom,
``V = 4 b model^2/(M - 1) + 2 b^2/(M - 1) + 2 b^2/nu`` (variances of sums of squares of normal numbers), and the
model error is given the error ``sqrt(model^2 + sqrt V) - model``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alflow.averages.blocks import BLOCKS
from alflow.averages.multistate import OVERLAP_MIN, Mixture
from alflow.averages.results import Average, MembersMethod, Reweighted, combined, decompose
from alflow.averages.reweighting import Chunk, Quantity, accumulate, check, finished
from alflow.averages.run import Run
from alflow.averages.statistics import equilibrated, inefficiency, pooled, student
from alflow.errors import AverageError

Array = NDArray[np.float64]

_FEW = 50  # independent frames of a member below which the error of an error is not small


def average_members(
    energies: Iterable[Chunk],
    chunks: Callable[[], Iterable[Chunk]],
    quantities: Sequence[Quantity],
    kT: float,
    drivers: Sequence[int],
    *,
    method: MembersMethod | None = None,
    drop: float | None = None,
) -> Reweighted:
    """Average quantities over walkers that single members drove.

    Parameters
    ----------
    energies : iterable of Chunk
        The frames of every walker in their order, of which the energies are read before anything else.
    chunks : callable
        The same frames again, with the values of each quantity.
    quantities : sequence of Quantity
        One for each of the chunks' ``values``.
    kT : float
        eV.
    drivers : sequence of int
        The member that drove each walker.
    method : "mbar" or "own", optional
        By default as the module's docstring says.
    drop : float, optional
        Share of each walker that is dropped at its beginning; from the driving energy by default.

    Raises
    ------
    AverageError
        As of :func:`alflow.averages.reweighting.reweight`; fewer than two members drove two frames or more.
    """
    walks = Walks.of(energies, drivers, drop)
    mixture = Mixture.of([w[k:] for w, k in zip(walks.energies, walks.first, strict=True)], walks.drivers, kT)
    method, reason = _choose(mixture, method)
    of = _by_mixture if method == "mbar" else _by_walker
    averages, effective = of(_kept(chunks(), walks), quantities, mixture, walks)
    n = walks.n_frames
    return Reweighted(
        averages=averages,
        method=method,
        reason=reason,
        n_frames=n,
        n_dropped=sum(walks.first),
        n_walkers=len(walks.first),
        n_members=len(mixture.counts),
        inefficiency=n / walks.independent.sum(),
        independent=float(walks.independent.sum()),
        kept=effective / n,
        h_spread=walks.spread / kT,
        notes=tuple(_notes(walks, mixture, quantities, averages)),
    )


@dataclass(frozen=True, eq=False)
class Walks:
    """What the energies of all frames tell.

    Attributes
    ----------
    numbers, drivers, first : list of int, length W
        Of each walker that has frames: its number, the member that drove it, and the first frame in equilibrium.
    energies : list of ndarray, shape (n_w, M)
        Of all members in all of its frames, eV.
    """

    numbers: list[int]
    drivers: list[int]
    first: list[int]
    energies: list[Array]

    @classmethod
    def of(cls, chunks: Iterable[Chunk], drivers: Sequence[int], drop: float | None) -> "Walks":
        """Gather the energies; arguments and errors as of :func:`average_members`."""
        if drop is not None and not 0 <= drop < 1:
            msg = f"drop: expected a share of 0 or more and less than 1, found {drop}"
            raise AverageError(msg)
        found: dict[int, list[Array]] = {}
        expected, done = None, 0
        for chunk in chunks:
            check(replace(chunk, values=()), (), expected, done)
            found.setdefault(chunk.walker, []).append(chunk.energies)
            expected, done = chunk.energies.shape[1], done + len(chunk.energies)
        numbers = sorted(found)
        energies = [np.concatenate(found[k]) for k in numbers]
        of = [drivers[k] for k in numbers]
        first = [
            _equilibrium(walk[:, m]) if drop is None else int(drop * len(walk))
            for walk, m in zip(energies, of, strict=True)
        ]
        if len({m for walk, m in zip(energies, of, strict=True) if len(walk) > 1}) < 2:
            msg = "fewer than two members have driven two frames or more: expected a longer run"
            raise AverageError(msg)
        return cls(numbers, of, first, energies)

    @property
    def n_frames(self) -> int:
        """In equilibrium."""
        return sum(len(walk) - k for walk, k in zip(self.energies, self.first, strict=True))

    @property
    def independent(self) -> Array:
        """Frames of each walker that are independent, by the energy that drove it, shape (W,)."""
        series = [walk[k:, m] for walk, k, m in zip(self.energies, self.first, self.drivers, strict=True)]
        g = np.array([float(inefficiency([x - x.mean()])) for x in series])
        return np.array([len(x) for x in series]) / np.where(np.isfinite(g), g, 1.0)

    @property
    def spread(self) -> Array:
        """Standard deviation of each member's energy less the mean of all, over the frames, shape (M,), eV."""
        kept = np.concatenate([walk[k:] for walk, k in zip(self.energies, self.first, strict=True)])
        return np.asarray(np.std(kept - kept.mean(axis=1, keepdims=True), axis=0))


def _kept(chunks: Iterable[Chunk], walks: Walks) -> Iterator[Chunk]:
    """The frames in equilibrium, of those whose energies were read: a run may have gone on meanwhile."""
    place = {
        number: [first, len(walk)]
        for number, first, walk in zip(walks.numbers, walks.first, walks.energies, strict=True)
    }
    for chunk in chunks:
        begin, end = place.get(chunk.walker, (0, 0))
        n = len(chunk.energies)
        place[chunk.walker] = [max(begin - n, 0), max(end - n, 0)]
        part = slice(begin, min(end, n))
        if begin < min(end, n):
            values = [value[part] for value in chunk.values]
            yield replace(chunk, energies=chunk.energies[part], driving=chunk.driving[part], values=values)


def _equilibrium(driving: Array) -> int:
    """First frame of a walker that is in equilibrium by the energies (n,) that drove it."""
    length = max(1, len(driving) // BLOCKS)
    whole = len(driving) // length
    return length * equilibrated(driving[: whole * length].reshape(whole, length).mean(axis=1)) if whole > 4 else 0


def _choose(mixture: Mixture, method: MembersMethod | None) -> tuple[MembersMethod, str]:
    there = mixture.overlap[mixture.counts > 0]
    least = float(there.max(axis=1).min())
    if mixture.groups == 1:
        found = f"all members overlap, each with another by {100 * least:.2g} % or more (50 %: the same ensemble)"
    else:
        alone = int(np.sum(there.max(axis=1) < OVERLAP_MIN))
        single = f"{alone} of {len(there)} members overlap with no other" if alone else "not all members overlap"
        found = f"{single} by {100 * OVERLAP_MIN:.0f} %, which makes {mixture.groups} groups"
    if method is not None:
        return method, f"asked for ({found})"
    return ("mbar" if mixture.groups == 1 else "own"), found


# From the mixture of all


class _Coupling:
    """Sums over frames that say how averages change with the free energies of the mixture.

    Attributes
    ----------
    pairs : ndarray, shape (M, M)
        Sum of W_m p_k, with ``W_m = exp(f_m - u_m + u)``, whose sum is 1.
    squares : ndarray, shape (M,)
        Sum of W_m^2.
    values : list of ndarray, shape (P, M, M)
        Sum of a W_m p_k, of each quantity.
    """

    def __init__(self, mixture: Mixture, n_quantities: int) -> None:
        n = len(mixture.counts)
        self.mixture = mixture
        self.pairs, self.squares = np.zeros((n, n)), np.zeros(n)
        self.values: list[Array] = [np.zeros((0, n, n))] * n_quantities

    def added(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Add chunks as they pass, with the potential of the mixture as what drove them."""
        for chunk in chunks:
            weights = self.mixture.weights(chunk.energies)
            shares = self.mixture.counts * weights
            self.pairs += weights.T @ shares
            self.squares += np.sum(weights**2, axis=0)
            for j, a in enumerate(chunk.values):
                each = a[:, :, None] if a.ndim == 2 else a
                found = np.einsum("npm,nk->pmk", each * weights[:, None, :], shares, optimize=True)
                self.values[j] = self.values[j] + found if len(self.values[j]) else found
            yield replace(chunk, driving=self.mixture.potential(chunk.energies))


def _by_mixture(
    chunks: Iterable[Chunk], quantities: Sequence[Quantity], mixture: Mixture, walks: Walks
) -> tuple[tuple[Average, ...], float]:
    """Averages over the frames of all walkers, and how many are effective for the member where that is least."""
    coupling = _Coupling(mixture, len(quantities))
    blocks = accumulate(coupling.added(chunks), quantities, mixture.kT, len(walks.numbers))
    run = Run.of([blocks[number] for number in walks.numbers if number in blocks], 0.0)
    drivers = np.repeat([m for m, n in zip(walks.drivers, walks.numbers, strict=True) if n in blocks], run.n_blocks)
    changes = _changes(run, drivers, mixture.counts, coupling.pairs)
    averages = []
    for j, quantity in enumerate(quantities):
        parts = run.averages(j, "direct")
        slope = coupling.values[j] - parts[0][:, :, None] * coupling.pairs
        parts[1:] -= np.tensordot(changes, slope, axes=(1, 2))
        members, plain = finished(parts, quantity), finished(run.averages(j, "plain"), quantity).mean(axis=(2, 3))
        value = members.mean(axis=(2, 3))
        noise = run.variance(members - members.mean(axis=3, keepdims=True))
        found = _average(members[0], run.errors(value), noise)
        averages.append(replace(found, driven=plain[0], driven_statistical=run.errors(plain)))
    return tuple(averages), float(1 / coupling.squares.max())


def _changes(run: Run, drivers: NDArray[np.int64], counts: Array, pairs: Array) -> Array:
    """By what ln N_k + f_k change without each block, shape (K, M)."""
    sums = run.blocks["w"]
    excess = sums / sums.sum(axis=0) * counts
    excess[np.arange(len(drivers)), drivers] -= run.blocks["n"]
    return np.asarray(excess @ np.linalg.pinv(np.diag(counts) - counts[:, None] * pairs, hermitian=True))


# From each member's own walkers


def _by_walker(
    chunks: Iterable[Chunk], quantities: Sequence[Quantity], mixture: Mixture, walks: Walks
) -> tuple[tuple[Average, ...], float]:
    """Averages over the frames of each member's own walkers, and how many the member with the fewest has."""
    blocks = accumulate(chunks, quantities, mixture.kT, len(walks.numbers))
    runs: dict[int, Run] = {}
    for m in sorted(set(walks.drivers)):
        mine = [
            blocks[n] for n, driver in zip(walks.numbers, walks.drivers, strict=True) if driver == m and n in blocks
        ]
        if sum(len(one.sums["n"]) for one in mine) > 1:
            runs[m] = Run.of(mine, 0.0)
    if len(runs) < 2:
        msg = "fewer than two members have two blocks of frames: expected a longer run, or less of it dropped"
        raise AverageError(msg)
    averages = []
    for j, quantity in enumerate(quantities):
        found = {}
        for m, run in runs.items():
            parts = run.averages(j, "plain")
            values = finished(parts[:, :, [m if parts.shape[2] > 1 else 0]], quantity)
            found[m] = (values[0], *run.variance(values), run.variance(values.mean(axis=2))[0])
        values, variance, freedom = (np.concatenate([of[k] for of in found.values()], axis=2) for k in range(3))
        of_mean, nu = pooled(np.concatenate([of[3] for of in found.values()], axis=1), freedom.mean(axis=1))
        statistical = np.sqrt(of_mean) / len(runs) * student(nu)
        m = len(runs)  # A_m - mean A of independent A_m have (M - 1)/M of their variances, all together
        found_of = _average(values, statistical, (variance * (m - 1) / m, freedom))
        members = np.full((*values.shape[:2], len(mixture.counts)), np.nan)
        members[:, :, list(runs)] = values
        averages.append(replace(found_of, members=members))
    return tuple(averages), float(min(run.n_frames for run in runs.values()))


# Both


def _average(members: Array, statistical: Array, noise: tuple[Array, Array]) -> Average:
    """An average that is made of those with each member.

    Parameters
    ----------
    members : ndarray, shape (D, M_a, M)
        Averages.
    statistical : ndarray, shape (D,)
        Error of their mean.
    noise : tuple of ndarray, shape (D, M_a, M)
        Variance by statistics of each of them less the mean of the members, and its degrees of freedom.
    """
    n_models, n_members = members.shape[1:]
    excess, freedom = pooled(*noise)
    excess, freedom = (excess / (n_members - 1)).mean(axis=1), freedom.mean(axis=1)
    sigma_a, sigma_aV, _ = decompose(members)
    potential = np.maximum(sigma_aV**2 - excess, 0.0)
    model = np.sqrt(combined(sigma_a**2, potential, n_models, n_members))
    unsure = 4 * excess * potential / (n_members - 1) + 2 * excess**2 * (1 / (n_members - 1) + 1 / freedom)
    value = members.mean(axis=(1, 2))
    return Average(
        value=value,
        statistical=statistical,
        model=model,
        model_noise=np.sqrt(model**2 + np.sqrt(unsure)) - model,
        driven=value,
        driven_statistical=statistical,
        members=members,
        sigma_a=sigma_a,
        sigma_aV=np.sqrt(potential),
    )


def _notes(
    walks: Walks, mixture: Mixture, quantities: Sequence[Quantity], averages: Sequence[Average]
) -> Iterator[str]:
    """What to beware of."""
    late = max(first / len(walk) for first, walk in zip(walks.first, walks.energies, strict=True))
    if late > 0.5:
        yield f"a walker reached equilibrium only after {100 * late:.0f} % of its frames: run longer"
    absent = np.flatnonzero(mixture.counts == 0)
    if len(absent):
        yield f"no frames are there that these members drove: {', '.join(map(str, absent))}"
    independent = np.bincount(walks.drivers, walks.independent, minlength=len(mixture.counts))
    least = independent[mixture.counts > 0].min()
    if least < _FEW:
        yield f"only {least:.0f} independent frames of a member: errors are rough; run longer"
    for quantity, average in zip(quantities, averages, strict=True):
        if not np.isfinite(average.value).any():
            yield f"{quantity.name} has no value: what it is of was never visited"
        elif np.all(average.statistical == 0) and np.all(average.model == 0):
            yield f"{quantity.name} is constant: it has no error, and says nothing of the model"
        elif np.mean(average.model_noise > average.model / 2) > 0.5:
            yield (
                f"{quantity.name}: the model error is not resolved (members differ by little more than their "
                "statistical errors): run longer"
            )
