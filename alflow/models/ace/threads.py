"""Several systems of equations at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 8
"""Systems solved at once, at most: each needs a matrix of its own."""

_FEWEST = 4  # matrices put together at once: the sums of the groups, which are most of the memory, are read once


def systems_at_once(threads: int) -> int:
    """How many matrices there are at once."""
    return max(_FEWEST, min(threads, AT_ONCE))


def each(function: Callable[[T], R], items: Iterable[T], threads: int) -> list[R]:
    """What a function gives for each of several items, some of them at once."""
    if threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(threads, AT_ONCE)) as pool:
        return list(pool.map(function, items))


def pieces(work: Callable[[int, int], None], n: int, threads: int) -> None:
    """Call ``work(begin, end)`` for pieces of range(n), some of them at once."""
    cuts = np.linspace(0, n, min(n, threads, AT_ONCE) + 1).astype(int).tolist()
    each(lambda piece: work(*piece), pairwise(cuts), threads)
