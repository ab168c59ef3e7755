"""ORCA, VASP, FHI-aims and GPAW: the inputs that are written, and what is made of outputs, by programs of a few lines.

``python tests/reference/codes/test_profiles.py`` writes the stored inputs anew: look at what changed.
"""

import importlib.util
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from alflow.errors import ConfigError, LabelError
from alflow.records.electrons import as_lists
from alflow.reference.codes import aims, vasp
from alflow.reference.codes import gpaw as gpaw_code
from alflow.reference.kinds import build
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.config import cfg
from ase.constraints import FixAtoms
from ase.io import read
from ase.io.orca import read_geom_orcainp

STORED = Path(__file__).parent / "stored"
PROGRAMS = ("orca", "aims", "vasp")

PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "orca": {"orcasimpleinput": "PBE def2-SVP TightSCF", "orcablocks": "%pal nprocs 4 end"},
    "aims": {"xc": "pbe", "k_grid": [3, 3, 3], "relativistic": ["atomic_zora", "scalar"], "sc_accuracy_rho": 1e-6},
    "vasp": {
        "xc": "pbe",
        "encut": 400,
        "ediff": 1e-6,
        "ismear": 0,
        "sigma": 0.05,
        "kpts": [2, 2, 2],
        "gamma": True,
        "lwave": False,
    },
}
FILES = {"orca": ("orca.inp",), "aims": ("control.in", "geometry.in"), "vasp": ("INCAR", "KPOINTS", "POSCAR")}


