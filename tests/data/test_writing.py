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


def test_what_info_calls_a_result_costs_no_result(tmp_path: Path) -> None:
    """ASE refuses to write it beside a result, and reads it for one without."""
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    atoms.info = {"energy": 7.0, "dipole": np.arange(3.0)}
    atoms.arrays["forces"] = np.ones((2, 3))
    write_structures(tmp_path / "a.xyz", [atoms])
    bare = ase.io.read(tmp_path / "a.xyz")
    assert set(bare.calc.results) == {"dipole"}
    assert bare.info["given_energy"] == 7.0
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=np.zeros((2, 3)), dipole=np.zeros(3))
    write_structures(tmp_path / "a.xyz", [atoms])
    found = ase.io.read(tmp_path / "a.xyz")
    assert (found.get_potential_energy(), found.info["given_energy"]) == (-3.0, 7.0)
    np.testing.assert_array_equal(found.get_forces(), np.zeros((2, 3)))
    np.testing.assert_array_equal(found.arrays["given_forces"], np.ones((2, 3)))
    np.testing.assert_array_equal(found.info["given_dipole"], np.arange(3.0))
    assert atoms.info["energy"] == 7.0
