"""Folders of DeePMD-kit: arrays of systems."""

import re
from pathlib import Path

import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.data.formats.deepmd import DEEPMD
from alflow.errors import StructureError
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

COORD = np.arange(12.0).reshape(2, 6)
BOX = np.tile([9.0, 0, 0, 0.5, 8, 0, 0, 0.25, 7], (2, 1))
ENERGY = np.array([-1.5, -2.5])
FORCE = COORD / 8
VIRIAL = np.arange(18.0).reshape(2, 9)


def system(folder: Path, names: str | None = "O\nH\n", **arrays: np.ndarray | None) -> Path:
    """Two structures of an H and an O."""
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("1\n0\n")
    if names is not None:
        (folder / "type_map.raw").write_text(names)
    for name, array in ({"coord": COORD, "box": BOX, "energy": ENERGY, "force": FORCE} | arrays).items():
        if array is not None:
            np.save(folder / "set.000" / f"{name}.npy", array)
    return folder


def test_numbers_are_those_of_the_arrays(tmp_path: Path) -> None:
    folder = system(tmp_path / "water", virial=VIRIAL, atom_ener=np.array([[1.0, 2], [3, 4]]))
    assert format_of(folder) is DEEPMD
    found = list(DEEPMD.read(folder))
    assert len(found) == 2
    for number, entry in enumerate(found):
        assert isinstance(entry, Entry)
        assert entry.atoms.get_chemical_symbols() == ["H", "O"]
        assert entry.atoms.pbc.all()
        np.testing.assert_array_equal(entry.atoms.cell, [[9, 0, 0], [0.5, 8, 0], [0, 0.25, 7]])
        np.testing.assert_array_equal(entry.atoms.positions, COORD[number].reshape(2, 3))
        np.testing.assert_array_equal(entry.of_atoms["forces"], FORCE[number].reshape(2, 3))
        np.testing.assert_array_equal(entry.of_atoms["energies"], [[1, 2], [3, 4]][number])
        assert entry.said["energy"] == ENERGY[number]
        np.testing.assert_array_equal(entry.said["virial"], VIRIAL[number])


def test_a_folder_of_systems_and_sets(tmp_path: Path) -> None:
    first = system(tmp_path / "data" / "a")
    system(tmp_path / "data" / "inner" / "b", energy=ENERGY[:, None] * 10)
    (first / "set.001").mkdir()
    for name, array in {"coord": COORD[:1], "box": BOX[:1]}.items():
        np.save(first / "set.001" / f"{name}.npy", array)
    entries = list(DEEPMD.read(tmp_path / "data"))
    assert [entry.said.get("energy") for entry in entries if isinstance(entry, Entry)] == [-1.5, -2.5, None, -15, -25]


def test_single_precision_is_taken_as_it_is(tmp_path: Path) -> None:
    entry = next(DEEPMD.read(system(tmp_path / "a", energy=np.array([0.1, 0.2], dtype=np.float32))))
    assert isinstance(entry, Entry)
    assert float(entry.said["energy"]) == float(np.float32(0.1))
    assert entry.said["energy"].dtype == np.float64


def test_molecules(tmp_path: Path) -> None:
    folder = system(tmp_path / "a", virial=VIRIAL)
    (folder / "nopbc").touch()
    entry = next(DEEPMD.read(folder))
    assert isinstance(entry, Entry)
    assert not entry.atoms.pbc.any()
    assert not entry.atoms.cell.any()
    assert set(entry.said) == {"energy"}


def test_structures_with_types_of_their_own(tmp_path: Path) -> None:
    folder = system(tmp_path / "a", real_atom_types=np.array([[0, 1], [1, -1]]))
    (folder / "type.raw").write_text("0\n0\n")
    first, second = DEEPMD.read(folder)
    assert isinstance(first, Entry)
    assert isinstance(second, Entry)
    assert first.atoms.get_chemical_symbols() == ["O", "H"]
    assert second.atoms.get_chemical_symbols() == ["H"]
    np.testing.assert_array_equal(second.atoms.positions, COORD[1].reshape(2, 3)[:1])
    np.testing.assert_array_equal(second.of_atoms["forces"], FORCE[1].reshape(2, 3)[:1])


