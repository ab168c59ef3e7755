"""The published contract passes what keeps it, and says what does not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.committee.protocol import Forward, Gradient
from alflow.committee.testing import check_model
from alflow.models import kinds
from alflow.models.files import load
from alflow.models.fitting import fit
from ase import Atoms
from spring_model import Springs, SpringsPotential

from lj_frames import bonded, water


@pytest.fixture
def committee(monkeypatch: pytest.MonkeyPatch) -> Committee:
    monkeypatch.setitem(kinds.POTENTIALS, "springs", SpringsPotential)
    return fit(bonded(water(), 12), kind="springs", n_members=8)


def test_another_model_is_a_committee(committee: Committee, tmp_path) -> None:
    """Fitted, checked, asked and kept without a word about how it works."""
    check_model(committee.model, water(), committee.training)
    prediction = committee.predict(water())
    assert prediction.energy_spread > 0
    assert not prediction.calibrated
    committee.save(tmp_path / "model.h5")
    read = load(tmp_path / "model.h5")
    np.testing.assert_array_equal(read.predict(water()).forces_sigma, prediction.forces_sigma)
    assert isinstance(read.model, Springs)
    read.update(bonded(water(), 4, seed=5))
    assert len(read.training) == 16
    atoms = water()
    atoms.calc = read.calculator()
    np.testing.assert_array_equal(atoms.get_forces(), read.predict(water()).forces)


def test_a_kind_that_is_not_there_is_named(committee: Committee, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    committee.save(tmp_path / "model.h5")
    monkeypatch.delitem(kinds.POTENTIALS, "springs")
    with pytest.raises(Exception, match="kind of model: expected one of ace, calculators, trained, found 'springs'"):
        load(tmp_path / "model.h5")


def _backward(change: Callable[[Gradient], Gradient]) -> Callable[[Springs], None]:
    def apply(model: Springs) -> None:
        right = model.backward
        model.backward = lambda weights: change(right(weights))  # type: ignore[method-assign]

    return apply


def _forward(change: Callable[[Forward, Atoms], Forward]) -> Callable[[Springs], None]:
    def apply(model: Springs) -> None:
        right = model.forward
        model.forward = lambda atoms: change(right(atoms), atoms)  # type: ignore[method-assign]

    return apply


def _labelled(forward: Forward, atoms: Atoms) -> Forward:
    atoms.info["energy"] = 0.0
    return forward


BROKEN: dict[str, tuple[Callable[[Springs], None], str]] = {
    "sign of the forces": (_backward(lambda g: replace(g, forces=-g.forces)), "force on atom 0 along x, of weights"),
    "transposed virial": (_backward(lambda g: replace(g, virial=np.triu(g.virial))), "virial, transposed"),
    "virial": (_backward(lambda g: replace(g, virial=2 * g.virial)), "virial from positions and forces"),
    "stress": (_backward(lambda g: replace(g, stress=np.zeros(6))), "stress: expected None"),
    "shape": (_forward(lambda f, _: replace(f, energies=f.energies[:, None])), r"expected shape \(8,\)"),
    "atoms": (_forward(lambda f, _: replace(f, atom_energies=2 * f.atom_energies)), "sum of the energies of atoms"),
    "input": (_forward(_labelled), r"evaluation changed Atoms\.info"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(committee: Committee, name: str) -> None:
    breaks, message = BROKEN[name]
    model = committee.model
    breaks(model)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=message):
        check_model(model, water(), committee.training)


def test_a_place_in_space_is_named(committee: Committee) -> None:
    """Energy and forces agree with each other, and depend on where the molecule is."""
    model = committee.model
    forward, backward, place = model.forward, model.backward, [np.zeros((0, 3))]

    def pulled(atoms: Atoms) -> Forward:
        place[0] = atoms.positions.copy()
        each = forward(atoms).atom_energies + 0.1 * atoms.positions[:, :1] ** 2
        return Forward(each.sum(axis=0), each)

    def gradient(weights: np.ndarray) -> Gradient:
        found = backward(weights)
        forces = found.forces.copy()
        forces[:, 0] -= 0.2 * weights.sum(axis=-1) * place[0][:, 0]
        return replace(found, forces=forces)

    model.forward, model.backward = pulled, gradient  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="sum of the forces, of weights"):
        check_model(model, water(), committee.training)
