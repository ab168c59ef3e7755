"""Training sets of MACE: extended XYZ with the keys that it looks for unless it is told others.

``REF_energy``, ``REF_forces`` and ``REF_stress`` (nine numbers, eV/Å^3, with ASE's sign). An atom that is alone has
``config_type=IsolatedAtom``: MACE takes its energy for that of the element, and trains on the rest.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from alflow.data.formats.out import Labelled, labelled, numbers, quoted, write_text, xyz


def write(path: Path, frames: Sequence[Atoms], species: Sequence[str] = ()) -> None:  # noqa: ARG001 - all are named
    """Write structures with energy and forces, and stress where they have one; StructureError if it cannot be."""
    write_text(path, [_text(frame) for frame in labelled(frames)])


def _text(frame: Labelled) -> str:
    atoms = frame.atoms
    kind = "IsolatedAtom" if frame.is_isolated_atom else atoms.info.get("config_type")
    comment = [
        *quoted(np.array(atoms.cell.array) if atoms.cell.any() else None, "Lattice"),
        f'pbc="{" ".join("FT"[int(periodic)] for periodic in atoms.pbc)}"',
        f"REF_energy={numbers([frame.energy])}",
        *quoted(frame.stress, "REF_stress"),
        *([f'config_type="{kind}"'] if isinstance(kind, str) and kind and not set(kind) & set('"\\\n') else []),
    ]
    return xyz(atoms, comment, frame.forces, "REF_forces")
