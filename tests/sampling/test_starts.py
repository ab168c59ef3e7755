"""Structures made for the beginning of a run."""

from functools import partial
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.config import parse
from alflow.errors import ConfigError, StructureError
from alflow.randomness import generator
from alflow.sampling.starts.make import ENOUGH, made, usual
from alflow.sampling.starts.molecules import units
from alflow.sampling.starts.settings import Dimers, Packed, Rattled, Start, Strained, Vacancies
from alflow.steps.initial import initial_structures
from alflow.structures import distance_ratio
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.constraints import FixAtoms, FixBondLength, FixCartesian
from ase.data import covalent_radii
from ase.units import _amu
from hypothesis import given
from hypothesis import strategies as st


def random(seed: int = 0) -> partial:
    return partial(generator, seed, 0, 0, 0, 0)


def ice(n: int = 2) -> Atoms:
    """Water molecules on a grid, some cut by the edge of the cell."""
    one = molecule("H2O")
    one.set_cell([3.1, 3.1, 3.1])
    one.pbc = True
    one.positions += [3.0, 0.1, 1.5]
    one.wrap()
    frame = one.repeat(n)
    frame.info = {"system": "ice", "charge": 0, "multiplicity": 1}
    return frame


def make(section: Start, atoms: Atoms, seed: int = 0) -> list[Atoms]:
    atoms.info.setdefault("charge", 0)
    return list(made(section, [atoms], random(seed)))


def shapes(atoms: Atoms) -> np.ndarray:
    """Sorted distances within each molecule."""
    found = units(atoms)
    assert found.are_molecules
    parts = [found.positions[found.of_atom == k] for k in range(found.count)]
    return np.array([sorted(np.linalg.norm(p[:, None] - p[None], axis=2)[np.triu_indices(len(p), 1)]) for p in parts])


def test_molecules_are_found_across_the_edge_of_a_cell() -> None:
    found = units(ice())
    assert (found.count, found.are_molecules) == (8, True)
    assert (np.bincount(found.of_atom) == 3).all()
    np.testing.assert_allclose(shapes(ice()), np.tile(shapes(molecule("H2O")), (8, 1)), atol=1e-9)


@pytest.mark.parametrize("atoms", [bulk("Si", cubic=True), bulk("Cu"), bulk("NaCl", "rocksalt", a=5.64)])
def test_what_is_bonded_without_end_is_no_molecule(atoms: Atoms) -> None:
    found = units(atoms)
    assert not found.are_molecules
    assert found.count == len(atoms)


def test_a_chain_without_end_is_none_either_and_an_end_makes_it_one() -> None:
    chain = Atoms("C4", [[1.3 * k, 0, 0] for k in range(4)], cell=[5.2, 9, 9], pbc=[True, False, False])
    assert not units(chain).are_molecules
    chain.pbc = False
    assert units(chain).count == 1


@given(st.integers(0, 2**31), st.floats(0.01, 0.2))
def test_strain_is_bounded_symmetric_and_leaves_molecules_as_they_are(seed: int, strain: float) -> None:
    atoms = ice()
    (copy,) = make(Strained(count=1, strain=strain, displacement=0.0), atoms, seed)
    deformation = np.linalg.solve(atoms.cell.array, copy.cell.array) - np.eye(3)
    np.testing.assert_allclose(deformation, deformation.T, atol=1e-12)
    assert np.abs(deformation).max() <= strain
    np.testing.assert_allclose(shapes(copy), shapes(atoms), atol=1e-9)
    inside = np.linalg.solve(atoms.cell.array.T, units(atoms).centres.T).T
    strained = np.linalg.solve(copy.cell.array.T, units(copy).centres.T).T
    assert np.abs((strained - inside + 0.5) % 1 - 0.5).max() < 1e-9


def test_a_slab_is_strained_in_its_plane() -> None:
    slab = fcc111("Al", (2, 2, 3), vacuum=6)
    (copy,) = make(Strained(count=1, displacement=0.0), slab)
    assert (copy.cell.array[2] == slab.cell.array[2]).all()
    np.testing.assert_allclose(copy.positions[:, 2], slab.positions[:, 2], atol=1e-12)
    assert np.abs(copy.cell.array[:2] - slab.cell.array[:2]).max() > 1e-3


def test_displacements_are_as_wide_as_asked_for() -> None:
    atoms = bulk("Cu", cubic=True).repeat(2)
    moved = np.array([copy.positions - atoms.positions for copy in make(Rattled(count=40, displacement=0.02), atoms)])
    assert moved.std() == pytest.approx(0.02, rel=4 / np.sqrt(2 * moved.size))


def test_of_a_cell_with_one_atom_a_supercell_is_rattled() -> None:
    for copy in make(Rattled(count=3), bulk("Cu")):
        assert len(copy) == 4
        assert copy.cell.volume == pytest.approx(4 * bulk("Cu").cell.volume)
        assert np.ptp(copy.positions - copy.positions.mean(axis=0)) > 0.1


