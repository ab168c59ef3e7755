"""Energies, heat capacity, volume, density."""

import numpy as np
from ase import units

from alflow.averages.observables.base import Array, Frame, Observable
from alflow.averages.observables.geometry import check_periodic
from alflow.averages.observables.words import Words
from alflow.errors import ObservableError

_G_CM3 = 1e-3 * units.kg / (1e-2 * units.m) ** 3


def potential_energy(words: Words) -> Observable:
    """V_m of each member, eV."""
    return Observable(words.text, "potential energy", "eV", _potential_energy, "member", of_structure=False)


def total_energy(words: Words) -> Observable:
    """V_m of each member and the kinetic energy, eV."""
    return Observable(words.text, "total energy", "eV", _total_energy, "member")


def heat_capacity(words: Words) -> Observable:
    """Heat capacity per atom of classical nuclei, from the fluctuation of the potential energy, kB.

    ``(<x^2> - <x>^2) / (N (kB T)^2) + 3/2``, with x = V_m at constant volume and x = V_m + P volume at constant
    pressure: McQuarrie, Statistical Mechanics (1976), sections 3-2 and 3-3. The kinetic part, 3/2, is that of N atoms,
    though a run may conserve the momentum of all or hold some fixed.
    """
    return Observable(words.text, "heat capacity", "kB/atom", _fluctuation, "member", _heat_capacity)


def volume(words: Words) -> Observable:
    """Volume of the cell, Å^3."""
    return Observable(words.text, "volume", "Å^3", _volume)


def density(words: Words) -> Observable:
    """Mass over volume, g/cm^3."""
    return Observable(words.text, "density", "g/cm^3", _density)


def _potential_energy(frame: Frame) -> Array:
    return frame.energies[None]


def _total_energy(frame: Frame) -> Array:
    if not frame.atoms.has("momenta"):
        msg = "the structures have no momenta: expected those of the run; ask for potential_energy"
        raise ObservableError(msg)
    return frame.energies[None] + float(frame.atoms.get_kinetic_energy())


def _fluctuation(frame: Frame) -> Array:
    """Parts x, x^2 and 1/(N (kB T)^2), shape (3, M).

    Energies are not shifted: no constant is known here that is the same in all frames. Doubles have 16 digits: of
    x = -1e4 eV (1e5) the variance is lost below 1e-8 (1e-6) eV^2; ten atoms at 300 K have one of 1e-2 eV^2. That is of
    averages summed from an origin near them, as in alflow.averages.blocks; plain sums over a long run lose more.
    """
    x = frame.energies
    if frame.pressure is not None:
        x = x + frame.pressure * _volume(frame)
    factor = 1 / (len(frame.atoms) * (units.kB * frame.temperature) ** 2)
    return np.array([x, x**2, np.full(len(x), factor)])


def _heat_capacity(averages: Array) -> Array:
    """Averages of a cumulant expansion will do too: the variance that they give does not depend on a shift of x."""
    x, square, factor = np.moveaxis(averages, -1, 0)
    return np.asarray((square - x**2) * factor + 1.5)[..., None]


def _volume(frame: Frame) -> Array:
    check_periodic(frame.atoms)
    return np.array([frame.atoms.get_volume()])


def _density(frame: Frame) -> Array:
    return float(frame.atoms.get_masses().sum()) / _volume(frame) / _G_CM3
