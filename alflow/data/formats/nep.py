"""train.xyz and test.xyz of NEP, for the trainer of GPUMD: extended XYZ with ``energy``, ``virial`` and ``force``.

The virial is minus the stress times the volume, nine numbers, eV. Every structure has a cell; directions that are not
periodic get vacuum, since NEP has images in all of them (only its models with charges look at ``pbc``).
"""

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from alflow.data.formats.out import Labelled, cell_with_images, labelled, numbers, quoted, write_text, xyz


def write(path: Path, frames: Sequence[Atoms], species: Sequence[str] = ()) -> None:  # noqa: ARG001 - all are named
    """Write structures with energy and forces, and stress where they have one; StructureError if it cannot be."""
    write_text(path, [_text(frame) for frame in labelled(frames)])


def _text(frame: Labelled) -> str:
    atoms = frame.atoms
    comment = [
        f'pbc="{"T T T" if atoms.pbc.any() else "F F F"}"',
        *quoted(cell_with_images(atoms), "Lattice"),
        f"energy={numbers([frame.energy])}",
        *quoted(frame.virial, "virial"),
    ]
    return xyz(atoms, comment, frame.forces, "force")
