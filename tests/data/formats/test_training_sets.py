"""What is written for other programs comes back to the last digit, and their own readers find the same."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry
from alflow.data.formats.out import VACUUM, species_of
from alflow.data.formats.writers import WRITERS, train_test
from alflow.errors import StructureError
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

VOIGT = [0, 4, 8, 5, 2, 1]


def labelled(atoms: Atoms) -> Atoms:
    emt = EMT()
    names = ["energy", "forces", *(["stress"] if atoms.pbc.all() else [])]
    atoms.calc = SinglePointCalculator(atoms, **{name: emt.get_property(name, atoms) for name in names})
    return atoms


def alloy(seed: int = 1) -> Atoms:
    """Of eight atoms, with no symmetry."""
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.symbols[[1, 4, 6]] = "Ag"
    atoms.rattle(0.1, seed=seed)
    atoms.set_cell(atoms.cell @ [[1.02, 0.01, 0], [0, 0.99, 0.03], [0.01, 0, 1]], scale_atoms=True)
    return labelled(atoms)


def slab() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 2))
    atoms.rattle(0.05, seed=3)
    return labelled(atoms)


def molecule() -> Atoms:
    return labelled(Atoms("CuAgCu", [[0, 0, 0], [2.4, 0.1, 0], [0.3, 2.5, 0.2]]))


def single() -> Atoms:
    atoms = Atoms("Ag")
    atoms.calc = SinglePointCalculator(atoms, energy=-0.1)
    return atoms


def back(name: str, folder: Path, frames: list[Atoms]) -> list[tuple[Atoms, dict[str, Any]]]:
    """Structures and labels after they were written and read."""
    path = folder / f"train{WRITERS[name].ending}"
    WRITERS[name].write(path, frames, ())
    return list(read(path))


def read(path: Path) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    for entry in format_of(path).read(path):
        assert isinstance(entry, Entry)
        atoms, labels = entry.atoms, dict(entry.said)
        labels |= entry.of_atoms
        labels |= {key.removeprefix("REF_"): value for key, value in atoms.info.items() if key.startswith("REF_")}
        labels |= {key: atoms.arrays[column] for key, column in (("forces", "force"), ("forces", "REF_forces"))
                   if column in atoms.arrays}  # fmt: skip
        if "virial" in labels:
            virial = np.asarray(labels["virial"]).ravel()
            labels["virial"] = virial[VOIGT] if virial.size == 9 else virial
        elif "stress" in labels:
            labels["virial"] = -atoms.get_volume() * np.asarray(labels["stress"]).ravel()[VOIGT]
        yield atoms, labels


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_structure_comes_back_to_the_last_digit(name: str, tmp_path: Path) -> None:
    frames = [alloy(1), alloy(2)]
    found = back(name, tmp_path, frames)
    assert len(found) == 2
    for frame, (atoms, labels) in zip(frames, found, strict=True):
        # folders of DeePMD-kit have their atoms in the order of types, Cu before Ag
        order = np.argsort(frame.numbers, kind="stable") if name == "deepmd" else np.arange(len(frame))
        assert atoms.get_chemical_symbols() == [frame.symbols[i] for i in order]
        assert atoms.pbc.all()
        np.testing.assert_array_equal(atoms.positions, frame.positions[order])
        np.testing.assert_array_equal(atoms.cell.array, frame.cell.array)
        np.testing.assert_array_equal(labels["forces"], frame.get_forces()[order])
        assert labels["energy"] == frame.get_potential_energy()
        np.testing.assert_allclose(labels["virial"], -frame.get_volume() * frame.get_stress(), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_the_virial_is_minus_the_derivative_with_strain(name: str, tmp_path: Path) -> None:
    """Its sign and its order, by energies of strained cells alone."""
    frame = alloy()
    ((_, labels),) = back(name, tmp_path, [frame])
    step = 1e-5
    for place, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = frame.copy()
            strained.set_cell(frame.cell.array @ strain, scale_atoms=True)
            energies.append(EMT().get_property("energy", strained))
        derivative = (energies[0] - energies[1]) / (2 * step)
        assert labels["virial"][place] == pytest.approx(-derivative, abs=1e-5)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_molecules_and_slabs(name: str, tmp_path: Path) -> None:
    frames = [molecule(), slab()]
    found = sorted(back(name, tmp_path, frames), key=lambda pair: len(pair[0]))
    (gas, gas_labels), (surface, surface_labels) = found
    assert not gas.pbc.any()
    np.testing.assert_array_equal(np.sort(gas.positions, axis=0), np.sort(frames[0].positions, axis=0))
    assert gas_labels["energy"] == frames[0].get_potential_energy()
    assert surface_labels["energy"] == frames[1].get_potential_energy()
    assert "virial" not in gas_labels
    assert "virial" not in surface_labels
    np.testing.assert_array_equal(surface.cell.array[:2], frames[1].cell.array[:2])
    if name in {"nep", "deepmd"}:  # all directions have images there
        assert surface.pbc.all()
        assert surface.cell.lengths()[2] == pytest.approx(np.ptp(frames[1].positions[:, 2]) + VACUUM)
    else:
        assert list(surface.pbc) == [True, True, False]


def test_numbers_without_exponents(tmp_path: Path) -> None:
    """As motep needs them, whatever their size."""
    frame = alloy()
    frame.calc.results["forces"][0] = [1e-17, -3e-9, 1.2345678901234567e10 / 3]
    frame.calc.results["energy"] = -1e5 / 3
    frame.calc.results["forces"][1] = [0, 1, -1e4]
    frame.calc.results["forces"][0, 2] = 1e5 / 3
    ((_, labels),) = back("mtp", tmp_path, [frame])
    assert not re.search(r"[0-9]e[-+0-9]", (tmp_path / "train.cfg").read_text())
    np.testing.assert_array_equal(labels["forces"], frame.get_forces())
    assert labels["energy"] == -1e5 / 3


def test_types_are_those_that_are_given(tmp_path: Path) -> None:
    """A test set that lacks an element has the types of the training set."""
    copper = labelled(bulk("Cu") * 2)
    for name in ("mtp", "deepmd"):
        path = tmp_path / f"test{WRITERS[name].ending}"
        WRITERS[name].write(path, [copper], ("Ag", "Cu"))
        ((atoms, _),) = read(path)
        assert set(atoms.symbols) == {"Cu"}
    assert " 1 1 " in (tmp_path / "test.cfg").read_text()
    assert (tmp_path / "test" / "Cu8" / "type.raw").read_text() == "1\n" * 8
    with pytest.raises(StructureError, match="structures hold Cu: expected species out of Ag; name all of them"):
        WRITERS["mtp"].write(tmp_path / "other.cfg", [copper], ("Ag",))
    assert species_of([alloy(), copper]) == ("Cu", "Ag")


def test_structures_of_one_composition_share_a_system(tmp_path: Path) -> None:
    other = alloy(2)
    other.symbols = "Ag3Cu5"
    labelled(other)
    bare = alloy(3)
    del bare.calc.results["stress"]
    frames = [alloy(1), other, bare, molecule(), single()]
    found = back("deepmd", tmp_path, frames)
    assert sorted(folder.name for folder in (tmp_path / "train").iterdir()) == [
        "Ag-nopbc", "Ag3Cu5", "Ag3Cu5-no-virial", "AgCu2-nopbc",
    ]  # fmt: skip
    assert sorted(labels["energy"] for _, labels in found) == sorted(f.get_potential_energy() for f in frames)


def test_atoms_that_are_alone(tmp_path: Path) -> None:
    marked = alloy()
    marked.info["config_type"] = "hot liquid"
    boxed, crystal = single(), single()
    boxed.cell, boxed.pbc, crystal.cell, crystal.pbc = [12.0] * 3, True, [3.0] * 3, True
    found = back("mace", tmp_path, [labelled(boxed), marked, molecule(), labelled(crystal)])
    kinds = [atoms.info.get("config_type") for atoms, _ in found]
    assert kinds == ["IsolatedAtom", "hot liquid", None, None]
    np.testing.assert_array_equal(found[0][1]["forces"], [[0, 0, 0]])


def test_mace_finds_its_keys(tmp_path: Path) -> None:
    """It reads by ASE, looks in info and arrays, and takes a stress of nine numbers for a matrix in rows."""
    frame = alloy()
    back("mace", tmp_path, [frame, molecule()])
    crystal, gas = ase.io.read(tmp_path / "train.xyz", index=":")
    assert crystal.info["REF_energy"] == frame.get_potential_energy()
    np.testing.assert_array_equal(crystal.arrays["REF_forces"], frame.get_forces())
    stress = np.asarray(crystal.info["REF_stress"])
    assert stress.size == 9
    np.testing.assert_allclose(stress.reshape(3, 3), frame.get_stress(voigt=False), rtol=1e-13)
    assert "REF_stress" not in gas.info


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_what_has_no_labels_is_refused_and_nothing_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"train{WRITERS[name].ending}"
    bare = bulk("Cu")
    half = bulk("Cu")
    half.calc = SinglePointCalculator(half, energy=1.0)
    wrong = alloy()
    wrong.calc.results["energy"] = np.nan
    for frames, message in (
        ([alloy(), bare], "structure 1 has no energy and no forces: expected energy and forces"),
        ([half], "structure 0 has no forces: expected energy and forces; leave it out, or label it"),
        ([wrong], "structure 0: energy: 1 of 1 values are not finite"),
        ([], "no structures to write"),
    ):
        with pytest.raises(StructureError, match=f"^{message}"):
            WRITERS[name].write(path, frames, ())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", full)
        with pytest.raises(StructureError, match=r"train cannot be written \(No space left on"):
            back("deepmd", tmp_path, [alloy()])
    assert list(tmp_path.iterdir()) == []
    back("deepmd", tmp_path, [alloy()])
    with pytest.raises(StructureError, match="train exists: expected a new folder; remove it, or give another name"):
        back("deepmd", tmp_path, [alloy()])
    for name in ("mtp", "mace"):
        with pytest.raises(StructureError, match="cannot be written"):
            WRITERS[name].write(tmp_path / "nowhere" / "x", [alloy()], ())


def test_a_structure_is_always_on_the_same_side() -> None:
    frames = [alloy(seed) for seed in range(60)]
    _, test = train_test(frames, 0.25)
    chosen = {id(frame) for frame in test}
    assert 5 <= len(chosen) <= 25
    assert {id(frame) for frame in train_test(frames[::-1][10:], 0.25)[1]} == {id(f) for f in frames[:50]} & chosen
    assert chosen < {id(frame) for frame in train_test(frames, 0.5)[1]}
    assert chosen != {id(frame) for frame in train_test(frames, 0.25, seed=1)[1]}
    copies = [frame.copy() for frame in frames]
    assert [id(frames[copies.index(frame)]) for frame in train_test(copies, 0.25)[1]] == [id(frame) for frame in test]
    assert train_test(frames, 0)[1] == []
    assert train_test(frames, 1)[0] == []
    train, _ = train_test([single(), *frames], 1)
    assert len(train) == 1


def test_motep_reads_what_is_written(tmp_path: Path) -> None:
    pytest.importorskip("motep")
    from motep.io.mlip.cfg import read_cfg

    frames = [alloy(), molecule()]
    back("mtp", tmp_path, frames)
    theirs = read_cfg(tmp_path / "train.cfg", index=":", species=["Cu", "Ag"])
    for ours, frame in zip(theirs, frames, strict=True):
        assert (ours.numbers == frame.numbers).all()
        assert ours.info == {"species": "Cu,Ag"}
        np.testing.assert_array_equal(ours.positions, frame.positions)
        np.testing.assert_array_equal(ours.calc.results["forces"], frame.get_forces())
        assert ours.get_potential_energy() == frame.get_potential_energy()
    np.testing.assert_allclose(theirs[0].get_stress(), frames[0].get_stress(), rtol=1e-13)


def test_dpdata_reads_what_is_written(tmp_path: Path) -> None:
    dpdata = pytest.importorskip("dpdata")
    frame = alloy()
    back("deepmd", tmp_path, [frame, alloy(2), molecule()])
    crystal = dpdata.LabeledSystem(str(tmp_path / "train" / "Ag3Cu5"), fmt="deepmd/npy")
    assert crystal.get_nframes() == 2
    order = np.argsort(frame.numbers, kind="stable")
    assert [crystal["atom_names"][i] for i in crystal["atom_types"]] == [frame.symbols[i] for i in order]
    np.testing.assert_array_equal(crystal["coords"][0], frame.positions[order])
    np.testing.assert_array_equal(crystal["forces"][0], frame.get_forces()[order])
    np.testing.assert_array_equal(crystal["energies"][0], frame.get_potential_energy())
    expected = dpdata.LabeledSystem(frame, fmt="ase/structure")["virials"][0]
    np.testing.assert_allclose(crystal["virials"][0], expected, rtol=1e-7)
    gas = dpdata.LabeledSystem(str(tmp_path / "train" / "AgCu2-nopbc"), fmt="deepmd/npy")
    assert gas.nopbc


def test_calorine_writes_the_same_virial(tmp_path: Path) -> None:
    """It writes stress, which GPUMD (src/main_nep/structure.cu) takes for minus the virial over the volume."""
    nep = pytest.importorskip("calorine.nep")
    frame = alloy()
    ((_, ours),) = back("nep", tmp_path, [frame])
    nep.write_structures(str(tmp_path / "theirs.xyz"), [frame])
    ((_, theirs),) = read(tmp_path / "theirs.xyz")
    np.testing.assert_allclose(theirs["virial"], ours["virial"], atol=1e-6)
    np.testing.assert_allclose(theirs["energy"], ours["energy"])
    np.testing.assert_allclose(theirs["forces"], ours["forces"], atol=1e-7)
