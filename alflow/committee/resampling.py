"""Which structures each member of a committee sees: balanced half-samples with complements.

Structures are dealt to groups, and the groups stand in pairs. A Hadamard matrix decides which group of each pair a
member sees, and another member, its complement, sees the other: McCarthy, *Pseudoreplication: half samples*, Rev. Int.
Stat. Inst. 37, 239 (1969), doi:10.2307/1402116, known to survey statistics as balanced repeated replication. Then

- every member sees one group of each pair: half of the structures, and not what chance leaves it;
- every group is seen by half of the members, and the others judge its structures (out of bag): no reference calculation
  is set aside to measure the uncertainty by;
- any two members share a quarter of the groups or, complements, none: what is linear in the data has the same mean over
  the members as over all data, and the members' variance, with 1/M, is that of the mean. A spread has M - 1 instead:
  with 16 members it is 3 % larger, on the safe side.

With M members there are M groups in M/2 pairs where a Hadamard matrix of order M/2 is known: M = 2, 4, 8, 16, 24, 32,
40, 48, 64, ... Other numbers of members are a part of the next larger design: they see halves, share quarters and are
complements too, but fewer than there are pairs, so a difference between two pairs may be mistaken for another. Of an
odd number one member has no complement.

The mean of members that see half of the structures each is as accurate as one model of all structures where there are
hundreds; where there are few, :func:`alflow.committee.judgement.share_of_whole`. With members that see three quarters
the factor alpha of the calibration is two to three times as large; those that see a quarter are less accurate
(docs/uncertainty.md).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alflow.committee.hadamard import hadamard
from alflow.randomness import generator

IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Last elements of the random keys: what is drawn for a structure, and for its place among the groups.
_STRUCTURE, _PLACE = 1, 4


def seen_groups(n_members: int) -> Flags:
    """Which groups each member sees, shape (M, G): groups 2 j and 2 j + 1 are the pair j."""
    n_rows = (n_members + 1) // 2
    first = hadamard(n_rows)[:n_rows] > 0
    halves = np.stack([first, ~first], axis=-1).reshape(n_rows, -1)
    return np.concatenate([halves, ~halves])[:n_members]


def is_complete(n_members: int) -> bool:
    """Whether the members are a whole design, and not a part of a larger one."""
    seen = seen_groups(n_members)
    return bool(len(seen) == seen.shape[1])


@dataclass(frozen=True, eq=False)
class Resampling:
    """Which structures each member sees.

    Attributes
    ----------
    n_members : int
        M.
    seed : int
        Decides what is dealt to whom.
    groups : ndarray of int, shape (n,)
        Of each structure of the training set; the last group is of those that all members see.
    twins : ndarray of int, shape (n,)
        Of each the first one that it all but coincides with (:mod:`alflow.committee.twins`), itself where there is none
        before it.
    """

    n_members: int
    seed: int
    groups: IntArray
    twins: IntArray

    @classmethod
    def of(
        cls, kinds: Sequence[Hashable], twins: Sequence[int], n_members: int, seed: int, isolated: Sequence[int] = ()
    ) -> "Resampling":
        """Deal structures to groups, see :func:`deal`."""
        groups = deal(kinds, twins, n_members, seed, isolated)
        return cls(n_members, seed, groups, np.array(twins, dtype=np.int64))

    @property
    def seen(self) -> Flags:
        """Which groups each member sees, shape (M, G + 1): those of the design, and one that all of them see."""
        design = seen_groups(self.n_members)
        return np.concatenate([design, np.ones((self.n_members, 1), dtype=bool)], axis=1)

    @property
    def dealt(self) -> Flags:
        """Which structures only half of the members see, shape (n,)."""
        return np.asarray(self.groups < self.seen.shape[1] - 1)

    @property
    def n_apart(self) -> int:
        """How many of these there are that do not nearly coincide."""
        return len(np.unique(self.twins[self.dealt]))

    def remarks(self, kinds: Sequence[Hashable]) -> tuple[str, ...]:
        """What the user should know of it, a line each; with the kinds within which groups were balanced."""
        dealt = self.dealt
        shares = self.seen[:, self.groups]
        n, number = len(self.groups), shares.sum(axis=1)
        less, most = int(number.min()), int(number.max())
        place = {kind: k for k, kind in enumerate(dict.fromkeys(kinds))}
        which = np.array([place[kind] for kind in kinds])
        # Of each member and kind, how many more it has seen than it has not.
        excess = np.array([np.bincount(which, dealt * (2.0 * mine - 1.0)) for mine in shares])
        share = f"{less}" if less == most else f"{less} to {most}"
        kinds_of = f"{len(place)} kind{'' if len(place) == 1 else 's'} (by system, composition and origin)"
        said = f"each member sees {share} of {n} structures, in {kinds_of}"
        found = [f"{said}; largest difference between those seen and not seen of a kind: {np.abs(excess).max():.0f}"]
        if not dealt.all():
            found.append(f"isolated atoms, seen by all members and judged by none: {np.sum(~dealt)}")
        again = np.flatnonzero(self.twins != np.arange(n))
        if len(again):
            found.append(
                f"{len(again)} structures nearly coincide with earlier ones (structure {again[0]} with structure "
                f"{self.twins[again[0]]}, ...): such twins are seen by the same members"
            )
        if not is_complete(self.n_members):
            whole = "2, 4, 8, 16, 24, 32, 40, 48 or 64 are balanced completely"
            found.append(f"{self.n_members} members are a part of a design of {self.seen.shape[1] - 1}: {whole}")
        return tuple(found)

    def draws(self, index: int) -> np.random.Generator:
        """Random numbers with which a model chooses among what a structure brings, such as its force components."""
        return generator(self.seed, index, _STRUCTURE)


def deal(
    kinds: Sequence[Hashable], twins: Sequence[int], n_members: int, seed: int, isolated: Sequence[int] = ()
) -> IntArray:
    """Deal structures to groups, so that of each kind every member sees half.

    One after the other: what comes later changes nothing for those that are there.

    Parameters
    ----------
    kinds : sequence of hashable, length n
        Within which groups are to be balanced.
    twins : sequence of int, length n
        Of each structure the first one that it all but coincides with, itself where there is none before: they stay
        together, as members that have seen the one would judge the other too well.
    n_members, seed : int
        Of the committee.
    isolated : sequence of int
        Which of them are atoms alone: they say what nothing else does, the zero of energy, and all members are told.

    Returns
    -------
    ndarray of int, shape (n,)
        The group of each, G of isolated atoms.
    """
    n_pairs = seen_groups(n_members).shape[1] // 2
    groups = np.full(len(kinds), 2 * n_pairs, dtype=np.int64)
    alone = set(isolated)
    everywhere = np.zeros((n_pairs, 2), dtype=np.int64)  # sets of twins in the two groups of each pair
    of_kind: dict[Hashable, IntArray] = {}
    there: set[tuple[Hashable, int]] = set()
    for index, (kind, twin) in enumerate(zip(kinds, twins, strict=True)):
        if index in alone:
            continue
        mine = of_kind.setdefault(kind, np.zeros_like(everywhere))
        groups[index] = groups[twin] if twin < index else _place(mine, everywhere, generator(seed, index, _PLACE))
        # Sets of twins count, not structures: were it these, the others of its kind would all be put opposite one that
        # came ten times.
        if (kind, twin) not in there:
            there.add((kind, twin))
            place = divmod(int(groups[index]), 2)
            mine[place] += 1
            everywhere[place] += 1
    return groups


def _place(mine: IntArray, everywhere: IntArray, rng: np.random.Generator) -> int:
    """The group for one more of a kind.

    Opposite what has no counterpart yet: of its own kind if there is such, else of others. Then where the fewest are,
    of its kind and of all; of equal places one is drawn.
    """

    def without_counterpart(counts: IntArray) -> IntArray:
        """How many more are opposite a group than in it, shape (pairs, 2)."""
        return counts[:, ::-1] - counts

    keys = (
        rng.random(mine.shape),
        everywhere,
        mine.sum(axis=1, keepdims=True) + np.zeros_like(mine),
        -without_counterpart(everywhere),
        -without_counterpart(mine),
    )
    return int(np.lexsort([np.ravel(key) for key in keys])[0])
