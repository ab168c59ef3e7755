"""Threads, periodicity and many species change nothing."""

import multiprocessing

import alflow
import numpy as np
import pytest
from alflow.committee.committee import Committee
from alflow.models.ace.environment import available_threads
from ase import Atoms
from ase.build import bulk, molecule

from lj_frames import SMALL, bonded


def test_results_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    committee = alflow.fit(bonded(bulk("Cu", cubic=True).repeat(2), 6), **SMALL)
    atoms = bulk("Cu", cubic=True).repeat(4)
    atoms.rattle(0.1, seed=1)
    found = []
    for threads in (1, 2, 3):
        committee.threads = threads
        found.append(committee.predict(atoms))
    for other in found[1:]:
        for name in ("energies", "forces", "stress", "forces_sigma", "grade"):
            np.testing.assert_array_equal(getattr(other, name), getattr(found[0], name))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert available_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert available_threads() >= 1


def _energy_in_a_fork(committee: Committee, atoms: Atoms, results) -> None:
    results.put(committee.forward(atoms).energies)


def test_a_fork_has_threads_of_its_own() -> None:
    committee = alflow.fit(bonded(bulk("Cu", cubic=True).repeat(2), 4), **SMALL)
    committee.threads = 2
    atoms = bulk("Cu", cubic=True).repeat(4)
    expected = committee.forward(atoms).energies
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_energy_in_a_fork, args=(committee, atoms, results))
    process.start()
    np.testing.assert_array_equal(results.get(timeout=30), expected)
    process.join(timeout=30)


def test_mixed_periodicity_is_that_of_a_large_cell() -> None:
    """A chain and a sheet equal the middle of long ones that are not periodic."""
    committee = alflow.fit(bonded(bulk("Cu", cubic=True), 12), **SMALL)
    chain = Atoms("Cu2", [[0, 0, 0], [0.3, 1.9, 0]], cell=[2.5, 9, 9], pbc=[True, False, False])
    line = chain.repeat((9, 1, 1))
    line.pbc = False
    np.testing.assert_allclose(
        committee.forward(chain).atom_energies, committee.forward(line).atom_energies[8:10], rtol=1e-9
    )
    sheet = Atoms("Cu2", [[0, 0, 0], [1.3, 1.9, 0.4]], cell=[2.5, 2.6, 9], pbc=[True, True, False])
    plane = sheet.repeat((7, 7, 1))
    plane.pbc = False
    middle = 2 * (3 * 7 + 3)
    np.testing.assert_allclose(
        committee.forward(sheet).atom_energies, committee.forward(plane).atom_energies[middle : middle + 2], rtol=1e-9
    )


def test_many_species_and_their_order() -> None:
    """Seven species fit and predict; labels do not depend on the order of the atoms."""
    rng, frames = np.random.default_rng(0), []
    for k in range(12):
        frames += bonded(Atoms("HCNOFPS", 1.5 * np.array([*np.ndindex(2, 2, 2)])[1:]), 1, seed=k)
    committee = alflow.fit(frames, **SMALL)
    assert len(committee.model.descriptor.numbers) == 7
    order = rng.permutation(7)
    found, turned = committee.predict(frames[0]), committee.predict(frames[0][order])
    np.testing.assert_allclose(turned.forces, found.forces[order], atol=1e-9)


def test_a_molecule_without_neighbours_has_the_energy_of_its_atoms() -> None:
    committee = alflow.fit(bonded(molecule("H2O"), 12), **SMALL)
    lone = committee.forward(Atoms("O"))
    np.testing.assert_allclose(lone.energies, committee.model.constants[1])
