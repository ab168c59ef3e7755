"""Published packages as members: each keeps the contract in single precision.

One runs where its package is installed beside alflow, or where ALFLOW_SEVENN_PYTHON, ALFLOW_CHGNET_PYTHON, ... name the
interpreter of an environment that has it.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import alflow
import numpy as np
import pytest
from alflow.testing import SINGLE, check_potential
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from lj_frames import labelled

MEMBERS: dict[str, list[dict[str, Any]]] = {
    "sevenn": [
        {"calculator": "sevenn.calculator.SevenNetCalculator", "parameters": {"model": name, "device": "cpu"}}
        for name in ("7net-0", "7net-0_22may2024")
    ],
    "chgnet": [
        {
            "calculator": "chgnet.model.dynamics.CHGNetCalculator",
            "parameters": {"use_device": "cpu", "on_isolated_atoms": how},
        }
        for how in ("warn", "ignore")
    ],
}  # fmt: skip
pytestmark = pytest.mark.slow


def interpreter(package: str) -> str:
    """The interpreter that has a package; the test is skipped where there is none."""
    named = os.environ.get(f"ALFLOW_{package.upper()}_PYTHON")
    if named:
        return named
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed, and ALFLOW_{package.upper()}_PYTHON does not name an interpreter")
    return sys.executable


def copper() -> list[Atoms]:
    return labelled(bulk("Cu", cubic=True), 4, scale=0.05, calculator=EMT())


@pytest.mark.parametrize("package", MEMBERS)
def test_a_package_keeps_the_contract(package: str) -> None:
    python = interpreter(package)
    frames = copper()
    members = [{**member, "python": python} for member in MEMBERS[package]]
    committee = alflow.fit(frames, kind="calculators", members=members)
    check_potential(committee, frames[:1], precision=SINGLE)
    prediction = committee.predict(frames[0])
    assert prediction.stress is not None
    assert np.isfinite(prediction.forces_sigma).all()
    assert committee.judgement.noise < 1e-3


def test_mace_as_it_is_trained_and_used(tmp_path: Any) -> None:
    """Two members of a tiny network: the command and the calculator of the template mace.toml, in double precision."""
    python = interpreter("mace")
    program = os.path.join(os.path.dirname(python), "mace_run_train")  # noqa: PTH118, PTH120 - a link is not followed
    assert subprocess.run([program, "--help"], capture_output=True, check=False).returncode == 0
    command = (
        f"{program} --name=member --model_dir={{output}} --seed={{seed}} --train_file={{train}} "
        "--valid_file={validation} --energy_key=energy --forces_key=forces --E0s=average --r_max=3.5 "
        "--num_interactions=1 --num_channels=4 --max_L=0 --max_ell=1 --correlation=1 --batch_size=1 "
        "--max_num_epochs=2 --default_dtype=float64 --device=cpu --plot=False"
    )
    frames = labelled(bulk("Cu", cubic=True), 12, scale=0.05, calculator=EMT())
    parameters = {"model_paths": "{model}/member.model", "device": "cpu", "default_dtype": "float64"}
    committee = alflow.fit(
        frames, kind="trained", n_members=2, command=command, calculator="mace.calculators.MACECalculator",
        parameters=parameters, python=python, models=tmp_path, workers=1,
    )  # fmt: skip
    check_potential(committee, frames[:1])
    assert committee.predict(frames[0]).atom_sigma.shape == (4,)
    assert committee.judgement.noise < 1e-9
