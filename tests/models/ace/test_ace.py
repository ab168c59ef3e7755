"""The built-in potential against independent programs, closed forms and differences."""

import itertools
import multiprocessing
import warnings

import alflow
import h5py
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.errors import PotentialError, PotentialWarning, warnings_told
from alflow.models.ace import regression
from alflow.models.ace.basis import make_basis
from alflow.models.ace.core import WEAKEST, make_core, rising
from alflow.models.ace.environment import Descriptor, available_threads
from alflow.models.ace.extrapolation import Leverage
from alflow.models.ace.jury import _FORCES, Jury
from alflow.models.ace.kernels.core import pair_core, zbl
from alflow.models.ace.kernels.functions import SOFT, make_work, pair_functions
from alflow.models.ace.lanes import LANES, aligned, fill, fused, least, load, most, root, store
from alflow.models.ace.settings import AceSettings, lengths
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy.spatial.transform import Rotation
from sphericart import SphericalHarmonics

from lj_frames import SMALL, bonded, water


def descriptor(numbers: tuple[int, ...], n_features: int = 200, l_max: int = 3, cutoff: float = 4.0) -> Descriptor:
    return Descriptor(numbers, cutoff, make_basis(len(numbers), 5, l_max, n_features), lengths(numbers))


# --- Sixteen numbers at once


@njit
def _everything(x, y, out):
    a, b = load(x, 0), load(y, 1)
    store(out, 0, (a + b) * 2.0 - b / (1 + a * a))
    store(out, 1, root(a * a + 3) * -1)
    store(out, 2, most(least(a, b), 0.1))
    c = fill(0.5)
    c += a
    c *= b
    c -= 1
    store(out, 3, 1.0 / c)
    store(out, 4, fused(2.0, a, b))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_lanes_compute_what_numpy_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, out = rng.normal(size=(2, LANES)), rng.normal(size=(2, LANES)), aligned((5, LANES))
    _everything(x, y, out)
    a, b = x[0], y[1]
    expected = [(a + b) * 2 - b / (1 + a * a), -np.sqrt(a * a + 3), np.maximum(np.minimum(a, b), 0.1)]
    np.testing.assert_allclose(out, [*expected, 1 / ((0.5 + a) * b - 1), 2 * a + b], rtol=1e-12)
    assert out.ctypes.data % 64 == 0


# --- Features


def test_harmonics_are_those_of_sphericart() -> None:
    found = descriptor((1,), l_max=5)
    work = make_work(found.functions)
    work.d[:] = np.random.default_rng(0).normal(size=(3, LANES))
    pair_functions(1.0, 0.0, found.functions, work)
    expected = SphericalHarmonics(5).compute(np.ascontiguousarray(work.d.T))
    np.testing.assert_allclose(work.y.T, expected, atol=1e-12)


def test_radial_functions_are_chebyshev_polynomials_and_end_smoothly() -> None:
    found = descriptor((1,), cutoff=4.0)
    work = make_work(found.functions)
    r = np.linspace(0.3, 4.0, LANES)
    work.d[:] = 0.0
    work.d[2] = r
    pair_functions(1.3, 0.0, found.functions, work)
    u, low = 1 / (1 + (r / 1.3) ** 2), 1 / (1 + (4.0 / 1.3) ** 2)
    for n in range(5):
        polynomial = np.polynomial.chebyshev.Chebyshev.basis(n)(2 * (u - low) / (1 - low) - 1)
        np.testing.assert_allclose(work.value[n], polynomial * (1 - (r / 4.0) ** 2) ** 3, atol=1e-12)
    assert np.abs(work.value[:, -1]).max() < 1e-14
    assert np.abs(work.slope[:, -1]).max() < 1e-14


