"""Structures: what no calculation can use is refused by name; names tell every bit."""

import itertools
import pickle
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.config import Settings, parse
from alflow.data.reading import read_usable
from alflow.data.writing import write_structures
from alflow.errors import StructureError
from alflow.structures import as_given, charge_and_multiplicity, check_structure, distance_ratio, structure_id
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, dict2constraint
from ase.data import covalent_radii
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st


def read_structures(path: Path, *, close: bool = False) -> list[Atoms]:
    """All of a file, each of which must be usable."""
    told: list[str] = []
    found = list(read_usable(path, told.append, close=close).values())
    assert not told
    return found


WATER = molecule("H2O")


def settings(name: str = "water", **system: object) -> Settings:
    return parse({"system": [{"name": name, "structures": "water.xyz", **system}]}, "alflow.toml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ase.io.write(tmp_path / "water.xyz", WATER)
    return tmp_path


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.xyz", None, "no such file: give the path of a file with structures"),
        ("empty.xyz", "", "is empty: expected at least one structure"),
        ("short.xyz", "3\n\nH 0 0 0\n", "frame 0 cannot be read: the file ends in it, expected 3 atoms, found 1"),
        (
            "words.xyz",
            "this is not a structure\n",
            r"cannot be read \(expected a number of atoms in line 1, found 'this i",
        ),
        ("what.unknown", "this is not a structure\n", r"unknown format .*: expected one that ASE reads"),
        ("nothing.xyz", "0\n\n", "frame 0 has no atoms: expected at least one"),
        ("nan.xyz", "2\n\nH 0 0 0\nH 0 nan 1\n", "frame 0: the position of atom 1 is not finite"),
        ("x.xyz", "2\n\nH 0 0 0\nX 0 0 1\n", r"frame 0: atom 1 is of no known element \(Z = 0\)"),
        (
            "both.xyz",
            "2\n\nH 0 0 0\nH 0 0 .1\n" * 2,
            r"frame 0: atoms H0 and H1 overlap: 0\.100 Å apart, expected at least 0\.310 Å",
        ),
    ],
)
def test_files_that_cannot_be_used(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(StructureError, match=message) as caught:
        read_structures(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_one_that_cannot_be_used_stops_no_other(tmp_path: Path) -> None:
    """It keeps its place."""
    path = tmp_path / "some.xyz"
    path.write_text("2\n\nH 0 0 0\nH 0 0 .1\n" + "1\n\nH 0 0 0\n" + "2\n\nH 0 0 0\nX 0 0 1\n")
    told: list[str] = []
    found = read_usable(path, told.append)
    assert list(found) == [1]
    assert told == [
        f"{path} frame 0 is left out: atoms H0 and H1 overlap: 0.100 Å apart, expected at least 0.310 Å; correct it",
        f"{path} frame 2 is left out: atom 1 is of no known element (Z = 0): expected an element",
    ]


def test_a_file_without_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "frames.xyz"
    path.write_text("\n")
    with pytest.raises(StructureError, match="holds no structures: expected at least one"):
        read_structures(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="no such file"):
        read_structures(tmp_path)


def test_an_at_sign_in_a_name_is_part_of_it(tmp_path: Path) -> None:
    """ASE would take what follows for the index of a frame."""
    path = tmp_path / "water@0"
    ase.io.write(path, [WATER, WATER], format="extxyz")
    path = path.rename(tmp_path / "water@350K.xyz")
    assert len(read_structures(path)) == 2


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    frames = [bulk("Si"), bulk("Si", cubic=True)]
    for name in ("frames.xyz", "frames.xyz.gz"):
        write_structures(tmp_path / name, frames)
        write_structures(tmp_path / name, frames)
        for before, after in zip(frames, read_structures(tmp_path / name), strict=True):
            np.testing.assert_allclose(after.positions, before.positions, atol=1e-7)
            assert after.pbc.all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames.xyz", "frames.xyz.gz"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "frames.xyz"
    write_structures(path, [WATER])
    before = path.read_bytes()

    def full(file: Path, *_: object, **__: object) -> None:
        Path(file).write_text("half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ase.io, "write", full)
    with pytest.raises(StructureError, match=r"frames\.xyz cannot be written \(No space left on device\)"):
        write_structures(path, [WATER])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=r"cannot be written \(No such file or directory\): check the folder"):
        write_structures(tmp_path / "missing" / "frames.xyz", [WATER])
    (tmp_path / "file").write_text("")
    with pytest.raises(StructureError, match=r"cannot be written \(Not a directory\)"):
        write_structures(tmp_path / "file" / "frames.xyz", [WATER])


# --- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("H", pbc=True), r"^here: periodic, but its cell has no volume .*: give a cell, or pbc = F"),
        (Atoms("H", cell=[5, 5, 0], pbc=[True, False, True]), "its cell has no volume"),
        (Atoms("H", cell=[[5, 0, 0], [0, 5, 0], [5, 5, 0]], pbc=True), "its cell has no volume"),
        (Atoms("H", cell=[5, 5, np.nan], pbc=False), "^here: its cell is not finite"),
        (Atoms("H", cell=[5, 5, np.inf], pbc=True), "^here: its cell is not finite"),
        (Atoms("OH", positions=[[0, 0, 0], [0, 0, 0]]), r"atoms O0 and H1 overlap: 0\.000 Å apart"),
        (
            Atoms("OH", positions=[[0.1, 0, 0], [9.9, 0, 0]], cell=[10, 10, 10], pbc=True),
            r"atoms O0 and H1 overlap: 0\.200 Å apart, expected at least 0\.485 Å",
        ),
        (Atoms("Si", cell=[1, 9, 9], pbc=True), r"atoms Si0 and Si0 overlap: 1\.000 Å apart, expected at least 1\.110"),
    ],
)
def test_structures_that_no_calculation_can_use(atoms: Atoms, message: str) -> None:
    with pytest.raises(StructureError, match=message):
        check_structure(atoms, "here")


