"""Dynamics and optimisations of CP2K: an output and the files beside it, laid out as version 2023.1 does."""

import os
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.data.formats.cp2k import CP2K
from alflow.errors import StructureError
from ase import units

HARTREE_BOHR = units.Hartree / units.Bohr

BEGINNING = """ CP2K| version string:                                       CP2K version 2023.1
 GLOBAL| Project name                                                     helium
 GLOBAL| Run type                                                        {run}
 CELL| Vector a [angstrom]:       5.000     0.000     0.000   |a| =     5.000000
 CELL| Vector b [angstrom]:       0.000     5.200     0.000   |b| =     5.200000
 CELL| Vector c [angstrom]:       0.000     0.000     5.400   |c| =     5.400000
 CELL| Periodicity                                                           XYZ
 MD_PAR| Ensemble type                                                       {ensemble}

 MODULE QUICKSTEP: ATOMIC COORDINATES IN ANGSTROM

   Atom Kind Element         X             Y             Z       Z(eff)     Mass
      1    1 H     1      0.100000      0.200000      0.300000   1.0000   1.0079
      2    2 He    2      0.800000      0.300000     -0.200000   2.0000   4.0026

"""
CALCULATION = """ SCF WAVEFUNCTION OPTIMIZATION
  *** SCF run converged in     7 steps ***
 ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:               {energy:.15f}

 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      H          -0.03000000     0.04000000     {force:.8f}
      2      2      He          0.06000000    -0.00500000     0.01000000
 SUM OF ATOMIC FORCES           0.03000000     0.03500000     0.03000000     0.06378585

 STRESS| Analytical stress tensor [GPa]
 STRESS|                        x                   y                   z
 STRESS|      x        1.00000000000E+00   4.00000000000E-01   5.00000000000E-01
 STRESS|      y        4.00000000000E-01   {pressure:.11E}   6.00000000000E-01
 STRESS|      z        5.00000000000E-01   6.00000000000E-01   3.00000000000E+00
"""
END = "  **** **** ******  **  PROGRAM ENDED AT                 2026-11-29 00:05:23.983\n"
ENERGIES = (-1.25, -1.5000000001234567, -1.75)  # of an output; a trajectory has ten decimals
LINE_SEARCHES = " ***                           CONJUGATE GRADIENTS                           ***\n"


def calculation(step: int) -> str:
    return CALCULATION.format(energy=ENERGIES[step], force=0.02 + 0.01 * step, pressure=2.0 + step)


def frame(step: int, energy: float, rows: list[list[float]], symbols: tuple[str, ...] = ("H", "He")) -> str:
    lines = [f"{symbol:>3}" + "".join(f"{x:20.10f}" for x in row) for symbol, row in zip(symbols, rows, strict=True)]
    return "\n".join([f"{len(rows):8d}", f" i = {step:8d}, time = {step / 2:12.3f}, E = {energy:19.10f}", *lines, ""])


def places(step: int) -> list[list[float]]:
    return [[0.1, 0.2, 0.3 + 0.01 * step], [0.8, 0.3, -0.2]]


def forces(step: int) -> list[list[float]]:
    return [[-0.03, 0.04, 0.02 + 0.01 * step + 4e-9], [0.06, -0.005, 0.01]]