def structure(kind: str) -> Atoms:
    """A radical for ORCA; a salt whose species are mixed, moved a little, for the others."""
    if kind == "orca":
        atoms = molecule("OH")
        atoms.info = {"charge": 0, "multiplicity": 2}
        return atoms
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(0.05, seed=3)
    return atoms


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with potentials of VASP and basis sets of FHI-aims, and no configuration of ASE."""
    equip(tmp_path)
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path / "potentials"))
    for name in ("VASP_PP_VERSION", "ASE_VASP_COMMAND", "VASP_COMMAND", "VASP_SCRIPT", "AIMS_SPECIES_DIR"):
        monkeypatch.delenv(name, raising=False)
    for section in (*PROGRAMS, "environment"):
        monkeypatch.delitem(cfg.parser._sections, section, raising=False)
        monkeypatch.delitem(cfg.parser._proxies, section, raising=False)
    return tmp_path


def equip(folder: Path) -> None:
    (folder / "defaults_2020" / "light").mkdir(parents=True)
    for number, symbol in ((11, "Na"), (17, "Cl"), (8, "O"), (1, "H")):
        potential = folder / "potentials" / "potpaw_PBE" / symbol / "POTCAR"
        potential.parent.mkdir(parents=True)
        valence = {"Na": 1, "Cl": 7, "O": 6, "H": 1}[symbol]
        title = (
            f"   TITEL  = PAW_PBE {symbol} 01Jan2000\n   LULTRA =        F\n   IUNSCR =        1\n   RPACOR =    1.0\n"
        )
        mass = f"   POMASS =   1.000; ZVAL   = {valence:8.3f}    mass and valenz\n"
        potential.write_text(f"  PAW_PBE {symbol} 01Jan2000\n{title}{mass}")
        species = folder / "defaults_2020" / "light" / f"{number:02d}_{symbol}_default"
        species.write_text(f"  species        {symbol}\n    nucleus      {number}\n")


def method(kind: str, folder: Path, command: str | None = None, **parameters: Any) -> Any:
    given = {**PARAMETERS[kind], **parameters}
    if kind == "aims":
        given = {"species_dir": str(folder / "defaults_2020" / "light"), **given}
    return build(kind, parameters=given, command=command)


def inputs(kind: str, folder: Path, atoms: Atoms | None = None, **parameters: Any) -> dict[str, str]:
    """The files that a program finds, without lines that hold the date or end with blanks."""
    run = folder / "run"
    with pytest.raises(LabelError, match="no_output"):
        method(kind, folder, "true", **parameters).calculate(atoms or structure(kind), run)
    found = {}
    for name in FILES[kind]:
        lines = (run / name).read_text().splitlines()
        if kind == "aims":
            lines = [line for line in lines if not (line.startswith("#") and line.count(":") == 2)]
        found[name] = "".join(f"{line.rstrip()}\n" for line in lines)
    return found


@pytest.mark.parametrize("kind", PROGRAMS)
def test_the_input_is_the_stored_one(kind: str, place: Path) -> None:
    for name, text in inputs(kind, place).items():
        assert text == (STORED / name).read_text(), name


def test_the_inputs_hold_the_structure(place: Path) -> None:
    """As ASE reads them again: not the routines that wrote them."""
    inputs("orca", place)
    np.testing.assert_array_equal(read_geom_orcainp(place / "run" / "orca.inp").positions, structure("orca").positions)
    for kind, name in (("vasp", "POSCAR"), ("aims", "geometry.in")):
        inputs(kind, place)
        if kind == "vasp":
            found = read(place / "run" / name)
        else:
            with pytest.warns(FutureWarning, match="moving to the ase-io-aims plugin"):
                found = read(place / "run" / name, format="aims")
        atoms = structure(kind)
        order = np.argsort(atoms.numbers, kind="stable") if kind == "vasp" else np.arange(len(atoms))
        assert list(found.symbols) == list(atoms.symbols[order])
        np.testing.assert_allclose(found.cell[:], atoms.cell[:], atol=1e-12)
        np.testing.assert_allclose(found.positions, atoms.positions[order], atol=1e-12)


def test_charge_and_multiplicity_are_passed_on(place: Path) -> None:
    cation = molecule("H2O")
    cation.info = {"charge": 1, "multiplicity": 2}
    assert "*xyz 1 2" in inputs("orca", place, cation)["orca.inp"]
    with pytest.raises(LabelError, match="no_output"):
        build(
            "aims", command="true", parameters={"xc": "pbe", "species_dir": str(place / "defaults_2020" / "light")}
        ).calculate(cation, place / "run")
    control = (place / "run" / "control.in").read_text().split("\n")
    lines = [" ".join(line.split()) for line in control]
    assert {"charge 1", "fixed_spin_moment 1.0", "spin collinear", "compute_forces .true."} <= set(lines)
    assert not any(line.startswith("compute_analytical_stress") for line in lines)
    atoms = structure("vasp")
    atoms.info = {"charge": 0, "multiplicity": 3}
    incar = [" ".join(line.split()) for line in inputs("vasp", place, atoms)["INCAR"].splitlines()]
    assert {"ISPIN = 2", "NUPDOWN = 2.000000"} <= set(incar)
    with pytest.raises(LabelError, match=r"multiplicity 3, but parameters\.ispin = 1: leave it out"):
        method("vasp", place, "true", ispin=1).calculate(atoms)


def test_the_electrons_of_a_charged_cell_are_counted(place: Path) -> None:
    """Four of sodium with one valence electron, four of chlorine with seven, and one less."""
    atoms = structure("vasp")
    atoms.info = {"charge": 1}
    assert "NELECT = 31" in inputs("vasp", place, atoms)["INCAR"]
    assert "NELECT = 31" in inputs("vasp", place, atoms, nelect=31.0)["INCAR"]
    with pytest.raises(LabelError, match=r"nelect=32\.0, but charge=1"):
        method("vasp", place, "true", nelect=32.0).calculate(atoms)
    atoms.info = {}
    assert "NELECT" not in inputs("vasp", place, atoms)["INCAR"]


def test_initial_moments_and_charges_reach_the_input(place: Path) -> None:
    """Free to find their sum, unless a multiplicity above the lowest says it; atoms of VASP are sorted by species."""
    atoms = structure("vasp")
    moments = np.where(atoms.numbers == 11, 1.0, -0.5)
    atoms.set_initial_magnetic_moments(moments)
    incar = [" ".join(line.split()) for line in inputs("vasp", place, atoms)["INCAR"].splitlines()]
    assert {"ISPIN = 2", "MAGMOM = 4*1.0000 4*-0.5000"} <= set(incar)
    assert not any(line.startswith("NUPDOWN") for line in incar)
    atoms.info = {"multiplicity": 3}
    incar = [" ".join(line.split()) for line in inputs("vasp", place, atoms)["INCAR"].splitlines()]
    assert {"ISPIN = 2", "NUPDOWN = 2.000000", "MAGMOM = 4*1.0000 4*-0.5000"} <= set(incar)
    atoms.set_initial_charges(np.where(atoms.numbers == 11, 1.0, -1.0))
    found = inputs("aims", place, atoms)
    lines = {name: [" ".join(line.split()) for line in text.splitlines()] for name, text in found.items()}
    assert lines["geometry.in"].count("initial_moment 1.000000") == 4
    assert lines["geometry.in"].count("initial_charge -1.000000") == 4
    assert {"spin collinear", "fixed_spin_moment 2.0"} <= set(lines["control.in"])
    assert not any(line.startswith("default_initial_moment") for line in lines["control.in"])


def test_parameters_that_contradict_a_structure(place: Path) -> None:
    atoms = structure("vasp")
    atoms.info = {"multiplicity": 3}
    assert (
        method("vasp", place, ispin=1).untold(atoms).endswith("multiplicity 3, but parameters.ispin = 1: leave it out")
    )
    assert method("aims", place, spin="none").untold(atoms) == (
        "it has unpaired electrons, but parameters.spin = none: leave it out"
    )
    atoms.set_initial_magnetic_moments([2.0, *[0.0] * 7])
    assert method("vasp", place).untold(atoms) == method("aims", place).untold(atoms) == ""
    assert "and so have the parameters, magmom" in method("vasp", place, magmom=[1.0] * 8).untold(atoms)


def test_engrad_is_said_once(place: Path) -> None:
    assert "! HF STO-3G engrad\n" in inputs("orca", place, orcasimpleinput="HF STO-3G engrad")["orca.inp"]


@pytest.mark.parametrize(("kind", "pbc"), [("orca", True), ("aims", (True, True, False)), ("vasp", (1, 1, 0))])
def test_what_a_program_cannot_calculate(kind: str, pbc: Any, place: Path) -> None:
    atoms = structure("vasp")
    atoms.pbc = pbc
    with pytest.raises(LabelError, match=r"^crashed: .*, found pbc = \["):
        method(kind, place, "true").calculate(atoms)


def test_what_another_program_left_on_a_structure_is_not_seen(place: Path) -> None:
    plain = {kind: inputs(kind, place) for kind in PROGRAMS}
    for kind in PROGRAMS:
        atoms = structure(kind)
        atoms.set_initial_magnetic_moments(np.zeros(len(atoms)))
        atoms.set_initial_charges(np.zeros(len(atoms)))
        atoms.set_constraint(FixAtoms([0]))
        atoms.set_tags(71)
        atoms.set_momenta(np.ones((len(atoms), 3)))
        assert inputs(kind, place, atoms) == plain[kind]


# ---------------------------------------------------------------------------------------------------------------------
# Programs of a few lines, whose outputs are cut down to what matters

FORCE = """
def force(x):  # of an atom, eV/Å: by its place, so that an atom that is mistaken for another shows
    return [0.5 * x[0] - 0.25, -0.125 * x[1] + 0.0625 * x[2], 0.03125 * x[0] * x[2]]