def test_radial_functions_rest_below_the_shortest_distance() -> None:
    found = descriptor((1,))
    work = make_work(found.functions)
    r = np.linspace(0.5, 1.2, LANES)

    def functions(at: np.ndarray, inner: float) -> tuple[np.ndarray, np.ndarray]:
        work.d[:] = 0.0
        work.d[0] = at
        pair_functions(1.3, inner, found.functions, work)
        return work.value.copy(), work.slope.copy()

    slope = (functions(r + 1e-6, 1.0)[0] - functions(r - 1e-6, 1.0)[0]) / 2e-6
    np.testing.assert_allclose(functions(r, 1.0)[1], slope, atol=1e-6)
    assert np.abs(functions(r, 1.0)[1][:, r < 1.0 - SOFT]).max() == 0.0
    np.testing.assert_array_equal(functions(r, 1.0)[0][:, r > 1.0], functions(r, 0.0)[0][:, r > 1.0])


@pytest.mark.parametrize("numbers", [(29,), (1, 8)])
def test_features_of_every_order_are_invariant_and_their_rows_are_derivatives(numbers: tuple[int, ...]) -> None:
    found = descriptor(numbers, 400)
    assert set(found.basis.order) == {1, 2, 3, 4}
    rng = np.random.default_rng(1)
    atoms = Atoms(rng.permuted(np.resize(numbers, 7)), rng.uniform(-1.6, 1.6, size=(7, 3)))
    features = found.features(found.environment(atoms))
    turned = atoms.copy()
    turned.positions = atoms.positions @ Rotation.random(rng=rng).as_matrix().T + 1.0
    np.testing.assert_allclose(found.features(found.environment(turned)), features, rtol=1e-9, atol=1e-9)
    mirrored = atoms.copy()
    mirrored.positions = -atoms.positions
    np.testing.assert_allclose(found.features(found.environment(mirrored)), features, rtol=1e-9, atol=1e-9)

    def summed(structure: Atoms) -> np.ndarray:
        of_atoms = found.features(found.environment(structure))
        return np.concatenate([of_atoms[:, structure.numbers == z].sum(axis=1) for z in numbers])

    rows = found.force_rows(found.environment(atoms))
    for i, x in ((0, 0), (3, 1), (6, 2)):
        moved = [atoms.copy(), atoms.copy()]
        moved[0].positions[i, x] += 1e-5
        moved[1].positions[i, x] -= 1e-5
        expected = -(summed(moved[0]) - summed(moved[1])) / 2e-5
        np.testing.assert_allclose(rows[:, 3 * i + x], expected, atol=1e-7 * np.abs(rows).max())


def test_rows_and_gradient_agree() -> None:
    """Forces by back-propagation are the rows times the coefficients."""
    found = descriptor((1, 8))
    env = found.environment(bonded(water(), 1)[0])
    coefficients = np.random.default_rng(2).normal(size=(2, 3, found.basis.n_features))
    forces, _ = found.gradient(env, coefficients, np.array([0.0, 1.0, 0.0]))
    expected = coefficients[:, 1].ravel() @ found.force_rows(env)
    np.testing.assert_allclose(forces.ravel(), expected, atol=1e-10 * np.abs(expected).max())


def test_the_number_of_features_is_kept_and_follows_the_species() -> None:
    for n_species, n_features in itertools.product((1, 2, 3), (30, 100, 333)):
        assert 5 * n_species <= make_basis(n_species, 5, 3, n_features).n_features <= max(n_features, 5 * n_species)
    assert [AceSettings().features_of(n) for n in (1, 3, 4, 10)] == [1250, 1250, 1000, 400]
    assert AceSettings(n_features=77).features_of(10) == 77


def test_results_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    committee = alflow.fit(bonded(bulk("Cu", cubic=True).repeat(2), 6), **SMALL)
    atoms = bulk("Cu", cubic=True).repeat(4)
    atoms.rattle(0.1, seed=1)
    found = []
    for threads in (1, 2, 3):
        committee.threads = threads
        found.append(committee.predict(atoms))
    for other in found[1:]:
        for name in ("energies", "forces", "stress", "forces_sigma", "grade"):
            np.testing.assert_array_equal(getattr(other, name), getattr(found[0], name))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert available_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert available_threads() >= 1


# --- Fit


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


