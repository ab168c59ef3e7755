"""Whatever ASE reads, and reads right."""

from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, filetype

from alflow.data.formats.base import Entries, Entry, Format, Unusable
from alflow.data.formats.quiet import quietly
from alflow.errors import StructureError


def entries(path: Path, form: str | None = None) -> Entries:
    """Structures that ASE reads, one after the other; ``form``: in one of its formats, else it looks itself.

    Raises
    ------
    StructureError
        ASE does not know the format, stumbles before the first structure, or would read it wrongly.
    """
    number = 0
    try:
        form = form or filetype(str(path))
        if form in READ_HERE:
            msg = f"{path} looks like {form}, but begins with something else: remove what stands before"
            raise StructureError(msg)
        for frame in quietly(ase.io.iread(path, index=":", format=form, do_not_split_by_at_sign=True)):
            yield entry(frame)
            number += 1
    except StructureError:
        raise
    except UnknownFileTypeError as error:
        msg = f"{path}: unknown format ({error}): expected one that ASE reads, extended XYZ for example"
        raise StructureError(msg) from error
    except Exception as error:  # ASE's readers raise whatever a malformed line makes them raise
        found = f"{type(error).__name__}: {error}"
        if number == 0:
            msg = f"{path} cannot be read ({found}): expected a format that ASE reads"
            raise StructureError(msg) from error
        yield Unusable(f"cannot be read from here on ({found})")


def entry(frame: Atoms) -> Entry:
    """A structure as ASE reads it, its results apart."""
    results: dict[str, Any] = {} if frame.calc is None else dict(frame.calc.results)
    # Of GPAW's text ASE takes the energy extrapolated to no smearing, and the free energy for one of its parts.
    parts = getattr(frame.calc, "energy_contributions", None) or {}
    extrapolated = parts.get("extrapolated", parts.get("zero kelvin"))
    if "free energy" in parts and extrapolated is not None and results.get("energy") is not None:
        results["free_energy"] = results["energy"] + parts["free energy"] - extrapolated
    # Not asked for: a calculator gives nothing that was stored with other initial charges or moments
    # (findings/ase-files-lose-labels-after-initial-charges.sh).
    frame.calc = None
    of_atoms = {name: results.pop(name) for name in OF_ATOMS if name in results}
    return Entry(frame, results, of_atoms)


READ_HERE = {
    "lammps-dump-text",
    "lammps-dump-binary",
    "lammps-data",
    "vasp-xml",
    "vasp-out",
    "espresso-out",
    "aims-output",
    "orca-output",
}
"""Formats of ASE that alflow reads itself, by how they begin: ASE would take some of them for what they are not."""

OF_ATOMS = ("forces", "energies", "stresses", "charges", "magmoms", "born_effective_charges")
"""Results of each atom, by the names of ASE."""

BY_ASE = Format("any that ASE reads", lambda _path, _head: True, entries, units="assumed")
