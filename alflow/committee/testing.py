"""The contract of a model of a committee, as checks that the author of any model can call in tests.

>>> from alflow.testing import check_potential
>>> check_potential(committee, frames)  # doctest: +SKIP

Every check raises an AssertionError that says what was expected and what was found. None knows how a model works:
forces are compared with differences of its energies, and everything else with what physics demands.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import h5py
import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import ArrayLike, NDArray

from alflow.committee.committee import Committee
from alflow.committee.protocol import KeepsFiles, Model, Potential, Weighting
from alflow.committee.training import TrainingSet
from alflow.errors import PotentialError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Precision:
    """How exactly a model computes.

    Attributes
    ----------
    tolerance : float
        Largest difference from what is expected, relative to the largest of the numbers compared.
    least : float
        What numbers are at least compared with (eV, eV/Å, ...), so that forces which vanish by symmetry may be rounding
        errors.
    energy : float
        Largest difference of energies, relative.
    step, strain : float
        Of the differences that forces (Å) and stress are compared with.
    exact : bool
        Whether the same calculation gives the same bits.
    """

    tolerance: float
    least: float
    energy: float
    step: float
    strain: float
    exact: bool


DOUBLE = Precision(tolerance=1e-6, least=1e-2, energy=1e-6, step=2e-3, strain=5e-4, exact=True)
SINGLE = Precision(tolerance=1e-3, least=1.0, energy=1e-6, step=1e-2, strain=2e-3, exact=False)
"""Of forces 1e-3 eV/Å, at steps of 0.01 Å: below those, differences of single-precision energies are noise."""

_SIXTH_ORDER = ((1, 45.0), (2, -9.0), (3, 1.0))  # weights of central differences, over 60 steps


def check_potential(committee: Committee, frames: Sequence[Atoms], *, precision: Precision = DOUBLE) -> None:
    """Check all that is needed of a fitted committee: its model, and what it gives to drive simulations with.

    Parameters
    ----------
    committee : Committee
        Fitted, with its baseline if it has one.
    frames : sequence of Atoms
        Structures without symmetry that it can evaluate: try a molecule, a cell smaller than the cutoff, a slab, a
        triclinic cell.
    precision : Precision
        :data:`DOUBLE` or, of models in single precision, :data:`SINGLE`.

    Raises
    ------
    AssertionError
        It does not keep the contract; the message says where.
    """
    weightings: list[Weighting] = ["none"]
    if committee.has_baseline:
        weightings += ["total", "atom"] if committee.model.by_atom else ["total"]
    for atoms in frames:
        check_model(committee.model, atoms, committee.training.whole(), precision=precision)
        for weighting in weightings:
            check_driving(committee, atoms, weighting, precision=precision)


def check_model(model: Model, atoms: Atoms, training: TrainingSet, *, precision: Precision = DOUBLE) -> None:
    """Check all that a committee needs of a fitted model.

    Parameters
    ----------
    model : Model
        Fitted to ``training``.
    atoms : Atoms
        A structure without symmetry that the model can evaluate.
    training : TrainingSet
        What the model was fitted to.
    precision : Precision
        As of :func:`check_potential`.

    Raises
    ------
    AssertionError
        The model does not keep the contract; the message says where.
    """
    check_input_unchanged(model, atoms, precision=precision)  # first: what others compare would be changed already
    check_energies(model, atoms, precision=precision)
    check_gradients(model, atoms, precision=precision)
    check_invariances(model, atoms, precision=precision)
    check_descriptors(model, atoms, precision=precision)
    check_file(model, atoms, training, precision=precision)
    check_copy(model, atoms, precision=precision)


def check_driving(committee: Committee, atoms: Atoms, weighting: Weighting, *, precision: Precision = DOUBLE) -> None:
    """Forces and stress of what simulations are driven with are the derivatives of its energy."""

    def energy(structure: Atoms) -> float:
        return committee.drive(structure, weighting).energy

    driving = committee.drive(atoms, weighting)
    what = f"driven with weighting {weighting!r}"
    scale = float(np.abs(driving.forces).max())
    for i in np.unique([0, len(atoms) - 1]):
        for x in range(3):
            slope = _derivative(lambda h, i=i, x=x: energy(_moved(atoms, i, x, h)), precision.step)  # type: ignore[misc]
            _close(driving.forces[i, x], -slope, f"force on atom {i} along {'xyz'[x]}, {what}", precision, scale)
    if driving.stress is not None:
        slope = _derivative(lambda h: energy(_strained(atoms, 0, 1, h)), precision.strain)
        expected, scale = slope / atoms.get_volume(), float(np.abs(driving.stress).max())
        _close(driving.stress[5], expected, f"stress xy, {what}", precision, scale)


def check_energies(potential: Model, atoms: Atoms, *, precision: Precision = DOUBLE) -> None:
    """Energies of M members, finite, and the sum of those of the atoms where there are such."""
    n, m = len(atoms), potential.n_members
    forward = potential.forward(atoms)
    _holds(m >= 2, f"n_members: expected 2 or more, found {m}")
    _holds(forward.energies.shape == (m,), f"energies: expected shape ({m},), found {forward.energies.shape}")
    _holds(bool(np.isfinite(forward.energies).all()), f"energies: expected numbers, found {forward.energies}")
    _holds(not potential.by_atom or forward.atom_energies is not None, "energies of atoms: expected some, found None")
    if forward.atom_energies is not None:
        shape = forward.atom_energies.shape
        _holds(shape == (n, m), f"energies of atoms: expected shape ({n}, {m}), found {shape}")
        _same_energies(forward.atom_energies.sum(axis=0), forward.energies, "sum of the energies of atoms", precision)


def check_gradients(potential: Model, atoms: Atoms, *, precision: Precision = DOUBLE) -> None:
    """Forces, virial and stress of weighted sums of energies are their derivatives, and other weights are refused."""
    n, m = len(atoms), potential.n_members
    rng = np.random.default_rng(0)
    # Random weights of both signs: what is right for the mean alone, where errors of members cancel, shows.
    _check_gradient(potential, atoms, rng.normal(size=m), precision)
    weights = rng.normal(size=(n, m))
    if potential.by_atom:
        _check_gradient(potential, atoms, weights, precision)
        # The same for all atoms is the same as one for each member: two ways through a model that must agree.
        potential.forward(atoms)
        one, every = (potential.backward(w) for w in (weights[0], np.tile(weights[0], (n, 1))))
        _close(every.forces, one.forces, "forces with the same weights for every atom", precision)
    potential.forward(atoms)
    for wrong in (np.ones(m + 1), *(() if potential.by_atom else (weights,))):
        try:
            potential.backward(wrong)
        except PotentialError:
            continue
        _holds(False, f"weights of shape {wrong.shape}: expected a PotentialError, found none")


def _check_gradient(potential: Potential, atoms: Atoms, weights: Array, precision: Precision) -> None:
    def total(structure: Atoms) -> float:
        forward = potential.forward(structure)
        return float(np.sum(weights * np.asarray(forward.atom_energies if weights.ndim == 2 else forward.energies)))

    potential.forward(atoms)
    gradient = potential.backward(weights)
    what, scale = f"of weights {weights.shape}", float(np.abs(gradient.forces).max())
    for i in np.unique([0, len(atoms) // 2, len(atoms) - 1]):
        for x in range(3):
            slope = _derivative(lambda h, i=i, x=x: total(_moved(atoms, i, x, h)), precision.step)  # type: ignore[misc]
            _close(gradient.forces[i, x], -slope, f"force on atom {i} along {'xyz'[x]}, {what}", precision, scale)
    # Rounding is that of the terms that cancel each other, of the size of the forces at least.
    _close(gradient.forces.sum(axis=0), np.zeros(3), f"sum of the forces, {what}", precision, scale)
    known = bool(np.isfinite(gradient.virial).all())
    if known:
        _close(gradient.virial, gradient.virial.T, f"virial, transposed, {what}", precision)
    if not atoms.pbc.any():
        expected = atoms.positions.T @ gradient.forces
        _close(gradient.virial, (expected + expected.T) / 2, f"virial from positions and forces, {what}", precision)
    elif known:
        for a, b in ((0, 0), (0, 1), (1, 2)):
            slope = _derivative(lambda h, a=a, b=b: total(_strained(atoms, a, b, h)), precision.strain)  # type: ignore[misc]
            scale = float(np.abs(gradient.virial).max())
            _close(gradient.virial[a, b], -slope, f"virial {'xyz'[a]}{'xyz'[b]}, {what}", precision, scale)
    if not atoms.pbc.all():
        _holds(gradient.stress is None, "stress: expected None where not all directions are periodic")
    elif known:
        _holds(gradient.stress is not None, "stress: expected one where all directions are periodic, found None")
        expected = full_3x3_to_voigt_6_stress(-gradient.virial / atoms.get_volume())
        _close(np.asarray(gradient.stress), expected, f"stress from the virial, {what}", precision)


def check_invariances(potential: Potential, atoms: Atoms, *, precision: Precision = DOUBLE) -> None:
    """Nothing depends on place, direction and order of the atoms, nor on which of its cells describes a crystal."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=potential.n_members)
    energies, forces = _evaluated(potential, atoms, weights)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # with a mirror, half of the time
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T)
    turned.positions = atoms.positions @ rotation.T + [0.3, -1.0, 2.0]
    found = _evaluated(potential, turned, weights)
    _same_energies(found[0], energies, "energies after a rotation", precision)
    _close(found[1], forces @ rotation.T, "forces after a rotation", precision)
    order = rng.permutation(len(atoms))
    found = _evaluated(potential, atoms[order], weights)
    _same_energies(found[0], energies, "energies in another order of the atoms", precision)
    _close(found[1], forces[order], "forces in another order of the atoms", precision)
    if atoms.pbc.all():
        found = _evaluated(potential, atoms.repeat((2, 1, 3)), weights)
        _same_energies(found[0], 6 * energies, "energies of six cells", precision)
        _close(found[1][: len(atoms)], forces, "forces of six cells", precision)


