"""Structures of i-PI: what it writes, and what it takes where nothing is said."""

import io
from pathlib import Path

import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.errors import StructureError
from ase import units

ROWS = "O 1 2 3\nH 2 2 3\n"
B = units.Bohr


def entries(folder: Path, text: str) -> list[Entry | Unusable]:
    path = folder / "pos.xyz"
    path.write_text(text)
    known = format_of(path)
    assert (known.name, known.units) == ("XYZ of i-PI", "own")
    return list(known.entries(path))


def entry(folder: Path, comment: str, rows: str = ROWS) -> Entry:
    (found,) = entries(folder, f"{rows.count(chr(10))}\n{comment}\n{rows}")
    assert isinstance(found, Entry), found
    return found


@pytest.mark.parametrize(
    ("comment", "length", "size"),
    [
        ("# CELL(abcABC): 9 8 7 90 90 90 Step: 5 Bead: 2 positions{angstrom}  cell{atomic_unit}", 1, B),
        ("# CELL(abcABC): 9 8 7 90 90 90 Step: 5 Bead: 2 positions{atomic_unit} cell{angstrom}", B, 1),
        ("# CELL(abcABC): 9 8 7 90 90 90 Step: 5 Bead: 2", B, B),
        ("# bead: 0 Step: 5 Bead: 2 x_centroid{nanometer} cell{picometer} CELL{abcABC}: 9 8 7 90 90 90", 10, 0.01),
        ("Step: 5 Bead: 2 CELL[H]: 9 0 0 0 8 0 0 0 7 positions{} cell{angstrom} kept", B, 1),
    ],
)
def test_units_are_those_of_the_comment_and_else_atomic(
    tmp_path: Path, comment: str, length: float, size: float
) -> None:
    found = entry(tmp_path, comment)
    np.testing.assert_allclose(found.atoms.positions, length * np.array([[1, 2, 3], [2, 2, 3]]), rtol=1e-12)
    np.testing.assert_allclose(found.atoms.cell.cellpar(), [*(size * np.array([9, 8, 7])), 90, 90, 90], rtol=1e-12)
    assert found.atoms.pbc.all()
    assert found.atoms.info == {"step": 5, "bead": 2}
    assert (found.said, found.of_atoms) == ({}, {})


def test_vectors_are_columns_of_h_and_rows_of_genh(tmp_path: Path) -> None:
    numbers = "9 1 2 0 8 3 0 0 7"
    columns = entry(tmp_path, f"CELL(H): {numbers} positions{{angstrom}} cell{{angstrom}}").atoms.cell
    assert columns.tolist() == [[9, 0, 0], [1, 8, 0], [2, 3, 7]]
    rows = entry(tmp_path, f"CELL(GENH): {numbers} positions{{angstrom}} cell{{angstrom}}").atoms.cell
    assert rows.tolist() == [[9, 1, 2], [0, 8, 3], [0, 0, 7]]


def test_without_a_cell_it_is_a_molecule(tmp_path: Path) -> None:
    found = entry(tmp_path, "positions{angstrom}")
    assert found.atoms.positions.tolist() == [[1, 2, 3], [2, 2, 3]]
    assert not found.atoms.pbc.any()


def test_isotopes_keep_their_mass(tmp_path: Path) -> None:
    found = entry(tmp_path, "CELL(abcABC): 9 8 7 90 90 90", "O18 0 0 0\nD 1 0 0\nH 0 1 0\n")
    assert found.atoms.get_chemical_symbols() == ["O", "H", "H"]
    assert found.atoms.get_masses() == pytest.approx([18, 2.0141, 1.008], abs=1e-3)


def test_what_is_wrong_with_a_frame_is_told_in_its_place(tmp_path: Path) -> None:
    good = f"2\n# CELL(abcABC): 9 8 7 90 90 90 positions{{angstrom}} cell{{angstrom}}\n{ROWS}"
    changes = [
        ("90 90 90", "90 90"),
        ("positions{", "forces{"),
        ("positions{angstrom", "positions{furlong"),
        ("H 2", "Qq 2"),
    ]
    first, *others, cut = entries(tmp_path, good + "".join(good.replace(*change) for change in changes) + good[:-8])
    assert isinstance(first, Entry)
    messages = ["has 5 numbers: expected 6", "it holds forces: expected positions", "unknown unit 'furlong'", "Qq"]
    for found, message in zip(others, messages, strict=True):
        assert isinstance(found, Unusable)
        assert message in found.reason
    assert cut == Unusable("the file ends in it: expected 2 atoms, found 1")
    with pytest.raises(StructureError, match=r"pos.xyz line 5: expected a number of atoms, .* found 'H 2 2 3'"):
        entries(tmp_path, f"{good}H 2 2 3\n")


def test_ipi_itself_reads_the_same(tmp_path: Path) -> None:
    """Atoms and cell as its own reader has them, of files that its own writer wrote."""
    pytest.importorskip("ipi")
    from ipi.utils.io import read_file

    tilted = "CELL(abcABC): 9 8 7 80 95 70"
    for comment in (
        f"# {tilted} positions{{angstrom}}  cell{{atomic_unit}}",
        f"# {tilted}",
        "CELL(H): 9 1 2 0 8 3 0 0 7",
    ):
        text = f"2\n{comment}\n{ROWS}"
        known = read_file("xyz", io.StringIO(text))
        found = entry(tmp_path, comment).atoms
        np.testing.assert_allclose(found.positions.ravel(), known["atoms"].q * B, rtol=1e-7)
        np.testing.assert_allclose(found.cell.array, known["cell"].h.T * B, rtol=1e-7, atol=1e-9)