def test_vacancies_take_whole_molecules_and_nothing_that_is_fixed() -> None:
    for copy in make(Vacancies(count=4, vacant=2, displacement=0.0), ice()):
        assert copy.get_chemical_formula() == "H12O6"
        np.testing.assert_allclose(shapes(copy), np.tile(shapes(molecule("H2O")), (6, 1)), atol=1e-9)
    slab = fcc111("Al", (2, 2, 3), vacuum=6)
    slab.set_constraint(FixAtoms([0, 1, 2, 3]))
    for copy in make(Vacancies(count=8, vacant=8), slab):
        np.testing.assert_allclose(copy.positions, slab.positions[:4])
    with pytest.raises(StructureError, match="of 12 atoms or molecules 8 may go: vacant = 9 leaves none"):
        make(Vacancies(vacant=9), slab)


@pytest.mark.parametrize("atoms", [ice(), bulk("Cu", cubic=True), bulk("NaCl", "rocksalt", a=5.64, cubic=True)])
def test_packed_cells_have_their_density_and_no_short_contacts(atoms: Atoms) -> None:
    own = atoms.get_masses().sum() * _amu * 1e27 / atoms.cell.volume
    for copy, share in zip(make(Packed(count=3, atoms=20), atoms), (1.0, 0.9, 1.1), strict=True):
        assert len(copy) >= 20
        assert copy.get_masses().sum() * _amu * 1e27 / copy.cell.volume == pytest.approx(share * own)
        assert copy.get_chemical_formula(empirical=True) == atoms.get_chemical_formula(empirical=True)
        assert distance_ratio(copy) > 0.7
        if "H" in atoms.symbols:
            np.testing.assert_allclose(
                shapes(copy), np.tile(shapes(molecule("H2O")), (units(copy).count, 1)), atol=1e-6
            )


def test_what_cannot_be_packed_is_told() -> None:
    with pytest.raises(StructureError, match=r"cannot be packed at 40 g/cm\^3: .*; lower the density$"):
        make(Packed(count=1, density=(40.0,), atoms=8), bulk("Cu", cubic=True))
    with pytest.raises(StructureError, match=r"has no density: give packed a density, g/cm\^3$"):
        make(Packed(), molecule("H2O"))
    (copy,) = make(Packed(count=1, density=(1.0,), atoms=9), molecule("H2O"))
    assert copy.get_chemical_formula() == "H6O3"
    assert copy.pbc.all()


def test_dimers_are_of_every_pair_from_the_core_outwards() -> None:
    found = make(Dimers(count=3, nearest=0.5, farthest=1.5), bulk("NaCl", "rocksalt", a=5.64))
    assert [dimer.get_chemical_formula() for dimer in found] == ["Na2"] * 3 + ["ClNa"] * 3 + ["Cl2"] * 3
    for dimer, share in zip(found, (0.5, 1.0, 1.5) * 3, strict=True):
        expected = share * covalent_radii[dimer.numbers].sum()
        assert dimer.get_distance(0, 1, mic=True) == pytest.approx(expected)
        assert dimer.pbc.all()
    assert not any(dimer.pbc.any() for dimer in make(Dimers(count=1), molecule("H2O")))


