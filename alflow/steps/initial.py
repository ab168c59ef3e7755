"""The structures that a run begins with: those of its systems, and displaced copies of them; what states they have."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms

from alflow.config import Settings, System
from alflow.data.names import Names
from alflow.data.reading import read_usable
from alflow.errors import ConfigError, StructureError
from alflow.randomness import generator
from alflow.reference.method import ReferenceMethod
from alflow.sampling.starts.make import made, usual
from alflow.structures import DISTANCE_RATIO_MIN, as_given, charge_and_multiplicity, distance_ratio

_TRIES = 100  # draws until a displaced copy without overlapping atoms must be found


def initial_structures(
    settings: Settings,
    directory: Path,
    tell: Callable[[str], None] = lambda _line: None,
    begun: Collection[str] = (),
) -> list[Atoms]:
    """The structures of every system, their displaced copies, and what is made of them besides, for cycle 0.

    Displacements are normally distributed, keyed by (0, system, structure, copy, try), what ``start`` says by (0,
    system, 0, entry, structure, try); one in which atoms overlap is drawn again. A structure that cannot be used is
    left out, which is told, and is no reason for the others to change.

    Of systems that have ``begun`` already, those of their files alone, and none where the file is gone.

    Returns
    -------
    list of Atoms
        ``info`` holds ``system``, ``charge`` and ``multiplicity``, and nothing else.

    Raises
    ------
    StructureError
        As of :func:`read_usable`; charge and multiplicity that do not fit the electrons; displacements so large
        that atoms overlap in every copy; what ``start`` says cannot be made of these structures.
    """
    found: list[Atoms] = []
    differ: set[str] = set()
    for number, system in enumerate(settings.system):
        path = directory / system.structures
        if system.name in begun and not path.exists():
            continue
        frames = read_usable(path, tell, Names(length_unit=system.length_unit, species=system.species))
        own: list[Atoms] = []
        for index, frame in frames.items():
            where = f"{path} frame {index}"
            atoms = of_system(frame, system, path, differ)
            _check_electrons(atoms, where)
            own.append(atoms)
            found.append(atoms)
            copies = 0 if system.name in begun else system.copies
            found += [_displaced(atoms, system, (settings.seed, number, index, copy), where) for copy in range(copies)]
        if system.name not in begun:
            found += _started(settings.seed, number, system, own, tell)
    for line in sorted(differ):
        tell(line)
    return found


def _started(seed: int, number: int, system: System, own: list[Atoms], tell: Callable[[str], None]) -> Iterator[Atoms]:
    """What is made of the structures of a system, as it says or as suits them."""
    start = system.start
    if start is None:
        start = () if system.copies else usual(own)
        if start:
            kinds = Counter[str]()
            for section in start:
                kinds[section.kind] += section.count
            counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            tell(f"system {system.name}: {counted} made of its {len(own)} to learn from; start = [] makes none")
    for entry, section in enumerate(start):
        try:
            for atoms in made(section, own, partial(generator, seed, 0, number, 0, entry)):
                atoms.info["multiplicity"] = _multiplicity(atoms)
                yield atoms
        except StructureError as error:
            msg = f"system {system.name}: {error}"
            raise StructureError(msg) from error


def _multiplicity(atoms: Atoms) -> int:
    """That of the system or, where other atoms have electrons that do not allow it, the one below, or 2."""
    charge, multiplicity = charge_and_multiplicity(atoms)
    electrons = int(atoms.numbers.sum()) - charge
    return multiplicity if (electrons - multiplicity) % 2 else max(multiplicity - 1, 1) if multiplicity > 1 else 2


def of_system(frame: Atoms, system: System, path: Path, differ: set[str]) -> Atoms:
    """A structure of a file with the charge and multiplicity of its system; what its file says else is added."""
    atoms = as_given(frame)
    atoms.info = {"system": system.name, "charge": system.charge, "multiplicity": system.multiplicity}
    charge, multiplicity = charge_and_multiplicity(frame)
    for name, said in (("charge", charge), ("multiplicity", multiplicity)):
        if name in frame.info and said != atoms.info[name]:
            differ.add(f"{path} says {name} {said}: {atoms.info[name]} of system {system.name} counts")
    return atoms


def check_states(frames: Iterable[Atoms]) -> None:
    """Refuse structures of one composition in two states: energies of both would be labels of the same structure.

    Parameters
    ----------
    frames : iterable of Atoms
        Those without a charge in ``info`` are of no known state, and pass.

    Raises
    ------
    ConfigError
        Two of them differ in charge or multiplicity.
    """
    first: dict[bytes, Atoms] = {}
    for frame in frames:
        if "charge" not in frame.info:
            continue
        other = first.setdefault(np.sort(frame.numbers).tobytes(), frame)
        if charge_and_multiplicity(frame) != charge_and_multiplicity(other):
            both = [f"{one.info.get('system', 'no system')} ({_state(one)})" for one in (other, frame)]
            msg = (
                f"systems {' and '.join(both)} both have structures of {frame.get_chemical_formula()}, and a potential "
                "sees neither charge nor multiplicity: give them the same, or each a run of its own"
            )
            raise ConfigError(msg)


def check_told(method: ReferenceMethod, frames: Iterable[Atoms], section: str) -> None:
    """Refuse structures whose charge, multiplicity, initial charges or moments would not reach their calculation.

    Parameters
    ----------
    method : ReferenceMethod
        Reference or baseline.
    frames : iterable of Atoms
        Structures.
    section : str
        The table of alflow.toml that describes the method.

    Raises
    ------
    ConfigError
        One of them has what the method cannot be told.
    """
    for frame in frames:
        if problem := method.untold(frame):
            system = f"system {frame.info['system']}" if frame.info.get("system") else frame.get_chemical_formula()
            msg = f"[{section}] {system}: {problem}"
            raise ConfigError(msg)


def _state(atoms: Atoms) -> str:
    charge, multiplicity = charge_and_multiplicity(atoms)
    return f"charge {charge}, multiplicity {multiplicity}"


def _displaced(atoms: Atoms, system: System, key: tuple[int, int, int, int], where: str) -> Atoms:
    seed, *place = key
    for attempt in range(_TRIES):
        rng = generator(seed, 0, *place, attempt)
        copy: Atoms = atoms.copy()
        # Constraints hold in copies, too: a layer that is fixed stays where it is.
        copy.set_positions(copy.positions + rng.normal(scale=system.rattle, size=copy.positions.shape))
        if distance_ratio(copy) >= DISTANCE_RATIO_MIN:
            return copy
    msg = f"{where}: atoms overlap in all of {_TRIES} copies displaced by {system.rattle} Å: lower system.rattle"
    raise StructureError(msg)


def _check_electrons(atoms: Atoms, where: str) -> None:
    """An odd number of electrons needs an even multiplicity, and the other way round."""
    electrons = int(atoms.numbers.sum()) - int(atoms.info["charge"])
    unpaired = int(atoms.info["multiplicity"]) - 1
    if electrons < unpaired or (electrons - unpaired) % 2:
        msg = (
            f"{where}: {electrons} electrons (charge {atoms.info['charge']}) cannot have multiplicity "
            f"{atoms.info['multiplicity']}: correct charge or multiplicity of system {atoms.info['system']}"
        )
        raise StructureError(msg)
