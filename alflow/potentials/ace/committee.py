"""The committee: fit, update, predict, keep."""

import copy
import difflib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from alflow import __version__
from alflow.committee import calibration, spread
from alflow.errors import PotentialError
from alflow.potentials.ace.basis import make_basis
from alflow.potentials.ace.environment import Descriptor, Environment
from alflow.potentials.ace.regression import NormalEquations
from alflow.potentials.ace.training import TrainingSet, check_separate, make_training_set
from alflow.potentials.base import Forward, Gradient, Prediction

Array = NDArray[np.float64]

_SCHEMA = 1


@dataclass(frozen=True)
class AceSettings:
    """What defines the potential.

    Attributes
    ----------
    cutoff : float
        Radius within which an atom sees others, Å.
    n_max, l_max : int
        Number of radial functions, and largest l of the spherical harmonics.
    degree_2, degree_3 : int
        Largest total degree (n + 1 + l, summed over the factors) of products of two and of three densities.
    energy_weight : float
        Weight of an energy row, divided by the square root of the number of atoms, relative to 1 eV/Å of force:
        30 makes 1 meV/atom in 100 atoms count like 0.3 eV/Å of one force component.
    force_weight : float
        Weight of a force row.
    smoothness : float
        The prior's standard deviation of a coefficient falls with its degree to this power.
    """

    cutoff: float = 5.5
    n_max: int = 8
    l_max: int = 4
    degree_2: int = 12
    degree_3: int = 9
    energy_weight: float = 30.0
    force_weight: float = 1.0
    smoothness: float = 2.0

    @classmethod
    def checked(cls, given: dict[str, Any]) -> "AceSettings":
        """Settings from keywords; PotentialError for an unknown one or a value out of range."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
                msg = f"unknown setting {name} of the potential: {hint}"
                raise PotentialError(msg)
        settings = cls(**given)
        for name, value in asdict(settings).items():
            least = 0 if name in {"l_max", "smoothness", "degree_2", "degree_3", "force_weight"} else np.nextafter(0, 1)
            if not (np.isfinite(value) and value >= least):
                msg = f"potential setting {name}: expected a number {'>=' if least == 0 else '>'} 0, found {value}"
                raise PotentialError(msg)
        return settings


class Committee:
    """M linear models that share their features, fitted to different halves of the same structures.

    Made by :func:`fit` or :func:`load`. Every structure is seen by M // 2 members, chosen by a random number that
    depends on the seed and on the structure's place in the training set only; the others judge it (out of bag).

    Attributes
    ----------
    alpha_energy, alpha_force : float
        Calibration factors; NaN where they cannot be determined, and then 1 is used and ``calibration_note`` says why.
    oob_energy_rmse, oob_force_rmse : float
        Errors of the mean of the members that did not see a structure, eV/atom and eV/Å.
    calibration_note : str
        Why a factor is missing; empty when both are there.
    strength : float
        Of the ridge.
    """

    def __init__(self, settings: AceSettings, n_members: int, seed: int, baseline: Calculator | None = None) -> None:
        if n_members < 2:
            msg = f"n_members: expected at least 2 (more than 7 for a calibrated uncertainty), found {n_members}"
            raise PotentialError(msg)
        self.settings = settings
        self.n_members = n_members
        self.seed = seed
        self.baseline = baseline
        self.has_baseline = baseline is not None
        self.alpha_energy = self.alpha_force = float("nan")
        self.oob_energy_rmse = self.oob_force_rmse = float("nan")
        self.calibration_note = ""
        self.strength = float("nan")
        self._training = TrainingSet.empty()
        self._equations: NormalEquations | None = None
        self._energy_zero = np.zeros(0)
        self._weights = np.zeros((n_members, 0))
        self._last: Environment | None = None

    # Fit

    def update(self, frames: Sequence[Atoms]) -> None:
        """Add labelled structures and fit again; the cost of adding is in proportion to the new structures only.

        Gives what fitting all structures at once would. When a species appears that was not there before, the features
        of all structures change and all are computed again.

        Parameters
        ----------
        frames : sequence of Atoms
            Structures whose calculator holds an energy (eV) and, if there are any, forces (eV/Å).

        Raises
        ------
        PotentialError
            No structures, no energy, or something that is not finite; the committee is left as it was.
        """
        if self.has_baseline and self.baseline is None:
            raise PotentialError(_NO_BASELINE)
        new = make_training_set(frames, self.baseline)
        check_separate(new)
        first = len(self._training)
        numbers = self._training.numbers
        self._training = self._training.joined(new)
        equations = self._equations
        if equations is None or self._training.numbers != numbers:
            equations, first = self._reset(), 0
        for index in range(first, len(self._training)):
            equations.add(*self._rows(index), self._seen(index))
        self._solve(equations)
        self._calibrate()

    def _reset(self) -> NormalEquations:
        """Begin with no structures: tables for the species, and the zero of energy, from the training set."""
        self._make_descriptor()
        n_columns = len(self._training.numbers) * (self._descriptor.basis.n_features + 1)
        self._energy_zero = self._training.energy_zero()
        self._equations = NormalEquations.empty(self.n_members, n_columns)
        return self._equations

    def _make_descriptor(self) -> None:
        s = self.settings
        numbers = self._training.numbers
        basis = make_basis(len(numbers), int(s.n_max), int(s.l_max), int(s.degree_2), int(s.degree_3))
        self._descriptor = Descriptor(numbers, s.cutoff, basis)

    def _rows(self, index: int) -> tuple[Array, Array, Array]:
        """Plain energy row, weighted rows and weighted targets of a structure of the training set."""
        atoms, energy, forces = self._training[index]
        env = self._descriptor.environment(atoms)
        counts = self._descriptor.composition(env)
        weight = self.settings.energy_weight / np.sqrt(len(atoms))
        summed = np.concatenate([self._descriptor.summed(env), counts])
        row = summed[None]
        target = np.array([energy - counts @ self._energy_zero])
        if forces is None or self.settings.force_weight == 0:
            return summed, weight * row, weight * target
        force_rows = np.zeros((forces.size, row.size))
        force_rows[:, : -len(counts)] = self._descriptor.force_rows(env)
        f = self.settings.force_weight
        rows = np.vstack([weight * row, f * force_rows])
        return summed, rows, np.concatenate([weight * target, f * forces.ravel()])

    def _seen(self, index: int) -> NDArray[np.bool_]:
        """Which members see a structure, shape (M,)."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(index,)))
        seen = np.zeros(self.n_members, dtype=bool)
        seen[rng.permutation(self.n_members)[: self.n_members // 2]] = True
        return seen

    def _solve(self, equations: NormalEquations) -> None:
        n_species = len(self._training.numbers)
        penalty = self._descriptor.basis.degree.astype(float) ** self.settings.smoothness
        self._weights, self.strength = equations.solve(np.tile(penalty, n_species), n_species)

    def _calibrate(self) -> None:
        """Errors and calibration factors, each structure judged by the members that did not see it."""
        energy: list[tuple[float, float, int]] = []
        force: list[tuple[Array, Array]] = []
        n_judges = self.n_members - self.n_members // 2
        if n_judges < 2:
            self.calibration_note = f"not calibrated: {n_judges} member judges each structure, more than 3 are needed"
            return
        for index in range(len(self._training)):
            atoms, reference, forces = self._training[index]
            judges = np.flatnonzero(~self._seen(index))
            env = self._descriptor.environment(atoms)
            energies = self._atom_energies(env)[:, judges].sum(axis=0)
            energy.append((reference - energies.mean(), float(spread(energies)), len(atoms)))
            if forces is not None:
                members = np.array([self._member_forces(env, int(m)) for m in judges])
                force.append(((forces - members.mean(axis=0)).ravel(), spread(members, axis=0).ravel()))
        e = np.array(energy)
        self.oob_energy_rmse = float(np.sqrt(np.mean((e[:, 0] / e[:, 2]) ** 2)))
        self.alpha_energy, note_e = calibration(e[:, 0], e[:, 1], n_judges)
        notes = [f"energies: {note_e}"] if note_e else []
        if force:
            error, sigma = (np.concatenate(x) for x in zip(*force, strict=True))
            self.oob_force_rmse = float(np.sqrt(np.mean(error**2)))
            self.alpha_force, note_f = calibration(error, sigma, n_judges)
            notes += [f"forces: {note_f}"] if note_f else []
        else:
            notes.append("forces: no structure has any")
        self.calibration_note = "not calibrated, raw spread used: " + "; ".join(notes) if notes else ""

    # Evaluate

    def forward(self, atoms: Atoms) -> Forward:
        """Energies of all members, raw (not calibrated) and without the baseline: the learned part.

        Raises
        ------
        PotentialError
            Unknown species, no atoms, positions that are not finite, atoms that coincide.
        """
        self._last = self._descriptor.environment(atoms)
        self._last_volume = atoms.get_volume() if atoms.pbc.all() else None
        atom_energies = self._atom_energies(self._last)
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
        if weights.shape not in {(self.n_members,), (len(env.species), self.n_members)}:
            msg = (
                f"weights of shape {weights.shape}: expected ({self.n_members},) or "
                f"({len(env.species)}, {self.n_members})"
            )
            raise PotentialError(msg)
        forces, strain = self._descriptor.gradient(env, self._feature_weights(env, weights))
        if self._last_volume is None:
            return Gradient(forces, None)
        symmetric = (strain + strain.T) / (2 * self._last_volume)
        return Gradient(forces, full_3x3_to_voigt_6_stress(symmetric))

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces, stress (baseline included) and their calibrated uncertainties; errors as of forward."""
        forward = self.forward(atoms)
        mean = self.backward(np.full(self.n_members, 1.0 / self.n_members))
        members = np.array([self.backward(one).forces for one in np.eye(self.n_members)])
        alpha_energy, alpha_force = self.alphas
        energy, forces, stress = self._with_baseline(atoms, float(forward.energies.mean()), mean)
        deviation = forward.energies - forward.energies.mean()
        return Prediction(
            energy=energy,
            energies=energy + alpha_energy * deviation,
            energy_sigma=alpha_energy * float(spread(forward.energies)),
            forces=forces,
            forces_sigma=alpha_force * spread(members, axis=0),
            atom_sigma=alpha_energy * spread(forward.atom_energies),
            stress=stress,
            calibrated=not self.calibration_note,
        )

    def features(self, atoms: Atoms) -> Array:
        """A structure's place in feature space: summed features per atom, scaled like the prior; shape (species x F,).

        Euclidean distances between them tell how different two structures are for this potential.
        """
        env = self._descriptor.environment(atoms)
        return np.asarray(self._feature_scale * self._descriptor.summed(env) / len(atoms))

    def calculator(self) -> Calculator:
        """An ASE calculator of the mean (:class:`alflow.potentials.calculators.CommitteeCalculator`)."""
        from alflow.potentials.calculators import CommitteeCalculator

        return CommitteeCalculator(self)

    def mean(self, atoms: Atoms) -> tuple[float, Array, Array | None, Forward]:
        """Energy (eV), forces (eV/Å) and stress (eV/Å^3) of the mean, baseline included, and the members' energies."""
        forward = self.forward(atoms)
        gradient = self.backward(np.full(self.n_members, 1.0 / self.n_members))
        return (*self._with_baseline(atoms, float(forward.energies.mean()), gradient), forward)

    @property
    def alphas(self) -> tuple[float, float]:
        """The calibration factors, 1 for one that is missing."""
        return tuple(1.0 if np.isnan(a) else a for a in (self.alpha_energy, self.alpha_force))  # type: ignore[return-value]

    def _with_baseline(self, atoms: Atoms, energy: float, gradient: Gradient) -> tuple[float, Array, Array | None]:
        if not self.has_baseline:
            return energy, gradient.forces, gradient.stress
        if self.baseline is None:
            raise PotentialError(_NO_BASELINE)
        bare = atoms.copy()
        energy += float(self.baseline.get_potential_energy(bare))
        forces = gradient.forces + self.baseline.get_forces(bare)
        stress = None if gradient.stress is None else gradient.stress + self.baseline.get_stress(bare)
        return energy, forces, stress

    def _atom_energies(self, env: Environment) -> Array:
        """Per atom and member, shape (N, M), without the baseline."""
        features = self._descriptor.features(env)
        out = np.empty((len(env.species), self.n_members))
        for s in np.unique(env.species):
            mine = env.species == s
            block, constant = self._blocks(int(s))
            out[mine] = features[mine] @ block.T + constant
        return out

    def _feature_weights(self, env: Environment, weights: Array) -> Array:
        """dE/dB, shape (N, F), of the weighted sum of members."""
        out = np.empty((len(env.species), self._descriptor.basis.n_features))
        for s in np.unique(env.species):
            mine = env.species == s
            block, _ = self._blocks(int(s))
            out[mine] = (weights if weights.ndim == 1 else weights[mine]) @ block
        return out

    def _member_forces(self, env: Environment, member: int) -> Array:
        return self._descriptor.gradient(env, self._feature_weights(env, np.eye(self.n_members)[member]))[0]

    def _blocks(self, species: int) -> tuple[Array, Array]:
        """Coefficients (M, F) and constants (M,) of the atoms of a species."""
        n = self._descriptor.basis.n_features
        n_species = len(self._training.numbers)
        constant = self._weights[:, n_species * n + species] + self._energy_zero[species]
        return self._weights[:, species * n : (species + 1) * n], constant

    @property
    def _feature_scale(self) -> Array:
        degree = self._descriptor.basis.degree.astype(float)
        return np.tile(1.0 / degree**self.settings.smoothness, len(self._training.numbers))

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
        """Write into an empty HDF5 group: settings, coefficients, calibration and the training set."""
        group.attrs.update(
            schema=_SCHEMA,
            kind="ace",
            alflow=__version__,
            settings=json.dumps(asdict(self.settings), sort_keys=True),
            seed=self.seed,
            has_baseline=self.has_baseline,
            strength=self.strength,
            alpha_energy=self.alpha_energy,
            alpha_force=self.alpha_force,
            oob_energy_rmse=self.oob_energy_rmse,
            oob_force_rmse=self.oob_force_rmse,
            calibration_note=self.calibration_note,
        )
        group["weights"] = self._weights
        group["energy_zero"] = self._energy_zero
        self._training.write(group.create_group("training"))

    @classmethod
    def read(cls, group: h5py.Group) -> "Committee":
        """Read what :meth:`write` wrote; PotentialError when it is something else."""
        try:
            if group.attrs["schema"] > _SCHEMA:
                msg = f"written by alflow {group.attrs['alflow']}, which is newer than this one: update alflow"
                raise PotentialError(msg)
            settings = AceSettings.checked(json.loads(group.attrs["settings"]))
            weights = group["weights"][()]
            model = cls(settings, len(weights), int(group.attrs["seed"]))
            model._training = TrainingSet.read(group["training"])
            model._make_descriptor()
            model._weights = weights
            model._energy_zero = group["energy_zero"][()]
            model.has_baseline = bool(group.attrs["has_baseline"])
            model.calibration_note = str(group.attrs["calibration_note"])
            for name in ("strength", "alpha_energy", "alpha_force", "oob_energy_rmse", "oob_force_rmse"):
                setattr(model, name, float(group.attrs[name]))
        except KeyError as error:
            msg = f"not a model of alflow: {error}"
            raise PotentialError(msg) from error
        return model


_NO_BASELINE = (
    "this committee was trained on differences from a baseline, and a file cannot hold one: "
    "give it with alflow.load(path, baseline=calculator)"
)


def fit(
    frames: Sequence[Atoms], *, n_members: int = 16, seed: int = 0, baseline: Calculator | None = None, **settings: Any
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
    committee = Committee(AceSettings.checked(settings), n_members, seed, baseline)
    committee.update(frames)
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
