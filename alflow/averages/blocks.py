"""Sums over the frames of walkers, kept in blocks: all that averages, reweighting and their errors need.

Memory does not grow with the length of a run: when a walker has twice as many blocks as it may have, neighbours are
merged, and every later block is twice as long.

A :data:`Sums` is a dictionary of arrays whose first axis is that of the K blocks; M members, P averaged parts of an
observable, ``h_m = (V_m - U)/kT``. The a and h below are counted from the :class:`Origin`, constants near their means,
so that no digits are lost to these.

==============================  =======================  ============================================================
key                             shape                    sum over the frames of a block of
==============================  =======================  ============================================================
``n``                           (K,)                     1
``u, uu``                       (K,)                     U/kT and its square
``h, hh``                       (K, M)                   h, h^2
``w, ww``                       (K, M)                   exp(low - h) and its square; low (M,) is the smallest h so far
``a0``                          (K, P, 1) or (K, P, M)   a, of observable 0; the second if it depends on the member
``ah0, ahh0, aw0``              (K, P, M)                a h, a h^2, a exp(low - h)
==============================  =======================  ============================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Sums = dict[str, Array]

BLOCKS = 128
"""A long walk ends with at least so many blocks and fewer than twice as many; fewer where a block is large."""

_BUDGET = 4_000_000  # numbers that the blocks of all walkers may hold: 32 MB
_FEWEST = 32


@dataclass(frozen=True, eq=False)
class Origin:
    """What a and h are counted from: h (M,), u (), and a of each observable, (P,) or (P, M)."""

    h: Array
    u: float
    a: tuple[Array, ...]


def n_blocks(n_parts: int, n_members: int, n_walkers: int) -> int:
    """How many blocks a walker may have, so that those of all walkers fit into a fixed memory."""
    each = 2 * n_walkers * n_members * (4 * n_parts + 5)
    fit = max(_FEWEST, min(BLOCKS, _BUDGET // each))
    return int(2 ** np.floor(np.log2(fit)))


class Blocks:
    """The sums of one walker.

    Parameters
    ----------
    origin : Origin
        What a and h are counted from.
    most : int
        A power of two; there are fewer than ``2 most`` full blocks.
    """

    def __init__(self, origin: Origin, most: int = BLOCKS) -> None:
        self.origin = origin
        self.most = most
        self.length = 1
        self.low = np.full(len(origin.h), np.inf)
        self.sums: Sums = {}
        self._open = 0  # frames in the last block while it is not full

    def add(self, h: Array, u: Array, values: Sequence[Array]) -> None:
        """Add the next frames.

        Parameters
        ----------
        h, u : ndarray, shapes (n, M) and (n,)
            ``(V_m - U)/kT`` and ``U/kT``.
        values : sequence of ndarray, shape (n, P) or (n, P, M)
            Of each observable.
        """
        h = h - self.origin.h
        u = u - self.origin.u
        values = [value - a for value, a in zip(values, self.origin.a, strict=True)]
        self._lower(h.min(axis=0))
        start = 0
        while start < len(h):
            room = 2 * self.most - len(self.sums.get("n", ()))
            whole = 0 if self._open else min((len(h) - start) // self.length, room)
            count = whole * self.length or min(self.length - self._open, len(h) - start)
            part = slice(start, start + count)
            self._append(_summed(h[part], u[part], [value[part] for value in values], self.low, max(whole, 1)))
            self._open = (self._open + count) % self.length
            start += count
            if len(self.sums["n"]) == 2 * self.most and not self._open:
                self.sums, self.length = merged(self.sums), 2 * self.length

    def _append(self, new: Sums) -> None:
        if not self.sums:
            self.sums = new
        elif self._open:
            for key, value in new.items():
                self.sums[key][-1] += value[0]
        else:
            self.sums = {key: np.concatenate([value, new[key]]) for key, value in self.sums.items()}

    def _lower(self, lowest: Array) -> None:
        """Let the exponentials be relative to a smaller h, where one was met."""
        low = np.minimum(self.low, lowest)
        if self.sums:
            self.sums = relative_to(self.sums, low - self.low)
        self.low = low


def _summed(h: Array, u: Array, values: Sequence[Array], low: Array, blocks: int) -> Sums:
    """Sums over the frames of ``blocks`` blocks of equal length."""
    h = h.reshape(blocks, -1, h.shape[1])
    w = np.exp(low - h)
    factors = np.concatenate([h, h**2, w], axis=2)  # (K, length, 3 M)
    first = factors.sum(axis=1)
    length = h.shape[1]
    sums = {
        "n": np.full(blocks, float(length)),
        "u": u.reshape(blocks, -1).sum(axis=1),
        "uu": (u.reshape(blocks, -1) ** 2).sum(axis=1),
        **dict(zip(("h", "hh", "w"), np.split(first, 3, axis=1), strict=True)),
        "ww": np.einsum("klm,klm->km", w, w),
    }
    for j, value in enumerate(values):
        a = value.reshape(blocks, length, *value.shape[1:])
        if a.ndim == 3:
            products = np.split(a.transpose(0, 2, 1) @ factors, 3, axis=2)
            sums[f"a{j}"] = a.sum(axis=1)[:, :, None]
        else:
            products = [np.einsum("klpm,klm->kpm", a, x) for x in np.split(factors, 3, axis=2)]
            sums[f"a{j}"] = a.sum(axis=1)
        sums |= {f"{name}{j}": product for name, product in zip(("ah", "ahh", "aw"), products, strict=True)}
    return sums


def merged(sums: Sums) -> Sums:
    """Neighbouring blocks together; a last one without a neighbour stays as it is."""
    return {key: value[::2] + _padded(value[1::2], len(value[::2])) for key, value in sums.items()}


def _padded(value: Array, length: int) -> Array:
    return np.concatenate([value, np.zeros((length - len(value), *value.shape[1:]))])


def relative_to(sums: Sums, change: Array) -> Sums:
    """With the reference of the exponentials changed, ``change`` (M,) <= 0."""
    factor = np.exp(change)
    powers = {"w": factor, "ww": factor**2}
    return {
        key: value * powers["w" if key.startswith("aw") else key] if key in powers or key.startswith("aw") else value
        for key, value in sums.items()
    }


def joined(walkers: Sequence[Blocks]) -> list[Sums]:
    """The sums of each walker in blocks of the same length, and relative to the same ``low``."""
    low = np.min([walker.low for walker in walkers], axis=0)
    longest = max(walker.length for walker in walkers)
    out = []
    for walker in walkers:
        sums = relative_to(walker.sums, low - walker.low)
        for _ in range((longest // walker.length).bit_length() - 1):
            sums = merged(sums)
        out.append(sums)
    return out
