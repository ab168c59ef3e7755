"""Structures that are labelled already."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import Field

from alflow.data.labels import electrons_of, labels_of
from alflow.data.names import Names
from alflow.errors import ConfigError, LabelError, StructureError
from alflow.records.electrons import Electrons
from alflow.reference.electrons import ELECTRONS
from alflow.reference.method import MethodSection, Result, labelled, properties_of
from alflow.reference.workflow import Workflow
from alflow.section import Positive
from alflow.workers.programs import content_hash

if TYPE_CHECKING:
    from alflow.data.reading import Labelled, LeftOut

_STATE = ("charge", "multiplicity")
_Key = tuple[tuple[int, ...], tuple[bool, ...]]


_WORKFLOW = """\
# A committee trained on structures that are labelled already, without sampling: water molecules.
seed = 0

[[system]]
name = "water"
structures = "labelled.xyz"  # those to be learned from, here all of them

[potential]
cutoff = 4.0                 # Å

[reference]
kind = "dataset"             # energies and forces are looked up
file = "labelled.xyz"        # extended XYZ, OUTCAR, ...: any format of docs/formats.md
tolerance = 1e-4             # within which positions must agree, Å

[converge]
max_labels = 24              # so many there are: it ends when they are learned
"""


class DatasetMethod(MethodSection, Names):
    """A file of labelled structures, in which a structure is looked up.

    Atoms may be in another order, and in another periodic image. Where file and structure both have a charge or a
    multiplicity, they must agree. The file has energies and forces, and stresses if there are any, in eV and Å and
    under names that people use (:mod:`alflow.data.names`) unless its keys say otherwise. In extended XYZ its
    information may have ``code``, ``fermi_energy``, ``eigenvalues`` and ``occupations``.
    """

    kind: Literal["dataset"] = Field(description="structures labelled already, looked up")
    file: str = Field(
        min_length=1, description="labelled structures in any format of docs/formats.md; relative to here"
    )
    tolerance: Positive = Field(1e-4, description="within which positions and cell must agree, Å")

    workflow: ClassVar[Workflow | None] = Workflow(_WORKFLOW)

    def at(self, directory: Path) -> Self:
        """The method in a run directory: its file is found from anywhere."""
        return self.model_copy(update={"file": str(directory.absolute() / self.file)})

    def identity(self) -> str:
        """Canonical JSON of the content of the file, wherever it lies; ConfigError when it cannot be read."""
        try:
            digest = content_hash(Path(self.file))
        except OSError as error:
            msg = f"{self.file}: {error.strerror}: give a file of labelled structures, relative to the run directory"
            raise ConfigError(msg) from error
        said = self.names().model_dump(exclude_defaults=True, mode="json")
        return json.dumps({"kind": "dataset", "sha256": digest, "tolerance": self.tolerance, **said}, sort_keys=True)

    def names(self) -> Names:
        """What is said of the file."""
        return Names(**{name: getattr(self, name) for name in Names.model_fields})

    def code(self) -> str:
        """The name of the file."""
        return f"data set {Path(self.file).name}"

    def check(self) -> None:
        """ConfigError when the file cannot be read, has no structure with energy and forces, or electrons in words.

        What else is wrong is the failure of that structure alone, as with any other code.
        """
        for place, frame in self._loaded().frames.items():
            try:
                electrons_of(frame.info)
            except ValueError as error:
                msg = f"{self.file} frame {place}: {error}"
                raise ConfigError(msg) from error

    def labels(self) -> "Labelled":
        """What the file holds; ConfigError when it cannot be used."""
        return self._loaded().labels

    def told(self) -> frozenset[str]:
        """All of it: nothing is calculated, and a charge or multiplicity that the file says must agree."""
        return ELECTRONS

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:  # noqa: ARG002 - it writes no files
        """Energy, forces and, if periodic in three directions, stress; LabelError ``no_output`` if it is not there."""
        from alflow.data.entering import PLAIN

        loaded = self._loaded()
        group = loaded.groups.get(_key(atoms))
        if group is None:
            msg = f"{self.file} has no {atoms.get_chemical_formula()} with pbc = {atoms.pbc.tolist()}"
            raise LabelError("no_output", msg)
        index, order = self._look_up(group, loaded.frames, atoms)
        found, where = loaded.frames[index], f"structure {index} of {self.file}, counted from 0"
        if index in loaded.left_out:
            left = loaded.left_out[index]
            raise LabelError(left.word, f"{left.reason} in {where}")
        try:
            # what the file has is checked before its atoms are put in order: it may be of any shape
            results = labelled(found, **labels_of(found)).calc.results
            electrons = Electrons(**electrons_of(found.info))
        except LabelError as error:
            raise LabelError(error.reason, f"{error.detail} in {where}") from error
        except ValueError as error:
            raise LabelError("no_output", f"{error} in {where}") from error
        results["forces"] = results["forces"][order]
        if not atoms.pbc.all():
            results.pop("stress", None)
        of_structure, of_atoms = properties_of(found.calc.results, len(found))
        return Result(
            labelled(atoms, **results),
            str(found.info.get("code", self.code())),
            where,
            plain_energy=float(found.info.get(PLAIN, np.nan)),
            electrons=electrons,
            properties=of_structure,
            atom_properties={name: value[order] for name, value in of_atoms.items()},
        )

    def _loaded(self) -> "_File":
        """The structures of the file; ConfigError when it cannot be used."""
        try:
            status = Path(self.file).stat()
            return _read(self.file, self.names(), status.st_mtime_ns, status.st_size)
        except StructureError as error:
            raise ConfigError(str(error)) from error
        except OSError as error:
            msg = f"{self.file}: {error.strerror}: give a file of labelled structures, relative to the run directory"
            raise ConfigError(msg) from error

    def _look_up(self, group: "_Group", frames: Mapping[int, Atoms], atoms: Atoms) -> tuple[int, NDArray[np.intp]]:
        """Index of a structure, and which of its atoms each atom is."""
        states: list[str] = []
        for any_order in (False, True):  # the first is quicker, and mostly enough
            near: list[tuple[float, int, NDArray[np.intp]]] = []
            for candidate in group.candidates(atoms, self.tolerance, any_order=any_order):
                distance, order = group.match(candidate, atoms)
                index = group.indices[candidate]
                if distance > self.tolerance:
                    continue
                if state := _disagreement(frames[index].info, atoms.info):
                    states.append(f"{self.file} has the structure with {state}")
                else:
                    near.append((distance, index, order))
            if near:
                return min(near, key=lambda entry: entry[:2])[1:]
        raise LabelError("no_output", states[0] if states else group.nearest(atoms, self.file, self.tolerance))


@dataclass(frozen=True, eq=False)
class _Group:
    """Structures with the same number of atoms of each species and the same periodicity, atoms by species.

    Attributes
    ----------
    indices : list of int
        Of the structures in the file.
    positions : ndarray, shape (S, N, 3)
        Å.
    cells : ndarray, shape (S, 3, 3)
        Å.
    orders : ndarray, shape (S, N)
        Which atom of the file each is.
    """

    indices: list[int]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    orders: NDArray[np.intp]

    def candidates(self, atoms: Atoms, tolerance: float, *, any_order: bool) -> NDArray[np.intp]:
        """Those whose cell agrees, and that have an atom where the first one of the rarest species is.

        That atom is the first of its species in them too, or with ``any_order`` any of the species.
        """
        same = np.flatnonzero(self._cell_errors(atoms) <= tolerance)
        order = _by_species(atoms)
        start, stop = min(_blocks(atoms.numbers[order]), key=lambda block: block[1] - block[0])
        offsets = self.positions[same, start : stop if any_order else start + 1] - atoms.positions[order[start]]
        return np.asarray(same[_lengths(offsets, atoms).min(axis=1) <= tolerance])

    def match(self, candidate: int, atoms: Atoms) -> tuple[float, NDArray[np.intp]]:
        """Largest distance of an atom from its partner (Å), and for each atom its partner in the file.

        The partner is the nearest atom of the species; infinity if one atom is that of two.
        """
        order = _by_species(atoms)
        partners = np.empty(len(atoms), dtype=np.intp)
        largest = 0.0
        for start, stop in _blocks(atoms.numbers[order]):
            wanted = atoms.positions[order[start:stop]]
            lengths = _lengths(self.positions[candidate, None, start:stop] - wanted[:, None], atoms)
            nearest = lengths.argmin(axis=1)
            if len(np.unique(nearest)) < stop - start:
                return np.inf, partners
            largest = max(largest, float(lengths.min(axis=1).max()))
            partners[order[start:stop]] = self.orders[candidate, start + nearest]
        return largest, partners

    def nearest(self, atoms: Atoms, file: str, tolerance: float) -> str:
        """How far away the nearest is: a sentence."""
        cell_errors = self._cell_errors(atoms)
        formula = atoms.get_chemical_formula()
        if cell_errors.min() > tolerance:
            index = self.indices[int(cell_errors.argmin())]
            what = f"with this cell: the nearest, structure {index}, differs by {cell_errors.min():.2g} Å"
            return f"{file} has no {formula} {what}, more than the tolerance of {tolerance:g}"
        same = np.flatnonzero(cell_errors <= tolerance)
        distances = _lengths(self.positions[same] - atoms.positions[_by_species(atoms)], atoms).max(axis=1)
        for i in np.argsort(distances)[:10]:  # there, atoms in another order may be nearer
            distances[i] = min(distances[i], self.match(same[i], atoms)[0])
        index = self.indices[same[int(distances.argmin())]]
        what = f"the nearest, structure {index}, has an atom {distances.min():.2g} Å away"
        return f"{file} has no such {formula}: {what}, more than the tolerance of {tolerance:g}"

    def _cell_errors(self, atoms: Atoms) -> NDArray[np.float64]:
        """Largest difference of a component of a periodic vector, Å, shape (S,)."""
        differences = np.abs(self.cells - atoms.cell.array)[:, atoms.pbc]
        return np.asarray(differences.max(axis=(1, 2), initial=0.0))


@dataclass(frozen=True, eq=False)
class _File:
    """A file that has been read.

    Attributes
    ----------
    labels : Labelled
        Of it.
    frames : dict of Atoms
        By their place in the file, those that are no labels included.
    left_out : dict of LeftOut
        Why these are none.
    groups : dict of _Group
        By species and periodicity.
    """

    labels: "Labelled"
    frames: Mapping[int, Atoms]
    left_out: Mapping[int, "LeftOut"]
    groups: Mapping[_Key, "_Group"]


@lru_cache(maxsize=4)
def _read(file: str, names: Names, _time: int, _size: int) -> _File:
    from alflow.data.reading import read_labelled

    labels = read_labelled(Path(file), names, forces=True)
    left_out = {left.place: left for left in labels.left_out if left.atoms is not None}
    frames = dict(zip(labels.places, labels.frames, strict=True))
    frames |= {place: left.atoms for place, left in left_out.items() if left.atoms is not None}
    members: dict[_Key, list[int]] = {}
    for place, frame in sorted(frames.items()):
        members.setdefault(_key(frame), []).append(place)
    groups = {key: _group(frames, places) for key, places in members.items()}
    return _File(labels, frames, left_out, groups)


def _group(frames: Mapping[int, Atoms], indices: list[int]) -> _Group:
    orders = np.array([_by_species(frames[i]) for i in indices])
    positions = np.array([frames[i].positions[order] for i, order in zip(indices, orders, strict=True)])
    return _Group(indices, positions, np.array([frames[i].cell.array for i in indices]), orders)


def _key(atoms: Atoms) -> _Key:
    """Species and periodicity."""
    return tuple(np.sort(atoms.numbers).tolist()), tuple(atoms.pbc.tolist())


def _by_species(atoms: Atoms) -> NDArray[np.intp]:
    """The order of atoms by species, and within one as they are."""
    return np.argsort(atoms.numbers, kind="stable")


def _blocks(numbers: NDArray[Any]) -> list[tuple[int, int]]:
    """Begin and end of each species in sorted atomic numbers."""
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    return list(pairwise(edges))


def _lengths(offsets: NDArray[np.float64], atoms: Atoms) -> NDArray[np.float64]:
    """Of vectors, shape (..., 3), less the nearest lattice vector."""
    if atoms.pbc.any():
        from ase.geometry import complete_cell

        cell = complete_cell(atoms.cell.array)
        shifts = np.where(atoms.pbc, np.rint(offsets @ np.linalg.inv(cell)), 0.0)
        offsets = offsets - shifts @ cell
    return np.asarray(np.sqrt((offsets**2).sum(axis=-1)))


def _disagreement(info: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """A charge or multiplicity that is another; empty when there is none."""
    for name in _STATE:
        if name in info and name in wanted and int(info[name]) != int(wanted[name]):
            return f"{name} {int(info[name])}: expected {int(wanted[name])}"
    return ""
