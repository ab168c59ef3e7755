"""What is kept of the training set to judge every new fit by, without evaluating any structure again."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from alflow.committee.judgement import Statements
from alflow.models.ace.equations import NormalEquations, Sample

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_ATOMS = 16  # of a structure whose forces are kept: all components, so that it may be turned as one likes
_BOTH = np.array([1.0, 1.0, 1.0, *3 * [np.sqrt(2.0)]])  # xy of a stress counts for yx, too: likewise
_MANY = 400  # structures of which all are kept; of a later one, the k-th, with probability 400/k


@dataclass(eq=False)
class Jury:
    """Rows of the structures, kept to be multiplied with the coefficients of every new fit.

    Those of all energies, and of forces and stresses as many as make sure that neither memory nor time grow with the
    whole data: forces of a random sample of the atoms of a structure, of all structures at first and of ever fewer
    later.
    """

    rows: list[Array] = field(default_factory=list)
    n_atoms: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    force_rows: list[NDArray[np.float32]] = field(default_factory=list)
    forces: list[Array] = field(default_factory=list)
    with_forces: list[int] = field(default_factory=list)
    stress_rows: list[NDArray[np.float32]] = field(default_factory=list)
    stresses: list[Array] = field(default_factory=list)
    stress_sizes: list[float] = field(default_factory=list)
    with_stress: list[int] = field(default_factory=list)

    def add(self, row: Array, n_atoms: int, group: int, weight: float = 1.0) -> None:
        """Add a structure's energy row (D,): its features summed over its atoms, and how many these are by species.

        Its weight counts in fits, not in what is judged.
        """
        self.rows.append(row)
        self.n_atoms.append(n_atoms)
        self.groups.append(group)
        self.weights.append(weight)

    def add_forces(self, rows: Array, forces: Array, rng: np.random.Generator, weight: float = 1.0) -> None:
        """Add some of the last added structure's force rows (S F, n), here multiplied by a weight, and forces (n,)."""
        if self._keeps(rng):
            atoms = np.sort(rng.permutation(len(forces) // 3)[:_ATOMS])
            chosen = (3 * atoms[:, None] + np.arange(3)).ravel()
            # Half the memory: errors are judged to a few digits, whatever the fit itself needs.
            self.force_rows.append((rows[:, chosen].T / weight).astype(np.float32))
            self.forces.append(forces[chosen])
            self.with_forces.append(len(self.rows) - 1)

    def add_stress(self, rows: Array, stress: Array, size: float, rng: np.random.Generator) -> None:
        """Add the last added structure's stress rows (S F, 6) and stress (6,); ``size`` as of :class:`Statements`."""
        if self._keeps(rng):
            self.stress_rows.append(rows.T.astype(np.float32))
            self.stresses.append(stress)
            self.stress_sizes.append(size)
            self.with_stress.append(len(self.rows) - 1)

    def stress_rows_and_labels(self, n_columns: int) -> tuple[Array, Array] | None:
        """Rows (6 n, D) and labels (6 n,) of the stresses that are kept; None where there are none."""
        if not self.stresses:
            return None
        rows = np.concatenate(self.stress_rows).astype(np.float64)
        return np.pad(rows, ((0, 0), (0, n_columns - rows.shape[1]))), np.concatenate(self.stresses)

    def _keeps(self, rng: np.random.Generator) -> bool:
        """Whether forces or stress of the last added structure are kept."""
        number = len(self.rows)
        return number <= _MANY or bool(rng.random() < _MANY / number)

    def with_energies(
        self, equations: NormalEquations, energies: Array, weight: Callable[[IntArray], Array]
    ) -> NormalEquations:
        """The sums with the energies (n,) of all structures, each with the weight of its size and its own.

        And with what is kept of forces and stresses.
        """
        w, groups = weight(np.array(self.n_atoms)) * np.array(self.weights), np.array(self.groups)
        samples = (
            Sample(groups[self.with_forces], self.force_rows, self.forces),
            Sample(
                groups[self.with_stress],
                [(_BOTH[:, None] * rows).astype(np.float32) for rows in self.stress_rows],
                [_BOTH * stress for stress in self.stresses],
            ),
        )
        found = equations.with_energies(groups, w[:, None] * np.array(self.rows), w * energies)
        return replace(found, samples=samples)

    def statements(self, members: Array, without: Array, energies: Array, composition: Array) -> Statements:
        """What members and others that were fitted to the structures say of them.

        Parameters
        ----------
        members : ndarray, shape (M, D)
            Coefficients of the members, those of the composition last.
        without : ndarray, shape (G, D)
            The same of fits to all groups but one, or some.
        energies : ndarray, shape (n,)
            Labels, eV.
        composition : ndarray, shape (n, S)
            Number of atoms of each species in each structure.
        """
        n_columns = members.shape[1] - composition.shape[1]

        def by_members(rows: NDArray[np.float32]) -> Array:
            return np.asarray(rows @ members[:, :n_columns].T)

        def by_others(rows: NDArray[np.float32], structure: int) -> Array:
            return np.asarray(rows @ without[self.groups[structure], :n_columns])

        return Statements(
            composition=composition,
            groups=self.groups,
            energies=energies.tolist(),
            members=np.array(self.rows) @ members.T,
            with_forces=self.with_forces,
            forces=self.forces,
            force_members=map(by_members, self.force_rows),
            without=np.array([row @ without[group] for row, group in zip(self.rows, self.groups, strict=True)]),
            force_without=list(map(by_others, self.force_rows, self.with_forces)),
            with_stress=self.with_stress,
            stresses=self.stresses,
            stress_sizes=self.stress_sizes,
            stress_members=map(by_members, self.stress_rows),
            stress_without=list(map(by_others, self.stress_rows, self.with_stress)),
        )
