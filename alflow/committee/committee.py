"""A committee: what its members say together, how sure they are, and what to simulate with."""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from alflow.committee.calculator import CommitteeCalculator
from alflow.committee.judgement import Judgement
from alflow.committee.protocol import Driving, Forward, Gradient, KeepsFiles, Model, Prediction, Weighting
from alflow.committee.resampling import Resampling
from alflow.committee.training import (
    BaselineResult,
    TrainingSet,
    evaluated,
    make_training_set,
    warn_of_outliers,
    without_duplicates,
    without_wild_forces,
)
from alflow.committee.twins import Twins
from alflow.committee.weighting import spread, weighted
from alflow.errors import PotentialError, StoreError
from alflow.executors import limit_threads
from alflow.state.file import Header, write_file
from alflow.version import __version__

Array = NDArray[np.float64]

_SCHEMA = 4
_LEAST_ERROR = 1e-6  # eV; of a baseline that is the reference itself


class Committee:
    """M models of one kind, fitted to different halves of the same structures, and what they say together.

    Made by :func:`alflow.fit` or :func:`alflow.load`.

    Attributes
    ----------
    model : Model
        The members, raw: not calibrated, and without the baseline.
    seed : int
        Decides which members see which structures.
    training : TrainingSet
        What the members were fitted to, the baseline subtracted.
    resampling : Resampling
        Which of these structures each member has seen; of none in a file of an earlier version, whose members saw other
        shares.
    judgement : Judgement
        Out-of-bag errors and calibration.
    strength : float
        Of the model's regularisation, the ridge of a linear one.
    remarks : tuple of str
        What the user should know of the members, a line each.
    virial_zero : ndarray, shape (S,)
        What labels' stresses have beside the derivatives of energies, such as the Pulay stress of plane waves: as a
        constant stress times volume of every atom of a species, eV, with the sign of the stress. Members leave it out.
        Empty where nothing is known.
    baseline : ASE calculator or None
        What the members add to.
    has_baseline : bool
        Whether the members were fitted to differences from a baseline, which a file cannot hold.
    baseline_identity : str
        What the baseline is, in words of whoever gave it; empty when nothing was said.
    energy_zero, atom_zero : ndarray, shape (S,)
        With a baseline: what an atom of each species adds to the energies' difference from it, eV, by least squares
        over the structures, and as the mean of the learned energies of atoms. From there the weighted corrections of a
        structure and of an atom count.
    baseline_error, baseline_atom_error : float
        How far the differences scatter around that: of structures, over the square root of the number of atoms (NaN
        where there are no more structures than species), and of the learned energies of atoms, eV.
    """

    def __init__(
        self, model: Model, seed: int, baseline: Calculator | None = None, baseline_identity: str = ""
    ) -> None:
        if model.n_members < 2:
            msg = f"n_members: expected at least 2 (7 for a calibrated uncertainty), found {model.n_members}"
            raise PotentialError(msg)
        self.model = model
        self.seed = seed
        self.training = TrainingSet.empty()
        self.judgement = Judgement()
        self.strength = float("nan")
        self.baseline = baseline
        self.has_baseline = baseline is not None
        self.baseline_identity = baseline_identity
        self.energy_zero = self.atom_zero = np.zeros(0)
        self.baseline_error = self.baseline_atom_error = float("nan")
        self.remarks: tuple[str, ...] = ()
        self.virial_zero = np.zeros(0)
        self.resampling = Resampling.of([], [], model.n_members, seed)
        self._twins = Twins()
        self._below: tuple[float, Gradient] | None = None  # what is taken off the members of the last forward

    @property
    def n_members(self) -> int:
        """M."""
        return self.model.n_members

    @property
    def settings(self) -> Any:
        """What defines the model."""
        return self.model.settings

    @property
    def threads(self) -> int:
        """How many threads evaluate a structure; results of the built-in potential do not depend on it.

        By default OMP_NUM_THREADS where it is set, else all cores this process may use or, for members that are
        calculators of other packages, whose last digits may depend on it, 1.
        """
        return self.model.threads

    @threads.setter
    def threads(self, number: int) -> None:
        self.model.threads = max(1, int(number))

    def update(
        self,
        frames: Sequence[Atoms],
        baseline_results: Sequence[BaselineResult | None] | None = None,
        origins: Sequence[str] | None = None,
    ) -> None:
        """Add labelled structures and fit again; the cost of adding is in proportion to the new structures only.

        Gives what fitting all structures at once would, to the last bit. When a species appears that was not there
        before, the features of all structures change, and the rows of all are computed again; so are those of a
        committee read from a file.

        Parameters
        ----------
        frames : sequence of Atoms
            Structures whose calculator holds an energy (eV) and, if there are any, forces (eV/Å) and stress (eV/Å^3).
        baseline_results : sequence of (float, ndarray), (float, ndarray, ndarray) or None, optional
            Energy, forces and stress of the baseline for each structure where they are known already; it calculates the
            others. Without its stress that of the structure is not learned.
        origins : sequence of str, optional
            Where each structure comes from, beside what its ``info`` says of ``system`` and ``config_type``. Of those
            of one origin and composition every member sees half.

        Raises
        ------
        PotentialError
            No structures, no energy, something that is not finite, or atoms that coincide; the committee is left as it
            was.

        Warns
        -----
        PotentialWarning
            Structures that are there twice, of which one is left out; energies that disagree wildly with the others;
            forces that nothing in their structure can exert, which are left out.
        """
        if self.has_baseline and self.baseline is None:
            raise PotentialError(_NO_BASELINE)
        usual = without_wild_forces(frames, len(self.training))
        given = make_training_set(usual, self.baseline, baseline_results, origins, keep=self.model.whole)
        new = without_duplicates(self.training, given)
        training, first = self.training.joined(new), len(self.training)
        twins, self._twins = self._twins, Twins()  # what ends half-way knows structures that are not there
        twins.add(training.frames[len(twins.first) :])
        # Before the fit: where that fails because of a wild label, the warning says which one.
        warn_of_outliers(training, first, twins.isolated)
        resampling = Resampling.of(training.kinds(), twins.first, self.n_members, self.seed, twins.isolated)
        fitted = self.model.update(training.whole(), first, resampling, repels=not self.has_baseline)
        self.training, self.resampling, self._twins = training, resampling, twins
        self.judgement, self.strength, self.remarks = fitted.judgement, fitted.strength, fitted.remarks
        with limit_threads(1, "blas"):  # which adds in another order with every number of threads
            self.energy_zero, self.baseline_error = training.scatter()
        self.atom_zero, self.baseline_atom_error = fitted.atom_zero, fitted.atom_error
        self.virial_zero = fitted.virial_zero

    def forward(self, atoms: Atoms) -> Forward:
        """Energies of all members, raw (not calibrated) and without the baseline: the learned part.

        Raises
        ------
        PotentialError
            Unknown species, no atoms, positions that are not finite, atoms that coincide.
        """
        self._below = None
        forward = self.model.forward(atoms)
        if not (self.has_baseline and self.model.whole):
            return forward
        energy, forces, stress = self._baseline_of(atoms, stress=bool(atoms.pbc.all()))
        self._below = energy, Gradient.of(atoms, forces, stress)
        return Forward(forward.energies - energy, None)

    def backward(self, weights: Array) -> Gradient:
        """Forces and stress of a weighted sum of the learned member energies of the last :meth:`forward`.

        Parameters
        ----------
        weights : ndarray, shape (M,) or (N, M)
            Of each member, or of each member of each atom.
        """
        gradient = self.model.backward(weights)
        if self._below is None:
            return gradient
        share, (_, below) = float(np.sum(weights)), self._below
        stress = None
        if gradient.stress is not None and below.stress is not None:
            stress = gradient.stress - share * below.stress
        return Gradient(gradient.forces - share * below.forces, stress, gradient.virial - share * below.virial)

    def grade(self, atoms: Atoms) -> Array:
        """Extrapolation grade of every atom, shape (N,): about 1 in the training set, far above 1 for the unknown."""
        return self.model.grade(atoms)

    def features(self, atoms: Atoms) -> Array:
        """A structure's place in feature space, shape (D,).

        Euclidean distances between them tell how different two structures are for this potential.
        """
        return self.model.features(atoms)

    def stress_offset(self, atoms: Atoms) -> Array:
        """What a label's stress has beside what is predicted, shape (6,), eV/Å^3 (``virial_zero``)."""
        if not len(self.virial_zero):
            return np.zeros(6)
        virial = float(np.sum(self.virial_zero[np.searchsorted(self.model.numbers, atoms.numbers)]))
        return np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]) * virial / float(atoms.get_volume())

    @property
    def _mean_weights(self) -> Array:
        return np.full(self.n_members, 1.0 / self.n_members)

    def predict(self, atoms: Atoms) -> Prediction:
        """Energy, forces, stress (baseline included) and their calibrated uncertainties; errors as of forward."""
        forward = self.forward(atoms)
        mean = self.backward(self._mean_weights)
        each = [self.backward(one) for one in np.eye(self.n_members)]
        forces_spread = spread(np.array([one.forces for one in each]), axis=0)
        energy_spread = float(spread(forward.energies))
        atom_spread = None if forward.atom_energies is None else spread(forward.atom_energies)
        energy, forces, stress = self._with_baseline(atoms, float(forward.energies.mean()), mean)
        stress_spread = stress_sigma = None
        stresses = [one.stress for one in each if one.stress is not None]
        if stress is not None and len(stresses) == self.n_members:
            stress_spread = spread(np.array(stresses), axis=0)
            stress_sigma = self.judgement.stress_sigma(stress_spread, np.sqrt(len(atoms)) / atoms.get_volume())
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
            atom_sigma=None if atom_spread is None else of_energy.factor * atom_spread,
            stress=stress,
            stress_spread=stress_spread,
            stress_sigma=stress_sigma,
            grade=self.grade(atoms),
            calibrated=not self.judgement.note,
        )

    def calculator(
        self, weighting: Weighting | None = None, error: float | None = None, member: int | None = None
    ) -> Calculator:
        """An ASE calculator of :meth:`drive` (:class:`alflow.committee.calculator.CommitteeCalculator`)."""
        return CommitteeCalculator(self, weighting, error, member)

    def drive(
        self,
        atoms: Atoms,
        weighting: Weighting | None = None,
        error: float | None = None,
        member: int | None = None,
    ) -> Driving:
        r"""Energy, forces and stress to simulate with: of the mean, of the weighted baseline, or of a member.

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
        member : int, optional
            Drive with this calibrated member alone, :math:`V + \alpha (V_m - V)` and the baseline, unweighted: the
            potential whose averages are those of member m.

        Raises
        ------
        PotentialError
            As of :meth:`forward`; weighting without a baseline, or an s_b that is neither given nor known; a baseline
            that fails; a member that is not there.
        """
        weighting = weighting or ("total" if self.has_baseline and member is None else "none")
        self._check_member(weighting, member)
        forward = self.forward(atoms)
        if member is not None:
            weights = (1 - self.judgement.energy.factor) * self._mean_weights
            weights[member] += self.judgement.energy.factor
            weight, energy, gradient = np.ones(()), float(weights @ forward.energies), self.backward(weights)
        elif weighting == "none":
            gradient = self.backward(self._mean_weights)
            weight, energy = np.ones(()), float(forward.energies.mean())
        else:
            energy, weight, gradient = self._corrected(atoms, forward, weighting, error)
        driven, forces, stress = self._with_baseline(atoms, energy, gradient)
        mean = driven - energy + float(forward.energies.mean())
        return Driving(driven, forces, stress, weight, mean, forward, calibrated=not self.judgement.energy.note)

    def _corrected(
        self, atoms: Atoms, forward: Forward, weighting: Weighting, error: float | None
    ) -> tuple[float, Array, Gradient]:
        """E_0 + w V, w, and their gradient; see :meth:`drive`."""
        s_b = self._baseline_uncertainty(weighting, error, len(atoms))
        total = weighting == "total"
        # The force of w V has a part V dw/dx: an energy zero that is a mere difference of conventions, thousands of eV
        # between two methods, would push atoms about wherever w changes. So V counts from the mean of the corrections.
        species = np.searchsorted(self.model.numbers, atoms.numbers)
        zero = (self.energy_zero if total else self.atom_zero)[species]
        values = forward.energies - zero.sum() if total else cast("Array", forward.atom_energies) - zero[:, None]
        correction, weight, member_weights = weighted(values, self.judgement.energy.factor, s_b)
        return float(zero.sum() + correction.sum()), weight, self.backward(member_weights)

    def _check_member(self, weighting: Weighting, member: int | None) -> None:
        if member is None:
            return
        if not 0 <= member < self.n_members:
            msg = f"member: expected one of 0 to {self.n_members - 1}, found {member}"
            raise PotentialError(msg)
        if weighting != "none":
            msg = f"weighting = {weighting!r}: a single member has no spread to be weighted by, expected 'none'"
            raise PotentialError(msg)

    def check_weighting(self, weighting: Weighting | None, error: float | None, member: int | None = None) -> None:
        """Refuse, as :meth:`drive` does, what no structure can be driven with."""
        if member is not None:
            self._check_member(weighting or "none", member)
        elif weighting not in {None, "none"} or (weighting is None and self.has_baseline):
            largest = max((len(frame) for frame in self.training.frames), default=1)
            self._baseline_uncertainty(weighting or "total", error, largest)

    def _baseline_uncertainty(self, weighting: Weighting, error: float | None, n_atoms: int) -> float:
        if weighting not in {"total", "atom"}:
            msg = f"weighting: expected total, atom or none, found {weighting!r}"
            raise PotentialError(msg)
        if not self.has_baseline:
            msg = f"weighting = {weighting!r}: this committee was trained without a baseline, expected 'none'"
            raise PotentialError(msg)
        if weighting == "atom" and not self.model.by_atom:
            msg = (
                f"weighting = 'atom': members of kind {self.model.kind!r} have no gradients of the energies of atoms: "
                "expected total or none"
            )
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
        noise = self.judgement.noise * (np.sqrt(n_atoms) if weighting == "total" else 1.0)
        if error <= noise:
            msg = (
                f"error of the baseline: {error:.3g} eV is not above the noise of the members' energies, {noise:.3g} "
                "eV, so weights would be noise: use members in double precision, give another error, or weighting none"
            )
            raise PotentialError(msg)
        return float(error)

    def _with_baseline(self, atoms: Atoms, energy: float, gradient: Gradient) -> tuple[float, Array, Array | None]:
        if not self.has_baseline:
            return energy, gradient.forces, gradient.stress
        below, pull, pressed = self._baseline_of(atoms, stress=gradient.stress is not None)
        stress = None if gradient.stress is None or pressed is None else gradient.stress + pressed
        return energy + below, gradient.forces + pull, stress

    def _baseline_of(self, atoms: Atoms, *, stress: bool) -> tuple[float, Array, Array | None]:
        """Energy, forces and stress of the baseline; calculators that are asked twice of a structure remember it."""
        if self.baseline is None:
            raise PotentialError(_NO_BASELINE)
        return evaluated(self.baseline, atoms.copy(), stress=stress)

    def with_baseline(self, baseline: Calculator) -> "Committee":
        """The same committee with the baseline it was trained with, which no file can hold."""
        other = copy.copy(self)
        other.model = copy.copy(self.model)
        other._twins = Twins()  # noqa: SLF001 - of the same class
        other.baseline = baseline
        return other

    def save(self, path: str | Path) -> None:
        """Write to a file, completely or not at all; what is there is replaced.

        The file is HDF5, with a checksum in front that :func:`alflow.load` verifies.

        Raises
        ------
        PotentialError
            The operating system refuses it.
        """
        header = Header(kind=type(self).__name__)
        try:
            write_file(Path(path), header, lambda file: self._write_whole(file.create_group("model")), overwrite=True)
        except StoreError as error:
            raise PotentialError(str(error)) from error

    def _write_whole(self, group: h5py.Group) -> None:
        """Write all that evaluation needs, files of the members included."""
        self.write(group)
        if isinstance(self.model, KeepsFiles):
            self.model.enclose(group)

    def write(self, group: h5py.Group) -> None:
        """Write into an empty HDF5 group: the model, its judgement and the training set."""
        group.attrs.update(
            schema=_SCHEMA,
            kind=self.model.kind,
            alflow=__version__,
            seed=self.seed,
            has_baseline=self.has_baseline,
            baseline_identity=self.baseline_identity,
            baseline_error=self.baseline_error,
            baseline_atom_error=self.baseline_atom_error,
            strength=self.strength,
        )
        if self.remarks:
            group.attrs["remarks"] = json.dumps(self.remarks)
        group["groups"], group["twins"] = self.resampling.groups, self.resampling.twins
        group["energy_zero"] = self.energy_zero
        group["atom_zero"] = self.atom_zero
        group["virial_zero"] = self.virial_zero
        self.judgement.write(group.create_group("judgement"))
        self.training.write(group.create_group("training"))
        self.model.write(group)

    @classmethod
    def read(
        cls, group: h5py.Group, find: Callable[[str], type[Model]], path: Path | None = None, *, trust: bool = False
    ) -> "Committee":
        """Read what :meth:`write` wrote.

        Parameters
        ----------
        group : Group
            Of an HDF5 file.
        find : callable
            From the kind of a model to its class.
        path : Path, optional
            Of that file: members that keep files are looked for near it.
        trust : bool
            Whether calculators and interpreters that it names may be run.

        Raises
        ------
        PotentialError
            It holds something else, or was written by another version.
        """
        try:
            if group.attrs["schema"] != _SCHEMA:
                older = group.attrs["schema"] < _SCHEMA
                remedy = "train it again from its labels" if older else "update alflow"
                msg = f"written by {'an older' if older else 'a newer'} alflow ({group.attrs['alflow']}): {remedy}"
                raise PotentialError(msg)
            training = TrainingSet.read(group["training"])
            model = find(str(group.attrs["kind"])).read(group, training)
            if isinstance(model, KeepsFiles):
                model.trusted = trust
                if path is not None:
                    model.found_at(path)
            committee = cls(model, int(group.attrs["seed"]), None, str(group.attrs["baseline_identity"]))
            committee.training = training
            if "groups" in group:
                groups, twins = group["groups"][()], group["twins"][()]
                committee.resampling = Resampling(model.n_members, committee.seed, groups, twins)
            committee.has_baseline = bool(group.attrs["has_baseline"])
            committee.baseline_error = float(group.attrs["baseline_error"])
            committee.baseline_atom_error = float(group.attrs["baseline_atom_error"])
            committee.energy_zero, committee.atom_zero = group["energy_zero"][()], group["atom_zero"][()]
            if "virial_zero" in group:  # not in files from before stresses were learned
                committee.virial_zero = group["virial_zero"][()]
            committee.strength = float(group.attrs["strength"])
            committee.judgement = Judgement.read(group["judgement"])
            committee.remarks = tuple(json.loads(group.attrs.get("remarks", "[]")))
        except KeyError as error:
            msg = f"not a model of alflow: {error}"
            raise PotentialError(msg) from error
        return committee


_NO_BASELINE = (
    "this committee was trained on differences from a baseline, and a file cannot hold one: "
    "give it with alflow.load(path, baseline=calculator)"
)