@pytest.mark.parametrize(
    "atoms",
    [
        WATER,
        bulk("Si"),
        Atoms("Ar"),
        Atoms("OH", positions=[[0.1, 0, 0], [9.9, 0, 0]], cell=[10, 10, 10]),
        Atoms("H", cell=[5, 5, 0], pbc=[True, True, False]),
        Atoms("H2", positions=[[0, 0, 0], [0, 0, 30]], cell=[[4, 0, 0], [0, 4, 0], [4, 0, 0]], pbc=[1, 1, 0]),
    ],
)
def test_structures_that_can_be_used(atoms: Atoms) -> None:
    check_structure(atoms, "here")


def test_labels_and_predictions_may_have_short_contacts(tmp_path: Path) -> None:
    """Li-Li at 0.48 of the covalent radii, as in published data of hot metal; not atoms in the same place."""
    atoms = Atoms("Li2", positions=[[0, 0, 0], [1.22, 0, 0]])
    with pytest.raises(StructureError, match=r"1\.220 Å apart, expected at least 1\.280 Å"):
        check_structure(atoms, "here")
    check_structure(atoms, "here", close=True)
    ase.io.write(tmp_path / "bare.xyz", atoms)
    with pytest.raises(StructureError, match="overlap"):
        read_structures(tmp_path / "bare.xyz")
    assert len(read_structures(tmp_path / "bare.xyz", close=True)) == 1
    atoms.positions[1, 0] = 0.2
    with pytest.raises(StructureError, match=r"0\.200 Å apart, expected at least 0\.256 Å"):
        check_structure(atoms, "here", close=True)


def brute_force(atoms: Atoms) -> float:
    """Smallest distance over the sum of radii, over images in a range that is wide enough for the cells below."""
    radii = covalent_radii[atoms.numbers]
    ranges = [range(-4, 5) if periodic else (0,) for periodic in atoms.pbc]
    best = np.inf
    for shift in itertools.product(*ranges):
        vectors = atoms.positions[None] + np.array(shift) @ atoms.cell.array - atoms.positions[:, None]
        ratio = np.linalg.norm(vectors, axis=2) / (radii + radii[:, None])
        if shift == (0, 0, 0):
            np.fill_diagonal(ratio, np.inf)
        best = min(best, float(ratio.min()))
    return best


