"""The contract of a model of a committee, as checks that the author of any model can call in tests.

>>> from alflow.committee.testing import check_model
>>> check_model(model, atoms, training)  # doctest: +SKIP

Every check raises an AssertionError that says what was expected and what was found. None knows how a model works:
forces are compared with differences of its energies, and everything else with what physics demands. Models computed in
single precision need a larger ``tolerance``.
"""

import copy
from collections.abc import Callable

import h5py
import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import ArrayLike, NDArray

from alflow.committee.protocol import Model, Potential
from alflow.committee.training import TrainingSet
from alflow.errors import PotentialError

Array = NDArray[np.float64]

TOLERANCE = 1e-6
"""Largest difference from what is expected, relative to the largest of the numbers compared."""

_LEAST = 1e-2  # what numbers are at least compared with, so that forces which vanish by symmetry may be rounding errors
_STEP = 2e-3  # Å, of the differences that forces are compared with
_STRAIN = 5e-4
_SIXTH_ORDER = ((1, 45.0), (2, -9.0), (3, 1.0))  # weights of central differences, over 60 steps


def check_model(
    model: Model, atoms: Atoms, training: TrainingSet, *, by_atom: bool = True, tolerance: float = TOLERANCE
) -> None:
    """Check all that a committee needs of a fitted model.

    Parameters
    ----------
    model : Model
        Fitted to ``training``.
    atoms : Atoms
        A structure without symmetry that the model can evaluate. Try some: a molecule, a cell smaller than the cutoff,
        a slab, a triclinic cell.
    training : TrainingSet
        What the model was fitted to.
    by_atom : bool
        Whether the model has energies of atoms; one that has none refuses weights by atom with a PotentialError.
    tolerance : float
        See :data:`TOLERANCE`.

    Raises
    ------
    AssertionError
        The model does not keep the contract; the message says where.
    """
    check_input_unchanged(model, atoms)  # first: what the others compare would be changed already
    check_energies(model, atoms, by_atom=by_atom, tolerance=tolerance)
    check_gradients(model, atoms, by_atom=by_atom, tolerance=tolerance)
    check_invariances(model, atoms, tolerance=tolerance)
    check_descriptors(model, atoms, tolerance=tolerance)
    check_file(model, atoms, training, tolerance=tolerance)
    check_copy(model, atoms)


def check_energies(potential: Potential, atoms: Atoms, *, by_atom: bool = True, tolerance: float = TOLERANCE) -> None:
    """Energies of M members, finite, and the sum of those of the atoms."""
    n, m = len(atoms), potential.n_members
    forward = potential.forward(atoms)
    _holds(m >= 2, f"n_members: expected 2 or more, found {m}")
    _holds(forward.energies.shape == (m,), f"energies: expected shape ({m},), found {forward.energies.shape}")
    _holds(bool(np.isfinite(forward.energies).all()), f"energies: expected numbers, found {forward.energies}")
    if by_atom:
        shape = forward.atom_energies.shape
        _holds(shape == (n, m), f"energies of atoms: expected shape ({n}, {m}), found {shape}")
        _close(forward.atom_energies.sum(axis=0), forward.energies, "sum of the energies of atoms", tolerance)


def check_gradients(potential: Potential, atoms: Atoms, *, by_atom: bool = True, tolerance: float = TOLERANCE) -> None:
    """Forces, virial and stress of weighted sums of energies are their derivatives, and other weights are refused."""
    n, m = len(atoms), potential.n_members
    rng = np.random.default_rng(0)
    # Random weights of both signs: what is right for the mean alone, where errors of members cancel, shows.
    _check_gradient(potential, atoms, rng.normal(size=m), tolerance)
    weights = rng.normal(size=(n, m))
    if by_atom:
        _check_gradient(potential, atoms, weights, tolerance)
        # The same for all atoms is the same as one for each member: two ways through a model that must agree.
        potential.forward(atoms)
        one, every = (potential.backward(w) for w in (weights[0], np.tile(weights[0], (n, 1))))
        _close(every.forces, one.forces, "forces with the same weights for every atom", tolerance)
    potential.forward(atoms)
    for wrong in (np.ones(m + 1), *(() if by_atom else (weights,))):
        try:
            potential.backward(wrong)
        except PotentialError:
            continue
        _holds(False, f"weights of shape {wrong.shape}: expected a PotentialError, found none")


