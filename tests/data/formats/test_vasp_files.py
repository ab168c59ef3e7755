"""vasprun.xml and OUTCAR: which steps are labels, and which energy is which."""

from pathlib import Path

import ase.io
import ase.test
import numpy as np
import pytest
from alflow.data.formats import format_of
from alflow.data.formats.base import Entry, Unusable
from alflow.errors import StructureError
from ase import units

DATA = Path(ase.test.__file__).parent / "testdata" / "vasp"
CELL = np.array([[4.0, 0, 0], [0.5, 5, 0], [0, 0, 6]])
PLACES = np.array([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]])
FORCES = np.array([[0.1, -0.2, 0.3], [-0.1, 0.2, -0.3]])
STRESS = np.array([[10, 40, 50], [40, 20, 60], [50, 60, 30]])  # kbar
KBAR = 0.1 * units.GPa


def varray(name: str, rows: np.ndarray) -> str:
    return f'<varray name="{name}">' + "".join(f"<v> {' '.join(map(str, row))} </v>" for row in rows) + "</varray>"


def energy(free: float, without: float) -> str:
    return f'<energy><i name="e_fr_energy"> {free} </i><i name="e_0_energy"> {without} </i></energy>'


STRUCTURE = f"<structure><crystal>{varray('basis', CELL)}</crystal>{varray('positions', PLACES)}</structure>"
# as VASP 5.4 writes a step: E0 of the whole is wrong, and dispersion (-0.5) is in the whole alone
STEP = (
    "<calculation>{loops}" + STRUCTURE + varray("forces", FORCES) + varray("stress", STRESS)
) + f"{energy(-10.5, 77.0)}</calculation>"
LOOP = f"<scstep>{energy(-10.0, -9.9)}</scstep>"
GOOD = STEP.format(loops=3 * LOOP)
BEGINNING = (
    '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>'
    '<incar><i type="int" name="NELM">4</i></incar>'
    '<parameters><separator name="electronic"><i type="int" name="NELM">4</i></separator>{more}</parameters>'
    '<atominfo><array name="atoms"><set><rc><c>r </c><c>1</c></rc><rc><c>O </c><c>2</c></rc></set></array></atominfo>'
    '<structure name="initialpos">'
    "<crystal></crystal>{fixed}</structure>"
)
SELECTIVE = '<varray name="selective"><v type="logical"> F  F  F </v><v type="logical"> T  T  F </v></varray>'


def of_xml(folder: Path, steps: str, *, more: str = "", fixed: str = "", end: str = "</modeling>") -> list:
    path = folder / "run-3.xml"
    path.write_text(BEGINNING.format(more=more, fixed=fixed) + steps + end)
    known = format_of(path)
    assert (known.name, known.units) == ("vasprun.xml of VASP", "own")
    return list(known.entries(path))


def test_vasprun_has_both_energies_and_the_gradient_of_one(tmp_path: Path) -> None:
    (found,) = of_xml(tmp_path, GOOD)
    assert isinstance(found, Entry)
    assert found.said["free_energy"] == -10.5
    assert found.said["energy"] == pytest.approx(-10.4)
    np.testing.assert_allclose(found.said["stress"], -KBAR * np.array([10, 20, 30, 60, 50, 40]), rtol=1e-12)
    np.testing.assert_array_equal(found.of_atoms["forces"], FORCES)
    np.testing.assert_allclose(found.atoms.positions, PLACES @ CELL)
    assert found.atoms.get_chemical_symbols() == ["Zr", "O"]  # VASP writes "r " for the first
    assert (found.atoms.pbc.all(), found.atoms.constraints) == (True, [])


def test_the_energy_is_no_enthalpy(tmp_path: Path) -> None:
    (found,) = of_xml(tmp_path, GOOD, more='<i name="PSTRESS"> 10.0 </i>')
    assert found.said["free_energy"] == pytest.approx(-10.5 - 10 * KBAR * 120, rel=1e-6)  # 120 Å^3