def check_input_unchanged(potential: Potential, atoms: Atoms, *, precision: Precision = DOUBLE) -> None:
    """A structure is only read, and what is said of it does not depend on what was evaluated before."""
    weights = np.random.default_rng(2).normal(size=potential.n_members)
    before = atoms.copy()
    first = _evaluated(potential, atoms, weights)
    _holds(before == atoms, "evaluation changed the structure")
    _holds(list(before.arrays) == list(atoms.arrays), f"evaluation added arrays: {list(atoms.arrays)}")
    _holds(before.info == atoms.info, f"evaluation changed Atoms.info: {atoms.info}")
    potential.forward(_moved(atoms, 0, 0, 0.01))
    again = _evaluated(potential, atoms, weights)
    _equal(again[0], first[0], "energies: evaluated again they are others", precision)
    _equal(again[1], first[1], "forces: evaluated again they are others", precision)


def check_descriptors(model: Model, atoms: Atoms, *, precision: Precision = DOUBLE) -> None:
    """Grades of all atoms, and features that do not depend on their order; neither is in the way of a gradient."""
    n = len(atoms)
    weights = np.random.default_rng(3).normal(size=model.n_members)
    _, forces = _evaluated(model, atoms, weights)
    order = np.random.default_rng(4).permutation(n)
    grade, features = model.grade(atoms), model.features(atoms)
    _holds(grade.shape == (n,), f"grade: expected shape ({n},), found {grade.shape}")
    _holds(bool((grade >= 0).all()), f"grade: expected numbers >= 0, found {grade.min()}")
    _holds(features.ndim == 1, f"features: expected one axis, found {features.ndim}")
    _close(model.grade(atoms[order]), grade[order], "grade in another order of the atoms", precision)
    _close(model.features(atoms[order]), features, "features in another order of the atoms", precision)
    model.grade(_moved(atoms, 0, 0, 0.01))
    _close(model.backward(weights).forces, forces, "forces of the last forward, after a grade", precision)


