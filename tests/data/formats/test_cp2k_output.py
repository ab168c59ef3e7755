"""Outputs of CP2K, laid out as version 2023.1 does."""

from pathlib import Path

import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.errors import StructureError
from ase import units

OUTPUT = """ DBCSR| CPU Multiplication driver                                           XSMM
  **** **** ******  **  PROGRAM STARTED AT               2026-11-29 00:05:23.983
 CP2K| version string:                                       CP2K version 2023.1
 GLOBAL| Run type                                                   ENERGY_FORCE
 CELL| Vector a [angstrom]:       5.400     0.000     0.000   |a| =     5.400000
 CELL| Vector b [angstrom]:       0.500     5.200     0.000   |b| =     5.223983
 CELL| Vector c [angstrom]:       0.000     0.300     5.000   |c| =     5.008992
 CELL| Angle (b,c), alpha [degree]:                                    86.582152
 CELL| Angle (a,c), beta  [degree]:                                    90.000000
 CELL| Angle (a,b), gamma [degree]:                                    84.507675
 CELL| Periodicity                                                           XYZ
 BRILLOUIN| K-Point point group symmetrization                               OFF

 MODULE QUICKSTEP: ATOMIC COORDINATES IN ANGSTROM

   Atom Kind Element         X             Y             Z       Z(eff)     Mass
      1    1 H     1      0.100000      0.200000      0.300000   1.0000   1.0079
      2    2 He    2      0.800000      0.300000     -0.200000   2.0000   4.0026

 SCF WAVEFUNCTION OPTIMIZATION
  *** SCF run converged in     7 steps ***
  Electronic entropic energy:                                  -0.00100000000000
  Total energy:                                                -1.10000000000000
 ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:               -1.250000000000000

 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      H          -0.03000000     0.04000000     0.02000000
      2      2      He          0.06000000    -0.00500000     0.01000000
 SUM OF ATOMIC FORCES           0.03000000     0.03500000     0.03000000     0.06378585

 STRESS| Analytical stress tensor [GPa]
 STRESS|                        x                   y                   z
 STRESS|      x        1.00000000000E+00   4.00000000000E-01   5.00000000000E-01
 STRESS|      y        4.00000000000E-01   2.00000000000E+00   6.00000000000E-01
 STRESS|      z        5.00000000000E-01   6.00000000000E-01   3.00000000000E+00
  **** **** ******  **  PROGRAM ENDED AT                 2026-11-29 00:05:23.983
"""


def entry(folder: Path, text: str) -> Entry | Unusable:
    (folder / "some.out").write_text(text)
    known = format_of(folder / "some.out")
    assert (known.name, known.units) == ("output of CP2K", "own")
    (found,) = known.entries(folder / "some.out")
    return found


def test_a_single_point(tmp_path: Path) -> None:
    found = entry(tmp_path, OUTPUT)
    assert isinstance(found, Entry)
    for name in ("energy", "free_energy"):  # with smearing too: what is printed is E - TS
        assert found.said[name] == pytest.approx(-1.25 * units.Hartree)
    known = units.Hartree / units.Bohr * np.array([[-0.03, 0.04, 0.02], [0.06, -0.005, 0.01]])
    np.testing.assert_allclose(found.of_atoms["forces"], known)
    np.testing.assert_allclose(found.said["stress"], -units.GPa * np.array([1, 2, 3, 0.6, 0.5, 0.4]))
    assert found.atoms.get_chemical_symbols() == ["H", "He"]
    assert found.atoms.positions.tolist() == [[0.1, 0.2, 0.3], [0.8, 0.3, -0.2]]
    np.testing.assert_allclose(found.atoms.cell, [[5.4, 0, 0], [0.5, 5.2, 0], [0, 0.3, 5]], atol=1e-6)
    assert found.atoms.pbc.all()


def test_a_cell_has_the_digits_of_its_lengths(tmp_path: Path) -> None:
    text = OUTPUT.replace("|a| =     5.400000", "|a| =     5.400499")
    found = entry(tmp_path, text)
    assert isinstance(found, Entry)
    assert found.atoms.cell[0].tolist() == [5.400499, 0, 0]
    turned = text.replace("5.400     0.000     0.000   |a|", "0.000     5.400     0.000   |a|")
    found = entry(tmp_path, turned)
    assert isinstance(found, Entry)
    assert found.atoms.cell[0].tolist() == [0, 5.4, 0]


def test_a_molecule_has_no_stress(tmp_path: Path) -> None:
    found = entry(tmp_path, OUTPUT.replace(" XYZ\n", "NONE\n"))
    assert isinstance(found, Entry)
    assert not found.atoms.pbc.any()
    assert "stress" not in found.said


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("SCF run converged in", "SCF run NOT converged", "its self-consistent field did not converge"),
        ("  *** SCF run converged in     7 steps ***\n", "", "its self-consistent field did not converge"),
        ("     OFF", "      ON", "its k-points were reduced by symmetry"),
        (OUTPUT[OUTPUT.index(" ENERGY|") :], "", "the file ends in it"),
        ("      2      2      He", "             ", "cannot be read as CP2K writes it (forces of 1 atoms"),
    ],
)
def test_what_is_no_label_is_told(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in OUTPUT
    found = entry(tmp_path, OUTPUT.replace(old, new))
    assert isinstance(found, Unusable)
    assert found.reason.startswith(reason)


def test_other_runs_and_silent_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="of a run of type BAND: expected ENERGY_FORCE, MD, GEO_OPT or CELL_OPT"):
        entry(tmp_path, OUTPUT.replace("ENERGY_FORCE\n", "        BAND\n"))
    for removed in ("MODULE QUICKSTEP", "CELL| Vector"):
        with pytest.raises(StructureError, match=r"does not say where the atoms are: .* with PRINT_LEVEL MEDIUM"):
            entry(tmp_path, OUTPUT.replace(removed, ""))


def test_two_runs_in_one_output_are_two_structures(tmp_path: Path) -> None:
    """CP2K appends to an output that is there."""
    moved = OUTPUT.replace("      0.800000      0.300000", "      0.900000      0.300000")
    (tmp_path / "some.out").write_text(OUTPUT + moved.replace("-1.250000000", "-1.350000000"))
    first, second = format_of(tmp_path / "some.out").read(tmp_path / "some.out")
    assert isinstance(first, Entry)
    assert isinstance(second, Entry)
    assert (first.atoms.positions[1, 0], second.atoms.positions[1, 0]) == (0.8, 0.9)
    assert first.said["energy"] == pytest.approx(-1.25 * units.Hartree)
    assert second.said["energy"] == pytest.approx(-1.35 * units.Hartree)
