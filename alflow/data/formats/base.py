"""What a reader of a format is, and what it gives."""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from ase import Atoms
from ase.io.formats import open_with_compression

HEAD = 4096
"""Characters of a file that formats are told by."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A structure of a file, and what the file says of it under the names of results.

    Attributes
    ----------
    atoms : Atoms
        Without a calculator. What the file says besides is in ``info`` and ``arrays``.
    said : mapping of str
        Results of the structure by the names of ASE, and ``virial``, as the file has them: numbers or words of any
        shape, nothing is checked yet. ``energy`` and ``free_energy``; ``stress`` has ASE's sign and, if six numbers,
        Voigt order; ``virial`` is minus the stress times the volume, six or nine numbers.
    of_atoms : mapping of str
        The same of each atom, first axis N: ``forces``, ``energies``, ``charges``, ...
    in_units : bool
        False of a format in which everybody writes energies in the unit that he likes, and nobody says which.
    """

    atoms: Atoms
    said: Mapping[str, Any] = field(default_factory=dict)
    of_atoms: Mapping[str, Any] = field(default_factory=dict)
    in_units: bool = True


@dataclass(frozen=True)
class Unusable:
    """A structure of a file that nothing can use: unreadable, not converged, ...

    Attributes
    ----------
    reason : str
        Why, with what would help where something does; the rest of a sentence that begins with its place in the file.
    word : str
        The same by the taxonomy of failed calculations: ``no_output``, ``not_converged`` or ``not_finite``.
    """

    reason: str
    word: str = "no_output"


def opened(path: Path) -> TextIO:
    """A file of text, compressed (.gz, .bz2, .xz) or not, to be read."""
    return io.TextIOWrapper(open_with_compression(str(path), "rb"), encoding="utf-8-sig", errors="replace")


def text_of(path: Path) -> str:
    """All of a file, as of :func:`opened`."""
    with opened(path) as file:
        return file.read()


def suffix(path: Path) -> str:
    """The ending of a name, less that of a compression."""
    return path.with_suffix("").suffix if path.suffix in {".gz", ".bz2", ".xz"} else path.suffix


Entries = Iterator[Entry | Unusable]
"""One for each structure, in the order of the file: their places count from 0."""


@dataclass(frozen=True)
class Format:
    """How a kind of file is known, and read.

    Attributes
    ----------
    name : str
        In words.
    claims : callable
        Whether a file, or a folder, is of this format: of its path, and of its first characters (:data:`HEAD`), which
        are empty for a folder and for what is no text.
    entries : callable
        Its structures, one after the other. Raises StructureError where nothing of the file can be read; what is wrong
        with one structure is told in its place.
    units : str
        ``own``: the file says them, or the format has them; numbers come in eV and Å. ``assumed``: eV and Å unless the
        user says otherwise; numbers come as they are. ``asked``: nothing says, and the user is to.
    count : callable, optional
        How many structures a file has, told in far less time than they are read in.
    of_types : callable, optional
        Where atoms have numbers of types, and no names: its structures, of the file and of the chemical symbols of
        types 0, 1, ..., as the user gives them. StructureError if the file names others.
    """

    name: str
    claims: Callable[[Path, str], bool]
    entries: Callable[[Path], Entries]
    units: Literal["own", "assumed", "asked"] = "own"
    count: Callable[[Path], int] | None = None
    of_types: Callable[[Path, tuple[str, ...]], Entries] | None = None

    def read(self, path: Path, species: tuple[str, ...] = ()) -> Entries:
        """Structures of a file; ``species`` count for formats that have numbers of types, no other needs them."""
        return self.entries(path) if self.of_types is None or not species else self.of_types(path, species)