def check_file(model: Model, atoms: Atoms, training: TrainingSet, *, precision: Precision = DOUBLE) -> None:
    """Written and read again, a model evaluates the same, to the last bit; its grades may be computed again."""
    weights = np.random.default_rng(5).normal(size=model.n_members)
    with h5py.File("model.h5", "w", driver="core", backing_store=False) as file:
        group = file.create_group("members")
        model.write(group)
        if isinstance(model, KeepsFiles):
            model.enclose(group)
        read = type(model).read(group, training)
        if isinstance(read, KeepsFiles):
            read.trusted = True
    _holds(read.n_members == model.n_members, f"n_members from a file: {read.n_members}, not {model.n_members}")
    _holds(read.numbers == model.numbers, f"species from a file: {read.numbers}, not {model.numbers}")
    ours, theirs = (_evaluated(one, atoms, weights) for one in (model, read))
    _equal(theirs[0], ours[0], "energies from a file: they are others", precision)
    _equal(theirs[1], ours[1], "forces from a file: they are others", precision)
    _close(read.grade(atoms), model.grade(atoms), "grade from a file", precision)
    _close(read.features(atoms), model.features(atoms), "features from a file", precision)


def check_copy(model: Model, atoms: Atoms, *, precision: Precision = DOUBLE) -> None:
    """A copy evaluates the same, and has a structure of its own for the next gradient."""
    weights = np.random.default_rng(6).normal(size=model.n_members)
    other = copy.copy(model)
    ours = _evaluated(model, atoms, weights)
    theirs = _evaluated(other, atoms, weights)
    _equal(theirs[0], ours[0], "energies of a copy: they are others", precision)
    model.forward(atoms)
    other.forward(_moved(atoms, 0, 0, 0.01))
    found = model.backward(weights).forces
    _equal(found, ours[1], "forces of a model changed by what its copy evaluated", precision)


