"""The tables ``[reference]`` and ``[baseline]``: methods that give energies and forces."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from alflow.section import Count, Positive, Section

_COMMAND = "program with its arguments, mpirun included; files of the run directory are found"
_PROFILE = "program with its arguments; by default what ASE's own configuration file says"

Variables = dict[str, str | int | float]
Parameters = Annotated[dict[str, Any], Field(description="keyword arguments of ASE's calculator, a table")]


class Tblite(Section):
    """Extended tight binding by tblite."""

    kind: Literal["tblite"] = Field("tblite", description="extended tight binding")
    method: Literal["GFN2-xTB", "GFN1-xTB", "IPEA1-xTB"] = Field("GFN2-xTB", description="parametrisation")
    accuracy: Positive = Field(1.0, description="numerical accuracy; smaller is tighter")
    electronic_temperature: Positive = Field(300.0, description="of the Fermi smearing, K")
    max_iterations: Count = Field(250, description="iterations until the charges must be self-consistent")


class Pyscf(Section):
    """Molecules by PySCF."""

    kind: Literal["pyscf"] = Field(description="molecules by PySCF: density functionals and post-Hartree-Fock")
    method: Literal["dft", "hf", "mp2", "ccsd", "ccsd(t)"] = Field("dft", description="mp2 and beyond: closed shells")
    xc: str = Field("pbe", min_length=1, description="functional, by PySCF's name; of dft")
    basis: str = Field("def2-svp", min_length=1, description="basis set, by PySCF's name")
    density_fitting: bool = Field(False, description="of the Coulomb integrals; of dft and hf")
    grid_level: int = Field(3, ge=0, le=9, description="of the integration grid; of dft")
    energy_tolerance: Positive = Field(1e-9, description="of the self-consistent field and coupled clusters, hartree")
    max_iterations: Count = Field(100, description="of the self-consistent field and of coupled clusters")
    level_shift: float = Field(0.0, ge=0, description="of the empty orbitals until it converges, hartree")


class Templated(Section):
    """A program with an input file of the user's own."""

    template: str = Field(min_length=1, description="input file with {{ fields }} to be filled in; relative to here")
    variables: Variables = Field({}, description="what fills fields of your own in it, a table")


class Cp2k(Templated):
    """CP2K."""

    kind: Literal["cp2k"] = Field(description="CP2K; fields of the template: cell, coordinates, charge, multiplicity")
    command: str = Field("cp2k.psmp", min_length=1, description=_COMMAND)


class Espresso(Templated):
    """Quantum ESPRESSO."""

    kind: Literal["espresso"] = Field(
        description="pw.x of Quantum ESPRESSO; fields of the template: cell, positions, n_atoms, n_species, charge, "
        "magnetization"
    )
    command: str = Field("pw.x", min_length=1, description=_COMMAND)


class Profiled(Section):
    """A program by ASE's calculator."""

    parameters: Parameters = Field({}, description="keyword arguments of ASE's calculator, a table")
    command: str | None = Field(None, min_length=1, description=_PROFILE)


class Orca(Profiled):
    """ORCA."""

    kind: Literal["orca"] = Field(description="ORCA by ASE: parameters orcasimpleinput and orcablocks")


class Vasp(Profiled):
    """VASP."""

    kind: Literal["vasp"] = Field(description="VASP by ASE, which needs VASP_PP_PATH")


class Aims(Profiled):
    """FHI-aims."""

    kind: Literal["aims"] = Field(description="FHI-aims by ASE")


class Gpaw(Section):
    """GPAW."""

    kind: Literal["gpaw"] = Field(description="GPAW, which must be installed")
    parameters: Parameters = Field({}, description="keyword arguments of GPAW, a table")


class Ase(Section):
    """Any ASE calculator."""

    kind: Literal["ase"] = Field(description='any ASE calculator; kind = "ase:module.Class" says the same')
    name: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*\.[A-Za-z_][A-Za-z0-9_]*$", description="module.Class of an ASE calculator"
    )
    parameters: dict[str, Any] = Field({}, description="its keyword arguments, a table")


