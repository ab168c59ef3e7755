"""Files that ASE reads and writes: one structure after the other, with all that they say."""

import gzip
import sys
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.data.reading import read_labelled
from alflow.errors import StructureError
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import open_with_compression


def frames(count: int = 3) -> list[Atoms]:
    made = []
    for k in range(count):
        atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1 + 0.1 * k]], cell=[5, 5, 5], pbc=True)
        forces = np.array([[0, 0, 0.5], [0, 0, -0.5]]) * k
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0 * k, forces=forces, stress=np.arange(6.0))
        made.append(atoms)
    return made


def entries(path: Path) -> list[Entry | Unusable]:
    return list(format_of(path).entries(path))


@pytest.mark.parametrize("name", ["some.db", "some.json"])
def test_rows_of_a_database_keep_their_keys_and_data(tmp_path: Path, name: str) -> None:
    with ase.db.connect(tmp_path / name) as database:
        for k, atoms in enumerate(frames()):
            data: dict[str, Any] = {"note": "of mine", "dft_forces": np.full((2, 3), 1.0 * k), "cluster": np.arange(3)}
            database.write(atoms, key_value_pairs={"dft_energy": 2.5 * k, "source": "md"}, data=data)
    assert format_of(tmp_path / name).name == "database of ASE"
    found = entries(tmp_path / name)
    assert len(found) == 3
    for k, row in enumerate(found):
        assert isinstance(row, Entry)
        assert row.atoms.calc is None
        assert row.said["energy"] == -1.0 * k
        assert row.of_atoms["forces"][0, 2] == 0.5 * k
        assert row.atoms.positions[1, 2] == pytest.approx(1 + 0.1 * k)
        assert (row.atoms.info["dft_energy"], row.atoms.info["source"]) == (2.5 * k, "md")
        assert row.atoms.info["note"] == "of mine"
        assert row.atoms.info["cluster"].tolist() == [0, 1, 2]
        assert (row.atoms.arrays["dft_forces"] == k).all()


def test_an_lmdb_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ase_db_backends.aselmdb", None)
    (tmp_path / "some.aselmdb").write_bytes(b"\0")
    with pytest.raises(StructureError, match=r"some.aselmdb needs a package .*: pip install ase-db-backends"):
        entries(tmp_path / "some.aselmdb")


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.db").write_text("no database, but some text that is long enough to be taken for one")
    with pytest.raises(StructureError, match=r"some.db cannot be read \(DatabaseError: .*: expected a database of ASE"):
        entries(tmp_path / "some.db")


def test_a_trajectory_comes_one_structure_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "some.traj"
    ase.io.write(path, frames(2))
    found = entries(path)
    assert [row.said["energy"] for row in found if isinstance(row, Entry)] == [0.0, -1.0]


def test_what_ase_stumbles_over_at_once_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.xsf"
    path.write_text("no such thing\n")
    with pytest.raises(StructureError, match=r"some.xsf cannot be read .*: expected a format that ASE reads"):
        entries(path)


def test_the_rest_of_a_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumbling(*_: object, **__: object):
        yield frames(1)[0]
        msg = "expected a number"
        raise ValueError(msg)

    path = tmp_path / "some.traj"
    ase.io.write(path, frames(2))
    monkeypatch.setattr(ase.io, "iread", stumbling)
    first, rest = entries(path)
    assert isinstance(first, Entry)
    assert rest == Unusable("cannot be read from here on (ValueError: expected a number)")


GPAW = """
  ___ ___ ___ _ _ _
 |   |   |_  | | | |
 | | | | | . | | | |
 |__ |  _|___|_____|  25.1.0
 |___|_|

Positions:
   0 Al     0.000000    0.000000    0.000000    ( 0.0000,  0.0000,  0.0000)
   1 Al     2.000000    2.000000    2.100000    ( 0.0000,  0.0000,  0.0000)

Unit cell:
           periodic     x           y           z      points  spacing
  1. axis:    yes    4.000000    0.000000    0.000000    20     0.2000
  2. axis:    yes    0.000000    4.000000    0.000000    20     0.2000
  3. axis:    yes    0.000000    0.000000    4.000000    20     0.2000

Energy contributions relative to reference atoms: (reference = -13204.123456)

Kinetic:         +1.000000
Potential:       -2.000000
Entropy (-ST):   -0.500000
Local:           +0.100000
--------------------------
Free energy:     -7.500000
Extrapolated:    -7.250000

Forces in eV/Ang:
  0 Al    0.00000    0.00000    0.10000
  1 Al    0.00000    0.00000   -0.10000

"""


