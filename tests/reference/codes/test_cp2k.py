"""CP2K: real runs against finite differences, where it is installed; its output in the formats of several versions."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from alflow.errors import ConfigError, LabelError
from alflow.reference.codes.cp2k import Cp2kMethod, read_output
from ase import Atoms, units

TEMPLATE = """
&GLOBAL
  PROJECT hydrogen
  RUN_TYPE ENERGY_FORCE
  PRINT_LEVEL LOW
&END GLOBAL
&FORCE_EVAL
  METHOD QUICKSTEP
  STRESS_TENSOR ANALYTICAL
  &PRINT
    &FORCES ON
    &END FORCES
    &STRESS_TENSOR ON
    &END STRESS_TENSOR
  &END PRINT
  &DFT
    BASIS_SET_FILE_NAME BASIS_MOLOPT
    POTENTIAL_FILE_NAME GTH_POTENTIALS
    CHARGE {{ charge }}
    MULTIPLICITY {{ multiplicity }}
    &MGRID
      CUTOFF {{ cutoff }}
      REL_CUTOFF 60
    &END MGRID
    &QS
      EPS_DEFAULT 1.0E-12
    &END QS
    &SCF
      EPS_SCF 1.0E-8
      MAX_SCF {{ max_scf }}
      ADDED_MOS 4
      &DIAGONALIZATION
      &END DIAGONALIZATION
      &SMEAR
        METHOD FERMI_DIRAC
        ELECTRONIC_TEMPERATURE [K] 8000
      &END SMEAR
      &PRINT
        &RESTART OFF
        &END RESTART
      &END PRINT
    &END SCF
    &XC
      &XC_FUNCTIONAL PBE
      &END XC_FUNCTIONAL
    &END XC
    &PRINT
      &MO
        EIGENVALUES
        OCCUPATION_NUMBERS
        &EACH
          QS_SCF 0
        &END EACH
      &END MO
    &END PRINT
  &END DFT
  &SUBSYS
    &CELL
      {{ cell }}
    &END CELL
    &COORD
      {{ coordinates }}
    &END COORD
    &KIND H
      BASIS_SET DZVP-MOLOPT-SR-GTH
      POTENTIAL GTH-PBE-q1
    &END KIND
  &END SUBSYS
