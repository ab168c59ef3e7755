"""Observables against lattices, closed forms, and pairs counted image by image."""

import itertools
import subprocess
import sys
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from alflow.averages.observables.base import Frame
from alflow.averages.observables.geometry import angles, neighbours, same_centre, separations
from alflow.averages.observables.parsing import KINDS, parse
from alflow.errors import AlflowError, ObservableError
from ase import Atoms, units
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

KT = units.kB * 300.0
TILTED = np.array([[5.0, 0.0, 0.0], [2.0, 4.5, 0.0], [-1.5, 1.8, 6.0]])
WATER = Atoms("OHH", [[0, 0, 0], [0.97, 0, 0], [-0.24, 0.94, 0]])


def frame(atoms: Atoms, energies: Sequence[float] = (0.0,), pressure: float | None = None) -> Frame:
    return Frame(atoms, np.array(energies), 300.0, pressure)


def value(text: str, *structures: Atoms) -> np.ndarray:
    """Of the averages over structures."""
    observable = parse(text)
    return observable.finish(np.mean([observable.parts(frame(atoms)) for atoms in structures], axis=0))


def random_atoms(
    seed: int, n: int = 12, *, pbc: Sequence[bool] = (True, True, True), cell: np.ndarray = TILTED
) -> Atoms:
    """Oxygen and hydrogen anywhere, many of them outside the cell."""
    rng = np.random.default_rng(seed)
    return Atoms("OHH" * (n // 3), (rng.random((n, 3)) * 6 - 2) @ cell, cell=cell, pbc=pbc)


def brute(atoms: Atoms, cutoff: float, reach: int = 9) -> list[tuple[int, int, float]]:
    """Every pair (i, j) nearer than the cutoff, image by image, with its distance."""
    wrapped = atoms.copy()
    wrapped.wrap()
    steps = [range(-reach, reach + 1) if periodic else range(1) for periodic in atoms.pbc]
    shifts = np.array(list(itertools.product(*steps))) @ np.asarray(atoms.cell)
    found = []
    for i, j in itertools.product(range(len(atoms)), repeat=2):
        distances = np.linalg.norm(wrapped.positions[j] - wrapped.positions[i] + shifts, axis=1)
        found += [(i, j, d) for d in distances if d < cutoff and (i != j or d > 0)]
    return sorted(found)


def ice() -> Atoms:
    """Cubic ice, 8 molecules, protons in order: one sublattice donates along two bonds, the other along the others."""
    a = 6.35
    oxygens = bulk("O", "diamond", a=a, cubic=True)
    even = [0, 2, 4, 6]  # one of the two fcc lattices
    bonds = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    ice = oxygens.copy()
    for i, position in enumerate(oxygens.positions):
        for bond in bonds[:2] if i in even else -bonds[2:]:
            ice += Atoms("H", [position + 0.97 * bond])
    return ice


# What is written, and what is understood


@pytest.mark.parametrize(
    ("text", "name", "unit", "kind", "points", "grid_name"),
    [
        ("potential_energy", "potential energy", "eV", "member", 0, ""),
        ("total_energy", "total energy", "eV", "member", 0, ""),
        ("heat_capacity", "heat capacity", "kB/atom", "member", 0, ""),
        ("volume", "volume", "Å^3", "plain", 0, ""),
        ("density", "density", "g/cm^3", "plain", 0, ""),
        ("rdf O-H", "g(r) O-H", "", "plain", 120, "r / Å"),
        ("rdf O-O r_max=2.4 bins=7", "g(r) O-O", "", "plain", 7, "r / Å"),
        ("coordination O-H 2.4", "coordination O-H", "", "plain", 0, ""),
        ("angle H-O-H 1.3", "angle H-O-H", "1/degree", "plain", 90, "angle / degree"),
        ("hydrogen_bonds angle=20 r=3.2", "hydrogen bonds donated per O", "", "plain", 0, ""),
        ("free_energy distance 0 1 0.5..2", "free energy of distance 0-1", "eV", "plain", 50, "distance 0-1 / Å"),
        ("free_energy distance O-H 0.5..2 bins=9", "free energy of distance O-H", "eV", "plain", 9, "distance O-H / Å"),
        ("free_energy angle 1 0 2 60..180", "free energy of angle 1-0-2", "eV", "plain", 50, "angle 1-0-2 / degree"),
        (
            "free_energy coordination 0 H 1.4 0..3",
            "free energy of coordination 0-H", "eV", "plain", 50, "coordination 0-H",
        ),
        (
            "free_energy_difference distance_difference 0 1 2 -1..0 0..1",
            "free-energy difference of distance difference 0-1-2", "eV", "plain", 0, "",
        ),
    ],
)  # fmt: skip
def test_what_an_observable_is(text: str, name: str, unit: str, kind: str, points: int, grid_name: str) -> None:
    found = parse(f"  {text.replace(' ', '   ')}\t")
    assert (found.text, found.name, found.unit, found.kind) == (text, name, unit, kind)
    assert (0 if found.grid is None else len(found.grid), found.grid_name) == (points, grid_name)
    atoms = ice().repeat(2)
    atoms.set_momenta(np.ones((len(atoms), 3)))
    parts = found.parts(frame(atoms, [1.0, 2.0, 3.0]))
    assert parts.dtype == float
    assert parts.ndim == (2 if kind == "member" else 1)
    several = np.moveaxis(parts, 0, -1) if kind == "member" else np.broadcast_to(parts, (4, 3, len(parts)))
    assert found.finish(several).shape == (*several.shape[:-1], max(points, 1))


def test_grids_are_the_middles_of_bins() -> None:
    np.testing.assert_allclose(parse("rdf O-O r_max=4 bins=4").grid, [0.5, 1.5, 2.5, 3.5])
    np.testing.assert_allclose(parse("free_energy distance_difference 0 1 2 -1..1 bins=2").grid, [-0.5, 0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^an observable is empty: expected one of potential_energy, total_energy, .*, dipole$"),
        ("rfd O-O", r"^unknown observable 'rfd': expected one of .*, dipole; did you mean rdf\?$"),
        ("Volume", r"unknown observable 'Volume': .*; did you mean volume\?$"),
        ("dipol", r"unknown observable 'dipol': .*; did you mean dipole\?$"),
        ("zzz", r"unknown observable 'zzz': expected one of .*, dipole$"),
        ("volume 3", r"^volume 3: '3' is a word too many: expected `volume`$"),
        ("dipole 3", r"^dipole 3: '3' is a word too many: expected `dipole`$"),
        ("volume bins=3", r"unknown option bins: expected `volume`$"),
        ("rdf", r"^rdf: species is missing: expected `rdf A-B \[r_max=6\] \[bins=120\]`$"),
        ("rdf O", r"O names 1 species where 2 are meant"),
        ("rdf O-H-O", r"O-H-O names 3 species where 2 are meant"),
        ("rdf o-H", r"'o' in 'o-H' is not the symbol of an element; did you mean O\?"),
        ("rdf O-", r"'' in 'O-' is not the symbol of an element"),
        ("rdf X-O", r"'X' in 'X-O' is not the symbol of an element"),
        ("rdf O-O rmax=5", r"unknown option rmax; did you mean r_max\?"),
        ("rdf O-O r_max=5 r_max=6", r"r_max is given more than once"),
        ("rdf O-O r_max=", r"r_max = '' is not a positive number"),
        ("rdf O-O r_max=-1", r"r_max = '-1' is not a positive number"),
        ("rdf O-O r_max=nan", r"r_max = 'nan' is not a positive number"),
        ("rdf O-O bins=0", r"bins = '0' is not a whole number from 1 to 100000"),
        ("rdf O-O bins=1.5", r"bins = '1.5' is not a whole number"),
        ("coordination O-H", r"r is missing: expected `coordination A-B r`"),
        ("coordination O-H inf", r"r = 'inf' is not a positive number"),
        ("free_energy", r"the collective variable is missing: expected `free_energy CV min..max \[bins=50\]`"),
        (
            "free_energy distanc 0 1 1..2",
            r"unknown collective variable 'distanc', known are .*; did you mean distance\?",
        ),
        ("free_energy distance 0 -1 1..2", r"'-1' is not the index of an atom \(0, 1, 2, ...\)"),
        ("free_energy distance 0 1..2", r"'1..2' is not the index of an atom"),
        ("free_energy distance 1 1 1..2", r"atoms 1 1 are not all different"),
        ("free_energy distance 0 1", r"a range is missing"),
        ("free_energy distance 0 1 1-2", r"the range '1-2' is not two numbers with .. between them"),
        ("free_energy distance 0 1 1..inf", r"the range '1..inf' is not two numbers"),
        ("free_energy distance 0 1 2..1", r"the range '2..1' is empty, write the smaller number first"),
        ("free_energy coordination 0 H-H 1 0..1", r"H-H names 2 species where 1 are meant"),
        (
            "free_energy_difference distance 0 1 1..2",
            r"a range is missing: expected `free_energy_difference CV a..b c..d`",
        ),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ObservableError, match=message) as caught:
        parse(text, {"dipole": SimpleNamespace(function=len, unit="", committee=False)})
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, AlflowError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "atoms", "message"),
    [
        ("rdf O-Na r_max=2", ice(), "^rdf O-Na r_max=2: no Na in O8H16: expected at least one; name a species of"),
        ("coordination Na-O 3", ice(), "no Na in"),
        ("angle O-Na-O 3", ice(), "no Na in"),
        ("hydrogen_bonds", bulk("Si"), "no O in"),
        ("free_energy distance O-Na 1..2", ice(), "no Na in"),
        ("rdf O-O", ice(), "r_max = 6 Å: expected less than half of the smallest height of the cell, 3.175 Å"),
        ("rdf O-O r_max=3.175", ice(), "expected less than half"),
        ("rdf O-O r_max=2.5", Atoms("O", cell=TILTED, pbc=True), r"height of the cell, 2.155 Å"),
        ("rdf O-O r_max=2", Atoms("O", cell=TILTED, pbc=True), "there is a single O: expected two or more for a pair"),
        ("rdf O-H", WATER, r"it needs a structure that is periodic in three directions, found pbc = \[False, "),
        ("volume", WATER, "it needs a structure that is periodic"),
        ("density", Atoms("O", cell=TILTED, pbc=(1, 1, 0)), "it needs a structure that is periodic"),
        ("heat_capacity", WATER, "^heat_capacity: it needs a structure that is periodic"),
        ("volume", Atoms("O", cell=[1, 1, 0], pbc=True), "of a periodic structure has no volume: correct it"),
        ("coordination H-O 1", Atoms("OH", cell=[[1, 0, 0], [1, 0, 0], [0, 0, 0]], pbc=(1, 1, 0)), "has no volume"),
        ("coordination H-O 900", ice(), r"900 Å is far larger than the cell, \[6.35, 6.35, 6.35\] Å between its"),
        ("total_energy", WATER, "^total_energy: the structures have no momenta: expected those of the run; ask for"),
        ("free_energy distance 0 3 1..2", WATER, "there is no atom 3: expected indices from 0 to 2"),
        ("free_energy angle 0 1 5 1..2", WATER, "there is no atom 5"),
        ("free_energy coordination 7 H 1 1..2", WATER, "there is no atom 7"),
        ("free_energy distance_difference 0 1 4 1..2", WATER, "there is no atom 4"),
        ("free_energy coordination 0 O 1 1..2", WATER, "there is no O but atom 0: expected another"),
        ("free_energy distance O-O 1..2", WATER, "there is a single O"),
    ],
)  # fmt: skip
def test_frames_without_a_value(text: str, atoms: Atoms, message: str) -> None:
    observable = parse(text)
    with pytest.raises(ObservableError, match=message) as caught:
        observable.parts(frame(atoms, pressure=0.01))
    assert str(caught.value).startswith(f"{text}: ")


def test_importing_it_does_not_import_freud() -> None:
    code = "import sys, alflow.averages.observables; print('freud' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# Geometry


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    cutoff=st.floats(0.5, 7.0),
    handed=st.sampled_from([1.0, -1.0]),
)
def test_neighbours_are_those_counted_image_by_image(seed: int, pbc: tuple[bool], cutoff: float, handed: float) -> None:
    rng = np.random.default_rng(seed)
    atoms = random_atoms(seed, 6, pbc=pbc, cell=handed * TILTED + rng.normal(scale=0.4, size=(3, 3)))
    expected = brute(atoms, cutoff)
    found = neighbours(atoms, np.arange(6), np.arange(6), cutoff)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), found.distances, rtol=1e-5)
    assert (np.diff(found.i) >= 0).all()
    if min((abs(d - cutoff) for *_, d in brute(atoms, cutoff + 0.1)), default=1) < 1e-4:
        return  # single precision may decide either way
    pairs = sorted(zip(found.i.tolist(), found.j.tolist(), found.distances.tolist(), strict=True))
    assert [pair[:2] for pair in pairs] == [pair[:2] for pair in expected]
    np.testing.assert_allclose([p[2] for p in pairs], [p[2] for p in expected], rtol=3e-5)