def test_arrays_as_text(tmp_path: Path) -> None:
    (tmp_path / "type.raw").write_text("1\n0\n")
    for name, array in {"coord": COORD, "box": BOX, "energy": ENERGY}.items():
        np.savetxt(tmp_path / f"{name}.raw", array)
    entries = list(DEEPMD.read(tmp_path, ("O", "H")))
    assert [entry.said["energy"] for entry in entries if isinstance(entry, Entry)] == [-1.5, -2.5]


def test_types_that_nobody_names_are_refused(tmp_path: Path) -> None:
    nameless = system(tmp_path / "a", names=None)
    with pytest.raises(StructureError, match=re.escape(f"{nameless} has numbers of types only")):
        list(DEEPMD.read(nameless))
    labelled = system(tmp_path / "b", names="Type_0 Type_1")
    with pytest.raises(StructureError, match="names its types Type_0, Type_1: expected chemical symbols"):
        list(DEEPMD.read(labelled))
    for folder in (nameless, labelled):
        entry = next(DEEPMD.read(folder, ("Cl", "Na")))
        assert isinstance(entry, Entry)
        assert entry.atoms.get_chemical_symbols() == ["Na", "Cl"]


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"coord": COORD[:, :5]}, "coord: expected 2 structures of 2 atoms, found shape (2, 5)"),
        ({"force": FORCE[:1]}, "force: expected 2 structures of 2 atoms, found shape (1, 6)"),
        ({"box": None}, "expected box, or a file nopbc beside type.raw, found neither"),
        ({"coord": None}, "expected coord, found none"),
        ({"virial": VIRIAL[:, :6]}, "virial: expected 2 structures of 2 atoms, found shape (2, 6)"),
        ({"energy": np.array([{}], dtype=object)}, "Object arrays cannot be loaded when allow_pickle=False"),
    ],
)
def test_arrays_that_do_not_fit_stop_no_other(tmp_path: Path, arrays: dict[str, np.ndarray], reason: str) -> None:
    system(tmp_path / "a", **arrays)
    system(tmp_path / "b")
    broken, *whole = DEEPMD.read(tmp_path)
    assert isinstance(broken, Unusable)
    assert broken.reason == f"a/set.000: cannot be read ({reason})"
    assert len(whole) == 2


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    assert format_of(tmp_path) is not DEEPMD


def test_dpdata_writes_what_is_read(tmp_path: Path) -> None:
    dpdata = pytest.importorskip("dpdata")
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.symbols[:3] = "Ag"
    atoms.rattle(0.1, seed=1)
    atoms.set_cell(atoms.cell @ [[1.02, 0.01, 0], [0, 0.99, 0.03], [0.01, 0, 1]], scale_atoms=True)
    emt = EMT()
    results = {name: emt.get_property(name, atoms) for name in ("energy", "forces", "stress")}
    atoms.calc = SinglePointCalculator(atoms, **results)
    theirs = dpdata.LabeledSystem(atoms, fmt="ase/structure")
    for form in ("npy", "raw", "npy/mixed"):
        folder = tmp_path / form.replace("/", "-")
        theirs.to(f"deepmd/{form}", str(folder))
        (entry,) = DEEPMD.read(folder)
        assert isinstance(entry, Entry)
        order = np.lexsort(np.round(entry.atoms.positions, 6).T)
        wanted = np.lexsort(np.round(theirs["coords"][0], 6).T)
        assert entry.atoms.get_chemical_formula() == "Ag3Cu5"
        np.testing.assert_allclose(entry.of_atoms["forces"][order], theirs["forces"][0][wanted], atol=1e-6)
        stress = -np.asarray(entry.said["virial"]).reshape(3, 3) / atoms.get_volume()
        np.testing.assert_allclose(stress.ravel()[[0, 4, 8, 5, 2, 1]], results["stress"], atol=1e-6)
        np.testing.assert_allclose(entry.said["energy"], results["energy"], rtol=1e-7)
