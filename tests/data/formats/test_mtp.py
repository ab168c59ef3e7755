"""MTP configurations: what MLIP and motep write, and what they do not say."""

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.data.formats.mtp import MTP
from alflow.errors import StructureError
from ase.build import bulk

TWO = """BEGIN_CFG
 Size
    2
 Supercell
    4.0 0.0 0.0
    0.0 5.0 0.0
    0.5 0.0 6.0
 AtomData:  id type       cartes_x      cartes_y      cartes_z           fx          fy          fz
             1    1       0.0      1.25      2.0     0.5   -0.25    1e-3
             2    0       1.5      1.0       3.0     -0.5   0.25   -1e-3
 Energy
        -7.125
 PlusStress:  xx          yy          zz          yz          xz          xy
     1.0 2.0 3.0 4.0 5.0 6.0
 Feature   EFS_by\tVASP 6.4
 Feature   mindist\t3.5
 Feature   conf_id\t12
END_CFG
"""
SHUFFLED = """BEGIN_CFG
 Size
    1
 SuperCell
    2.0 0.0 0.0
    0.0 4.0 0.0
    0.0 1.0 8.0
 AtomData: fz direct_z fx direct_x fy direct_y type id
   3.0 0.5 1.0 0.25 2.0 0.5 0 1
 PlusStress: xy xz yz zz yy xx
   6.0 5.0 4.0 3.0 2.0 1.0
END_CFG
"""
MOLECULE = """BEGIN_CFG
 Size
    2
 AtomData:  id type cartes_x cartes_y cartes_z
   1 0 0 0 0
   2 0 0 0 0.75
 Energy
   -1.5
 Feature species\tH,O
END_CFG
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "train.cfg"
    path.write_text(text)
    return path


def test_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, f"{TWO}\n{TWO}\n")
    assert format_of(path) is MTP
    found = list(MTP.read(path, ("Cu", "Ag")))
    assert len(found) == 2
    for entry in found:
        assert isinstance(entry, Entry)
        assert entry.atoms.get_chemical_symbols() == ["Ag", "Cu"]
        assert entry.atoms.pbc.all()
        np.testing.assert_array_equal(entry.atoms.cell, [[4, 0, 0], [0, 5, 0], [0.5, 0, 6]])
        np.testing.assert_array_equal(entry.atoms.positions, [[0, 1.25, 2], [1.5, 1, 3]])
        np.testing.assert_array_equal(entry.of_atoms["forces"], [[0.5, -0.25, 1e-3], [-0.5, 0.25, -1e-3]])
        assert entry.said["energy"] == -7.125
        np.testing.assert_array_equal(entry.said["virial"], [1, 2, 3, 4, 5, 6])
        assert entry.atoms.info == {"EFS_by": "VASP 6.4", "mindist": 3.5, "conf_id": 12}


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    (entry,) = MTP.read(written(tmp_path, SHUFFLED), ("Si",))
    assert isinstance(entry, Entry)
    np.testing.assert_array_equal(entry.atoms.positions, [[0.5, 2.5, 4.0]])
    np.testing.assert_array_equal(entry.of_atoms["forces"], [[1, 2, 3]])
    np.testing.assert_array_equal(entry.said["virial"], [1, 2, 3, 4, 5, 6])
    assert "energy" not in entry.said


def test_as_many_directions_are_periodic_as_there_are_vectors(tmp_path: Path) -> None:
    slab = MOLECULE.replace(" AtomData", " Supercell\n 3 0 0\n 0 4 0\n AtomData")
    molecule, layer = MTP.read(written(tmp_path, MOLECULE + slab))
    assert isinstance(molecule, Entry)
    assert isinstance(layer, Entry)
    assert not molecule.atoms.pbc.any()
    assert not molecule.atoms.cell.any()
    assert list(layer.atoms.pbc) == [True, True, False]
    np.testing.assert_array_equal(layer.atoms.cell, [[3, 0, 0], [0, 4, 0], [0, 0, 0]])


def test_species_are_those_of_the_feature(tmp_path: Path) -> None:
    path = written(tmp_path, MOLECULE)
    (entry,) = MTP.read(path)
    assert isinstance(entry, Entry)
    assert entry.atoms.get_chemical_symbols() == ["H", "H"]
    assert entry.atoms.info == {}
    with pytest.raises(StructureError, match="calls its types H,O, --species says O,H: leave that out, or correct it"):
        list(MTP.read(path, ("O", "H")))


def test_types_that_nobody_names_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, TWO)
    with pytest.raises(StructureError, match=re.escape(f"{path} has numbers of types only: expected chemical symbols")):
        list(MTP.read(path))
    with pytest.raises(StructureError, match=r"expected the chemical symbols of its types in order, .* found Cu,Xx"):
        list(MTP.read(path, ("Cu", "Xx")))
    (entry,) = MTP.read(path, ("Cu",))
    assert isinstance(entry, Unusable)
    assert entry.reason == "cannot be read (atoms of type 1: expected 0 to 0, for Cu)"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("    2\n Super", "    3\n Super", "expected 3 atoms, found 2"),
        ("1e-3\n", "\n", "expected 8 columns of atoms, found 7"),
        ("-7.125", "low", "expected one of Size, Supercell"),
        ("cartes_y", "direct_y", "expected cartes_x, cartes_y, cartes_z or direct_x, ... under AtomData"),
        ("5.0 6.0\n", "5.0\n", "PlusStress: expected xx, yy, zz, yz, xz, xy in any order, found '1.0 2.0"),
        ("END_CFG\n", "", "has no END_CFG"),
    ],
)
def test_a_broken_block_stops_no_other(tmp_path: Path, before: str, after: str, reason: str) -> None:
    broken, whole = MTP.read(written(tmp_path, TWO.replace(before, after) + TWO), ("Cu", "Ag"))
    assert isinstance(broken, Unusable)
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert isinstance(whole, Entry)


def test_the_format_of_atomeye_is_another(tmp_path: Path) -> None:
    path = tmp_path / "atomeye.cfg"
    ase.io.write(path, bulk("Cu"), format="cfg")
    assert format_of(path) is not MTP


def test_motep_reads_the_same(tmp_path: Path) -> None:
    pytest.importorskip("motep")
    from motep.io.mlip.cfg import read_cfg

    path = written(tmp_path, TWO.replace("1e-3", "0.001") + SHUFFLED)
    theirs = read_cfg(path, index=":", species=["Cu", "Ag"])
    for atoms, entry in zip(theirs, MTP.read(path, ("Cu", "Ag")), strict=True):
        assert isinstance(entry, Entry)
        assert (atoms.numbers == entry.atoms.numbers).all()
        np.testing.assert_allclose(atoms.positions, entry.atoms.positions, rtol=1e-14)
        np.testing.assert_array_equal(atoms.calc.results["forces"], entry.of_atoms["forces"])
        np.testing.assert_allclose(-atoms.get_volume() * atoms.calc.results["stress"], entry.said["virial"], rtol=1e-14)
