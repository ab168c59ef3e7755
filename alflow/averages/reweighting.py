"""Thermodynamic averages in the ensembles of a committee's members, from one trajectory: on-the-fly reweighting.

Imbalzano, Zhuang, Kapil, Rossi, Engel, Grasselli, Ceriotti, J. Chem. Phys. 154, 074102 (2021), doi:10.1063/5.0036522.
With ``h_m = (V_m - U)/kT``, V_m a calibrated member and U the potential that drove the run, whatever it was:

============  =========================================  ===============================================================
method        average of a with member m                 source
============  =========================================  ===============================================================
``direct``    <a e^-h> / <e^-h>                          Torrie and Valleau, J. Comput. Phys. 23, 187 (1977)
``cea``       <a> - (<a h> - <a><h>)                     Ceriotti, Brain, Riordan and Manolopoulos, Proc. R. Soc. A 468,
                                                         2 (2012): the first order of the cumulant expansion
============  =========================================  ===============================================================

Which one. Where h is Gaussian with standard deviation s, direct reweighting leaves exp(-s^2) of the frames effective
(same source, its section 2): it is exact but, beyond s of about 1, few frames carry the average and its own error
estimate can no longer be trusted. The CEA has no such weights; it is exact for a and h that are jointly Gaussian, and
what it neglects is of the order of its next term. So: direct while every member keeps at least 1/e of the frames,
both as counted from its weights (Kish) and as exp(-s^2); the CEA otherwise.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alflow.averages.blocks import Blocks, Origin, n_blocks
from alflow.averages.results import Average, Method, Reweighted, decompose
from alflow.averages.run import Run
from alflow.errors import AverageError

__all__ = ["KEPT_MIN", "Average", "Chunk", "Method", "Quantity", "Reweighted", "decompose", "reweight"]

Array = NDArray[np.float64]

KEPT_MIN = float(np.exp(-1))
"""Share of the frames that every member must keep for direct reweighting."""

_NEXT_MAX = 0.3  # of the CEA's correction that its next term may be before it is said
_STEP = 0.01  # of the CEA's correction, by which functions of averages are differentiated
_FAR = 1e9  # kT, between a member and what drove the run, that nothing but a mistake explains
_FEW = 50  # independent frames below which the error of an error is not small


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive frames of one walker.

    Attributes
    ----------
    walker : int
        Which.
    energies : ndarray, shape (n, M)
        V_m, eV.
    driving : ndarray, shape (n,)
        U, eV.
    values : sequence of ndarray, shape (n, P) or (n, P, M)
        What is averaged, of each quantity; with a last axis where it depends on the member whose ensemble it is.
    """

    walker: int
    energies: Array
    driving: Array
    values: Sequence[Array]


@dataclass(frozen=True, eq=False)
class Quantity:
    """What becomes of averages.

    Attributes
    ----------
    name : str
        For messages.
    finish : callable
        From averages (..., P) to values (..., D).
    n_models : int
        M_a: models of the same property, as columns ``(p, a)`` of its parts; 1 when it has no committee of its own.
    """

    name: str
    finish: Callable[[Array], Array] = lambda averages: averages
    n_models: int = 1