def test_duplicates_are_left_out_and_named() -> None:
    frames = bonded(water(), 9)
    with pytest.warns(PotentialWarning, match=r"structure 9 \(H4O2\) is the same as structure 2, and left out$"):
        committee = alflow.fit([*frames, frames[2]], **SMALL)
    np.testing.assert_array_equal(committee.model.coefficients, alflow.fit(frames, **SMALL).model.coefficients)
    other = frames[4].copy()
    other.calc = SinglePointCalculator(other, energy=frames[4].get_potential_energy() + 0.5, forces=np.zeros((6, 3)))
    with pytest.warns(PotentialWarning, match=r"the same as structure 4, and left out, but their energies are"):
        committee.update([other])
    assert len(committee.training) == 9


def test_wild_energies_are_named() -> None:
    frames = bonded(water(), 12)
    frames[5].calc = SinglePointCalculator(frames[5], energy=-400.0, forces=frames[5].get_forces())
    with pytest.warns(PotentialWarning, match=r"structure 5 \(H4O2\): its energy of -400 eV is .* check its unit"):
        committee = alflow.fit(frames, **SMALL)
    bad = bonded(water(), 1, seed=9)[0]
    bad.calc = SinglePointCalculator(bad, energy=1e5)
    with pytest.warns(PotentialWarning, match="structure 12"):
        committee.update([bad])


def test_warnings_are_told_and_others_pass() -> None:
    told: list[str] = []

    def warn() -> None:
        with warnings_told(told.append):
            warnings.warn("about a structure", PotentialWarning, stacklevel=1)
            warnings.warn("something else", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="something else"):
        warn()
    assert told == ["warning: about a structure"]


def test_atoms_that_coincide_leave_the_committee_as_it_was() -> None:
    committee = alflow.fit(bonded(water(), 4), **SMALL)
    before = committee.model.coefficients.copy()
    bad = water()
    bad.positions[1] = bad.positions[0]
    bad.calc = SinglePointCalculator(bad, energy=0.0)
    with pytest.raises(PotentialError, match="at the same place"):
        committee.update([bad])
    np.testing.assert_array_equal(committee.model.coefficients, before)
    assert len(committee.training) == 4


def test_a_committee_from_a_file_can_be_updated(tmp_path) -> None:
    frames = bonded(water(), 12)
    alflow.fit(frames[:8], **SMALL).save(tmp_path / "model.h5")
    loaded = alflow.load(tmp_path / "model.h5")
    loaded.update(frames[8:])
    grown = alflow.fit(frames[:8], **SMALL)
    grown.update(frames[8:])
    a, b = loaded.predict(frames[0]), grown.predict(frames[0])
    np.testing.assert_allclose(a.energies, b.energies, rtol=1e-6)
    np.testing.assert_allclose(a.forces, b.forces, atol=1e-6)


def _energy_in_a_fork(committee: Committee, atoms: Atoms, results) -> None:
    results.put(committee.forward(atoms).energies)


def test_a_fork_has_threads_of_its_own() -> None:
    committee = alflow.fit(bonded(bulk("Cu", cubic=True).repeat(2), 4), **SMALL)
    committee.threads = 2
    atoms = bulk("Cu", cubic=True).repeat(4)
    expected = committee.forward(atoms).energies
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_energy_in_a_fork, args=(committee, atoms, results))
    process.start()
    np.testing.assert_array_equal(results.get(timeout=30), expected)
    process.join(timeout=30)


@pytest.mark.parametrize(
    ("schema", "message"), [(1, "older alflow .*train it again"), (2, "older"), (99, "newer .*update alflow")]
)
def test_models_of_other_versions_are_refused(schema: int, message: str, tmp_path) -> None:
    alflow.fit(bonded(water(), 4), **SMALL).save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "a") as file:
        file["model"].attrs["schema"] = schema
    with pytest.raises(PotentialError, match=message):
        alflow.load(tmp_path / "model.h5")