"""
END = """
import os, signal, sys, time
how = sys.argv[1]
if how == "silent":
    sys.exit(0)
if how == "memory":
    print("terminate called after throwing an instance of 'std::bad_alloc'")
    sys.exit(134)
"""

ORCA = '''
atoms = [line.split() for line in open(sys.argv[-1]) if len(line.split()) == 4 and not line.startswith(("!", "*", "%"))]
assert "engrad" in open(sys.argv[-1]).readline().lower().split()
print("""
                                 *****************
                                 * O   R   C   A *
                                 *****************
                         Program Version 5.0.4  -  RELEASE  -

----------------------------
Number of atoms                             ...      %d
----------------------------
""" % len(atoms))
if how == "killed":
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
if how in ("unconverged", "unconverged and stops"):
    print("""
               *****************************************************
               *                     ERROR                         *
               *           SCF NOT CONVERGED AFTER   5 CYCLES      *
               *****************************************************
""")
else:
    print("""
               *****************************************************
               *                     SUCCESS                       *
               *           SCF CONVERGED AFTER  10 CYCLES          *
               *****************************************************

----------------
ORBITAL ENERGIES
----------------
                 SPIN UP ORBITALS
  NO   OCC          E(Eh)            E(eV)
   0   1.0000     -18.758271      -510.4385
   1   1.0000      -0.912345       -24.8262
   2   0.0000       0.101234         2.7547

                 SPIN DOWN ORBITALS
  NO   OCC          E(Eh)            E(eV)
   0   1.0000     -18.712345      -509.1888
   1   0.0000      -0.212345        -5.7782
   2   0.0000       0.111234         3.0268
*Only the first 10 virtual orbitals were printed.

                    ********************************
                    * MULLIKEN POPULATION ANALYSIS *
                    ********************************
  0   1.0000     -99.999999      -999.9999
""")
if how == "unconverged and stops":
    print("\\n".join("line %d of a report of many lines, as ORCA writes it" % k for k in range(200)))
    print("ORCA finished by error termination in SCF")
    sys.exit(25)
note = " (Wavefunction not fully converged!)" if how == "unconverged" else ""
print("-------------------------   --------------------")
print("FINAL SINGLE POINT ENERGY%s       -75.654321098765" % note)
print("-------------------------   --------------------")
if how == "cut":
    sys.exit(0)
with open("orca.engrad", "w") as file:
    print("#\\n# Number of atoms\\n#\\n %d" % len(atoms), file=file)
    print("#\\n# The current total energy in Eh\\n#\\n    -75.654321098765", file=file)
    print("#\\n# The current gradient in Eh/bohr\\n#", file=file)
    for row in atoms[how == "an atom short":]:
        for f in force([float(x) for x in row[1:]]):
            print("  %20.14f" % (-f * 0.529177210544 / 27.211386245981), file=file)
    print("#\\n# The atomic numbers and current coordinates in Bohr\\n#", file=file)
    for row in atoms:
        x = [float(x) / 0.529177210544 + 0.1 * (how == "turned") for x in row[1:]]
        print("   %d %12.7f %12.7f %12.7f" % ({"O": 8, "H": 1}[row[0]], *x), file=file)
if how == "no end":
    sys.exit(0)
print("                             ****ORCA TERMINATED NORMALLY****")
print("TOTAL RUN TIME: 0 days 0 hours 0 minutes 2 seconds 345 msec")
'''

AIMS = '''
words = [line.split() for line in open("geometry.in")]
cell = [[float(x) for x in w[1:4]] for w in words if w[:1] == ["lattice_vector"]]
atoms = [([float(x) for x in w[1:4]], w[4]) for w in words if w[:1] == ["atom_frac"]]
atoms = [([sum(s * a[k] for s, a in zip(scaled, cell)) for k in range(3)], symbol) for scaled, symbol in atoms]
control = [" ".join(line.split()) for line in open("control.in")]
assert "compute_forces .true." in control and "compute_analytical_stress .true." in control
print("""------------------------------------------------------------
          Invoking FHI-aims ...

  FHI-aims version      : 240507
  Commit number         : 1234567

  | Number of atoms                   :        %d
  | Number of spin channels           :        1
  Input geometry:
  | Unit cell:""" % len(atoms))
for row in cell:
    print("  |   %16.8f %16.8f %16.8f" % tuple(row))
print("  | Atomic structure:\\n  |       Atom                x [A]            y [A]            z [A]")
for k, (x, symbol) in enumerate(atoms):
    print("  | %4d: Species %-2s %20.8f %16.8f %16.8f" % (k + 1, symbol, *x))
print("""
  | Number of k-points             :        14
  The structure contains        8 atoms,  and a total of        112.000 electrons.
  | Number of Kohn-Sham states (occupied + empty):       80
