"""Structures for the beginning of a run, as ``start`` of a system says, or as suits what it has."""

from collections.abc import Callable, Iterator, Sequence

from ase import Atoms
from numpy.random import Generator

from alflow.errors import StructureError
from alflow.sampling.starts.copies import rattled, strained, with_vacancies
from alflow.sampling.starts.dimers import dimers
from alflow.sampling.starts.molecules import units
from alflow.sampling.starts.packed import packed
from alflow.sampling.starts.settings import Dimers, Packed, Rattled, Start, Strained, Vacancies
from alflow.structures import DISTANCE_RATIO_MIN, distance_ratio, is_alone

ENOUGH = 8
"""Structures of a system from which on none are made by themselves: members of halves of them are told apart."""

_TOTAL = 16  # structures that a system begins with where some are made by themselves
_TRIES = 100  # draws until a structure without overlapping atoms must be found


def usual(frames: Sequence[Atoms]) -> tuple[Start, ...]:
    """What is made where nobody says: of few structures enough to fit to, of an atom alone nothing.

    Structures are rattled, molecules and clusters by less; those that are periodic are strained, too.
    """
    if len(frames) >= ENOUGH or all(is_alone(frame) for frame in frames):
        return ()
    missing = _TOTAL - len(frames)
    third = missing // 3
    periodic = any(frame.pbc.any() and not is_alone(frame) for frame in frames)
    small, large = (0.05, 0.1) if periodic and not any(units(frame).are_molecules for frame in frames) else (0.03, 0.06)
    if not periodic:
        return Rattled(count=missing - third, displacement=small), Rattled(count=third, displacement=large)
    return (
        Rattled(count=third, displacement=small),
        Rattled(count=missing - 2 * third, displacement=large),
        Strained(count=third),
    )


def made(section: Start, frames: Sequence[Atoms], random: Callable[[int, int], Generator]) -> Iterator[Atoms]:
    """The structures of one entry of ``start``, made of those of a system in turn.

    Parameters
    ----------
    section : Start
        The entry.
    frames : sequence of Atoms
        Those that the system's file has.
    random : callable
        Random numbers of the k-th structure in its n-th try.

    Yields
    ------
    Atoms
        As the structure it is made of, with its ``info``.

    Raises
    ------
    StructureError
        They cannot be made of these structures, or atoms overlap in every try; the rest of a sentence.
    """
    if isinstance(section, Dimers):
        species = sorted({int(number) for frame in frames for number in frame.numbers})
        for pair in dimers(species, section, periodic=any(frame.pbc.any() for frame in frames)):
            pair.info = {**frames[0].info, "charge": 0}
            # A potential could not tell it from a structure of the same atoms that has a charge.
            if not any(frame.info.get("charge") and _same_atoms(frame, pair) for frame in frames):
                yield pair
        return
    suited = _suited(section, frames)
    for number in range(section.count):
        yield _drawn(section, suited[number % len(suited)], number, random)


def _same_atoms(a: Atoms, b: Atoms) -> bool:
    return sorted(a.numbers) == sorted(b.numbers)


def _suited(section: Start, frames: Sequence[Atoms]) -> list[Atoms]:
    """Those of which something can be made."""
    if isinstance(section, Strained):
        frames = [frame for frame in frames if frame.pbc.any()]
    suited = [frame for frame in frames if not is_alone(frame)]
    if not suited:
        what = "with a periodic direction" if isinstance(section, Strained) else "of more than one atom"
        msg = f"none of its structures is one {what}: leave {section.kind} out of start"
        raise StructureError(msg)
    return suited


def _drawn(section: Start, atoms: Atoms, number: int, random: Callable[[int, int], Generator]) -> Atoms:
    for attempt in range(_TRIES):
        rng = random(number, attempt)
        if isinstance(section, Rattled):
            copy = rattled(atoms, section, rng)
        elif isinstance(section, Strained):
            copy = strained(atoms, section, rng)
        elif isinstance(section, Vacancies):
            copy = with_vacancies(atoms, section, rng)
        elif isinstance(section, Packed):
            copy = packed(atoms, section, number, rng)
            copy.info = dict(atoms.info)
        if distance_ratio(copy) >= DISTANCE_RATIO_MIN:
            return copy
    msg = f"atoms overlap in all of {_TRIES} tries: make the displacements of start smaller"
    raise StructureError(msg)
