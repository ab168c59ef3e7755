"""Any program that reads an extended XYZ file and writes one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from ase import Atoms
from pydantic import Field

from alflow.data.labels import electrons_of
from alflow.data.names import Names, SeveralError
from alflow.errors import ConfigError, LabelError, StructureError
from alflow.records.electrons import Electrons
from alflow.reference.electrons import ELECTRONS
from alflow.reference.method import MethodSection, Result, properties_of
from alflow.reference.method import labelled as with_results
from alflow.reference.workflow import Workflow
from alflow.structures import OF_ATOMS, charge_and_multiplicity
from alflow.workers import programs

if TYPE_CHECKING:
    from alflow.data.formats.base import Entry

_INPUT, _OUTPUT, _LOG = "input.xyz", "output.xyz", "command.log"
_TOLERANCE = 1e-6
"""Within which positions and cell must come back, Å: a file has eight decimals."""


_WORKFLOW = """\
# Any program that reads and writes extended XYZ, here label.py: copper with an effective medium potential.
seed = 0

[[system]]
name = "copper"
structures = "copper.xyz"    # with its cell; XYZ, POSCAR, CIF, ..., relative to this one
copies = 15                  # displaced copies that are labelled with it in cycle 0
rattle = 0.08                # their displacement, Å (standard deviation)

[potential]
n_members = 16               # of the committee

[reference]
kind = "command"
command = "python label.py {input} {output}"   # they stand for the two files; label.py may be anything

[sample]
temperature = [300, 600]     # K, one walker each
timestep = 1.0               # fs
steps = 1000                 # of each walker in each cycle
stride = 20                  # steps between stored frames

[select]
budget = 10                  # structures in each cycle, at most
force_sigma_min = 0.03       # eV/Å, calibrated; less uncertain frames are not labelled

[converge]
force_sigma = 0.05           # eV/Å; stop when no sampled sigma is above this
max_cycles = 5

[executor]
kind = "local"               # processes on this machine
"""

_LABEL_PY = '''\
"""Label the structure of an extended XYZ file: replace the calculator by your own. Usage: label.py INPUT OUTPUT."""

import sys

from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

atoms = read(sys.argv[1])
atoms.calc = EMT()
results = {
    "energy": atoms.get_potential_energy(),  # eV
    "forces": atoms.get_forces(),  # eV/Å
    "stress": atoms.get_stress(),  # eV/Å^3; leave it out where there is none
}
atoms.calc = SinglePointCalculator(atoms, **results)
write(sys.argv[2], atoms, format="extxyz")
'''


class CommandMethod(MethodSection):
    """A program of the user's own.

    It runs in a folder with ``input.xyz``, an extended XYZ file of one structure whose information has ``charge`` (e)
    and ``multiplicity`` (2S + 1), and which has columns ``masses``, ``initial_charges`` and ``initial_magmoms`` where
    the structure file has. It writes ``output.xyz``, the same structure with ``energy`` (eV), ``forces`` (eV/Å) and, if
    it likes, ``stress`` (eV/Å^3); its information may have ``converged``, ``code`` (program and version),
    ``fermi_energy``, ``eigenvalues`` and ``occupations``.

    In the command ``{input}`` and ``{output}`` stand for the two files; without them their names are added.
    """

    kind: Literal["command"] = Field(description="any program that reads an extended XYZ file and writes one")
    command: str = Field(
        min_length=1, description=f"{programs.COMMAND}; {{input}} and {{output}} stand for the two files"
    )

    workflow: ClassVar[Workflow | None] = Workflow(_WORKFLOW, {"label.py": _LABEL_PY})

    def at(self, directory: Path) -> Self:
        """The method in a run directory: files that its command names are found from anywhere."""
        return self.model_copy(update={"command": programs.located(self.command, directory)})

    def identity(self) -> str:
        """Canonical JSON of the command, with the content of its files in place of where they are."""
        words = programs.words_of(self.command, "reference")
        return json.dumps({"kind": "command", "command": programs.contents_of(words)}, sort_keys=True)

    def code(self) -> str:
        """The command: what it runs is known when it has run."""
        return self.command

    def check(self) -> None:
        """ConfigError for a command without a program, or with one of the two files only."""
        programs.check_command(self.command, "reference")
        self._words()

    def told(self) -> frozenset[str]:
        """All of it: it is in the file that the program reads."""
        return ELECTRONS

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Run it; LabelError as of the protocol."""
        import ase.io

        with programs.working_folder(folder) as place:
            ase.io.write(place / _INPUT, _bare(atoms), format="extxyz")
            log = programs.run(self._words(), place, place / _LOG)
            return read_output(place / _OUTPUT, atoms, self.code(), log)

    def _words(self) -> list[str]:
        """The words of the command with the names of the files."""
        words = programs.words_of(self.command, "reference")
        named = [name for name in ("{input}", "{output}") if any(name in word for word in words)]
        if len(named) == 1:
            msg = f"reference: command has {named[0]} alone: write {{input}} and {{output}}, or neither"
            raise ConfigError(msg)
        if not named:
            return [*words, _INPUT, _OUTPUT]
        return [word.replace("{input}", _INPUT).replace("{output}", _OUTPUT) for word in words]


