"""Structures that are labelled already: found in any order and image, and not found with a reason."""

import copy
import pickle
import re
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.data.formats.by_ase import entry
from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import as_lists
from alflow.reference.kinds import build
from alflow.reference.method import labelled
from ase import Atoms
from ase.build import bulk, molecule


def water(seed: int) -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=seed)
    return atoms


def salt(seed: int) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64) * (2, 2, 1)
    atoms.rattle(0.05, seed=seed)
    return atoms


def label(atoms: Atoms, seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    stress = {"stress": rng.normal(size=6)} if atoms.pbc.all() else {}
    return labelled(atoms, energy=float(rng.normal()), forces=rng.normal(size=(len(atoms), 3)), **stress)


@pytest.fixture
def frames() -> list[Atoms]:
    return [label(make(seed), seed) for make in (water, salt) for seed in range(10)]


@pytest.fixture
def file(frames, tmp_path) -> Path:
    path = tmp_path / "labelled.xyz"
    ase.io.write(path, frames, format="extxyz")
    return path


def test_every_structure_is_found(frames, file) -> None:
    method = build("dataset", file=str(file))
    method.check()
    for i, frame in enumerate(frames):
        bare = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        found = method.calculate(bare)
        assert found.log.startswith(f"structure {i} of ")
        assert found.frame.get_potential_energy() == pytest.approx(frame.get_potential_energy(), abs=1e-7)
        np.testing.assert_allclose(found.frame.get_forces(), frame.get_forces(), atol=1e-7)
        assert ("stress" in found.frame.calc.results) == bool(frame.pbc.all())
        if frame.pbc.all():
            np.testing.assert_allclose(found.frame.get_stress(), frame.get_stress(), atol=1e-7)
    assert found.code == "data set labelled.xyz"


def test_order_and_image_do_not_matter(frames, file) -> None:
    """Forces come back in the order of the structure that was asked for."""
    rng = np.random.default_rng(0)
    for frame in (frames[3], frames[13]):
        order = rng.permutation(len(frame))
        shifts = rng.integers(-3, 4, size=(len(frame), 3)) * frame.pbc
        asked = Atoms(
            frame.numbers[order], (frame.positions + shifts @ frame.cell)[order], cell=frame.cell, pbc=frame.pbc
        )
        found = build("dataset", file=str(file)).calculate(asked).frame
        np.testing.assert_allclose(found.get_forces(), frame.get_forces()[order], atol=1e-7)
        np.testing.assert_array_equal(found.positions, asked.positions)


def test_the_tolerance_decides(file) -> None:
    moved = water(3)
    moved.positions[1, 2] += 0.01
    strained = salt(3)
    strained.set_cell(strained.cell + np.diag([0.02, 0, 0]), scale_atoms=True)
    for atoms, text in (
        (moved, r"no_output: .*labelled.xyz has no such H2O: the nearest, structure 3, has an atom 0.01 Å away, more"),
        (strained, r"has no Cl4Na4 with this cell: the nearest, structure 1\d, differs by 0.02 Å, more than the tol"),
        (molecule("CH4"), r"labelled.xyz has no CH4 with pbc = \[False, False, False\]"),
        (bulk("Cu"), r"labelled.xyz has no Cu with pbc = \[True, True, True\]"),
    ):
        with pytest.raises(LabelError, match=text):
            build("dataset", file=str(file)).calculate(atoms)
    assert build("dataset", file=str(file), tolerance=0.02).calculate(moved).log.startswith("structure 3 ")


def test_atoms_of_other_species_do_not_match(file) -> None:
    swapped = salt(3)
    swapped.numbers[[0, 1]] = swapped.numbers[[1, 0]]
    with pytest.raises(LabelError, match=r"has no such Cl4Na4: the nearest, structure 1\d, has an atom [1-4]\.?\d* Å"):
        build("dataset", file=str(file)).calculate(swapped)


def test_charge_and_multiplicity_must_agree(tmp_path) -> None:
    frames = [label(water(1), seed) for seed in range(3)]
    frames[0].info, frames[1].info = {"charge": 0, "multiplicity": 1}, {"charge": 1, "multiplicity": 2}
    frames[2].positions[0, 0] += 1
    frames[2].info = {"charge": -1}
    ase.io.write(tmp_path / "ions.xyz", frames, format="extxyz")
    method = build("dataset", file=str(tmp_path / "ions.xyz"))
    for i in (0, 1):
        asked = water(1)
        asked.info = dict(frames[i].info)
        found = method.calculate(asked).frame
        assert found.get_potential_energy() == pytest.approx(frames[i].get_potential_energy())
        assert found.info == frames[i].info
    other = water(1)
    other.info = {"charge": -1}
    with pytest.raises(LabelError, match=r"no_output: .* has the structure with charge 0: expected -1"):
        method.calculate(other)


def test_what_the_file_says_is_kept(tmp_path) -> None:
    frame = label(water(1), 1)
    frame.info = {"code": "CP2K 2024.1", "fermi_energy": -3.0, "eigenvalues": [[-20.0, -3.0], [-19.0, -2.0]]}
    ase.io.write(tmp_path / "one.xyz", frame, format="extxyz")
    found = build("dataset", file=str(tmp_path / "one.xyz")).calculate(water(1))
    assert found.code == "CP2K 2024.1"
    assert as_lists(found.electrons) == {"fermi_energy": -3.0, "eigenvalues": [[-20.0, -3.0], [-19.0, -2.0]]}


def test_properties_are_in_the_order_of_the_structure(tmp_path) -> None:
    frame = label(water(1), 1)
    frame.calc.results |= {"charges": np.array([-0.6, 0.2, 0.4]), "dipole": np.array([0.0, 0.5, 1.0])}
    ase.io.write(tmp_path / "one.traj", frame)
    found = build("dataset", file=str(tmp_path / "one.traj")).calculate(water(1)[[2, 0, 1]])
    assert found.atom_properties["charges"].tolist() == [0.4, -0.6, 0.2]
    assert found.properties["dipole"].tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"forces": np.zeros((3, 2))},
            r"no_output: forces: .* found shape \(3, 2\) in structure 0 of .*one.traj, co",
        ),
        ({"forces": np.zeros(2)}, r"no_output: forces: .* found shape \(2,\) in structure 0 of "),
        ({"forces": np.full((3, 3), 1j)}, r"no_output: forces: expected real numbers, found complex numbers: "),
        ({"energy": "low"}, r"no_output: energy: expected real numbers, found no numbers: 'low' in structure 0 of "),
        (
            {"energy": -1e12},
            r"no_output: energy: expected at most 1e\+08 eV/atom, found 3.33e\+11: look at the un",
        ),
        ({"energy": np.nan}, r"not_finite: energy: 1 of 1 values are not finite in structure 0 of "),
    ],
)
def test_what_is_no_label_fails_where_it_is_looked_up(change: dict, text: str, tmp_path, monkeypatch) -> None:
    """The other structures of the file are as good as ever."""
    frames = [label(water(seed), seed) for seed in (1, 2)]
    frames[0].calc.results |= change
    (tmp_path / "one.traj").write_text("read by what stands in for ASE, which would refuse to write this")
    monkeypatch.setattr("alflow.data.reading.entries", lambda *_: map(entry, copy.deepcopy(frames)))
    method = build("dataset", file=str(tmp_path / "one.traj"))
    message = text.partition(": ")[2]
    method.check()
    assert re.search(
        f"one.traj frame 0 is left out: {message.partition(' in structure')[0]}", method.labels().remarks()[0]
    )
    with pytest.raises(LabelError, match=f"^{text}"):
        method.calculate(water(1))
    assert method.calculate(water(2)).frame.get_potential_energy() == frames[1].get_potential_energy()


