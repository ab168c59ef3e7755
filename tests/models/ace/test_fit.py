"""The fit against a dense solution of the same problem, and fits by hand."""

import os
import subprocess
import sys
from pathlib import Path

import alflow
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.models.ace import packed, scaled, strength
from alflow.models.ace.environment import Environment
from alflow.models.ace.equations import NormalEquations
from alflow.models.ace.jury import _ATOMS, Jury
from alflow.models.ace.model import AceModel
from alflow.models.ace.regression import solve
from alflow.progress import Silent, Watched
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from hypothesis import given, settings
from hypothesis import strategies as st

from lj_frames import SMALL, bonded, labelled, water, with_label, with_stress


def alloy(n: int) -> list[Atoms]:
    """Strained and displaced, with stresses, but for every third."""
    start = bulk("Cu", cubic=True)
    start.symbols[0] = "Al"
    frames = labelled(start, n, calculator=EMT())
    return [frame if k % 3 == 0 else with_stress(frame, EMT()) for k, frame in enumerate(frames)]


@pytest.mark.parametrize("frames", [bonded(water(), 12), alloy(12)], ids=["water", "alloy"])
def test_fit_is_the_ridge_solution_by_qr(frames: list[Atoms]) -> None:
    """A member's predictions of the rows it saw equal those of a dense QR solve of the same problem to 1e-6."""
    committee = alflow.fit(frames, **SMALL | {"n_pair": 9, "cutoff": 5.5})  # all pairs meet well within it
    equations, n, seen = _equations(committee), len(committee.training.numbers), committee.resampling.seen
    loath = np.arange(equations.atomic.shape[1]) == equations.atomic.shape[1] - 1
    no_rows = np.zeros((equations.total.size, 0))
    found = solve(equations, seen, _penalties(committee), no_rows, 12, loath=loath)
    ridge = found.strength
    assert ridge == pytest.approx(committee.strength, rel=1e-6)
    rows, targets, atoms = [], [], []
    for k in range(len(frames)):
        frame, energy, forces = committee.training[k]
        stress = committee.training.stresses[k]
        env = committee.model.descriptor.environment(frame)
        features = np.pad(committee.model.descriptor.features(env), ((0, 1), (0, 0)))
        atoms.append([features[:, env.pairs.species == s] for s in range(n)])
        counts = committee.model.descriptor.composition(env)
        summed = np.concatenate([*(x.sum(axis=1) for x in atoms[-1]), counts])
        virial = None if stress is None else frame.get_volume() * stress
        x, y = _weighted(committee, env, summed, energy, forces, virial)
        rows.append(x.T)
        targets.append(y)
    size = rows[0].shape[1]
    f = (size - n) // n
    every = [np.concatenate([a[s] for a in atoms], axis=1) for s in range(n)]
    means = np.zeros((n, size - n))
    for s in range(n):
        means[s, s * f : (s + 1) * f] = every[s].mean(axis=1)
    to_means = np.eye(size)
    to_means[-n:, :-n] = -means
    full, y_full = np.vstack(rows) @ to_means, np.concatenate(targets)
    rms = np.sqrt(np.mean(full**2, axis=0))
    scale = np.divide(1.0, rms, out=np.zeros_like(rms), where=rms > 1e-9 * rms.max())
    scale[:-n] /= np.tile(_penalties(committee)[found.prior], n)
    scale[-n:] *= scaled._FREE
    scale[np.arange(1, n + 1) * f - 1] = 0.0  # nothing asks for a virial of atoms
    shift = np.linalg.pinv((full.T @ full)[-n:, -n:], rcond=1e-10, hermitian=True) @ (full.T @ y_full)[-n:]
    spread = np.zeros((sum(a.shape[1] for a in every), size))  # the prior of the energies of atoms, as rows
    spread[: every[0].shape[1], :f] = (every[0] - every[0].mean(axis=1, keepdims=True)).T
    for s in range(1, n):
        spread[every[0].shape[1] :, s * f : (s + 1) * f] = (every[s] - every[s].mean(axis=1, keepdims=True)).T
    groups = committee.resampling.groups
    without_two = ~np.eye(9, dtype=bool)[2]
    for mine, coefficients in ((seen[3], found.members[3]), (np.ones(9), found.whole), (without_two, found.without[2])):
        there = np.flatnonzero(mine[groups])
        weight = np.sqrt(8 / mine[:-1].sum())
        x = weight * np.vstack([rows[k] for k in there]) @ to_means
        y = weight * np.concatenate([targets[k] for k in there])
        augmented = np.vstack([x, np.sqrt(scaled._ATOM) * spread]) * scale
        augmented = np.vstack([augmented, np.sqrt(ridge) * np.eye(size)])
        right = np.concatenate([y - x[:, -n:] @ shift, np.zeros(len(augmented) - len(y))])
        q, r = np.linalg.qr(augmented)
        solution = scale * np.linalg.solve(r, q.T @ right)
        solution[-n:] += shift
        expected = x @ solution
        assert np.abs(x @ np.linalg.solve(to_means, coefficients) - expected).max() < 1e-6 * np.abs(y).max()