def read_output(path: Path, atoms: Atoms, code: str, log: str) -> Result:
    """The labels that a program wrote.

    Raises
    ------
    LabelError
        ``not_converged`` when it says so; ``no_output`` when there is no file, no energy, no forces or another
        structure; ``not_finite``.
    """
    from alflow.data.entering import PLAIN, NoLabelError, Understood, labelled, structure

    entry = replace(_read(path, atoms, log), in_units=True)  # eV and Å are agreed upon
    try:
        found = labelled(entry, structure(entry, Names()), Names(), Understood())
    except NoLabelError as error:
        said = f"{path.name} {error}" if str(error).startswith(("has ", "says ")) else str(error)
        raise LabelError(error.word, f"{said}\n{log}" if log else said) from error
    except SeveralError as error:
        raise LabelError("no_output", f"{path.name} has {error}: expected energy and forces\n{log}") from error
    results = found.calc.results
    for name in ("energy", "forces"):
        if name not in results:
            msg = f"{path.name} has no {name}: expected energy (eV) and forces (eV/Å) in extended XYZ\n{log}"
            raise LabelError("no_output", msg)
    if not atoms.pbc.all():
        results.pop("stress", None)
    of_structure, of_atoms = properties_of({**entry.said, **entry.of_atoms}, len(atoms))
    try:
        electrons = Electrons(**electrons_of(found.info))
    except ValueError as error:
        msg = f"{error}\n{log}" if log else str(error)
        raise LabelError("no_output", msg) from error
    return Result(
        with_results(atoms, **results),
        str(found.info.get("code", code)),
        log,
        plain_energy=float(found.info.get(PLAIN, np.nan)),
        electrons=electrons,
        properties=of_structure,
        atom_properties=of_atoms,
    )


def _bare(atoms: Atoms) -> Atoms:
    """What the program may know."""
    info = dict(zip(("charge", "multiplicity"), charge_and_multiplicity(atoms), strict=True))
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info)
    for name in OF_ATOMS:
        if name in atoms.arrays:
            bare.arrays[name] = atoms.arrays[name].copy()
    return bare


def _read(path: Path, atoms: Atoms, log: str) -> "Entry":
    """The one structure of a file; LabelError ``no_output`` if it is not the one that was asked for."""
    from alflow.data.formats.base import Unusable
    from alflow.data.formats.extxyz import EXTXYZ

    programs.text_of(path, "the command")
    try:
        found = list(EXTXYZ.entries(path))
    except StructureError as error:
        raise LabelError("no_output", f"{path.name} cannot be read ({error}): expected extended XYZ\n{log}") from error
    if len(found) != 1:
        msg = f"{path.name} has {len(found)} structures: expected the one of {_INPUT}"
        raise LabelError("no_output", f"{msg}\n{log}" if log else msg)
    if isinstance(found[0], Unusable):
        raise LabelError("no_output", f"{path.name} {found[0].reason}: expected extended XYZ\n{log}")
    msg = _difference(found[0].atoms, atoms, path.name)
    if msg:
        raise LabelError("no_output", f"{msg}\n{log}" if log else msg)
    return found[0]


def _difference(found: Atoms, atoms: Atoms, name: str) -> str:
    """What is not as it was asked for; empty when there is nothing."""
    if not np.array_equal(found.numbers, atoms.numbers):
        formula, asked = (each.get_chemical_formula("reduce") for each in (found, atoms))
        return f"{name} is of {formula}: expected {asked}, its atoms in the order of {_INPUT}"
    distance = float(np.abs(found.positions - atoms.positions).max())
    if distance > _TOLERANCE:
        return f"positions in {name} are {distance:.2g} Å from those of {_INPUT}: expected the same, not wrapped"
    distance = float(np.abs(found.cell.array - atoms.cell.array).max())
    if atoms.pbc.any() and distance > _TOLERANCE:
        return f"the cell in {name} is {distance:.2g} Å from that of {_INPUT}: expected the same"
    return ""
