"""Quantum ESPRESSO: silicon against finite differences, and outputs and templates that are not right."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import as_lists
from alflow.reference.codes.espresso import _electrons, read_output
from alflow.reference.kinds import build
from ase import Atoms, units
from ase.build import bulk

PSEUDO = Path(os.environ.get("ESPRESSO_PSEUDO", "/usr/share/espresso/pseudo"))
needs_program = pytest.mark.skipif(
    shutil.which("pw.x") is None or not (PSEUDO / "Si.pz-vbc.UPF").is_file(),
    reason=f"pw.x is not installed, or Si.pz-vbc.UPF is not in {PSEUDO} (ESPRESSO_PSEUDO)",
)
TEMPLATE = f"""&control
  calculation = 'scf', outdir = './', pseudo_dir = '{PSEUDO}', disk_io = 'none'
  tprnfor = .true., tstress = .true.
/
&system
  ibrav = 0, nat = {{{{ n_atoms }}}}, ntyp = {{{{ n_species }}}}, ecutwfc = {{{{ cutoff }}}}, nosym = .true.
/
&electrons
  conv_thr = 1e-11
/
ATOMIC_SPECIES
  Si 28.0855 Si.pz-vbc.UPF
CELL_PARAMETERS angstrom
  {{{{ cell }}}}
ATOMIC_POSITIONS angstrom
  {{{{ positions }}}}
K_POINTS automatic
  2 2 2 1 1 1