def test_the_free_energy_of_a_text_of_gpaw(tmp_path: Path) -> None:
    """ASE gives the one extrapolated to no smearing, which the forces are not the gradient of."""
    (tmp_path / "al.txt").write_text(GPAW)
    (frame,) = read_labelled(tmp_path / "al.txt").frames
    assert frame.calc.results["energy"] == -7.5
    assert frame.info["plain_energy"] == -7.25
    assert frame.calc.results["forces"].tolist() == [[0, 0, 0.1], [0, 0, -0.1]]


def test_a_charge_that_was_written_comes_back(tmp_path: Path) -> None:
    """ASE gives the sum of initial charges for it (findings/ase-db-key-charge-comes-back-as-zero.sh)."""
    anion = Atoms("OH", [[0, 0, 0], [0, 0, 0.96]])
    anion.calc = SinglePointCalculator(anion, energy=-7.2, forces=np.zeros((2, 3)))
    for name in ("a.db", "a.json"):
        with ase.db.connect(tmp_path / name) as database:
            database.write(anion, charge=-1, multiplicity=1)
        (frame,) = read_labelled(tmp_path / name).frames
        assert (frame.info["charge"], frame.info["multiplicity"]) == (-1, 1)


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_a_compressed_dump_is_a_dump(ending: str, tmp_path: Path) -> None:
    """ASE says energy 0 for it."""
    text = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\n"
    path = tmp_path / f"some.dump.{ending}"
    with open_with_compression(str(path), "wb") as file:
        file.write(f"{text}ITEM: ATOMS element x y z fx fy fz\nAr 0 0 0 0 0 1.5\n".encode())
    (found,) = entries(path)
    assert isinstance(found, Entry)
    assert found.said == {}
    assert found.of_atoms["forces"].tolist() == [[0, 0, 1.5]]


def test_what_begins_as_ase_knows_it_does_not_pass_by_another_door(tmp_path: Path) -> None:
    """ASE says energy 0 for it."""
    path = tmp_path / "some.lammpstrj"
    path.write_text("# a remark\nITEM: TIMESTEP\n0\n")
    with pytest.raises(StructureError, match="looks like lammps-dump-text, but begins with something else"):
        entries(path)


@pytest.mark.parametrize("cut", [400, 20])
@pytest.mark.parametrize("name", ["a.xyz.gz", "a.cfg.gz", "a.dump.gz"])
def test_compressed_files_that_are_cut_are_refused(name: str, cut: int, tmp_path: Path) -> None:
    heads = {".xyz": "1\n\nCu 0 0 0\n", ".cfg": "BEGIN_CFG\n", ".dump": "ITEM: TIMESTEP\n0\n"}
    text = heads[Path(name).with_suffix("").suffix] + "".join(f"{k * k % 977}\n" for k in range(5000))
    (tmp_path / name).write_bytes(gzip.compress(text.encode())[:cut])
    with pytest.raises(StructureError, match=r"(cannot be read|left out|as a label).*"):
        read_labelled(tmp_path / name)


def test_a_file_without_compression_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.xyz.gz").write_text("1\n\nCu 0 0 0\n")
    with pytest.raises(StructureError, match=r"a\.xyz\.gz cannot be read"):
        read_labelled(tmp_path / "a.xyz.gz")


def test_rows_of_an_lmdb(tmp_path: Path) -> None:
    """As data sets of Open Catalyst and OMat24 are: read only, in a folder that may not be written to."""
    pytest.importorskip("ase_db_backends")
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 0.96]])
    atoms.calc = SinglePointCalculator(atoms, energy=-7.2, forces=[[0, 0, 1.0], [0, 0, -1.0]])
    path = tmp_path / "some.aselmdb"
    with ase.db.connect(path) as database:
        for charge in (0, -1):
            database.write(atoms, total_charge=charge, data={"source": "here"})
    path.chmod(0o444)
    frames = read_labelled(path).frames
    assert [frame.info["total_charge"] for frame in frames] == [0, -1]
    assert [frame.info["source"] for frame in frames] == ["here"] * 2
    assert frames[1].calc.results["energy"] == -7.2
    assert frames[1].calc.results["forces"].tolist() == [[0, 0, 1.0], [0, 0, -1.0]]
