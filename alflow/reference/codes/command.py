"""Any program that reads an extended XYZ file and writes one."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from alflow.errors import ConfigError, LabelError
from alflow.reference import programs
from alflow.reference.method import Result, labelled
from alflow.structures import charge_and_multiplicity

_INPUT, _OUTPUT, _LOG = "input.xyz", "output.xyz", "command.log"
_TOLERANCE = 1e-6
"""Within which positions and cell must come back, Å: a file has eight decimals."""


@dataclass(frozen=True)
class CommandMethod:
    """A program of the user's own.

    It runs in a folder with ``input.xyz``, an extended XYZ file of one structure whose information has ``charge`` (e)
    and ``multiplicity`` (2S + 1). It writes ``output.xyz``, the same structure with ``energy`` (eV), ``forces`` (eV/Å)
    and, if it likes, ``stress`` (eV/Å^3); its information may have ``converged``, ``code`` (program and version),
    ``fermi_energy``, ``eigenvalues`` and ``occupations``.

    Attributes
    ----------
    command : str
        The program with its arguments, in which ``{input}`` and ``{output}`` stand for the two files; without them
        their names are added.
    """

    command: str

    def identity(self) -> str:
        """Canonical JSON of the command, with the content of its files in place of where they are."""
        words = programs.words_of(self.command, "reference")
        contents = [{"sha256": content_hash(Path(word))} if _is_file(word) else word for word in words]
        return json.dumps({"kind": "command", "command": contents}, sort_keys=True)

    def code(self) -> str:
        """The command: what it runs is known when it has run."""
        return self.command

    def check(self) -> None:
        """ConfigError for a command without a program, or with one of the two files only."""
        programs.check_command(self.command, "reference")
        self._words()

    def calculate(self, atoms: Atoms, folder: Path | None = None) -> Result:
        """Run it; LabelError as of the protocol."""
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
    found = _read(path, atoms, log)
    if str(found.info.get("converged", True)).lower() in {"false", "f", "no", "0"}:
        msg = f"{path.name} says converged = {found.info['converged']}\n{log}"
        raise LabelError("not_converged", msg)
    results = labels_of(found)
    for name in ("energy", "forces"):
        if name not in results:
            msg = f"{path.name} has no {name}: expected energy (eV) and forces (eV/Å) in extended XYZ\n{log}"
            raise LabelError("no_output", msg)
    if not atoms.pbc.all():
        results.pop("stress", None)
    done = labelled(atoms, **results)
    return Result(done, str(found.info.get("code", code)), log, electrons_of(found.info))


def labels_of(frame: Atoms) -> dict[str, Any]:
    """Energy (eV), forces (eV/Å) and stress (eV/Å^3) of a structure from a file, as far as it has them."""
    results = frame.calc.results if frame.calc is not None else {}
    found = {name: results[name] for name in ("energy", "forces", "stress") if results.get(name) is not None}
    return {name: float(value) if name == "energy" else np.array(value, dtype=float) for name, value in found.items()}


def electrons_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """Fermi energy and, a list for each spin, eigenvalues and occupations, as far as a file has them."""
    extra: dict[str, Any] = {}
    if "fermi_energy" in info:
        extra["fermi_energy"] = float(info["fermi_energy"])
    for name in ("eigenvalues", "occupations"):
        if name in info:
            extra[name] = np.atleast_2d(np.asarray(info[name], dtype=float)).tolist()
    return extra


def content_hash(path: Path) -> str:
    """SHA-256 of a file, calculated again only when its time or size is another; OSError when it cannot be read."""
    status = path.stat()
    return _content_hash(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _content_hash(path: Path, _time: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_file(word: str) -> bool:
    """Whether it names a file wherever the program runs."""
    return Path(word).is_absolute() and Path(word).is_file()


def _bare(atoms: Atoms) -> Atoms:
    """What the program may know."""
    info = dict(zip(("charge", "multiplicity"), charge_and_multiplicity(atoms), strict=True))
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=info)


def _read(path: Path, atoms: Atoms, log: str) -> Atoms:
    """The one structure of a file; LabelError ``no_output`` if it is not the one that was asked for."""
    programs.text_of(path, "the command")
    try:
        frames = list(ase.io.iread(path, index=":", format="extxyz"))
    except Exception as error:  # ASE's readers raise whatever a malformed line makes them raise
        msg = f"{path.name} cannot be read ({type(error).__name__}: {error}): expected extended XYZ\n{log}"
        raise LabelError("no_output", msg) from error
    msg = _difference(frames, atoms, path.name)
    if msg:
        raise LabelError("no_output", f"{msg}\n{log}" if log else msg)
    return frames[0]


def _difference(frames: list[Atoms], atoms: Atoms, name: str) -> str:
    """What is not as it was asked for; empty when there is nothing."""
    if len(frames) != 1:
        return f"{name} has {len(frames)} structures: expected the one of {_INPUT}"
    found = frames[0]
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