def test_steps_that_are_no_labels_are_told_in_their_place(tmp_path: Path) -> None:
    first, used_all, learned, odd, last = of_xml(
        tmp_path, GOOD + STEP.format(loops=4 * LOOP) + STEP.format(loops="") + GOOD.replace("-10.5", "******") + GOOD
    )
    assert isinstance(first, Entry)
    assert isinstance(last, Entry)
    assert used_all == Unusable("did not converge in its 4 electronic steps")
    assert learned == Unusable("has no electronic steps: expected a calculation")
    assert odd.reason.startswith("cannot be read as VASP writes it (ValueError")


def test_steps_of_a_force_field_are_told(tmp_path: Path) -> None:
    steps = GOOD + STEP.format(loops="")
    first, learned = of_xml(tmp_path, steps, more='<i type="logical" name="ML_LMLFF"> T  </i>')
    assert isinstance(first, Entry)
    assert learned.reason.startswith("is of VASP's machine-learned force field, no calculation")


def test_a_killed_run_has_the_steps_before(tmp_path: Path) -> None:
    for end in ("", GOOD[:200], GOOD[: GOOD.index("<varray")], GOOD[: -len("</calculation>")]):
        first, second, *rest = of_xml(tmp_path, GOOD + GOOD, end=end)
        assert isinstance(first, Entry)
        assert isinstance(second, Entry)
        assert rest == ([Unusable("the file ends in it: VASP was stopped, or still runs")] if end else [])
    with pytest.raises(StructureError, match=r"run-3.xml cannot be read as vasprun.xml .*: expected steps of VASP"):
        of_xml(tmp_path, "", end="")


def test_selective_dynamics_are_constraints(tmp_path: Path) -> None:
    (found,) = of_xml(tmp_path, GOOD, fixed=SELECTIVE)
    whole, part = found.atoms.constraints
    assert whole.index.tolist() == [0]
    assert (part.index.tolist(), part.mask.tolist()) == ([1], [False, False, True])


