"""The structures that a run begins with: those of its systems, and displaced copies of them."""

from pathlib import Path

from ase import Atoms

from alflow.config import Settings, System
from alflow.data.names import Names
from alflow.data.reading import read_structures
from alflow.errors import StructureError
from alflow.randomness import generator
from alflow.structures import DISTANCE_RATIO_MIN, as_given, distance_ratio

_TRIES = 100  # draws until a displaced copy without overlapping atoms must be found


def initial_structures(settings: Settings, directory: Path) -> list[Atoms]:
    """The structures of every system and their displaced copies, for cycle 0.

    Displacements are normally distributed, keyed by (0, system, structure, copy, try); a copy in which atoms overlap is
    drawn again.

    Returns
    -------
    list of Atoms
        ``info`` holds ``system``, ``charge`` and ``multiplicity``, and nothing else.

    Raises
    ------
    StructureError
        As of :func:`read_structures`; charge and multiplicity that do not fit the electrons; displacements so large
        that atoms overlap in every copy.
    """
    found: list[Atoms] = []
    for number, system in enumerate(settings.system):
        path = directory / system.structures
        for index, frame in enumerate(read_structures(path, Names(length_unit=system.length_unit))):
            where = f"{path} frame {index}"
            atoms = as_given(frame)
            atoms.info = {"system": system.name, "charge": system.charge, "multiplicity": system.multiplicity}
            _check_electrons(atoms, where)
            found.append(atoms)
            found += [
                _displaced(atoms, system, (settings.seed, number, index, copy), where) for copy in range(system.copies)
            ]
    return found


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