@pytest.mark.parametrize("section", [Rattled(count=2), Strained(count=2), Vacancies(count=2), Packed(count=2, atoms=8)])
def test_more_of_a_kind_change_nothing_of_those_before(section: Start) -> None:
    few = make(section, ice())
    many = make(section.model_copy(update={"count": 4}), ice())
    for a, b in zip(few, many[:2], strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
    assert len({copy.positions.tobytes() for copy in many}) == 4


def test_few_structures_are_made_enough_and_many_are_left_alone() -> None:
    crystal, water, atom = bulk("Cu", cubic=True), molecule("H2O"), Atoms("Cu")
    assert [section.kind for section in usual([crystal])] == ["rattled", "rattled", "strained"]
    assert [section.kind for section in usual([water] * 3)] == ["rattled", "rattled"]
    for frames in ([crystal], [water] * 3, [crystal] * (ENOUGH - 1)):
        assert len(frames) + sum(section.count for section in usual(frames)) == 16
    assert usual([atom]) == usual([crystal] * ENOUGH) == ()
    alone = Atoms("Cu", cell=[15] * 3, pbc=True)
    assert {section.kind for section in usual([alone, water])} == {"rattled"}  # an atom alone has nothing to strain


def started(folder: Path, atoms: Atoms, **system: object) -> list[Atoms]:
    ase.io.write(folder / "a.xyz", atoms)
    told: list[str] = []
    settings = parse({"system": [{"name": "a", "structures": "a.xyz", **system}]}, "alflow.toml")
    frames = initial_structures(settings, folder, told.append)
    frames[0].info["told"] = told
    return frames


def test_a_run_makes_its_own_start_and_says_so(tmp_path: Path) -> None:
    frames = started(tmp_path, bulk("Si", cubic=True))
    assert len(frames) == 16
    assert frames[0].info["told"] == [
        "system a: 10 rattled, 5 strained made of its 1 to learn from; start = [] makes none"
    ]
    assert {frame.info["system"] for frame in frames} == {"a"}
    assert len(started(tmp_path, bulk("Si", cubic=True), start=[])) == 1
    assert len(started(tmp_path, bulk("Si", cubic=True), copies=2)) == 3


def test_kinds_and_tables_are_taken(tmp_path: Path) -> None:
    frames = started(tmp_path, bulk("Si", cubic=True), start=["strained", {"kind": "vacancies", "count": 2}], copies=1)
    assert [len(frame) for frame in frames] == [8] * 8 + [7] * 2


def test_electrons_of_what_is_made_fit_its_multiplicity(tmp_path: Path) -> None:
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    *_, vacant = started(tmp_path, salt, start=["vacancies"])
    assert vacant.info["multiplicity"] == 2  # one atom with an odd number of electrons less
    copper = started(tmp_path, bulk("Cu"), multiplicity=2)
    assert [frame.info["multiplicity"] for frame in copper] == [2] + [1] * 15  # of four atoms


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (["ratled"], r'system\[0\]\.start\[0\]\.kind: expected one of "rattled", "strained", .*, found "ratled"$'),
        ([{"kind": "strained", "strian": 0.1}], r"system\[0\]\.start\[0\]\.strian"),
        ([{"kind": "rattled", "count": 0}], r"system\[0\]\.start\[0\]\.count"),
    ],
)
def test_what_is_no_start_is_told(tmp_path: Path, start: list[object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        started(tmp_path, bulk("Si"), start=start)


def test_what_cannot_be_made_names_the_system(tmp_path: Path) -> None:
    message = "system a: none of its structures is one with a periodic direction: leave strained out of start"
    with pytest.raises(StructureError, match=message):
        started(tmp_path, molecule("H2O"), start=["strained"])
    with pytest.raises(StructureError, match="system a: atoms overlap in all of 100 tries: make the displacements"):
        started(tmp_path, bulk("Si", cubic=True).repeat(2), start=[{"kind": "rattled", "displacement": 3.0}])


def test_molecules_and_ions_are_not_doubled() -> None:
    """The charge and the multiplicity of one are not those of two."""
    for name, charge, multiplicity in (("OH", -1, 1), ("O2", 0, 3), ("H2O", 0, 1)):
        atoms = molecule(name)
        atoms.set_cell([8, 8, 8])
        atoms.pbc = True
        atoms.info = {"system": "a", "charge": charge, "multiplicity": multiplicity}
        for section in (Rattled(count=1), Strained(count=1)):
            (copy,) = make(section, atoms)
            assert len(copy) == len(atoms)
    ion = molecule("OH")
    ion.info = {"charge": -1, "multiplicity": 1}
    with pytest.raises(StructureError, match="has a charge or an open shell, and 10 of it would have others"):
        make(Packed(density=(1.0,), atoms=20), ion)
    with pytest.raises(StructureError, match="has a charge of -1, and nobody knows whose it is: leave vacancies out"):
        make(Vacancies(), ion)
    assert [dimer.get_chemical_formula() for dimer in make(Dimers(count=1), ion)] == ["H2", "O2"]


def test_moments_and_masses_are_those_of_the_structure() -> None:
    iron = bulk("Fe", cubic=True)
    (plain,) = make(Packed(count=1, atoms=8), iron)
    assert "masses" not in plain.arrays
    iron.set_initial_magnetic_moments([2.2, 2.3])
    iron.set_masses([57.0, 56.0])
    (copy,) = make(Packed(count=1, atoms=8), iron)
    np.testing.assert_array_equal(copy.get_initial_magnetic_moments(), [2.2, 2.3] * 4)
    np.testing.assert_array_equal(copy.get_masses(), [57.0, 56.0] * 4)


def test_fixed_atoms_go_with_a_strained_cell_and_nowhere_else() -> None:
    slab = fcc111("Cu", (2, 2, 3), vacuum=6)
    slab.set_constraint(FixAtoms([0, 1, 2, 3]))
    (copy,) = make(Strained(count=1, strain=0.1), slab)
    inside = copy.cell.scaled_positions(copy.positions) - slab.cell.scaled_positions(slab.positions)
    assert np.abs((inside[:4] + 0.5) % 1 - 0.5).max() < 1e-9
    assert np.abs((inside[4:] + 0.5) % 1 - 0.5).max() > 1e-4


def test_other_constraints_are_kept_or_refused() -> None:
    crystal = bulk("Cu", cubic=True)
    crystal.set_constraint(FixCartesian(0, [True, False, False]))
    (copy,) = make(Rattled(count=1), crystal)
    assert copy.positions[0, 0] == crystal.positions[0, 0]
    assert len(copy.constraints) == 1
    with pytest.raises(StructureError, match="has constraints other than fixed atoms"):
        make(Vacancies(), crystal)
    pair = bulk("NaCl", "rocksalt", a=5.64)
    pair.set_constraint(FixBondLength(0, 1))
    (copy,) = make(Rattled(count=1), pair)
    assert len(copy) == 2


def test_a_box_is_wide_enough_for_its_dimer() -> None:
    for dimer in make(Dimers(count=4), bulk("K")):
        assert dimer.cell[0, 0] >= 2 * dimer.get_distance(0, 1)