def _evaluated(potential: Potential, atoms: Atoms, weights: Array) -> tuple[Array, Array]:
    """Energies (M,) and forces (N, 3) of their weighted sum."""
    energies = potential.forward(atoms).energies
    return energies, potential.backward(weights).forces


def _derivative(function: Callable[[float], float], h: float) -> float:
    """First derivative at zero, by central differences of sixth order: their error is far below the tolerance."""
    return sum(w * (function(k * h) - function(-k * h)) for k, w in _SIXTH_ORDER) / (60 * h)


def _moved(atoms: Atoms, i: int, x: int, by: float) -> Atoms:
    out: Atoms = atoms.copy()
    out.positions[i, x] += by
    return out


def _strained(atoms: Atoms, a: int, b: int, by: float) -> Atoms:
    """Strained without a rotation, so that the derivative is a component of a symmetric tensor."""
    strain = np.eye(3)
    strain[a, b] += by / 2
    strain[b, a] += by / 2
    out: Atoms = atoms.copy()
    out.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return out


def _equal(found: Array, expected: Array, otherwise: str, precision: Precision) -> None:
    """The same bits, or nearly so where not even the same calculation gives the same bits."""
    if precision.exact:
        _holds(bool(np.array_equal(found, expected)), otherwise)
    else:
        _same_energies(found, expected, otherwise, precision)


def _same_energies(found: Array, expected: Array, what: str, precision: Precision) -> None:
    """Equal up to what large energies lose."""
    allowed = precision.tolerance * precision.least + precision.energy * float(np.abs(expected).max(initial=0.0))
    difference = float(np.abs(found - expected).max(initial=0.0))
    _holds(difference <= allowed, f"{what}: off by {difference:.3g}, {allowed:.3g} is allowed")


def _close(found: ArrayLike, expected: ArrayLike, what: str, precision: Precision, scale: float = 0.0) -> None:
    """Equal within the tolerance, relative to the largest number, ``scale`` or what is least."""
    found, expected = np.asarray(found), np.asarray(expected)
    _holds(found.shape == expected.shape, f"{what}: expected shape {expected.shape}, found {found.shape}")
    largest = max(float(np.abs(expected).max(initial=0.0)), scale, precision.least)
    difference = float(np.abs(found - expected).max(initial=0.0))
    if not difference <= precision.tolerance * largest:  # written so that what is not a number is not equal
        _holds(False, f"{what}: off by {difference:.3g}, {precision.tolerance:g} of {largest:.3g} is allowed")


def _holds(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