"""
METAL = TEMPLATE.replace(
    "/\n&electrons", "occupations = 'smearing', degauss = 0.02, nspin = 2, tot_charge = {{ charge }}\n/\n&electrons"
)


@pytest.fixture(autouse=True)
def mpi_as_root(monkeypatch) -> None:
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def espresso(template: str = TEMPLATE, cutoff: float = 20, **options: object):
    return build("espresso", template="pw.in", variables={"cutoff": cutoff}, **options).with_text(template)


def silicon() -> Atoms:
    atoms = bulk("Si", a=5.43)
    atoms.rattle(0.05, seed=1)
    return atoms


@needs_program
def test_forces_are_minus_the_gradient() -> None:
    method, atoms, h = espresso(), silicon(), 0.01
    method.check()
    found = method.calculate(atoms)
    for i, x in ((0, 2), (1, 0)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, x] += sign * h
            energies.append(method.calculate(moved).frame.get_potential_energy())
        expected = -(energies[0] - energies[1]) / (2 * h)
        assert found.frame.get_forces()[i, x] == pytest.approx(expected, abs=5e-4)


@needs_program
def test_stress_is_the_derivative_by_strain() -> None:
    """At a cutoff where it no longer matters that the plane waves are others in a strained cell."""
    method, atoms, h = espresso(cutoff=60), silicon(), 0.002
    stress = method.calculate(atoms).frame.get_stress(voigt=False)
    for i, j in ((0, 0), (1, 2)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * h / 2
            strain[j, i] += sign * h / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(method.calculate(strained).frame.get_potential_energy())
        expected = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
        assert stress[i, j] == pytest.approx(expected, abs=3e-4)


@needs_program
def test_lattice_constant_of_silicon() -> None:
    """By the zero of the pressure; the local density approximation gives 5.38 to 5.40 Å, experiment 5.43."""
    method = espresso(TEMPLATE.replace("2 2 2 1 1 1", "3 3 3 1 1 1"))
    pressures = [-method.calculate(bulk("Si", a=a)).frame.get_stress()[:3].mean() for a in (5.30, 5.46)]
    assert 5.30 + 0.16 * pressures[0] / (pressures[0] - pressures[1]) == pytest.approx(5.39, abs=0.03)


@needs_program
def test_what_is_kept(tmp_path) -> None:
    found = espresso().calculate(silicon(), tmp_path)
    assert found.code.startswith("Quantum ESPRESSO ")
    assert found.code[17].isdigit()
    assert "JOB DONE" in found.log
    electrons, (weights,) = found.electrons, as_lists(found.electrons)["weights"]
    assert electrons.eigenvalues.shape == (1, len(electrons.kpoint_weights), 4)
    assert electrons.kpoint_weights.sum() == pytest.approx(1)
    assert sum(weights) == pytest.approx(4)
    assert np.isnan(electrons.fermi_energy)  # an insulator
    again = espresso().calculate(silicon()).frame
    np.testing.assert_array_equal(again.get_forces(), found.frame.get_forces())
    open_sides = silicon()
    open_sides.pbc = (True, True, False)
    assert "stress" not in espresso().calculate(open_sides).frame.calc.results


@needs_program
def test_a_metal_with_spin_and_charge() -> None:
    neutral, charged = silicon(), silicon()
    charged.info["charge"] = 1
    template = METAL.replace("nspin = 2", "nspin = 2, starting_magnetization(1) = 0.2")
    results = [espresso(template, cutoff=12).calculate(atoms) for atoms in (neutral, charged)]
    for found in results:
        up, down = found.electrons.eigenvalues
        assert up.shape == down.shape
        assert up.min() < found.electrons.fermi_energy < up.max()
        assert found.electrons.kpoint_weights.sum() == pytest.approx(1)
        assert found.plain_energy > found.frame.get_potential_energy()  # -TS is negative
    assert results[1].electrons.fermi_energy < results[0].electrons.fermi_energy


@needs_program
def test_multiplicity_is_used() -> None:
    template = METAL.replace("nspin = 2", "nspin = 2, tot_magnetization = {{ magnetization }}")
    singlet, triplet = silicon(), silicon()
    triplet.info["multiplicity"] = 3
    energies = [
        espresso(template, cutoff=12).calculate(atoms).frame.get_potential_energy() for atoms in (singlet, triplet)
    ]
    assert energies[1] - energies[0] > 0.5


@needs_program
def test_energy_of_a_hybrid_is_the_last() -> None:
    """The first cycle of exact exchange is without it, and some readers take its energy."""
    template = TEMPLATE.replace("ibrav = 0,", "ibrav = 0, input_dft = 'pbe0',").replace("2 2 2 1 1 1", "1 1 1 0 0 0")
    method, atoms, h = espresso(template, cutoff=12), silicon(), 0.02
    found = method.calculate(atoms).frame
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[0, 2] += sign * h
        energies.append(method.calculate(moved).frame.get_potential_energy())
    assert found.get_forces()[0, 2] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=2e-3)
    plain = espresso(template.replace("pbe0", "pbe"), cutoff=12).calculate(atoms).frame
    assert abs(plain.get_potential_energy() - found.get_potential_energy()) > 0.1


@needs_program
def test_an_unconverged_field_is_no_label() -> None:
    with pytest.raises(LabelError, match="the self-consistent field did not converge") as caught:
        espresso(TEMPLATE.replace("conv_thr = 1e-11", "electron_maxstep = 2")).calculate(silicon())
    assert caught.value.reason == "not_converged"
    assert "estimated scf accuracy" in caught.value.detail


@needs_program
def test_what_the_program_refuses_is_told() -> None:
    with pytest.raises(LabelError, match=r"(?s)^crashed: pw.x ended with exit code 1\b.*Error in routine") as caught:
        espresso(TEMPLATE.replace("conv_thr", "conv_three")).calculate(silicon())
    assert caught.value.reason == "crashed"


@needs_program
def test_another_structure_is_not_taken_for_it() -> None:
    """The program reads as many positions as nat says, and leaves the rest."""
    atoms = silicon()
    atoms.positions[1, 2] -= 0.2
    moved = TEMPLATE.replace("{{ positions }}", "Si 0 0 0\n  Si 1.4 1.35 1.35\n! {{ positions }}")
    with pytest.raises(LabelError, match=r"no_output: the output is of a structure that differs by 0\.\d+ Å"):
        espresso(moved).calculate(atoms)


OUTPUT = """
     Program PWSCF v.7.2 starts on  1Jan2024 at  0: 0: 0
     number of atoms/cell      =            1
     number of atomic types    =            1
     celldm(1)=   7.500000  celldm(2)=   0.000000  celldm(3)=   0.000000
     crystal axes: (cart. coord. in units of alat)
               a(1) = (   1.000000   0.000000   0.000000 )
               a(2) = (   0.000000   1.000000   0.000000 )
               a(3) = (   0.000000   0.000000   1.000000 )

   Cartesian axes

     site n.     atom                  positions (alat units)
         1           He  tau(   1) = (   0.0000000   0.0000000   0.0000000  )

     number of k points=     1
                       cart. coord. in units 2pi/alat
        k(    1) = (   0.0000000   0.0000000   0.0000000), wk =   2.0000000

     End of self-consistent calculation

          k = 0.0000 0.0000 0.0000 (   100 PWs)   bands (ev):

   -15.5000   1.2500

     highest occupied level (ev):   -15.5000

