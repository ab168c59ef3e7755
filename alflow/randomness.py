"""Random numbers that are keyed, not consumed: the same key gives the same numbers, whatever was drawn before."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.random import Generator


def generator(seed: int, *key: int) -> "Generator":
    """The random numbers of one purpose.

    Parameters
    ----------
    seed : int
        Of the run.
    *key : int
        What they are for, as (cycle, step of the cycle, item): two purposes never share a key, so that an interrupted
        run, or one with more workers, draws the same numbers.
    """
    import numpy as np

    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
