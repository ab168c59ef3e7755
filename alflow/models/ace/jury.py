"""What is kept of the training set to judge every new fit by, without evaluating any structure again."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alflow.committee.judgement import Judgement, Statements, judge

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FORCES = 48  # force components kept of a structure
_MANY = 400  # structures of which all are kept; of a later one, the k-th, with probability 400/k


@dataclass(eq=False)
class Jury:
    """Rows of the structures, kept to be multiplied with the coefficients of every new fit.

    All energies, and of the forces as many as make sure that neither memory nor time grow with the whole data: a random
    sample of the components of a structure, of all structures at first and of ever fewer later.
    """

    rows: list[Array] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    n_atoms: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    force_rows: list[NDArray[np.float32]] = field(default_factory=list)
    forces: list[Array] = field(default_factory=list)
    force_groups: list[int] = field(default_factory=list)

    def add(self, row: Array, energy: float, n_atoms: int, group: int) -> None:
        """Add a structure's energy row (D,) and energy."""
        self.rows.append(row)
        self.energies.append(energy)
        self.n_atoms.append(n_atoms)
        self.groups.append(group)

    def add_forces(self, rows: Array, forces: Array, group: int, rng: np.random.Generator) -> None:
        """Add some of the last added structure's force rows (S F, n) and forces (n,)."""
        number = len(self.rows)
        keep = number <= _MANY or rng.random() < _MANY / number
        if keep:
            chosen = np.sort(rng.permutation(len(forces))[:_FORCES])
            # Half the memory: errors are judged to a few digits, whatever the fit itself needs.
            self.force_rows.append(rows[:, chosen].T.astype(np.float32))
            self.forces.append(forces[chosen])
            self.force_groups.append(group)

    def judge(self, coefficients: Array, seen: Flags) -> Judgement:
        """Judge coefficients (M, D) of members that were fitted to the groups they have ``seen`` (M, G)."""
        n_columns = self.force_rows[0].shape[1] if self.force_rows else 0
        features = coefficients[:, :n_columns].T
        return judge(
            Statements(
                n_atoms=self.n_atoms,
                groups=self.groups,
                energies=self.energies,
                members=np.array(self.rows) @ coefficients.T,
                force_groups=self.force_groups,
                forces=self.forces,
                force_members=(rows @ features for rows in self.force_rows),
            ),
            seen,
        )