!    total energy              =      -5.50000000 Ry

     convergence has been achieved in   8 iterations

     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =     0.00100000    0.00000000    0.00000000

   JOB DONE.
"""


def helium() -> Atoms:
    return Atoms("He", cell=[7.5 * units.Bohr] * 3, pbc=True)


def read(text: str, tmp_path: Path):
    path = tmp_path / "pw.out"
    path.write_text(text)
    return read_output(path, helium(), "the log")


def test_an_output_is_read(tmp_path) -> None:
    found = read(OUTPUT, tmp_path)
    assert found.code == "Quantum ESPRESSO 7.2"
    assert found.frame.get_potential_energy() == pytest.approx(-5.5 * units.Ry)
    assert as_lists(found.electrons) == {"eigenvalues": [[-15.5, 1.25]]}
    assert found.electrons.kpoint_weights.tolist() == [1.0]
    assert np.isnan(found.plain_energy)
    assert found.frame.get_forces()[0, 0] == pytest.approx(1e-3 * units.Ry / units.Bohr, rel=1e-7)


def test_levels_are_by_spin_k_point_and_band() -> None:
    """Weights are those of one spin, whatever they sum to in the output."""
    points = [
        SimpleNamespace(s=s, weight=weight, eps_n=[10.0 * s + k, 10.0 * s + k + 0.5])
        for s in (0, 1)
        for k, weight in enumerate((0.5, 1.5))
    ]
    found = _electrons(SimpleNamespace(kpts=points, get_fermi_level=lambda: 3.0), is_metal=True)
    assert found.fermi_energy == 3.0
    assert found.eigenvalues.tolist() == [[[0.0, 0.5], [1.0, 1.5]], [[10.0, 10.5], [11.0, 11.5]]]
    assert found.kpoint_weights.tolist() == [0.25, 0.75]
    assert as_lists(found)["weights"] == [[0.25, 0.25, 0.75, 0.75]] * 2


def test_the_energy_without_the_entropy_of_smearing(tmp_path) -> None:
    smeared = "total energy              =      -5.50000000 Ry\n     smearing contrib. (-TS)   =      -0.02000000 Ry\n"
    found = read(OUTPUT.replace("total energy              =      -5.50000000 Ry\n", smeared), tmp_path)
    assert found.frame.get_potential_energy() == pytest.approx(-5.5 * units.Ry)
    assert found.plain_energy == pytest.approx(-5.48 * units.Ry)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("JOB DONE", "", "no_output: the output ends without an energy that is self-consistent\nthe log"),
        ("!    total energy", "     total energy", "no_output: the output ends without an energy"),
        ("has been achieved", "NOT achieved", "not_converged: the self-consistent field did not converge"),
        ("convergence has been achieved", "", "no_output: the output ends without an energy that is self-consistent"),
        ("site n.", "EXX: now go back to refine exchange\nsite n.", "not_converged: .*: the exact exchange did not"),
        ("Forces acting", "", "no_output: no forces in the output: write tprnfor"),
        (" 0.00100000 ", " *********** ", r"no_output: the output cannot be read \(ValueError"),
        (" 0.00100000 ", " NaN ", "not_finite: forces: 1 of 3 values are not finite"),
        ("(   0.0000000   0.0", "(   0.1000000   0.0", "no_output: the output is of a structure that differs by 0.4 Å"),
        ("He ", "Ne ", "no_output: the output is of 1 structures, the last Ne: expected one of He"),
    ],
)
def test_an_output_with_a_fault_is_no_label(old: str, new: str, text: str, tmp_path) -> None:
    assert old in OUTPUT
    with pytest.raises(LabelError, match=text):
        read(OUTPUT.replace(old, new), tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("tprnfor = .true.,", "! tprnfor = .true.\n", "does not print forces: write tprnfor = .true. in &CONTROL"),
        ("tstress = .true.", "", "does not say whether to print stress: write tstress = .true., or .false."),
        ("'scf'", "'relax'", "calculates more than one structure: write calculation = 'scf'"),
        ("ibrav = 0", "ibrav = 2", "takes its lattice from ibrav: write ibrav = 0"),
        ("TERS angstrom", "TERS bohr", "has no CELL_PARAMETERS angstrom"),
        ("IONS angstrom", "IONS crystal", "has no ATOMIC_POSITIONS angstrom"),
        ("'./'", "'/scratch'", "keeps files where other calculations do: write outdir = './'"),
        (f"'{PSEUDO}'", "'pseudo'", "has a relative pseudo_dir"),
        (f"'{PSEUDO}'", "'/nowhere'", "no pseudopotential Si.pz-vbc.UPF in /nowhere: put it there"),
        ("{{ positions }}", "Si 0 0 0", r"has no \{\{ positions \}\}: write it after ATOMIC_POSITIONS angstrom"),
        ("{{ n_atoms }}", "2", r"has no \{\{ n_atoms \}\}: write it as nat"),
        ("{{ cutoff }}", "{{ cut }}", r"nothing fills \{\{ cut \}\}"),
    ],
)
def test_templates_are_checked(old: str, new: str, text: str) -> None:
    assert old in TEMPLATE
    with pytest.raises(ConfigError, match=text):
        espresso(TEMPLATE.replace(old, new)).check()


def test_the_program_is_looked_for() -> None:
    with pytest.raises(ConfigError, match=r"no program pw.nowhere on PATH"):
        espresso(TEMPLATE.replace(f"pseudo_dir = '{PSEUDO}',", ""), command="pw.nowhere").check()


@pytest.mark.parametrize(
    ("atoms", "text"),
    [
        (Atoms("Si"), "Quantum ESPRESSO needs a cell, found 0 vectors: give the structure a box with vacuum"),
        (bulk("C"), "ATOMIC_SPECIES of reference.template has no C: add its mass and pseudopotential"),
        (
            Atoms("Si", cell=[9] * 3, info={"charge": 1}),
            r"its charge 1 does not reach Quantum ESPRESSO: write tot_charge",
        ),
        (
            Atoms("Si", cell=[9] * 3, info={"multiplicity": 3}),
            r"its multiplicity 3 does not reach pw.x: write nspin = 2 and tot",
        ),
    ],
)
def test_structures_that_a_template_cannot_describe(atoms: Atoms, text: str) -> None:
    with pytest.raises(LabelError, match=text):
        espresso().calculate(atoms)


def test_identity_is_what_decides_the_result() -> None:
    assert espresso().identity() == espresso(command="mpirun -np 4 pw.x").identity()
    assert espresso().identity() != espresso(cutoff=21).identity()
    assert espresso().identity() != espresso(TEMPLATE + "\n").identity()