boxes = st.tuples(
    st.integers(0, 10**6), st.integers(1, 8), st.tuples(st.booleans(), st.booleans(), st.booleans()), st.floats(2.5, 9)
)


@given(boxes)
@hypothesis_settings(max_examples=150, deadline=None)
def test_distance_ratio_is_the_smallest_of_all_images(box: tuple[int, int, tuple[bool, bool, bool], float]) -> None:
    """Exact up to 1, as documented: also for the largest atoms, which touch beyond 4 Å."""
    seed, n, pbc, length = box
    rng = np.random.default_rng(seed)
    cell = length * (np.eye(3) + rng.uniform(-0.25, 0.25, size=(3, 3)))
    positions = rng.uniform(-1.5, 1.5, size=(n, 3)) @ cell  # outside of the cell, too
    atoms = Atoms(numbers=rng.choice([1, 8, 55, 87], size=n), positions=positions, cell=cell, pbc=pbc)
    found, expected = distance_ratio(atoms), brute_force(atoms)
    if found <= 1 or expected <= 1:
        assert found == pytest.approx(expected, rel=1e-12)
    else:
        assert found >= expected * (1 - 1e-12)
    if n > 1:
        distances = atoms.get_all_distances(mic=True) + np.diag(np.full(n, np.inf))
        between = distances / (covalent_radii[atoms.numbers] + covalent_radii[atoms.numbers][:, None])
        assert found <= between.min() * (1 + 1e-9) or between.min() > 1


def test_the_largest_atoms_are_searched_far_enough() -> None:
    """Two francium atoms 4.5 Å apart touch, though hydrogen atoms 3.9 Å apart are nearer to each other."""
    assert covalent_radii[np.isfinite(covalent_radii)].max() == covalent_radii[87] == 2.6
    far = [[0, 0, 0], [4.5, 0, 0], [0, 50, 0], [3.9, 50, 0]]
    assert distance_ratio(Atoms("Fr2H2", positions=far)) == pytest.approx(4.5 / 5.2)
    assert distance_ratio(Atoms("H2", positions=far[2:])) == pytest.approx(3.9 / 0.62)
    assert distance_ratio(Atoms("H2", positions=[[0, 0, 0], [4.1, 0, 0]])) == np.inf
    assert distance_ratio(Atoms("H")) == np.inf


# --- names ------------------------------------------------------------------------------------------------------------


def flipped(array: np.ndarray, place: int) -> None:
    """Change the last bit of an element in place."""
    array.reshape(-1).view(np.int64)[place] ^= 1


changes = st.one_of(
    st.tuples(st.just("positions"), st.integers(0, 23)),
    st.tuples(st.just("cell"), st.integers(0, 8)),
    st.tuples(st.just("pbc"), st.integers(0, 2)),
    st.tuples(st.just("numbers"), st.integers(0, 7)),
    st.tuples(st.sampled_from(["charge", "multiplicity", "method"]), st.integers(2, 9)),
)


@given(changes)
@hypothesis_settings(max_examples=100, deadline=None)
def test_a_name_changes_with_every_bit(change: tuple[str, int]) -> None:
    rng = np.random.default_rng(0)
    atoms = bulk("Si", cubic=True)
    atoms.positions += rng.normal(size=(8, 3))
    atoms.set_cell(atoms.cell.array + rng.normal(size=(3, 3)))
    before = structure_id(atoms, "method")
    assert re.fullmatch("[0-9a-f]{24}", before)
    what, value = change
    method = "method"
    if what == "positions":
        flipped(atoms.positions, value)
    elif what == "cell":
        cell = atoms.cell.array.copy()
        flipped(cell, value)
        atoms.set_cell(cell)
    elif what == "pbc":
        atoms.pbc = [i != value for i in range(3)]
    elif what == "numbers":
        atoms.numbers[value] += 1
    elif what == "method":
        method = f"method {value}"
    else:
        atoms.info[what] = value
    assert structure_id(atoms, method) != before


