"""Charges and multiplicities that a run cannot learn: refused by `alflow check`, and before anything is calculated."""

import re
from pathlib import Path

import pytest
from alflow.errors import ConfigError
from alflow.steps.initial import check_states
from ase import Atoms
from ase.build import molecule

from conftest import TINY, alflow, make_run

CATION = '[[system]]\nname = "cation"\nstructures = "water.xyz"\ncharge = 1\nmultiplicity = 2\n'
TWO = "systems water (charge 0, multiplicity 1) and cation (charge 1, multiplicity 2) both have structures of H2O"
ALONE = TINY.replace('name = "water"', 'name = "water"\ncharge = 2')
XTB = '[reference]\nkind = "ase"\nname = "tblite.ase.TBLite"\nparameters = {verbosity = 0}\n'
UNTOLD = "[reference] system water: its charge 2 does not reach tblite.ase.TBLite"


def water(system: str, **info: int) -> Atoms:
    atoms = molecule("H2O")
    atoms.info = {"system": system, **info}
    return atoms


def test_one_composition_has_one_state() -> None:
    neutral, cation = water("a", charge=0, multiplicity=1), water("b", charge=1, multiplicity=2)
    check_states([neutral, neutral, water("elsewhere")])  # of a label without a charge nothing is known
    check_states([neutral, Atoms("OH", [[0, 0, 0], [0, 0, 1]], info=cation.info)])
    turned = cation[[2, 0, 1]]
    turned.info = cation.info
    message = "systems a (charge 0, multiplicity 1) and b (charge 1, multiplicity 2) both have structures of H2O"
    for frames in ([neutral, cation], [neutral, turned]):
        with pytest.raises(ConfigError, match=re.escape(message)):
            check_states(frames)
    triplet = water("t", charge=0, multiplicity=3)
    with pytest.raises(ConfigError, match=r"and t \(charge 0, multiplicity 3\)"):
        check_states([neutral, triplet])


@pytest.mark.parametrize(("settings", "message"), [(TINY + CATION, TWO), (ALONE + XTB, UNTOLD)])
def test_check_and_iterate_refuse(settings: str, message: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", settings)
    checked = alflow("check", folder)
    assert checked.returncode == 2, checked.stderr
    assert message in " ".join((checked.stdout + checked.stderr).split())
    begun = alflow("iterate", folder, "--cycles", "0")
    assert begun.returncode == 2
    assert begun.stderr.startswith(f"alflow: {message}")
    assert len(begun.stderr.splitlines()) == 1
    assert not list((folder / "labels").glob("*.h5"))


def test_a_baseline_is_told_too(tmp_path: Path) -> None:
    below = '[baseline]\nkind = "ase"\nname = "ase.calculators.lj.LennardJones"\n'
    folder = make_run(tmp_path / "run", ALONE + below)
    for command in (("check", folder), ("iterate", folder, "--cycles", "0")):
        done = alflow(*command)
        assert done.returncode == 2
        text = " ".join((done.stdout + done.stderr).split())
        assert "[baseline] system water: its charge 2 does not reach ase.calculators.lj.LennardJones" in text
    assert not list((folder / "labels").glob("*.h5"))


def test_candidates_have_the_states_of_their_systems(tmp_path: Path) -> None:
    """A pool in which two systems share a composition is refused before it is judged."""
    hydroxide = '[[system]]\nname = "ion"\nstructures = "ion.xyz"\ncharge = -1\n'
    folder = make_run(tmp_path / "run", TINY.replace("[sample]", '[sample]\ncandidates = "pool.xyz"') + hydroxide)
    (folder / "ion.xyz").write_text("2\n\nO 0 0 0\nH 0 0 0.97\n")
    rows = "O 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n"
    (folder / "pool.xyz").write_text(f"3\nsystem=water\n{rows}3\nsystem=ion\n{rows}")
    checked = alflow("check", folder)
    assert checked.returncode == 2
    assert "systems water (charge 0, multiplicity 1) and ion (charge -1" in " ".join(checked.stderr.split())
