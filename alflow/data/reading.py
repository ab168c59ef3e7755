"""Structures and labels from files: the one door through which they come in."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from lzma import LZMAError
from pathlib import Path
from typing import Any

import psutil
from ase import Atoms
from pydantic import ValidationError

from alflow.data.entering import NoLabelError, Understood, labelled, structure
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Format, Unusable
from alflow.data.formats.deepmd import DEEPMD
from alflow.data.names import Names, SeveralError
from alflow.errors import ConfigError, PotentialWarning, StructureError
from alflow.progress import Progress, Silent
from alflow.structures import check_structure

AS_IT_IS = Names()
"""Nothing is said of a file: it is read as it stands."""

_NAMED = 3  # structures of a kind that a line names


@dataclass(frozen=True)
class LeftOut:
    """A structure of a file that is not used.

    Attributes
    ----------
    place : int
        In the file, counted from 0.
    reason : str
        Why.
    word : str
        The same by the taxonomy of failed calculations: ``no_output``, ``not_converged`` or ``not_finite``.
    atoms : Atoms, optional
        The structure, where it could be read and only its label is at fault.
    """

    place: int
    reason: str
    word: str = "no_output"
    atoms: Atoms | None = None


@dataclass(frozen=True, eq=False)
class Labelled:
    """The labelled structures of a file.

    Attributes
    ----------
    path : Path
        The file.
    frames : list of Atoms
        With results: energy (eV), and where there are any, forces (eV/Å) and stress (eV/Å^3).
    places : list of int
        Of each in the file, counted from 0.
    left_out : list of LeftOut
        The others.
    understood : Understood
        Under which names the labels were.
    """

    path: Path
    frames: list[Atoms] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    understood: Understood = field(default_factory=Understood)

    def remarks(self) -> list[str]:
        """How the file was read, where that is not plain, and what was left out: lines."""
        total = len(self.frames)
        lines = []
        odd = {
            quantity: " or ".join(names)
            for quantity, names in self.understood.used.items()
            if any(name != quantity for name in names)
        }
        if odd:
            free = " (the gradient of which forces are)" if "free" in odd.get("energy", "") else ""
            parts = [f"{what} from {name}{free if what == 'energy' else ''}" for what, name in odd.items()]
            lines.append(f"{self.path}: {', '.join(parts)}")
        if self.frames and "forces" not in self.understood.used:
            lines.append(f"{self.path} has no forces: energies alone are learned")
        for remark, count in self.understood.said.items():
            lines.append(f"{self.path}: {remark} ({count} of {total} structures)")
        return lines + left_out_lines(self.path, self.left_out)


def left_out_lines(path: Path, left_out: list[LeftOut]) -> list[str]:
    """A line for each of a few structures, and one for the others that are left out for the same reason."""
    by_reason: dict[str, list[int]] = {}
    for one in left_out:
        by_reason.setdefault(one.reason, []).append(one.place)
    lines = []
    for reason, places in by_reason.items():
        named = ", ".join(map(str, places[:_NAMED]))
        more = (
            f" and {len(places) - _NAMED} more are" if len(places) > _NAMED else " is" if len(places) == 1 else " are"
        )
        lines.append(f"{path} frame {named}{more} left out: {reason}")
    return lines


def entries(path: Path, names: Names = AS_IT_IS, *, labels: bool = True) -> Iterator[Entry | Unusable]:
    """Every structure of a file as its format has it, one after the other, those included that nothing can use.

    ``labels``: whether its energies and forces are wanted; without them nobody needs to know their units.

    Raises
    ------
    StructureError
        The file is missing, cannot be read, or holds no structures; nobody says in which unit it is.
    """
    if not path.exists():
        msg = f"{path}: no such file: give the path of a file with structures"
        raise StructureError(msg)
    if path.is_file() and path.stat().st_size == 0:
        msg = f"{path} is empty: expected at least one structure"
        raise StructureError(msg)
    known = format_of(path)
    if path.is_dir() and known is not DEEPMD:
        msg = f"{path}: no such file, but a folder, and of no format that is one"
        raise StructureError(msg)
    _check_units(path, known, names, labels=labels)
    some = False
    try:
        for entry in known.read(path, names.species):
            some = True
            yield entry
    except (OSError, EOFError, LZMAError) as error:  # the last two of compressed files that are cut or damaged
        msg = f"{path} cannot be read ({getattr(error, 'strerror', None) or error}): expected {known.name}"
        raise StructureError(msg) from error
    if not some:
        msg = f"{path} holds no structures: expected at least one"
        raise StructureError(msg)


def read_usable(
    path: Path, tell: Callable[[str], None], names: Names = AS_IT_IS, *, close: bool = False
) -> dict[int, Atoms]:
    """The structures of a file without labels, Å, by their places; what cannot be used is left out and told.

    ``close`` is as of :func:`check_structure`.

    Raises
    ------
    StructureError
        As of :func:`entries`; or none of them can be used.
    """
    found: dict[int, Atoms] = {}
    left_out: list[LeftOut] = []
    for place, entry in enumerate(entries(path, names, labels=False)):
        try:
            if isinstance(entry, Unusable):
                raise StructureError(f" {entry.reason}")
            frame = structure(entry, names)
            check_structure(frame, "", close=close)
            found[place] = frame
        except StructureError as error:
            left_out.append(LeftOut(place, str(error)))
    if not found:
        msg = f"{path} frame {left_out[0].place}{left_out[0].reason}"
        raise StructureError(msg)
    for line in left_out_lines(path, [replace(left, reason=left.reason.lstrip(": ")) for left in left_out]):
        tell(line)
    return found


def read_labelled(
    path: Path,
    names: Names = AS_IT_IS,
    progress: Progress | None = None,
    *,
    forces: bool = False,
    allow_none: bool = False,
) -> Labelled:
    """Read the labelled structures of a file; what cannot be used is left out, and named.

    Parameters
    ----------
    path : Path
        A file, or a folder of a format that is one.
    names : Names
        What the user says of it.
    progress : Progress, optional
        Is told how far it is.
    forces : bool
        Structures without forces are left out.
    allow_none : bool
        A file without any label is no error.

    Raises
    ------
    StructureError
        As of :func:`entries`; none of the structures is a label; which of several numbers is meant cannot be known.
    """
    found = Labelled(path)
    for place, entry in enumerate(_watched(path, names, progress or Silent())):
        if isinstance(entry, Unusable):
            found.left_out.append(LeftOut(place, entry.reason, entry.word))
            continue
        atoms = structure(entry, names)
        try:
            check_structure(atoms, "", close=True)
            _label(entry, atoms, names, found.understood, forces=forces)
        except StructureError as error:  # nothing may look at it: the search for its neighbours may never end
            found.left_out.append(LeftOut(place, str(error).lstrip(": ")))
        except NoLabelError as error:
            found.left_out.append(LeftOut(place, str(error), error.word, atoms))
        except SeveralError as error:
            msg = f"{path} frame {place}: {error}: name the one that is meant with {_option(error.quantity)}"
            raise StructureError(msg) from error
        else:
            found.frames.append(atoms)
            found.places.append(place)
    if not found.frames and not allow_none:
        # of several reasons the one that an option may help
        first = min(found.left_out, key=lambda left: not left.reason.startswith("has no energy: expected"))
        msg = f"{path}: none of {len(found.left_out)} structures can be used as a label: frame {first.place} "
        unnamed = first.reason.startswith("has no energy: expected")
        hint = f"; if one of these is it, name it with {_option('energy')}" if unnamed else ""
        raise StructureError(msg + first.reason + hint)
    return found


def read(path: str | Path, **said: Any) -> list[Atoms]:
    """Read labelled structures, as ``alflow train`` does: a list for :func:`alflow.fit`.

    Parameters
    ----------
    path : str or Path
        A file, or a folder of a format that is one.
    **said
        Fields of :class:`alflow.data.names.Names`: ``energy_key``, ``forces_key``, ``stress_key``, ``energy_unit``,
        ``length_unit``, ``species``.

    Returns
    -------
    list of Atoms
        With energy (eV), and where there are any, forces (eV/Å) and stress (eV/Å^3) as results of their calculators.

    Warns
    -----
    PotentialWarning
        How the file was read, where that is not plain, and what was left out.

    Raises
    ------
    StructureError
        As of :func:`read_labelled`.
    ConfigError
        A key that is not one, or a unit that is not known.
    """
    try:
        names = Names(**said)
    except ValidationError as error:
        first = error.errors()[0]
        keys = ", ".join(Names.model_fields)
        msg = f"{'.'.join(map(str, first['loc']))}: {first['msg']}: expected some of {keys}"
        raise ConfigError(msg) from error
    found = read_labelled(Path(path), names)
    for remark in found.remarks():
        warnings.warn(remark, PotentialWarning, stacklevel=2)
    return found.frames


def _label(entry: Entry, atoms: Atoms, names: Names, understood: Understood, *, forces: bool) -> None:
    """Make a structure a label; NoLabelError if it is none."""
    labelled(entry, atoms, names, understood)
    if forces and "forces" not in atoms.calc.results:
        msg = "has no forces"
        raise NoLabelError(msg)


def _watched(path: Path, names: Names, progress: Progress) -> Iterator[Entry | Unusable]:
    """As of :func:`entries`, told while it is read where that takes long."""
    count = format_of(path).count if path.exists() and path.is_file() and path.stat().st_size > _LARGE else None
    if count is None:
        yield from entries(path, names)
        return
    size, free = _MEMORY * path.stat().st_size, psutil.virtual_memory().available
    if size > _TOLD * free:
        progress.note(f"{path}: its structures take some {size / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free")
    progress.begin(f"read {path.name}", count(path))
    for entry in entries(path, names):
        yield entry
        progress.advance()


_LARGE = 10_000_000  # bytes of a file, from which on it is told how far it is read
_MEMORY = 2.2  # bytes for each byte of a file of text: as measured with 20,000 structures of 64 atoms with forces
_TOLD = 0.25  # of the memory that is free: as much is told before it is taken


def _option(quantity: str) -> str:
    key = "stress" if quantity == "virial" else quantity
    none = ', or say "none" there' if quantity != "energy" else ""
    return f"--{key}-key ({key}_key in alflow.toml){none}"


def _check_units(path: Path, known: Format, names: Names, *, labels: bool) -> None:
    given = [name for name in ("energy_unit", "length_unit") if getattr(names, name) is not None]
    if known.units == "own" and given:
        msg = f"{path}: {known.name} has units of its own: leave out {' and '.join(given)}"
        raise StructureError(msg)
    if known.units == "asked" and (names.length_unit is None or (labels and names.energy_unit is None)):
        remedy = "--energy-unit and --length-unit" if labels else "length_unit (on a command line --length-unit)"
        msg = f"{path}: nothing in {known.name} says its units: give {remedy}"
        raise StructureError(msg)
