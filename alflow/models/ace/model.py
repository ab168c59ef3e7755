"""M linear atomic cluster expansions that share their features: evaluated at the cost of one."""

import copy
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import h5py
import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from alflow.committee import kinds
from alflow.committee.protocol import Fitted, Forward, Gradient
from alflow.committee.resampling import Resampling
from alflow.committee.training import TrainingSet
from alflow.errors import PotentialError
from alflow.executors import limit_threads
from alflow.models.ace.choice import Choice, choose, deciders
from alflow.models.ace.consistency import contradicts, stress_remark
from alflow.models.ace.core import make_core
from alflow.models.ace.environment import Descriptor, Environment
from alflow.models.ace.fingerprint import Fingerprint
from alflow.models.ace.fit import Fit, make_descriptor
from alflow.models.ace.kernels.core import Core
from alflow.models.ace.pseudo_species import MOST
from alflow.models.ace.settings import AceSettings
from alflow.progress import Progress, Silent
from alflow.structures import bits

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Evaluated:
    """A structure and what was found of it; energies of atoms (N, M) as of :class:`Forward`."""

    key: tuple[bytes, ...]
    env: Environment
    volume: float | None
    atom_energies: Array


class AceModel:
    """A model of a committee (:class:`alflow.committee.protocol.Model`).

    Attributes
    ----------
    settings : AceSettings
        What defines it, as it was asked for.
    choice : Choice or None
        Of what was not asked for: cutoff, number of features, weight of energies.
    n_members : int
        M.
    descriptor : Descriptor
        From structures to features.
    coefficients : ndarray, shape (S, F, M)
        Of the features of the atoms of each species, eV.
    constants : ndarray, shape (S, M)
        Energy of an atom without surroundings, eV.
    core : Core or None
        What holds atoms apart where nothing is known.
    fit : Fit or None
        Sums over the training set; None in a model that was read from a file.
    fingerprint : Fingerprint
        Where structures lie among those of the training set.
    progress : Progress
        Told how far a fit is; nobody watches by default.
    """

    kind: ClassVar[str] = "ace"
    by_atom: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    descriptor: Descriptor
    fingerprint: Fingerprint

    def __init__(self, settings: AceSettings, n_members: int) -> None:
        self.settings = settings
        self.choice: Choice | None = None
        self.progress: Progress = Silent()
        self.n_members = n_members
        self.set_coefficients(np.zeros((0, 0, n_members)))
        self.constants = np.zeros((0, n_members))
        self.core: Core | None = None
        self.fit: Fit | None = None
        self._last: _Evaluated | None = None

    @classmethod
    def make(cls, n_members: int, settings: dict[str, Any]) -> Self:
        """A model that is still to be fitted; PotentialError for settings that are unknown or out of range."""
        return cls(AceSettings.checked(settings), n_members)

    def __copy__(self) -> "AceModel":
        """One that evaluates the same; its next update computes all sums again, as these belong to one of the two."""
        other = AceModel(self.settings, self.n_members)
        other.__dict__.update(self.__dict__)
        other.descriptor = copy.copy(self.descriptor)
        other.fingerprint = self.fingerprint.with_descriptor(other.descriptor)
        other.fit = None
        return other

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers of the species, sorted."""
        return self.descriptor.numbers

    @property
    def threads(self) -> int:
        """How many threads evaluate a structure; results do not depend on it."""
        return self.descriptor.threads

    @threads.setter
    def threads(self, number: int) -> None:
        self.descriptor.threads = number

    def set_coefficients(self, coefficients: Array) -> None:
        """Of all members, shape (S, F, M), in both orders: energies and gradients each read along their own."""
        self.coefficients = coefficients
        self._transposed = np.ascontiguousarray(coefficients.swapaxes(1, 2))

    def update(self, training: TrainingSet, first: int, resampling: Resampling, *, repels: bool) -> Fitted:
        """Fit again to a training set of which structures from ``first`` on are new; see the protocol."""
        # BLAS adds in another order with every number of threads: it has one, and systems are solved side by side.
        with limit_threads(1, "blas"):
            choice = self._choice(training, resampling)
            settings = self.settings if choice is None else choice.applied(self.settings)
            fit = self.fit
            if fit is None or training.numbers != fit.descriptor.numbers or settings != fit.settings:
                fit, first = Fit(settings, resampling.seen.shape[1], training), 0
            fit.progress = self.progress
            distances = fit.distances(training.frames[first:])
            self.fit = None  # what ends half-way leaves sums that nobody may go on with
            fit.add(training, first, distances, resampling)
            solution = fit.solve(training, resampling, repels=repels)
            contradiction: tuple[str, ...] = ()
            if contradicts(solution.stresses_over_others):
                # Stresses of something else spoil all: the sums are made again without them.
                contradiction = (stress_remark(solution.stresses_over_others),)
                del fit  # before others take as much
                fit = Fit(settings, resampling.seen.shape[1], training, stresses=False)
                fit.add(training, 0, fit.distances(training.frames), resampling)
                solution = fit.solve(training, resampling, repels=repels)
        # And again the next time: what is new may tell another story.
        self.fit, self.descriptor = None if contradiction else fit, fit.descriptor
        self.choice = choice
        self.set_coefficients(solution.coefficients)
        self.constants, self.core = solution.constants, solution.core
        self.fingerprint = Fingerprint(self.descriptor, self.settings.smoothness, training.frames, solution.leverages)
        self._last = None
        chosen = () if choice is None else (choice.remark,)
        # In a run structures of such a kind may come later.
        missing = kinds.unknown(training.origins, settings.weights)
        odd = (f"warning: weights: {missing}",) if missing else ()
        return replace(solution.fitted, remarks=(*solution.fitted.remarks, *chosen, *contradiction, *odd))

    def _choice(self, training: TrainingSet, resampling: Resampling) -> Choice | None:
        """Of the basis: that of before, unless there are a quarter more structures."""
        if self.settings.cutoff is not None and self.settings.n_features is not None:
            return None
        if self.choice is not None and self.choice.n_structures == len(deciders(resampling)):
            return self.choice
        self.progress.begin("choose cutoff, features and weight", 1)
        choice = choose(self.settings, training, resampling)
        self.progress.advance()
        return choice

    def forward(self, atoms: Atoms) -> Forward:
        """Energies of all members.

        Raises
        ------
        PotentialError
            Unknown species, no atoms, positions that are not finite, atoms that coincide.
        """
        key, last = bits(atoms), self._last
        if last is None or last.key != key:
            env = self.descriptor.environment(atoms)
            atom_energies = self.descriptor.atom_energies(env, self.coefficients, self.constants)
            if self.core is not None:
                atom_energies += self.descriptor.core_energies(env, self.core)[:, None]
            last = _Evaluated(key, env, atoms.get_volume() if atoms.pbc.all() else None, atom_energies)
            self._last = last
        # What is kept is nobody else's to change.
        return Forward(last.atom_energies.sum(axis=0), last.atom_energies.copy())

    def _environment(self, atoms: Atoms) -> Environment:
        """Neighbours and densities: those of the last :meth:`forward`, where that was of the same structure.

        A frame of a walk is driven, predicted and graded: its neighbours are found once. Features are not kept, as they
        take ten kilobytes an atom, and are needed once.
        """
        last = self._last
        if last is not None and last.key == bits(atoms):
            return last.env
        return self.descriptor.environment(atoms)

    def backward(self, weights: Array) -> Gradient:
        """Forces and stress of a weighted sum of the member energies of the last :meth:`forward`.

        Parameters
        ----------
        weights : ndarray, shape (M,) or (N, M)
            Of each member, or of each member of each atom.
        """
        last = self._last
        if last is None:
            msg = "backward before forward: call forward(atoms) first"
            raise PotentialError(msg)
        weights = np.asarray(weights, dtype=float)
        n_atoms = len(last.env.slot_of)
        if weights.shape not in {(self.n_members,), (n_atoms, self.n_members)}:
            msg = f"weights of shape {weights.shape}: expected ({self.n_members},) or ({n_atoms}, {self.n_members})"
            raise PotentialError(msg)
        forces, strain = self.descriptor.gradient(last.env, self._transposed, weights, self.core)
        symmetric = (strain + strain.T) / 2
        stress = None if last.volume is None else full_3x3_to_voigt_6_stress(symmetric / last.volume)
        return Gradient(forces, stress, -symmetric)

    def grade(self, atoms: Atoms) -> Array:
        """Extrapolation grade of every atom, shape (N,), as of :class:`alflow.models.ace.fingerprint.Fingerprint`."""
        return self.fingerprint.grade(self._environment(atoms))

    def features(self, atoms: Atoms) -> Array:
        """A structure's place in feature space, shape (S F,): how different two are for this potential."""
        return self.fingerprint.features(self._environment(atoms))

    def write(self, group: h5py.Group) -> None:
        """Write into an empty HDF5 group: settings, coefficients, weights of species, and where the core begins."""
        # Without weights a file is what it was before there were any.
        settings = {name: value for name, value in self.settings.plain().items() if value != {}}
        group.attrs["settings"] = json.dumps(settings, sort_keys=True)
        if self.choice is not None:
            group.attrs["choice"] = json.dumps(asdict(self.choice), sort_keys=True)
        group["coefficients"] = self.coefficients
        group["constants"] = self.constants
        group["inner"] = self.descriptor.functions.inner
        if len(self.descriptor.functions.mixing):
            group["mixing"] = self.descriptor.functions.mixing
        if self.core is not None:
            group["core_force"] = self.core.force

    @classmethod
    def read(cls, group: h5py.Group, training: TrainingSet) -> Self:
        """Read what :meth:`write` wrote; KeyError when something is missing."""
        coefficients, inner = group["coefficients"][()], group["inner"][()]
        settings = json.loads(group.attrs["settings"])
        settings.setdefault("n_pair", settings["n_max"])  # of files from before there was such a setting
        if "mixing" not in group and len(training.numbers) > MOST:  # of files from before there were pseudo-species
            settings.setdefault("n_pseudo_species", len(training.numbers))
        model = cls.make(coefficients.shape[2], settings)
        used = model.settings
        if "choice" in group.attrs:
            model.choice = Choice(**json.loads(group.attrs["choice"]))
            used = model.choice.applied(used)
        model.descriptor = make_descriptor(used, training.numbers).with_inner(inner)
        if "mixing" in group:
            model.descriptor = model.descriptor.with_mixing(group["mixing"][()])
        model.set_coefficients(coefficients)
        model.constants = group["constants"][()]
        if "core_force" in group:
            model.core = make_core(training.numbers, inner, group["core_force"][()])
        model.fingerprint = Fingerprint(model.descriptor, model.settings.smoothness, training.frames)
        return model
