"""Output of i-PI: made by i-PI itself, and that of its regression tests."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from alflow.averages.observables.functions import UserFunction
from alflow.averages.observables.parsing import parse
from alflow.averages.sources.ipi import ipi_source
from alflow.errors import AverageError
from alflow.report.averages import of_source
from ase import units

DATA = Path(__file__).parents[4] / "shared" / "data" / "ipi"
KT = units.kB * 300
STIFFNESS = {"one": 0.010, "two": 0.014, "base": 0.05}  # Ha/bohr^2
INPUT = """
<simulation verbosity='quiet'>
  <output prefix='sim'>
    <properties stride='2' filename='out'> [ step, temperature{{kelvin}}, potential{{electronvolt}} ] </properties>
    <trajectory filename='pos' stride='6' format='xyz'> positions{{angstrom}} </trajectory>
    <trajectory filename='committee_pot' stride='4' extra_type='committee_pot'> extras </trajectory>
    <trajectory filename='baseline_pot' stride='4' extra_type='baseline_pot'> extras </trajectory>
  </output>
  <total_steps>4000</total_steps> <prng><seed>{seed}</seed></prng>
  <ffcommittee name='committee'>
    <alpha>1.0</alpha> <baseline_name>base</baseline_name> <baseline_uncertainty>0.01</baseline_uncertainty>
    {fields}
  </ffcommittee>
  <system>
    <initialize nbeads='1'>
      <file mode='xyz'> start.xyz </file> <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces> <force forcefield='committee'> </force> </forces>
    <motion mode='dynamics'> <fixcom>False</fixcom> <dynamics mode='nvt'>
      <timestep units='femtosecond'> 2 </timestep>
      <thermostat mode='langevin'> <tau units='femtosecond'> 20 </tau> </thermostat>
    </dynamics> </motion>
    <ensemble> <temperature units='kelvin'> 300 </temperature> </ensemble>
  </system>
</simulation>
"""
FIELD = "<ffdirect name='{}'> <pes>harmonic</pes> <parameters> {{k1: {}}} </parameters> </ffdirect>"


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of i-PI: two oxygen atoms, each bound to the origin, on a weighted baseline."""
    pytest.importorskip("ipi")
    folder = tmp_path_factory.mktemp("ipi")
    cell = "# CELL(abcABC): 20 20 20 90 90 90 positions{angstrom} cell{angstrom}"
    (folder / "start.xyz").write_text(f"2\n{cell}\nO 0.1 0 0\nO 0 0.1 0\n")
    (folder / "input.xml").write_text(
        INPUT.format(seed=1, fields=" ".join(FIELD.format(n, k) for n, k in STIFFNESS.items()))
    )
    command = [Path(sys.executable).parent / "i-pi", "input.xml"]
    subprocess.run(
        command, cwd=folder, capture_output=True, check=False, timeout=100
    )  # it fails at its last restart file
    assert "Step:        3996" in (folder / "sim.committee_pot_0").read_text()
    return folder / "sim"


def test_a_weighted_baseline_of_ipi_gives_the_averages_of_its_members(prefix: Path) -> None:
    """<r^2> = 3 kT/k of each atom, with k of the baseline and the member together."""
    functions = {"square": UserFunction(lambda atoms: (atoms.positions**2).sum(), "Å^2", committee=False)}
    report = of_source(ipi_source(str(prefix), 300), [parse("square", functions)])
    stiffness = np.array([STIFFNESS["base"] + STIFFNESS[name] for name in ("one", "two")])
    known = 6 * KT / (stiffness * units.Hartree / units.Bohr**2)
    found = report.rows[0].average
    assert report.result.n_frames + report.result.n_dropped == 4000 // 12 + 1
    assert found.value[0] == pytest.approx(known.mean(), abs=3 * found.statistical[0])
    assert found.statistical[0] < 0.1 * known.mean()
    assert found.model[0] == pytest.approx(known.std(ddof=1), rel=0.3)


