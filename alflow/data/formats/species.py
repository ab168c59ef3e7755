"""Numbers of types, which some formats have in place of chemical symbols."""

from collections.abc import Sequence

from ase.data import chemical_symbols

from alflow.errors import StructureError

_SYMBOLS = frozenset(chemical_symbols[1:])


def are_symbols(names: Sequence[str]) -> bool:
    """Whether all names are those of chemical elements, and there are some."""
    return bool(names) and _SYMBOLS.issuperset(names)


def check_symbols(where: str, given: Sequence[str]) -> None:
    """Refuse what a user says of types in a file, ``where``, if it is no chemical symbols: StructureError."""
    if given and not are_symbols(given):
        msg = (
            f"{where}: expected the chemical symbols of its types in order, Cu,Ag for example, found {','.join(given)}"
        )
        raise StructureError(msg)


def species_of_types(where: str, named: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """Chemical symbols of types 0, 1, ...

    Parameters
    ----------
    where : str
        The file, for a message.
    named : sequence of str
        What the file calls its types; empty if it has no names.
    given : sequence of str
        What the user says; it counts where the file has no names, or names that are no chemical symbols.

    Raises
    ------
    StructureError
        Nobody says, the two contradict each other, or what the user says are no chemical symbols.
    """
    check_symbols(where, given)
    if not are_symbols(named):
        if given:
            return tuple(given)
        found = f"names its types {', '.join(named)}" if named else "has numbers of types only"
        msg = f"{where} {found}: expected chemical symbols; say those of types 0, 1, ... with --species, as in Cu,Ag"
        raise StructureError(msg)
    if given and tuple(given) != tuple(named)[: len(given)]:
        said = ",".join(given)
        msg = f"{where} calls its types {','.join(named)}, --species says {said}: leave that out, or correct it"
        raise StructureError(msg)
    return tuple(named)


def symbols_of(types: Sequence[int], species: Sequence[str]) -> list[str]:
    """The symbol of each atom; ValueError for a type that has none."""
    wrong = sorted({int(number) for number in types if not 0 <= number < len(species)})
    if wrong:
        msg = f"atoms of type {wrong[0]}: expected 0 to {len(species) - 1}, for {', '.join(species)}"
        raise ValueError(msg)
    return [species[int(number)] for number in types]
