"""input.data of RuNNer and n2p2: numbers as they are."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.data.formats.runner import RUNNER
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, Hartree

FILE = """# made by hand
begin
comment from a run of  1.5 ps
comment and more
lattice 8.0 0.0 0.0
lattice 0.0 9.0 0.0
lattice 0.5 0.0 10.0
# a remark
atom 0.0 1.25 2.0 Zn 0.5 0.25 0.125 -0.25 1e-3
atom 1.5 1.0 3.0 O -0.5 -1.25 -0.125 0.25 -1E-03
energy -7.125
charge 0.0
end

begin
atom 0.0 0.0 0.0 H 0.0 0.0 0.0 0.0 0.5
atom 0.0 0.0 1.5 H 0.0 0.0 0.0 0.0 -0.5
energy -1.25
charge 1.0
end
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "input.data"
    path.write_text(text)
    return path


def test_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, FILE)
    assert format_of(path) is RUNNER
    assert RUNNER.units == "asked"
    oxide, ion = RUNNER.read(path)
    assert isinstance(oxide, Entry)
    assert oxide.atoms.get_chemical_symbols() == ["Zn", "O"]
    assert oxide.atoms.pbc.all()
    np.testing.assert_array_equal(oxide.atoms.cell, [[8, 0, 0], [0, 9, 0], [0.5, 0, 10]])
    np.testing.assert_array_equal(oxide.atoms.positions, [[0, 1.25, 2], [1.5, 1, 3]])
    np.testing.assert_array_equal(oxide.of_atoms["forces"], [[0.125, -0.25, 1e-3], [-0.125, 0.25, -1e-3]])
    np.testing.assert_array_equal(oxide.of_atoms["charges"], [0.5, -0.5])
    np.testing.assert_array_equal(oxide.of_atoms["energies"], [0.25, -1.25])
    assert oxide.said == {"energy": -7.125}
    assert oxide.atoms.info == {"comment": "from a run of  1.5 ps\nand more"}
    assert isinstance(ion, Entry)
    assert not ion.atoms.pbc.any()
    assert ion.atoms.info == {"charge": 1}
    assert set(ion.of_atoms) == {"forces"}


def test_columns_that_begin_names(tmp_path: Path) -> None:
    """As of RuNNer 2."""
    text = "begin position(3) element force(3) magmom\natom 1 2 3 Fe 4 5 6 2.5\nenergy 1\ncharge 0.5\nend\n"
    (entry,) = RUNNER.read(written(tmp_path, text))
    assert isinstance(entry, Entry)
    np.testing.assert_array_equal(entry.of_atoms["forces"], [[4, 5, 6]])
    np.testing.assert_array_equal(entry.atoms.arrays["magmom"], [2.5])
    assert entry.atoms.info == {"total_charge": 0.5}


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("lattice 0.0 9.0 0.0\n", "", "expected three vectors lattice, or none, found 2"),
        (" O ", " Ox ", "expected chemical symbols, found Ox, Zn"),
        (" 1e-3", "", "expected 9 columns of atoms, found 8"),
        ("energy -7.125", "energy low", "could not convert"),
        ("charge 0.0\nend", "charge 0.0", "has no end: the file is cut"),
        ("begin\ncomment", "begin at once\ncomment", "expected 9 columns"),
    ],
)
def test_a_broken_structure_stops_no_other(tmp_path: Path, before: str, after: str, reason: str) -> None:
    if "at once" in after:
        reason = "expected 4 columns of atoms, found 9"
    path = written(tmp_path, FILE.replace(before, after, 1))
    assert format_of(path) is RUNNER
    broken, whole = RUNNER.read(path)
    assert isinstance(broken, Unusable)
    assert reason in broken.reason
    assert isinstance(whole, Entry)


def test_ase_reads_the_same_as_bohr_and_hartree(tmp_path: Path) -> None:
    atoms = Atoms("ZnO", [[0, 0, 0], [0.1, 0.2, 1.9]], cell=[4, 5, 6], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-3.25, forces=np.arange(6.0).reshape(2, 3))
    path = tmp_path / "input.data"
    ase.io.write(path, [atoms] * 2, format="runnerdata")
    assert format_of(path) is RUNNER
    for entry in RUNNER.read(path):
        assert isinstance(entry, Entry)
        np.testing.assert_allclose(entry.atoms.positions * Bohr, atoms.positions, atol=1e-7)
        np.testing.assert_allclose(entry.atoms.cell.array * Bohr, atoms.cell, atol=1e-7)
        np.testing.assert_allclose(entry.said["energy"] * Hartree, -3.25, atol=1e-6)
        np.testing.assert_allclose(entry.of_atoms["forces"] * Hartree / Bohr, atoms.get_forces(), atol=1e-6)


def test_dpdata_reads_the_same_as_bohr_and_hartree(tmp_path: Path) -> None:
    dpdata = pytest.importorskip("dpdata")
    # of dpdata 1.1.0: no line before begin, or between structures
    path = written(tmp_path, FILE[FILE.index("begin") : FILE.index("\n\nbegin")] + "\n")
    theirs = dpdata.LabeledSystem(str(path), fmt="n2p2")
    (ours,) = RUNNER.read(path)
    assert isinstance(ours, Entry)
    np.testing.assert_allclose(ours.atoms.positions * Bohr, theirs["coords"][0], rtol=1e-7)
    np.testing.assert_allclose(ours.said["energy"] * Hartree, theirs["energies"][0], rtol=1e-7)
    np.testing.assert_allclose(ours.of_atoms["forces"] * Hartree / Bohr, theirs["forces"][0], rtol=1e-7)