def test_energies_are_those_of_the_files(prefix: Path) -> None:
    """Members and baseline are harmonic: energies follow from positions."""
    batch = next(ipi_source(str(prefix), 300).batches())
    assert batch.frames is not None
    square = np.array([(atoms.positions**2).sum() for atoms in batch.frames]) / units.Bohr**2
    for member, name in enumerate(("one", "two")):
        known = square * (STIFFNESS["base"] + STIFFNESS[name]) / 2 * units.Hartree
        np.testing.assert_allclose(batch.energies[:, member], known, rtol=2e-4, atol=1e-6)  # five digits in the xyz
    assert batch.frames[0].cell.lengths() == pytest.approx([20, 20, 20], abs=1e-4)
    weighted = np.abs(batch.driving - batch.energies.mean(axis=1))
    assert weighted.max() < 0.05


def test_without_the_baseline_the_run_is_refused(prefix: Path, tmp_path: Path) -> None:
    for path in prefix.parent.glob("sim.*"):
        if "baseline" not in path.name:
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(AverageError, match=r"not the mean of the members .*extra_type='baseline_pot'"):
        ipi_source(str(tmp_path / "sim"), 300)


def test_another_temperature_is_refused(prefix: Path) -> None:
    with pytest.raises(AverageError, match=r"run at \d+ K by its kinetic energy, found --temperature 500"):
        ipi_source(str(prefix), 500)


def test_without_positions_nothing_can_be_measured(prefix: Path, tmp_path: Path) -> None:
    for path in prefix.parent.glob("sim.*"):
        if "pos" not in path.name:
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(AverageError, match="has no structures to measure volume on: give their trajectory"):
        of_source(ipi_source(str(tmp_path / "sim"), 300), [parse("potential_energy"), parse("volume")])
    report = of_source(ipi_source(str(tmp_path / "sim"), 300), [parse("potential_energy")])
    assert report.rows[0].average.value[0] == pytest.approx(3 * KT, rel=0.2)  # six oscillators


@pytest.mark.skipif(not DATA.exists(), reason="needs i-PI's reference data, which is not part of this repository")
def test_the_reference_data_of_ipi() -> None:
    prefix = str(DATA / "ref_simulation")
    with pytest.raises(AverageError, match="the cell changes until step 4: give the --pressure"):
        next(ipi_source(prefix, 300).batches())
    pressure = 0.01 * units.GPa
    batch = next(ipi_source(prefix, 300, pressure).batches())
    assert batch.frames is not None
    assert (batch.energies.shape, len(batch.frames[0])) == ((6, 2), 648)
    np.testing.assert_allclose(batch.driving, batch.energies.mean(axis=1), rtol=1e-7)
    assert batch.frames[1].get_volume() == pytest.approx(4.37356814e04 * units.Bohr**3, rel=1e-5)
    report = of_source(ipi_source(prefix, 300, pressure), [parse("volume"), parse("rdf O-H r_max=5 bins=50")], drop=0.0)
    assert report.rows[0].average.driven[0] == pytest.approx(4.37177e4 * units.Bohr**3, rel=1e-3)
    assert np.argmax(report.rows[1].average.value) * 0.1 == pytest.approx(1.0, abs=0.15)


