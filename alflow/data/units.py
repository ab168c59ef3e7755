"""Units of other people's files."""

from ase import units

from alflow.errors import ConfigError

ENERGIES = {
    "eV": 1.0,
    "Ha": units.Hartree,
    "Ry": units.Rydberg,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
    "meV": 1e-3,
    "hartree": units.Hartree,
}
"""Of energies, eV."""

LENGTHS = {"A": 1.0, "Å": 1.0, "angstrom": 1.0, "bohr": units.Bohr, "au": units.Bohr, "nm": 10.0}
"""Of lengths, Å."""


def factor(known: dict[str, float], unit: str | None, what: str) -> float:
    """What numbers in a unit are multiplied with, 1 without any; ConfigError for a unit that is not known."""
    if unit is None:
        return 1.0
    by_name = {name.lower(): value for name, value in known.items()}
    if unit.lower() not in by_name:
        msg = f"{what}: unknown unit {unit!r}: expected one of {', '.join(known)}"
        raise ConfigError(msg)
    return by_name[unit.lower()]