def reweight(
    chunks: Iterable[Chunk],
    quantities: Sequence[Quantity],
    kT: float,
    *,
    method: Method | None = None,
    drop: float | None = None,
    n_walkers: int = 1,
) -> Reweighted:
    """Average quantities over a run in the ensembles of its members.

    Parameters
    ----------
    chunks : iterable of Chunk
        The frames of every walker in their order; walkers may alternate.
    quantities : sequence of Quantity
        One for each of the chunks' ``values``.
    kT : float
        eV.
    method : "direct" or "cea", optional
        By default as the module's docstring says.
    drop : float, optional
        Share of each walker that is dropped at its beginning, in whole blocks; from the driving energy by default.
    n_walkers : int
        How many walkers to expect, by which memory is divided.

    Raises
    ------
    AverageError
        Arrays that do not fit each other, or are not finite; fewer than two members; fewer than two frames; a kT that
        is not a positive number.
    """
    if not (np.isfinite(kT) and kT > 0):
        msg = f"kT: expected a number > 0 (eV), found {kT}: give the temperature of the thermostat"
        raise AverageError(msg)
    if drop is not None and not 0 <= drop < 1:
        msg = f"drop: expected a share of 0 or more and less than 1, found {drop}"
        raise AverageError(msg)
    run = Run.of(list(accumulate(chunks, quantities, kT, n_walkers).values()), drop)
    method, reason = _choose(run, method)
    averages = tuple(_average(run, j, quantity, method) for j, quantity in enumerate(quantities))
    g = run.inefficiency
    return Reweighted(
        averages=averages,
        method=method,
        reason=reason,
        n_frames=run.n_frames,
        n_dropped=run.n_dropped,
        n_walkers=len(run.n_blocks),
        n_members=len(run.h_spread),
        inefficiency=g,
        independent=run.n_frames / g,
        kept=run.kept,
        h_spread=run.h_spread,
        notes=tuple(_notes(run, quantities, averages, method, g)),
    )


# From frames to sums


def accumulate(chunks: Iterable[Chunk], quantities: Sequence[Quantity], kT: float, n_walkers: int) -> dict[int, Blocks]:
    """The sums of each walker; arguments and errors as of :func:`reweight`."""
    walkers: dict[int, Blocks] = {}
    origin: Origin | None = None
    done = 0
    for chunk in chunks:
        check(chunk, quantities, None if origin is None else len(origin.h), done)
        h = (chunk.energies - chunk.driving[:, None]) / kT
        if np.abs(h).max(initial=0.0) > _FAR:
            msg = (
                f"member and driving energies differ by {np.abs(h).max():.3g} kT: expected energies of the same frames"
            )
            raise AverageError(msg)
        if origin is None:
            origin = Origin(
                h.mean(axis=0), float(chunk.driving.mean()) / kT, tuple(v.mean(axis=0) for v in chunk.values)
            )
            parts = sum(value.shape[1] for value in chunk.values)
            most = n_blocks(parts, h.shape[1], n_walkers)
        blocks = walkers.setdefault(chunk.walker, Blocks(origin, most))
        blocks.add(h, chunk.driving / kT, chunk.values)
        done += len(h)
    if done < 2:
        msg = f"expected two frames or more, found {done}: an average needs a run"
        raise AverageError(msg)
    return walkers


def check(chunk: Chunk, quantities: Sequence[Quantity], expected: int | None, first: int) -> None:
    """Refuse, with AverageError, what cannot be averaged, or has not the expected number of members.

    ``first`` is the number of the first frame.
    """
    n, n_members = chunk.energies.shape
    if n_members < 2:
        msg = f"expected the energies of two members or more, found {n_members}: the error of a model needs a committee"
        raise AverageError(msg)
    if expected is not None and n_members != expected:
        msg = f"frame {first}: expected {expected} members as before, found {n_members}"
        raise AverageError(msg)
    named = {"member energies": chunk.energies, "driving energies": chunk.driving}
    named |= {quantity.name: value for quantity, value in zip(quantities, chunk.values, strict=True)}
    for name, value in named.items():
        if len(value) != n:
            msg = f"{name}: expected {n} frames, as many as of member energies, found {len(value)}"
            raise AverageError(msg)
        finite = np.isfinite(value).reshape(n, -1).all(axis=1)
        if not finite.all():
            msg = (
                f"{name}: not finite in frame {first + int(np.argmin(finite))}: expected numbers; leave that frame out"
            )
            raise AverageError(msg)


# From sums to averages


def _choose(run: Run, method: Method | None) -> tuple[Method, str]:
    worst = int(np.argmax(run.h_spread))
    found = f"spread of h up to {run.h_spread[worst]:.2g} (member {worst}), {100 * run.kept:.3g} % of frames effective"
    if method is not None:
        return method, f"asked for ({found})"
    if run.kept >= KEPT_MIN:
        return "direct", f"{found}: at least {100 * KEPT_MIN:.0f} % for every member"
    return "cea", f"{found}: below {100 * KEPT_MIN:.0f} %, few frames would dominate direct reweighting"