def test_neighbours_of_some_atoms_among_others() -> None:
    atoms = random_atoms(3)
    some, others = np.array([0, 3, 4, 9]), np.array([1, 3, 5, 6, 10])
    found = neighbours(atoms, some, others, 4.0)
    expected = [pair[:2] for pair in brute(atoms, 4.0) if pair[0] in some and pair[1] in others]
    assert sorted(zip(found.i.tolist(), found.j.tolist(), strict=True)) == expected


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_separations_are_those_of_nearest_images(seed: int, pbc: tuple[bool]) -> None:
    atoms = random_atoms(seed, 6, pbc=pbc)
    found = np.linalg.norm(separations(atoms, 0, np.arange(1, 6)), axis=1)
    nearest = {j: d for i, j, d in reversed(brute(atoms, np.inf)) if i == 0}
    np.testing.assert_allclose(found, [nearest[j] for j in range(1, 6)], rtol=1e-10)
    if all(pbc):  # else ASE may miss the nearest: it heeds vectors of directions that are not periodic
        np.testing.assert_allclose(found, atoms.get_distances(0, np.arange(1, 6), mic=True), rtol=1e-10)


def test_pairs_with_the_same_centre() -> None:
    p, q = same_centre(np.array([5, 2, 2, 9]), np.array([2, 2, 3, 5]))
    assert list(zip(p.tolist(), q.tolist(), strict=True)) == [(0, 3), (1, 0), (1, 1), (2, 0), (2, 1)]


