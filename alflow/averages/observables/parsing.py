"""From the words of a user to an observable."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from alflow.averages.observables import structure, thermodynamics, variables
from alflow.averages.observables.base import Array, Frame, Function, Kind, Observable
from alflow.averages.observables.user import user_observable
from alflow.averages.observables.words import Words, suggestion
from alflow.errors import ObservableError

KINDS: Mapping[str, Kind] = {
    "potential_energy": Kind("potential_energy", thermodynamics.potential_energy),
    "total_energy": Kind("total_energy", thermodynamics.total_energy),
    "heat_capacity": Kind("heat_capacity", thermodynamics.heat_capacity),
    "volume": Kind("volume", thermodynamics.volume),
    "density": Kind("density", thermodynamics.density),
    "rdf": Kind("rdf A-B [r_max=6] [bins=120]", structure.rdf),
    "coordination": Kind("coordination A-B r", structure.coordination),
    "angle": Kind("angle A-B-C r [bins=90]", structure.angle),
    "hydrogen_bonds": Kind("hydrogen_bonds [r=3.5] [angle=30]", structure.hydrogen_bonds),
    "free_energy": Kind("free_energy CV min..max [bins=50]", variables.free_energy),
    "free_energy_difference": Kind("free_energy_difference CV a..b c..d", variables.free_energy_difference),
}
"""The kinds that alflow has.

CV is ``distance i j``, ``distance A-B``, ``angle i j k``, ``coordination i B r0`` or ``distance_difference i j k``.
"""


def parse(
    text: str, functions: Mapping[str, Function] | None = None, more: Mapping[str, Kind] | None = None
) -> Observable:
    """Make an observable of a line of words.

    Parameters
    ----------
    text : str
        A kind of :data:`KINDS` or of ``more``, or the name of one of ``functions``; its words; its ``key=value``
        options.
    functions : mapping of str to Function, optional
        The user's own, by name.
    more : mapping of str to Kind, optional
        Those of installed packages.

    Returns
    -------
    Observable
        For one run: what a function of the user's returns must have one shape in all its frames.

    Raises
    ------
    ObservableError
        An unknown kind or option, a missing, superfluous or malformed word. ``Observable.parts`` raises it for a frame
        without such a value: no atoms of a species, no momenta, not periodic, a function that fails, ...
    """
    functions, kinds = functions or {}, {**KINDS, **(more or {})}
    text = " ".join(text.split())
    kind = text.split(" ")[0]
    if kind in kinds and kind in functions:
        msg = f"{text}: {kind} is an observable that alflow has, and one of yours: give yours another name"
        raise ObservableError(msg)
    if kind in functions:
        words = Words(text, kind)
        found = user_observable(words, kind, functions[kind])
    elif kind in kinds:
        words = Words(text, kinds[kind].usage)
        found = kinds[kind].build(words)
    else:
        names = [*kinds, *functions]
        unknown = f"unknown observable {kind!r}: expected one of {', '.join(names)}{suggestion(kind, names)}"
        raise ObservableError(unknown if kind else f"an observable is empty: expected one of {', '.join(names)}")
    words.end()
    return replace(found, parts=partial(_measured, text, found.parts))


def _measured(text: str, parts: Callable[[Frame], Array], frame: Frame) -> Array:
    """The parts of a frame; errors begin with ``text``."""
    try:
        return parts(frame)
    except ObservableError as error:
        raise ObservableError(f"{text}: {error}") from error.__cause__