def test_what_is_kept_to_judge_by_is_bounded() -> None:
    jury, rng = Jury(), np.random.default_rng(0)
    for _ in range(2000):
        jury.add(np.zeros(3), 0.0, 1, 0)
        jury.add_forces(np.zeros((2, 60)), np.zeros(60), 0, rng)
    assert len(jury.rows) == 2000
    assert all(len(rows) == _FORCES for rows in jury.force_rows)
    assert len(jury.forces) < 400 * (1 + np.log(2000 / 400)) * 1.2


# --- Short distances


def grown_dimer(committee: Committee, a: str, b: str, shortest: float) -> tuple[np.ndarray, np.ndarray]:
    r = np.linspace(shortest, 0.25 * shortest, 120)
    found = [committee.drive(Atoms([a, b], [[0, 0, 0], [x, 0, 0]]), "none") for x in r]
    return np.array([d.energy for d in found]), np.array([d.forces[1, 0] for d in found])


def copper(n: int) -> list[Atoms]:
    """Hot copper and gold with EMT's labels, far from dimers."""
    rng, frames = np.random.default_rng(4), []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True).repeat(2)
        atoms.numbers[rng.permutation(32)[:8]] = 79
        atoms.positions += 0.15 * rng.normal(size=(32, 3))
        atoms.calc = EMT()
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        frames.append(atoms)
    return frames


def test_atoms_pushed_together_repel_each_other() -> None:
    """Every pair of species, in every committee: the force rises all the way from the shortest distance seen."""
    for frames in (bonded(water(), 20), copper(10)):
        committee = alflow.fit(frames, **SMALL | {"cutoff": 5.0})
        symbols = sorted(set(frames[0].symbols))
        for a, b in itertools.combinations_with_replacement(symbols, 2):
            apart = [f.get_all_distances(mic=True)[np.ix_(f.symbols == a, f.symbols == b)] for f in frames]
            shortest = min(d[d > 0].min() for d in apart)
            energies, forces = grown_dimer(committee, a, b, shortest)
            assert (np.diff(energies) > 0).all(), (a, b)
            assert forces[0] > 0.9 * WEAKEST, (a, b)
            assert (np.diff(forces) > -1e-6).all(), (a, b)


def test_a_pair_never_seen_repels() -> None:
    """He and Ar are both known, but never met."""
    frames = bonded(Atoms("He2", [[0, 0, 0], [2.4, 0, 0]]), 8) + bonded(Atoms("Ar2", [[0, 0, 0], [3, 0, 0]]), 8)
    committee = alflow.fit(frames, **SMALL)
    inner = committee.model.descriptor.functions.inner[0, 1]
    assert inner > 1.0
    energies, forces = grown_dimer(committee, "He", "Ar", 0.999 * inner)
    assert (np.diff(energies) > 0).all()
    assert (np.diff(forces) > 0).all()


def test_pairs_that_attract_in_training_are_not_overruled() -> None:
    """Two atoms alone are in the training set: then its forces count, beyond the shortest distance."""
    rng, frames = np.random.default_rng(0), []
    for r in rng.uniform(2.6, 4.0, size=20):
        atoms = Atoms("Cu2", [[0, 0, 0], [r, 0, 0]])
        force = np.array([[1.0, 0, 0], [-1.0, 0, 0]]) * (0.3 / r)
        atoms.calc = SinglePointCalculator(atoms, energy=0.3 * np.log(r), forces=force)
        frames.append(atoms)
    committee = alflow.fit(frames, **SMALL | {"cutoff": 6.0})
    found = committee.drive(frames[0], "none").forces[1, 0]
    assert found == pytest.approx(frames[0].get_forces()[1, 0], abs=0.02)


def test_the_training_set_does_not_feel_the_core() -> None:
    committee = alflow.fit(bonded(water(), 20), **SMALL)
    for frame in committee.training.frames:
        env = committee.model.descriptor.environment(frame)
        assert committee.model.descriptor.core_energies(env, committee.model.core).max() < 1e-12


