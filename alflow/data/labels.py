"""Labels that come from outside: read from structures of files, and checked before anything else sees them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]

SHAPES = {"energy": "one real number, eV", "forces": "real numbers of shape (N, 3), eV/Å", "stress": "six real numbers"}
"""What a label may have, and what each part is."""

ENERGY_MAX = 1e8
"""eV/atom: a thousand times the energy of the heaviest atoms with all electrons."""
FORCE_MAX = 1e6
"""eV/Å: nuclei that nearly touch pull less."""
STRESS_MAX = 1e6
"""eV/Å^3: more than in any star."""


class NotFiniteError(ValueError):
    """A part of a label is not a number, or infinite."""


def checked(name: str, value: Any, n_atoms: int) -> Array:
    """One part of a label as an array of doubles: shape () of an energy, (N, 3) of forces, (6,) of a stress.

    Parameters
    ----------
    name : str
        One of :data:`SHAPES`.
    value : object
        As a program or a file gave it.
    n_atoms : int
        Of the structure.

    Raises
    ------
    NotFiniteError
        Some of the numbers are not finite.
    ValueError
        Words, complex numbers, another shape, or a size that nothing in nature has.
    """
    array = _real(name, value)
    # some calculators give an energy as an array of one number
    array = array.reshape(()) if name == "energy" and array.size == 1 else array
    expected = {"energy": (), "forces": (n_atoms, 3), "stress": (6,)}[name]
    if array.shape != expected:
        found = "no array" if not array.shape else f"shape {array.shape}"
        wanted = f", N = {n_atoms}" if name == "forces" else ""
        msg = f"{name}: expected {SHAPES[name]}{wanted}, found {found}"
        raise ValueError(msg)
    if wrong := np.count_nonzero(~np.isfinite(array)):
        msg = f"{name}: {wrong} of {array.size} values are not finite"
        raise NotFiniteError(msg)
    size = float(np.abs(array).max(initial=0.0)) / (n_atoms if name == "energy" else 1)
    most, unit = {"energy": (ENERGY_MAX, "eV/atom"), "forces": (FORCE_MAX, "eV/Å"), "stress": (STRESS_MAX, "eV/Å^3")}[
        name
    ]
    if size > most:
        msg = f"{name}: expected at most {most:g} {unit}, found {size:.3g}: look at the units"
        raise ValueError(msg)
    return array


def labels_of(frame: Atoms) -> dict[str, Any]:
    """Energy (eV), forces (eV/Å) and stress (eV/Å^3) that a structure carries, not checked yet.

    The energy is the one whose gradient the forces are: the free energy, where there are two.
    """
    results = getattr(frame.calc, "results", None) or {}
    found = {name: results[name] for name in SHAPES if results.get(name) is not None}
    return found | ({} if results.get("free_energy") is None else {"energy": results["free_energy"]})


def electrons_of(info: Mapping[str, Any]) -> dict[str, Any]:
    """What a file tells of the electrons, where it has it.

    Returns
    -------
    dict
        ``fermi_energy`` (eV) and, at one k-point, ``eigenvalues`` (eV) and ``occupations``, both of shape
        (spins, 1, bands); in a file a list of numbers, or one for each spin.

    Raises
    ------
    ValueError
        Words, complex numbers or another shape.
    """
    found: dict[str, Any] = {}
    if "fermi_energy" in info:
        value = _real("fermi_energy", info["fermi_energy"])
        if value.size != 1:
            msg = f"fermi_energy: expected one real number, eV, found shape {value.shape}"
            raise ValueError(msg)
        found["fermi_energy"] = float(value.reshape(()))
    for name in ("eigenvalues", "occupations"):
        if name in info:
            levels = np.atleast_2d(_real(name, info[name]))
            if levels.ndim > 2 or len(levels) > 2:
                msg = f"{name}: expected real numbers of shape (bands,) or (spins, bands), found shape {levels.shape}"
                raise ValueError(msg)
            found[name] = levels[:, None, :]
    return found


def _real(name: str, value: Any) -> Array:
    """An array of doubles; ValueError for anything that is not real numbers."""
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        msg = f"{name}: expected real numbers, found no array ({error})"
        raise ValueError(msg) from error
    if array.dtype.kind not in "iuf":
        # a word would be refused by a conversion too, but the imaginary part of a number would only be dropped
        what = {"c": "complex numbers", "b": "true or false"}.get(array.dtype.kind, "no numbers")
        msg = f"{name}: expected real numbers, found {what}: {str(value)[:40]!r}"
        raise ValueError(msg)
    return np.array(array, dtype=float)
