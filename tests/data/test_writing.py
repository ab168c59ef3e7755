"""What is written comes back."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.data.reading import read_labelled
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


class Thing:
    def __str__(self) -> str:
        return "a\nthing"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("two\nlines", "two lines"),
        ("C:\\new\\", "C:\\new\\"),
        ('a "word"', 'a "word"'),
        ("_JSON [1", "[1"),
        (1 + 2j, "(1+2j)"),
        (Thing(), "a thing"),
        ({"a": np.zeros(2)}, "{'a': array([0., 0.])}"),
        ({"a": "b\\c"}, '{"a": "b\\\\c"}'),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}),
        (["a", "b"], ["a", "b"]),
        (np.array(["a", "b"]), ["a", "b"]),
        ([1.5, None], [1.5, None]),
        (0.1, 0.1),
        (True, True),
    ],
)
def test_whatever_a_structure_says_comes_back(value: object, expected: object, tmp_path: Path) -> None:
    """By ASE and by alflow, which both stop at some of them as ASE 3.29 writes them."""
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    atoms.info = {"before": 1, "said": value, "after": 2}
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=np.zeros((2, 3)))
    write_structures(tmp_path / "a.xyz", [atoms, atoms])
    for read in (ase.io.read(tmp_path / "a.xyz", ":"), read_labelled(tmp_path / "a.xyz").frames):
        assert [frame.info for frame in read] == [{"before": 1, "said": expected, "after": 2}] * 2
        assert read[1].get_potential_energy() == -3.0


def test_keys_that_mean_something_else_are_others(tmp_path: Path) -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[5, 5, 20], pbc=[True, True, False])
    atoms.info = {5: 1, "": 2, "a b=c": 3, "Lattice": 4, "pbc": 5, "energy": 6, "virial": 7, "Properties": 8}
    atoms.arrays |= {"species": np.array([1, 2]), "pos": np.zeros((2, 3)), "Z": np.array([3, 4]), "a:b": np.ones(2)}
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=np.zeros((2, 3)))
    write_structures(tmp_path / "a.xyz", [atoms])
    for read in (ase.io.read(tmp_path / "a.xyz"), *read_labelled(tmp_path / "a.xyz").frames):
        given = {f"given_{name}": k for name, k in (("Lattice", 4), ("pbc", 5), ("energy", 6), ("virial", 7))}
        assert read.info == {"5": 1, "unnamed": 2, "a_b_c": 3, "given_Properties": 8, **given}
        assert read == Atoms("H2", atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        assert {"given_species", "given_pos", "given_Z", "a_b"} <= set(read.arrays)
        assert read.get_potential_energy() == -3.0


def test_columns_of_all_kinds(tmp_path: Path) -> None:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]])
    atoms.arrays |= {
        "text": np.array(["a b", ""]),
        "tensor": np.arange(18.0).reshape(2, 3, 3),
        "complex": np.array([1j, 2]),
        "large": np.array([10**12, 1]),
        "small": np.array([3, 4], dtype=np.uint8),
        "nothing": np.zeros((2, 0)),
    }
    write_structures(tmp_path / "a.xyz", [atoms])
    read = ase.io.read(tmp_path / "a.xyz")
    assert read.arrays["text"].tolist() == ["a_b", "_"]
    assert read.arrays["tensor"].tolist() == np.arange(18.0).reshape(2, 9).tolist()
    assert read.arrays["complex"].tolist() == ["1j", "(2+0j)"]
    assert read.arrays["large"].tolist() == [1e12, 1]
    assert read.arrays["small"].tolist() == [3, 4]
    assert "nothing" not in read.arrays


def test_a_structure_without_atoms_keeps_its_place(tmp_path: Path) -> None:
    write_structures(tmp_path / "a.xyz", [Atoms("H"), Atoms(), Atoms("He")])
    assert [len(frame) for frame in ase.io.read(tmp_path / "a.xyz", ":")] == [1, 0, 1]
