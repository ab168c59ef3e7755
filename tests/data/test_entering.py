"""Labels of files: the right number, unit and sign, whatever a file calls them, and never one nobody calculated."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import alflow
import ase.io
import numpy as np
import pytest
from alflow.data.labels import labels_of
from alflow.data.names import Names
from alflow.data.reading import read_labelled, read_usable
from alflow.errors import ConfigError, PotentialWarning, StructureError
from alflow.progress import Silent
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.stress import voigt_6_to_full_3x3_stress
from hypothesis import given, settings
from hypothesis import strategies as st


def copper(seed: int = 0) -> Atoms:
    """A sheared, displaced crystal with EMT's energy, forces and stress: its stress has six different components."""
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(
        atoms.cell.array @ np.array([[1.02, 0.03, 0.0], [0.0, 0.99, 0.05], [0.01, 0.0, 1.0]]), scale_atoms=True
    )
    atoms.rattle(0.1, seed=seed)
    atoms.calc = EMT()
    atoms.get_stress()
    return atoms


COPPER = copper()
ENERGY, FORCES = float(COPPER.get_potential_energy()), COPPER.get_forces()
STRESS = COPPER.get_stress()  # xx yy zz yz xz xy, eV/Å^3
MATRIX = voigt_6_to_full_3x3_stress(STRESS)
VIRIAL = -MATRIX * COPPER.cell.volume


def text_of(numbers: object) -> str:
    return " ".join(f"{x:.17g}" for x in np.ravel(np.asarray(numbers, dtype=float)))


def written(
    path: Path, comment: str = "", column: str = "forces", n: int = 1, length: float = 1.0, force: float = 1.0
) -> Path:
    """Extended XYZ by hand: the crystal, its forces as a column of some name, and a comment."""
    cell = text_of(COPPER.cell.array * length)
    rows = [f"Cu {text_of(x * length)} {text_of(f * force)}" for x, f in zip(COPPER.positions, FORCES, strict=True)]
    head = f'Lattice="{cell}" Properties=species:S:1:pos:R:3:{column}:R:3 {comment}'
    path.write_text("\n".join([str(len(COPPER)), head, *rows, ""]) * n)
    return path


def one(path: Path, names: Names | None = None) -> Atoms:
    (frame,) = read_labelled(path, names or Names()).frames
    return frame


def is_the_label(frame: Atoms, stress: bool = False) -> None:
    results = frame.calc.results
    assert results["energy"] == pytest.approx(ENERGY, rel=1e-12)
    np.testing.assert_allclose(results["forces"], FORCES, rtol=1e-9)
    np.testing.assert_allclose(frame.positions, COPPER.positions, rtol=1e-12)
    assert ("stress" in results) == stress
    if stress:
        np.testing.assert_allclose(results["stress"], STRESS, rtol=1e-9)


@pytest.mark.parametrize("column", ["forces", "force", "REF_forces", "dft_forces", "Forces", "DFT_force"])
@pytest.mark.parametrize(
    "key", ["energy", "Energy", "REF_energy", "dft_energy", "DFT_energy", "energy_xtb", "free_energy", "total_energy"]
)
def test_names_that_people_use(key: str, column: str, tmp_path: Path) -> None:
    is_the_label(one(written(tmp_path / "a.xyz", f"{key}={ENERGY!r}", column)))


