"""Metals that never met in training: errors and their bars, beside those of a shared pair potential in that place.

Usage: python tests/benchmarks/unmet_species.py. Some five minutes on two cores.

Committees of 16 members with the default settings are fitted to crystals of 8 atoms, labelled by ASE's EMT: of A-B and
B-C alloys, then asked of A-C; of pure A and pure B, then asked of A-B; of A-B, B-C and A-C, then asked of A-B-C; and of
six metals that met within two groups of three, asked of all six; and of the first of these sets with slabs of A and C
(A and B) whose nearest atoms are 0.9 to 1 cutoffs apart. Where no crystal has a feature,

- `nothing`: its coefficients are zero;
- `shared pair`: those of pairs are those of one pair potential, the same for all pairs of species in units of r_0,
  fitted to all energies and forces by least squares; the others are zero;
- `alflow`: as :mod:`alflow.models.ace.unmet` says.

Exit code 1 where, by alflow, the root mean square z-score of the energies is not below 2.5, less than 40 % of the force
components are within sigma, or the error of forces or energies is above that of the shared pair potential; of energies
only where the composition is a combination of known ones, as their zero is unknown otherwise.
"""

import copy
import sys
from collections.abc import Callable, Sequence

import alflow
import numpy as np
from alflow.committee.committee import Committee
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

SIDES = {"Al": 4.0, "Ni": 3.52, "Cu": 3.61, "Pd": 3.89, "Ag": 4.09, "Pt": 3.92, "Au": 4.08}  # Å, lattice constants
MEMBERS, SEEDS, ASKED = 16, (0, 1), 10
CUTOFF = 5.5  # Å, of sets with slabs
ENERGY_WEIGHT, RIDGE = 20.0, 1e-3  # as by default; relative to the columns


def crystal(symbols: Sequence[str], rng: np.random.Generator) -> Atoms:
    """Of 8 or 16 atoms, displaced and strained, with energy and forces."""
    side = np.mean([SIDES[symbol] for symbol in symbols]) * rng.uniform(0.97, 1.03)
    atoms = bulk("Cu", a=side, cubic=True) * ((2, 1, 1) if len(symbols) == 8 else (2, 2, 1))
    atoms.symbols = rng.permutation(symbols)
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    atoms.calc = EMT()
    atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
    return atoms


def of_two(a: str, b: str, c: str, rng: np.random.Generator) -> tuple[list[Atoms], list[Atoms]]:
    """A-B and B-C, asked of A-C."""
    known = [crystal(4 * pair, rng) for _ in range(30) for pair in ([a, b], [b, c])]
    return known, [crystal([a, c] * 4, rng) for _ in range(ASKED)]


def of_pure(a: str, b: str, rng: np.random.Generator) -> tuple[list[Atoms], list[Atoms]]:
    """A and B, asked of A-B."""
    known = [crystal([one] * 8, rng) for _ in range(20) for one in (a, b)]
    return known, [crystal([a, b] * 4, rng) for _ in range(ASKED)]


def of_three(a: str, b: str, c: str, rng: np.random.Generator) -> tuple[list[Atoms], list[Atoms]]:
    """A-B, B-C and A-C, asked of A-B-C."""
    known = [crystal(4 * pair, rng) for _ in range(20) for pair in ([a, b], [b, c], [a, c])]
    return known, [crystal(5 * [a, b, c] + [a], rng) for _ in range(ASKED)]


def slabs(a: str, b: str, rng: np.random.Generator) -> Atoms:
    """A slab of 8 atoms of each, the nearest of which are 0.9 to 1 times 5.5 Å apart."""
    parts = [crystal([one] * 8, rng) for one in rng.permutation([a, b])]
    parts[1].set_cell(parts[0].cell, scale_atoms=True)
    atoms, wanted = parts[0] + parts[1], CUTOFF * rng.uniform(0.9, 1.0)
    atoms.pbc, atoms.cell[2, 2] = (True, True, False), 40.0
    height = 20.0
    for step in 10.0 * 0.5 ** np.arange(20):  # downwards as long as they are not too near
        atoms.positions[8:, 2] = parts[1].positions[:, 2] + height - step
        if atoms.get_all_distances(mic=True)[:8, 8:].min() > wanted:
            height -= step
    atoms.positions[8:, 2] = parts[1].positions[:, 2] + height
    atoms.calc = EMT()
    atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
    return atoms