CELLS = """#   Step   Time [fs]       Ax [Angstrom]       Ay [Angstrom] ...      Volume [Angstrom^3]
       0       0.000   5.0 0.0 0.0   0.0 5.2 0.0   0.0 0.0 5.4   140.4
       1       0.500   5.1 0.0 0.0   0.2 5.2 0.0   0.0 0.0 5.4   143.2
       2       1.000   5.2 0.0 0.0   0.4 5.2 0.0   0.0 0.0 5.4   146.0
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., list[Entry | Unusable]]:
    """Write a run, and read it."""

    def read(
        output: str | None = None, kind: str = "MD", ensemble: str = "NVE", **files: str
    ) -> list[Entry | Unusable]:
        beginning = BEGINNING.format(run=kind, ensemble=ensemble)
        (tmp_path / "md.log").write_text(
            beginning + ("".join(map(calculation, range(3))) if output is None else output) + END
        )
        written = {"pos": "".join(frame(i, ENERGIES[i], places(i)) for i in range(3))} | files
        for name, text in written.items():
            (tmp_path / {"cell": "helium-1.cell"}.get(name, f"helium-{name}-1.xyz")).write_text(text)
        assert format_of(tmp_path / "md.log") is CP2K
        return list(CP2K.read(tmp_path / "md.log"))

    return read


Read = Callable[..., list[Entry | Unusable]]


def usable(found: list[Entry | Unusable]) -> list[Entry]:
    assert all(isinstance(one, Entry) for one in found), found
    return [one for one in found if isinstance(one, Entry)]


def test_every_step_has_its_calculation(run: Read) -> None:
    for step, one in enumerate(usable(run())):
        assert one.said["energy"] == one.said["free_energy"] == pytest.approx(ENERGIES[step] * units.Hartree, abs=1e-12)
        np.testing.assert_allclose(one.atoms.positions, places(step))
        np.testing.assert_allclose(one.of_atoms["forces"], HARTREE_BOHR * np.array(forces(step)), atol=1e-6)
        np.testing.assert_allclose(one.said["stress"][1], -units.GPa * (2 + step))
        assert one.atoms.get_chemical_symbols() == ["H", "He"]
        assert one.atoms.cell.lengths().tolist() == [5, 5.2, 5.4]
        assert one.atoms.pbc.all()


def test_of_every_second_step_it_is_still_its_own(run: Read) -> None:
    found = usable(run(pos="".join(frame(i, ENERGIES[i], places(i)) for i in (0, 2))))
    assert [one.said["energy"] for one in found] == [ENERGIES[0] * units.Hartree, ENERGIES[2] * units.Hartree]


def test_forces_of_a_file_do_where_the_output_has_none(run: Read) -> None:
    silent = "".join(calculation(i).partition(" ATOMIC FORCES")[0] for i in range(3))
    found = usable(run(silent, frc="".join(frame(i, ENERGIES[i], forces(i)) for i in range(3))))
    for step, one in enumerate(found):
        np.testing.assert_allclose(one.of_atoms["forces"], HARTREE_BOHR * np.array(forces(step)), rtol=1e-12)
    assert all(not one.of_atoms for one in usable(run(silent, frc="")))


def test_a_step_that_did_not_converge_is_left_out_and_no_other(run: Read) -> None:
    failed = calculation(1).replace(
        "*** SCF run converged in     7 steps", "WARNING in qs_scf.F:601 :: SCF run NOT converged"
    )
    first, second, third = run(calculation(0) + failed + calculation(2))
    assert isinstance(first, Entry)
    assert isinstance(third, Entry)
    assert second == Unusable("its self-consistent field did not converge", "not_converged")


@pytest.mark.parametrize(("kind", "ensemble"), [("MD", "NPT_F"), ("CELL_OPT", "NVE")])
def test_cells_that_change_are_those_of_their_steps(run: Read, kind: str, ensemble: str) -> None:
    ensemble = ensemble if kind == "MD" else "-"
    with pytest.raises(StructureError, match=r"the cell changes: expected its cells in helium-1\.cell beside it"):
        run(kind=kind, ensemble=ensemble)
    found = usable(run(kind=kind, ensemble=ensemble, cell=CELLS))
    assert [one.atoms.cell[0, 0] for one in found] == [5.0, 5.1, 5.2]
    assert [one.atoms.cell[1, 0] for one in found] == [0.0, 0.2, 0.4]
    appended = CELLS + "       2       1.000   5.3 0.0 0.0   0.4 5.2 0.0   0.0 0.0 5.4   148.8\n"
    *others, last = run(kind=kind, ensemble=ensemble, cell=appended)
    assert len(usable(others)) == 2
    assert last == Unusable("has no cell: expected one line of step 2 in helium-1.cell")


def test_a_step_of_another_run_is_none_of_this(run: Read) -> None:
    """A run that is begun again appends to the files of the first."""
    *others, last = run("".join(map(calculation, range(2))))
    assert len(usable(others)) == 2
    assert last == Unusable("no calculation in the output has its energy: it is of another run, or a bias is in it")


def test_runs_that_follow_each_other_in_an_output_keep_their_cells(run: Read, tmp_path: Path) -> None:
    """CP2K appends to an output that is there; a restart appends to the trajectory as well."""
    run()
    first, started = (tmp_path / "md.log").read_text(), "  **** **** ******  **  PROGRAM STARTED AT   2026-11-29\n"
    whole = started + first.replace(calculation(2), "") + started
    second = first.replace("|a| =     5.000000", "|a| =     5.600000").replace(
        "     5.000     0.000", "     5.600     0.000"
    )
    (tmp_path / "md.log").write_text(whole + second.replace(calculation(0) + calculation(1), ""))
    found = usable(list(CP2K.read(tmp_path / "md.log")))
    assert [one.atoms.cell[0, 0] for one in found] == [5.0, 5.0, 5.6]
    assert found[2].said["energy"] == ENERGIES[2] * units.Hartree


def test_cells_that_an_older_run_has_left_are_none_of_this(run: Read) -> None:
    assert [one.atoms.cell[0, 0] for one in usable(run(cell=CELLS.replace("5.1", "5.3")))] == [5.0, 5.0, 5.0]
    with pytest.raises(
        StructureError, match=r"helium-1\.cell begins with another cell than .*md\.log: it is of another"
    ):
        run(ensemble="NPT_F", cell=CELLS.replace("0.000   5.0 0.0", "0.000   5.5 0.0"))


def test_restraints_are_in_no_label(run: Read) -> None:
    (found,) = run(" RESTRAINT| Active restraint on COLLECTIVE section Nr.     1. K [a.u.]= 0.1\n" + calculation(0))
    assert found == Unusable("its energies and forces have those of restraints (&RESTRAINT) in them")


def test_forces_of_held_coordinates_are_no_labels(run: Read) -> None:
    """CP2K sets them to zero; dynamics say so, optimisations do not."""
    whole = "".join(map(calculation, range(3)))
    said = " DOF| Number of intramolecular constraints                                     1\n"
    for output, kind in ((said + whole, "MD"), (whole.replace("-0.00500000", " 0.00000000"), "GEO_OPT")):
        found = usable(run(output, kind))
        assert not any(one.of_atoms for one in found)
        assert [one.said["energy"] for one in found] == pytest.approx([energy * units.Hartree for energy in ENERGIES])
    none = said.replace("    1\n", "    0\n")
    assert all(one.of_atoms for one in usable(run(none + whole)))


def test_energies_of_line_searches_are_those_of_their_forces(run: Read) -> None:
    """CP2K writes the energy of another calculation of the same line search."""
    wrong = frame(1, ENERGIES[0], places(1))
    (found,) = usable(run(LINE_SEARCHES + calculation(0) + calculation(1), "GEO_OPT", pos=wrong,
                          frc=frame(1, ENERGIES[0], forces(1))))  # fmt: skip
    assert found.said["energy"] == pytest.approx(ENERGIES[1] * units.Hartree, abs=1e-12)
    (left,) = run(LINE_SEARCHES + calculation(0) + calculation(1), "GEO_OPT", pos=wrong, frc="")
    assert isinstance(left, Unusable)
    assert left.reason.startswith("which calculation of a line search (conjugate gradients) it is cannot be told")


def test_names_of_kinds_are_no_elements(run: Read) -> None:
    (found,) = usable(run(pos=frame(0, ENERGIES[0], places(0), ("H1", "He_2"))))
    assert found.atoms.get_chemical_symbols() == ["H", "He"]


@pytest.mark.parametrize(
    ("pos", "reason"),
    [
        ("2\n made by hand\nH 0 0 0\n", "does not begin as CP2K writes it"),
        (frame(0, ENERGIES[0], places(0)).rpartition("\n He")[0] + "\n", "cannot be read from here on"),
        (frame(0, ENERGIES[0], places(0)).replace("0.8000000000", "************"), "cannot be read from here on"),
    ],
)
def test_what_cannot_be_read_is_told(run: Read, pos: str, reason: str) -> None:
    (found,) = run(pos=pos)
    assert isinstance(found, Unusable)
    assert found.reason.startswith(reason)


def test_forces_that_contradict_are_told(run: Read) -> None:
    (found,) = run(pos=frame(0, ENERGIES[0], places(0)), frc=frame(0, ENERGIES[0], forces(1)))
    assert found == Unusable("has other forces in helium-frc-1.xyz than in the output")


def test_what_is_missing_or_in_another_unit_is_told(run: Read, tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=r"helium-pos-1\.xyz is 1.89 times as large as what .*md\.log begins with"):
        run(pos=frame(0, ENERGIES[0], (np.array(places(0)) / units.Bohr).tolist()))
    (tmp_path / "helium-pos-1.xyz").unlink()
    with pytest.raises(StructureError, match=r"a run of type MD: expected its positions in helium-pos-1\.xyz beside"):
        list(CP2K.read(tmp_path / "md.log"))


INPUT = """&GLOBAL
  PROJECT walk
  RUN_TYPE MD
