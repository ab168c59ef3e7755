"""Which electrons a structure has, and whether a calculation is told of them.

Charge and multiplicity are those of ``[[system]]``, in ``Atoms.info``. Initial magnetic moments and initial charges of
single atoms are what a structure file says of them, in ``Atoms.arrays``: where the calculation begins.
"""

from collections.abc import Collection, Mapping

import numpy as np
from ase import Atoms

from alflow.structures import charge_and_multiplicity

CHARGE, MULTIPLICITY, MOMENTS, CHARGES = "charge", "multiplicity", "initial_magmoms", "initial_charges"

STATE = frozenset({CHARGE, MULTIPLICITY})
"""What decides which state is calculated."""

ELECTRONS = STATE | {MOMENTS, CHARGES}
"""All that can be told of electrons."""

_NAMES = {MOMENTS: "initial magnetic moments", CHARGES: "initial charges"}
_ELSEWHERE = "choose one that can be told"
_ADDS_UP = 1e-3  # e, and Bohr magnetons: files have few digits


def lowest_multiplicity(atoms: Atoms) -> int:
    """1 for an even number of electrons, 2 for an odd one."""
    return 1 + (int(atoms.numbers.sum()) - charge_and_multiplicity(atoms)[0]) % 2


def has(atoms: Atoms, name: str) -> bool:
    """Whether a structure says anything of its atoms by that name: zeros, which ASE means by nothing, do not."""
    return name in atoms.arrays and bool(np.any(atoms.arrays[name]))


def fixed_moment(atoms: Atoms) -> int | None:
    """The number of unpaired electrons that a spin-polarised calculation must keep, or None where it is left free.

    A multiplicity above 1 is kept. Of a structure with initial moments the lowest multiplicity only says that nothing
    was chosen: an antiferromagnet and a ferromagnetic metal both begin from their moments, and find their own sum.
    """
    multiplicity = charge_and_multiplicity(atoms)[1]
    if multiplicity == 1 or (has(atoms, MOMENTS) and multiplicity <= lowest_multiplicity(atoms)):
        return None
    return multiplicity - 1


def untold(atoms: Atoms, told: Collection[str], program: str, remedies: Mapping[str, str]) -> str:
    """What of a structure's electrons a calculation would not be told, and what to do about it; empty if nothing.

    The lowest multiplicity, 1 for an even number of electrons and 2 for an odd one, needs no telling: codes take it by
    themselves. A charge may be told by initial charges that sum to it, a multiplicity by initial moments that do.

    Parameters
    ----------
    atoms : Atoms
        ``info`` may hold ``charge`` and ``multiplicity``.
    told : collection of str
        What reaches the calculation, of :data:`ELECTRONS`.
    program : str
        What calculates, for the message.
    remedies : mapping of str to str
        What a user can do, by what is not told.
    """
    charge, multiplicity = charge_and_multiplicity(atoms)
    above = multiplicity > lowest_multiplicity(atoms)
    by_atom = {name: has(atoms, name) for name in (CHARGES, MOMENTS)}
    for name, what in _NAMES.items():
        if by_atom[name] and name not in told:
            remedy = remedies.get(name, "leave them out of the structure file")
            return f"its {what} do not reach {program}: {remedy}"
    if by_atom[CHARGES] and (wrong := _another(atoms, CHARGES, charge)):
        return f"its initial charges sum to {wrong} e, and its charge is {charge}: correct one of them"
    if by_atom[MOMENTS] and above and (wrong := _another(atoms, MOMENTS, multiplicity - 1)):
        unpaired = f"multiplicity {multiplicity}, which is {multiplicity - 1} unpaired electrons"
        return f"its initial magnetic moments sum to {wrong}, and it has {unpaired}: correct one of them"
    if charge and not (CHARGE in told or by_atom[CHARGES]):
        return f"its charge {charge} does not reach {program}: {remedies.get(CHARGE, _ELSEWHERE)}"
    if above and not (MULTIPLICITY in told or by_atom[MOMENTS]):
        return f"its multiplicity {multiplicity} does not reach {program}: {remedies.get(MULTIPLICITY, _ELSEWHERE)}"
    return ""


def _another(atoms: Atoms, name: str, expected: int) -> str:
    """The sum over atoms, if it is not the expected one; empty where it is, or for moments that have a direction."""
    values = np.asarray(atoms.arrays[name], dtype=float)
    if values.ndim > 1 or abs(values.sum() - expected) <= _ADDS_UP * max(1.0, np.sqrt(len(values))):
        return ""
    return f"{values.sum():.4g}"