@given(st.integers(0, 10**6))
@hypothesis_settings(max_examples=30, deadline=None)
def test_a_name_does_not_depend_on_anything_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = structure_id(WATER, "method")
    atoms = WATER.copy()
    atoms.set_momenta(rng.normal(size=(3, 3)))
    atoms.set_tags(rng.integers(0, 9, size=3))
    atoms.info |= {"system": "water", "charge": 0, "multiplicity": 1, "note": seed}
    atoms.calc = SinglePointCalculator(atoms, energy=rng.normal())
    assert structure_id(atoms, "method") == before


def test_what_a_structure_says_of_its_atoms_is_part_of_its_name() -> None:
    """Where it is there: a structure without it keeps its name."""
    said = {"name": "FixAtoms", "kwargs": {"indices": [0]}}
    changes = {
        "masses": lambda atoms: atoms.set_masses([16, 2.014, 1]),
        "moments": lambda atoms: atoms.set_initial_magnetic_moments([0, 1, 0]),
        "other moments": lambda atoms: atoms.set_initial_magnetic_moments([0, 0, 1]),
        "charges": lambda atoms: atoms.set_initial_charges([0, 1, 0]),
        "constraint": lambda atoms: atoms.set_constraint(dict2constraint(said)),
        "other constraint": lambda atoms: atoms.set_constraint(FixAtoms([1])),
    }
    names = {"": structure_id(WATER, "method")}
    for what, change in changes.items():
        atoms = WATER.copy()
        change(atoms)
        names[what] = structure_id(atoms, "method")
        assert structure_id(as_given(atoms), "method") == names[what]
        assert structure_id(pickle.loads(pickle.dumps(atoms)), "method") == names[what]
    assert len(set(names.values())) == len(names)
    assert names[""] == "11cb60bdf38fc516b0d594b8", "as in every version so far"


def test_as_given_keeps_what_a_file_says_of_a_structure() -> None:
    atoms = WATER.copy()
    atoms.set_masses([16, 2.014, 1])
    atoms.set_constraint(FixAtoms([0]))
    atoms.set_momenta(np.ones((3, 3)), apply_constraint=False)
    atoms.set_tags([1, 2, 3])
    kept = as_given(atoms)
    assert set(kept.arrays) == {"numbers", "positions", "masses"}
    assert [constraint.todict() for constraint in kept.constraints] == [FixAtoms([0]).todict()]
    assert not kept.info


@pytest.mark.parametrize("cell", [[0.01, 0.01, 0.01], [[5, 0, 0], [5, 0.01, 0], [0, 0, 5]]])
def test_a_cell_too_thin_is_refused_before_its_images_are_searched(cell: list[object]) -> None:
    """They are so many that the search takes minutes and all memory."""
    with pytest.raises(StructureError, match=r"periodic after only 0\.01 Å"):
        check_structure(Atoms("Cu", cell=cell, pbc=True), "here")


@pytest.mark.parametrize(
    ("said", "charge"), [(1, 1), ("-1", -1), (2.0, 2), (np.array([1.0]), 1), (np.int64(-2), -2), (-1e-4, 0)]
)
def test_charges_as_files_write_them(said: object, charge: int) -> None:
    atoms = WATER.copy()
    atoms.info["charge"] = said
    check_structure(atoms, "here")
    assert charge_and_multiplicity(atoms) == (charge, 1)


@pytest.mark.parametrize("said", ["anion", 0.5, None, [1, 2], float("nan"), True])
def test_a_charge_that_is_none_is_refused(said: object) -> None:
    atoms = WATER.copy()
    atoms.info["charge"] = said
    with pytest.raises(
        StructureError, match=r"here: charge = .*: expected a whole number; correct it, or call it othe"
    ):
        check_structure(atoms, "here")