def test_how_it_was_read_is_said_where_it_is_not_plain(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xyz", f"REF_energy={ENERGY!r}", "REF_forces")
    assert read_labelled(path).remarks() == [f"{path}: energy from REF_energy, forces from REF_forces"]
    path = written(tmp_path / "a.xyz", f"energy={ENERGY + 1} free_energy={ENERGY!r}")
    assert read_labelled(path).remarks() == [f"{path}: energy from free_energy (the gradient of which forces are)"]
    for comment in (f"energy={ENERGY!r}", f"energy={ENERGY!r} free_energy={ENERGY!r}"):
        assert read_labelled(written(tmp_path / "a.xyz", comment)).remarks() == []


def test_the_free_energy_and_the_other_one_are_kept(tmp_path: Path) -> None:
    frame = one(written(tmp_path / "a.xyz", f"energy={ENERGY + 1!r} free_energy={ENERGY!r}"))
    is_the_label(frame)
    assert frame.info["plain_energy"] == pytest.approx(ENERGY + 1)
    ase.io.write(tmp_path / "a.traj", ase.io.read(tmp_path / "a.xyz"))
    again = one(tmp_path / "a.traj")
    is_the_label(again)
    assert again.info["plain_energy"] == pytest.approx(ENERGY + 1)


@pytest.mark.parametrize(
    ("key", "numbers"),
    [
        ("stress", STRESS),  # six numbers: xx yy zz yz xz xy
        ("stress", MATRIX),
        ("REF_stress", STRESS),
        ("Stress", MATRIX),
        ("virial", VIRIAL),  # GAP, GPUMD: minus the stress times the volume
        ("Virial", VIRIAL),
        ("dft_virial", VIRIAL),
        ("REF_virials", VIRIAL),
        ("virial", VIRIAL[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]),
    ],
)
def test_stresses_and_virials(key: str, numbers: np.ndarray, tmp_path: Path) -> None:
    """STRESS is EMT's, which ASE tests against derivatives of the energy."""
    assert len(set(np.abs(STRESS).round(6))) == 6
    is_the_label(one(written(tmp_path / "a.xyz", f'energy={ENERGY!r} {key}="{text_of(numbers)}"')), stress=True)


def test_a_stress_of_zero_beside_forces_is_none(tmp_path: Path) -> None:
    found = read_labelled(written(tmp_path / "a.xyz", f'energy={ENERGY!r} stress="0 0 0 0 0 0 0 0 0"'))
    is_the_label(found.frames[0])
    assert "a stress of exactly zero is taken for none (1 of 1 structures)" in found.remarks()[0]


def test_units(tmp_path: Path) -> None:
    """Energies in Hartree, lengths in bohr, forces and stresses in both."""
    Ha, a0 = units.Hartree, units.Bohr
    comment = f'energy={ENERGY / Ha!r} stress="{text_of(STRESS * a0**3 / Ha)}"'
    path = written(tmp_path / "a.xyz", comment, length=1 / a0, force=a0 / Ha)
    is_the_label(one(path, Names(energy_unit="Ha", length_unit="bohr")), stress=True)
    comment = f'energy={ENERGY / Ha!r} virial="{text_of(VIRIAL / Ha)}"'
    path = written(tmp_path / "a.xyz", comment, length=1 / a0, force=a0 / Ha)
    frame = one(path, Names(energy_unit="hartree", length_unit="Bohr"))
    is_the_label(frame, stress=True)
    np.testing.assert_allclose(frame.cell.array, COPPER.cell.array)
    with pytest.raises(ConfigError, match="energy_unit: unknown unit 'J': expected one of eV, Ha, Ry"):
        one(path, Names(energy_unit="J"))


@given(st.floats(-1e4, 1e4).filter(lambda x: abs(x) > 1e-3), st.sampled_from(["eV", "Ha", "Ry", "kcal/mol", "kJ/mol"]))
@settings(max_examples=30, deadline=None)
def test_energies_as_fortran_writes_them(energy: float, unit: str) -> None:
    import tempfile

    factor = {
        "eV": 1.0,
        "Ha": units.Ha,
        "Ry": units.Ry,
        "kcal/mol": units.kcal / units.mol,
        "kJ/mol": units.kJ / units.mol,
    }
    with tempfile.TemporaryDirectory() as folder:
        text = f"{energy:.12E}".replace("E", "D")
        frame = one(written(Path(folder) / "a.xyz", f"energy={text}"), Names(energy_unit=unit))
    assert frame.calc.results["energy"] == pytest.approx(energy * factor[unit], rel=1e-10)


def test_columns_as_fortran_writes_them(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xyz", f"energy={ENERGY!r}")
    row = "Cu 0.0D+00 0.0d0 0.00D-01 1.5D-01 -.2D+00 0.05D0"
    path.write_text(re.sub(r"(?m)^Cu .*$", row, path.read_text(), count=1))
    assert one(path).calc.results["forces"][0].tolist() == [0.15, -0.2, 0.05]


@pytest.mark.parametrize(
    ("comment", "reason"),
    [
        ("energy=None", r"has no energy: its energy is 'None'"),
        ("energy=nan", r"energy: 1 of 1 values are not finite"),
        ("energy=low", r"energy: expected real numbers, found no numbers: 'low'"),
        ("note=hello", r"has no energy: expected energy, .*; it has forces, note"),
        (f"energy={ENERGY} converged=F", r"says converged = False"),
        (f"energy={ENERGY} scf_converged=false", r"says scf_converged = False"),
        (f"energy={ENERGY} forces_max=1 free_energy=None energy_key=3", r"has no energy: its free_energy is 'None'"),
        ("energy=0.0", r"has no energy, but exactly 0 beside forces"),
    ],
)
def test_what_is_no_label_is_left_out_with_its_place(comment: str, reason: str, tmp_path: Path) -> None:
    good = written(tmp_path / "a.xyz", f"energy={ENERGY!r}").read_text()
    bad = written(tmp_path / "a.xyz", comment).read_text()
    (tmp_path / "a.xyz").write_text(good + bad + good + bad)
    found = read_labelled(tmp_path / "a.xyz")
    assert found.places == [0, 2]
    assert re.fullmatch(rf".*a.xyz frame 1, 3 are left out: {reason}.*", found.remarks()[-1]), found.remarks()


def test_one_bad_frame_stops_no_other(tmp_path: Path) -> None:
    """Atoms in one place, a row of words, a row too short, a file that ends: the rest is used."""
    good = written(tmp_path / "a.xyz", f"energy={ENERGY!r}").read_text()
    rows = good.splitlines()
    same = "\n".join([*rows[:3], rows[2], *rows[4:], ""])
    words = "\n".join([*rows[:3], "Cu a b c d e f", *rows[4:], ""])
    short = "\n".join([*rows[:3], "Cu 1 2", *rows[4:], ""])
    (tmp_path / "a.xyz").write_text(good + same + words + short + good + "\n".join(rows[:4]))
    found = read_labelled(tmp_path / "a.xyz")
    assert found.places == [0, 4]
    assert [left.place for left in found.left_out] == [1, 2, 3, 5]
    reasons = [left.reason for left in found.left_out]
    assert reasons[0].startswith("atoms Cu0 and Cu1 overlap")
    assert all(reason.startswith("cannot be read") for reason in reasons[1:])


def test_several_energies_are_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xyz", f"energy=-3.0 REF_energy={ENERGY!r}")
    expected = r"a.xyz frame 0: several energies that differ: REF_energy, energy: name the one .* with --energy-key"
    with pytest.raises(StructureError, match=expected):
        read_labelled(path)
    is_the_label(one(path, Names(energy_key="REF_energy")))
    with pytest.raises(
        StructureError, match=r"none of 1 structures .* has no dft_energy; it has REF_energy, energy, forces"
    ):
        read_labelled(path, Names(energy_key="dft_energy"))


def test_forces_that_the_file_has_are_never_passed_over(tmp_path: Path) -> None:
    """A fit without them would end well, and be far worse."""
    path = written(tmp_path / "a.xyz", f"energy={ENERGY!r}", "pull")
    expected = "no forces by a known name, but pull with three numbers of each atom: .* --forces-key .*none"
    with pytest.raises(StructureError, match=expected):
        read_labelled(path)
    is_the_label(one(path, Names(forces_key="pull")))
    assert set(labels_of(one(path, Names(forces_key="none")))) == {"energy"}
    path.write_text(re.sub(r"Properties=\S+", "", path.read_text()))
    with pytest.raises(StructureError, match="but unnamed_columns with three numbers"):
        read_labelled(path)
    is_the_label(one(path, Names(forces_key="unnamed_columns")))
    for name in ("momenta", "velo", "vel", "initial_magmoms"):
        assert set(labels_of(one(written(path, f"energy={ENERGY!r}", name)))) == {"energy"}


def test_an_energy_in_a_column(tmp_path: Path) -> None:
    """Energies of atoms are summed, one number again and again is the total energy; of a perfect crystal who knows."""
    path = tmp_path / "a.xyz"
    atoms = COPPER.copy()
    atoms.arrays["force"] = FORCES
    shares = np.linspace(-0.3, 0.1, len(atoms))
    for name, column, energy in (
        ("energy", np.full(len(atoms), -2.5), -2.5),
        ("energy", shares, shares.sum()),
        ("energies", shares, shares.sum()),
    ):
        atoms.arrays["mine"] = column
        ase.io.write(path, atoms, format="extxyz", columns=["symbols", "positions", "force", "mine"])
        path.write_text(path.read_text().replace("mine:R:1", f"{name}:R:1"))
        assert one(path).calc.results["energy"] == pytest.approx(energy)
    perfect = path.read_text().replace("energies:R:1", "energy:R:1").replace(":force:R:3", ":velo:R:3")
    path.write_text(
        "\n".join(line.rsplit(" ", 1)[0] + " -1.0" if line.startswith("Cu") else line for line in perfect.splitlines())
    )
    with pytest.raises(StructureError, match="has -1 as energy of each atom: its share, or the total energy"):
        one(path)


def test_a_column_beside_an_energy_costs_neither(tmp_path: Path) -> None:
    """ASE gives one of the two, the atoms' energies as the energy."""
    atoms = COPPER.copy()
    atoms.arrays["force"], atoms.arrays["mine"] = FORCES, np.linspace(-0.3, 0.1, len(atoms))
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz", columns=["symbols", "positions", "force", "mine"])
    text = (tmp_path / "a.xyz").read_text().replace("mine:R:1", f"energy:R:1 energy={ENERGY!r}")
    (tmp_path / "a.xyz").write_text(text)
    assert one(tmp_path / "a.xyz").calc.results["energy"] == pytest.approx(ENERGY)


def test_small_letters(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xyz", f"energy={ENERGY!r}")
    path.write_text(path.read_text().replace("Lattice", "lattice").replace("Properties", "properties"))
    frame = one(path)
    is_the_label(frame)
    assert frame.pbc.all()
    np.testing.assert_allclose(frame.cell.array, COPPER.cell.array)
    path.write_text(path.read_text().replace("lattice", "cell"))
    with pytest.raises(StructureError, match="frame 0 has no Lattice, but cell: write the cell as Lattice="):
        read_usable(path, print)


def test_words_in_quotes_are_no_keys(tmp_path: Path) -> None:
    frame = one(written(tmp_path / "a.xyz", f'note="lattice=3 energy=7 properties=a" energy={ENERGY!r}'))
    assert frame.info["note"] == "lattice=3 energy=7 properties=a"
    is_the_label(frame)


def test_forces_of_fixed_atoms_that_are_zero_are_no_label(tmp_path: Path) -> None:
    atoms = COPPER.copy()
    forces = FORCES.copy()
    forces[0] = 0.0
    atoms.arrays["force"] = forces
    atoms.info["energy"] = ENERGY
    for fixed in (True, False):
        atoms.set_constraint([FixAtoms([0])] if fixed else None)
        ase.io.write(
            tmp_path / "a.xyz",
            atoms,
            format="extxyz",
            columns=["symbols", "positions", "force", *(["move_mask"] if fixed else [])],
        )
        found = read_labelled(tmp_path / "a.xyz")
        assert set(labels_of(found.frames[0])) == {"energy"}
        assert "forces of fixed atoms are zero, which is no label" in found.remarks()[-1]
    atoms.arrays["force"] = FORCES
    atoms.set_constraint(FixAtoms([0]))
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz", columns=["symbols", "positions", "force", "move_mask"])
    assert "forces" in labels_of(one(tmp_path / "a.xyz"))


def test_a_crystal_whose_atoms_rest_has_forces(tmp_path: Path) -> None:
    """Zeros by symmetry sum to zero: they are true."""
    atoms = bulk("Cu", cubic=True)
    atoms.arrays["force"] = np.array([[0.5, 0, 0], [-0.5, 0, 0], [0, 0, 0], [0, 0, 0]])
    atoms.info["energy"] = -1.0
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    np.testing.assert_array_equal(one(tmp_path / "a.xyz").calc.results["forces"], atoms.arrays["force"])


def test_compressed_files(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.xyz.gz", [COPPER, COPPER], format="extxyz")
    assert [frame.calc.results["energy"] for frame in read_labelled(tmp_path / "a.xyz.gz").frames] == [
        pytest.approx(ENERGY, abs=1e-7)
    ] * 2


def test_other_results_come_along(tmp_path: Path) -> None:
    atoms = COPPER.copy()
    atoms.calc = Calculator()
    atoms.calc.results = {"energy": ENERGY, "forces": FORCES, "dipole": np.arange(3.0), "charges": np.arange(4.0)}
    atoms.calc.atoms = atoms.copy()
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    results = one(tmp_path / "a.xyz").calc.results
    assert results["dipole"].tolist() == [0, 1, 2]
    assert results["charges"].tolist() == [0, 1, 2, 3]


def test_labels_of_prefers_the_free_energy() -> None:
    atoms = COPPER.copy()
    atoms.calc = Calculator()
    atoms.calc.results = {"energy": 1.0, "free_energy": 0.5, "forces": FORCES}
    assert labels_of(atoms)["energy"] == 0.5


def test_in_python(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xyz", f"REF_energy={ENERGY!r}")
    with pytest.warns(PotentialWarning, match="energy from REF_energy"):
        (frame,) = alflow.read(path)
    is_the_label(frame)
    is_the_label(alflow.read(str(written(tmp_path / "a.xyz", f"energy={ENERGY!r}")), stress_key="none")[0])
    with pytest.raises(ConfigError, match="energy: Extra inputs are not permitted: expected some of energy_key"):
        alflow.read(path, energy="REF_energy")


@pytest.mark.parametrize("said", ["T T F", "t t f", "true True FALSE", "1 1 0", "p p f", "yes,yes,no", "TTF"])
def test_periodic_directions_in_any_words(said: str, tmp_path: Path) -> None:
    """Words other than ASE's are all true for it: a slab became a crystal."""
    for quoted in (f'"{said}"', f"[{said.replace(' ', ',')}]"):
        frame = one(written(tmp_path / "a.xyz", f"energy={ENERGY!r} pbc={quoted}"))
        assert frame.pbc.tolist() == [True, True, False]


@pytest.mark.parametrize("said", ['"xy"', '"T T"', "TT", '"T T ?"'])
def test_periodic_directions_that_nobody_understands(said: str, tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=r"pbc: expected T or F for each of three directions, found"):
        read_labelled(written(tmp_path / "a.xyz", f"energy={ENERGY!r} pbc={said}"))


@pytest.mark.parametrize(
    ("more", "name"),
    [("energy=1.5", "energy"), ('pbc="T T F" pbc="T T T"', "pbc"), ('Lattice="9 0 0 0 9 0 0 0 9"', "Lattice")],
)
def test_what_is_said_twice_is_not_taken_from_the_last(more: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=f"says {name} twice, and not the same"):
        read_labelled(written(tmp_path / "a.xyz", f"energy={ENERGY!r} {more}"))
    is_the_label(one(written(tmp_path / "a.xyz", f"energy={ENERGY!r} energy={ENERGY!r} note=1 note=2")))


def with_columns(path: Path, columns: str, row: str = "{symbol} {place} {force}") -> Path:
    """The crystal with other columns."""
    rows = [
        row.format(symbol="Cu", place=text_of(x), force=text_of(f), n=n)
        for n, (x, f) in enumerate(zip(COPPER.positions, FORCES, strict=True))
    ]
    comment = f'Lattice="{text_of(COPPER.cell.array)}" Properties={columns} energy={ENERGY!r}'
    path.write_text("\n".join([str(len(rows)), comment, *rows, ""]))
    return path


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ("SPECIES:S:1:POS:R:3:FORCES:R:3", "{symbol} {place} {force}"),
        ("element:S:1:position:R:3:force:R:3", "{symbol} {place} {force}"),
        ("species:I:1:pos:R:3:forces:R:3", "29 {place} {force}"),
        ("species:S:1:pos:R:3:Z:I:1:forces:R:3", "{symbol} {place} 29 {force}"),
        ("species:S:1:pos:R:3:fx:R:1:fy:R:1:fz:R:1", "{symbol} {place} {force}"),
        ("id:I:1:species:S:1:pos:R:3:force_x:R:1:force_y:R:1:force_z:R:1", "{n} CU {place} {force}"),
    ],
)
def test_columns_that_people_have(columns: str, row: str, tmp_path: Path) -> None:
    is_the_label(one(with_columns(tmp_path / "a.xyz", columns, row)))


def test_a_column_of_masses(tmp_path: Path) -> None:
    path = with_columns(tmp_path / "a.xyz", "species:S:1:pos:R:3:mass:R:1", "{symbol} {place} 65.5")
    assert one(path).get_masses().tolist() == [65.5] * 4


@pytest.mark.parametrize(
    ("columns", "row", "reason"),
    [
        ("species:S:1:coords:R:3:forces:R:3", "{symbol} {place} {force}", "Properties has no pos, but species, coords"),
        ("type:I:1:pos:R:3:forces:R:3", "1 {place} {force}", "Properties has no species, but type, pos, forces"),
        ("species:S:1:pos:R:3:forces:R:3", "{symbol} {place} 0.5 {force}", "says 7 words for each atom, .* has 8"),
        ("species:S:1:pos:R:3:forces", "{symbol} {place} {force}", "expected name:type:number of each column"),
        ("species:S:1:pos:R:3:Z:I:1", "{symbol} {place} 13", "other elements under Z than under species"),
        ("species:S:1:pos:R:3", "{symbol}{n} {place}", "has 'Cu0' under species: expected chemical symbols"),
    ],
)
def test_columns_that_would_be_taken_for_others(columns: str, row: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=reason):
        read_labelled(with_columns(tmp_path / "a.xyz", columns, row))


def test_a_frame_with_more_atoms_than_it_says_is_no_label(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xyz", f"energy={ENERGY!r}", n=3)
    first, rest = path.read_text().split("\n4\n", 1)
    path.write_text(f"{first}\n3\n{rest}")
    found = read_labelled(path)
    assert found.places == [0]
    assert "and all after it cannot be read (expected a number of atoms in line 12" in found.left_out[0].reason


@pytest.mark.parametrize("head", ["99999999999", "²"])
def test_numbers_of_atoms_that_nothing_has(head: str, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(f"{head}\nenergy=1\nCu 0 0 0\n")
    with pytest.raises(StructureError, match=r"expected 99999999999 atoms, found 1|expected a number of atoms"):
        read_labelled(tmp_path / "a.xyz")


def test_a_mark_of_the_order_of_bytes(tmp_path: Path) -> None:
    """As editors of Windows write it."""
    path = written(tmp_path / "a.xyz", f"energy={ENERGY!r}")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    is_the_label(one(path))


def test_plain_xyz_does_not_say_its_unit(tmp_path: Path) -> None:
    """Geometries of quantum chemistry have ``energy = -76.4``, in hartree."""
    path = tmp_path / "a.xyz"
    path.write_text("2\nenergy = -1.0\nH 0 0 0\nH 0 0 0.74\n")
    with pytest.raises(StructureError, match=r"plain XYZ, without Properties, .* give --energy-unit"):
        read_labelled(path)
    assert one(path, Names(energy_unit="Ha")).calc.results["energy"] == pytest.approx(-units.Hartree)
    assert one(path, Names(energy_unit="eV")).calc.results["energy"] == -1.0


@pytest.mark.parametrize("said", ["units=Hartree", 'units="Hartree,Bohr"', "energy_unit=kcal/mol", "Eh"])
def test_units_that_a_file_says(said: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.xyz", f"energy={ENERGY!r} {said}")
    with pytest.raises(StructureError, match=r"says .*: expected eV and Å; give --energy-unit"):
        read_labelled(path)
    is_the_label(one(written(tmp_path / "a.xyz", f"energy={ENERGY!r} energy_unit=eV Ha=1")))


def test_the_total_energy_of_dynamics_holds_the_kinetic_one(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xyz", f"total_energy={ENERGY + 1} potential_energy={ENERGY!r} kinetic_energy=1.0")
    is_the_label(one(path))
    is_the_label(one(written(tmp_path / "a.xyz", f"etot={ENERGY + 1} epot={ENERGY!r} ekin=1.0")))
    path = written(tmp_path / "a.xyz", f"total_energy={ENERGY!r} ekin=1.0")
    with pytest.raises(StructureError, match=r"total_energy beside ekin: it may hold that, or not: .* --energy-key"):
        read_labelled(path)
    is_the_label(one(path, Names(energy_key="total_energy")))


def test_a_stress_and_a_virial_that_contradict_each_other(tmp_path: Path) -> None:
    both = f'energy={ENERGY!r} stress="{text_of(STRESS)}" virial="{{}}"'
    is_the_label(one(written(tmp_path / "a.xyz", both.format(text_of(VIRIAL)))), stress=True)
    path = written(tmp_path / "a.xyz", both.format(text_of(-VIRIAL)))
    with pytest.raises(StructureError, match=r"stress and virial contradict each other: .* --stress-key"):
        read_labelled(path)
    is_the_label(one(path, Names(stress_key="stress")), stress=True)
    empty = f'energy={ENERGY!r} stress="0 0 0 0 0 0" virial="{text_of(VIRIAL)}"'
    is_the_label(one(written(tmp_path / "a.xyz", empty)), stress=True)


def test_a_stress_of_no_numbers_is_none(tmp_path: Path) -> None:
    is_the_label(one(written(tmp_path / "a.xyz", f'energy={ENERGY!r} stress="nan nan nan nan nan nan"')))


def test_forces_that_are_all_zero_are_told(tmp_path: Path) -> None:
    """They are true in a perfect crystal, and of an atom that is alone, of which nothing is said."""
    lines = written(tmp_path / "a.xyz", f"energy={ENERGY!r}").read_text().splitlines()
    rows = [" ".join(row.split()[:4]) + " 0 0 0" for row in lines[2:]]
    (tmp_path / "a.xyz").write_text("\n".join([*lines[:2], *rows, ""]))
    assert "all forces are exactly zero" in read_labelled(tmp_path / "a.xyz").remarks()[0]
    (tmp_path / "b.xyz").write_text("1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-0.5\nCu 0 0 0 0 0 0\n")
    assert read_labelled(tmp_path / "b.xyz").remarks() == []


def test_predictions_that_are_taken_for_labels_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a.xyz", f'energy={ENERGY!r} energy_sigma=0.1 committee_energies="1 2"')
    assert "that a committee predicted, no calculation's (1 of 1 structures)" in read_labelled(path).remarks()[0]


def test_a_large_file_says_how_far_it_is_and_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.xyz", f"energy={ENERGY!r}", n=30)
    monkeypatch.setattr("alflow.data.reading._LARGE", 1000)
    told: list[tuple[str, Any]] = []

    class Watcher(Silent):
        def begin(self, what: str, total: int) -> None:
            told.append((what, total))

        def advance(self, done: int = 1) -> None:
            told.append(("done", done))

        def note(self, message: str) -> None:
            told.append(("note", message))

    assert len(read_labelled(path, progress=Watcher()).frames) == 30
    assert told == [("read a.xyz", 30), *[("done", 1)] * 30]
    told.clear()
    monkeypatch.setattr("alflow.data.reading.psutil.virtual_memory", lambda: SimpleNamespace(available=20_000))
    read_labelled(path, progress=Watcher())
    assert told[0] == ("note", f"{path}: its structures take some 0.0 GB of memory, 0.0 GB are free")
