"""Outputs of CASTEP, from one that it wrote itself."""

from pathlib import Path

import ase.io
import ase.test
import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable

OUTPUT = Path(ase.test.__file__).parent / "testdata" / "castep" / "md.castep"
pytestmark = pytest.mark.skipif(not OUTPUT.exists(), reason="this ASE has come without the data of its tests")
ZERO = "NB est. 0K energy (E-0.5TS)      =  -1351.298793468     eV\n"
DISPERSION = """
Dispersion corrected final energy*, Ecor          =  -1352.1  eV
Dispersion corrected final free energy* (Ecor-TS) =  -1352.3  eV
NB dispersion corrected est. 0K energy* (Ecor-0.5TS) =  -1352.2  eV
"""
WARNING = "*Warning* max. SCF cycles performed but system has not reached the groundstate.\n"


def entries(folder: Path, text: str) -> list[Entry | Unusable]:
    path = folder / "md.castep"
    path.write_text(text)
    known = format_of(path)
    assert (known.name, known.units) == ("output of CASTEP", "own")
    return list(known.entries(path))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # of ASE, that the file has some
def test_the_steps_are_those_of_ase(tmp_path: Path) -> None:
    known = ase.io.read(OUTPUT, ":")
    found = entries(tmp_path, OUTPUT.read_text())
    assert len(found) == len(known) == 3
    for one, other in zip(found, known, strict=True):
        assert isinstance(one, Entry)
        assert one.said["free_energy"] == other.calc.results["free_energy"]
        np.testing.assert_array_equal(one.of_atoms["forces"], other.calc.results["forces"])
        np.testing.assert_array_equal(one.atoms.positions, other.positions)


def test_energies_have_the_dispersion_that_forces_have(tmp_path: Path) -> None:
    text = OUTPUT.read_text()
    assert text.count(ZERO) == 1
    first, second, third = entries(tmp_path, text.replace(ZERO, ZERO + DISPERSION))
    assert isinstance(second, Entry)
    assert (second.said["energy"], second.said["free_energy"]) == (-1352.2, -1352.3)
    insulator = DISPERSION.splitlines(keepends=True)[1]
    second = entries(tmp_path, text.replace(ZERO, ZERO + insulator))[1]
    assert isinstance(second, Entry)
    assert (second.said["energy"], second.said["free_energy"]) == (-1352.1, -1352.1)
    for other in (first, third):
        assert isinstance(other, Entry)
        assert other.said["free_energy"] > -1352


def test_a_step_that_did_not_converge_is_told(tmp_path: Path) -> None:
    first, second, third = entries(tmp_path, OUTPUT.read_text().replace(ZERO, ZERO + WARNING))
    assert second == Unusable("its self-consistent field did not converge")
    assert isinstance(first, Entry)
    assert isinstance(third, Entry)