@given(st.floats(0.2, 0.999), st.floats(0.5, 3.0), st.floats(0.0, 20.0))
@settings(max_examples=100, deadline=None)
def test_the_core_is_smooth_and_its_force_rises(share: float, d: float, c: float) -> None:
    core = make_core((8, 14), np.full((2, 2), d), np.full((2, 2), c))
    h = 1e-5 * d
    values = [pair_core(share * d + k * h, 0, 1, core) for k in (-1, 0, 1)]
    assert (values[2][0] - values[0][0]) / (2 * h) == pytest.approx(values[1][1], rel=1e-4, abs=1e-6)
    assert values[1][0] >= 0
    assert values[1][1] <= 0
    assert values[0][1] <= values[1][1] <= values[2][1]


def test_the_core_begins_with_two_derivatives_of_zero() -> None:
    core = make_core((8, 14), np.full((2, 2), 1.5), np.full((2, 2), 7.0))
    force = [pair_core(1.5 - x, 0, 1, core)[1] for x in (1e-3, 2e-3)]
    assert abs(force[0]) < 1e-3
    assert abs(force[1] - force[0]) < 1e-2
    assert rising(8, 14, np.linspace(1.5, 1.3, 9), np.full(9, -50.0), 2.0) == 2.0  # no C can mend that: it says so


def test_zbl_is_that_of_the_literature() -> None:
    """Two hydrogen atoms: 0.8854 a_0 / 2 is the screening length; at r -> 0 the energy is Coulomb's."""
    core = make_core((1, 1), np.ones((2, 2)), np.zeros((2, 2)))
    assert core.screening[0, 0] == pytest.approx(0.8854 * 0.529177 / 2, rel=1e-5)
    value = zbl(1e-6, core.charge[0, 0], core.screening[0, 0])[0]
    assert value == pytest.approx(14.39964 / 1e-6, rel=1e-4)
    x = 0.529177 / core.screening[0, 0]
    phi = 0.18175 * np.exp(-3.1998 * x) + 0.50986 * np.exp(-0.94229 * x)
    phi += 0.28022 * np.exp(-0.4029 * x) + 0.02817 * np.exp(-0.20162 * x)
    found = zbl(0.529177, core.charge[0, 0], core.screening[0, 0])[0]
    assert found == pytest.approx(14.39964 / 0.529177 * phi, rel=1e-5)


def test_forces_inside_the_core_are_the_gradient() -> None:
    committee = alflow.fit(bonded(water(), 20), **SMALL)
    atoms = water()
    atoms.positions[1] = atoms.positions[0] + 0.7 * (atoms.positions[1] - atoms.positions[0])
    weights = np.random.default_rng(0).normal(size=(6, 8))
    for w in (weights, weights[0]):

        def energy(by: float, w: np.ndarray = w) -> float:
            moved = atoms.copy()
            moved.positions[1, 2] += by
            forward = committee.forward(moved)
            return float(np.sum(w * (forward.atom_energies if w.ndim == 2 else forward.energies)))

        committee.forward(atoms)
        assert committee.model.descriptor.core_energies(committee.model._last.env, committee.model.core).max() > 1e-3
        found = committee.backward(w).forces[1, 2]
        assert found == pytest.approx(-(energy(1e-5) - energy(-1e-5)) / 2e-5, rel=1e-5)


# --- Uncertainty


def test_the_grade_is_one_in_the_training_set_and_large_outside() -> None:
    committee = alflow.fit(bonded(water(), 40), **SMALL)
    inside = np.concatenate([committee.grade(frame) for frame in committee.training.frames])
    assert np.sqrt(np.mean(inside**2)) == pytest.approx(1.0, abs=0.05)
    strange = water()
    strange.positions[3:] -= [0.0, 0.0, 0.9]
    assert committee.grade(strange).max() > 4.0
    close = water()
    close.positions[1] = close.positions[0] + 0.6 * (close.positions[1] - close.positions[0])
    grade = committee.grade(close)
    assert min(grade[0], grade[1]) > 5.0
    read = committee.predict(strange).grade
    np.testing.assert_array_equal(read, committee.grade(strange))


