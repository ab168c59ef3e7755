"""Dumps and data of LAMMPS: what it writes, as LAMMPS 22 Jul 2025 does."""

from pathlib import Path

import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.data.names import Names
from alflow.data.reading import entries as entries_of
from alflow.errors import StructureError
from ase import units
from ase.calculators.calculator import compare_atoms
from ase.io import write

ORTHOGONAL = "ITEM: BOX BOUNDS pp pp ff\n1 11\n-2 6\n0 5\n"
# vectors (4, 0, 0), (-1, 5, 0) and (0.5, -1.5, 6) from an origin of (1, 2, 3)
TILTED = "ITEM: BOX BOUNDS xy xz yz pp pp pp\n0 5.5 -1\n0.5 7 0.5\n3 9 -1.5\n"
GENERAL = "ITEM: BOX BOUNDS abc origin pp pp pp\n0 4 0 1\n5 0 1 2\n0 0 6 3\n"


def dump(columns: str, rows: str, box: str = ORTHOGONAL, more: str = "") -> str:
    rows = "".join(f"{row}\n" for row in rows.split("/"))
    count = rows.count("\n")
    return f"{more}ITEM: TIMESTEP\n7\nITEM: NUMBER OF ATOMS\n{count}\n{box}ITEM: ATOMS {columns}\n{rows}"


def entries(folder: Path, text: str) -> list[Entry | Unusable]:
    path = folder / "some.file"
    path.write_text(text)
    known = format_of(path)
    assert known.name.startswith("LAMMPS")
    return list(known.entries(path))


def entry(folder: Path, text: str) -> Entry:
    (found,) = entries(folder, text)
    assert isinstance(found, Entry)
    return found


def test_a_dump_has_forces_and_no_energy(tmp_path: Path) -> None:
    found = entry(tmp_path, dump("id element x y z fx fy fz q", "2 Cl 4 5 6 1 2 3 -1/1 Na 1 2 3 -1 -2 -3 1"))
    assert found.said == {}
    assert found.atoms.get_chemical_symbols() == ["Na", "Cl"]  # by their ids
    assert found.atoms.positions.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert found.of_atoms["forces"].tolist() == [[-1, -2, -3], [1, 2, 3]]
    assert found.atoms.arrays["q"].tolist() == [1, -1]
    assert found.atoms.cell.tolist() == np.diag([10, 8, 5]).tolist()
    assert found.atoms.pbc.tolist() == [True, True, False]
    assert found.atoms.info == {"timestep": 7}
    assert found.atoms.calc is None


def test_fractions_count_from_the_corner_of_a_tilted_box(tmp_path: Path) -> None:
    found = entry(tmp_path, dump("element xsu ysu zsu", "Si 0 0 0/Si 1 2 0.5", TILTED))
    assert found.atoms.cell.tolist() == [[4, 0, 0], [-1, 5, 0], [0.5, -1.5, 6]]
    np.testing.assert_allclose(found.atoms.positions, [[1, 2, 3], [1 + 4 - 2 + 0.25, 2 + 10 - 0.75, 3 + 3]], atol=1e-12)
    found = entry(tmp_path, dump("element xs ys zs", "Si 0 0 0/Si 0.5 1 0", GENERAL))
    assert found.atoms.cell.tolist() == [[0, 4, 0], [5, 0, 1], [0, 0, 6]]
    assert found.atoms.positions.tolist() == [[1, 2, 3], [6, 4, 4]]