def _equations(committee: Committee) -> NormalEquations:
    """The sums with the energies."""
    fit, training = committee.model.fit, committee.training
    energies = training.energies - training.composition() @ training.energy_zero()
    return fit.jury.with_energies(fit.equations, energies, fit.energy_weight)


def test_energies_count_more_in_sums_that_are_there() -> None:
    """As in those that are made with the weight."""
    frames = labelled(bulk("Cu", cubic=True), 8, seed=0)
    usual, more = (alflow.fit(frames, **SMALL, energy_weight=weight) for weight in (20.0, 60.0))
    found, expected = _equations(usual).with_weight(3.0), _equations(more)
    np.testing.assert_allclose(found.gram, expected.gram, rtol=1e-9, atol=1e-9 * np.abs(expected.gram).max())
    np.testing.assert_allclose(found.moment, expected.moment, rtol=1e-9, atol=1e-9 * np.abs(expected.moment).max())
    np.testing.assert_allclose(found.square, expected.square, rtol=1e-12)
    np.testing.assert_allclose(found.energies.rows, expected.energies.rows, rtol=1e-12)
    np.testing.assert_allclose(found.energies.targets, expected.energies.targets, rtol=1e-12)
    assert _equations(usual).with_weight(1.0).gram is usual.model.fit.equations.gram