------------------------------------------------------------
          Begin self-consistency loop: Initialization.

  Convergence:    q app. |  density  | eigen (eV) | Etot (eV) | forces (eV/A) |       CPU time |     Clock time
  SCF    1 :  0.13E+00 |  0.30E+01 |  -0.21E+03 |  -0.15E+05 |             . |        0.119 s |        0.120 s
  | Electronic free energy per atom   :      -4211.51234567 eV
""")
if how == "killed":
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
if how.startswith("unconverged"):
    print("  Self-consistency cycle not yet converged - restarting mixer to attempt better convergence.")
    print("  WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE")
    if how == "unconverged and stops":
        print("\\n".join("line %d of a report of many lines, as FHI-aims writes it" % k for k in range(200)))
        print("  *** scf_solver: SCF cycle not converged.")
        sys.exit(1)
elif how == "never says":
    pass
else:
    print("  Self-consistency cycle not yet converged - restarting mixer to attempt better convergence.")
    print("  Self-consistency cycle converged.")
print("""
  | Chemical potential (Fermi level):    -5.62345678 eV

  Energy and forces in a compact form:
  | Total energy uncorrected      :         -0.336921234567890E+05 eV
  | Total energy corrected        :         -0.336922234567890E+05 eV  <-- do not rely on this value for anything
  | Electronic free energy        :         -0.336923234567890E+05 eV
""")
print("  Total atomic forces (unitary forces cleaned) [eV/Ang]:")
for k, (x, symbol) in enumerate(atoms[how == "an atom short":]):
    print("  | %4d %30.15E %30.15E %30.15E" % (k + 1, *force(x)))
if how == "cut":
    sys.exit(0)
print("""
  +-------------------------------------------------------------------+
  |              Analytical stress tensor - Symmetrized               |
  |                  Cartesian components [eV/A**3]                   |
  +-------------------------------------------------------------------+
  |                x                y                z                |
  |                                                                   |
  |  x         0.00100000       0.00400000       0.00500000           |
  |  y         0.00400000       0.00200000       0.00600000           |
  |  z         0.00500000       0.00600000       0.00300000           |
  |                                                                   |
  |  Pressure:      -0.00200000   [eV/A**3]                            |
  +-------------------------------------------------------------------+

          Have a nice day.
------------------------------------------------------------""")
'''

VASP = '''
lines = open("POSCAR").read().splitlines()
cell = [[float(x) for x in line.split()] for line in lines[2:5]]
symbols = [s for s, n in zip(lines[5].split(), lines[6].split()) for _ in range(int(n))]
assert lines[7].startswith("Cartesian")
atoms = [[float(x) for x in line.split()[:3]] for line in lines[8 : 8 + len(symbols)]]
assert os.path.isfile("POTCAR") and os.path.isfile("INCAR") and os.path.isfile("KPOINTS")
print(" running on    4 total cores\\n vasp.6.4.2 20Jul23 (build Jan  1 2024 00:00:00) complex")
outcar = open("OUTCAR", "w")
outcar.write(""" vasp.6.4.2 20Jul23 (build Jan  1 2024 00:00:00) complex
   NELM   =     60;   NELMIN=  2; NELMDL= -5     # of ELM steps
   EDIFF  = 0.1E-05   stopping-criterion for ELM
--------------------------------------- Iteration      1(   1)  ---------------------------------------
 total energy-change (2. order) :-0.2141803E-01  (-0.2737684E-01)
