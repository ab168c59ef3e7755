"""Initial structures: copies are repeatable, and what a file says of its atoms stays."""

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.config import Settings, parse
from alflow.data.reading import read_usable
from alflow.errors import StructureError
from alflow.steps.initial import initial_structures
from alflow.steps.sample import candidate_frames
from alflow.structures import structure_id
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.units import Bohr

WATER = molecule("H2O")


def settings(name: str = "water", **system: object) -> Settings:
    return parse({"system": [{"name": name, "structures": "water.xyz", "start": [], **system}]}, "alflow.toml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ase.io.write(tmp_path / "water.xyz", WATER)
    return tmp_path


def test_copies_are_repeatable_and_keyed(folder: Path) -> None:
    three, five = (initial_structures(settings(copies=n, rattle=0.1), folder) for n in (3, 5))
    assert (len(three), len(five)) == (4, 6)
    for a, b in zip(three, five, strict=False):
        np.testing.assert_array_equal(a.positions, b.positions)
    np.testing.assert_array_equal(five[0].positions, read_usable(folder / "water.xyz", print)[0].positions)
    ids = {structure_id(frame, "method") for frame in five}
    assert len(ids) == 6
    other = initial_structures(settings(copies=3, rattle=0.1).model_copy(update={"seed": 1}), folder)
    assert not np.array_equal(other[1].positions, three[1].positions)


def test_copies_are_displaced_by_what_was_asked_for(folder: Path) -> None:
    first, *copies = initial_structures(settings(copies=400, rattle=0.02), folder)
    moved = np.array([copy.positions - first.positions for copy in copies])
    assert moved.std() == pytest.approx(0.02, rel=4 / np.sqrt(2 * moved.size))
    assert abs(moved.mean()) < 4 * 0.02 / np.sqrt(moved.size)


def test_each_structure_of_each_system_has_copies_of_its_own(folder: Path) -> None:
    ase.io.write(folder / "two.xyz", [WATER, WATER])
    systems = [{"name": name, "structures": "two.xyz", "copies": 2} for name in ("a", "b")]
    frames = initial_structures(parse({"system": systems}, "alflow.toml"), folder)
    assert [frame.info["system"] for frame in frames] == ["a"] * 6 + ["b"] * 6
    moved = [frame.positions.tobytes() for i, frame in enumerate(frames) if i % 3]
    assert len(set(moved)) == 8


def test_info_holds_what_the_settings_say_and_nothing_else(folder: Path) -> None:
    atoms = WATER.copy()
    atoms.info["charge"], atoms.info["comment"] = 7, "from elsewhere"
    atoms.set_momenta(np.ones((3, 3)))
    ase.io.write(folder / "water.xyz", atoms)
    told: list[str] = []
    (frame,) = initial_structures(settings(charge=1, multiplicity=2), folder, told.append)
    assert told == [f"{folder / 'water.xyz'} says charge 7: 1 of system water counts"]
    assert frame.info == {"system": "water", "charge": 1, "multiplicity": 2}
    assert set(frame.arrays) == {"numbers", "positions"}
    assert frame.calc is None


@pytest.mark.parametrize(
    ("system", "message"),
    [
        (
            {"charge": 1},
            r"9 electrons \(charge 1\) cannot have multiplicity 1: correct charge or multiplicity of system",
        ),
        ({"multiplicity": 2}, r"10 electrons \(charge 0\) cannot have multiplicity 2"),
        ({"charge": 10, "multiplicity": 3}, r"0 electrons \(charge 10\) cannot have multiplicity 3"),
        ({"charge": 11}, r"-1 electrons \(charge 11\) cannot have multiplicity 1"),
    ],
)
def test_electrons_must_fit_the_multiplicity(system: dict[str, int], message: str, folder: Path) -> None:
    with pytest.raises(StructureError, match=rf"^{re.escape(str(folder / 'water.xyz'))} frame 0: {message}"):
        initial_structures(settings(**system), folder)


def test_copies_in_which_atoms_always_overlap(tmp_path: Path) -> None:
    crystal = bulk("Si", cubic=True) * (3, 3, 3)
    ase.io.write(tmp_path / "water.xyz", crystal)
    message = r"frame 0: atoms overlap in all of 100 copies displaced by 2\.0 Å: lower system\.rattle"
    with pytest.raises(StructureError, match=message):
        initial_structures(settings("crystal", copies=1, rattle=2.0), tmp_path)


def test_constraints_masses_and_moments_of_a_file_stay(folder: Path) -> None:
    """A layer that is fixed is not displaced in copies."""
    atoms = WATER.copy()
    atoms.set_constraint(FixAtoms([0]))
    atoms.set_masses([16, 2.014, 2.014])
    atoms.set_initial_magnetic_moments([0, 1, -1])
    ase.io.write(folder / "water.traj", atoms)
    system = {"name": "water", "structures": "water.traj", "copies": 3}
    first, *copies = initial_structures(parse({"system": [system]}, "alflow.toml"), folder)
    for frame in (first, *copies):
        np.testing.assert_array_equal(frame.get_masses(), [16, 2.014, 2.014])
        np.testing.assert_array_equal(frame.get_initial_magnetic_moments(), [0, 1, -1])
        assert [constraint.todict() for constraint in frame.constraints] == [FixAtoms([0]).todict()]
        np.testing.assert_array_equal(frame.positions[0], WATER.positions[0])
    assert all((copy.positions[1:] != WATER.positions[1:]).all() for copy in copies)


RUNNER = "begin\natom 0 0 0 O 0 0 0.5 0 0\natom 0 0 1.8 H 0 0 0.5 0 0\nenergy -75.0\nend\n"


def test_a_unit_of_lengths_is_enough_for_a_file_whose_energies_nobody_wants(tmp_path: Path) -> None:
    (tmp_path / "water.xyz").write_text(RUNNER)
    with pytest.raises(StructureError, match=r"says its units: give length_unit \(on a command line --length-unit\)$"):
        initial_structures(settings(multiplicity=2), tmp_path)
    (atoms,) = initial_structures(settings(multiplicity=2, length_unit="bohr"), tmp_path)
    np.testing.assert_allclose(atoms.positions[1], [0, 0, 1.8 * Bohr])


def test_types_of_a_file_are_named(tmp_path: Path) -> None:
    dump = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS ff ff ff\n0 9\n0 9\n0 9\n"
    (tmp_path / "water.xyz").write_text(f"{dump}ITEM: ATOMS id type x y z\n1 2 1 1 1\n2 1 1 1 2\n")
    with pytest.raises(StructureError, match="types"):
        initial_structures(settings(multiplicity=2), tmp_path)
    named = settings(multiplicity=2, species=["H", "O"], length_unit="A")
    assert initial_structures(named, tmp_path)[0].get_chemical_symbols() == ["O", "H"]
    of_candidates = named.model_copy(
        update={"sample": named.sample.model_copy(update={"species": ("S", "O"), "length_unit": "A"})}
    )
    (candidate,) = candidate_frames(of_candidates, tmp_path, "water.xyz", print)
    assert candidate.get_chemical_symbols() == ["O", "S"]