@given(st.floats(0, 180))
def test_angles_are_precise_everywhere(angle: float) -> None:
    x = np.radians(angle)
    assert angles(np.array([[2.0, 0, 0]]), np.array([[np.cos(x), np.sin(x), 0]])) == pytest.approx(angle, abs=1e-13)


@settings(max_examples=20, deadline=None, derandomize=True)  # in single precision a pair may cross a cutoff
@given(seed=st.integers(0, 2**32 - 1))
def test_nothing_depends_on_orientation_origin_images_or_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = random_atoms(seed, 12, cell=1.4 * TILTED)
    turned = atoms.copy()
    turned.rotate(rng.uniform(0, 360), rng.normal(size=3), rotate_cell=True)
    turned.positions += rng.normal(scale=5, size=3) + rng.integers(-3, 4, size=(12, 3)) @ turned.cell.array
    shuffled = turned[np.concatenate([[0, 1, 2], 3 + rng.permutation(9)])]
    for text in (
        "coordination O-H 3", "angle H-O-H 3 bins=3", "angle O-H-H 3 bins=3", "hydrogen_bonds angle=60",
        "rdf H-O r_max=2.9 bins=3", "rdf H-H r_max=2.9 bins=3", "free_energy distance 0 1 0..4 bins=2",
        "free_energy angle 0 1 2 0..181 bins=2", "free_energy coordination 0 H 2 0..3 bins=2",
        "free_energy distance_difference 0 1 2 -4..4 bins=2", "free_energy distance O-H 0..4 bins=3", "density",
    ):  # fmt: skip
        np.testing.assert_allclose(parse(text).parts(frame(shuffled)), parse(text).parts(frame(atoms)), rtol=1e-5)


