"""Outputs of FHI-aims: which of their structures are labels."""

from pathlib import Path

import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.errors import StructureError

START = """------------------------------------------------------------
          Invoking FHI-aims ...
  | Number of atoms                   :        2
  | Number of spin channels           :        1
  | Number of Kohn-Sham states (occupied + empty):        2
  The structure contains        2 atoms,  and a total of          2.000 electrons.

  Input geometry:
  | No unit cell requested.
  | Atomic structure:
  |       Atom                x [A]            y [A]            z [A]
  |    1: Species H             0.00000000        0.00000000        0.00000000
  |    2: Species H             0.80000000        0.00000000        0.00000000

  Molecular dynamics time step =      0.5 ps

          Begin self-consistency loop: Initialization.
          Begin self-consistency iteration #    1
  Integrating Hamiltonian matrix: batch-based integration.
"""
CONVERGED = "  Self-consistency cycle converged.\n"
REFUSED = "  WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE\n"
AGAIN = "  Self-consistency cycle not yet converged - restarting mixer to attempt better convergence.\n"
INIT = "          Begin self-consistency loop: Re-initialization.\n          Begin self-consistency iteration #    1\n"
RESULTS = """  Energy and forces in a compact form:
  | Total energy uncorrected      :         -0.310000000000000E+02 eV
  | Total energy corrected        :         -0.310500000000000E+02 eV  <-- do not rely on this value for anything
  | Electronic free energy        :         -0.311000000000000E+02 eV
  Total atomic forces (unitary forces cleaned) [eV/Ang]:
  |    1          0.500000000000000E+00          0.100000000000000E+00          0.000000000000000E+00
  |    2         -0.500000000000000E+00         -0.100000000000000E+00          0.000000000000000E+00

------------------------------------------------------------
"""
MOVED = """  Atomic structure (and velocities) as used in the preceding time step:
                         x [A]             y [A]             z [A]
            atom         0.10000000        0.00000000        0.00000000  H
            velocity     0.00000000        0.00000000        0.00000000
            atom         0.90000000        0.00000000        0.00000000  H
            velocity     0.00000000        0.00000000        0.00000000
"""
END = "\n          Have a nice day.\n------------------------------------------------------------\n"


def entries(folder: Path, text: str) -> list[Entry | Unusable]:
    (folder / "aims.log").write_text(text)
    known = format_of(folder / "aims.log")
    assert (known.name, known.units) == ("output of FHI-aims", "own")
    return list(known.entries(folder / "aims.log"))


def test_the_energy_is_the_free_energy(tmp_path: Path) -> None:
    (found,) = entries(tmp_path, START + CONVERGED + RESULTS + END)
    assert isinstance(found, Entry)
    assert (found.said["energy"], found.said["free_energy"]) == (-31.1, -31.1)
    assert found.of_atoms["forces"].tolist() == [[0.5, 0.1, 0], [-0.5, -0.1, 0]]
    np.testing.assert_allclose(found.atoms.positions, [[0, 0, 0], [0.8, 0, 0]])
    assert not found.atoms.pbc.any()


def test_steps_that_did_not_converge_are_told(tmp_path: Path) -> None:
    good = CONVERGED + RESULTS + MOVED
    first, refused, third, cut = entries(
        tmp_path, START + good + INIT + REFUSED + RESULTS + MOVED + INIT + AGAIN + INIT + good + INIT
    )
    assert isinstance(first, Entry)
    assert refused == Unusable("its self-consistent field did not converge")
    assert isinstance(third, Entry)  # by a second mixer
    np.testing.assert_allclose(third.atoms.positions, [[0.1, 0, 0], [0.9, 0, 0]])
    assert cut == Unusable("the file ends in it: FHI-aims was stopped, or still runs")
    (silent,) = entries(tmp_path, START + RESULTS + END)
    assert silent == Unusable("its self-consistent field did not converge")


def test_an_output_without_a_calculation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=r"aims.log cannot be read as output of FHI-aims .*self-consistent field"):
        entries(tmp_path, START.partition("          Begin self")[0])