def near_the_cutoff(
    known: tuple[list[Atoms], list[Atoms]], a: str, b: str, rng: np.random.Generator
) -> tuple[list[Atoms], list[Atoms]]:
    """The same with slabs."""
    return [*known[0], *(slabs(a, b, rng) for _ in range(16))], known[1]


def of_six(rng: np.random.Generator) -> tuple[list[Atoms], list[Atoms]]:
    """Two groups of three metals, asked of both together."""
    groups = ["Cu", "Ag", "Ni"], ["Al", "Pd", "Pt"]
    known = [crystal(rng.choice(groups[k % 2], 8), rng) for k in range(100)]
    return known, [crystal(np.ravel([rng.choice(g, 4) for g in groups]), rng) for _ in range(ASKED)]


SETS: dict[str, Callable[[np.random.Generator], tuple[list[Atoms], list[Atoms]]]] = {
    "Cu-Ag, Ag-Au; Cu-Au": lambda rng: of_two("Cu", "Ag", "Au", rng),
    "Cu-Ni, Ni-Pt; Cu-Pt": lambda rng: of_two("Cu", "Ni", "Pt", rng),
    "Al-Ni, Ni-Pd; Al-Pd": lambda rng: of_two("Al", "Ni", "Pd", rng),
    "Cu, Au; Cu-Au": lambda rng: of_pure("Cu", "Au", rng),
    "Ni, Al; Ni-Al": lambda rng: of_pure("Ni", "Al", rng),
    "pairs of Cu, Ag, Au; all": lambda rng: of_three("Cu", "Ag", "Au", rng),
    "pairs of Al, Ni, Pt; all": lambda rng: of_three("Al", "Ni", "Pt", rng),
    "six metals": of_six,
    "Cu-Ag, Ag-Au, far Cu-Au; Cu-Au": lambda rng: near_the_cutoff(of_two("Cu", "Ag", "Au", rng), "Cu", "Au", rng),
    "Al-Ni, Ni-Pd, far Al-Pd; Al-Pd": lambda rng: near_the_cutoff(of_two("Al", "Ni", "Pd", rng), "Al", "Pd", rng),
    "Cu, Au, far Cu-Au; Cu-Au": lambda rng: near_the_cutoff(of_pure("Cu", "Au", rng), "Cu", "Au", rng),
    "Ni, Al, far Ni-Al; Ni-Al": lambda rng: near_the_cutoff(of_pure("Ni", "Al", rng), "Ni", "Al", rng),
}


def met(committee: Committee) -> np.ndarray:
    """Which features of each species any crystal has, shape (S, F)."""
    model = committee.model
    found = np.zeros(model.coefficients.shape[:2], dtype=bool)
    for frame in committee.training.frames:
        if not frame.pbc.all():
            continue
        env = model.descriptor.environment(frame)
        features = model.descriptor.features(env)
        found |= np.array([features[:, env.pairs.species == s].any(axis=1) for s in range(len(found))])
    return found