# Structure


@pytest.mark.parametrize("pair", ["O-O", "O-H", "H-O"])
def test_the_pair_distribution_of_an_ideal_gas_is_one(pair: str) -> None:
    gas = [random_atoms(seed, 12, cell=1.5 * TILTED) for seed in range(3000)]  # 4 O, of which (N - 1)/N = 0.75
    g = value(f"rdf {pair} r_max=3 bins=3", *gas)
    pairs = 3000 * (6 if pair == "O-O" else 32) * 4 / 3 * np.pi * np.diff(np.arange(4.0) ** 3) / gas[0].get_volume()
    np.testing.assert_allclose(g, 1.0, atol=4 / np.sqrt(pairs.min()))
    assert np.abs(g[2] - 1.0) < 4 / np.sqrt(pairs[2])


@pytest.mark.parametrize(("pair", "n_pairs"), [("O-O", 4 * 3), ("O-H", 4 * 8), ("H-O", 8 * 4)])
def test_the_pair_distribution_is_pairs_over_those_of_a_uniform_density(pair: str, n_pairs: int) -> None:
    atoms = random_atoms(1, 12, cell=1.5 * TILTED)
    a, b = pair.split("-")
    found = [d for i, j, d in brute(atoms, 3.0, 2) if atoms.symbols[i] == a and atoms.symbols[j] == b]
    counts, edges = np.histogram(found, 6, (0.0, 3.0))
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    expected = counts / shells / (n_pairs / atoms.get_volume())
    np.testing.assert_allclose(value(f"rdf {pair} r_max=3 bins=6", atoms), expected, rtol=1e-5)


