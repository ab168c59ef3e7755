"""What is written comes back."""

from pathlib import Path

import ase.io
import numpy as np
from alflow.data.writing import write_structures
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator


def test_an_empty_text_takes_nothing_else_with_it(tmp_path: Path) -> None:
    """ASE 3.29 writes it as nothing, and reads the periodicity of a slab for it (findings/extxyz-text-...sh)."""
    slab = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[5, 5, 20], pbc=[True, True, False])
    slab.info = {"note": "", "kind": "slab", "value": np.array([1, 2])}
    slab.calc = SinglePointCalculator(slab, energy=-3.0, forces=np.zeros((2, 3)))
    write_structures(tmp_path / "slab.xyz", [slab, Atoms("H")])
    read = ase.io.read(tmp_path / "slab.xyz", 0)
    assert list(read.pbc) == [True, True, False]
    assert read.info["kind"] == "slab"
    assert "note" not in read.info
    assert read.get_potential_energy() == -3.0
    assert slab.info["note"] == ""
