"""Whether what a program says of a structure can be true: net force, and energy among the labels so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from alflow.errors import LabelError


@dataclass(frozen=True)
class Limits:
    """What a result must keep.

    Attributes
    ----------
    net_force : float, optional
        Largest norm of the sum of all forces over the square root of the number of atoms, eV/Å. Errors of forces that
        are independent of each other, as those of an integration grid, give a sum of sqrt(N) times one of them: this
        is an estimate of the error of each.
    energy : tuple of float, optional
        Lowest and highest energy per atom, eV, over that of ``atom_energy``.
    atom_energy : mapping
        Energy of an atom of each atomic number, eV.
    """

    net_force: float | None = None
    energy: tuple[float, float] | None = None
    atom_energy: Mapping[int, float] = field(default_factory=dict)


def limits_of(frames: Sequence[Atoms], net_force: float | None, margin: float | None) -> Limits:
    """What labels like these must keep.

    Parameters
    ----------
    frames : sequence of Atoms
        Labels so far, with energies; where there are none, no energy is too far away.
    net_force : float, optional
        As in :class:`Limits`.
    margin : float, optional
        How far outside theirs an energy may be, eV/atom, after an energy for each atom of a species (by least
        squares) is taken off.
    """
    if margin is None or not frames:
        return Limits(net_force)
    species = np.unique(np.concatenate([frame.numbers for frame in frames]))
    counts = np.array([[np.count_nonzero(frame.numbers == z) for z in species] for frame in frames], dtype=float)
    energies = np.array([frame.get_potential_energy(apply_constraint=False) for frame in frames])
    of_atom = np.linalg.lstsq(counts, energies, rcond=None)[0]
    rest = (energies - counts @ of_atom) / counts.sum(axis=1)
    bounds = float(rest.min() - margin), float(rest.max() + margin)
    return Limits(net_force, bounds, dict(zip(species.tolist(), of_atom.tolist(), strict=True)))


def check_consistent(frame: Atoms, limits: Limits) -> None:
    """LabelError ``inconsistent`` for a labelled structure that breaks them."""
    net = float(np.linalg.norm(frame.get_forces(apply_constraint=False).sum(axis=0))) / np.sqrt(len(frame))
    if limits.net_force is not None and net > limits.net_force:
        msg = (
            f"the sum of the forces over the square root of the number of atoms is {net:.3g} eV/Å, more than "
            f"failures.net_force_max = {limits.net_force:g}: converge the grid or the cutoff of the reference, or "
            "raise the limit if something outside pulls"
        )
        raise LabelError("inconsistent", msg)
    if limits.energy is None or not set(frame.numbers) <= set(limits.atom_energy):
        return
    rest = frame.get_potential_energy(apply_constraint=False) - sum(limits.atom_energy[int(z)] for z in frame.numbers)
    low, high = limits.energy
    if not low <= rest / len(frame) <= high:
        msg = (
            f"the energy is {rest / len(frame):.3g} eV/atom from that of the labels' composition: expected "
            f"{low:.3g} to {high:.3g}, as failures.energy_margin allows: another electronic state, or no such structure"
        )
        raise LabelError("inconsistent", msg)
