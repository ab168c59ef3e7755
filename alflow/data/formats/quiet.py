"""What libraries say beside what they read."""

import warnings
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def quietly(items: Iterator[T]) -> Iterator[T]:
    """The same, without the warnings of what makes them; those of who takes them are heard."""
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                item = next(items)
            except StopIteration:
                return
        yield item
