"""Matrices of which half is stored, against full ones."""

import numpy as np
import pytest
from alflow.models.ace import lapack, packed
from alflow.models.ace.kernels.assembly import assemble

SIZES = (2, 3, 6, 9, 40, 257, 300)


def square(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A packed matrix that is positive definite, and the full one."""
    rows = np.random.default_rng(seed).normal(size=(size, size + 5))
    found = np.zeros(packed.shape(size))
    for add in packed.squares(found, rows):
        add()
    return found, rows @ rows.T


@pytest.mark.parametrize("size", SIZES)
def test_sums_of_squares_and_what_is_read_from_them(size: int) -> None:
    found, expected = square(size)
    assert packed.size_of(found) == size
    assert found.size == size * (size + 1) // 2
    np.testing.assert_allclose(packed.full(found), expected, atol=1e-10)
    np.testing.assert_allclose(packed.diagonal(found), np.diag(expected))
    two = np.stack([found, 2 * found])
    for n in range(1, size // 2 + 1):
        np.testing.assert_allclose(packed.last_columns(two, n)[1], 2 * expected[:, -n:], atol=1e-10)
    vector, scale = np.random.default_rng(1).normal(size=(2, size))
    np.testing.assert_allclose(packed.times(found, vector), expected @ vector, atol=1e-9)
    scaled = packed.full(packed.scaled(found, scale))
    np.testing.assert_allclose(scaled, scale[:, None] * expected * scale, atol=1e-10)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(), (1,), (4,)])
def test_solutions(size: int, shape: tuple[int, ...]) -> None:
    found, expected = square(size)
    ridge, right = np.arange(1.0, size + 1), np.random.default_rng(1).normal(size=(size, *shape))
    expected += np.diag(ridge)
    solution, log_determinant = packed.solution(packed.with_diagonal(found, ridge), right)
    np.testing.assert_allclose(solution, np.linalg.solve(expected, right), atol=1e-10)
    assert log_determinant == pytest.approx(np.linalg.slogdet(expected)[1])
    solution, log_determinant = packed.solution(-found, right)
    assert np.isnan(solution).all()
    assert np.isnan(log_determinant)


def test_nothing_is_added_without_rows() -> None:
    found = np.zeros(packed.shape(5))
    for add in packed.squares(found, np.zeros((5, 0))):
        add()
    lapack.add_square(found[:, :0], np.zeros((0, 3)))
    assert not found.any()


def test_what_fortran_would_read_as_something_else_is_refused() -> None:
    rows = np.ones((4, 3))
    for wrong in (rows.T, rows.astype(np.float32)):
        with pytest.raises(ValueError, match="expected contiguous rows of double precision"):
            lapack.add_square(np.zeros((len(wrong), len(wrong))), wrong)


@pytest.mark.parametrize(("n_species", "n_features"), [(1, 6), (2, 4), (3, 5), (3, 6), (4, 1)])
def test_weighted_sums_are_those_of_centred_columns(n_species: int, n_features: int) -> None:
    """As many at once as one likes, in any pieces, to the last bit."""
    rng, last = np.random.default_rng(0), n_species * n_features
    size = last + n_species
    given = [square(size, seed) for seed in range(7)]
    gram, full = (np.array(x) for x in zip(*given, strict=True))
    weights = rng.integers(0, 3, size=(5, 7)).astype(float)
    means, scale, ridge = np.pad(rng.normal(size=last), (0, n_species)), *rng.uniform(0.5, 2.0, size=(2, size))
    prior = rng.normal(size=(n_species, n_features, n_features))
    prior += prior.swapaxes(1, 2)
    some = np.argsort(weights == 0, axis=1, kind="stable")
    of_some = np.take_along_axis(weights, some, axis=1)
    crosses = np.einsum("kg,gij->kji", weights, packed.last_columns(gram, n_species))

    def found(some_of: slice, *cuts: int) -> np.ndarray:
        out = np.empty((len(weights[some_of]), *gram.shape[1:]))
        number = np.sum(weights != 0, axis=1)[some_of]
        for begin, end in zip((0, *cuts), (*cuts, gram.shape[1]), strict=True):
            sums = (gram, number, some[some_of], of_some[some_of], means, scale, crosses[some_of], prior, ridge)
            assemble(begin, end, *sums, out)
        return out

    whole = found(slice(None))
    np.testing.assert_array_equal(whole, found(slice(None), 1, 2))
    np.testing.assert_array_equal(whole[2:3], found(slice(2, 3)))
    to_means, added = np.eye(size), np.diag(ridge)
    for s in range(n_species):
        here = slice(s * n_features, (s + 1) * n_features)
        to_means[last + s, here] = -means[here]
        added[here, here] += prior[s]
    for mine, matrix in zip(weights, whole, strict=True):
        expected = to_means.T @ np.einsum("g,gij->ij", mine, full) @ to_means
        np.testing.assert_allclose(packed.full(matrix), scale[:, None] * expected * scale + added, atol=1e-10)