def _weighted(
    committee: Committee,
    env: Environment,
    summed: np.ndarray,
    energy: float,
    forces: np.ndarray | None,
    virial: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and targets of a structure, the energy among them."""
    counts = committee.model.descriptor.composition(env)
    x, y = committee.model.fit.weighted(env, summed, forces, virial)
    y[0] = committee.model.fit.energy_weight(counts.sum()) * (energy - counts @ committee.training.energy_zero())
    return x, y


def _penalties(committee: Committee) -> np.ndarray:
    return committee.model.fit.penalties


def test_the_strength_has_the_least_error_of_cross_validation() -> None:
    for frames, n_apart in ((bonded(water(), 16), 16), (labelled(bulk("Cu", cubic=True), 8, seed=0), 8)):
        committee = alflow.fit(frames, **SMALL | {"n_pair": 20})
        system = scaled.Scaled.of(_equations(committee), _penalties(committee))
        error, _ = strength.criterion(system, committee.resampling.seen.all(axis=0), n_apart, 1)
        best = np.log10(committee.strength / system.mean_eigenvalue)
        places = [(x, k) for k in (0, 1) for x in np.arange(-12.0, 0.1, 0.25)]
        assert min(error(best, k) for k in (0, 1)) < 0.01 + min(error(*place) for place in places)


@given(st.floats(-11.0, -1.0), st.floats(0.01, 3.0))
@settings(max_examples=50, deadline=None)
def test_the_bottom_of_a_valley_is_found(bottom: float, width: float) -> None:
    def valley(x: float, choice: int) -> float:
        return 1.0 + width * (x - bottom) ** 2 + 0.1 * (choice != 1)

    x, choice = strength.lowest(valley, valley, 3)
    assert x == pytest.approx(bottom, abs=1e-6)
    assert choice == 1


@given(st.floats(-11.0, -8.0), st.floats(-5.0, -2.0), st.floats(0.1, 0.9))
@settings(max_examples=50, deadline=None)
def test_the_lower_of_two_valleys_is_found(left: float, right: float, depth: float) -> None:
    """As with 45 structures of ethanol: between them it is higher than in both."""

    def valleys(x: float, _: int) -> float:
        return min(1 + depth * (x - left) ** 2, 3.1 + depth * (x - right) ** 2, 5.0)

    asked: list[float] = []

    def counted(x: float, choice: int) -> float:
        asked.append(x)
        return valleys(x, choice)

    assert strength.lowest(counted, valleys, 1)[0] == pytest.approx(left, abs=0.2)
    assert len(asked) <= 9


def test_a_strength_at_the_end_of_the_range() -> None:
    for sign, end in ((1, -12.0), (-1, 0.0)):
        assert strength.lowest(lambda x, _, s=sign: s * x, lambda x, _, s=sign: s * x, 1) == (end, 0)
    # What has no solution in the end, though one fold had.
    assert strength.lowest(lambda x, _: np.inf if x < -6 else x, lambda x, _: x, 1)[0] == -12.0


def test_the_error_of_cross_validation_is_that_of_fits_without_a_fold() -> None:
    """Against fits by hand: three quarters of the groups, errors on the others' rows."""
    committee = alflow.fit(bonded(water(), 16), **SMALL)
    equations = _equations(committee)
    system = scaled.Scaled.of(equations, _penalties(committee))
    ridge = system.mean_eigenvalue * 1e-6
    total = 0.0
    for fold in range(4):
        known = np.append(np.arange(8) % 4 != fold, True)
        matrix, right, _ = system.assemble(1.0 * known, ridge * system.ridges[1])
        w = system.plain(packed.solution(matrix, right)[0][:, None])[:, 0]
        w[-2:] += system.shift
        for k in range(16):
            if not known[committee.resampling.groups[k]]:
                frame, energy, forces = committee.training[k]
                env = committee.model.descriptor.environment(frame)
                counts = committee.model.descriptor.composition(env)
                features = np.pad(committee.model.descriptor.features(env), ((0, 1), (0, 0)))
                parts = [features[:, env.pairs.species == s].sum(axis=1) for s in range(2)]
                summed = np.concatenate([*parts, counts])
                x, y = _weighted(committee, env, summed, energy, forces)
                total += np.sum((y - w @ x) ** 2)
    assert strength.squares(system, committee.resampling.seen.all(axis=0), (-6.0, 1), 2) == pytest.approx(
        total, rel=1e-6
    )


def test_few_structures_are_fitted_by_evidence() -> None:
    committee = alflow.fit(bonded(water(), 3), **SMALL)
    assert np.isfinite(committee.strength)
    assert np.isfinite(committee.predict(water()).forces).all()
    one = alflow.fit(bonded(water(), 1), **SMALL)
    assert np.isfinite(one.predict(water()).forces).all()


def test_members_are_moved_to_the_fit_to_all_where_half_is_too_little() -> None:
    """Eight structures, of which half do not determine the coefficients: errors of new ones are a quarter less."""
    frames, others = (labelled(bulk("Cu", cubic=True), n, seed=seed) for n, seed in ((8, 0), (40, 9)))
    committee = alflow.fit(frames, **{**SMALL, "n_max": 8, "n_features": 200})
    no_rows = np.zeros((committee.model.fit.equations.total.size, 0))
    found = solve(_equations(committee), committee.resampling.seen, _penalties(committee), no_rows, 8)
    error = _force_error(committee, others)
    committee.model.set_coefficients(np.ascontiguousarray(found.members[:, None, :-2].T.swapaxes(0, 1)))
    assert error < 0.75 * _force_error(committee, others)


def _force_error(committee: Committee, frames: list[Atoms]) -> float:
    """Of the usual structure: where atoms are nearer than in any that was fitted to, the core rules."""
    errors = [committee.predict(frame).forces - frame.get_forces() for frame in frames]
    return float(np.median(np.sqrt(np.mean(np.square(errors), axis=(1, 2)))))


def test_twins_alone_are_fitted() -> None:
    """A scan of volumes so fine that all are twins, in one group: cross-validation would choose the strongest ridge."""
    frames = []
    for scale in np.linspace(0.996, 1.004, 9):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(scale * atoms.cell, scale_atoms=True)
        frames.append(with_label(atoms, EMT()))
    committee = alflow.fit(frames, **SMALL)
    assert len(set(committee.resampling.twins)) < 8
    errors = [committee.predict(frame).energy - frame.get_potential_energy() for frame in frames]
    assert np.abs(errors).max() < 1e-3
    twins = [frames[0].copy() for _ in range(10)]
    for k, twin in enumerate(twins):
        twin.rattle(0.1, seed=0)
        twin.rattle(1e-4, seed=k)
        with_label(twin, EMT())
    prediction = alflow.fit(twins, **SMALL).predict(twins[0])
    np.testing.assert_allclose(prediction.forces, twins[0].get_forces(), atol=0.2)


def test_no_bit_depends_on_the_number_of_threads() -> None:
    """Compared in processes of their own: libraries read that number when they are loaded."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import alflow, hashlib
from lj_frames import SMALL, bonded, water
c = alflow.fit(bonded(water(), 20), **{**SMALL, "n_features": 400, "n_max": 6, "l_max": 4})
j = c.judgement
print(hashlib.sha256(c.model.coefficients.tobytes() + c.model.constants.tobytes()).hexdigest(), c.strength)
print(j.energy.alpha, j.force.alpha, j.energy.floor, j.energy_rmse, j.force_rmse)
"""
    found = set()
    for threads in ("1", "2", "5"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", code, str(Path(__file__).parents[2])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1


def test_what_is_kept_to_judge_by_is_bounded() -> None:
    jury, rng = Jury(), np.random.default_rng(0)
    for _ in range(2000):
        jury.add(np.zeros(3), 1, 0)
        jury.add_forces(np.zeros((2, 60)), np.zeros(60), rng)
    assert len(jury.rows) == 2000
    assert all(len(rows) == 3 * _ATOMS for rows in jury.force_rows)
    assert len(jury.forces) < 400 * (1 + np.log(2000 / 400)) * 1.2


def test_a_basis_without_angles_is_told() -> None:
    """With twelve species that are all told apart the features of an atom are all radial."""
    numbers = ["Cu", "Al", "Ni", "Ag", "Au", "Pd", "Pt", "H", "C", "N", "O", "Si"]
    frames = []
    for k in range(6):
        atoms = bulk("Cu", cubic=True).repeat((3, 1, 1))
        atoms.symbols = numbers
        atoms.rattle(0.1, seed=k)
        frames.append(with_label(atoms, LennardJones(sigma=2.2, epsilon=0.1, rc=5.0)))
    few = {"n_members": 2, "n_max": 3, "l_max": 2, "n_pair": 3}
    blind = alflow.fit(frames, **few, n_features=40, n_pseudo_species=12)
    assert any("with 12 species no feature depends on an angle: raise n_features above 40" in r for r in blind.remarks)
    assert not any("angle" in r for r in alflow.fit(frames, **few, n_features=40).remarks)


def test_an_atom_that_sees_nothing_but_its_own_images_says_nothing() -> None:
    """One of each species in a cell that stays: features of like neighbours are constant, and rounding is no signal."""
    frames = []
    for k in range(12):
        atoms = bulk("NaCl", "rocksalt", 5.6)
        atoms.rattle(0.1, seed=k)
        frames.append(with_label(atoms, LennardJones(sigma=2.2, epsilon=0.1, rc=5.0)))
    model = alflow.fit(frames, **SMALL | {"cutoff": 5.5}).model
    basis = model.descriptor.basis
    species = basis.tables.left // basis.tables.radial_start[-1]
    for s in range(2):
        alike = (basis.order == 1) & (species == s)
        assert (model.coefficients[s, alike] == 0).all()
        assert (model.coefficients[s, (basis.order == 1) & (species != s)] != 0).all()


def test_a_fit_says_how_far_it_is() -> None:
    """Structure by structure, then member by member; nothing is left over at the end."""
    told: dict[str, list[int]] = {}

    class Told(Silent):
        def begin(self, what: str, total: int) -> None:
            self.what = what
            told[what] = [total, 0]

        def advance(self, done: int = 1) -> None:
            told[self.what][1] += done

    model = AceModel.make(8, {name: value for name, value in SMALL.items() if name != "n_members"})
    assert isinstance(model, Watched)
    model.progress = Told()
    alflow.fit(bonded(water(), 12), kind=model)
    assert told["add structures"] == [12, 12]
    assert told["fit members, and all structures but some"][0] > 8
    assert all(total == done for total, done in told.values())