def shared_pair(committee: Committee) -> np.ndarray:
    """Coefficients (F,) of the pair potential that fits all structures best; zero of other features."""
    model = committee.model
    basis, n_species = model.descriptor.basis, len(model.numbers)
    pairs = [(f, channels[0].n) for f, (channels, _) in enumerate(basis.products) if len(channels) == 1]
    rows, targets = [], []
    for k, frame in enumerate(committee.training.frames):
        env = model.descriptor.environment(frame)
        features = model.descriptor.features(env).sum(axis=1)
        of_forces = model.descriptor.rows(env, strain=False)[0].reshape(n_species, basis.n_features, -1).sum(axis=0)
        counts = [np.sum(frame.numbers == z) for z in model.numbers]
        mine = np.zeros((1 + of_forces.shape[1], 1 + max(n for _, n in pairs) + n_species))
        for f, n in pairs:
            mine[:, n] += np.concatenate([[features[f]], of_forces[f]])
        mine[0, -n_species:] = counts
        weights = np.ones(len(mine))
        weights[0] = ENERGY_WEIGHT / np.sqrt(len(frame))
        rows.append(weights[:, None] * mine)
        targets.append(
            weights * np.concatenate([[committee.training.energies[k]], committee.training.forces[k].ravel()])
        )
    matrix = np.concatenate(rows)
    scale = np.sqrt(np.mean(matrix**2, axis=0))
    ridge = RIDGE * np.eye(len(scale))
    right = np.concatenate([*targets, np.zeros(len(scale))])
    found = np.linalg.lstsq(np.concatenate([matrix / scale, ridge]), right, rcond=None)[0] / scale
    out = np.zeros(basis.n_features)
    for f, n in pairs:
        out[f] = found[n]
    return out


def with_coefficients(committee: Committee, coefficients: np.ndarray) -> Committee:
    """The same with other coefficients."""
    other = copy.copy(committee)
    other.model = copy.copy(committee.model)
    other.model.set_coefficients(coefficients)
    return other


def judged(committee: Committee, frames: list[Atoms]) -> tuple[float, float, float, float]:
    """Errors of energies, eV/atom, and forces, eV/Å; RMS z of energies; share of force components within sigma."""
    energy, force, z, within = [], [], [], []
    for frame in frames:
        found = committee.predict(frame)
        error, errors = found.energy - frame.get_potential_energy(), found.forces - frame.get_forces()
        energy.append(error / len(frame))
        force.append(np.mean(errors**2))
        z.append(error / found.energy_sigma)
        within.append(np.mean(np.abs(errors) < found.forces_sigma))
    rms = [float(np.sqrt(np.mean(np.square(x)))) for x in (energy, z)]
    return rms[0], float(np.sqrt(np.mean(force))), rms[1], float(np.mean(within))


def told(known: list[Atoms], asked: list[Atoms]) -> bool:
    """Whether what is asked of is of compositions that are combinations of known ones."""
    counts = [[frame.symbols.count(symbol) for symbol in SIDES] for frame in [*known, *asked]]
    return bool(np.linalg.matrix_rank(counts) == np.linalg.matrix_rank(counts[: len(known)]))


def main() -> int:
    """Print the table; the exit code."""
    print("| known; asked of | nothing | shared pair | alflow |\n|---|---|---|---|")
    passed = True
    for name, make in SETS.items():
        found = []
        for seed in SEEDS:
            known, asked = make(np.random.default_rng(seed))
            far = {} if all(frame.pbc.all() for frame in known) else {"cutoff": CUTOFF}
            committee = alflow.fit(known, n_members=MEMBERS, seed=seed, **far)
            here, coefficients = met(committee)[:, :, None], committee.model.coefficients
            pair = shared_pair(committee)[None, :, None]
            three = [np.where(here, coefficients, other) for other in (0.0, pair, coefficients)]
            found.append([judged(with_coefficients(committee, one), asked) for one in three])
        mean = np.sqrt(np.mean(np.square(found), axis=0))  # over seeds
        words = [f"{e:.2f} eV/atom, {f:.2f} eV/Å; z {z:.2g}, {w:.0%}" for e, f, z, w in mean]
        print(f"| {name} | " + " | ".join(words) + " |", flush=True)
        better = mean[2] <= mean[1]
        passed &= bool((better[0] or not told(known, asked)) and better[1] and mean[2, 2] < 2.5 and mean[2, 3] > 0.4)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
