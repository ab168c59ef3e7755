"""Where a structure, and the surroundings of each of its atoms, lie among those of a training set.

The features of the descriptor know nothing of labels nor of a model: they serve every kind of model.
"""

import copy
from collections.abc import Sequence
from typing import Self

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.models.ace.core import inner_distances
from alflow.models.ace.environment import Descriptor, Environment
from alflow.models.ace.extrapolation import Leverage
from alflow.models.ace.fit import make_descriptor
from alflow.models.ace.settings import AceSettings

Array = NDArray[np.float64]


class Fingerprint:
    """Features of structures, and the extrapolation grade of atoms.

    Parameters
    ----------
    descriptor : Descriptor
        From structures to features.
    smoothness : float
        Features are divided by their degree to this power, as the prior of the linear model expects them to matter.
    frames : sequence of Atoms
        The training set.
    leverages : sequence of Leverage, optional
        Of the atoms of each species in it, where they are known already.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        smoothness: float,
        frames: Sequence[Atoms],
        leverages: Sequence[Leverage] = (),
    ) -> None:
        self.descriptor, self.smoothness, self.frames = descriptor, smoothness, frames
        self._leverages = list(leverages)

    def with_descriptor(self, descriptor: Descriptor) -> "Fingerprint":
        """The same with another object that computes the same features; what is found of the training set is shared."""
        other = copy.copy(self)
        other.descriptor = descriptor
        return other

    @classmethod
    def of(cls, frames: Sequence[Atoms], numbers: tuple[int, ...]) -> Self:
        """By the descriptor with its default settings.

        Parameters
        ----------
        frames : sequence of Atoms
            The training set.
        numbers : tuple of int
            Atomic numbers of its species, sorted.

        Raises
        ------
        PotentialError
            Atoms that coincide.
        """
        settings = AceSettings()
        descriptor = make_descriptor(settings, numbers)
        shortest = np.full((len(numbers), len(numbers)), np.inf)
        for frame in frames:
            shortest = np.minimum(shortest, descriptor.shortest(descriptor.pairs(frame)))
        inner = inner_distances(numbers, shortest, settings.radius)
        return cls(descriptor.with_inner(inner), settings.smoothness, frames)

    def features(self, env: Environment) -> Array:
        """A structure's place in feature space: summed features per atom, scaled like the prior; shape (S F,).

        Euclidean distances between them tell how different two structures are.
        """
        features = self.descriptor.features(env) / self.descriptor.basis.degree[:, None] ** self.smoothness
        species = range(len(self.descriptor.numbers))
        summed = [features[:, env.pairs.species == s].sum(axis=1) for s in species]
        return np.concatenate(summed) / len(env.slot_of)

    def grade(self, env: Environment) -> Array:
        """Extrapolation grade of every atom, shape (N,): leverage of its surroundings against the training set.

        1 is usual in the training set (:class:`alflow.models.ace.extrapolation.Leverage`). For an atom with a
        neighbour at a distance r below the shortest distance d seen, where features are at rest, (d/r)^12 if that is
        larger.
        """
        if not self._leverages:
            self._leverages.extend(self._leverages_of_training())  # in place: copies share them
        features = self.descriptor.features(env)
        out = self.descriptor.closeness(env) ** 12
        for s in np.unique(env.pairs.species):
            mine = env.pairs.species == s
            out[mine] = np.maximum(out[mine], self._leverages[s].grade(features[:, mine]))
        return out

    def _leverages_of_training(self) -> list[Leverage]:
        """From the structures: a file holds those only, as the sums of their features would be far larger."""
        n_features = self.descriptor.basis.n_features
        sums = [(np.zeros((n_features, n_features)), np.zeros(n_features), 0) for _ in self.descriptor.numbers]
        for frame in self.frames:
            env = self.descriptor.environment(frame)
            features = self.descriptor.features(env)
            for s in np.unique(env.pairs.species):
                mine = features[:, env.pairs.species == s]
                squares, total, n = sums[s]
                sums[s] = squares + mine @ mine.T, total + mine.sum(axis=1), n + mine.shape[1]
        return [Leverage.of(*of_species) for of_species in sums]