&END FORCE_EVAL
"""
needs_cp2k = pytest.mark.skipif(shutil.which("cp2k.psmp") is None, reason="CP2K (cp2k.psmp) is not installed")


def hydrogen() -> Atoms:
    positions = [[0.1, 0.0, 0.0], [0.95, 0.2, 0.1]]
    return Atoms("H2", positions=positions, cell=[[4.0, 0, 0], [0.3, 4.1, 0], [0, 0.2, 3.9]], pbc=True)


def cp2k(text: str, variables: dict[str, int], command: str = "cp2k.psmp") -> Cp2kMethod:
    return Cp2kMethod(kind="cp2k", template="cp2k.inp", variables=variables, command=command).with_text(text)


def method(**variables: int) -> Cp2kMethod:
    return cp2k(TEMPLATE, {"cutoff": 400, "max_scf": 60, **variables})


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if Path("/usr/share/cp2k").is_dir():  # Debian's
        monkeypatch.setenv("CP2K_DATA_DIR", os.environ.get("CP2K_DATA_DIR", "/usr/share/cp2k"))


@needs_cp2k
@pytest.mark.slow
def test_forces_and_stress_are_gradients_of_the_free_energy(tmp_path: Path) -> None:
    """Smearing at 8000 K: E - TS and E differ by far more than the error of the differences."""
    atoms = hydrogen()
    result = method().calculate(atoms, tmp_path / "one")
    h = 2e-3
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 0] += sign * h
        energies.append(method().calculate(moved).frame.get_potential_energy())
    assert result.frame.get_forces()[1, 0] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=2e-3)
    for (i, j), voigt in {(0, 0): 0, (1, 2): 3}.items():
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * h / (1 if i == j else 2)
            if i != j:
                strain[j, i] += sign * h / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(method().calculate(strained).frame.get_potential_energy())
        expected = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
        assert result.frame.get_stress()[voigt] == pytest.approx(expected, abs=3e-4), (i, j)
    assert result.code.startswith("CP2K version ")
    assert "PROGRAM STOPPED IN" in result.log
    ((eigenvalues,),), ((occupations,),) = result.electrons.eigenvalues, result.electrons.occupations
    assert len(eigenvalues) == 5
    assert sum(occupations) == pytest.approx(2, abs=1e-4)
    fermi = 2 / (1 + np.exp((eigenvalues - result.electrons.fermi_energy) / (units.kB * 8000)))
    np.testing.assert_allclose(occupations, fermi, atol=2e-4)


@needs_cp2k
def test_what_did_not_converge_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="not_converged: the self-consistent field did not converge") as caught:
        method(max_scf=3).calculate(hydrogen(), tmp_path / "run")
    assert "NOT converged" in caught.value.detail


@needs_cp2k
def test_an_input_that_cp2k_refuses_is_a_crash_with_its_own_words(tmp_path: Path) -> None:
    wrong = cp2k(TEMPLATE.replace("MAX_SCF {{ max_scf }}", "MAX_SCFF 3"), {"cutoff": 100})
    with pytest.raises(LabelError, match=r"crashed: cp2k\.psmp ended") as caught:
        wrong.calculate(hydrogen(), tmp_path / "run")
    assert "MAX_SCFF" in caught.value.detail


def test_the_command_does_not_name_the_calculation() -> None:
    one = method()
    many = cp2k(one.text, one.variables, "mpirun -np 4 cp2k.psmp")
    assert one.identity() == many.identity()
    assert one.identity() != method(cutoff=500).identity()


@pytest.mark.parametrize(
    ("template", "variables", "message"),
    [
        (TEMPLATE, {"cutoff": 1}, "nothing fills {{ max_scf }}: expected one of cell, charge, coordinates, cutoff"),
        (TEMPLATE, {"cutoff": 1, "max_scf": 2, "alpha": 3}, "variable alpha is nowhere in it"),
        (TEMPLATE.replace("{{ coordinates }}", ""), {"cutoff": 1, "max_scf": 2}, "has no {{ coordinates }}"),
        (TEMPLATE.replace("&FORCES ON", "&FORCED ON"), {"cutoff": 1, "max_scf": 2}, "does not print forces"),
        (f"{TEMPLATE}\n&KPOINTS\n SYMMETRY T\n&END\n", {"cutoff": 1, "max_scf": 2}, "has SYMMETRY in &KPOINTS"),
        (f"{TEMPLATE}\n&kpoints\n symmetry\n&end\n", {"cutoff": 1, "max_scf": 2}, "has SYMMETRY in &KPOINTS"),
        (f"{TEMPLATE}\n&KPOINTS\n SYMMETRY F\n&END\n", {"cutoff": 1, "max_scf": 2, "x": 1}, "variable x is nowhere"),
    ],
)
def test_a_template_that_cannot_work_is_refused_before_anything_runs(
    template: str, variables: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        cp2k(template, variables).check()
    assert message in str(caught.value)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no program cp3k on PATH"):
        cp2k(TEMPLATE, {"cutoff": 1, "max_scf": 2}, "cp3k").check()


def test_a_periodic_structure_needs_the_cell_in_the_template() -> None:
    with pytest.raises(LabelError, match=r"has no \{\{ cell \}\}, and the structure is periodic"):
        cp2k(TEMPLATE.replace("{{ cell }}", "ABC 9 9 9"), {"cutoff": 1, "max_scf": 2}).calculate(hydrogen())


def test_the_format_of_later_versions() -> None:
    """As 2024.1 and later print it: hartree, hartree/bohr with norms, bar."""
    text = """
 CP2K| version string:                                    CP2K version 2024.1
 SCF WAVEFUNCTION OPTIMIZATION
  *** SCF run converged in    12 steps ***
 ENERGY| Total FORCE_EVAL ( QS ) energy [hartree]               -1.160000000000000
 FORCES| Atomic forces [hartree/bohr]
 FORCES|   Atom       x               y               z              |f|
 FORCES|      1  1.00000000E-02 -2.00000000E-02  0.00000000E+00  2.23606798E-02
 FORCES|      2 -1.00000000E-02  2.00000000E-02  0.00000000E+00  2.23606798E-02
 FORCES| Sum     0.00000000E+00  0.00000000E+00  0.00000000E+00  0.00000000E+00

 STRESS| Analytical stress tensor [bar]
 STRESS|                        x                   y                   z
 STRESS|      x        1.00000000000E+04   2.00000000000E+03   3.00000000000E+03
 STRESS|      y        2.00000000000E+03   4.00000000000E+04   5.00000000000E+03
 STRESS|      z        3.00000000000E+03   5.00000000000E+03   6.00000000000E+04
  **** **** ******  **  PROGRAM ENDED AT                 2024-01-01 00:00:00.000
"""
    frame = read_output(text, Atoms("H2", cell=[5, 5, 5], pbc=True), "").frame
    assert frame.get_potential_energy() == pytest.approx(-1.16 * units.Hartree)
    np.testing.assert_allclose(frame.get_forces()[0], np.array([0.01, -0.02, 0]) * units.Hartree / units.Bohr)
    np.testing.assert_allclose(frame.get_stress() / units.GPa, [-1, -4, -6, -0.5, -0.3, -0.2])
    assert np.isnan(read_output(text, Atoms("H2", cell=[5, 5, 5], pbc=True), "").plain_energy)
    smeared = " Electronic entropic energy:                                  -0.01000000000000\n ENERGY| Total"
    found = read_output(text.replace(" ENERGY| Total", smeared), Atoms("H2", cell=[5, 5, 5], pbc=True), "")
    assert found.frame.get_potential_energy() == pytest.approx(-1.16 * units.Hartree)
    assert found.plain_energy == pytest.approx(-1.15 * units.Hartree)
    cut = text[: text.index("  **** ****")]
    with pytest.raises(LabelError, match="no_output: the output ends without an energy"):
        read_output(cut, Atoms("H2", cell=[5, 5, 5], pbc=True), "")
    with pytest.raises(LabelError, match="no_output: forces of 2 atoms"):
        read_output(text, Atoms("H3", cell=[5, 5, 5], pbc=True), "")
