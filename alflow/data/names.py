"""Names under which files have energies, forces and stresses, and which of them is meant.

A name is taken apart into words: ``REF_energy``, ``energy_dft`` and ``TotalEnergy`` are energies of ``ref``, ``dft``
and ``total``. A name with a word that is not known here (``energy_per_atom``, ``mace_forces``) is no label: nobody
knows what it is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from pydantic import Field

from alflow.section import Section

NOTHING = "none"
"""As a key: the file has none, whatever it looks like."""

_WORD = re.compile(r"[A-Z0-9]+(?![a-z])|[A-Z]?[a-z0-9]+")
_QUANTITIES = {
    "energy": "energy",
    "etot": "energy",
    "epot": "energy",
    "toten": "energy",
    "force": "forces",
    "forces": "forces",
    "stress": "stress",
    "virial": "virial",
    "virials": "virial",
}
_METHODS = frozenset(
    """
    ref reference dft qm ks vasp cp2k qe espresso pwscf aims castep gpaw orca psi4 pyscf nwchem gaussian xtb gfn1 gfn2
    dftb pbe pbe0 pbesol revpbe rpbe scan rscan r2scan lda gga hse hse06 blyp b3lyp wb97x wb97m mp2 ccsd ccsdt cc emt
    true target label labels train training calc calculated abinitio total tot potential pot free consistent
    """.split()  # noqa: SIM905 - a list of words
)
_PLURALS = {"energy": "energies", "stress": "stresses", "virial": "virials"}
_FREE = {"free", "toten"}
_TOTAL = {"total", "tot", "etot"}
_KINETIC = {"kinetic", "ekin", "kin", "ke"}


class Names(Section):
    """What a user says of a file with labels: names in it, where alflow cannot know, and units."""

    energy_key: str | None = Field(None, min_length=1, description="the file's name for energies; found by itself")
    forces_key: str | None = Field(None, min_length=1, description='the same for forces; "none": it has none')
    stress_key: str | None = Field(
        None, min_length=1, description='the same for stresses or virials; "none": no stress'
    )
    energy_unit: str | None = Field(None, description="of energies in the file: eV, Ha, Ry, kcal/mol, kJ/mol")
    length_unit: str | None = Field(None, description="of positions, cells and forces in the file: A, bohr, nm")
    species: tuple[str, ...] = Field(
        (), strict=False, description="chemical symbols of its types, in their order, if it only numbers them"
    )


@dataclass(frozen=True)
class Name:
    """What a name says.

    Attributes
    ----------
    quantity : str
        ``energy``, ``forces``, ``stress`` or ``virial``.
    of : frozenset of str
        The other words: a method, ``total``, ...
    free : bool
        Of an energy: it is a free energy, with the entropy of smeared electrons.
    """

    quantity: str
    of: frozenset[str] = frozenset()
    free: bool = False


@lru_cache(4096)  # all structures of a file have the same few
def understood(name: str) -> Name | None:
    """What a name says; None where it is no label."""
    words = _words(name)
    quantities = {_QUANTITIES[word] for word in words if word in _QUANTITIES}
    others = {word for word in words if word not in _QUANTITIES}
    if len(quantities) != 1 or others - _METHODS or not re.fullmatch(r"[\w-]+", name):
        return None
    free = bool(_FREE & set(words))
    return Name(quantities.pop(), frozenset(others - {"free"}), free)


def _words(name: str) -> list[str]:
    """Of a name, in small letters; ``DFTEnergy`` has two."""
    words: list[str] = []
    for part in re.split(r"[_\s-]+", name):
        small = part.lower()
        together = [name for name in _QUANTITIES if small.endswith(name) and small.removesuffix(name) in _METHODS]
        if small in _METHODS | set(_QUANTITIES):
            words.append(small)
        elif together:
            words += [small.removesuffix(together[0]), together[0]]
        else:
            words += [word.lower() for word in _WORD.findall(part)]
    return words


class SeveralError(ValueError):
    """Nobody can know which of a file's numbers is meant; ``quantity`` of what."""

    def __init__(self, text: str, quantity: str) -> None:
        super().__init__(text)
        self.quantity = quantity


@dataclass(frozen=True, eq=False)
class Chosen:
    """One of several values, by name."""

    name: str
    value: Any


def chosen(quantity: str, values: Mapping[str, Any], like: frozenset[str] | None = None) -> Chosen | None:
    """The value of a quantity; of energies the free one, where a structure has both.

    Parameters
    ----------
    quantity : str
        As of :class:`Name`.
    values : mapping of str
        All that a structure has.
    like : frozenset of str, optional
        Words of the name of the energy: forces with the same words go before others.

    Raises
    ------
    SeveralError
        There are several, and they differ.
    """
    found = {name: known for name in values if (known := understood(name)) is not None and known.quantity == quantity}
    if quantity == "energy":
        # Of one calculation the free energy: forces are its gradient.
        free = {known.of for known in found.values() if known.free}
        found = {name: known for name, known in found.items() if known.free or known.of not in free}
        found = _without_kinetic(found, values)
    alike = {name: known for name, known in found.items() if known.of == like}
    if not found:
        return None
    first, *others = alike or found
    for other in others if not alike else []:
        if not _same(values[first], values[other]):
            msg = f"several {_PLURALS.get(quantity, quantity)} that differ: {listed(found)}"
            raise SeveralError(msg, quantity)
    return Chosen(first, values[first])


def _without_kinetic(found: dict[str, Name], values: Iterable[str]) -> dict[str, Name]:
    """Energies of a step of dynamics less the total one, which holds the kinetic energy."""
    total = {name for name in found if _TOTAL & set(_words(name))}
    kinetic = [name for name in values if _KINETIC & set(_words(name))] if total else []
    if not kinetic:
        return found
    if total == set(found):
        msg = f"{listed(total)} beside {listed(kinetic)}: it may hold that, or not"
        raise SeveralError(msg, "energy")
    return {name: known for name, known in found.items() if name not in total}


def _same(one: Any, other: Any) -> bool:
    try:
        a, b = (np.asarray(x, dtype=float).ravel() for x in (one, other))
    except (ValueError, TypeError):
        return False
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-9, atol=1e-6, equal_nan=True))


def listed(names: Iterable[str]) -> str:
    """Names in a message: a few, and how many more."""
    known = sorted(set(names))
    return ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "") if known else "nothing"