@pytest.mark.parametrize("name", ["vasprun_pstress.xml", "vasprun_dfpt.xml"])
def test_files_of_vasp_are_read_as_ase_reads_them(name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip("this ASE comes without its tests")
    (found,) = format_of(DATA / name).entries(DATA / name)
    known = ase.io.read(DATA / name)
    assert isinstance(found, Entry)
    np.testing.assert_allclose(found.atoms.positions, known.positions, atol=1e-12)
    np.testing.assert_allclose(found.of_atoms["forces"], known.calc.results["forces"])
    for key in ("energy", "free_energy", "stress"):
        np.testing.assert_allclose(found.said[key], known.calc.results[key], rtol=1e-8)


HEADER = """ vasp.6.4.2 20Jul23 (build Jan  1 2024 00:00:00) complex
 POTCAR:    PAW_PBE Zr_sv 04Jan2005
 POTCAR:    PAW_PBE O 08Apr2002
 POTCAR:    PAW_PBE Zr_sv 04Jan2005
 POTCAR:    PAW_PBE O 08Apr2002
   ISPIN  =      1    spin polarized calculation?
   NELM   =      4;   NELMIN=  2; NELMDL= -5     # of ELM steps
   ions per type =               1   1
"""
ITERATION = "--------------------------------------- Iteration      {step}(   {loop})  ---------------------------\n"
REACHED = "------------------------ aborting loop because EDIFF is reached ----------------------------------------\n"
NOT_REACHED = "------------------------ aborting loop EDIFF was not reached (unconverged) ---------------------------\n"
BLOCK = """  {ml}FORCE on cell =-STRESS in cart. coord.  units (eV):
  in kB      10.0 20.0 30.0 40.0 60.0 50.0
      direct lattice vectors                 reciprocal lattice vectors
     4.0  0.0  0.0     0.25 0.0 0.0
     0.5  5.0  0.0     0.0  0.2 0.0
     0.0  0.0  6.0     0.0  0.0 0.16

 POSITION                                       TOTAL-FORCE (eV/Angst){back}
 -----------------------------------------------------------------------------------
      0.50000      1.00000      1.80000         0.100000     -0.200000      0.300000
      2.75000      3.50000      4.80000        -0.100000      0.200000     -0.300000
 -----------------------------------------------------------------------------------

  {ml}FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy {between} TOTEN  =       -10.50000000 eV

  {ml}energy  without entropy=      -10.30000000  {ml}energy(sigma->0) =      -10.40000000

"""
DFT = BLOCK.format(ml="", back="", between=" ")
LEARNED = BLOCK.format(ml="ML ", back=" (ML)", between="ML")
TIMING = " General timing and accounting informations for this job:\n"


def loops(count: int, end: str = REACHED) -> str:
    return "".join(ITERATION.format(step=1, loop=k + 1) for k in range(count)) + end


def of_outcar(folder: Path, text: str) -> list:
    path = folder / "OUTCAR.first"
    path.write_text(HEADER + text)
    known = format_of(path)
    assert (known.name, known.units) == ("OUTCAR of VASP", "own")
    return list(known.entries(path))


def test_outcar_has_the_same(tmp_path: Path) -> None:
    (found,) = of_outcar(tmp_path, loops(3) + DFT + TIMING)
    assert isinstance(found, Entry)
    assert (found.said["free_energy"], found.said["energy"]) == (-10.5, -10.4)
    np.testing.assert_allclose(found.said["stress"], -KBAR * np.array([10, 20, 30, 60, 50, 40]), rtol=1e-12)
    np.testing.assert_array_equal(found.of_atoms["forces"], FORCES)
    np.testing.assert_allclose(found.atoms.positions, PLACES @ CELL)
    assert found.atoms.get_chemical_symbols() == ["Zr", "O"]
    assert (found.atoms.calc, found.atoms.constraints) == (None, [])


def test_unconverged_steps_of_outcar_are_told(tmp_path: Path) -> None:
    said, of_five, exactly, stopped, good = of_outcar(
        tmp_path,
        loops(4, NOT_REACHED) + DFT
        + loops(4, "") + DFT  # VASP 5 says nothing
        + loops(4) + DFT
        + loops(2, REACHED.replace("EDIFF is reached", "hard stop was set")) + DFT
        + loops(1) + DFT + TIMING,
    )  # fmt: skip
    assert said == Unusable("aborting loop EDIFF was not reached (unconverged)")
    assert of_five == Unusable("did not converge in its 4 electronic steps")
    assert isinstance(exactly, Entry)
    assert stopped == Unusable("aborting loop because hard stop was set")
    assert isinstance(good, Entry)


def test_a_stopped_outcar_has_the_steps_before(tmp_path: Path) -> None:
    first, cut = of_outcar(tmp_path, loops(3) + DFT + loops(2, "") + DFT[:300])
    assert isinstance(first, Entry)
    assert cut == Unusable("the file ends in it: VASP was stopped, or still runs")
    (tmp_path / "OUTCAR").write_text(HEADER[:100])
    with pytest.raises(StructureError, match=r"cannot be read as OUTCAR of VASP .*: expected a whole beginning"):
        list(format_of(tmp_path / "OUTCAR").entries(tmp_path / "OUTCAR"))


def test_predictions_of_its_force_field_are_no_labels(tmp_path: Path) -> None:
    """On the fly each step is predicted, and some are calculated after that."""
    calculated = LEARNED + loops(3) + DFT
    first, second, third, fourth = of_outcar(tmp_path, calculated + LEARNED + calculated + LEARNED + TIMING)
    for found in (first, third):
        assert isinstance(found, Entry)
        assert found.said["free_energy"] == -10.5
    for found in (second, fourth):
        assert isinstance(found, Unusable)
        assert "machine-learned force field" in found.reason
    assert all(isinstance(found, Unusable) for found in of_outcar(tmp_path, 3 * LEARNED + TIMING))


def test_constraints_are_those_of_the_structure_beside_it(tmp_path: Path) -> None:
    rows = "0.1 0.2 0.3 F F F\n0.6 0.7 0.8 T T T\n"
    (tmp_path / "CONTCAR").write_text(f"x\n1\n4 0 0\n0.5 5 0\n0 0 6\nZr O\n1 1\nSelective\nDirect\n{rows}")
    (found,) = of_outcar(tmp_path, loops(3) + DFT + TIMING)
    assert [constraint.index.tolist() for constraint in found.atoms.constraints] == [[0]]
