"""Outputs of pw.x, laid out as version 6.7 does."""

from pathlib import Path

import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.errors import StructureError
from ase import units

START = """
     Program PWSCF v.6.7MaX starts on 28Nov2026 at 23:59: 0

     lattice parameter (alat)  =       9.4486  a.u.
     number of atoms/cell      =            2
     number of atomic types    =            1
     scf convergence threshold =      1.0E-08

     celldm(1)=   9.448631  celldm(2)=   0.000000  celldm(3)=   0.000000

     crystal axes: (cart. coord. in units of alat)
               a(1) = (   1.000000   0.000000   0.000000 )
               a(2) = (   0.000000   1.040000   0.000000 )
               a(3) = (   0.060000   0.000000   1.100000 )

     site n.     atom                  positions (alat units)
         1           H1  tau(   1) = (   0.0000000   0.0000000   0.0000000  )
         2           H1  tau(   2) = (   0.1600000   0.0200000   0.0000000  )

     Self-consistent Calculation

     iteration #  1     ecut=    12.00 Ry     beta= 0.30
     total energy              =      -2.20000000 Ry
     estimated scf accuracy    <       0.06638707 Ry
"""
DONE = """
     End of self-consistent calculation

!    total energy              =      -2.22806675 Ry
     estimated scf accuracy    <          1.8E-09 Ry
     smearing contrib. (-TS)   =      -0.00006098 Ry

     convergence has been achieved in  10 iterations

     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =     0.02876274    0.00305923   -0.00232044
     atom    2 type  1   force =    -0.02876274   -0.00305923    0.00232044
     The non-local contrib.  to forces
     atom    1 type  1   force =     1.00000000    1.00000000    1.00000000
     atom    2 type  1   force =     1.00000000    1.00000000    1.00000000

          total   stress  (Ry/bohr**3)                   (kbar)     P=      -17.87
  -0.00010000   0.00000400  -0.00000500          -17.73        0.34       -0.23
   0.00000400  -0.00020000   0.00000600            0.34      -18.20        0.08
  -0.00000500   0.00000600  -0.00030000           -0.23        0.08      -17.69
"""
CELL = "CELL_PARAMETERS (alat=  9.44863100)\n   1.1 0.0 0.0\n   0.0 1.04 0.0\n   0.06 0.0 1.1\n\n"
POSITIONS = "ATOMIC_POSITIONS ({})\nH1   0.0 0.0 0.1\nH1   {} 0.0 0.0\n"
NEXT = "\n     Self-consistent Calculation\n     iteration #  1     ecut=    12.00 Ry\n"
END = "\n   JOB DONE.\n"
ALAT = 9.448631 * units.Bohr


def entries(folder: Path, text: str) -> list[Entry | Unusable]:
    (folder / "some.log").write_text(text)
    known = format_of(folder / "some.log")
    assert (known.name, known.units) == ("output of pw.x", "own")
    return list(known.entries(folder / "some.log"))


def test_a_single_point(tmp_path: Path) -> None:
    (found,) = entries(tmp_path, START + DONE + END)
    assert isinstance(found, Entry)
    for name in ("energy", "free_energy"):  # with smearing too: what is printed is E - TS
        assert found.said[name] == pytest.approx(-2.22806675 * units.Ry, abs=1e-9)
    unit = units.Ry / units.Bohr
    np.testing.assert_allclose(found.of_atoms["forces"][1], unit * np.array([-0.02876274, -0.00305923, 0.00232044]))
    known = np.array([1e-4, 2e-4, 3e-4, -6e-6, 5e-6, -4e-6]) * units.Ry / units.Bohr**3
    np.testing.assert_allclose(found.said["stress"], known, rtol=1e-9)
    assert found.atoms.get_chemical_symbols() == ["H", "H"]
    np.testing.assert_allclose(found.atoms.positions[1], ALAT * np.array([0.16, 0.02, 0]), rtol=1e-7)
    np.testing.assert_allclose(found.atoms.cell[2], ALAT * np.array([0.06, 0, 1.1]), rtol=1e-7)


def test_steps_have_their_own_positions_and_cell(tmp_path: Path) -> None:
    text = (
        START + DONE + "\n" + CELL + POSITIONS.format("angstrom", 0.8) + NEXT + DONE
        + POSITIONS.format("crystal", 0.5) + NEXT + DONE
        + "Begin final coordinates\n" + POSITIONS.format("bohr", 1.5) + "End final coordinates\n" + END
    )  # fmt: skip
    first, second, third = entries(tmp_path, text)  # what is printed in the end is the last again
    for found in (first, second, third):
        assert isinstance(found, Entry)
        assert found.of_atoms["forces"].shape == (2, 3)
    assert first.atoms.cell[0, 0] == pytest.approx(ALAT, rel=1e-7)
    np.testing.assert_allclose(second.atoms.positions, [[0, 0, 0.1], [0.8, 0, 0]])
    assert second.atoms.cell[0, 0] == pytest.approx(1.1 * ALAT, rel=1e-7)
    np.testing.assert_allclose(third.atoms.positions[1], [0.55 * ALAT, 0, 0], rtol=1e-7)  # of the cell as it is by then


def test_a_step_that_did_not_converge_is_told(tmp_path: Path) -> None:
    step = POSITIONS.format("angstrom", 0.8) + NEXT
    first, stopped, claims, good, cut = entries(
        tmp_path,
        START + DONE
        + step + "     convergence NOT achieved after   3 iterations: stopping\n"
        + step + DONE.replace("1.8E-09", "0.00062348")  # scf_must_converge = .false.: it says that it did
        + step + DONE.replace("1.8E-09", "1.0E-08")
        + step,
    )  # fmt: skip
    assert isinstance(first, Entry)
    assert stopped == Unusable("did not converge: convergence NOT achieved after   3 iterations: stopping")
    assert claims == Unusable("did not converge: estimated accuracy 0.00062 Ry, above its threshold of 1e-08 Ry")
    assert isinstance(good, Entry)
    assert cut == Unusable("the file ends in it, or its electrons are not self-consistent: pw.x was stopped")


def test_exact_exchange_has_to_be_self_consistent_too(tmp_path: Path) -> None:
    text = START + DONE + "     EXX: now go back to refine exchange calculation\n" + DONE.replace("2.228", "2.300")
    assert entries(tmp_path, text) == [Unusable("did not converge: the exact exchange did not become self-consistent")]
    (found,) = entries(tmp_path, text + "     EXX self-consistency reached\n")
    assert isinstance(found, Entry)
    assert found.said["energy"] == pytest.approx(-2.30006675 * units.Ry, abs=1e-9)


def test_what_has_no_energies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        StructureError, match=r"some.log has no self-consistent calculation: expected an output of pw.x"
    ):
        entries(tmp_path, START.partition("     Self-")[0] + "End of band structure calculation\n" + END)
    with pytest.raises(StructureError, match=r"cannot be read as output of pw.x .*: expected cell and atoms"):
        entries(tmp_path, START.partition("     site")[0])
    (found,) = entries(tmp_path, START + DONE.partition("     Forces")[0])
    assert isinstance(found, Entry)
    assert found.of_atoms == {}


def test_a_force_that_is_no_number_is_told(tmp_path: Path) -> None:
    (found,) = entries(tmp_path, START + DONE.replace(" 0.02876274 ", " ********** ", 1))
    assert isinstance(found, Unusable)
    assert found.reason.startswith("cannot be read as pw.x writes it (ValueError")