def _check_gradient(potential: Potential, atoms: Atoms, weights: Array, tolerance: float) -> None:
    def total(structure: Atoms) -> float:
        forward = potential.forward(structure)
        return float(np.sum(weights * (forward.atom_energies if weights.ndim == 2 else forward.energies)))

    potential.forward(atoms)
    gradient = potential.backward(weights)
    what = f"of weights {weights.shape}"
    for i in np.unique([0, len(atoms) // 2, len(atoms) - 1]):
        for x in range(3):
            slope = _derivative(lambda h, i=i, x=x: total(_moved(atoms, i, x, h)), _STEP)  # type: ignore[misc]
            scale = float(np.abs(gradient.forces).max())
            _close(gradient.forces[i, x], -slope, f"force on atom {i} along {'xyz'[x]}, {what}", tolerance, scale)
    _close(gradient.forces.sum(axis=0), np.zeros(3), f"sum of the forces, {what}", tolerance)
    _close(gradient.virial, gradient.virial.T, f"virial, transposed, {what}", tolerance)
    if not atoms.pbc.any():
        expected = atoms.positions.T @ gradient.forces
        _close(gradient.virial, (expected + expected.T) / 2, f"virial from positions and forces, {what}", tolerance)
    else:
        for a, b in ((0, 0), (0, 1), (1, 2)):
            slope = _derivative(lambda h, a=a, b=b: total(_strained(atoms, a, b, h)), _STRAIN)  # type: ignore[misc]
            scale = float(np.abs(gradient.virial).max())
            _close(gradient.virial[a, b], -slope, f"virial {'xyz'[a]}{'xyz'[b]}, {what}", tolerance, scale)
    if not atoms.pbc.all():
        _holds(gradient.stress is None, "stress: expected None where not all directions are periodic")
    else:
        _holds(gradient.stress is not None, "stress: expected one where all directions are periodic, found None")
        expected = full_3x3_to_voigt_6_stress(-gradient.virial / atoms.get_volume())
        _close(np.asarray(gradient.stress), expected, f"stress from the virial, {what}", tolerance)


def check_invariances(potential: Potential, atoms: Atoms, *, tolerance: float = TOLERANCE) -> None:
    """Nothing depends on place, direction and order of the atoms, nor on which of its cells describes a crystal."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=potential.n_members)
    energies, forces = _evaluated(potential, atoms, weights)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # with a mirror, half of the time
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T)
    turned.positions = atoms.positions @ rotation.T + [0.3, -1.0, 2.0]
    found = _evaluated(potential, turned, weights)
    _close(found[0], energies, "energies after a rotation", tolerance)
    _close(found[1], forces @ rotation.T, "forces after a rotation", tolerance)
    order = rng.permutation(len(atoms))
    found = _evaluated(potential, atoms[order], weights)
    _close(found[0], energies, "energies in another order of the atoms", tolerance)
    _close(found[1], forces[order], "forces in another order of the atoms", tolerance)
    if atoms.pbc.all():
        found = _evaluated(potential, atoms.repeat((2, 1, 3)), weights)
        _close(found[0], 6 * energies, "energies of six cells", tolerance)
        _close(found[1][: len(atoms)], forces, "forces of six cells", tolerance)


def check_input_unchanged(potential: Potential, atoms: Atoms) -> None:
    """A structure is only read, and what is said of it does not depend on what was evaluated before."""
    weights = np.random.default_rng(2).normal(size=potential.n_members)
    before = atoms.copy()
    first = _evaluated(potential, atoms, weights)
    _holds(before == atoms, "evaluation changed the structure")
    _holds(list(before.arrays) == list(atoms.arrays), f"evaluation added arrays: {list(atoms.arrays)}")
    _holds(before.info == atoms.info, f"evaluation changed Atoms.info: {atoms.info}")
    potential.forward(_moved(atoms, 0, 0, 0.01))
    again = _evaluated(potential, atoms, weights)
    _holds(bool(np.array_equal(first[0], again[0])), "energies: evaluated again they are others")
    _holds(bool(np.array_equal(first[1], again[1])), "forces: evaluated again they are others")


def check_descriptors(model: Model, atoms: Atoms, *, tolerance: float = TOLERANCE) -> None:
    """Grades of all atoms, and features that do not depend on their order; neither is in the way of a gradient."""
    n = len(atoms)
    weights = np.random.default_rng(3).normal(size=model.n_members)
    _, forces = _evaluated(model, atoms, weights)
    order = np.random.default_rng(4).permutation(n)
    grade, features = model.grade(atoms), model.features(atoms)
    _holds(grade.shape == (n,), f"grade: expected shape ({n},), found {grade.shape}")
    _holds(bool((grade >= 0).all()), f"grade: expected numbers >= 0, found {grade.min()}")
    _holds(features.ndim == 1, f"features: expected one axis, found {features.ndim}")
    _close(model.grade(atoms[order]), grade[order], "grade in another order of the atoms", tolerance)
    _close(model.features(atoms[order]), features, "features in another order of the atoms", tolerance)
    model.grade(_moved(atoms, 0, 0, 0.01))
    _close(model.backward(weights).forces, forces, "forces of the last forward, after a grade", tolerance)


def check_file(model: Model, atoms: Atoms, training: TrainingSet, *, tolerance: float = TOLERANCE) -> None:
    """Written and read again, a model evaluates the same, to the last bit; its grades may be computed again."""
    weights = np.random.default_rng(5).normal(size=model.n_members)
    with h5py.File("model.h5", "w", driver="core", backing_store=False) as file:
        model.write(file.create_group("members"))
        read = type(model).read(file["members"], training)
    _holds(read.n_members == model.n_members, f"n_members from a file: {read.n_members}, not {model.n_members}")
    _holds(read.numbers == model.numbers, f"species from a file: {read.numbers}, not {model.numbers}")
    ours, theirs = (_evaluated(one, atoms, weights) for one in (model, read))
    _holds(bool(np.array_equal(ours[0], theirs[0])), "energies from a file: they are others")
    _holds(bool(np.array_equal(ours[1], theirs[1])), "forces from a file: they are others")
    _close(read.grade(atoms), model.grade(atoms), "grade from a file", max(tolerance, TOLERANCE))
    _close(read.features(atoms), model.features(atoms), "features from a file", tolerance)


def check_copy(model: Model, atoms: Atoms) -> None:
    """A copy evaluates the same, and has a structure of its own for the next gradient."""
    weights = np.random.default_rng(6).normal(size=model.n_members)
    other = copy.copy(model)
    ours = _evaluated(model, atoms, weights)
    theirs = _evaluated(other, atoms, weights)
    _holds(bool(np.array_equal(ours[0], theirs[0])), "energies of a copy: they are others")
    model.forward(atoms)
    other.forward(_moved(atoms, 0, 0, 0.01))
    found = model.backward(weights).forces
    _holds(bool(np.array_equal(found, ours[1])), "forces of a model changed by what its copy evaluated")


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


def _close(found: ArrayLike, expected: ArrayLike, what: str, tolerance: float, scale: float = 0.0) -> None:
    """Equal within the tolerance, relative to the largest number, ``scale`` or 1e-2."""
    found, expected = np.asarray(found), np.asarray(expected)
    _holds(found.shape == expected.shape, f"{what}: expected shape {expected.shape}, found {found.shape}")
    largest = max(float(np.abs(expected).max(initial=0.0)), scale, _LEAST)
    difference = float(np.abs(found - expected).max(initial=0.0))
    if not difference <= tolerance * largest:  # written so that what is not a number is not equal
        _holds(False, f"{what}: off by {difference:.3g}, {tolerance:g} of {largest:.3g} is allowed")


def _holds(condition: bool, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)
