"""From frames to averages: observables measured on the frames of a source, reweighted as they come."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import cast, get_args

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from alflow.averages.members import average_members
from alflow.averages.observables.base import Frame, Observable
from alflow.averages.results import MembersMethod, Method
from alflow.averages.reweighting import Chunk, Quantity, Reweighted, reweight
from alflow.errors import AverageError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive frames of one walker, as a source gives them.

    Attributes
    ----------
    walker : int
        Which.
    energies : ndarray, shape (n, M)
        Calibrated members, the baseline included, eV.
    driving : ndarray, shape (n,)
        Potential that drove the run, eV.
    frames : sequence of Atoms, length n, or None
        Structures, with momenta where the run has them; None where a source has none.
    """

    walker: int
    energies: Array
    driving: Array
    frames: Sequence[Atoms] | None


@dataclass(frozen=True, eq=False)
class Source:
    """A run to average over.

    Attributes
    ----------
    name : str
        For titles and messages.
    temperature : float
        Of its thermostat, K.
    pressure : float or None
        Of its barostat, eV/Å^3; None at constant volume.
    n_walkers : int
        How many walkers its batches are of.
    batches : callable
        Reads it from its beginning, in pieces that fit into memory.
    notes : tuple of str
        What to beware of.
    drivers : tuple of int, optional
        The calibrated member that drove each walker; by default one potential drove them all.
    """

    name: str
    temperature: float
    pressure: float | None
    n_walkers: int
    batches: Callable[[], Iterator[Batch]]
    notes: tuple[str, ...] = ()
    drivers: tuple[int, ...] | None = None


def average(
    source: Source,
    observables: Sequence[Observable],
    *,
    method: Method | MembersMethod | None = None,
    drop: float | None = None,
) -> Reweighted:
    """Average observables over a source, in the ensembles of its members.

    Parameters
    ----------
    source : Source
        The run.
    observables : sequence of Observable
        At least one.
    method : "direct", "cea", "mbar" or "own", optional
        As of :func:`alflow.averages.reweighting.reweight` or, of a source that members drove, of
        :func:`alflow.averages.members.average_members`.
    drop : float, optional
        As of these.

    Raises
    ------
    AverageError
        As of these functions; a method of the other kind of source; the source has no structures, and an observable
        needs them.
    ObservableError
        An observable has no value in a frame.
    """
    fitting = get_args(Method if source.drivers is None else MembersMethod)
    if method is not None and method not in fitting:
        drove = "one potential" if source.drivers is None else "members, each its own walkers,"
        msg = f"method {method}: expected {' or '.join(fitting)}, as {drove} drove {source.name}"
        raise AverageError(msg)
    measured = (_measured(batch, source, observables) for batch in source.batches())
    first = next(measured, None)
    if first is None:
        msg = f"{source.name} has no frames: expected two or more"
        raise AverageError(msg)
    models = [
        value.shape[2] if o.kind == "committee" else 1 for value, o in zip(first.values, observables, strict=True)
    ]
    quantities = [Quantity(o.text, o.finish, m) for o, m in zip(observables, models, strict=True)]
    kT = units.kB * source.temperature
    if source.drivers is None:
        chunks = (_flattened(chunk, observables) for chunk in chain((first,), measured))
        return reweight(
            chunks, quantities, kT, method=cast("Method | None", method), drop=drop, n_walkers=source.n_walkers
        )
    return average_members(
        (Chunk(batch.walker, batch.energies, batch.driving, ()) for batch in source.batches()),
        lambda: (_flattened(_measured(batch, source, observables), observables) for batch in source.batches()),
        quantities,
        kT,
        source.drivers,
        method=cast("MembersMethod | None", method),
        drop=drop,
    )


def _measured(batch: Batch, source: Source, observables: Sequence[Observable]) -> Chunk:
    """The values of all observables in a batch; of those with models of their own (n, P, M_a)."""
    blind = [o.text for o in observables if o.of_structure and batch.frames is None]
    if blind:
        msg = f"{source.name} has no structures to measure {blind[0]} on: give their trajectory"
        raise AverageError(msg)
    structures = repeat(Atoms(), len(batch.energies)) if batch.frames is None else batch.frames
    frames = [
        Frame(atoms, energies, source.temperature, source.pressure)
        for atoms, energies in zip(structures, batch.energies, strict=True)
    ]
    values = [np.array([o.parts(frame) for frame in frames]) for o in observables]
    return Chunk(batch.walker, batch.energies, batch.driving, values)


def _flattened(chunk: Chunk, observables: Sequence[Observable]) -> Chunk:
    """With parts and models in one axis."""
    flat = [
        value.reshape(len(value), -1) if o.kind == "committee" else value
        for value, o in zip(chunk.values, observables, strict=True)
    ]
    return replace(chunk, values=flat)
