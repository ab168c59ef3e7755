"""Folders of DeePMD-kit: systems of one composition, their structures as arrays (npy, npy/mixed, raw).

A system is a folder with ``type.raw``; one may also give a folder of systems. Energy is the one that the forces are
the gradient of, the virial is minus the stress times the volume, in eV. A system with a file ``nopbc`` is not periodic
at all, any other in three directions. In ``npy/mixed`` each structure has types of its own, and -1 is no atom.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.data.formats.base import Entries, Entry, Format, Unusable
from alflow.data.formats.out import Labelled, cell_with_images, labelled, types_of, whole_folder
from alflow.data.formats.species import species_of_types, symbols_of
from alflow.state.atomic import sync, whole_file

Array = NDArray[Any]

TYPES, TYPE_MAP, NOT_PERIODIC = "type.raw", "type_map.raw", "nopbc"

_DEPTHS = ("", "*/", "*/*/", "*/*/*/")
_OF_ATOMS = {"force": "forces", "atom_ener": "energies"}


def entries(path: Path, species: tuple[str, ...] = ()) -> Entries:
    """The structures of all systems of a folder; ``species``: of types 0, 1, ..., where a system does not say.

    Raises
    ------
    StructureError
        Nobody says of which chemical elements the types are, or a system says something else.
    """
    systems = _systems(path)
    known = [species_of_types(str(system), _type_map(system), species) for system in systems]
    for system, symbols in zip(systems, known, strict=True):
        for folder, load in _sets(system):
            place = str(folder.relative_to(path))
            try:
                yield from _structures(system, load, symbols)
            except (ValueError, OSError, EOFError) as error:
                yield Unusable(f"{place}: cannot be read ({' '.join(str(error).split())})")


def _systems(path: Path) -> list[Path]:
    """Folders with types, near and far, in the order of their names."""
    return sorted({found.parent for depth in _DEPTHS for found in path.glob(f"{depth}{TYPES}")})


def _type_map(system: Path) -> list[str]:
    file = system / TYPE_MAP
    return file.read_text(errors="replace").split() if file.is_file() else []


_Load = Callable[[str], Array | None]


def _sets(system: Path) -> Iterator[tuple[Path, _Load]]:
    """The sets of a system, or the system itself where its arrays are text."""
    sets = sorted(folder for folder in system.glob("set.*") if folder.is_dir())
    for folder in sets:
        yield folder, partial(_npy, folder)
    if not sets:
        yield system, partial(_raw, system)


def _npy(folder: Path, name: str) -> Array | None:
    file = folder / f"{name}.npy"
    return np.asarray(np.load(file)) if file.is_file() else None


def _raw(folder: Path, name: str) -> Array | None:
    file = folder / f"{name}.raw"
    return np.loadtxt(file, ndmin=2) if file.is_file() else None


def _structures(system: Path, load: _Load, species: tuple[str, ...]) -> Iterator[Entry | Unusable]:
    types = np.loadtxt(system / TYPES, dtype=int, ndmin=1)
    count = len(types)
    coordinates = load("coord")
    if coordinates is None:
        msg = "expected coord, found none"
        raise ValueError(msg)
    frames = len(coordinates)

    def shaped(name: str, *shape: int) -> Array | None:
        found = load(name)
        return None if found is None else fitting(name, found, *shape)

    def fitting(name: str, found: Array, *shape: int) -> Array:
        if found.size != frames * int(np.prod(shape)):
            msg = f"{name}: expected {frames} structures of {count} atoms, found shape {found.shape}"
            raise ValueError(msg)
        return found.reshape(frames, *shape).astype(np.int64 if name == "real_atom_types" else np.float64)

    positions = fitting("coord", coordinates, count, 3)
    periodic = not (system / NOT_PERIODIC).exists()
    cells = shaped("box", 3, 3) if periodic else np.zeros((frames, 3, 3))
    if cells is None:
        msg = f"expected box, or a file {NOT_PERIODIC} beside {TYPES}, found neither"
        raise ValueError(msg)
    energies, virials = shaped("energy"), shaped("virial", 9) if periodic else None
    of_atoms = {ours: shaped(theirs, count, *((3,) if theirs == "force" else ())) for theirs, ours in _OF_ATOMS.items()}
    mixed = shaped("real_atom_types", count)
    for frame in range(frames):
        own = types if mixed is None else mixed[frame]
        real = own >= 0
        try:
            symbols = symbols_of(own[real].tolist(), species)
        except ValueError as error:
            yield Unusable(str(error))
            continue
        atoms = Atoms(symbols, positions=positions[frame][real], cell=cells[frame], pbc=periodic)
        said = {name: array[frame] for name, array in (("energy", energies), ("virial", virials)) if array is not None}
        yield Entry(atoms, said, {name: array[frame][real] for name, array in of_atoms.items() if array is not None})


def _claims(path: Path, _head: str) -> bool:
    return path.is_dir() and any(True for depth in _DEPTHS for _ in path.glob(f"{depth}{TYPES}"))


DEEPMD = Format("folders of DeePMD-kit (npy, npy/mixed, raw)", _claims, entries, of_types=entries)


def write(path: Path, frames: Sequence[Atoms], species: Sequence[str] = ()) -> None:
    """Write a folder of systems, one for each composition: energy and forces, and stress where structures have one.

    Atoms are put in the order of their types, those of one element in the order that they have. Structures that are
    periodic in one or two directions get vacuum in the others. ``species``: of types 0, 1, ....

    Raises
    ------
    StructureError
        Labels are missing, atoms are of none of the species, or the folder is there already or cannot be written.
    """
    known = types_of(frames, species)
    systems: dict[str, list[Labelled]] = defaultdict(list)
    for frame in labelled(frames):
        systems[_name(frame)].append(frame)
    with whole_folder(path) as folder:
        for name, members in systems.items():
            _write_system(folder / name, members, known)


def _name(frame: Labelled) -> str:
    """Of its system: arrays are shared by structures of one composition that have the same of everything else."""
    name = frame.atoms.symbols.get_chemical_formula()
    if not frame.atoms.pbc.any():
        return f"{name}-{NOT_PERIODIC}"
    return name if frame.virial is not None else f"{name}-no-virial"


def _write_system(folder: Path, frames: list[Labelled], species: tuple[str, ...]) -> None:
    types = [[species.index(symbol) for symbol in frame.atoms.symbols] for frame in frames]
    orders = [np.argsort(own, kind="stable") for own in types]
    arrays = {
        "coord": [frame.atoms.positions[order] for frame, order in zip(frames, orders, strict=True)],
        "energy": [frame.energy for frame in frames],
        "force": [frame.forces[order] for frame, order in zip(frames, orders, strict=True)],
    }
    texts = {TYPES: "".join(f"{number}\n" for number in sorted(types[0])), TYPE_MAP: "".join(f"{s}\n" for s in species)}
    if frames[0].atoms.pbc.any():
        arrays["box"] = [cell_with_images(frame.atoms) for frame in frames]
    else:
        texts[NOT_PERIODIC] = ""
    if frames[0].virial is not None:
        arrays["virial"] = [frame.virial for frame in frames]
    (folder / "set.000").mkdir(parents=True)
    for name, text in texts.items():
        with whole_file(folder / name, overwrite=False) as temporary:
            temporary.write_text(text)
    for name, values in arrays.items():
        array = np.array(values, dtype=float)
        with whole_file(folder / "set.000" / f"{name}.npy", overwrite=False) as temporary, temporary.open("wb") as file:
            np.save(file, array if name == "energy" else array.reshape(len(frames), -1))
    sync(folder)
