"""Which structures each member of a committee sees.

Structures are dealt to M groups in an order that depends on the seed only; each group is seen by M // 2 members, and
the others judge its structures (out of bag): no reference calculation is set aside to measure the uncertainty by. The
mean of members that see half of the structures each is at least as accurate as one model of all structures. With
members that see three quarters the factor alpha of the calibration is two to three times as large; those that see a
quarter are less accurate (docs/uncertainty.md).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alflow.randomness import generator

_SHARE = 0.5  # of the members see a structure; see tests/benchmarks/uncertainty.py for others

# Last elements of the random keys: what is drawn for a deal of structures, for a structure and for a group.
_DEAL, _STRUCTURE, _GROUP, _HALVES = 0, 1, 2, 3


@dataclass(frozen=True)
class Resampling:
    """The dealing of structures to groups, and of groups to members.

    Attributes
    ----------
    n_members : int
        M, of members and of groups.
    seed : int
        Decides what is dealt to whom.
    """

    n_members: int
    seed: int

    def group(self, index: int) -> int:
        """Group of a structure, by its index in the training set: every M of them are dealt to the M groups, one each.

        Keyed by the deal, so that structures added later change nothing for those that are there.
        """
        deal, place = divmod(index, self.n_members)
        rng = generator(self.seed, deal, _DEAL)
        return int(rng.permutation(self.n_members)[place])

    def seen(self) -> NDArray[np.bool_]:
        """Which groups each member sees, shape (M, M), members first; as many members see each group."""
        seen = np.zeros((self.n_members, self.n_members), dtype=bool)
        attempt: tuple[int, ...] = ()
        # A member that sees no group has nothing to be fitted to: then all is drawn again, with a key one longer.
        while not seen.any(axis=1).all():
            seen[:] = False
            for group in range(self.n_members):
                rng = generator(self.seed, group, _GROUP, *attempt)
                seen[rng.permutation(self.n_members)[: int(_SHARE * self.n_members)], group] = True
            attempt = (attempt[0] + 1 if attempt else 0,)
        return seen

    def halves(self) -> NDArray[np.bool_]:
        """The same, but every member sees M // 2 groups, too: for members whose training costs much.

        Members and groups stand on a circle in random order, and each member sees the half of it that follows.
        """
        rng = generator(self.seed, _HALVES)
        members, groups = rng.permutation(self.n_members), rng.permutation(self.n_members)
        behind = (groups[None, :] - members[:, None]) % self.n_members
        return np.asarray(behind < int(_SHARE * self.n_members))

    def draws(self, index: int) -> np.random.Generator:
        """Random numbers with which a model chooses among what a structure brings, such as its force components."""
        return generator(self.seed, index, _STRUCTURE)
