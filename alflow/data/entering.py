"""From what a file says of a structure to a label: which number is which, in which unit, and whether it can be one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from alflow.data.formats.base import Entry
from alflow.data.labels import NotFiniteError, checked
from alflow.data.names import NOTHING, Chosen, Names, SeveralError, chosen, listed, understood
from alflow.data.units import ENERGIES, LENGTHS, factor

Array = NDArray[np.float64]

PLAIN = "plain_energy"
"""In ``info``: the energy without the entropy of smeared electrons, where a file has both, eV."""

_LABEL = {"energy", "free_energy", "energies", "forces", "stress", "stresses"}
_NO_FORCES = {"positions", "momenta", "velocities", "velocity", "velo", "vel", "dipoles", "magmoms", "initial_magmoms"}
_NOBODY = {"none", "nan", "null", "", "n/a", "--"}  # words that say that there is none
_FALSE = {"false", "f", "no", "0", "0.0"}
_UNBALANCED, _NET = 1e-2, 0.05  # of the sum of sizes, and eV/Å: a net force that does not come of rounding or grids
_UNLIKE = 1e-2  # relative, of a stress and a virial that should say the same
_OF_ALL = {"unit", "units", "energy_unit", "energy_units", "force_unit", "forces_unit", "length_unit", "stress_unit"}
_OTHER_UNIT = re.compile(r"hartrees?|eh|ha|a\.?u\.?|atomic|bohr|ry|rydbergs?|kcal(?:/mol)?|kj(?:/mol)?", re.IGNORECASE)


class NoLabelError(ValueError):
    """A structure of a file is no label; ``word`` is one of the taxonomy of failures."""

    def __init__(self, text: str, word: str = "no_output") -> None:
        super().__init__(text)
        self.word = word


@dataclass
class Understood:
    """What was understood of a file, so far.

    Attributes
    ----------
    used : dict
        By quantity: under which names it was found, and how often.
    unused : dict
        Names of structures and of atoms that are no part of the label.
    said : dict
        Remarks, and of how many structures each is.
    """

    used: dict[str, dict[str, int]] = field(default_factory=dict)
    unused: dict[str, int] = field(default_factory=dict)
    said: dict[str, int] = field(default_factory=dict)

    def use(self, known_as: Mapping[str, str]) -> None:
        """Quantities were found under these names once more."""
        for quantity, name in known_as.items():
            names = self.used.setdefault(quantity, {})
            names[name] = names.get(name, 0) + 1

    def leave(self, names: set[str], used: set[str]) -> None:
        """Of these names some were not used for a label."""
        for name in names - used - {"numbers", "positions"}:
            self.unused[name] = self.unused.get(name, 0) + 1

    def say(self, remark: str) -> None:
        """A remark holds for one structure more."""
        self.said[remark] = self.said.get(remark, 0) + 1


def structure(entry: Entry, names: Names) -> Atoms:
    """A structure of a file without its results, Å."""
    length = factor(LENGTHS, names.length_unit, "length_unit")
    atoms: Atoms = entry.atoms.copy()
    if length != 1:
        constraints = atoms.constraints
        atoms.set_constraint()
        atoms.set_cell(atoms.cell.array * length)
        atoms.positions *= length
        atoms.set_constraint(constraints)
    return atoms


def labelled(entry: Entry, atoms: Atoms, names: Names, seen: Understood) -> Atoms:
    """A structure with its energy (eV), forces (eV/Å) and stress (eV/Å^3) as results.

    The energy is the one that forces are the gradient of: of two the free energy, and the other is
    ``info["plain_energy"]``.

    Parameters
    ----------
    entry : Entry
        What the file says.
    atoms : Atoms
        Its structure, of :func:`structure`; this one is given back.
    names : Names
        What the user says of the file.
    seen : Understood
        Is told what was found.

    Raises
    ------
    NoLabelError
        It has no energy, is not converged by its own word, or has something else where a number should be.
    SeveralError
        Nobody can know which of several is meant.
    """
    check_converged(entry.atoms.info)
    of_structure = {**entry.atoms.info, **entry.said}
    of_atoms = {**entry.atoms.arrays, **entry.of_atoms}
    found = _found(of_structure, of_atoms, names, entry)
    results = _in_units(found, atoms, names)
    known_as = {quantity: one.name for quantity, one in found.items()}
    plain = _plain(of_structure, found["energy"].name, len(atoms))
    if plain is not None:
        name, energy = plain[0], plain[1] * factor(ENERGIES, names.energy_unit, "energy_unit")
        if energy == results["energy"]:  # two energies that are equal are one
            known_as["energy"] = name
        else:
            atoms.info[PLAIN] = energy
    _drop_placeholders(atoms, results, seen)
    if {"committee_energies", "energy_sigma"} <= set(of_structure):
        seen.say("energies are those that a committee predicted, no calculation's")
    seen.use(known_as)
    used = {one.name for one in found.values()} | ({plain[0]} if plain is not None else set())
    seen.leave({*of_structure, *of_atoms}, used)
    results = {name: _checked(name, value, len(atoms)) for name, value in results.items()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.calc.results["energy"] = float(results["energy"])
    # Dipoles, charges and magnetic moments: no part of the label, and not looked at here.
    others = {**entry.said, **entry.of_atoms}
    atoms.calc.results |= {name: others[name] for name in set(others) & set(all_properties) - _LABEL}
    return atoms


def _found(
    of_structure: Mapping[str, Any], of_atoms: Mapping[str, Any], names: Names, entry: Entry
) -> dict[str, Chosen]:
    """Which of its numbers are the energy and, where there are any, forces and stress."""
    energy = _energy(of_structure, of_atoms, names)
    _check_units(entry, names)
    like = known.of if (known := understood(energy.name)) else None
    others = {
        "forces": _forces(of_atoms, names, like),
        "stress": _stress(of_structure, names, like, entry.atoms),
    }
    return {"energy": energy, **{quantity: one for quantity, one in others.items() if one is not None}}


def _in_units(found: Mapping[str, Chosen], atoms: Atoms, names: Names) -> dict[str, Any]:
    """Numbers in eV and Å; a stress where the structure has a volume."""
    energy_unit = factor(ENERGIES, names.energy_unit, "energy_unit")
    length_unit = factor(LENGTHS, names.length_unit, "length_unit")
    results = {"energy": energy_unit * _checked("energy", found["energy"].value, len(atoms))}
    if "forces" in found:
        results["forces"] = energy_unit / length_unit * _checked("forces", found["forces"].value, len(atoms))
    if "stress" in found and atoms.pbc.all() and atoms.cell.volume > 0:
        # a virial is an energy, a stress one over a volume
        stress = found["stress"]
        unit = -energy_unit / atoms.cell.volume if _is_virial(stress.name) else energy_unit / length_unit**3
        results["stress"] = unit * _checked("stress", _voigt(stress.value), len(atoms))
    return results


def check_converged(info: Mapping[str, Any]) -> None:
    """NoLabelError ``not_converged`` where a file says so of a structure."""
    for name, value in info.items():
        words = set(name.lower().replace("-", "_").split("_"))
        of_electrons = "converged" in words and words <= {"converged", "scf", "is", "electronic", "dft", "calculation"}
        if of_electrons and str(value).strip().lower() in _FALSE:
            msg = f"says {name} = {value}"
            raise NoLabelError(msg, "not_converged")


def _check_units(entry: Entry, names: Names) -> None:
    """NoLabelError where the file, or what else writes such files, has other units, and nobody says which."""
    if names.energy_unit is not None or names.length_unit is not None:
        return
    remedy = "give --energy-unit and --length-unit (in alflow.toml energy_unit, length_unit)"
    for name, value in entry.atoms.info.items():
        if _other_unit(name, value):
            said = name if value is True else f"{name} = {value}"
            msg = f"says {said}: expected eV and Å; {remedy}"
            raise NoLabelError(msg)
    if not entry.in_units:
        msg = f"is plain XYZ, without Properties, in which energies may be in hartree as well as in eV: {remedy}"
        raise NoLabelError(msg)


def _other_unit(name: str, value: Any) -> bool:
    """Whether it says one: ``units="Hartree,Bohr"``, or a word behind a number, ``energy = -1.2 Eh``."""
    words = [name] if value is True else re.split(r"[\s,;]+", str(value)) if name.lower() in _OF_ALL else []
    return any(_OTHER_UNIT.fullmatch(word) for word in words)


def _energy(of_structure: Mapping[str, Any], of_atoms: Mapping[str, Any], names: Names) -> Chosen:
    key = names.energy_key
    if key is not None:
        found = Chosen(key, of_structure[key]) if key in of_structure else _column(key, of_atoms)
    else:
        found = chosen("energy", of_structure)
        if found is None:
            column = chosen("energy", {name: x for name, x in of_atoms.items() if np.ndim(x) == 1})
            found = None if column is None else _column(column.name, of_atoms)
        if found is None and "energies" in of_atoms:
            found = _column("energies", of_atoms)
    if found is None:
        wanted = f"has no {key}" if key else "has no energy: expected energy, free_energy, REF_energy or the like"
        msg = f"{wanted}; it has {listed([*of_structure, *_columns(of_atoms)])}"
        raise NoLabelError(msg)
    value = np.ravel(found.value)
    if value.size == 1 and str(value[0]).strip().lower() in _NOBODY - {"nan"}:
        msg = f"has no energy: its {found.name} is {str(value[0])!r}"
        raise NoLabelError(msg)
    return found


def _column(name: str, of_atoms: Mapping[str, Any]) -> Chosen | None:
    """The energy that a column says: energies of atoms, or the total energy beside each of them."""
    if name not in of_atoms:
        return None
    column = np.asarray(of_atoms[name])
    if column.ndim != 1 or column.dtype.kind not in "iuf":
        return Chosen(name, column)
    if len(column) > 1 and np.ptp(column) == 0 and name != "energies":
        # Energies of atoms are equal in a perfect crystal only, where there are no forces.
        forces = [x for other, x in of_atoms.items() if (known := understood(other)) and known.quantity == "forces"]
        if not any(np.abs(np.asarray(x, dtype=float)).max(initial=0.0) > 0 for x in forces):
            msg = f"has {column[0]:g} as {name} of each atom: its share, or the total energy; write it as {name}=..."
            raise NoLabelError(msg)
        return Chosen(name, float(column[0]))
    return Chosen(name, float(column.sum()))


def _plain(of_structure: Mapping[str, Any], energy: str, n_atoms: int) -> tuple[str, float] | None:
    """Name and value of the energy without entropy of electrons, beside a free energy of the same calculation."""
    known = understood(energy)
    if known is None or not known.free:
        return None
    for name, value in of_structure.items():
        other = understood(name)
        if other is not None and other.quantity == "energy" and other.of == known.of and not other.free:
            try:
                return name, float(_checked("energy", value, n_atoms))
            except NoLabelError:
                return None
    return None


def _forces(of_atoms: Mapping[str, Any], names: Names, like: frozenset[str] | None) -> Chosen | None:
    key = names.forces_key
    if key == NOTHING:
        return None
    if key is not None:
        if key not in of_atoms:
            msg = f"has no {key}; of atoms it has {listed(_columns(of_atoms))}"
            raise NoLabelError(msg)
        return Chosen(key, of_atoms[key])
    found = chosen("forces", of_atoms, like)
    if found is None:
        perhaps = [name for name in _columns(of_atoms) if _may_be_forces(name, of_atoms[name])]
        if perhaps:
            msg = f"no forces by a known name, but {listed(perhaps)} with three numbers of each atom"
            raise SeveralError(msg, "forces")
    return found


def _may_be_forces(name: str, value: Any) -> bool:
    return (
        np.ndim(value) == 2
        and np.shape(value)[1] == 3
        and np.asarray(value).dtype.kind == "f"
        and (name.lower() not in _NO_FORCES)
    )


def _stress(of_structure: Mapping[str, Any], names: Names, like: frozenset[str] | None, atoms: Atoms) -> Chosen | None:
    key = names.stress_key
    if key == NOTHING:
        return None
    if key is not None:
        if key not in of_structure:
            msg = f"has no {key}; it has {listed(of_structure)}"
            raise NoLabelError(msg)
        return Chosen(key, of_structure[key])
    there = {name: x for name, x in of_structure.items() if not _is_nothing(x)}
    stress, virial = (chosen(quantity, there, like) for quantity in ("stress", "virial"))
    if stress is None or virial is None:
        return stress or virial
    one, other = (np.asarray(_voigt(found.value)) for found in (stress, virial))
    if one.shape == other.shape == (6,) and one.dtype.kind in "if" and other.dtype.kind in "if":
        if not one.any():  # a placeholder
            return virial
        one = -one * atoms.cell.volume
        if other.any() and not np.abs(one - other).max() <= _UNLIKE * np.abs(other).max():
            msg = f"{stress.name} and {virial.name} contradict each other: expected virial = -stress times volume"
            raise SeveralError(msg, "stress")
    return stress


def _is_nothing(value: Any) -> bool:
    """A word that says so, or numbers that are none."""
    if isinstance(value, str | None):
        return str(value).strip().lower() in _NOBODY
    array = np.asarray(value)
    return array.dtype.kind == "f" and bool(np.isnan(array).all())


def _is_virial(name: str) -> bool:
    return "virial" in name.lower()


def _voigt(value: Any) -> Any:
    """Six numbers of six or nine; what is neither stays as it is."""
    array = np.asarray(value)
    if array.size == 9 and array.dtype.kind in "iuf":
        matrix = array.reshape(3, 3).astype(float)
        return full_3x3_to_voigt_6_stress((matrix + matrix.T) / 2)
    return array


def _drop_placeholders(atoms: Atoms, results: dict[str, Any], seen: Understood) -> None:
    """Numbers that stand for nothing: an energy or a stress of exactly zero beside forces, forces of fixed atoms."""
    forces = results.get("forces")
    if forces is not None and len(atoms) > 1 and not forces.any():
        seen.say("all forces are exactly zero, as in a perfect crystal, or as where nobody calculated them")
    if forces is None or not np.abs(forces).max(initial=0.0) > 0:
        return
    if results["energy"] == 0:
        msg = "has no energy, but exactly 0 beside forces, which nobody has calculated: give the energies"
        raise NoLabelError(msg)
    if "stress" in results and not results["stress"].any():
        results.pop("stress")
        seen.say("a stress of exactly zero is taken for none")
    still = ~forces.any(axis=1)
    net = float(np.linalg.norm(forces.sum(axis=0)))
    unbalanced = net > max(_NET, _UNBALANCED * float(np.linalg.norm(forces, axis=1).sum()))
    fixed = sorted({int(k) for constraint in atoms.constraints for k in getattr(constraint, "index", [])})
    if still.any() and (unbalanced or (fixed and still[fixed].all())):
        results.pop("forces")
        seen.say("forces of fixed atoms are zero, which is no label: forces are left out, but not energies")


def _columns(of_atoms: Mapping[str, Any]) -> list[str]:
    return [name for name in of_atoms if name not in {"numbers", "positions"}]


def _checked(name: str, value: Any, n_atoms: int) -> Any:
    try:
        return checked(name, value, n_atoms)
    except NotFiniteError as error:
        raise NoLabelError(str(error), "not_finite") from error
    except ValueError as error:
        raise NoLabelError(str(error)) from error