@pytest.mark.parametrize("cubic", [True, False])
def test_coordination_of_lattices(cubic: bool) -> None:
    copper, silicon = bulk("Cu", "fcc", a=3.6, cubic=cubic), bulk("Si", "diamond", a=5.43, cubic=cubic)
    assert value("coordination Cu-Cu 3.0", copper) == 12
    assert value("coordination Cu-Cu 3.7", copper) == 18
    assert value("coordination Si-Si 2.6", silicon) == 4
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=cubic)
    assert value("coordination Na-Cl 3.0", salt) == 6
    assert value("coordination Na-Na 3.0", salt) == 0


def test_coordination_is_per_atom_of_the_first_species() -> None:
    assert value("coordination O-H 1.2", WATER) == 2
    assert value("coordination H-O 1.2", WATER) == 1
    assert value("coordination O-H 0.965", WATER, ice()) == 0


def test_angles_between_bonds_of_lattices() -> None:
    p = value("angle Si-Si-Si 2.6 bins=180", bulk("Si", "diamond", a=5.43))
    assert p[109] == pytest.approx(1.0)  # 109.47 degrees
    assert p.sum() == pytest.approx(1.0)
    p = value("angle Cu-Cu-Cu 3.0 bins=36", bulk("Cu", "fcc", a=3.6))  # 5 degrees a bin, whose edges are the angles
    around = [p[place - 1 : place + 1].sum() * 5 for place in (12, 18, 24, 36)]
    np.testing.assert_allclose(around, np.array([24, 12, 24, 6]) / 66)  # 60, 90, 120, 180 degrees