""")
outcar.flush()
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how in ("unconverged", "unconverged and stops"):
    outcar.write("------------------------ aborting loop EDIFF was not reached (unconverged) ---------------------\\n")
elif how in ("never says", "old"):
    outcar.write("------------------------ Iteration      1(%4d)  -----------------\\n" % (60 if how != "old" else 12))
else:
    outcar.write("------------------------ aborting loop because EDIFF is reached -------------------------------\\n")
v = lambda row: "<v> %.16f %.16f %.16f </v>" % tuple(row)
basis = "<crystal><varray name='basis'>%s</varray></crystal>" % "".join(map(v, cell))
scaled = [[x / cell[k][k] for k, x in enumerate(row)] for row in atoms]  # a cubic cell
places = basis + "<varray name='positions'>%s</varray>" % "".join(map(v, scaled))
energy = "<energy><i name='e_fr_energy'>-27.5</i><i name='e_0_energy'>-27.4</i></energy>"
forces = "".join(v(force(x)) for x in atoms)
stress = "".join(map(v, [[10, 40, 50], [40, 20, 60], [50, 60, 30]]))
with open("vasprun.xml", "w") as file:
    file.write("<?xml version='1.0' encoding='ISO-8859-1'?><modeling>")
    file.write("<kpoints><varray name='kpointlist'><v>0 0 0</v></varray>")
    file.write("<varray name='weights'><v>1</v></varray></kpoints>")
    rc = "".join("<rc><c>%s</c><c>1</c></rc>" % symbol for symbol in symbols)
    file.write("<atominfo><array name='atoms'><set>%s</set></array></atominfo>" % rc)
    file.write("<structure name='initialpos'>%s</structure>" % places)
    if how == "cut":
        sys.exit(0)
    file.write("<calculation><scstep>%s</scstep><structure>%s</structure>" % (energy, places))
    file.write("<varray name='forces'>%s</varray><varray name='stress'>%s</varray>" % (forces, stress))
    file.write("%s<dos><i name='efermi'>1.25</i></dos></calculation></modeling>" % energy)
if how == "no end":
    sys.exit(0)
outcar.write(" General timing and accounting informations for this job:\\n")
outcar.close()
'''
SOURCES = {"orca": ORCA, "aims": AIMS, "vasp": VASP}


@pytest.fixture
def program(place: Path) -> Callable[..., Any]:
    """A method whose program behaves in a certain way."""

    def made(kind: str, how: str) -> Any:
        script = place / f"{kind}.py"
        script.write_text(END + FORCE + SOURCES[kind])
        return method(kind, place, f"{sys.executable} '{script}' '{how}'")

    return made


def expected_forces(atoms: Atoms) -> np.ndarray:
    scope: dict[str, Any] = {}
    exec(FORCE, scope)  # of this file
    return np.array([scope["force"](x) for x in atoms.positions])


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_converged_calculation(kind: str, program: Callable[..., Any], tmp_path: Path) -> None:
    method = program(kind, "fine")
    method.check()
    atoms = structure(kind)
    before = atoms.copy()
    result = method.calculate(atoms, tmp_path / "run")
    assert atoms == before
    assert result.frame.info == atoms.info
    assert atoms.calc is None
    assert result.code == {"orca": "ORCA 5.0.4", "aims": "FHI-aims 240507", "vasp": "VASP 6.4.2"}[kind]
    energy = {"orca": -75.654321098765 * units.Hartree, "aims": -33692.3234567890, "vasp": -27.5}[kind]
    assert result.frame.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(result.frame.get_forces(), expected_forces(atoms), atol=1e-9)
    if kind != "orca":
        scale = {"aims": 0.001, "vasp": -0.1 * units.GPa * 10}[kind]
        np.testing.assert_allclose(result.frame.get_stress(), scale * np.array([1, 2, 3, 6, 5, 4]), rtol=1e-9)
        assert result.electrons.fermi_energy == {"aims": -5.62345678, "vasp": 1.25}[kind]
    if kind == "aims":
        assert result.plain_energy == pytest.approx(-33692.1234567890, abs=1e-9)  # without -TS
    assert {"orca": "TOTAL RUN TIME", "aims": "Have a nice day", "vasp": "running on"}[kind] in result.log
    np.testing.assert_array_equal(method.calculate(atoms).frame.get_forces(), result.frame.get_forces())


def test_orbital_energies_of_orca(program: Callable[..., Any]) -> None:
    extra = as_lists(program("orca", "fine").calculate(structure("orca")).electrons)
    assert extra["occupations"] == [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    np.testing.assert_allclose(extra["eigenvalues"][1], [-509.1888, -5.7782, 3.0268], atol=2e-4)


def test_vasp_5_that_does_not_say_why_it_ended(program: Callable[..., Any]) -> None:
    """12 of 60 iterations are as many as it needed."""
    assert program("vasp", "old").calculate(structure("vasp")).frame.get_potential_energy() == -27.5


@pytest.mark.parametrize(
    ("kind", "how", "reason"),
    [
        *((kind, "unconverged", "not_converged") for kind in PROGRAMS),
        *((kind, "unconverged and stops", "not_converged") for kind in PROGRAMS),
        ("aims", "never says", "not_converged"),
        ("vasp", "never says", "not_converged"),
        *((kind, "killed", "crashed") for kind in PROGRAMS),
        *((kind, "cut", "no_output") for kind in PROGRAMS),
        *((kind, "silent", "no_output") for kind in PROGRAMS),
        ("orca", "an atom short", "no_output"),
        ("orca", "turned", "no_output"),
        ("orca", "no end", "no_output"),
        ("vasp", "no end", "no_output"),
        ("aims", "an atom short", "no_output"),
        *((kind, "memory", "out_of_memory") for kind in PROGRAMS),
    ],
)
def test_failures_have_reasons(kind: str, how: str, reason: str, program: Callable[..., Any]) -> None:
    with pytest.raises(LabelError) as caught:
        program(kind, how).calculate(structure(kind))
    assert caught.value.reason == reason, caught.value.detail
    last = {"memory": "bad_alloc", "killed": "SIGKILL"}
    assert last.get(how, "") in caught.value.detail
    assert pickle.loads(pickle.dumps(caught.value)).detail == caught.value.detail


# ---------------------------------------------------------------------------------------------------------------------
# Outputs that the programs themselves have written, of the tests of ASE

OUTPUTS = Path(ase.__file__).parent / "test" / "testdata"
written = pytest.mark.skipif(not OUTPUTS.is_dir(), reason="this ASE has come without the data of its tests")


@written
def test_an_output_of_aims(tmp_path: Path) -> None:
    text = (OUTPUTS / "aims" / "singlepoint.out").read_text()
    with pytest.warns(FutureWarning, match="ase-io-aims"):
        atoms = read(OUTPUTS / "aims" / "singlepoint.out", format="aims-output")
    result = aims.read_output(OUTPUTS / "aims" / "singlepoint.out", atoms, "")
    assert result.frame.get_potential_energy() == -0.206302072675943e4
    np.testing.assert_array_equal(result.frame.get_forces(), atoms.get_forces())
    assert as_lists(result.electrons) == {"fermi_energy": -4.97602930}
    converged = "Self-consistency cycle converged."
    assert text.count(converged) == 1
    unconverged = text.replace(converged, "WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE")
    for changed, reason in (
        (unconverged, "not_converged"),
        (text.replace(converged, f"{converged}\n  WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE"), "not_converged"),
        (text.replace(converged, ""), "not_converged"),
        (text[: text.index(converged)], "no_output"),
        (text[: text.index("Have a nice day")], "no_output"),
    ):
        (tmp_path / "aims.out").write_text(changed)
        with pytest.raises(LabelError) as caught:
            aims.read_output(tmp_path / "aims.out", atoms, "")
        assert caught.value.reason == reason


@written
@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("convergence_OUTCAR_y_n", "not_converged", r"aborting loop EDIFF was not reached \(unconverged\)"),
        ("convergence_OUTCAR_y_y", "no_output", r"VASP wrote nothing to vasprun\.xml"),
        ("OUTCAR_example_1", "no_output", r"VASP wrote nothing to vasprun\.xml"),
    ],
)
def test_outputs_of_vasp(name: str, reason: str, detail: str, tmp_path: Path) -> None:
    """OUTCAR alone decides whether it converged; only then is the other file read."""
    text = (OUTPUTS / "vasp" / name).read_text()
    end = "" if "General timing" in text else " General timing and accounting informations for this job:\n"
    (tmp_path / "OUTCAR").write_text(text + end)
    with pytest.raises(LabelError, match=detail) as caught:
        vasp.read_output(tmp_path, structure("vasp"), list(range(8)), "")
    assert caught.value.reason == reason


def test_where_the_energy_without_entropy_stands() -> None:
    """As VASP 6 and GPAW 24 print it: neither the free energy nor what both extrapolate to no smearing."""
    text = "  energy without entropy =      -80.1  energy(sigma->0) =      -80.2\n"
    text += "  free  energy   TOTEN  =       -76.09100394 eV\n\n"
    text += "  energy  without entropy=      -76.08100394  energy(sigma->0) =      -76.08600394\n"
    assert vasp._PLAIN.findall(text)[-1] == "-76.08100394"
    text = "XC:             -24.279425\nEntropy (-ST):   -0.381921\nLocal:           -0.018721\n"
    text += "--------------------------\nFree energy:    -10.229926\nExtrapolated:   -10.038965\n"
    assert gpaw_code._ENTROPY.findall(text) == ["-0.381921"]


# ---------------------------------------------------------------------------------------------------------------------
# Before anything is submitted


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("orca", {"charge": 1}, r"parameters\.charge: charge and multiplicity are those of \[\[system\]\]: leave it"),
        ("orca", {"simpleinput": "HF"}, r"no parameter simpleinput: expected orcasimpleinput or orcablocks"),
        ("orca", {"orcasimpleinput": "HF STO-3G TightOpt"}, r"has TightOpt: atoms are not moved: one calculation"),
        ("orca", {"orcasimpleinput": "HF NumFreq"}, r"has NumFreq: atoms are not moved"),
        ("orca", {"orcablocks": "%md\n run 10\nend"}, r"orcablocks has %md: atoms are not moved"),
        ("orca", {"orcablocks": "*xyzfile 0 1 other.xyz"}, r"orcablocks has \* ?xyzfile: the structure is alflow's"),
        ("aims", {"relax_geometry": "bfgs 1e-2"}, r"parameters\.relax_geometry: atoms are not moved"),
        ("aims", {"MD_run": "0.1 NVE"}, r"parameters\.MD_run: atoms are not moved"),
        ("aims", {"kpts": [2, 2, 2]}, r"has kpts and k_grid, which say the same: leave one out"),
        ("aims", {"species_dir": "light"}, r"species_dir: light: expected an absolute path of a folder"),
        ("aims", {"species_dir": "/no/light"}, r"species_dir: /no/light: expected an absolute path of a folder"),
        ("vasp", {"ibrion": 2}, r"parameters\.ibrion = 2: atoms are not moved"),
        ("vasp", {"nsw": 10}, r"parameters\.nsw = 10: atoms are not moved"),
        ("vasp", {"custom": {"NSW": 10}}, r"parameters\.nsw = 10: atoms are not moved"),
        ("vasp", {"encutt": 400}, r"ASE knows no tag encutt: did you mean encut\? Others are given in a table, custom"),
        ("vasp", {"ENCUT": 400}, r"ASE knows no tag ENCUT: did you mean encut\? "),
        ("vasp", {"charge": 1}, r"parameters\.charge: charge and multiplicity are those of \[\[system\]\]: leave it"),
        ("vasp", {"directory": "x"}, r"parameters\.directory: alflow sets it: leave it out"),
    ],
)
def test_parameters_that_cannot_be(kind: str, parameters: dict[str, Any], message: str, place: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        method(kind, place, "true", **parameters).check()
    assert "\n" not in str(caught.value)


def test_names_that_only_look_like_an_optimization(place: Path) -> None:
    method("orca", place, "true", orcasimpleinput="DLPNO-CCSD(T) cc-pVDZ-F12 cc-pVDZ-F12-OptRI").check()
    method("vasp", place, "true", nsw=0, ibrion=-1, custom={"LNEWTAG": True}).check()


@pytest.mark.parametrize(("kind", "name"), [("orca", "orcasimpleinput"), ("aims", "xc"), ("vasp", "xc")])
def test_no_method_is_chosen_for_the_user(kind: str, name: str, place: Path) -> None:
    light = {"species_dir": str(place / "defaults_2020" / "light")} if kind == "aims" else {}
    with pytest.raises(ConfigError, match=rf"reference\.parameters\.{name} is missing: "):
        build(kind, parameters=light, command="true").check()


@pytest.mark.parametrize("kind", PROGRAMS)
def test_where_the_program_is(kind: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"reference: command: no program /no/such on PATH: install it"):
        method(kind, place, "/no/such").check()
    with pytest.raises(ConfigError, match=r"reference\.command is missing, and "):
        method(kind, place).check()
    if kind == "vasp":
        monkeypatch.setenv("ASE_VASP_COMMAND", "true")
    else:
        cfg.parser.read_dict({kind: {"command": "true"}})
    method(kind, place).check()
    with pytest.raises(LabelError, match="no_output"):
        method(kind, place).calculate(structure(kind))


def test_where_potentials_and_basis_sets_are(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = build("aims", parameters={"xc": "pbe"}, command="true")
    with pytest.raises(ConfigError, match=r"species_dir is missing, and neither .* nor AIMS_SPECIES_DIR says it: give"):
        bare.check()
    monkeypatch.setenv("AIMS_SPECIES_DIR", str(place / "defaults_2020" / "light"))
    bare.check()
    monkeypatch.setenv("VASP_PP_PATH", "/no/such")
    with pytest.raises(ConfigError, match=r"VASP_PP_PATH = /no/such is no folder: set it to the folder that has"):
        method("vasp", place, "true").check()
    monkeypatch.delenv("VASP_PP_PATH")
    with pytest.raises(ConfigError, match=r"VASP_PP_PATH is not set: set it to the folder that has potpaw_PBE"):
        method("vasp", place, "true").check()


def test_a_species_without_potential(place: Path) -> None:
    with pytest.raises(LabelError, match=r"crashed: VASP: the input cannot be written: Looking for .*Si/POTCAR"):
        method("vasp", place, "true").calculate(bulk("Si", cubic=True))
    with pytest.raises(LabelError, match=r"crashed: FHI-aims: the input cannot be written: .*14_Si_default"):
        method("aims", place, "true").calculate(bulk("Si", cubic=True))


def test_the_shell_of_ase(program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """ASE_VASP_COMMAND is a line for a shell, in ASE and here."""
    command = program("vasp", "fine").command
    monkeypatch.setenv("ASE_VASP_COMMAND", f"true && {command}")
    found = build("vasp", parameters=PARAMETERS["vasp"])
    found.check()
    assert found.calculate(structure("vasp")).code == "VASP 6.4.2"


@pytest.mark.parametrize("kind", PROGRAMS)
def test_identity(kind: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what decides the result: not of the program's path, nor of where basis sets lie."""
    one = method(kind, place, "true")
    assert one.identity() == method(kind, place, "mpirun -np 4 true").identity()
    assert one.identity() != method(kind, place, "true", orcasimpleinput="HF", xc="lda").identity()
    assert str(place) not in one.identity()
    assert pickle.loads(pickle.dumps(one)).identity() == one.identity()
    if kind == "vasp":
        monkeypatch.setenv("VASP_PP_VERSION", "54")
        assert method(kind, place, "true").identity() == method(kind, place, pp_version="54").identity()


