"""Formats that structures with labels are written in, for programs that train other potentials."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from alflow.data.formats import deepmd, mace, mtp, nep
from alflow.structures import is_alone, structure_id


@dataclass(frozen=True)
class Writer:
    """A way to write structures with energy (eV), forces (eV/Å) and, where they have one, stress (eV/Å^3).

    Attributes
    ----------
    name : str
        In words.
    ending : str
        Of the file, ``.xyz`` for example; empty for a folder.
    write : callable
        Of a path, structures with a calculator that has their labels, and the chemical symbols of types 0, 1, ...: give
        the same ones for training and test, where a format numbers them; all that the structures hold if empty. The
        file or folder is there completely or not at all. Raises StructureError.
    """

    name: str
    ending: str
    write: Callable[[Path, Sequence[Atoms], Sequence[str]], None]


WRITERS = {
    "mace": Writer("extended XYZ with the keys of MACE", ".xyz", mace.write),
    "nep": Writer("extended XYZ for NEP (GPUMD)", ".xyz", nep.write),
    "deepmd": Writer("folders of DeePMD-kit (npy)", "", deepmd.write),
    "mtp": Writer("MTP configurations (MLIP, motep)", ".cfg", mtp.write),
}
"""All that are known, by the names that users give."""


def train_test(frames: Sequence[Atoms], share: float, seed: int = 0) -> tuple[list[Atoms], list[Atoms]]:
    """Structures to train and to test with.

    A structure is in the test set or not by itself, whatever stands beside it and in whatever order: a set that grows,
    or is written once more, moves none to the other side. So the share is met on average only. A larger share keeps
    what a smaller one has. Atoms that are alone are to train with, since the energies of elements come from them.

    Parameters
    ----------
    frames : sequence of Atoms
        All structures.
    share : float
        Of the test set, from 0 to 1.
    seed : int
        Another one gives another choice.
    """
    chosen = [_lot(frame, seed) < share and not is_alone(frame) for frame in frames]
    train = [frame for frame, is_test in zip(frames, chosen, strict=True) if not is_test]
    return train, [frame for frame, is_test in zip(frames, chosen, strict=True) if is_test]


def _lot(frame: Atoms, seed: int) -> float:
    """From 0 to 1, uniform over structures, always the same for one."""
    name = structure_id(frame, f"test set {seed}")
    return int(name, 16) / 16.0 ** len(name)
