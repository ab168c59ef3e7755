"""The cutoff and the number of features that are chosen where none are given."""

import alflow
import numpy as np
import pytest
from alflow.models.ace import choice
from alflow.models.ace.choice import Choice, deciding
from alflow.models.ace.fit import make_descriptor
from alflow.models.ace.settings import AceSettings
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator

from lj_frames import labelled

FEW = {"n_max": 5, "l_max": 1, "n_members": 4}
"""Of a committee that is fitted in a moment; cutoff and features are left open."""


def metal(n: int, rcut: float = 6.0, seed: int = 0, a: float = 3.6) -> list[Atoms]:
    """A crystal with a pair potential that ends at ``rcut``."""
    start = bulk("Cu", "fcc", a=a, cubic=True) * (2, 1, 1)
    morse = MorsePotential(epsilon=0.4, r0=2.6, rho0=4.0, rcut1=(rcut - 1.0) / 2.6, rcut2=rcut / 2.6)
    return labelled(start, n, seed, 0.1, morse)


def chosen(committee: alflow.Committee) -> Choice:
    found = committee.model.choice
    assert found is not None
    return found


def force_error(committee: alflow.Committee, frames: list[Atoms]) -> float:
    errors = [committee.drive(frame, "none").forces - frame.get_forces() for frame in frames]
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


@pytest.mark.parametrize(("rcut", "cutoffs"), [(4.4, {4.5}), (6.4, {6.0, 6.5})])
def test_the_cutoff_is_that_of_the_labels(rcut: float, cutoffs: set[float]) -> None:
    frames, test = metal(16, rcut), metal(8, rcut, seed=1)
    committee = alflow.fit(frames, **FEW)
    assert chosen(committee).cutoff in cutoffs
    (remark,) = [remark for remark in committee.remarks if remark.startswith("cutoff ")]
    assert remark.startswith(f"cutoff {chosen(committee).cutoff:g} Å")
    assert "is best, errors are 0." in remark
    assert force_error(committee, test) < 0.9 * force_error(alflow.fit(frames, cutoff=5.5, **FEW), test)


def test_pair_forces_are_learned_with_few_features_where_structures_are_few() -> None:
    frames, test = metal(16), metal(8, seed=1)
    settings = {"cutoff": 6.0, "n_members": 4}
    few, many = alflow.fit(frames, **settings), alflow.fit(frames, n_features=1250, **settings)
    assert chosen(few).n_features in {150, 300, 600}
    assert chosen(few).cutoff == 6.0
    assert few.model.coefficients.shape[1] < many.model.coefficients.shape[1]
    assert force_error(few, test) < 1.1 * force_error(many, test)


def terms(energies: list[float], forces: list[float]) -> list[np.ndarray]:
    """Of the score: what structures add to it."""
    return [np.array(energies), np.array(forces)]


@pytest.mark.parametrize(
    ("energies", "forces", "expected"),
    [
        ([0.1, -0.3, 0.2, 0.0], [0.1, 0.12, 0.09, 0.11], True),  # forces tell, whatever energies do
        ([0.1, -0.3, 0.2, 0.0], [0.3, -0.2, 0.1, -0.1], False),
        ([0.5, 0.6, 0.4, 0.5], [0.3, -0.2, 0.1, -0.1], True),  # energies do
        ([-0.1, -0.2, -0.1, -0.2], [-0.1, -0.1, -0.2, -0.1], False),
        ([0.5, 0.6, 0.4, 0.5], [], True),  # labels without forces
    ],
)
def test_more_features_than_are_compared_only_where_more_are_better(
    energies: list[float], forces: list[float], expected: bool
) -> None:
    found = {300: terms(energies, forces), 600: terms([0.0] * 4, [0.0] * len(forces))}
    assert choice._gains(found, 300, 600) == expected


@pytest.mark.long
@pytest.mark.slow
def test_few_structures_of_an_alloy_do_not_get_all_features() -> None:
    """Copper and gold by effective-medium theory, 30 crystals: errors were 1.5 to 7 times as large."""
    rng = np.random.default_rng(3)

    def alloy(n: int) -> list[Atoms]:
        frames = []
        for _ in range(n):
            atoms = bulk("Cu", "fcc", a=3.85, cubic=True) * 2
            atoms.symbols[:] = rng.choice(["Cu", "Au"], len(atoms))
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
            atoms.positions += rng.uniform(0.02, 0.2) * rng.normal(size=atoms.positions.shape)
            atoms.calc = EMT()
            results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
            atoms.calc = SinglePointCalculator(atoms, **results)
            frames.append(atoms)
        return frames

    frames, test = alloy(30), alloy(10)
    found = alflow.fit(frames, n_members=4)
    assert chosen(found).n_features in {75, 150, 300, 600}
    every = alflow.fit(frames, n_members=4, cutoff=chosen(found).cutoff, n_features=1250)
    assert force_error(found, test) < 0.9 * force_error(every, test)


def test_what_is_given_is_taken() -> None:
    given = alflow.fit(metal(9), cutoff=4.0, n_features=20, **FEW)
    assert given.model.choice is None
    assert not any("cutoff" in remark for remark in given.remarks)
    assert chosen(alflow.fit(metal(9), n_features=20, **FEW)).n_features is None
    assert chosen(alflow.fit(metal(9), cutoff=4.0, **FEW)).cutoff == 4.0


def test_of_few_structures_nothing_is_chosen() -> None:
    found = chosen(alflow.fit(metal(7), **FEW))
    assert found == Choice(5.5, None, 7, "as usual, of fewer than 8 structures")