# ---------------------------------------------------------------------------------------------------------------------
# GPAW itself, where it is

gpaw = pytest.mark.skipif(importlib.util.find_spec("gpaw") is None, reason="GPAW is not installed")
LCAO = {"mode": {"name": "lcao"}, "basis": "dzp", "xc": "PBE", "symmetry": "off"}


def hydrogen(distance: float = 0.8) -> Atoms:
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, distance]], cell=[6, 6, 6.5])
    atoms.center()
    return atoms


@gpaw
def test_gpaw_forces_are_minus_the_gradient() -> None:
    method = build("gpaw", parameters={**LCAO, "convergence": {"density": 1e-7}})
    method.check()
    result = method.calculate(hydrogen())
    assert result.code.startswith("GPAW 2")
    assert "stress" not in result.frame.calc.results
    assert "Fermi level" in result.log or "Total" in result.log
    assert result.electrons.eigenvalues.shape[2] >= 2
    h, energies = 5e-3, []
    for sign in (1, -1):
        moved = hydrogen()
        moved.positions[1, 2] += sign * h
        energies.append(method.calculate(moved).frame.get_potential_energy())
    expected = -(energies[0] - energies[1]) / (2 * h)
    assert result.frame.get_forces()[1, 2] == pytest.approx(expected, abs=5e-3)


