"""Active learning on structures that are labelled already: candidates and labels from files."""

import json
from pathlib import Path

import ase.io
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT

from conftest import alflow

SETTINGS = """
[[system]]
name = "copper"
structures = "start.xyz"
[potential]
n_members = 8
n_max = 4
l_max = 2
n_features = 60
cutoff = 4.0
[reference]
kind = "dataset"
file = "all.xyz"
[sample]
candidates = "all.xyz"
[select]
budget = 5
force_sigma_min = 0.0
[converge]
max_cycles = 2
[executor]
workers = 1
"""


def labelled_copper(n: int) -> list:
    frames = []
    for seed in range(n):
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
        atoms.rattle(0.05 + 0.002 * seed, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        atoms.get_stress()
        atoms.info = {"fermi_energy": 1.0 + seed, "eigenvalues": np.arange(6.0) + seed}
        frames.append(atoms)
    return frames


def test_a_data_set_is_replayed_and_its_labels_come_back(tmp_path: Path) -> None:
    frames = labelled_copper(60)
    run = tmp_path / "run"
    run.mkdir()
    (run / "alflow.toml").write_text(SETTINGS)
    ase.io.write(run / "all.xyz", frames)
    ase.io.write(run / "start.xyz", frames[:12])
    check = alflow("check", run)
    assert check.returncode == 0, check.stderr
    assert "reference all.xyz" in check.stdout or "reference " in check.stdout
    done = alflow("iterate", run)
    assert done.returncode == 0, done.stderr
    rows = json.loads(alflow("inspect", run, "--json").stdout)
    assert [row["cycle"] for row in rows] == [0] * 12 + [1] * 5 + [2] * 5
    assert len({row["id"] for row in rows}) == 22, "no structure twice"
    assert alflow("export", run, tmp_path / "labels.xyz").returncode == 0
    source = {round(float(frame.get_potential_energy()), 6): frame for frame in ase.io.read(run / "all.xyz", ":")}
    for frame in ase.io.read(tmp_path / "labels.xyz", ":"):
        original = source[round(float(frame.get_potential_energy()), 6)]
        np.testing.assert_allclose(frame.get_forces(), original.get_forces(), atol=1e-7)
        np.testing.assert_allclose(frame.get_stress(), original.get_stress(), atol=1e-7)
        assert frame.info["fermi_energy"] == original.info["fermi_energy"]
        np.testing.assert_allclose(frame.info["eigenvalues"], original.info["eigenvalues"])
    grown = json.loads(alflow("status", run, "--json").stdout)["cycles"]
    assert [cycle["n_labelled"] for cycle in grown] == [12, 5, 5]


def test_candidates_of_an_unknown_system_are_named(tmp_path: Path) -> None:
    frames = labelled_copper(14)
    run = tmp_path / "run"
    run.mkdir()
    (run / "alflow.toml").write_text(SETTINGS.replace('candidates = "all.xyz"', 'candidates = "pool.xyz"'))
    ase.io.write(run / "all.xyz", frames)
    ase.io.write(run / "start.xyz", frames[:12])
    frames[13].info["system"] = "gold"
    ase.io.write(run / "pool.xyz", frames[12:])
    done = alflow("iterate", run)
    assert done.returncode == 2
    assert f"{run / 'pool.xyz'} frame 1: system 'gold': expected one of copper" in done.stderr
