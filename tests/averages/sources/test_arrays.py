"""Plain arrays from text, NumPy and HDF5 files."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from alflow.averages.reweighting import reweight
from alflow.averages.sources import arrays
from alflow.averages.sources.arrays import Arrays, energy_unit
from alflow.errors import AverageError
from ase import units

N, M, D = 1000, 4, 3


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    driving = rng.normal(size=N) - 100
    found = {
        "energies": driving[:, None] + 0.01 * rng.normal(size=(N, M)),
        "driving": driving,
        "values": rng.normal(size=(N, D)),
    }
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for name, value in found.items():
            np.save(tmp_path / f"{name}.npy", value)
            np.savetxt(tmp_path / f"{name}.txt", value)
            file[f"run/{name}"] = value
    return tmp_path, found


def read(source: Arrays) -> dict[str, np.ndarray]:
    chunks = list(source.chunks())
    return {
        "energies": np.concatenate([c.energies for c in chunks]),
        "driving": np.concatenate([c.driving for c in chunks]),
        "values": np.concatenate([c.values[0] for c in chunks]),
    }


@pytest.mark.parametrize("form", ["{}.npy", "{}.txt", "all.h5:run/{}"])
def test_every_form_gives_the_same_numbers(data, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, expected = data
    monkeypatch.setattr(arrays, "_BYTES", 5000)
    monkeypatch.setattr(arrays, "_ROWS", 64)
    names = [str(folder / form.format(name)) for name in ("energies", "driving", "values")]
    found = read(Arrays(*([name] for name in names)))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_units_and_the_mean_as_driving_energy(data) -> None:
    folder, expected = data
    found = read(Arrays([str(folder / "energies.npy")], ["mean"], [str(folder / "values.npy")], energy_unit("ha")))
    np.testing.assert_allclose(found["energies"], expected["energies"] * units.Hartree, rtol=1e-15)
    np.testing.assert_allclose(found["driving"], found["energies"].mean(axis=1), rtol=1e-15)
    assert energy_unit("kcal / mol") == pytest.approx(0.0433641)
    with pytest.raises(AverageError, match=r"unknown unit of energy 'meter': expected one of eV, Ha, Ry"):
        energy_unit("meter")


def test_walkers_and_models(data) -> None:
    folder, _ = data
    place = [str(folder / "energies.npy")] * 2
    source = Arrays(place, ["mean"], [str(folder / "values.txt")] * 2, models=True)
    result = reweight(source.chunks(), source.quantities(), 0.025, n_walkers=2)
    assert (result.n_walkers, result.averages[0].members.shape) == (2, (1, D, M))
    energy = Arrays(place, ["mean"], [])
    assert reweight(energy.chunks(), energy.quantities(), 0.025).averages[0].members.shape == (1, 1, M)


TEXTS = {
    "comments": "# energies\n1 2\n3 4 # here\n\n5 6\n",
    "spaces": "  1.0   2.0\n\t3.0\t4.0  \n 5.0  6.0",
    "signs": "+1.0 2.\n3e0 4\n5 .6e1\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("size", [8, 1000])
def test_text_as_people_write_it(tmp_path: Path, monkeypatch, text: str, size: int) -> None:
    monkeypatch.setattr(arrays, "_BYTES", size)
    (tmp_path / "a.txt").write_text(text)
    found = np.concatenate(list(arrays._rows(str(tmp_path / "a.txt"))))
    assert found.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_what_is_not_finite_is_told_with_its_frame(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 2\n3 nan\n5 6\n")
    source = Arrays([str(tmp_path / "a.txt")], ["mean"], [])
    with pytest.raises(AverageError, match="member energies: not finite in frame 1"):
        reweight(source.chunks(), source.quantities(), 1.0)


BAD = [
    ("1 2\n3\n", "cannot be read as an array of numbers"),
    ("1 2\nx y\n", "cannot be read as an array of numbers"),
    ("", r"expected two frames or more, found 0"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_text_that_is_not_an_array(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    source = Arrays([str(tmp_path / "a.txt")], ["mean"], [])
    with pytest.raises(AverageError, match=message):
        reweight(source.chunks(), source.quantities(), 1.0)


def test_files_of_different_length_are_refused(data) -> None:
    folder, expected = data
    np.save(folder / "short.npy", expected["values"][:-10])
    source = Arrays([str(folder / "energies.txt")], ["mean"], [str(folder / "short.npy")])
    with pytest.raises(AverageError, match=r"short.npy has 990 frames, .*energies.txt has more"):
        list(source.chunks())


def test_other_files_are_refused(data) -> None:
    folder, _ = data
    place = str(folder / "energies.npy")
    for source, message in (
        (Arrays([place], ["mean"], [str(folder / "no.npy")]), r"no.npy: no such file"),
        (Arrays([place], [place], []), "expected one driving energy in each row, found 4 columns"),
        (
            Arrays([place, place], [str(folder / "driving.npy")], []),
            "driving energies as of member energies, 2, found 1",
        ),
        (Arrays([f"{folder}/all.h5"], ["mean"], []), "which dataset.*run/driving, run/energies, run/values"),
        (Arrays([f"{folder}/all.h5:x"], ["mean"], []), "no dataset 'x'"),
    ):
        with pytest.raises(AverageError, match=message):
            list(source.chunks())
    (folder / "no.npy").write_bytes(b"not numpy")
    with pytest.raises(AverageError, match=r"no.npy cannot be read"):
        list(Arrays([str(folder / "no.npy")], ["mean"], []).chunks())
    np.save(folder / "cube.npy", np.zeros((2, 2, 2)))
    with pytest.raises(AverageError, match=r"expected numbers of shape \(frames,\) or \(frames, columns\)"):
        list(Arrays([str(folder / "cube.npy")], ["mean"], []).chunks())