class Command(Section):
    """Any program that reads and writes extended XYZ."""

    kind: Literal["command"] = Field(description="any program that reads an extended XYZ file and writes one")
    command: str = Field(min_length=1, description=f"{_COMMAND}; {{input}} and {{output}} stand for the two files")


class Dataset(Section):
    """Structures that are labelled already."""

    kind: Literal["dataset"] = Field(description="structures labelled already, looked up")
    file: str = Field(min_length=1, description="labelled structures, any format ASE reads; relative to here")
    tolerance: Positive = Field(1e-4, description="within which positions and cell must agree, Å")


class Manual(Section):
    """Calculations by the user."""

    kind: Literal["manual"] = Field(description="you calculate, and import with `alflow label --import`")
    name: str = Field("manual", min_length=1, description="of what you calculate with: another one, another data set")


def _kind(value: Any) -> str | None:
    """Which of the methods a table describes."""
    kind = value.get("kind", "tblite") if isinstance(value, dict) else getattr(value, "kind", "tblite")
    return kind if isinstance(kind, str) else None


def _split(value: Any) -> Any:
    """``kind = "ase:module.Class"`` names the class with the kind."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if isinstance(kind, str) and kind.startswith("ase:"):
        return {**value, "kind": "ase", "name": kind.removeprefix("ase:")}
    return value


Reference = Annotated[
    Annotated[Tblite, Tag("tblite")]
    | Annotated[Pyscf, Tag("pyscf")]
    | Annotated[Cp2k, Tag("cp2k")]
    | Annotated[Espresso, Tag("espresso")]
    | Annotated[Orca, Tag("orca")]
    | Annotated[Vasp, Tag("vasp")]
    | Annotated[Aims, Tag("aims")]
    | Annotated[Gpaw, Tag("gpaw")]
    | Annotated[Ase, Tag("ase")]
    | Annotated[Command, Tag("command")]
    | Annotated[Dataset, Tag("dataset")]
    | Annotated[Manual, Tag("manual")],
    Discriminator(_kind),
    BeforeValidator(_split),
]


METHODS = {
    "tblite": Tblite,
    "pyscf": Pyscf,
    "cp2k": Cp2k,
    "espresso": Espresso,
    "orca": Orca,
    "vasp": Vasp,
    "aims": Aims,
    "gpaw": Gpaw,
    "ase": Ase,
    "command": Command,
    "dataset": Dataset,
    "manual": Manual,
}
"""What ``[reference]`` may be, by its kind."""


class Weighted(Section):
    """How a baseline takes part in the walks."""

    weighting: Literal["total", "atom", "none"] = Field(
        "total", description="walks trust the committee's correction by its sigma, in total or atom by atom, or always"
    )
    error: Positive | None = Field(
        None, description="uncertainty of the baseline, eV: of a structure or, with `atom`, of an atom; from the data"
    )


class TbliteBaseline(Weighted, Tblite):
    """Extended tight binding as a baseline."""

    method: Literal["GFN2-xTB", "GFN1-xTB", "IPEA1-xTB"] = Field("GFN1-xTB", description="parametrisation")


class AseBaseline(Weighted, Ase):
    """Any ASE calculator as a baseline."""


class ModelBaseline(Weighted):
    """Another committee as a baseline."""

    kind: Literal["model"] = Field(description="another committee of alflow, its mean")
    file: str = Field(min_length=1, description="of `alflow train` or `alflow export`; relative to here")


Baseline = Annotated[
    Annotated[TbliteBaseline, Tag("tblite")]
    | Annotated[AseBaseline, Tag("ase")]
    | Annotated[ModelBaseline, Tag("model")],
    Discriminator(_kind),
    BeforeValidator(_split),
]