FILES = {
    "out": "# column   1     --> step : s\n# column   2     --> potential{electronvolt} : p\n0 1.0\n1 2.0\n",
    "committee_pot_0": "".join(f" #EXTRAS(committee_pot)# Step: {k}\n {v} {v}\n" for k, v in enumerate((0.04, 0.07))),
}
BROKEN = [
    ({"out": None}, r"sim.out: no such file: give the prefix"),
    ({"committee_pot_0": None}, r"extra_type='committee_pot'"),
    ({"committee_pot_1": "1"}, "found 2 beads, expected one"),
    ({"out": FILES["out"].replace("potential", "conserved")}, "has no column potential"),
    ({"out": FILES["out"].replace("electronvolt", "furlong")}, "unknown unit 'furlong'"),
    ({"out": FILES["out"] + "x y\n"}, r"sim.out cannot be read"),
    ({"committee_pot_0": FILES["committee_pot_0"] + " 1 1\n"}, "one row for each of its 2 steps, found 3"),
    ({"committee_pot_0": FILES["committee_pot_0"].replace("Step: 1", "Step: 9")}, "have 1 steps in common"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_broken_files_are_told(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    for name, text in (FILES | change).items():
        if text is not None:
            (tmp_path / f"sim.{name}").write_text(text)
    with pytest.raises(AverageError, match=message):
        ipi_source(str(tmp_path / "sim"), 300)


def test_a_broken_trajectory_is_told(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / f"sim.{name}").write_text(text)
    energies = "".join(
        f" #EXTRAS(committee_pot)# Step: {k}\n {v} {v}\n" for k, v in enumerate((1 / units.Hartree, 2 / units.Hartree))
    )
    (tmp_path / "sim.committee_pot_0").write_text(energies)
    (tmp_path / "sim.pos_0.xyz").write_text("2\n# CELL(abcABC): 9 9 9 90 90 90 Step: 0\nH 0 0 0\n")
    with pytest.raises(
        AverageError, match=r"frame 0: expected positions, a step, .*: the file ends in it: expected 2 atoms, found 1"
    ):
        list(ipi_source(str(tmp_path / "sim"), 300).batches())


FRAME = "1\n# CELL(abcABC): 9 9 9 90 90 90 Step: 0 positions{angstrom} cell{angstrom}\nH 0 0 0\n"
TRAJECTORIES = {
    "count": FRAME.replace("1\n#", "x\n#"),
    "coordinate": FRAME.replace("H 0 0 0", "H 0 y 0"),
    "element": FRAME.replace("H 0 0 0", "Qq 0 0 0"),
    "columns": FRAME.replace("H 0 0 0", "H 0 0"),
    "cell": FRAME.replace("9 9 9 90 90 90", "9 9 9 90 90"),
    "cell matrix": FRAME.replace("abcABC", "H"),
}


def written(folder: Path, trajectory: str) -> str:
    for name, text in FILES.items():
        (folder / f"sim.{name}").write_text(text)
    energies = enumerate((1 / units.Hartree, 2 / units.Hartree))
    (folder / "sim.committee_pot_0").write_text(
        "".join(f" #EXTRAS(committee_pot)# Step: {k}\n {v} {v}\n" for k, v in energies)
    )
    (folder / "sim.pos_0.xyz").write_text(trajectory)
    return str(folder / "sim")


@pytest.mark.parametrize("text", TRAJECTORIES.values(), ids=TRAJECTORIES)
def test_a_trajectory_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(AverageError, match=r"frame 0: expected positions, a step, a cell and units"):
        list(ipi_source(written(tmp_path, text), 300).batches())


def test_steps_written_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AverageError, match=r"step 0 comes after step 0: expected each once"):
        list(ipi_source(written(tmp_path, FRAME + FRAME), 300).batches())


def test_a_bias_is_part_of_the_driving_energy(tmp_path: Path) -> None:
    prefix = written(tmp_path, FRAME)
    header = FILES["out"] + "# column   3     --> ensemble_bias{electronvolt} : b\n"
    lines = [line for line in header.splitlines() if line.startswith("#")]
    (tmp_path / "sim.out").write_text("\n".join([*lines, "0 1.0 0.5", "1 2.0 0.1"]) + "\n")
    (batch,) = ipi_source(prefix, 300).batches()
    assert batch.driving == pytest.approx([1.5])
    assert batch.energies[0] == pytest.approx([1.0, 1.0])


def test_an_output_without_its_columns(tmp_path: Path) -> None:
    prefix = written(tmp_path, FRAME)
    (tmp_path / "sim.out").write_text(FILES["out"].replace("0 1.0\n1 2.0\n", "0\n1\n"))
    with pytest.raises(AverageError, match="expected the columns that its first lines name, found 1"):
        ipi_source(prefix, 300)


def test_a_run_that_is_being_written(tmp_path: Path) -> None:
    """Of last lines that are cut nothing is taken."""
    prefix = written(tmp_path, FRAME)
    for name, cut in (("out", "2 3."), ("committee_pot_0", " #EXTRAS(committee_pot)# Step: 2\n 0.1")):
        with (tmp_path / f"sim.{name}").open("a") as file:
            file.write(cut)
    (batch,) = ipi_source(prefix, 300).batches()
    assert batch.driving == pytest.approx([1.0])
