"""The sums of a whole run: averages of its parts, with each block left out, and their statistical errors.

The statistical error of everything that is computed from them comes from leaving out blocks of the run one at a time
(the jackknife) and the correlation of what that gives (:mod:`alflow.averages.statistics`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alflow.averages.blocks import Blocks, Origin, Sums, joined, relative_to
from alflow.averages.results import Method
from alflow.averages.statistics import equilibrated, student, windowed
from alflow.errors import AverageError

Array = NDArray[np.float64]

_CONSTANT = 1e-12  # relative


@dataclass(frozen=True, eq=False)
class Run:
    """The sums of a run in equilibrium.

    Attributes
    ----------
    blocks : Sums
        Of all walkers, one after the other, K blocks in all; exponentials are relative to one ``low``.
    n_blocks : list of int
        Of each walker.
    origin : Origin
        What a and h are counted from.
    n_dropped : int
        Frames that were left out at the beginning of walkers.
    most_dropped : float
        Largest share of a walker that was left out because it was not in equilibrium.
    """

    blocks: Sums
    n_blocks: list[int]
    origin: Origin
    n_dropped: int
    most_dropped: float

    @classmethod
    def of(cls, walkers: Sequence[Blocks], drop: float | None) -> "Run":
        """Take the sums out of the walkers.

        Parameters
        ----------
        walkers : sequence of Blocks
            They are empty afterwards: there is memory for one copy.
        drop : float, optional
            Share of each walker to leave out, in whole blocks; found from the driving energy by default.

        Raises
        ------
        AverageError
            Fewer than two blocks are left.
        """
        length = max(walker.length for walker in walkers)
        origin, sums = walkers[0].origin, joined(walkers)
        counts = [len(one["n"]) for one in sums]
        first = [
            _equilibrium(one, length) if drop is None else int(drop * count)
            for one, count in zip(sums, counts, strict=True)
        ]
        n_blocks = [count - start for count, start in zip(counts, first, strict=True)]
        if sum(n_blocks) < 2:
            msg = "fewer than two blocks of frames are left: expected a longer run, or less of it dropped"
            raise AverageError(msg)
        n_all = sum(float(one["n"].sum()) for one in sums)
        blocks = {
            key: np.concatenate([one.pop(key)[start:] for one, start in zip(sums, first, strict=True)])
            for key in list(sums[0])
        }
        share = max(start / count for start, count in zip(first, counts, strict=True))
        return cls(
            blocks=relative_to(blocks, blocks["low"].min(axis=0)),
            n_blocks=n_blocks,
            origin=origin,
            n_dropped=round(n_all - float(blocks["n"].sum())),
            most_dropped=share if drop is None else 0.0,
        )

    def total(self, key: str) -> Array:
        """Of all blocks, then of all but one, for each: shape (K + 1, ...)."""
        value = self.blocks[key]
        everything = value.sum(axis=0)
        return np.concatenate([everything[None], everything - value])

    @property
    def n_frames(self) -> int:
        """Frames that are left."""
        return round(float(self.blocks["n"].sum()))

    @property
    def h_spread(self) -> Array:
        """Standard deviation of h over the frames, shape (M,)."""
        n = self.n_frames
        variance = self.blocks["hh"].sum(axis=0) / n - (self.blocks["h"].sum(axis=0) / n) ** 2
        return np.asarray(np.sqrt(np.maximum(variance, 0)))

    @property
    def kept(self) -> float:
        """Share of the frames that direct reweighting leaves effective: by the weights (Kish), and as exp(-s^2)."""
        squares = self.n_frames * self.blocks["ww"].sum(axis=0)
        kish = self.blocks["w"].sum(axis=0) ** 2 / np.where(squares > 0, squares, np.inf)
        return float(min(kish.min(), np.exp(-(self.h_spread.max() ** 2))))

    @property
    def inefficiency(self) -> float:
        """Frames that count as one independent frame, by the driving energy."""
        mean = float(self.blocks["u"].sum()) / self.n_frames
        variance = float(self.blocks["uu"].sum()) / self.n_frames - mean**2
        of_mean = float(self.variance(self.total("u") / self.total("n"))[0])
        return max(1.0, self.n_frames * of_mean / variance) if variance > 0 else 1.0

    def averages(self, j: int, method: Method | Literal["plain", "next"]) -> Array:
        """Averages of the parts of quantity j, of all blocks and with each left out: (K + 1, P, M)."""
        n = self.total("n")[:, None, None]
        a, h = self.total(f"a{j}") / n, self.total("h")[:, None, :] / n
        origin = self.origin.a[j] if self.origin.a[j].ndim == 2 else self.origin.a[j][:, None]
        if method == "plain":
            return a + origin
        if method == "direct":
            with np.errstate(invalid="ignore", divide="ignore"):  # no frame left that a member would visit
                return self.total(f"aw{j}") / self.total("w")[:, None, :] + origin
        ah = self.total(f"ah{j}") / n
        first = a - (ah - a * h)
        if method == "cea":
            return first + origin
        # The next term of the cumulant expansion, half of the joint cumulant of a, h and h.
        square = self.total(f"ahh{j}") / n - 2 * h * ah + h**2 * a
        variance = self.total("hh")[:, None, :] / n - h**2
        return first + (square - a * variance) / 2 + origin

    def errors(self, values: Array) -> Array:
        """Standard errors of ``values[0]`` from those with a block left out each, (K + 1, ...).

        Larger by a factor where the run is too short to tell them well: one error holds the truth in 68 of 100 cases.
        """
        with np.errstate(invalid="ignore"):
            variance, freedom = self.variance(values)
            constant = np.all(np.abs(values - values[0]) <= _CONSTANT * np.abs(values[0]), axis=0)
            return np.where(constant, 0.0, np.sqrt(variance) * student(freedom))

    def variance(self, values: Array) -> tuple[Array, Array]:
        """Variance of ``values[0]``, of those with a block left out each (K + 1, ...), and its degrees of freedom.

        A variance about a mean that was found from K values, of which g count as one, is (K - g)/K of the true one:
        with g = K/W, W walkers that keep apart, the error is that of W independent values.
        """
        n = self.blocks["n"].reshape(-1, *[1] * (values.ndim - 1))
        total = n.sum()
        with np.errstate(invalid="ignore"):
            # What a block adds to the value, over its share of the frames; of a mean: the deviation of the block's own.
            influence = (values[0] - values[1:]) * (total - n) / n
            count = len(influence)
            g, freedom = windowed(np.split(influence, np.cumsum(self.n_blocks)[:-1]))
            g = np.minimum(np.where(np.isfinite(g), g, 1.0), count / 2)
            return g * np.sum((influence * n / total) ** 2, axis=0) * count / (count - g), freedom


def _equilibrium(sums: Sums, block: int) -> int:
    """First block of a walker that is in equilibrium by its driving energy."""
    full = sums["n"] == block
    return equilibrated(sums["u"][full] / block) if np.sum(full) > 4 else 0
