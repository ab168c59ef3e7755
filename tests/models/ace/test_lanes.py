"""Sixteen numbers at once are sixteen numbers."""

import numpy as np
from alflow.models.ace.lanes import LANES, aligned, fill, fused, least, load, most, root, store
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit


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
