"""By what the strength of the ridge is judged."""

import alflow
import numpy as np
import pytest
from alflow.errors import PotentialWarning
from alflow.models.ace.strength import score
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from hypothesis import given
from hypothesis import strategies as st

from lj_frames import with_label

SIZES = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)


def copper(n: int, seed: int, scale: float, a: float = 3.6) -> list[Atoms]:
    """Strained crystals, displaced by some Å."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", "fcc", a=a, cubic=True) * (2, 2, 1)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += scale * rng.normal(size=atoms.positions.shape)
        frames.append(with_label(atoms, EMT()))
    return frames


def force_error(committee: alflow.Committee, frames: list[Atoms]) -> float:
    errors = [committee.drive(frame, "none").forces - frame.get_forces() for frame in frames]
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


@pytest.mark.parametrize(("scale", "a"), [(0.6, 3.6), (0.2, 2.7), (0.9, 3.6)])
def test_a_wild_structure_does_not_spoil_the_others(scale: float, a: float) -> None:
    """Forces up to 260 eV/Å among 16 of some 1 eV/Å: by squared errors alone these were known 60 to 250 times worse."""
    tame, wild, test = copper(16, 0, 0.08), copper(1, 5, scale, a), copper(8, 1, 0.08)
    settings = {"n_members": 4, "n_features": 150, "cutoff": 5.5}
    without = force_error(alflow.fit(tame, **settings), test)
    assert np.abs(wild[0].get_forces()).max() > 20 * np.abs(tame[0].get_forces()).max()
    with pytest.warns(PotentialWarning, match="structure 5"):
        committee = alflow.fit([*tame[:5], *wild, *tame[5:]], **settings)
    assert force_error(committee, test) < 16 * without


def of(*errors: list[float]) -> list[np.ndarray]:
    return [np.array(part) for part in errors]


@given(SIZES, SIZES, st.floats(0.01, 100.0))
def test_errors_that_all_grow_by_a_factor(forces: list[float], energies: list[float], factor: float) -> None:
    here = score([of(forces, energies, [])])
    there = score([of([factor * x for x in forces], [factor * x for x in energies], [])])
    assert there - here == pytest.approx(np.log(factor), abs=1e-6)


@given(SIZES, SIZES)
def test_folds_are_taken_together(forces: list[float], energies: list[float]) -> None:
    together = score([of(forces + energies, energies, [])])
    assert score([of(forces, [], []), of(energies, energies, [])]) == pytest.approx(together, abs=1e-9)


def test_what_there_is_counts() -> None:
    forces, energies, stresses = [1.0, 2.0, 4.0], [3.0, 3.0], [0.5]
    alone = [score([of(*parts)]) for parts in ((forces, [], []), ([], energies, []), ([], [], stresses))]
    assert score([of(forces, energies, stresses)]) == pytest.approx((3 * alone[0] + alone[1] + alone[2]) / 5)
    assert score([of(forces, energies, [])]) == pytest.approx((3 * alone[0] + alone[1]) / 4)
    assert score([of([], [], [])]) == 0.0


def test_a_fold_without_a_fit_rules_a_strength_out() -> None:
    assert score([of([1.0], [1.0], []), None]) == np.inf


def test_errors_of_nothing_are_finite() -> None:
    assert np.isfinite(score([of([0.0, 0.0], [0.0], [])]))


def test_neither_a_wild_structure_nor_the_usual_ones_decide_alone() -> None:
    usual = [1.0] * 15
    wild = score([of([*usual, 1e8], [], [])])
    assert score([of([*[0.25] * 15, 2e8], [], [])]) < wild  # half the error of all others for 1.4 times that of one
    assert score([of([*[0.8] * 15, 1e9], [], [])]) > wild  # a tenth of it for three times that of one
