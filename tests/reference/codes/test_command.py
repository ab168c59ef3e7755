"""A program of the user's own: what it is given, what it must give back, and how it fails."""

import shlex
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import as_lists
from alflow.reference.kinds import build
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

SCRIPT = """
import sys
import ase.io
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

print("reading", sys.argv[1])
atoms = ase.io.read(sys.argv[1])
print("charge", atoms.info["charge"], "multiplicity", atoms.info["multiplicity"])
atoms.calc = EMT()
results = {{"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}}
if atoms.pbc.all():
    results["stress"] = atoms.get_stress()
{change}
atoms.calc = SinglePointCalculator(atoms, **results)
ase.io.write(sys.argv[2], atoms, format="extxyz")
"""


def command(folder: Path, change: str = "", files: str = ""):
    script = folder / "emt.py"
    script.write_text(SCRIPT.format(change=change))
    return build("command", command=f"{shlex.join([sys.executable, str(script)])} {files}".strip())


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.mark.parametrize("atoms", [copper(), molecule("H2O")], ids=["crystal", "molecule"])
@pytest.mark.parametrize("files", ["", "{input} {output}"])
def test_labels_are_those_of_the_program(atoms: Atoms, files: str, tmp_path) -> None:
    method = command(tmp_path, files=files)
    method.check()
    found = method.calculate(atoms, tmp_path / "new").frame
    expected = atoms.copy()
    expected.calc = EMT()
    assert found.get_potential_energy() == pytest.approx(expected.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(found.get_forces(), expected.get_forces(), atol=1e-6)
    assert ("stress" in found.calc.results) == atoms.pbc.all()
    if atoms.pbc.all():
        np.testing.assert_allclose(found.get_stress(), expected.get_stress(), atol=1e-7)
    np.testing.assert_array_equal(found.positions, atoms.positions)


def test_it_is_given_what_a_structure_file_says_of_atoms(tmp_path) -> None:
    atoms = molecule("H2O")
    atoms.set_masses([15.99, 2.014, 2.014])
    atoms.set_initial_charges([-0.8, 0.4, 0.4])
    atoms.set_initial_magnetic_moments([0.0, 1.0, -1.0])
    command(tmp_path).calculate(atoms, tmp_path / "new")
    given = ase.io.read(tmp_path / "new" / "input.xyz")
    np.testing.assert_allclose(given.get_masses(), atoms.get_masses(), atol=1e-8)
    np.testing.assert_allclose(given.get_initial_charges(), atoms.get_initial_charges(), atol=1e-8)
    np.testing.assert_allclose(given.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments(), atol=1e-8)


def test_what_it_is_given_and_what_is_kept(tmp_path) -> None:
    atoms = molecule("H2O")
    atoms.info = {"charge": -1, "multiplicity": 2, "walker": 3}
    change = (
        "atoms.info.update(code='EMT 1.0', fermi_energy=-1.5, eigenvalues=[[-2.0, 1.0], [-1.0, 2.0]], "
        "occupations=[2.0, 0.0])"
    )
    found = command(tmp_path, change).calculate(atoms, tmp_path / "new")
    assert found.log == "reading input.xyz\ncharge -1 multiplicity 2"
    given = ase.io.read(tmp_path / "new" / "input.xyz")
    assert given.info == {"charge": -1, "multiplicity": 2}
    assert set(given.arrays) == {"numbers", "positions"}
    np.testing.assert_allclose(given.positions, atoms.positions, atol=1e-8)
    assert found.code == "EMT 1.0"
    assert as_lists(found.electrons) == {
        "fermi_energy": -1.5,
        "eigenvalues": [[-2.0, 1.0], [-1.0, 2.0]],
        "occupations": [[2.0, 0.0]],
    }
    assert command(tmp_path).calculate(atoms).code == command(tmp_path).command


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("atoms.info['converged'] = False", "not_converged: output.xyz says converged = False\nreading input.xyz"),
        ("del results['energy']", "no_output: output.xyz has no energy: expected energy"),
        ("del results['forces']", "no_output: output.xyz has no forces: expected energy"),
        ("results['forces'][1, 2] = float('nan')", "not_finite: forces: 1 of 12 values are not finite"),
        ("results['energy'] = 'low'", "no_output: energy: expected real numbers, found no numbers: 'low'"),
        (
            "results['forces'] = results['forces'][:, :2]",
            r"no_output: forces: expected real numbers of shape \(N, 3\), eV/Å, N = 4, found shape \(4, 2\)",
        ),
        ("results['energy'] = 1e10", r"no_output: energy: expected at most 1e\+08 eV/atom, found 2\.5e\+09: look"),
        (
            "results['forces'][0, 0] = 1e7",
            r"no_output: forces: expected at most 1e\+06 eV/Å, found 1e\+07: look at the",
        ),
        ("atoms.info['fermi_energy'] = 'high'", "no_output: fermi_energy: expected real numbers, found no numbers"),
        ("results['energy'] = float('inf')", "not_finite: energy: 1 of 1 values are not finite"),
        ("atoms.positions[2, 0] += 2e-6", "no_output: positions in output.xyz are 2e-06 Å from those of input.xyz"),
        ("atoms.cell[0, 0] += 2e-6", "no_output: the cell in output.xyz is 2e-06 Å from that of input.xyz"),
        ("atoms.numbers[0] = 79", "no_output: output.xyz is of AuCu3: expected Cu4, its atoms in the order"),
        ("ase.io.write(sys.argv[2], [atoms, atoms]); sys.exit()", "no_output: output.xyz has 2 structures: expected"),
        ("open(sys.argv[2], 'w').write('magic'); sys.exit()", r"no_output: output.xyz cannot be read \("),
        ("sys.exit()", "no_output: the command wrote nothing to output.xyz"),
        ("sys.exit('no convergence after 100 steps')", r"(?s)not_converged: .* ended with exit code 1\n.*100 steps"),
        ("raise MemoryError", "out_of_memory: .* ended with exit code 1"),
        ("sys.exit(3)", "crashed: .* ended with exit code 3"),
        ("import os; os.abort()", "crashed: .* ended by signal SIGABRT"),
    ],
)
def test_faults_are_no_labels(change: str, text: str, tmp_path) -> None:
    with pytest.raises(LabelError, match=text):
        command(tmp_path, change).calculate(copper())


def test_identity_is_what_decides_the_result(tmp_path) -> None:
    """The content of the script, wherever it lies, and its arguments."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    first = command(here)
    identity = first.identity()
    assert command(there).identity() == identity
    assert command(there, files="--fast {input} {output}").identity() != identity
    assert command(there, "pass").identity() != identity
    command(here, "results['energy'] += 1")
    assert first.identity() != identity


def test_commands_are_checked(tmp_path) -> None:
    with pytest.raises(ConfigError, match="command: no program nowhere on PATH: install it, or give its path"):
        build("command", command="nowhere --fast").check()
    with pytest.raises(ConfigError, match=r"command has \{input\} alone: write \{input\} and \{output\}, or neither"):
        command(tmp_path, files="{input}").check()
