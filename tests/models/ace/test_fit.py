"""The fit against a dense solution of the same problem, and fits by hand."""

import alflow
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.models.ace import regression
from alflow.models.ace.jury import _FORCES, Jury
from hypothesis import given, settings
from hypothesis import strategies as st

from lj_frames import SMALL, bonded, water


def test_fit_is_the_ridge_solution_by_qr() -> None:
    """A member's predictions of the rows it saw equal those of a dense QR solve of the same problem to 1e-6."""
    frames = bonded(water(), 12)
    committee = alflow.fit(frames, **SMALL)
    equations, n = committee.model.fit.equations, 2
    found, strength, _ = equations.solve(
        committee.resampling.seen(), _penalty(committee), np.zeros((committee.model.fit.equations.total.size, 0))
    )
    assert strength == committee.strength
    rows, targets, atoms = [], [], []
    for k in range(len(frames)):
        frame, energy, forces = committee.training[k]
        env = committee.model.descriptor.environment(frame)
        features = committee.model.descriptor.features(env)
        atoms.append([features[:, env.pairs.species == s] for s in range(n)])
        counts = committee.model.descriptor.composition(env)
        summed = np.concatenate([*(x.sum(axis=1) for x in atoms[-1]), counts])
        x, y = committee.model.fit.weighted(env, summed, energy - counts @ committee.model.fit.origin, forces)
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
    scale[:-n] /= np.tile(_penalty(committee), n)
    scale[-n:] *= regression._FREE
    shift = np.linalg.pinv((full.T @ full)[-n:, -n:], rcond=1e-10, hermitian=True) @ (full.T @ y_full)[-n:]
    member = 3
    seen = [k for k in range(len(frames)) if committee.resampling.seen()[member, committee.resampling.group(k)]]
    weight = np.sqrt(8 / committee.resampling.seen()[member].sum())
    x = weight * np.vstack([rows[k] for k in seen]) @ to_means
    y = weight * np.concatenate([targets[k] for k in seen])
    spread = np.zeros((sum(a.shape[1] for a in every), size))  # the prior of the energies of atoms, as rows
    spread[: every[0].shape[1], :f] = (every[0] - every[0].mean(axis=1, keepdims=True)).T
    spread[every[0].shape[1] :, f : 2 * f] = (every[1] - every[1].mean(axis=1, keepdims=True)).T
    augmented = np.vstack([x, np.sqrt(regression._ATOM) * spread]) * scale
    augmented = np.vstack([augmented, np.sqrt(strength) * np.eye(size)])
    right = np.concatenate([y - x[:, -n:] @ shift, np.zeros(len(augmented) - len(y))])
    q, r = np.linalg.qr(augmented)
    solution = scale * np.linalg.solve(r, q.T @ right)
    solution[-n:] += shift
    expected = x @ solution
    assert np.abs(x @ np.linalg.solve(to_means, found[member]) - expected).max() < 1e-6 * np.abs(y).max()


def _penalty(committee: Committee) -> np.ndarray:
    return committee.model.descriptor.basis.degree.astype(float) ** committee.settings.smoothness


def test_the_strength_is_the_largest_that_does_as_well_in_cross_validation() -> None:
    committee = alflow.fit(bonded(water(), 16), **SMALL)
    system = regression._Scaled.of(committee.model.fit.equations, _penalty(committee))
    error, slack = system.criterion()
    best = np.log10(committee.strength / system.mean_eigenvalue)
    least = min(error(x) for x in np.arange(-12.0, -2.0, 0.5))
    assert error(best) < (1 + 2 * slack) * least
    assert error(best + 0.5) > (1 + 0.9 * slack) * least


@given(st.floats(-11.0, -2.0), st.floats(0.01, 3.0))
@settings(max_examples=50, deadline=None)
def test_the_bottom_of_a_valley_is_found(bottom: float, width: float) -> None:
    found = regression._largest(lambda x: 1.0 + width * (x - bottom) ** 2, 0.0)
    assert abs(found - bottom) <= 1.5 / 2 + 1e-9
    wide = regression._largest(lambda x: 1.0 + width * (x - bottom) ** 2, 0.02)
    assert wide >= found
    assert width * (wide - bottom) ** 2 < 0.02 + 2 * width


def test_the_error_of_cross_validation_is_that_of_fits_without_a_fold() -> None:
    """Against fits by hand: three quarters of the groups, errors on the others' rows."""
    committee = alflow.fit(bonded(water(), 16), **SMALL)
    equations = committee.model.fit.equations
    system = regression._Scaled.of(equations, _penalty(committee))
    strength = system.mean_eigenvalue * 1e-6
    total = 0.0
    for fold in range(4):
        known = np.arange(8) % 4 != fold
        matrix, right, _ = system.assemble(1.0 * known, strength)
        w = system.plain(regression._solve(matrix, right)[0][:, None])[:, 0]
        w[-2:] += system.shift
        for k in range(16):
            if not known[committee.resampling.group(k)]:
                frame, energy, forces = committee.training[k]
                env = committee.model.descriptor.environment(frame)
                counts = committee.model.descriptor.composition(env)
                features = committee.model.descriptor.features(env)
                parts = [features[:, env.pairs.species == s].sum(axis=1) for s in range(2)]
                summed = np.concatenate([*parts, counts])
                x, y = committee.model.fit.weighted(env, summed, energy - counts @ committee.model.fit.origin, forces)
                total += np.sum((y - w @ x) ** 2)
    assert system.criterion()[0](-6.0) == pytest.approx(total, rel=1e-6)


def test_few_structures_are_fitted_by_evidence() -> None:
    committee = alflow.fit(bonded(water(), 3), **SMALL)
    assert np.isfinite(committee.strength)
    assert np.isfinite(committee.predict(water()).forces).all()
    one = alflow.fit(bonded(water(), 1), **SMALL)
    assert np.isfinite(one.predict(water()).forces).all()


def test_what_is_kept_to_judge_by_is_bounded() -> None:
    jury, rng = Jury(), np.random.default_rng(0)
    for _ in range(2000):
        jury.add(np.zeros(3), 0.0, 1, 0)
        jury.add_forces(np.zeros((2, 60)), np.zeros(60), 0, rng)
    assert len(jury.rows) == 2000
    assert all(len(rows) == _FORCES for rows in jury.force_rows)
    assert len(jury.forces) < 400 * (1 + np.log(2000 / 400)) * 1.2