def test_angles_count_each_pair_of_bonds_once() -> None:
    parts = parse("angle H-O-H 1.2 bins=18").parts(frame(WATER))
    assert parts.sum() == 1
    assert parts[np.radians(WATER.get_angle(1, 0, 2)) // np.radians(10) == np.arange(18)] == 1
    assert parse("angle O-O-H 3.0").parts(frame(ice())).sum() == 8 * 4 * 2 + 8 * 4 * 2  # own H, and those at 1.78 Å
    assert parse("angle H-O-H 1.2").parts(frame(ice())).sum() == 8


def test_angles_where_there_are_none() -> None:
    assert np.isnan(value("angle H-O-H 0.5", WATER)).all()


@pytest.mark.parametrize("repeat", [1, 2])
def test_in_ice_every_molecule_donates_two_hydrogen_bonds(repeat: int) -> None:
    structure = ice().repeat(repeat)
    assert value("coordination O-O 3.0", structure) == 4
    assert value("hydrogen_bonds", structure) == 2
    assert value("hydrogen_bonds r=2.7", structure) == 0
    assert value("hydrogen_bonds r=4.6 angle=30", structure) == 2
    turned = structure.copy()
    turned.positions[turned.numbers == 1] += [0.0, 0.0, 0.4]
    assert value("hydrogen_bonds angle=10", turned) < 2


def dimer(angle: float, distance: float = 2.9) -> Atoms:
    """Two water molecules, the first donates a bond at this angle."""
    donor, acceptor = WATER.copy(), WATER.copy()
    donor.rotate(angle, "z")
    acceptor.rotate(60, "y")
    acceptor.positions += [distance, 0, 0]
    return donor + acceptor


@pytest.mark.parametrize(
    ("angle", "distance", "bonds"), [(0, 2.9, 1), (29.5, 2.9, 1), (30.5, 2.9, 0), (0, 3.45, 1), (0, 3.55, 0)]
)
def test_the_criterion_of_luzar_and_chandler(angle: float, distance: float, bonds: int) -> None:
    assert value("hydrogen_bonds", dimer(angle, distance)) * 2 == bonds


def test_hydrogen_of_carbon_donates_nothing() -> None:
    methane = molecule("CH4")
    towards = methane.positions[1] / np.linalg.norm(methane.positions[1])
    oxygen = Atoms("O2", [methane.positions[1] + 1.9 * towards, methane.positions[1] - 1.5 * towards])
    assert value("hydrogen_bonds r=4 angle=60", methane + oxygen) == 0
    assert value("hydrogen_bonds r=4 angle=60", methane[1:2] + oxygen) == 0.5


# Energies, volume


def test_energies_belong_to_members() -> None:
    atoms = WATER.copy()
    atoms.set_velocities(np.full((3, 3), 0.01))
    given = frame(atoms, [-1.0, 2.0])
    np.testing.assert_array_equal(parse("potential_energy").parts(given), [[-1.0, 2.0]])
    kinetic = 0.5 * atoms.get_masses().sum() * 3e-4
    np.testing.assert_allclose(parse("total_energy").parts(given), [[kinetic - 1.0, kinetic + 2.0]])


def test_volume_and_density_of_copper() -> None:
    copper = bulk("Cu", "fcc", a=3.615)
    assert value("volume", copper) == pytest.approx(3.615**3 / 4)
    assert value("density", copper) == pytest.approx(63.546 / 6.02214076e23 / (3.615e-8**3 / 4), rel=1e-6)


def test_heat_capacity_of_a_harmonic_crystal_is_three_per_atom() -> None:
    n = 10
    copper = bulk("Cu").repeat((n, 1, 1))
    rng = np.random.default_rng(0)
    energies = -1e4 + KT * rng.gamma(1.5 * n, size=(40_000, 2))  # 3 n modes, each a chi squared
    observable = parse("heat_capacity")
    parts = np.array([observable.parts(frame(copper, row)) for row in energies])
    found = observable.finish((parts[0] + np.mean(parts - parts[0], axis=0)).T)
    assert found.shape == (2, 1)
    np.testing.assert_allclose(found[:, 0], np.var(energies, axis=0) / (n * KT**2) + 1.5, rtol=1e-5)
    np.testing.assert_allclose(found, 3.0, rtol=0.03)


def test_heat_capacity_of_an_ideal_gas_at_constant_pressure() -> None:
    n, pressure = 20, 1e-3
    rng = np.random.default_rng(0)
    volumes = rng.gamma(n + 1, size=20_000) * KT / pressure  # p(V) ~ V^n exp(-pV/kT)
    gas = Atoms(f"He{n}", pbc=True)
    parts = []
    for volume in volumes:
        gas.set_cell([volume ** (1 / 3)] * 3)
        parts.append(parse("heat_capacity").parts(frame(gas, [-7.0], pressure)))
    assert parse("heat_capacity").finish(np.mean(parts, axis=0).T) == pytest.approx(1.5 + (n + 1) / n, rel=0.03)


@given(st.floats(-1e3, 1e3))
def test_heat_capacity_from_a_cumulant_expansion_needs_no_origin(shift: float) -> None:
    rng = np.random.default_rng(0)
    h = rng.normal(size=50)
    x = 0.3 * h + rng.normal(size=50)

    def expanded(energies: np.ndarray) -> np.ndarray:
        parts = np.array([parse("heat_capacity").parts(frame(WATER, [e]))[:, 0] for e in energies])
        return parse("heat_capacity").finish(parts.mean(axis=0) - np.cov(parts.T, h, ddof=0)[:3, 3])

    np.testing.assert_allclose(expanded(x + shift), expanded(x), rtol=1e-6)


# Free energies


def bonds(mean: float, stiffness: float, n: int = 20_000) -> list[Atoms]:
    """Two atoms on a spring that is stretched along one direction only."""
    lengths = np.random.default_rng(0).normal(mean, np.sqrt(KT / stiffness), size=n)
    return [Atoms("OH", [[0, 0, 0], [length, 0, 0]]) for length in lengths]


def test_free_energy_of_a_harmonic_bond() -> None:
    k, d0 = 3.0, 1.5
    observable = parse("free_energy distance 0 1 1.1..1.9 bins=20")
    found = value(observable.text, *bonds(d0, k))
    inside = np.diff(norm.cdf([1.1, 1.9], d0, np.sqrt(KT / k)))[0]
    expected = 0.5 * k * (observable.grid - d0) ** 2 + 0.5 * KT * np.log(2 * np.pi * KT / k) + KT * np.log(inside)
    middle = np.abs(observable.grid - d0) < 0.2
    np.testing.assert_allclose(found[middle], expected[middle], atol=0.1 * KT)
    p = np.exp(-found / KT)
    assert np.nansum(p) * 0.04 == pytest.approx(1.0)


def test_free_energy_difference_of_a_harmonic_bond() -> None:
    k, d0 = 3.0, 1.5
    cdf = norm(d0, np.sqrt(KT / k)).cdf
    expected = -KT * np.log((cdf(1.9) - cdf(1.6)) / (cdf(1.55) - cdf(1.2)))
    found = value("free_energy_difference distance 0 1 1.2..1.55 1.6..1.9", *bonds(d0, k))
    assert found == pytest.approx(expected, abs=0.05 * KT)


def test_what_was_never_visited_has_no_free_energy() -> None:
    assert np.isnan(value("free_energy distance 0 1 0..2 bins=4", WATER)).tolist() == [True, False, True, True]
    assert value("free_energy distance 0 1 0..2 bins=4", WATER)[1] == pytest.approx(-KT * np.log(1 / 0.5))
    assert np.isnan(value("free_energy distance 0 1 3..4", WATER)).all()
    assert np.isnan(value("free_energy distance H-O -2..-1", WATER)).all()
    for ranges in ("0..0.5 0.9..1", "0.9..1 0..0.5", "3..4 5..6"):
        assert np.isnan(value(f"free_energy_difference distance 0 1 {ranges}", WATER)).all()
    negative = np.array([[-0.1, 1.1, KT], [0.5, 0.5, KT]])  # as a cumulant expansion may have it
    found = parse("free_energy distance 0 1 0..2 bins=2").finish(negative)
    assert np.isnan(found).tolist() == [[True, False], [False, False]]
    assert np.isnan(parse("free_energy_difference distance 0 1 0..1 1..2").finish(negative)).tolist() == [
        [True],
        [False],
    ]


def test_ranges_hold_their_lower_end_only() -> None:
    atoms = Atoms("OH", [[0, 0, 0], [1.0, 0, 0]])
    assert parse("free_energy_difference distance 0 1 0.5..1 1..2").parts(frame(atoms))[:2].tolist() == [0, 1]
    assert parse("free_energy distance 0 1 0.5..1.5 bins=2").parts(frame(atoms))[:2].tolist() == [0, 1]
    assert parse("free_energy distance 0 1 0.5..1 bins=2").parts(frame(atoms))[:2].tolist() == [0, 0]
    assert parse("free_energy distance O-H 0.5..1 bins=2").parts(frame(atoms))[:2].tolist() == [0, 0]


def counted(variable: str, atoms: Atoms, low: float, high: float) -> np.ndarray:
    """The values of a variable to 1e-4 of the range, from a fine histogram."""
    observable = parse(f"free_energy {variable} {low}..{high} bins=10000")
    return np.repeat(observable.grid, observable.parts(frame(atoms))[:-1].astype(int))


@pytest.mark.parametrize("seed", range(3))
def test_collective_variables_are_those_of_ase(seed: int) -> None:
    atoms = random_atoms(seed)

    def d(i: int, j: int) -> float:
        return atoms.get_distance(i, j, mic=True)

    assert counted("distance 0 5", atoms, 0, 10) == pytest.approx(d(0, 5), abs=1e-3)
    assert counted("angle 3 0 5", atoms, 0, 180) == pytest.approx(atoms.get_angle(3, 0, 5, mic=True), abs=2e-2)
    assert counted("distance_difference 3 0 5", atoms, -10, 10) == pytest.approx(d(3, 0) - d(0, 5), abs=2e-3)
    hydrogens = np.flatnonzero(atoms.numbers == 1)
    x = np.array([d(1, j) / 1.7 for j in hydrogens if j != 1])
    expected = np.sum((1 - x**6) / (1 - x**12))
    assert counted("coordination 1 H 1.7", atoms, 0, 10) == pytest.approx(expected, abs=1e-3)
    pairs = sorted(d(i, j) for i in range(0, 12, 3) for j in hydrogens)
    np.testing.assert_allclose(counted("distance O-H", atoms, 0, 10), pairs, atol=1e-3)
    pairs = sorted(d(i, j) for i, j in itertools.permutations(range(0, 12, 3), 2))
    np.testing.assert_allclose(counted("distance O-O", atoms, 0, 10), pairs, atol=1e-3)


def test_a_neighbour_at_r0_counts_half() -> None:
    atoms = Atoms("OH", [[0, 0, 0], [1.0, 0, 0]])
    assert counted("coordination 0 H 1", atoms, 0, 1) == pytest.approx(0.5, abs=1e-4)


# Functions of the user's own


def own(function: object, *, committee: bool = False) -> SimpleNamespace:
    return SimpleNamespace(function=function, unit="e Å", committee=committee)


@pytest.mark.parametrize(
    ("returned", "committee", "expected"),
    [
        (3, False, [3.0]),
        (np.float32(2.5), False, [2.5]),
        ([1, 2], False, [1.0, 2.0]),
        (np.arange(6).reshape(2, 3), False, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        ([1.0, 2.0], True, [[1.0, 2.0]]),
        (np.arange(6).reshape(3, 2), True, [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]),
    ],
)
def test_what_a_function_returns_is_averaged(returned: object, committee: bool, expected: list[float]) -> None:
    observable = parse("dipole", {"dipole": own(lambda atoms: returned, committee=committee)})
    assert (observable.text, observable.name, observable.unit, observable.grid) == ("dipole", "dipole", "e Å", None)
    assert observable.kind == ("committee" if committee else "plain")
    parts = observable.parts(frame(WATER))
    np.testing.assert_array_equal(parts, expected)
    assert parts.dtype == float
    np.testing.assert_array_equal(observable.finish(parts), parts)


def test_a_function_cannot_change_the_structure() -> None:
    def damage(atoms: Atoms) -> float:
        atoms.positions[:] = 0.0
        return float(len(atoms))

    atoms = WATER.copy()
    assert parse("damage", {"damage": own(damage)}).parts(frame(atoms)) == [3.0]
    np.testing.assert_array_equal(atoms.positions, WATER.positions)


def raises(atoms: Atoms) -> float:
    msg = "no charges"
    raise KeyError(msg)


@pytest.mark.parametrize(
    ("function", "committee", "message"),
    [
        (raises, False, r"^mine: the function raised KeyError: 'no charges'$"),
        (lambda atoms: np.nan, False, r"^mine: the function returned nan: expected finite numbers$"),
        (lambda atoms: [1.0, -np.inf], False, "returned -inf: expected finite numbers"),
        (lambda atoms: "five", False, "returned str 'five': expected a number or an array of numbers"),
        (lambda atoms: None, False, "returned NoneType 'None': expected a number"),
        (lambda atoms: 1j, False, "returned complex '1j': expected a number"),
        (lambda atoms: [], False, r"returned list '\[\]': expected a number"),
        (lambda atoms: [[1.0], [1.0, 2.0]], False, "returned no array .*: expected a number or an array of numbers"),
        (lambda atoms: 1.0, True, r"returned shape \(\): expected two or more models along the first axis"),
        (lambda atoms: [1.0], True, r"returned shape \(1,\): expected two or more models"),
    ],
)
def test_what_a_function_must_not_do(function: object, committee: bool, message: str) -> None:
    observable = parse("mine", {"mine": own(function, committee=committee)})
    with pytest.raises(ObservableError, match=message):
        observable.parts(frame(WATER))


def test_a_function_must_return_one_shape() -> None:
    observable = parse("mine", {"mine": own(lambda atoms: atoms.positions[:, 0])})
    observable.parts(frame(WATER))
    with pytest.raises(ObservableError, match=r"^mine: .* shape \(2,\), and before \(3,\): expected one shape always$"):
        observable.parts(frame(WATER[:2]))


def test_the_traceback_of_a_function_is_kept() -> None:
    with pytest.raises(ObservableError) as caught:
        parse("mine", {"mine": own(raises)}).parts(frame(WATER))
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_means_one_thing(kind: str) -> None:
    with pytest.raises(ObservableError, match=f"^{kind}: {kind} is an observable that alflow has, and one of yours"):
        parse(kind, {kind: own(len)})