@pytest.mark.parametrize(
    ("style", "length", "force"),
    [
        ("metal", 1, 1),
        ("real", 1, units.kcal / units.mol),
        ("electron", units.Bohr, units.Hartree / units.Bohr),
        ("si", 1e10, 1e-10 * units.J),
        ("nano", 10, 1e-10 * 1e-12 * units.J),  # an attogram nm/ns^2 is 1e-12 N
    ],
)
def test_units_that_a_dump_says_hold_for_all_that_follows(
    tmp_path: Path, style: str, length: float, force: float
) -> None:
    text = dump("element x y z fx fy fz", "Na 1 2 3 4 5 6")
    (tmp_path / "plain").write_text(text)
    assert format_of(tmp_path / "plain").units == "assumed"
    (tmp_path / "said").write_text(f"ITEM: UNITS\n{style}\nITEM: TIME\n0.5\n{text}ITEM: TIME\n1.5\n{text}")
    known = format_of(tmp_path / "said")
    assert known.units == "own"
    both = list(known.entries(tmp_path / "said"))
    assert len(both) == 2
    for found in both:
        assert isinstance(found, Entry)
        np.testing.assert_allclose(found.atoms.positions, length * np.array([[1, 2, 3]]), rtol=3e-6)
        np.testing.assert_allclose(found.atoms.cell.lengths(), length * np.array([10, 8, 5]), rtol=3e-6)
        np.testing.assert_allclose(found.of_atoms["forces"], force * np.array([[4, 5, 6]]), rtol=3e-6)


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (
            "id type x y z",
            "1 1 0 0 0/2 2 1 1 1",
            r"elements: expected a column element \(dump_modify .*found columns id",
        ),
        ("id element x y z", "1 Na 0 0 0/2 CT 1 1 1", "does not say its elements: .*found element 'CT'"),
        ("type element x y z", "1 C 0 0 0/2 C 1 1 1", "all atoms are C, of 2 types: .*dump_modify ID element"),
        ("id mass x y z", "1 1.0 0 0 0/2 1.0 1 1 1", "does not say its elements"),  # of reduced units: no hydrogen
        ("id mass x y z", "1 40.01 0 0 0", "does not say its elements"),  # argon, or calcium
        ("id element vx vy vz", "1 Na 0 0 0", "has no positions: expected columns x y z"),
    ],
)
def test_elements_are_never_guessed(tmp_path: Path, columns: str, rows: str, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        entries(tmp_path, dump(columns, rows))


def test_reduced_units_are_of_no_atoms(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="its units are 'lj', which are those of no atoms: expected one of metal"):
        entries(tmp_path, dump("element x y z", "Ar 0 0 0", more="ITEM: UNITS\nlj\n"))


def test_elements_by_labels_of_types_and_by_masses(tmp_path: Path) -> None:
    for column, names in (("type", ("O", "H")), ("typelabel", ("O", "H")), ("mass", ("15.9994", "1.008"))):
        found = entry(tmp_path, dump(f"id {column} x y z", f"1 {names[0]} 0 0 0/2 {names[1]} 1 1 1"))
        assert found.atoms.get_chemical_symbols() == ["O", "H"]


def test_what_is_wrong_with_a_frame_is_told_in_its_place(tmp_path: Path) -> None:
    good = dump("element x y z", "Na 0 0 0/Cl 1 1 1")
    first, bad, missing, third, cut = entries(
        tmp_path,
        good + good.replace("Cl 1 1 1", "Cl 1 1") + good.replace("Cl 1 1 1\n", "") + good + good.partition("ATOMS ")[0],
    )
    assert isinstance(first, Entry)
    assert isinstance(third, Entry)
    assert bad == Unusable(
        "cannot be read as LAMMPS writes dumps (ValueError: zip() argument 2 is shorter than argument 1)"
    )
    assert missing == Unusable("expected 2 atoms, found 1: the file ends in it, or is damaged")
    assert isinstance(cut, Unusable)


DATA = """LAMMPS data file via write_data, version 22 Jul 2025, timestep = 0{units}

2 atoms
2 atom types

0 10 xlo xhi
0 8 ylo yhi
0 5 zlo zhi
1 0 0 xy xz yz
{masses}
Atoms{style}

2 2 -1 4 5 1 -1 0 0
1 1 1 1 2 3 0 0 0
"""
MASSES = "\nMasses\n\n1 22.98977 # Na\n2 35.45\n"


def test_a_data_file_has_elements_by_comments_and_masses(tmp_path: Path) -> None:
    found = entry(tmp_path, DATA.format(units=", units = metal", masses=MASSES, style=" # charge"))
    assert format_of(tmp_path / "some.file").units == "own"
    assert found.atoms.get_chemical_symbols() == ["Na", "Cl"]
    np.testing.assert_allclose(found.atoms.positions, [[1, 2, 3], [-6, 5, 1]], atol=1e-12)  # by images
    assert found.atoms.cell.tolist() == [[10, 0, 0], [1, 8, 0], [0, 0, 5]]
    assert (found.said, found.of_atoms) == ({}, {})


def test_a_data_file_in_other_units_is_converted(tmp_path: Path) -> None:
    found = entry(tmp_path, DATA.format(units=", units = electron", masses=MASSES, style=" # charge"))
    np.testing.assert_allclose(found.atoms.positions[0], np.array([1, 2, 3]) * units.Bohr, rtol=1e-6)
    found = entry(tmp_path, DATA.format(units="", masses=MASSES, style=" # charge"))
    assert found.atoms.positions[0] == pytest.approx([1, 2, 3])
    assert format_of(tmp_path / "some.file").units == "assumed"


def test_labels_of_types_are_elements_and_heavy_hydrogen_stays_heavy(tmp_path: Path) -> None:
    masses = "\nAtom Type Labels\n\n1 O\n2 H\n\nMasses\n\n1 15.999\n2 2.014\n"
    found = entry(tmp_path, DATA.format(units="", masses=masses, style=" # charge"))
    assert found.atoms.get_chemical_symbols() == ["O", "H"]
    assert found.atoms.get_masses() == pytest.approx([15.999, 2.014])


@pytest.mark.parametrize(
    ("masses", "style", "message"),
    [
        ("", " # charge", "does not say which element type 1 is: expected its mass, .*'1 28.0855 # Si'"),
        ("\nMasses\n\n1 1.0\n2 1.0\n", " # charge", "does not say which element type 1 is"),
        ("\nMasses\n\n1 12.011 # Cs\n2 35.45\n", " # charge", "type 1 is said to be Cs, and has the mass of C, 12.011"),
        (MASSES, "", "cannot be read as data of LAMMPS .* said as in 'Atoms # charge'"),
    ],
)
def test_a_data_file_that_says_too_little_is_refused(tmp_path: Path, masses: str, style: str, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        entries(tmp_path, DATA.format(units="", masses=masses, style=style))
    with pytest.raises(StructureError, match="its units are 'lj'"):
        entries(tmp_path, DATA.format(units=", units = lj", masses=masses, style=style))


def test_a_data_file_of_ase_is_read_back(tmp_path: Path) -> None:
    atoms = entry(tmp_path, dump("element xs ys zs", "Si 0 0 0/O 0.25 0.5 0.5", TILTED)).atoms
    atoms.info.clear()
    atoms.positions -= [1, 2, 3]
    write(tmp_path / "some.data", atoms, format="lammps-data", masses=True, specorder=["Si", "O"])
    known = format_of(tmp_path / "some.data")
    (found,) = known.entries(tmp_path / "some.data")
    assert isinstance(found, Entry)
    assert compare_atoms(found.atoms, atoms, tol=1e-9) == []


PLAIN = "id type x y z"


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        (PLAIN, "1 2 0 0 0/2 1 1 1 1"),
        ("id type mass x y z", "1 2 1.0 0 0 0/2 1 1.0 1 1 1"),
        ("id element type x y z", "1 C 2 0 0 0/2 C 1 1 1 1"),  # as LAMMPS writes where nobody said an element
        ("id element type x y z", "1 Na 2 0 0 0/2 Cl 1 1 1 1"),
    ],
)
def test_the_user_says_the_elements_of_types(tmp_path: Path, columns: str, rows: str) -> None:
    (tmp_path / "a.dump").write_text(dump(columns, rows))
    (found,) = entries_of(tmp_path / "a.dump", Names(species=("Cl", "Na", "K"), length_unit="A"))
    assert isinstance(found, Entry)
    assert found.atoms.get_chemical_symbols() == ["Na", "Cl"]


