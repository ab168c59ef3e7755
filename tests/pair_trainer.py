"""A small, deterministic trainer of pair potentials, and the ASE calculator of what it writes.

``python pair_trainer.py TRAIN VALIDATION OUTPUT SEED [--start MODEL] [--fault WORD] ...``: Gaussians of the distances,
the same between all species, by ridge regression on energies and forces; with --start towards an earlier model.
"""

import argparse
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

CUTOFF, N = 4.5, 12


def functions(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values and slopes (n, N)."""
    x = (r[:, None] - np.linspace(0.8, CUTOFF, N)) / (CUTOFF / N)
    bell, fade = np.exp(-0.5 * x**2), (1 - (r / CUTOFF) ** 2)[:, None]
    return bell * fade**3, bell * (-x * N / CUTOFF * fade**3 - 6 * r[:, None] / CUTOFF**2 * fade**2)


def rows(atoms: Atoms, numbers: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the energy (D,), the forces (3N, D) and the virial (9, D)."""
    i, j, r, vectors = neighbor_list("ijdD", atoms, CUTOFF)
    values, slopes = functions(r)
    constants = [np.sum(atoms.numbers == z) for z in numbers]
    along = (vectors / r[:, None])[:, :, None] * slopes[:, None, :]
    forces = np.zeros((len(atoms), 3, N))
    np.add.at(forces, i, 0.5 * along)
    np.add.at(forces, j, -0.5 * along)
    virial = 0.5 * np.einsum("px,pyk->xyk", vectors, along).reshape(9, N)
    zeros = np.zeros((3 * len(atoms), len(numbers)))
    energy = np.concatenate([constants, 0.5 * values.sum(axis=0)])
    return (
        energy,
        np.concatenate([zeros, forces.reshape(-1, N)], axis=1),
        np.concatenate([np.zeros((9, len(numbers))), virial], axis=1),
    )


class Pairs(Calculator):
    """What was trained."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, model: str, single: bool = False) -> None:
        super().__init__()
        found = json.loads(Path(model).read_text())
        self.numbers, self.coefficients, self.single = found["numbers"], np.array(found["coefficients"]), single

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        if set(self.atoms.numbers) - set(self.numbers):
            raise KeyError(str(self.atoms.symbols))
        energy, forces, virial = (x @ self.coefficients for x in rows(self.atoms, self.numbers))
        kind = np.float32 if self.single else np.float64
        self.results = {"energy": kind(energy), "forces": forces.reshape(-1, 3).astype(kind)}
        if self.atoms.pbc.all():
            stress = virial[[0, 4, 8, 5, 2, 1]] / self.atoms.get_volume()
            self.results["stress"] = stress.astype(kind)


def train(frames: list[Atoms], seed: int, start: np.ndarray | None) -> dict[str, list]:
    numbers = sorted({int(z) for frame in frames for z in frame.numbers})
    parts, targets = [], []
    for frame in frames:
        energy, forces, _ = rows(frame, numbers)
        weight = 20 / np.sqrt(len(frame))
        parts += [weight * energy[None], forces]
        targets += [[weight * frame.get_potential_energy()], frame.get_forces().ravel()]
    x, y = np.concatenate(parts), np.concatenate(targets)
    ridge = 1e-3 * (1 + 0.1 * np.random.default_rng(seed).random(x.shape[1]))
    prior = np.zeros(x.shape[1]) if start is None else start
    found = prior + np.linalg.solve(x.T @ x + np.diag(ridge), x.T @ (y - x @ prior))
    return {"numbers": numbers, "coefficients": found.tolist()}


def main() -> None:
    import ase.io

    parser = argparse.ArgumentParser()
    for name in ("train", "validation", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--fault", default="")
    parser.add_argument("--sleep", type=float, default=0.0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--link", default="")
    given = parser.parse_args()
    if "LOG" in os.environ:
        with Path(os.environ["LOG"]).open("a") as log:
            log.write(f"training {given.seed}\n")
    time.sleep(given.sleep)
    if given.keep is not None:
        for path in (given.train, given.validation):
            shutil.copy(path, given.keep / f"{given.seed}-{path.name}")
    if given.fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if given.fault == "error":
        raise SystemExit("the learning rate is too large")
    frames = ase.io.read(given.train, ":")
    assert ase.io.read(given.validation, ":")
    start = None if given.start is None else np.array(json.loads(given.start.read_text())["coefficients"])
    target = given.output if not given.link else Path("best.json")
    if given.fault != "nothing":
        target.write_text(json.dumps(train(frames, given.seed, start)))
    if given.link:
        given.output.symlink_to(target.absolute() if given.link == "absolute" else target)
    job = f" in job {os.environ['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in os.environ else ""
    print(f"trained on {len(frames)} structures{job}")


if __name__ == "__main__":
    main()