def test_cutoffs_are_longer_where_neighbours_are_farther() -> None:
    argon = bulk("Ar", "fcc", a=5.26, cubic=True) * (2, 1, 1)
    found = chosen(alflow.fit(labelled(argon, 2, scale=0.0), **FEW))
    # Strained a little, neighbours are some 5.26/sqrt(2) Å apart.
    assert found.cutoff == pytest.approx(5.5 * 5.26 / np.sqrt(2) / 2.9, rel=0.03)


def test_isolated_atoms_have_no_neighbours_to_decide_by() -> None:
    atom = Atoms("Cu")
    atom.calc = SinglePointCalculator(atom, energy=0.0, forces=np.zeros((1, 3)))
    assert chosen(alflow.fit([atom], **FEW)).cutoff == 5.5


def test_a_wild_structure_does_not_decide() -> None:
    frames = metal(16, 4.4)
    wild = [*frames[:5], frames[5].copy(), *frames[6:]]
    forces = frames[5].get_forces()
    wild[5].calc = SinglePointCalculator(wild[5], energy=frames[5].get_potential_energy(), forces=20.0 + forces)
    assert chosen(alflow.fit(wild, **FEW)).cutoff == chosen(alflow.fit(frames, **FEW)).cutoff == 4.5


def energy_error(committee: alflow.Committee, frames: list[Atoms]) -> float:
    errors = [committee.drive(frame, "none").energy - frame.get_potential_energy() for frame in frames]
    return float(np.sqrt(np.mean(np.square(errors))))


def test_energies_count_more_where_that_is_clearly_better() -> None:
    """Forces that count thirty times as much as usual leave little to energies, unless these may count more, too."""
    frames, test = metal(24, 4.4), metal(8, 4.4, seed=1)
    given = {"cutoff": 4.5, "force_weight": 30.0, **FEW}
    committee, usual = alflow.fit(frames, **given), alflow.fit(frames, energy_weight=20.0, **given)
    weight = chosen(committee).energy_weight
    assert weight in {60.0, 200.0}
    assert f"energies with a weight of {weight:g}: " in chosen(committee).remark
    assert f"of 60, 200 as weight of energies {weight:g} is best" in chosen(committee).remark
    assert committee.model.fit.settings.weight_of_energies == weight
    assert chosen(usual).energy_weight is None
    assert "weight" not in chosen(usual).remark
    assert energy_error(committee, test) < 0.7 * energy_error(usual, test)
    assert force_error(committee, test) < 1.1 * force_error(usual, test)


def test_energies_count_as_usual_where_that_is_as_good() -> None:
    found = chosen(alflow.fit(metal(16, 4.4), cutoff=4.5, **FEW))
    assert found.energy_weight is None
    assert "none of 60, 200 as weight of energies is clearly better than 20" in found.remark


@pytest.mark.parametrize("numbers", [(29,), (1, 8), (1, 6, 8), (1, 6, 7, 8), (13, 28, 29, 46, 47, 78, 79)])
def test_few_features_see_angles_too(numbers: tuple[int, ...]) -> None:
    settings = AceSettings()
    sizes = choice._sizes(settings, numbers)
    assert sizes[-1] == max(sizes) >= 1200 // len(numbers) - 1
    for size in sizes:
        assert make_descriptor(settings.model_copy(update={"n_features": size}), numbers).basis.sees_angles
    radial = choice._sizes(AceSettings(l_max=0), numbers)
    assert len(radial) >= len(sizes)


def test_twins_decide_nothing() -> None:
    frames, again = metal(16), [frame.copy() for frame in metal(16)]
    for frame, twin in zip(frames, again, strict=True):
        twin.positions = twin.positions.round(4)
        twin.calc = SinglePointCalculator(twin, energy=frame.get_potential_energy(), forces=frame.get_forces())
    assert chosen(alflow.fit([*frames, *again], **FEW)) == chosen(alflow.fit(frames, **FEW))


def test_energies_alone_decide_as_well() -> None:
    frames = metal(16)
    for frame in frames:
        frame.calc = SinglePointCalculator(frame, energy=frame.get_potential_energy())
    assert 4.5 <= chosen(alflow.fit(frames, **FEW)).cutoff <= 6.5


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 9, 63, 64, 1000])
def test_a_choice_stands_until_there_are_a_quarter_more(n: int) -> None:
    assert deciding(n) <= n < max(1.25 * deciding(n), deciding(n) + 1)
    assert deciding(deciding(n)) == deciding(n)


def test_pieces_give_the_same_bits_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, asked = metal(20, 4.4), []
    answer = choice._best

    def counted(question: choice._Question) -> choice._Answer:
        asked.append(len(question.compared))
        return answer(question)

    monkeypatch.setattr(choice, "_best", counted)
    pieces = alflow.fit(frames[:10], **FEW)
    first = chosen(pieces)
    pieces.update(frames[10:11])
    assert chosen(pieces) == first
    pieces.update(frames[11:])
    assert asked == [10, 18]
    whole = alflow.fit(frames, **FEW)
    assert chosen(pieces) == chosen(whole)
    assert np.array_equal(pieces.forward(frames[0]).energies, whole.forward(frames[0]).energies)


def test_a_file_keeps_what_was_chosen(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = metal(20, 4.4)
    committee = alflow.fit(frames[:18], **FEW)
    committee.save(tmp_path / "model.h5")
    again = alflow.load(tmp_path / "model.h5")
    assert chosen(again) == chosen(committee)
    assert again.settings.cutoff is None
    assert np.array_equal(again.forward(frames[19]).energies, committee.forward(frames[19]).energies)
    committee.update(frames[18:])
    monkeypatch.setattr(choice, "_best", None)  # it is not asked again
    again.update(frames[18:])
    assert np.array_equal(again.forward(frames[19]).energies, committee.forward(frames[19]).energies)
