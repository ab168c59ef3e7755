"""Every record comes back from a file as it went in, to the last bit."""

import io
import struct
from dataclasses import fields, is_dataclass, replace
from typing import get_args, get_origin, get_type_hints

import h5py
import numpy as np
import pytest
import znh5md
from alflow.committee.committee import Committee
from alflow.committee.reliability import Reliability
from alflow.models.fitting import fit
from alflow.records.assess import Assessment, AssessRecord
from alflow.records.electrons import Electrons
from alflow.records.label import LabelRecord
from alflow.records.sample import Array, IntArray, SampleRecord, Segment
from alflow.records.select import SelectRecord
from alflow.records.train import TrainRecord
from alflow.state import encoding
from alflow.state.file import commit_file, read_file
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian, FixConstraint, FixedPlane
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from some_records import assessed, labels_of, water

finite = st.floats(-1e300, 1e300)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
info = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)

names = st.text("abcdefgh_", min_size=1, max_size=5)


def any_floats(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, shape, elements=st.floats())


def finite_arrays(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float64, shape, elements=finite)


def moments(n: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Shape of the initial magnetic moments: of collinear spins, or of others."""
    return st.sampled_from([(n,), (n, 3)])


def constraints(n: int) -> st.SearchStrategy[list[FixConstraint]]:
    some = st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True)
    return st.lists(
        st.one_of(
            some.map(lambda indices: FixAtoms(sorted(indices))),
            some.map(lambda indices: FixCartesian(sorted(indices), mask=(True, False, True))),
            some.map(lambda indices: FixedPlane(sorted(indices), (0, 0.6, 0.8))),
        ),
        max_size=2,
    )


@st.composite
def structures(draw: st.DrawFn) -> Atoms:
    n = draw(st.integers(1, 7))  # 3 and 6 are the ones that could be mistaken for a vector or a stress
    numbers = draw(st.lists(st.integers(1, 94), min_size=n, max_size=n))
    atoms = Atoms(numbers=numbers, positions=draw(finite_arrays(n, 3)), cell=draw(finite_arrays(3, 3)))
    atoms.pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    atoms.info = draw(info)
    if draw(st.booleans()):
        atoms.arrays["momenta"] = draw(finite_arrays(n, 3))
    for name, shape in (("masses", (n,)), ("initial_charges", (n,)), ("initial_magmoms", draw(moments(n)))):
        if draw(st.booleans()):
            atoms.arrays[name] = draw(finite_arrays(*shape))
    atoms.set_constraint(draw(constraints(n)))
    shapes = {"energy": (), "forces": (n, 3), "stress": (6,)}
    results = {key: draw(finite_arrays(*shape)) for key, shape in shapes.items() if draw(st.booleans())}
    if results or draw(st.booleans()):
        if "energy" in results:
            results["energy"] = float(results["energy"])
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def some(hint: object, length: int) -> st.SearchStrategy[object]:
    """Values for a field of a record."""
    scalars = {int: st.integers(-(2**63), 2**63 - 1), float: st.floats(), bool: st.booleans(), str: texts}
    if hint in scalars:
        return scalars[hint]
    if hint == tuple[str, ...]:
        return st.lists(texts, min_size=length, max_size=length).map(tuple)
    if hint == tuple[Atoms, ...]:
        return st.lists(structures(), min_size=length, max_size=length).map(tuple)
    if is_dataclass(hint):
        return any_record(hint)
    if hint == tuple[Electrons, ...]:
        return st.lists(electrons(), min_size=length, max_size=length).map(tuple)
    if get_origin(hint) is dict:
        return st.dictionaries(names, st.sampled_from([(length,), (length, 3)]).flatmap(any_floats), max_size=2)
    if get_origin(hint) is tuple:
        return st.lists(any_record(get_args(hint)[0]), min_size=length, max_size=length).map(tuple)
    shape = st.sampled_from([(length,), (length, 0), (length, 4)])
    if hint == Array:
        return hnp.arrays(np.float64, shape, elements=st.floats())
    assert hint == IntArray
    return hnp.arrays(np.int64, shape)


@st.composite
def electrons(draw: st.DrawFn) -> Electrons:
    shape = draw(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3)))
    return Electrons(draw(st.floats()), draw(any_floats(shape)), draw(any_floats(shape)), draw(any_floats(shape[1:2])))


@st.composite
def any_record(draw: st.DrawFn, cls: type) -> object:
    hints = get_type_hints(cls)
    return cls(**{f.name: draw(some(hints[f.name], draw(st.integers(0, 4)))) for f in fields(cls)})


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert a.tobytes() == b.tobytes()


def assert_same_structure(a: Atoms, b: Atoms) -> None:
    for name in ("numbers", "positions"):
        assert_same_bits(a.arrays[name], b.arrays[name])
    assert_same_bits(a.cell.array, b.cell.array)
    assert_same_bits(a.pbc, b.pbc)
    assert a.info == b.info
    assert a.arrays.keys() == b.arrays.keys()
    for name in a.arrays:
        assert_same_bits(a.arrays[name], b.arrays[name])
    assert [repr(one) for one in a.constraints] == [repr(one) for one in b.constraints]
    first, second = ({} if atoms.calc is None else atoms.calc.results for atoms in (a, b))
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert_same_bits(np.asarray(value), np.asarray(second[key]))


def assert_same(a: object, b: object) -> None:  # noqa: C901 - one case for each kind of field
    assert type(a) is type(b)
    for f in fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        assert type(x) is type(y), f.name
        if isinstance(x, np.ndarray):
            assert_same_bits(x, y)
        elif is_dataclass(x):
            assert_same(x, y)
        elif isinstance(x, float):
            assert struct.pack("d", x) == struct.pack("d", y)
        elif isinstance(x, tuple) and x and isinstance(x[0], Atoms):
            assert len(x) == len(y)
            for first, second in zip(x, y, strict=True):
                assert_same_structure(first, second)
        elif isinstance(x, tuple) and x and is_dataclass(x[0]):
            assert len(x) == len(y)
            for first, second in zip(x, y, strict=True):
                assert_same(first, second)
        elif isinstance(x, dict):
            assert sorted(x) == sorted(y)
            for key in x:
                assert_same_bits(x[key], y[key])
        else:
            assert x == y


def written(record: object) -> io.BytesIO:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        encoding.write(record, file)
    return buffer


def round_trip(record: object) -> object:
    with h5py.File(written(record), "r") as file:
        return encoding.read(type(record), file)


@pytest.mark.parametrize("cls", [Segment, SampleRecord, SelectRecord, LabelRecord, AssessRecord])
def test_every_record_comes_back(cls: type) -> None:
    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(any_record(cls))
    def check(record: object) -> None:
        back = round_trip(record)
        assert_same(record, back)
        assert written(record).getvalue() == written(record).getvalue() == written(back).getvalue()

    check()


def test_momenta_survive_the_division_by_the_mass() -> None:
    atoms = water()
    atoms.set_momenta(np.random.default_rng(0).normal(size=(3, 3)))
    back = round_trip(labels_of(atoms, water(2), atoms)).frames
    assert_same_bits(back[2].get_momenta(), atoms.get_momenta())
    assert not back[1].has("momenta")


def test_znh5md_reads_the_file(tmp_path) -> None:
    one = water(energy=-1.0, forces=np.full((3, 3), 0.5), stress=np.arange(6.0))
    two = bulk("Si")
    two.set_momenta(np.ones((2, 3)))
    commit_file(tmp_path / "label.h5", labels_of(one, two, failed=(water(3),)))
    frames = znh5md.IO(tmp_path / "label.h5", particles_group="frames")[:]
    assert [str(frame.symbols) for frame in frames] == ["OH2", "Si2"]
    assert frames[0].get_potential_energy() == -1.0
    assert_same_bits(frames[0].get_forces(), one.get_forces())
    assert_same_bits(frames[0].get_stress(), one.get_stress())
    assert_same_bits(frames[1].cell.array, two.cell.array)
    assert frames[1].pbc.all()
    np.testing.assert_allclose(frames[1].get_momenta(), two.get_momenta(), rtol=1e-15)
    assert len(znh5md.IO(tmp_path / "label.h5", particles_group="failed_frames")[:]) == 1


def test_text_that_hdf5_refuses_is_mended() -> None:
    detail = "SCF\0 not converged \udce9, Å, " + 100_000 * "x"
    back = round_trip(replace(labels_of(failed=(water(),), detail=detail), method=detail))
    assert back.failed_detail[0] == back.method == detail.replace("\0", "�").replace("\udce9", "?")


def test_numpy_values_in_info_become_plain() -> None:
    atoms = water()
    atoms.info = {"charge": np.int64(-1), "virial": np.eye(2), "name": np.str_("a"), "ok": np.bool_(True), "x": (1, 2)}
    assert round_trip(labels_of(atoms)).frames[0].info == {
        "charge": -1,
        "virial": [[1.0, 0.0], [0.0, 1.0]],
        "name": "a",
        "ok": True,
        "x": [1, 2],
    }


@pytest.mark.parametrize("value", [object(), 1j, {1, 2}, np.longdouble(1), {1: 0, "a": 0}, np.array([object()])])
def test_info_that_json_has_no_form_for_is_refused(value: object) -> None:
    atoms = water()
    atoms.info["thing"] = value
    with pytest.raises(TypeError, match=r"structure 1 of frames: info cannot be kept: .*; remove that entry"):
        written(labels_of(water(), atoms))


def test_structures_that_would_not_come_back_are_refused() -> None:
    with pytest.raises(ValueError, match="structure 0 of frames has no atoms: expected at least one"):
        written(labels_of(Atoms()))
    atoms = water()
    atoms.positions[2, 1] = np.nan
    with pytest.raises(ValueError, match="structure 1 of frames: positions not finite"):
        written(labels_of(water(), atoms))
    with pytest.raises(ValueError, match="forces not finite"):
        written(labels_of(water(energy=1.0, forces=np.full((3, 3), np.inf))))


def test_what_a_structure_says_of_its_atoms_is_kept() -> None:
    atoms = water(2)
    atoms.set_constraint([FixAtoms([0, 3])])
    atoms.set_masses([16, 2.014, 1, 16, 1, 2.014])
    atoms.set_initial_magnetic_moments([0, 1, 0, 0, -1, 0])
    atoms.set_initial_charges([-0.8, 0.4, 0.4, -0.8, 0.4, 0.4])
    atoms.set_tags(range(6))
    atoms.set_momenta(np.ones((6, 3)), apply_constraint=False)
    plain, back = round_trip(labels_of(water(), atoms)).frames
    assert not plain.constraints
    assert set(plain.arrays) == {"numbers", "positions"}
    assert [constraint.todict() for constraint in back.constraints] == [FixAtoms([0, 3]).todict()]
    for name in ("masses", "initial_magmoms", "initial_charges", "momenta"):
        assert_same_bits(back.arrays[name], atoms.arrays[name].astype(float))
    assert not back.has("tags"), "tags are dropped"


def test_results_of_a_structure_with_initial_moments_are_handed_out() -> None:
    """ASE gives those of a SinglePointCalculator only for the very structure that it was made with."""
    atoms = water()
    atoms.set_initial_magnetic_moments([0, 1, -1])
    atoms.set_initial_charges([-0.8, 0.4, 0.4])
    atoms.calc = SinglePointCalculator(atoms, energy=-3.5, forces=np.ones((3, 3)))
    (back,) = round_trip(labels_of(atoms)).frames
    assert back.get_potential_energy() == -3.5
    assert_same_bits(back.get_forces(), np.ones((3, 3)))


def test_a_constraint_that_says_nothing_of_itself_is_refused() -> None:
    class Odd:
        def copy(self) -> "Odd":
            return self

    atoms = water()
    atoms.set_constraint(Odd())
    with pytest.raises(TypeError, match=r"structure 0 of frames: constraints cannot be kept \(Odd\): expected such as"):
        written(labels_of(atoms))


def test_arrays_of_any_shapes_in_a_column() -> None:
    levels = [np.arange(6.0).reshape(1, 2, 3), np.zeros((0, 0, 0)), np.full((2, 1, 4), np.nan), np.ones((1, 1, 1))]
    record = labels_of(*(water() for _ in levels))
    record = replace(record, electrons=tuple(Electrons(eigenvalues=one) for one in levels))
    for one, back in zip(levels, round_trip(record).electrons, strict=True):
        assert_same_bits(one, back.eigenvalues)


def test_reading_as_another_kind_is_refused() -> None:
    with (
        h5py.File(written(labels_of(water())), "r") as file,
        pytest.raises(TypeError, match="holds a LabelRecord, not a AssessRecord"),
    ):
        encoding.read(AssessRecord, file)


def test_the_history_of_a_run_comes_back() -> None:
    bins = np.array([[0.1, 0.2, 10.0], [0.3, 0.25, 11.0]])
    judged = Reliability(21, 2, 1.1, 0.66, 0.94, -0.5, 0.07, 0.4, bins)
    numbers = {f.name: 0.1 * k for k, f in enumerate(fields(Assessment)) if f.type is float}
    one = Assessment(
        **numbers,
        cycle=0,
        n_selected=4,
        n_new=3,
        n_labelled=3,
        n_failed=1,
        energy=judged,
        force=replace(judged, n=63, spearman=float("nan")),
        new_energy=Reliability(),
        new_force=replace(judged, bins=bins[:1]),
        note="energies: no structure judges",
        observable="rdf O-O",
        observable_note="r / Å = 2.8, water at 300 K, direct",
        converged=False,
        reason="goes on",
    )
    record = AssessRecord((one, replace(one, cycle=1, converged=True, force=Reliability())))
    back = round_trip(record)
    assert_same(record, back)
    assert [(c.cycle, c.energy.n, c.force.n, c.new_energy.n) for c in back.cycles] == [(0, 21, 63, 0), (1, 21, 0, 0)]
    assert_same_bits(back.cycles[0].energy.bins, bins)
    assert_same_bits(back.last.force.bins, np.zeros((0, 3)))


def test_train_record_comes_back(tmp_path) -> None:
    frames = []
    for seed in range(6):
        atoms = bulk("Ar", "fcc", 5.3).repeat((2, 1, 1))
        atoms.rattle(0.1, seed=seed)
        calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=5.0)
        energy, forces = calc.get_potential_energy(atoms), calc.get_forces(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    model = fit(frames, n_members=8, cutoff=4.5, n_max=3, l_max=1, n_features=10)
    path = tmp_path / "train.h5"
    commit_file(path, TrainRecord(model=model, n_frames=len(frames), left_out="2 labels left out"))
    back = read_file(path, TrainRecord)
    assert back.n_frames == 6
    assert isinstance(back.model, Committee)
    assert_same_bits(back.model.predict(frames[0]).forces, model.predict(frames[0]).forces)
    assert (
        written(back).getvalue()
        == written(TrainRecord(model=model, n_frames=6, left_out="2 labels left out")).getvalue()
    )


def test_a_history_from_before_stresses_were_learned_is_read(tmp_path) -> None:
    path = tmp_path / "assess.h5"
    with h5py.File(path, "w") as file:
        encoding.write(assessed(), file)
        for name in ("stress_rmse", "stress_rmse_after", "alpha_stress", "floor_stress", "stress", "new_stress"):
            del file["record/cycles"][name]
        one = encoding.read(AssessRecord, file).last
    assert np.isnan([one.stress_rmse, one.stress_rmse_after, one.alpha_stress, one.floor_stress]).all()
    assert one.stress.n == one.new_stress.n == 0