def _average(run: Run, j: int, quantity: Quantity, method: Method) -> Average:
    plain = finished(run.averages(j, "plain"), quantity)
    members = _reweighted(run, j, quantity, method)
    driven = plain.mean(axis=(2, 3))
    value = members.mean(axis=(2, 3))
    sigma_a, sigma_aV, sigma = decompose(members)
    return Average(
        value=value[0],
        statistical=run.errors(value),
        model=sigma[0],
        model_noise=run.errors(sigma),
        driven=driven[0],
        driven_statistical=run.errors(driven),
        members=members[0],
        sigma_a=sigma_a[0],
        sigma_aV=sigma_aV[0],
    )


def _reweighted(run: Run, j: int, quantity: Quantity, method: Method | Literal["next"]) -> Array:
    """Values (K + 1, D, M_a, M) with each member.

    Under the cumulant expansion a function of averages is expanded to first order too: its second order would be as
    wrong as what the expansion neglects, and a variance would get minus the square of the shift of its mean.
    """
    parts = run.averages(j, method)
    if method == "direct":
        return finished(parts, quantity)
    plain = np.broadcast_to(run.averages(j, "plain"), parts.shape)
    step = _STEP * (parts - plain)
    up, down = finished(plain + step, quantity), finished(plain - step, quantity)
    return finished(plain, quantity) + (up - down) / (2 * _STEP)


def finished(averages: Array, quantity: Quantity) -> Array:
    """Averages (K + 1, P M_a, M) of the parts to values (K + 1, D, M_a, M)."""
    rows, columns, n_members = averages.shape
    parts = averages.reshape(rows, columns // quantity.n_models, quantity.n_models, n_members)
    return np.moveaxis(quantity.finish(np.moveaxis(parts, 1, -1)), -1, 1)


# What to beware of


def _notes(
    run: Run, quantities: Sequence[Quantity], averages: Sequence[Average], method: Method, g: float
) -> Iterable[str]:
    independent = run.n_frames / g
    if run.most_dropped > 0.5:
        yield f"a walker reached equilibrium only after {100 * run.most_dropped:.0f} % of its frames: run longer"
    if independent < _FEW:
        yield f"only {independent:.0f} independent frames: errors are rough; run longer"
    if method == "direct" and run.kept < KEPT_MIN:
        yield (
            f"direct reweighting leaves {100 * run.kept:.2g} % of the frames effective for one member: a few frames "
            "dominate, and errors may be far too small; the CEA is what alflow would choose"
        )
    for j, (quantity, average) in enumerate(zip(quantities, averages, strict=True)):
        if not np.isfinite(average.value).any():
            yield f"{quantity.name} has no value: what it is of was never visited"
            continue
        if np.all(average.statistical == 0) and np.all(average.model == 0):
            yield f"{quantity.name} is constant: it has no error, and says nothing of the model"
            continue
        if method == "cea":
            share = _neglected(run, j, quantity)
            if share > _NEXT_MAX:
                yield (
                    f"{quantity.name}: the next term of the cumulant expansion is {100 * share:.0f} % of the first: "
                    "members differ too much for the CEA, and the model error may be wrong by as much; train on more, "
                    f"or let members drive: alflow produce --drive members, {len(run.h_spread)} equilibrations"
                )
        noise = average.model_noise[average.model > 0] / average.model[average.model > 0]
        if len(noise) and np.median(noise) > 0.5:
            yield f"{quantity.name}: the model error is not resolved (its own error is larger than half of it)"


def _neglected(run: Run, j: int, quantity: Quantity) -> float:
    """Root mean square of the CEA's next term over that of its first, noise subtracted; 0 where all is noise."""
    plain = finished(run.averages(j, "plain"), quantity)
    first, second = _reweighted(run, j, quantity, "cea"), _reweighted(run, j, quantity, "next")
    correction, rest = first - plain, second - first
    squares = [np.nansum(x[0] ** 2 - run.errors(x) ** 2) for x in (correction, rest)]
    return float(np.sqrt(squares[1] / squares[0])) if min(squares) > 0 else 0.0