def test_files_are_checked(tmp_path, frames) -> None:
    missing = build("dataset", file=str(tmp_path / "nowhere.xyz"))
    for use in (missing.check, missing.identity):
        with pytest.raises(ConfigError, match=r"nowhere.xyz: No such file or directory: give a file of labelled"):
            use()
    path = tmp_path / "some.xyz"
    ase.io.write(path, [frames[0], water(1)], format="extxyz")
    method = build("dataset", file=str(path))
    method.check()
    (remark,) = method.labels().remarks()
    assert remark.startswith(f"{path} frame 1 is left out: has no energy: expected energy")
    with pytest.raises(LabelError, match=r"no_output: has no energy: expected energy, .* in structure 1 of .*some.xyz"):
        method.calculate(water(1))
    ase.io.write(path, water(1), format="extxyz")
    with pytest.raises(ConfigError, match=r"some.xyz: none of 1 structures can be used .*: frame 0 has no energy"):
        build("dataset", file=str(path)).check()
    path.write_text("magic")
    with pytest.raises(ConfigError, match=r"some.xyz cannot be read"):
        build("dataset", file=str(path)).check()


def test_identity_is_the_content(file, tmp_path, frames) -> None:
    method = build("dataset", file=str(file))
    identity = method.identity()
    copy = tmp_path / "copy.xyz"
    copy.write_bytes(file.read_bytes())
    assert build("dataset", file=str(copy)).identity() == pickle.loads(pickle.dumps(method)).identity() == identity
    ase.io.write(file, frames[:-1], format="extxyz")
    assert method.identity() != identity
    with pytest.raises(LabelError, match="no_output"):
        method.calculate(frames[-1])


def test_a_look_up_is_quick(tmp_path) -> None:
    """Less than 5 ms of a processor among 1000 structures of 100 atoms."""
    frames = []
    for seed in range(1000):
        atoms = bulk("Cu", cubic=True) * (5, 5, 1)
        atoms.rattle(0.05, seed=seed)
        frames.append(labelled(atoms, energy=float(seed), forces=np.zeros((100, 3))))
    ase.io.write(tmp_path / "many.traj", frames)
    method = build("dataset", file=str(tmp_path / "many.traj"))
    method.calculate(frames[0])
    times = []
    for frame in frames[::50]:
        start = time.process_time()
        assert method.calculate(frame).frame.get_potential_energy() == frame.get_potential_energy()
        times.append(time.process_time() - start)
    assert np.median(times) < 0.005, times
