"""What a file holds: every number by its definition, and what is odd about its labels is found."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.cli import main
from alflow.data.names import Names
from alflow.data.reading import read_labelled
from alflow.progress import Silent
from alflow.report.data import text
from alflow.steps.contents import by_place, contents, line, of_file
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from click.testing import CliRunner


def labelled(atoms: Atoms, factor: float = 1.0) -> Atoms:
    """With EMT's energy and stress, and its forces times a factor."""
    atoms.calc = EMT()
    results = {
        "energy": atoms.get_potential_energy(),
        "forces": factor * atoms.get_forces(),
        "stress": atoms.get_stress(),
    }
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def crystals(n: int, factor: float = 1.0, strain: float = 0.05) -> list[Atoms]:
    """Displaced and strained crystals of 8 atoms."""
    rng = np.random.default_rng(5)
    frames = []
    for seed in range(n):
        atoms = bulk("Cu", cubic=True) * (1, 1, 2)
        atoms.set_cell(atoms.cell.array * (1 + strain * rng.uniform(-1, 1)), scale_atoms=True)
        atoms.rattle(rng.uniform(0.02, 0.25), seed=seed)
        frames.append(labelled(atoms, factor))
    return frames


def test_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    frames = crystals(4)
    frames.append(frames[1].copy())  # without labels
    frames.append(labelled(bulk("Ag", cubic=True)))
    close = labelled(bulk("Cu", cubic=True))
    close.positions[1] = close.positions[0] + [0, 0, 1.2]
    frames.append(labelled(close))
    ase.io.write(tmp_path / "a.xyz", frames, format="extxyz")
    found = contents(read_labelled(tmp_path / "a.xyz"))
    good = [frame for frame in frames if frame.calc is not None]
    energies = [frame.get_potential_energy() / len(frame) for frame in good]
    forces = [np.linalg.norm(frame.get_forces(), axis=1).max() for frame in good]
    stresses = np.array([frame.get_stress() for frame in good]) / units.GPa
    assert (found["structures"], found["labelled"], found["with_forces"], found["with_stress"]) == (7, 6, 6, 6)
    assert found["elements"] == {"Ag": 1, "Cu": 6}
    assert found["compositions"] == 3
    assert found["atoms"] == [4, 8]
    assert found["periodic_directions"] == {"3": 7}
    assert found["energy_per_atom"] == pytest.approx([min(energies), max(energies)], abs=1e-6)
    assert found["largest_force"] == pytest.approx(max(forces), abs=1e-6)
    assert found["largest_force_in"] == 6
    assert found["stress"] == pytest.approx([stresses.min(), stresses.max()], abs=1e-5)
    assert found["duplicates"] == [4]
    assert found["too_close"] == {"6": round(1.2 / 2.64, 3)}
    assert [left["structure"] for left in found["left_out"]] == [4]
    assert line(found).startswith(f"{tmp_path / 'a.xyz'}: 6 labelled structures of Ag, Cu, ")
    assert line(found).endswith(" 1 duplicates, 1 too close, 1 left out")


def test_several_states_of_one_composition(tmp_path: Path) -> None:
    frames = crystals(3)
    frames[1].info["charge"] = 1
    frames[1].info["multiplicity"] = 2
    ase.io.write(tmp_path / "a.xyz", frames, format="extxyz")
    found = contents(read_labelled(tmp_path / "a.xyz"))
    assert found["electronic_states"] == {"Cu8": [[0, 1], [1, 2]]}
    words = text({**found, "outliers": [], "contradictions": []})
    assert "Cu8: charge 0 and multiplicity 1, charge 1 and multiplicity 2; the potential sees neither" in words


@pytest.mark.parametrize(
    ("factor", "slope"), [(-1.0, (-1.3, -0.7)), (units.Bohr / units.Hartree, (40, 60)), (1.0, None)]
)
@pytest.mark.parametrize("strain", [0.0, 0.05])
def test_contradictions_of_sign_and_unit(
    factor: float, slope: tuple[float, float] | None, strain: float, tmp_path: Path
) -> None:
    """Also where energies differ mostly by the volume, of which forces in few structures tell little."""
    ase.io.write(tmp_path / "a.xyz", crystals(30, factor, strain), format="extxyz")
    found = of_file(tmp_path / "a.xyz", Names(stress_key="none"), Silent())
    if slope is None:
        assert found["contradictions"] == []
        return
    (remark,) = found["contradictions"]
    assert slope[0] < float(remark.removeprefix("energies of the labels change by ").split()[0]) < slope[1]
    assert remark.endswith("check the units and the sign of energies and forces")


def test_outliers_are_named_by_their_place_in_the_file(tmp_path: Path) -> None:
    frames = crystals(12)
    frames[0].calc = None
    frames[5].calc.results["energy"] += 80.0
    frames[7].calc.results["forces"] *= 1000.0
    ase.io.write(tmp_path / "a.xyz", frames, format="extxyz")
    found = of_file(tmp_path / "a.xyz", Names(), Silent())
    assert sorted(outlier.split(" (")[0] for outlier in found["outliers"]) == ["frame 5", "frame 7"]
    assert by_place("structure 0 (Cu) and structure 2", [4, 5, 9]) == "frame 4 (Cu) and frame 9"


def test_the_command(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.xyz", crystals(3), format="extxyz")
    words = CliRunner().invoke(main, ["data", str(tmp_path / "a.xyz")])
    assert words.exit_code == 0
    assert "structures        3, of which 3 have labels that can be used" in words.output
    assert "read as           energy from energy, forces from forces, stress from stress" in words.output
    numbers = json.loads(CliRunner().invoke(main, ["data", str(tmp_path / "a.xyz"), "--json"]).stdout)
    assert (numbers["labelled"], numbers["format"], numbers["left_out"]) == (3, "extended XYZ", [])
    ase.io.write(tmp_path / "b.xyz", [bulk("Cu")] * 2, format="extxyz")
    bare = CliRunner().invoke(main, ["data", str(tmp_path / "b.xyz")])
    assert bare.exit_code == 0
    assert "labels            none" in bare.output
    missing = CliRunner().invoke(main, ["data", str(tmp_path / "c.xyz")])
    assert (missing.exit_code, missing.stdout) == (2, "")


def test_structures_that_nothing_may_look_at_are_left_out(tmp_path: Path) -> None:
    """A cell that is far too thin, no atoms, positions that are no numbers, an unknown element."""
    path = tmp_path / "a.xyz"
    ase.io.write(path, crystals(3), format="extxyz")
    row = "Properties=species:S:1:pos:R:3 energy=1"
    cell = 'Lattice="{0} 0 0 0 {0} 0 0 0 {0}"'
    bad = f"1\n{cell.format(0.001)} {row}\nCu 0 0 0\n0\n{cell.format(5)} energy=1\n"
    bad += f"1\n{cell.format(5)} {row}\nCu nan 0 0\n1\n{cell.format(5)} {row}\nX 0 0 0\n"
    path.write_text(path.read_text() + bad)
    found = of_file(path, Names(), Silent())
    assert (found["structures"], found["labelled"]) == (7, 3)
    assert [left["structure"] for left in found["left_out"]] == [3, 4, 5, 6]
    assert found["left_out"][0]["reason"].startswith("periodic, but its cell has no volume")
