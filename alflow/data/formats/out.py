"""What all formats that potentials are trained from need to be written: labels, species, and files as a whole."""

import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from alflow.data.labels import checked, labels_of
from alflow.errors import StructureError
from alflow.state.atomic import sync, whole_file
from alflow.structures import is_alone

Array = NDArray[np.float64]

VACUUM = 20.0
"""Å between an atom and the images of others where a format has images and the structure has none: beyond cutoffs."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """A structure with its labels.

    Attributes
    ----------
    atoms : Atoms
        As it was given.
    energy : float
        eV, the one that the forces are the gradient of.
    forces : ndarray of shape (N, 3)
        eV/Å.
    virial : ndarray of shape (3, 3), or None
        Minus the stress times the volume, eV; None without a stress, or without three periodic directions.
    """

    atoms: Atoms
    energy: float
    forces: Array
    virial: Array | None

    @property
    def stress(self) -> Array | None:
        """3x3, eV/Å^3, with the sign of ASE."""
        return None if self.virial is None else -self.virial / self.atoms.get_volume()

    @property
    def is_isolated_atom(self) -> bool:
        """Whether this is an atom with nothing else around."""
        return is_alone(self.atoms)


def labelled(frames: Sequence[Atoms]) -> list[Labelled]:
    """Structures with their labels; StructureError for one that has no energy or forces, or what is no label."""
    if not frames:
        msg = "no structures to write: expected at least one with energy and forces"
        raise StructureError(msg)
    return [_labelled(index, frame) for index, frame in enumerate(frames)]


def _labelled(index: int, frame: Atoms) -> Labelled:
    found = labels_of(frame)
    if is_alone(frame):
        found.setdefault("forces", np.zeros((1, 3)))  # nothing pulls at an atom that is alone
    if missing := [name for name in ("energy", "forces") if name not in found]:
        lacks = " and no ".join(missing)
        msg = f"structure {index} has no {lacks}: expected energy and forces; leave it out, or label it"
        raise StructureError(msg)
    try:
        labels = {name: checked(name, value, len(frame)) for name, value in found.items()}
    except ValueError as error:
        msg = f"structure {index}: {error}"
        raise StructureError(msg) from error
    virial = None
    if "stress" in labels and frame.pbc.all():
        virial = -frame.get_volume() * np.asarray(voigt_6_to_full_3x3_stress(labels["stress"]), dtype=float)
    return Labelled(frame, float(labels["energy"]), labels["forces"], virial)


def species_of(frames: Iterable[Atoms]) -> tuple[str, ...]:
    """Chemical symbols of all structures, in the order of atomic numbers."""
    symbols = {int(number): atom for frame in frames for number, atom in zip(frame.numbers, frame.symbols, strict=True)}
    return tuple(symbols[number] for number in sorted(symbols))


def types_of(frames: Sequence[Atoms], species: Sequence[str]) -> tuple[str, ...]:
    """Symbols of types 0, 1, ...: what is given, else all there are; StructureError if what is given lacks one."""
    found = species_of(frames)
    if missing := [symbol for symbol in found if symbol not in species] if species else []:
        msg = f"structures hold {', '.join(missing)}: expected species out of {', '.join(species)}; name all of them"
        raise StructureError(msg)
    return tuple(species) or found


def cell_with_images(atoms: Atoms) -> Array:
    """A cell, 3x3, Å, for formats in which all directions are periodic: with vacuum where they are not."""
    if atoms.pbc.all():
        return np.array(atoms.cell.array)
    periodic = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
    cell = np.array(complete_cell(periodic)) if atoms.pbc.any() else np.eye(3)
    for direction in np.flatnonzero(~atoms.pbc):
        normal = cell[direction] / np.linalg.norm(cell[direction])
        cell[direction] = normal * (np.ptp(atoms.positions @ normal) + VACUUM)
    return cell


def numbers(values: Array | Sequence[float]) -> str:
    """With as many digits as it takes to read the same again."""
    return " ".join(repr(float(value)) for value in np.ravel(values))


def quoted(values: Array | None, name: str) -> list[str]:
    """``name="..."`` of extended XYZ; nothing of nothing."""
    return [] if values is None else [f'{name}="{numbers(values)}"']


def xyz(atoms: Atoms, comment: Sequence[str], forces: Array, column: str) -> str:
    """A structure in extended XYZ, with a column of forces."""
    lines = [str(len(atoms)), " ".join([*comment, f"Properties=species:S:1:pos:R:3:{column}:R:3"])]
    for symbol, position, force in zip(atoms.symbols, atoms.positions, forces, strict=True):
        lines.append(f"{symbol} {numbers(position)} {numbers(force)}")
    return "\n".join(lines) + "\n"


def write_text(path: Path, parts: Iterable[str]) -> None:
    """Write a file, completely or not at all; what is there is replaced; StructureError if it cannot be."""
    with _told(path), whole_file(path, overwrite=True) as temporary, temporary.open("w") as file:
        file.writelines(parts)


def expect_new_folder(path: Path) -> None:
    """StructureError where something is already that a folder would replace."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        msg = f"{path} exists: expected a new folder; remove it, or give another name"
        raise StructureError(msg)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Write a folder, completely or not at all, under a temporary name; StructureError if there is one of its name."""
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    expect_new_folder(path)
    with _told(path):
        temporary.mkdir()
        try:
            yield temporary
            sync(temporary)
            temporary.rename(path)
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = f"{path} cannot be written ({error.strerror or error}): check the folder and the space left on its disk"
        raise StructureError(msg) from error