@gpaw
def test_gpaw_that_does_not_converge(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"not_converged: KohnShamConvergenceError\n(.|\n)*iter:"):
        build("gpaw", parameters={**LCAO, "maxiter": 2}).calculate(hydrogen(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["gpaw.txt"]


@gpaw
def test_gpaw_charge_and_multiplicity() -> None:
    """An ion of one electron has only one level filled; three unpaired spins are an excited state."""
    method = build("gpaw", parameters=LCAO)
    neutral = method.calculate(hydrogen()).frame.get_potential_energy()
    ion, triplet = hydrogen(), hydrogen()
    ion.info = {"charge": 1, "multiplicity": 2}
    triplet.info = {"multiplicity": 3}
    charged = method.calculate(ion)
    assert charged.electrons.occupations.sum() == pytest.approx(1)
    excited = method.calculate(triplet)
    assert excited.electrons.occupations.sum(axis=(1, 2)).tolist() == pytest.approx([2, 0])
    assert excited.frame.get_potential_energy() > neutral + 5


@gpaw
@pytest.mark.slow
def test_gpaw_stress_is_the_gradient() -> None:
    parameters = {"mode": {"name": "pw", "ecut": 300, "dedecut": "estimate"}, "xc": "PBE", "kpts": [2, 2, 2]}
    method = build("gpaw", parameters={**parameters, "convergence": {"density": 1e-6}})
    atoms = bulk("Si", a=5.3)
    result = method.calculate(atoms)
    h, energies = 5e-3, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.set_cell(atoms.cell[:] * (1 + sign * h), scale_atoms=True)
        energies.append(method.calculate(moved).frame.get_potential_energy())
    expected = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume() / 3
    assert result.frame.get_stress()[:3].mean() == pytest.approx(expected, abs=1e-3)
    assert np.isfinite(result.electrons.fermi_energy)


def test_gpaw_before_anything_is_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"reference\.parameters\.mode is missing: "):
        build("gpaw").check()
    for name in ("charge", "txt"):
        with pytest.raises(ConfigError, match=rf"reference\.parameters\.{name}: .*: leave it out"):
            build("gpaw", parameters={**LCAO, name: 1}).check()
    monkeypatch.setitem(sys.modules, "gpaw", None)
    with pytest.raises(ConfigError, match=r"reference: GPAW cannot be imported \(.*\): pip install gpaw"):
        build("gpaw", parameters=LCAO).check()
    assert build("gpaw", parameters=LCAO).code() == "GPAW"
    assert build("gpaw", parameters=LCAO).identity() != build("gpaw", parameters={**LCAO, "xc": "LDA"}).identity()


if __name__ == "__main__":
    import tempfile

    for name in PROGRAMS:
        with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
            equip(Path(made))
            patch.setenv("VASP_PP_PATH", str(Path(made) / "potentials"))
            for file, content in inputs(name, Path(made)).items():
                (STORED / file).write_text(content)
