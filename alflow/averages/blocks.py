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
``low``                         (K, M)                   (not a sum) the smallest h of the block
``w, ww``                       (K, M)                   exp(low - h) and its square
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

_BUDGET = 16_000_000  # numbers that the blocks of all walkers hold, 128 MB, unless they need more for
_FEWEST = 8  # blocks each


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
        start = 0
        while start < len(h):
            room = 2 * self.most - len(self.sums.get("n", ()))
            whole = 0 if self._open else min((len(h) - start) // self.length, room)
            count = whole * self.length or min(self.length - self._open, len(h) - start)
            part = slice(start, start + count)
            self._append(_summed(h[part], u[part], [value[part] for value in values], max(whole, 1)))
            self._open = (self._open + count) % self.length
            start += count
            if len(self.sums["n"]) == 2 * self.most and not self._open:
                self.sums, self.length = merged(self.sums), 2 * self.length

    def _append(self, new: Sums) -> None:
        if not self.sums:
            self.sums = new
            return
        sums = self.sums
        if self._open:
            new = _plus({key: value[-1:] for key, value in sums.items()}, new)
            sums = {key: value[:-1] for key, value in sums.items()}
        self.sums = {key: np.concatenate([value, new[key]]) for key, value in sums.items()}


def _summed(h: Array, u: Array, values: Sequence[Array], blocks: int) -> Sums:
    """Sums over the frames of ``blocks`` blocks of equal length."""
    h = h.reshape(blocks, -1, h.shape[1])
    low = h.min(axis=1)
    w = np.exp(low[:, None] - h)
    factors = np.concatenate([h, h**2, w], axis=2)  # (K, length, 3 M)
    first = factors.sum(axis=1)
    length = h.shape[1]
    sums = {
        "n": np.full(blocks, float(length)),
        "u": u.reshape(blocks, -1).sum(axis=1),
        "uu": (u.reshape(blocks, -1) ** 2).sum(axis=1),
        **dict(zip(("h", "hh", "w"), np.split(first, 3, axis=1), strict=True)),
        "low": low,
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
    first, second = ({key: value[k::2] for key, value in sums.items()} for k in (0, 1))
    count = len(first["n"])
    return _plus(first, {key: _padded(value, count, np.inf if key == "low" else 0.0) for key, value in second.items()})


def _padded(value: Array, length: int, filling: float) -> Array:
    return np.concatenate([value, np.full((length - len(value), *value.shape[1:]), filling)])


def _plus(a: Sums, b: Sums) -> Sums:
    """Blocks together with those at the same place."""
    low = np.minimum(a["low"], b["low"])
    a, b = relative_to(a, low), relative_to(b, low)
    return {key: low if key == "low" else value + b[key] for key, value in a.items()}


def relative_to(sums: Sums, low: Array) -> Sums:
    """With exponentials relative to ``low``, (K, M) or (M,), which is not above their own."""
    factor = np.exp(low - sums["low"])
    out = {key: value * factor[:, None] if key.startswith("aw") else value for key, value in sums.items()}
    return out | {"w": sums["w"] * factor, "ww": sums["ww"] * factor**2, "low": np.broadcast_to(low, factor.shape)}


def joined(walkers: Sequence[Blocks]) -> list[Sums]:
    """The sums of each walker in blocks of the same length; they are taken out of the walkers."""
    longest = max(walker.length for walker in walkers)
    out = []
    for walker in walkers:
        sums, walker.sums = walker.sums, {}
        for _ in range((longest // walker.length).bit_length() - 1):
            sums = merged(sums)
        out.append(sums)
    return out
