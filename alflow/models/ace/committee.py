"""The committee: fit, update, predict, keep."""

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from alflow.committee.judgement import Judgement
from alflow.committee.protocol import Driving, Forward, Gradient, Prediction, Weighting
from alflow.committee.resampling import Resampling
from alflow.committee.training import (
    BaselineResult,
    TrainingSet,
    evaluated,
    make_training_set,
    warn_of_outliers,
    without_duplicates,
)
from alflow.committee.weighting import spread, weighted
from alflow.errors import PotentialError
from alflow.models.ace.basis import make_basis
from alflow.models.ace.core import WEAKEST, inner_distances, make_core, repelling, rising
from alflow.models.ace.environment import Descriptor, Environment
from alflow.models.ace.extrapolation import Leverage
from alflow.models.ace.jury import Jury
from alflow.models.ace.kernels import SOFT, Core
from alflow.models.ace.regression import NormalEquations
from alflow.models.ace.settings import AceSettings, lengths
from alflow.version import __version__

Array = NDArray[np.float64]

_SCHEMA = 3
_LEAST_ERROR = 1e-6  # eV; of a baseline that is the reference itself
_MARGIN = 1.5  # of a core over the force it takes over, which is larger in some structure than in those looked at


class Committee:
    """M linear models that share their features, fitted to different halves of the same structures.

    Made by :func:`fit` or :func:`load`.

    Attributes
    ----------
    judgement : Judgement
        Out-of-bag errors and calibration.
    strength : float
        Of the ridge.
    energy_zero, atom_zero : ndarray, shape (S,)
        With a baseline: what an atom of each species adds to the energies' difference from it, eV, by least squares
        over the structures, and as the mean of the learned energies of atoms. From there the weighted corrections of a
        structure and of an atom count.
    baseline_error, baseline_atom_error : float
        How far the differences scatter around that: of structures, over the square root of the number of atoms (NaN
        where there are no more structures than species), and of the learned energies of atoms, eV.
    baseline_identity : str
        What the baseline is, in words of whoever gave it; empty when nothing was said.
    """

    def __init__(
        self,
        settings: AceSettings,
        n_members: int,
        seed: int,
        baseline: Calculator | None = None,
        baseline_identity: str = "",
    ) -> None:
        if n_members < 2:
            msg = f"n_members: expected at least 2 (7 for a calibrated uncertainty), found {n_members}"
            raise PotentialError(msg)
        self.settings = settings
        self.n_members = n_members
        self.seed = seed
        self._resampling = Resampling(n_members, seed)
        self.baseline = baseline
        self.has_baseline = baseline is not None
        self.baseline_identity = baseline_identity
        self.energy_zero = self.atom_zero = np.zeros(0)
        self.baseline_error = self.baseline_atom_error = float("nan")
        self.judgement = Judgement()
        self.strength = float("nan")
        self._training = TrainingSet.empty()
        self._equations: NormalEquations | None = None
        self._jury = Jury()
        self._origin = np.zeros(0)
        self._set_coefficients(np.zeros((0, 0, n_members)))
        self._constants = np.zeros((0, n_members))
        self._shortest = np.zeros((0, 0))
        self._closest = np.zeros((0, 0), dtype=int)
        self._core: Core | None = None
        self._leverages: list[Leverage] = []
        self._last: Environment | None = None

    # Fit

    def update(self, frames: Sequence[Atoms], baseline_results: Sequence[BaselineResult | None] | None = None) -> None:
        """Add labelled structures and fit again; the cost of adding is in proportion to the new structures only.

        Gives what fitting all structures at once would. When a species appears that was not there before, the features
        of all structures change, and the rows of all are computed again; so are those of a committee read from a file.

        Parameters
        ----------
        frames : sequence of Atoms
            Structures whose calculator holds an energy (eV) and, if there are any, forces (eV/Å).
        baseline_results : sequence of (float, ndarray) or None, optional
            Energy and forces of the baseline for each structure where they are known already; it calculates the others.

        Raises
        ------
        PotentialError
            No structures, no energy, something that is not finite, or atoms that coincide; the committee is left as it
            was.

        Warns
        -----
        PotentialWarning
            Structures that are there twice, of which one is left out; energies that disagree wildly with the others.
        """
        if self.has_baseline and self.baseline is None:
            raise PotentialError(_NO_BASELINE)
        new = without_duplicates(self._training, make_training_set(frames, self.baseline, baseline_results))
        training = self._training.joined(new)
        descriptor = self._make_descriptor(training.numbers)
        first = len(self._training)
        again = self._equations is None or training.numbers != self._training.numbers
        begin = 0 if again else first
        shortest = [descriptor.shortest(descriptor.pairs(frame)) for frame in training.frames[begin:]]
        warn_of_outliers(training, first)
        self._training = training
        if again:
            self._reset(descriptor)
        for index, distances in enumerate(shortest, start=begin):
            self._closest[distances < self._shortest] = index
            self._shortest = np.minimum(self._shortest, distances)
        self._descriptor.set_inner(inner_distances(training.numbers, self._shortest, self.settings.cutoff))
        for index in range(begin, len(training)):
            self._add(index)
        self._solve()
        self.energy_zero, self.baseline_error = training.scatter()
        self._core = None if self.has_baseline else self._fitted_core()

    def _reset(self, descriptor: Descriptor) -> None:
        """Begin with no structures: tables for the species, and the zero of energy, from the training set."""
        self._descriptor = descriptor
        self._origin = self._training.energy_zero()
        n_species = len(descriptor.numbers)
        self._equations = NormalEquations.empty(self.n_members, n_species, descriptor.basis.n_features)
        self._jury = Jury()
        self._shortest = np.full((n_species, n_species), np.inf)
        self._closest = np.full((n_species, n_species), -1)

    def _make_descriptor(self, numbers: tuple[int, ...]) -> Descriptor:
        s = self.settings
        basis = make_basis(len(numbers), int(s.n_max), int(s.l_max), s.features_of(len(numbers)))
        return Descriptor(numbers, s.cutoff, basis, lengths(numbers))

    def _add(self, index: int) -> None:
        """Add a structure of the training set to the sums."""
        assert self._equations is not None  # noqa: S101
        atoms, energy, forces = self._training[index]
        env = self._descriptor.environment(atoms)
        group = self._resampling.group(index)
        features = self._descriptor.features(env)
        by_species = [features[:, env.pairs.species == s] for s in range(len(self._descriptor.numbers))]
        counts = self._descriptor.composition(env)
        summed = np.concatenate([*(mine.sum(axis=1) for mine in by_species), counts])
        energy -= float(counts @ self._origin)
        self._jury.add(summed, energy, len(atoms), group)
        rows, targets = self._weighted(env, summed, energy, forces)
        if forces is not None and self.settings.force_weight > 0:
            rng = self._resampling.draws(index)
            size = rows.shape[0] - len(counts)
            self._jury.add_forces(rows[:size, 1:] / self.settings.force_weight, forces.ravel(), group, rng)
        self._equations.add(group, rows, targets, summed, by_species)

    def _weighted(self, env: Environment, summed: Array, energy: float, forces: Array | None) -> tuple[Array, Array]:
        """Rows (D, n), side by side, and targets (n,) of a structure, multiplied with their weights."""
        weight = self.settings.energy_weight / np.sqrt(len(env.slot_of))
        f = self.settings.force_weight
        if forces is None or f == 0:
            return (weight * summed)[:, None], np.array([weight * energy])
        rows = np.zeros((len(summed), 1 + forces.size))
        rows[:, 0] = weight * summed
        rows[: len(summed) - len(self._descriptor.numbers), 1:] = self._descriptor.force_rows(env)
        rows[:, 1:] *= f
        return rows, np.concatenate([[weight * energy], f * forces.ravel()])

    def _solve(self) -> None:
        """Coefficients, judgement and leverages from the sums."""
        equations = self._equations
        assert equations is not None  # noqa: S101
        penalty = self._descriptor.basis.degree.astype(float) ** self.settings.smoothness
        rows = self._pairs_alone()
        seen = self._resampling.seen()
        coefficients, self.strength, responses = equations.solve(seen, penalty, rows)
        if not self.has_baseline:
            coefficients = repelling(coefficients, responses, rows)
        self.judgement = self._jury.judge(coefficients, seen)
        n_species, n_features = equations.atomic.shape[:2]
        parts = coefficients[:, :-n_species].reshape(self.n_members, n_species, n_features)
        self._set_coefficients(np.ascontiguousarray(parts.transpose(1, 2, 0)))
        self._constants = coefficients[:, -n_species:].T + self._origin[:, None]
        means, self.baseline_atom_error = equations.atoms(coefficients.mean(axis=0))
        self.atom_zero = means + self._origin
        totals = equations.total[:-n_species].reshape(n_species, n_features)
        counts = equations.total[-n_species:]
        self._leverages = [
            Leverage.of(*of_species) for of_species in zip(equations.atomic, totals, counts, strict=True)
        ]

    def _set_coefficients(self, coefficients: Array) -> None:
        """Of all members, shape (S, F, M), in both orders in which they are read."""
        self._coefficients = coefficients
        self._transposed = np.ascontiguousarray(coefficients.swapaxes(1, 2))

    def _pairs_alone(self) -> Array:
        """Force rows (D, 3 n) of two atoms alone, of each of n pairs that was seen in training, but not alone.

        At the shortest distance seen, where the radial functions come to rest, and between.
        """
        numbers, inner = self._descriptor.numbers, self._descriptor.functions.inner
        alone = {tuple(sorted(f.numbers)) for f in self._training.frames if len(f) == 2 and not f.pbc.any()}
        rows = np.zeros((0, len(numbers) * (self._descriptor.basis.n_features + 1)))
        self._descriptor.set_inner(np.zeros_like(inner))
        for a, b in zip(*np.triu_indices(len(numbers)), strict=True):
            if not np.isfinite(self._shortest[a, b]) or tuple(sorted((numbers[a], numbers[b]))) in alone:
                continue
            for r in inner[a, b] * np.linspace(1.0, 1.0 - SOFT / 2, 3):
                pair = Atoms([numbers[a], numbers[b]], [[0, 0, 0], [r, 0, 0]])
                row = self._descriptor.force_rows(self._descriptor.environment(pair))[:, 3]
                rows = np.vstack([rows, np.concatenate([row, np.zeros(len(numbers))])])
        self._descriptor.set_inner(inner)
        return np.ascontiguousarray(rows.T)

    def _fitted_core(self) -> Core:
        """Let each pair's core take over the force with which the mean pushes it apart at the shortest distance seen.

        In the structure where it was seen, and alone; there the force shall rise from d inwards.
        """
        numbers, inner = self._descriptor.numbers, self._descriptor.functions.inner
        force = np.full_like(inner, WEAKEST)
        for a, b in zip(*np.triu_indices(len(numbers)), strict=True):
            r = inner[a, b] * np.linspace(1.0, 1.0 - SOFT, 41)
            alone = [self._pair_force(Atoms([numbers[a], numbers[b]], [[0, 0, 0], [x, 0, 0]])) for x in r]
            least = _MARGIN * max(WEAKEST, *alone, self._closest_force(int(a), int(b)))
            force[a, b] = force[b, a] = rising(numbers[a], numbers[b], r, np.array(alone), least)
        return make_core(numbers, inner, force)

    def _pair_force(self, atoms: Atoms, a: int = 0, b: int = 1, vector: Array | None = None) -> float:
        """Force with which the mean, without the core, pushes atom b of a pair away from atom a, eV/Å."""
        env = self._descriptor.environment(atoms)
        g = self._descriptor.vector_gradient(env, self._transposed, self._mean_weights)
        pairs, n_species = env.pairs, len(self._descriptor.numbers)
        along = np.array(vector) if vector is not None else atoms.positions[b] - atoms.positions[a]
        total = 0.0
        for i, j, direction in ((a, b, along), (b, a, -along)):
            mine = slice(pairs.start[i * n_species], pairs.start[(i + 1) * n_species])
            same = (pairs.j[mine] == j) & (np.abs(pairs.vector[mine] - direction).max(axis=1) < 1e-6)
            total -= float(np.sum(g[mine][same] @ direction) / np.linalg.norm(direction))
        return total

    def _closest_force(self, a: int, b: int) -> float:
        """The same at the shortest distance of two species in the training set; zero where that is far."""
        if self._shortest[a, b] > self._descriptor.functions.inner[a, b]:
            return 0.0
        atoms = self._training.frames[self._closest[a, b]]
        pairs = self._descriptor.pairs(atoms)
        n_species = len(self._descriptor.numbers)
        i = np.repeat(np.arange(len(pairs.start) - 1) // n_species, np.diff(pairs.start))
        right = (pairs.species[i] == a) & (pairs.species[pairs.j] == b)
        p = int(np.argmin(np.where(right, np.linalg.norm(pairs.vector, axis=1), np.inf)))
        return self._pair_force(atoms, int(i[p]), int(pairs.j[p]), pairs.vector[p])

    @property
    def _mean_weights(self) -> Array:
        return np.full(self.n_members, 1.0 / self.n_members)

    # Evaluate

    @property
    def threads(self) -> int:
        """How many threads evaluate a structure; results do not depend on it.

        By default OMP_NUM_THREADS where it is set, else all cores this process may use.
        """
        return self._descriptor.threads

    @threads.setter
    def threads(self, number: int) -> None:
        self._descriptor.threads = max(1, int(number))

    def forward(self, atoms: Atoms) -> Forward:
        """Energies of all members, raw (not calibrated) and without the baseline: the learned part.

        Raises
        ------
        PotentialError
            Unknown species, no atoms, positions that are not finite, atoms that coincide.
        """
        self._last = env = self._descriptor.environment(atoms)
        self._last_volume = atoms.get_volume() if atoms.pbc.all() else None
        atom_energies = self._descriptor.atom_energies(env, self._coefficients, self._constants)
        if self._core is not None:
            atom_energies += self._descriptor.core_energies(env, self._core)[:, None]
        return Forward(atom_energies.sum(axis=0), atom_energies)

    def backward(self, weights: Array) -> Gradient:
        """Forces and stress of a weighted sum of the learned member energies of the last :meth:`forward`.

        Parameters
        ----------
        weights : ndarray, shape (M,) or (N, M)
            Of each member, or of each member of each atom.
        """
        if self._last is None:
            msg = "backward before forward: call forward(atoms) first"
            raise PotentialError(msg)
        env = self._last
        weights = np.asarray(weights, dtype=float)
        n_atoms = len(env.slot_of)
        if weights.shape not in {(self.n_members,), (n_atoms, self.n_members)}:
            msg = f"weights of shape {weights.shape}: expected ({self.n_members},) or ({n_atoms}, {self.n_members})"
            raise PotentialError(msg)
        forces, strain = self._descriptor.gradient(env, self._transposed, weights, self._core)
        symmetric = (strain + strain.T) / 2
        volume = self._last_volume
        stress = None if volume is None else full_3x3_to_voigt_6_stress(symmetric / volume)
        return Gradient(forces, stress, -symmetric)

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces, stress (baseline included) and their calibrated uncertainties; errors as of forward."""
        forward = self.forward(atoms)
        mean = self.backward(self._mean_weights)
        forces_spread = spread(np.array([self.backward(one).forces for one in np.eye(self.n_members)]), axis=0)
        energy_spread, atom_spread = float(spread(forward.energies)), spread(forward.atom_energies)
        energy, forces, stress = self._with_baseline(atoms, float(forward.energies.mean()), mean)
        of_energy, of_force = self.judgement.energy, self.judgement.force
        return Prediction(
            energy=energy,
            energies=energy + of_energy.factor * (forward.energies - forward.energies.mean()),
            energy_spread=energy_spread,
            energy_sigma=float(of_energy.sigma(energy_spread, np.sqrt(len(atoms)))),
            forces=forces,
            forces_spread=forces_spread,
            forces_sigma=of_force.sigma(forces_spread),
            atom_spread=atom_spread,
            atom_sigma=of_energy.factor * atom_spread,
            stress=stress,
            grade=self.grade(atoms),
            calibrated=not self.judgement.note,
        )

    def grade(self, atoms: Atoms) -> Array:
        """Extrapolation grade of every atom, shape (N,): leverage of its surroundings against the training set.

        1 is usual in the training set (:class:`alflow.models.ace.extrapolation.Leverage`). For an atom with a
        neighbour at a distance r below the shortest distance d seen, where features are at rest, (d/r)^12 if that is
        larger.
        """
        if not self._leverages:
            self._leverages.extend(self._leverages_of_training())  # in place: copies with a baseline share them
        env = self._descriptor.environment(atoms)
        features = self._descriptor.features(env)
        out = self._descriptor.closeness(env) ** 12
        for s in np.unique(env.pairs.species):
            mine = env.pairs.species == s
            out[mine] = np.maximum(out[mine], self._leverages[s].grade(features[:, mine]))
        return out

    def _leverages_of_training(self) -> list[Leverage]:
        """From the structures: a file holds those only."""
        n_features = self._descriptor.basis.n_features
        sums = [(np.zeros((n_features, n_features)), np.zeros(n_features), 0) for _ in self._descriptor.numbers]
        for frame in self._training.frames:
            env = self._descriptor.environment(frame)
            features = self._descriptor.features(env)
            for s in np.unique(env.pairs.species):
                mine = features[:, env.pairs.species == s]
                squares, total, n = sums[s]
                sums[s] = squares + mine @ mine.T, total + mine.sum(axis=1), n + mine.shape[1]
        return [Leverage.of(*of_species) for of_species in sums]

    def features(self, atoms: Atoms) -> Array:
        """A structure's place in feature space: summed features per atom, scaled like the prior; shape (species x F,).

        Euclidean distances between them tell how different two structures are for this potential.
        """
        env = self._descriptor.environment(atoms)
        features = self._descriptor.features(env) / self._descriptor.basis.degree[:, None] ** self.settings.smoothness
        species = range(len(self._descriptor.numbers))
        return np.concatenate([features[:, env.pairs.species == s].sum(axis=1) for s in species]) / len(atoms)

    def calculator(self, weighting: Weighting | None = None, error: float | None = None) -> Calculator:
        """An ASE calculator of :meth:`drive` (:class:`alflow.committee.calculator.CommitteeCalculator`)."""
        from alflow.committee.calculator import CommitteeCalculator

        return CommitteeCalculator(self, weighting, error)

    def drive(self, atoms: Atoms, weighting: Weighting | None = None, error: float | None = None) -> Driving:
        r"""Energy, forces and stress to simulate with: the mean or, with a baseline, the weighted baseline.

        :math:`U = V_b + E_0 + w V`, where V is the mean of the members counted from the zero
        :math:`E_0 = \sum_s n_s \epsilon_s` (``energy_zero``, ``atom_zero``), and w falls where they disagree
        (:func:`alflow.committee.weighting.weighted`): a simulation that leaves the known region goes on with the
        baseline.

        Parameters
        ----------
        atoms : Atoms
            Structure.
        weighting : "total", "atom" or "none", optional
            By the spread of the energy, as in the paper; of each atom by the spread of its own energy, for large
            systems, of which one part may be known and another not; or not at all. With a baseline "total" by default.
        error : float, optional
            s_b, uncertainty of the baseline in eV: of the whole structure or, with "atom", of an atom. By default
            ``baseline_error`` times the square root of the number of atoms, or ``baseline_atom_error``.

        Raises
        ------
        PotentialError
            As of :meth:`forward`; weighting without a baseline, or an s_b that is neither given nor known; a baseline
            that fails.
        """
        weighting = weighting or ("total" if self.has_baseline else "none")
        forward = self.forward(atoms)
        assert self._last is not None  # noqa: S101
        if weighting == "none":
            gradient = self.backward(self._mean_weights)
            weight, energy = np.ones(()), float(forward.energies.mean())
        else:
            s_b = self._baseline_uncertainty(weighting, error, len(atoms))
            total = weighting == "total"
            zero = (self.energy_zero if total else self.atom_zero)[self._last.pairs.species]
            values = forward.energies - zero.sum() if total else forward.atom_energies - zero[:, None]
            correction, weight, member_weights = weighted(values, self.judgement.energy.factor, s_b)
            gradient = self.backward(member_weights)
            energy = float(zero.sum() + correction.sum())
        driven, forces, stress = self._with_baseline(atoms, energy, gradient)
        mean = driven - energy + float(forward.energies.mean())
        return Driving(driven, forces, stress, weight, mean, forward, calibrated=not self.judgement.energy.note)

    def check_weighting(self, weighting: Weighting | None, error: float | None) -> None:
        """Refuse, as :meth:`drive` does, what no structure can be driven with."""
        if weighting not in {None, "none"} or (weighting is None and self.has_baseline):
            self._baseline_uncertainty(weighting or "total", error, 1)

    def _baseline_uncertainty(self, weighting: Weighting, error: float | None, n_atoms: int) -> float:
        if weighting not in {"total", "atom"}:
            msg = f"weighting: expected total, atom or none, found {weighting!r}"
            raise PotentialError(msg)
        if not self.has_baseline:
            msg = f"weighting = {weighting!r}: this committee was trained without a baseline, expected 'none'"
            raise PotentialError(msg)
        if error is None:
            total = self.baseline_error * np.sqrt(n_atoms)
            error = float(np.maximum(_LEAST_ERROR, total if weighting == "total" else self.baseline_atom_error))
        if not (np.isfinite(error) and error > 0):
            msg = (
                f"error of the baseline: expected a number > 0 (eV), found {error}; it follows from the data where "
                "there are more structures than species"
            )
            raise PotentialError(msg)
        return float(error)

    def _with_baseline(self, atoms: Atoms, energy: float, gradient: Gradient) -> tuple[float, Array, Array | None]:
        if not self.has_baseline:
            return energy, gradient.forces, gradient.stress
        if self.baseline is None:
            raise PotentialError(_NO_BASELINE)
        below, pull, pressed = evaluated(self.baseline, atoms.copy(), stress=gradient.stress is not None)
        stress = None if gradient.stress is None or pressed is None else gradient.stress + pressed
        return energy + below, gradient.forces + pull, stress

    # Keep

    def with_baseline(self, baseline: Calculator) -> "Committee":
        """The same committee with the baseline it was trained with, which no file can hold."""
        other = copy.copy(self)
        other.baseline = baseline
        return other

    def save(self, path: str | Path) -> None:
        """Write to an HDF5 file, completely or not at all; what is there is replaced."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with h5py.File(temporary, "w") as file:
                self.write(file.create_group("model"))
            descriptor = os.open(temporary, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
            temporary.replace(path)
        except OSError as error:
            msg = (
                f"{path} cannot be written ({error.strerror or error}): check the folder and the space left on its disk"
            )
            raise PotentialError(msg) from error
        finally:
            temporary.unlink(missing_ok=True)

    def write(self, group: h5py.Group) -> None:
        """Write into an empty HDF5 group: settings, coefficients, judgement and the training set."""
        group.attrs.update(
            schema=_SCHEMA,
            kind="ace",
            alflow=__version__,
            settings=json.dumps(asdict(self.settings), sort_keys=True),
            seed=self.seed,
            has_baseline=self.has_baseline,
            baseline_identity=self.baseline_identity,
            baseline_error=self.baseline_error,
            baseline_atom_error=self.baseline_atom_error,
            strength=self.strength,
        )
        self.judgement.write(group.create_group("judgement"))
        group["coefficients"] = self._coefficients
        group["constants"] = self._constants
        group["energy_zero"] = self.energy_zero
        group["atom_zero"] = self.atom_zero
        group["inner"] = self._descriptor.functions.inner
        if self._core is not None:
            group["core_force"] = self._core.force
        self._training.write(group.create_group("training"))

    @classmethod
    def read(cls, group: h5py.Group) -> "Committee":
        """Read what :meth:`write` wrote; PotentialError when it is something else."""
        try:
            if group.attrs["schema"] != _SCHEMA:
                older = group.attrs["schema"] < _SCHEMA
                remedy = "train it again from its labels" if older else "update alflow"
                msg = f"written by {'an older' if older else 'a newer'} alflow ({group.attrs['alflow']}): {remedy}"
                raise PotentialError(msg)
            settings = AceSettings.checked(json.loads(group.attrs["settings"]))
            coefficients = group["coefficients"][()]
            model = cls(settings, coefficients.shape[2], int(group.attrs["seed"]))
            model._training = TrainingSet.read(group["training"])
            model._descriptor = model._make_descriptor(model._training.numbers)
            model._set_coefficients(coefficients)
            model._constants = group["constants"][()]
            inner = group["inner"][()]
            model._descriptor.set_inner(inner)
            if "core_force" in group:
                model._core = make_core(model._training.numbers, inner, group["core_force"][()])
            model.has_baseline = bool(group.attrs["has_baseline"])
            model.baseline_identity = str(group.attrs["baseline_identity"])
            model.baseline_error = float(group.attrs["baseline_error"])
            model.baseline_atom_error = float(group.attrs["baseline_atom_error"])
            model.energy_zero, model.atom_zero = group["energy_zero"][()], group["atom_zero"][()]
            model.strength = float(group.attrs["strength"])
            model.judgement = Judgement.read(group["judgement"])
        except KeyError as error:
            msg = f"not a model of alflow: {error}"
            raise PotentialError(msg) from error
        return model


_NO_BASELINE = (
    "this committee was trained on differences from a baseline, and a file cannot hold one: "
    "give it with alflow.load(path, baseline=calculator)"
)


def fit(
    frames: Sequence[Atoms],
    *,
    n_members: int = 16,
    seed: int = 0,
    baseline: Calculator | None = None,
    baseline_identity: str = "",
    baseline_results: Sequence[BaselineResult | None] | None = None,
    **settings: Any,
) -> Committee:
    """Fit a committee.

    Parameters
    ----------
    frames : sequence of Atoms
        Labelled structures: their calculators hold an energy (eV) and, if there are any, forces (eV/Å).
    n_members : int
        M.
    seed : int
        Decides which members see which structures.
    baseline : ASE calculator, optional
        The committee then learns the difference from it; predictions include it.
    baseline_identity : str
        What it is, for the file of the model.
    baseline_results : sequence of (float, ndarray) or None, optional
        Its energy and forces for each structure where they are known already.
    **settings
        Of :class:`AceSettings`.

    Returns
    -------
    Committee
        Fitted and calibrated.

    Raises
    ------
    PotentialError
        Unknown settings; no structures, or structures that cannot be used.
    """
    committee = Committee(AceSettings.checked(settings), n_members, seed, baseline, baseline_identity)
    committee.update(frames, baseline_results)
    return committee


def load(path: str | Path, baseline: Calculator | None = None) -> Committee:
    """Read a committee from a file of :meth:`Committee.save` or from the train.h5 of a run.

    Raises
    ------
    PotentialError
        The file is missing or not a model.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            committee = Committee.read(file["model"])
    except FileNotFoundError as error:
        msg = f"{path}: no such file: give the path of a model written by `alflow train` or `alflow export`"
        raise PotentialError(msg) from error
    except (OSError, KeyError, PotentialError) as error:
        msg = f"{path} is not a model that alflow can read ({error}): make it again with `alflow train`"
        raise PotentialError(msg) from error
    return committee if baseline is None else committee.with_baseline(baseline)