@pytest.mark.parametrize(
    ("columns", "species", "message"),
    [
        (PLAIN, ("Cl",), "has atoms of type 2, --species names types 1 to 1: add the others"),
        ("id element type x y z", ("Cl", "Na"), "calls atoms of type 2 K, --species says Na: leave that out, or"),
        (PLAIN, ("Cl", "CT"), "expected the chemical symbols of its types in order, Cu,Ag for example, found Cl,CT"),
    ],
)
def test_what_the_user_says_of_types_must_fit(
    tmp_path: Path, columns: str, species: tuple[str, ...], message: str
) -> None:
    row = "1 K 2 0 0 0" if "element" in columns else "1 2 0 0 0"
    (tmp_path / "a.dump").write_text(dump(columns, row))
    with pytest.raises(StructureError, match=message):
        list(entries_of(tmp_path / "a.dump", Names(species=species, length_unit="A")))


def test_the_user_says_the_elements_of_types_of_a_data_file(tmp_path: Path) -> None:
    path = tmp_path / "a.data"
    path.write_text("made by hand\n\n2 atoms\n2 atom types\n0 5 xlo xhi\n0 5 ylo yhi\n0 5 zlo zhi\n\n"
                    "Atoms # atomic\n\n1 2 0 0 0\n2 1 1 1 1\n")  # fmt: skip
    with pytest.raises(StructureError, match=r"which element type 1 is: .* or --species with the symbols of all types"):
        list(entries_of(path))
    (found,) = entries_of(path, Names(species=("Cl", "Na"), length_unit="A"))
    assert isinstance(found, Entry)
    assert found.atoms.get_chemical_symbols() == ["Na", "Cl"]
    masses = path.read_text().replace("Atoms", "Masses\n\n1 35.45\n2 39.098\n\nAtoms")
    path.write_text(masses)
    with pytest.raises(StructureError, match="calls type 2 K, --species says Na: leave that out, or correct it"):
        list(entries_of(path, Names(species=("Cl", "Na"), length_unit="A")))
