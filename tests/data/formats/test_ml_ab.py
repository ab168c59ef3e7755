"""ML_AB of VASP: the stress has VASP's sign and order."""

from pathlib import Path

import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.data.formats.ml_ab import ML_AB
from ase.units import GPa

STARS, EQUALS, DASHES = "*" * 50, "=" * 50, "-" * 50
HEAD = f""" 1.0 Version
{STARS}
     The number of configurations
{DASHES}
          2
{STARS}
     The maximum number of atom type
{DASHES}
       2
{STARS}
     The atom types in the data file
{DASHES}
     Zn O
{STARS}
     Reference atomic energy (eV)
{DASHES}
   0.000000000000000E+000  0.000000000000000E+000
{STARS}
     Basis set for Zn
{DASHES}
          1      1
"""
CONFIGURATION = f"""{STARS}
     Configuration num.      1
{EQUALS}
     System name
{DASHES}
     Zinc oxide
{EQUALS}
     The number of atom types
{DASHES}
       2
{EQUALS}
     The number of atoms
{DASHES}
         3
{STARS}
     Atom types and atom numbers
{DASHES}
     Zn      1
     O       2
{EQUALS}
     CTIFOR
{DASHES}
   2.000000000000000E-003
{EQUALS}
     Primitive lattice vectors (ang.)
{DASHES}
   4.00000000000000       0.000000000000000E+000  0.000000000000000E+000
   0.000000000000000E+000   5.00000000000000       0.000000000000000E+000
  0.500000000000000       0.000000000000000E+000   6.00000000000000
{EQUALS}
     Atomic positions (ang.)
{DASHES}
   0.000000000000000E+000   1.25000000000000        2.00000000000000
   1.50000000000000        1.00000000000000        3.00000000000000
   2.50000000000000        3.00000000000000       -1.00000000000000
{EQUALS}
     Total energy (eV)
{DASHES}
  -17.1250000000000
{EQUALS}
     Forces (eV ang.^-1)
{DASHES}
  0.125000000000000      -0.250000000000000       1.000000000000000E-003
 -0.125000000000000       0.250000000000000      -1.000000000000000E-003
  0.000000000000000E+000  0.000000000000000E+000  0.000000000000000E+000
{EQUALS}
     Stress (kbar)
{DASHES}
     XX YY ZZ
{DASHES}
  10.0000000000000       -20.0000000000000        30.0000000000000
{DASHES}
     XY YZ ZX
{DASHES}
   1.00000000000000        2.00000000000000       -3.00000000000000
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "ML_ABN"
    path.write_text(text)
    return path


def test_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + CONFIGURATION + CONFIGURATION.replace("num.      1", "num.      2"))
    assert format_of(path) is ML_AB
    found = list(ML_AB.read(path))
    assert len(found) == 2
    for entry in found:
        assert isinstance(entry, Entry)
        assert entry.atoms.get_chemical_symbols() == ["Zn", "O", "O"]
        assert entry.atoms.pbc.all()
        np.testing.assert_array_equal(entry.atoms.cell, [[4, 0, 0], [0, 5, 0], [0.5, 0, 6]])
        np.testing.assert_array_equal(entry.atoms.positions, [[0, 1.25, 2], [1.5, 1, 3], [2.5, 3, -1]])
        np.testing.assert_array_equal(entry.of_atoms["forces"], [[0.125, -0.25, 1e-3], [-0.125, 0.25, -1e-3], [0] * 3])
        assert entry.said["energy"] == -17.125
        assert entry.atoms.info == {"system_name": "Zinc oxide"}
        # 10 kbar are 1 GPa; where VASP says 10, ASE says -1 GPa; xx yy zz xy yz zx become xx yy zz yz xz xy
        np.testing.assert_allclose(entry.said["stress"] / GPa, [-1, 2, -3, -0.2, 0.3, -0.1], rtol=1e-14)


def test_what_scripts_leave_out(tmp_path: Path) -> None:
    energy = CONFIGURATION[CONFIGURATION.index("     Total") : CONFIGURATION.index("     Forces")]
    text = CONFIGURATION.replace(energy, "").replace(
        "  10.0000000000000       -20.0000000000000        30.0000000000000", " "
    )
    (entry,) = ML_AB.read(written(tmp_path, HEAD + text))
    assert isinstance(entry, Entry)
    assert dict(entry.said) == {}
    assert entry.of_atoms["forces"].shape == (3, 3)


def test_an_element_may_be_there_as_several_types(tmp_path: Path) -> None:
    text = CONFIGURATION.replace("     O       2\n", "     O1      1\n     O_s     1\n")
    (entry,) = ML_AB.read(written(tmp_path, HEAD + text))
    assert isinstance(entry, Entry)
    assert entry.atoms.get_chemical_symbols() == ["Zn", "O", "O"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CONFIGURATION[: CONFIGURATION.index("     Atomic pos")], "nothing under 'atomic positions (ang.)'"),
        (CONFIGURATION[: CONFIGURATION.index(" -0.125")], "forces: expected 9 numbers, found 3"),
        (CONFIGURATION.replace("O       2", "O       3"), "atomic positions: expected 12 numbers, found 9"),
        (CONFIGURATION.replace("O       2", "Xq      2"), "expected a chemical symbol and a number, found 'Xq      2'"),
        (CONFIGURATION.replace("-17.1250000000000", "***"), "could not convert string to float: '***'"),
    ],
)  # fmt: skip
def test_a_broken_configuration_stops_no_other(tmp_path: Path, text: str, reason: str) -> None:
    whole, broken = ML_AB.read(written(tmp_path, HEAD + CONFIGURATION + text))
    assert isinstance(whole, Entry)
    assert isinstance(broken, Unusable)
    assert reason in broken.reason
