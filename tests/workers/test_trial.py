"""What `alflow check` finds of a calculator."""

import numpy as np
import pytest
from alflow.workers.server import evaluated
from alflow.workers.trial import Trial, tried
from ase import Atoms
from ase.build import bulk, fcc111

from odd_calculators import Odd


def trial(what: str, atoms: Atoms) -> Trial:
    calculator = Odd(what)

    def calculate(frame: Atoms) -> tuple[float, np.ndarray, np.ndarray | None]:
        found = evaluated(calculator, frame)
        return float(found["energy"]), np.array(found["forces"], dtype=float), found.get("stress")

    return tried(calculate, atoms)


def crystal() -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def slab() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 2), vacuum=3.0)
    atoms.info = {}
    atoms.rattle(0.05, seed=1)
    return atoms


def cluster() -> Atoms:
    return Atoms("Cu4", crystal().positions)


@pytest.mark.parametrize("atoms", [crystal(), slab(), cluster()], ids=["crystal", "slab", "cluster"])
def test_what_is_right_is_found_right(atoms: Atoms) -> None:
    found = trial("", atoms)
    assert found.problems() == []
    assert found.forces < 1e-4
    assert max(found.moved, found.reordered) < 1e-9
    assert np.isnan(found.stress) == (not atoms.pbc.all())
    assert np.isnan(found.other_cell) == (atoms.pbc.sum() < 2)
    if atoms.pbc.all():
        assert found.stress < 1e-6
        assert "stress to" in found.text
    assert trial("single", atoms).problems() == []


def test_what_is_wrong_is_found() -> None:
    (wrong,) = trial("wrong forces", crystal()).problems()
    assert wrong.startswith("its forces are off by ")
    (wrong,) = trial("wrong stress", crystal()).problems()
    assert wrong.startswith("its stress is off by ")
    (wrong,) = trial("three directions for one", slab()).problems()
    assert wrong.endswith("along a direction that is not periodic: it takes it for periodic")


def test_energies_that_depend_on_the_description() -> None:
    def calculate(atoms: Atoms) -> tuple[float, np.ndarray, None]:
        energy = 0.01 * atoms.positions[0, 0] + float(np.linalg.norm(atoms.cell.array))
        forces = np.zeros((len(atoms), 3))
        forces[0, 0] = -0.01
        return energy, forces, None

    wrong = tried(calculate, crystal()).problems()
    assert len(wrong) == 2
    assert "when another cell describes the same lattice" in wrong[-1]
    assert tried(calculate, crystal()).problems(lenience=1000.0) == []
