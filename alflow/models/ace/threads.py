"""Several systems of equations at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 8
"""Systems solved at once, at most: each needs a matrix of its own."""


def each(function: Callable[[T], R], items: Iterable[T], threads: int) -> list[R]:
    """What a function gives for each of several items, some of them at once."""
    with ThreadPoolExecutor(min(threads, AT_ONCE)) as pool:
        return list(pool.map(function, items))
