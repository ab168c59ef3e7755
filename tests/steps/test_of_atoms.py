"""What a structure file says of its atoms, from the initial structures to averages: nothing of it is lost."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.averages.sources.productions import read_beginning, segments
from alflow.records.label import LabelRecord
from alflow.records.sample import SampleRecord
from alflow.report.exports import export
from alflow.state.store import Store
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms, FixCartesian
from ase.units import _amu

from conftest import alflow

SETTINGS = """
seed = 3
[[system]]
name = "slab"
structures = "slab.traj"
copies = 11
[reference]
kind = "ase:ase.calculators.emt.EMT"
[potential]
n_members = 8
n_max = 4
l_max = 2
n_features = 40
cutoff = 4.0
[sample]
temperature = [300]
steps = 20
stride = 10
force_sigma_max = 50
[select]
budget = 2
force_sigma_min = 0.0
duplicate_distance = 0.0
[converge]
max_cycles = 1
[executor]
workers = 1
"""
FIXED, RAIL = [0, 1], 2
"""Atoms that stand still, and one that moves along z alone."""


def slab() -> Atoms:
    atoms = fcc111("Al", (1, 2, 2), a=4.05, vacuum=5.0, periodic=True)
    atoms.set_constraint([FixAtoms(FIXED), FixCartesian([RAIL], [True, True, False])])
    atoms.set_masses([26.98, 53.96, 26.98, 80.94])
    atoms.set_initial_charges([0.5, -0.5, 0.25, -0.25])
    atoms.set_initial_magnetic_moments([1.0, -1.0, 0.5, 0.0])
    return atoms


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cycles 0 and 1, and a production."""
    folder = tmp_path_factory.mktemp("slab") / "run"
    folder.mkdir()
    (folder / "alflow.toml").write_text(SETTINGS)
    ase.io.write(folder / "slab.traj", slab())
    for command in (("check", folder), ("iterate", folder), ("produce", folder, "--steps", 20, "--walkers", 2)):
        done = alflow(*command)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def held(atoms: Atoms) -> np.ndarray:
    """Which components of positions cannot change, shape (N, 3): a file may say the same by other constraints."""
    moved = atoms.copy()
    moved.set_positions(atoms.positions + 1.0)
    return moved.positions == atoms.positions


def kept(frames: list[Atoms], *, tolerance: float = 0.0) -> None:
    """Every structure has what the file says, and has moved as far as its constraints let it."""
    given = slab()
    for frame in frames:
        for name in ("masses", "initial_charges", "initial_magmoms"):
            np.testing.assert_allclose(frame.arrays[name], given.arrays[name], atol=tolerance)
        moved = np.abs(frame.positions - given.positions) > max(tolerance, 1e-12)
        assert not moved[FIXED].any()
        assert not moved[RAIL, :2].any()
        np.testing.assert_array_equal(held(frame), held(given))
    assert any(frame.positions[RAIL, 2] != given.positions[RAIL, 2] for frame in frames)
    assert any((frame.positions[3] != given.positions[3]).all() for frame in frames)


def test_copies_labels_walkers_and_productions_keep_it(run: Path) -> None:
    """Each as it is read again from the run directory; labels have the forces of the atoms that are held, too."""
    store = Store(run)
    labels = list(store.read(0, "label", LabelRecord).frames)
    assert len(labels) == 12
    kept(labels)
    assert all((np.abs(frame.get_forces(apply_constraint=False)[FIXED]) > 1e-3).any() for frame in labels)
    kept(list(store.read(1, "sample", SampleRecord).frames))
    kept(list(store.read(1, "label", LabelRecord).frames))
    folder = run / "production" / "run"
    record = read_beginning(folder)
    kept([frame for walker in range(2) for segment in segments(folder, record, walker) for frame in segment.frames])


def test_the_density_is_that_of_the_masses(run: Path) -> None:
    """Mass over volume, g/cm^3: the cell does not change."""
    done = alflow("average", run / "production" / "run", "--observable", "density")
    assert done.returncode == 0, done.stderr
    atoms = slab()
    assert f"{atoms.get_masses().sum() * _amu * 1e3 / (atoms.get_volume() * 1e-24):.4g}" in done.stdout


@pytest.mark.parametrize("what", [".", "production/run"])
def test_exports_have_it(what: str, run: Path, tmp_path: Path) -> None:
    export(run / what, tmp_path / "all.xyz")
    frames = ase.io.read(tmp_path / "all.xyz", ":")
    kept(frames, tolerance=1e-7)
    if what == ".":
        labels = Store(run).read(0, "label", LabelRecord).frames
        for frame, label in zip(frames, labels, strict=False):
            forces = label.get_forces(apply_constraint=False)
            np.testing.assert_allclose(frame.get_forces(apply_constraint=False), forces, atol=1e-7)
