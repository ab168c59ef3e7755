"""Outputs of ORCA and its files of gradients, laid out as version 5 does."""

from pathlib import Path

import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.errors import StructureError
from ase import units

START = """
                                 *****************
                                 * O   R   C   A *
                                 *****************
                         Program Version 5.0.4  -  RELEASE  -
"""
STEP = """
---------------------------------
CARTESIAN COORDINATES (ANGSTROEM)
---------------------------------
  O      0.000000    0.000000    {z}
  H      0.000000    0.763000   -0.477000

----------------------------
CARTESIAN COORDINATES (A.U.)
----------------------------
  NO LB      ZA    FRAG     MASS         X           Y           Z
   0 O     8.0000    0    15.999    0.000000    0.000000    0.224877
   1 H     1.0000    0     1.008    0.000000    1.441861   -0.901400

SCF ITERATIONS
               *           SCF CONVERGED AFTER  10 CYCLES          *
-------------------------   --------------------
FINAL SINGLE POINT ENERGY       -75.500000000000
-------------------------   --------------------
"""
GRADIENT = """
------------------
CARTESIAN GRADIENT
------------------

   1   O   :   -0.010000000    0.020000000    0.030000000
   2   H   :    0.010000000   -0.020000000   -0.030000000

Difference to translation invariance:
"""
NEXT = "                       ORCA GEOMETRY RELAXATION STEP\n"
END = "                             ****ORCA TERMINATED NORMALLY****\n"
ENGRAD = """#
# Number of atoms
#
 2
#
# The current total energy in Eh
#
    -75.500000000000
#
# The current gradient in Eh/bohr
#
      -0.010000000000
       0.020000000000
       0.030000000000
       0.010000000000
      -0.020000000000
      -0.030000000000
#
# The atomic numbers and current coordinates in Bohr
#
   8     0.0000000    0.0000000    0.2000000
   1     0.0000000    1.4000000   -0.9000000
"""
FORCES = -units.Hartree / units.Bohr * np.array([[-0.01, 0.02, 0.03], [0.01, -0.02, -0.03]])


def entries(folder: Path, text: str) -> list[Entry | Unusable]:
    (folder / "some.log").write_text(text)
    known = format_of(folder / "some.log")
    assert (known.name, known.units) == ("output of ORCA", "own")
    return list(known.entries(folder / "some.log"))


def test_an_optimisation_has_a_structure_for_each_step(tmp_path: Path) -> None:
    one, other = STEP.format(z="0.119000"), STEP.format(z="0.120000")
    first, second, last = entries(tmp_path, START + one + GRADIENT + NEXT + other + GRADIENT + NEXT + other + END)
    for found, height in ((first, 0.119), (second, 0.120), (last, 0.120)):
        assert isinstance(found, Entry)
        assert found.said == pytest.approx(dict.fromkeys(("energy", "free_energy"), -75.5 * units.Hartree))
        assert found.atoms.get_chemical_symbols() == ["O", "H"]
        assert found.atoms.positions.tolist() == [[0, 0, height], [0, 0.763, -0.477]]
    np.testing.assert_allclose(second.of_atoms["forces"], FORCES)
    assert last.of_atoms == {}  # the energy of the last structure, without a gradient


def test_what_is_no_label_is_told(tmp_path: Path) -> None:
    step = STEP.format(z="0.119000")
    good = step + GRADIENT + NEXT
    first, unconverged, twice, states, cut = entries(
        tmp_path,
        START + good
        + good.replace("SINGLE POINT ENERGY", "SINGLE POINT ENERGY (Wavefunction not fully converged!)")
        + step + good
        + step + GRADIENT + GRADIENT + NEXT
        + step + GRADIENT,
    )  # fmt: skip
    assert isinstance(first, Entry)
    assert unconverged == Unusable("its self-consistent field did not converge")
    assert twice == Unusable("has 2 energies, of dynamics, a scan or several jobs: expected one structure's")
    assert states == Unusable(
        "cannot be read as ORCA writes it (ValueError: 2 gradients, of several states: expected one)"
    )
    assert cut == Unusable("the file ends in it: ORCA was stopped, or still runs")
    with pytest.raises(StructureError, match=r"some.log has no energy: expected an output of ORCA with a single point"):
        entries(tmp_path, START + END)


def test_a_file_of_gradients(tmp_path: Path) -> None:
    path = tmp_path / "water.engrad"
    path.write_text(ENGRAD)
    known = format_of(path)
    (found,) = known.entries(path)
    assert (known.name, known.units) == ("gradients of ORCA", "own")
    assert isinstance(found, Entry)
    assert found.said["energy"] == pytest.approx(-75.5 * units.Hartree)
    np.testing.assert_allclose(found.of_atoms["forces"], FORCES)
    np.testing.assert_allclose(found.atoms.positions, units.Bohr * np.array([[0, 0, 0.2], [0, 1.4, -0.9]]))
    assert found.atoms.numbers.tolist() == [8, 1]
    (tmp_path / "water.out").write_text("*           SCF NOT CONVERGED AFTER   5 CYCLES      *\n")
    assert list(known.entries(path)) == [Unusable("its self-consistent field did not converge (water.out)")]
    (tmp_path / "water.out").unlink()
    path.write_text(ENGRAD[:-40])
    with pytest.raises(StructureError, match=r"cannot be read as a file of gradients of ORCA .*: expected a whole one"):
        list(known.entries(path))