&END GLOBAL
&MOTION
  &MD
    ENSEMBLE NVE
    STEPS 4
    TIMESTEP 0.25
  &END MD
&END MOTION
&FORCE_EVAL
  METHOD QUICKSTEP
  &PRINT
    &FORCES ON
    &END FORCES
  &END PRINT
  &DFT
    BASIS_SET_FILE_NAME BASIS_MOLOPT
    POTENTIAL_FILE_NAME GTH_POTENTIALS
    &MGRID
      CUTOFF 200
    &END MGRID
    &SCF
      EPS_SCF 1.0E-7
      &OT
      &END OT
      &PRINT
        &RESTART OFF
        &END RESTART
      &END PRINT
    &END SCF
    &XC
      &XC_FUNCTIONAL PADE
      &END XC_FUNCTIONAL
    &END XC
  &END DFT
  &SUBSYS
    &CELL
      ABC 5.0 5.2 5.4
    &END CELL
    &COORD
      H 0.0 0.0 0.0
      H 0.0 0.1 0.9
      He 2.5 2.4 2.0
    &END COORD
    &KIND H
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PADE-q1
    &END KIND
    &KIND He
      BASIS_SET SZV-MOLOPT-SR-GTH
      POTENTIAL GTH-PADE-q2
    &END KIND
  &END SUBSYS
&END FORCE_EVAL
"""


@pytest.mark.skipif(shutil.which("cp2k.psmp") is None, reason="CP2K (cp2k.psmp) is not installed")
def test_forces_of_a_real_run_are_gradients_along_it(tmp_path: Path) -> None:
    """From step to step the energy falls by the mean force times the way, to third order of that."""
    (tmp_path / "walk.inp").write_text(INPUT)
    data = {"CP2K_DATA_DIR": "/usr/share/cp2k"} if Path("/usr/share/cp2k").is_dir() else {}  # Debian's
    subprocess.run(
        ["cp2k.psmp", "-i", "walk.inp", "-o", "walk.out"],
        cwd=tmp_path,
        env={**data, **os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=300,
    )
    found = usable(list(CP2K.read(tmp_path / "walk.out")))
    assert len(found) == 5
    for one, following in pairwise(found):
        way = following.atoms.positions - one.atoms.positions
        mean = (one.of_atoms["forces"] + following.of_atoms["forces"]) / 2
        fall = one.said["energy"] - following.said["energy"]
        assert abs(fall) > 0.005
        assert fall == pytest.approx((mean * way).sum(), rel=0.03)
