"""A small model that is no ACE: members are harmonic springs between all atoms of a molecule or of a minimum image."""

from typing import Any, ClassVar, Literal

import h5py
import numpy as np
from alflow.committee.judgement import Judgement
from alflow.committee.protocol import Fitted, Forward, Gradient
from alflow.committee.resampling import Resampling
from alflow.committee.training import TrainingSet
from alflow.errors import PotentialError
from alflow.models.settings import Potential
from ase import Atoms
from pydantic import Field


class Springs:
    """E_m = sum over pairs of k_m (r - 1)^2 / 2, half of it to each atom."""

    kind: ClassVar[str] = "springs"
    by_atom: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    threads = 1

    def __init__(self, n_members: int) -> None:
        self.n_members = n_members
        self.settings: dict[str, Any] = {}
        self.k = np.zeros(n_members)
        self.numbers: tuple[int, ...] = ()
        self.last: Atoms | None = None

    @classmethod
    def make(cls, n_members: int, settings: dict[str, Any]) -> "Springs":
        if settings:
            msg = f"unknown settings {list(settings)}"
            raise PotentialError(msg)
        return cls(n_members)

    def update(self, training: TrainingSet, first: int, resampling: Resampling, *, repels: bool) -> Fitted:
        """Each member's k by least squares of the energies it sees, counted from their mean."""
        self.numbers = training.numbers
        stretch = np.array([self._stretch(frame).sum() for frame in training.frames])
        for m, seen in enumerate(resampling.seen):
            mine = seen[resampling.groups]
            x, y = (v[mine] - v[mine].mean() for v in (stretch, training.energies))
            self.k[m] = (x @ y) / max(x @ x, 1e-12)
        zero = np.zeros(len(self.numbers))
        return Fitted(Judgement(), float("nan"), zero, 0.0)

    @staticmethod
    def _stretch(atoms: Atoms) -> np.ndarray:
        """Of each atom, half of its pairs' (r - 1)^2 / 2."""
        r = atoms.get_all_distances()
        np.fill_diagonal(r, 1.0)
        return np.sum((r - 1.0) ** 2, axis=1) / 4

    def forward(self, atoms: Atoms) -> Forward:
        self.last = atoms.copy()
        each = self._stretch(atoms)[:, None] * self.k
        return Forward(each.sum(axis=0), each)

    def backward(self, weights: np.ndarray) -> Gradient:
        if self.last is None or weights.shape[-1] != self.n_members:
            msg = f"weights of shape {weights.shape}"
            raise PotentialError(msg)
        ours = np.broadcast_to(weights @ self.k, len(self.last))
        vectors = self.last.get_all_distances(vector=True)
        r = np.linalg.norm(vectors, axis=-1)
        np.fill_diagonal(r, 1.0)
        steep = (ours[:, None] + ours) / 2 * (r - 1.0) / r
        forces = np.einsum("ij,ijx->ix", steep, vectors)
        return Gradient(forces, None, self.last.positions.T @ forces)

    def grade(self, atoms: Atoms) -> np.ndarray:
        return self._stretch(atoms)

    def features(self, atoms: Atoms) -> np.ndarray:
        return np.array([self._stretch(atoms).sum() / len(atoms)])

    def write(self, group: h5py.Group) -> None:
        group["k"] = self.k

    @classmethod
    def read(cls, group: h5py.Group, training: TrainingSet) -> "Springs":
        model = cls(len(group["k"]))
        model.k, model.numbers = group["k"][()], training.numbers
        return model


class SpringsPotential(Potential):
    """The table ``[potential]`` of it."""

    kind: Literal["springs"] = Field("springs", description="springs between all atoms")

    @classmethod
    def model_class(cls) -> type[Springs]:
        return Springs