def test_the_grade_is_the_same_from_a_file(tmp_path) -> None:
    committee = alflow.fit(bonded(water(), 12), **SMALL)
    committee.save(tmp_path / "model.h5")
    strange = bonded(water(), 1, seed=77, scale=0.2)[0]
    np.testing.assert_allclose(alflow.load(tmp_path / "model.h5").grade(strange), committee.grade(strange), rtol=1e-6)


@given(st.integers(2, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_leverage_is_the_mahalanobis_distance(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    b = rng.normal(size=(size, 200)) * rng.uniform(0.5, 2.0, size=(size, 1)) + 1.0
    leverage = Leverage.of(np.triu(b @ b.T), b.sum(axis=1), 200.0)
    x = rng.normal(size=(size, 3))
    difference = x - b.mean(axis=1, keepdims=True)
    squared = np.sum(difference * np.linalg.solve(np.cov(b, bias=True), difference), axis=0)
    np.testing.assert_allclose(leverage.grade(x), np.sqrt(squared / size), rtol=1e-3)


def test_members_agree_on_how_neighbours_share_their_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels do not say it, the prior does, at no cost of accuracy: what is left in atom_sigma is what is unknown."""
    test = bonded(water(), 1, seed=50)[0]
    committee = alflow.fit(bonded(water(), 30), **SMALL)
    prediction = committee.predict(test)
    monkeypatch.setattr(regression, "_ATOM", 0.0)
    free = alflow.fit(bonded(water(), 30), **SMALL)
    assert prediction.atom_sigma.mean() < 0.3 * free.predict(test).atom_sigma.mean()
    assert committee.judgement.force_rmse < 1.1 * free.judgement.force_rmse
    far = bonded(water(), 1, seed=50)[0]
    far.positions[5] += [0.0, 0.0, 0.5]
    strange = committee.predict(far)
    assert np.argmax(strange.atom_sigma) == 5


# --- Larger systems


def test_mixed_periodicity_is_that_of_a_large_cell() -> None:
    """A chain and a sheet equal the middle of long ones that are not periodic."""
    committee = alflow.fit(bonded(bulk("Cu", cubic=True), 12), **SMALL)
    chain = Atoms("Cu2", [[0, 0, 0], [0.3, 1.9, 0]], cell=[2.5, 9, 9], pbc=[True, False, False])
    line = chain.repeat((9, 1, 1))
    line.pbc = False
    np.testing.assert_allclose(
        committee.forward(chain).atom_energies, committee.forward(line).atom_energies[8:10], rtol=1e-9
    )
    sheet = Atoms("Cu2", [[0, 0, 0], [1.3, 1.9, 0.4]], cell=[2.5, 2.6, 9], pbc=[True, True, False])
    plane = sheet.repeat((7, 7, 1))
    plane.pbc = False
    middle = 2 * (3 * 7 + 3)
    np.testing.assert_allclose(
        committee.forward(sheet).atom_energies, committee.forward(plane).atom_energies[middle : middle + 2], rtol=1e-9
    )


def test_many_species_and_their_order() -> None:
    """Seven species fit and predict; labels do not depend on the order of the atoms."""
    rng, frames = np.random.default_rng(0), []
    for k in range(12):
        frames += bonded(Atoms("HCNOFPS", 1.5 * np.array([*np.ndindex(2, 2, 2)])[1:]), 1, seed=k)
    committee = alflow.fit(frames, **SMALL)
    assert len(committee.model.descriptor.numbers) == 7
    order = rng.permutation(7)
    found, turned = committee.predict(frames[0]), committee.predict(frames[0][order])
    np.testing.assert_allclose(turned.forces, found.forces[order], atol=1e-9)


def test_a_molecule_without_neighbours_has_the_energy_of_its_atoms() -> None:
    committee = alflow.fit(bonded(molecule("H2O"), 12), **SMALL)
    lone = committee.forward(Atoms("O"))
    np.testing.assert_allclose(lone.energies, committee.model.constants[1])
