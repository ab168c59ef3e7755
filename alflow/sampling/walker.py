"""A walker: Langevin dynamics on a committee's mean, weighted baseline or member, until its end or a bound is left.

A walk is cut into segments. A segment is a pure function of the walker, its own number and the state in which the
segment before it ended: the random numbers are keyed by (cycle, walker, segment), never carried over, so a walk that
was interrupted after any segment goes on exactly as if it had not been.

The dynamics is ASE's ``Langevin`` (Vanden-Eijnden and Ciccotti, Chem. Phys. Lett. 429, 310 (2006)) or, at constant
pressure, its ``LangevinBAOAB`` (Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013); Quigley and Probert, J.
Chem. Phys. 120, 11432 (2004)) for a cell of constant shape. Neither holds the centre of mass: all 3 N momenta are
canonical.
"""

import math
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB

from alflow.committee.committee import Committee
from alflow.committee.protocol import Weighting
from alflow.randomness import generator
from alflow.records.sample import Ensemble, Segment
from alflow.sampling.observing import FAILURES, Observed

_BAROSTAT = 10.0  # time constant of the barostat over that of the thermostat
_MASS = 1.66  # fs; with it ASE's documentation estimates a barostat mass from its period: ((tau/4)/C)^2 N^(1/3)
_P_EPS = "barostat_momentum"  # in Atoms.info of the state between two segments
_VELOCITIES = 0  # last element of the random key of the initial velocities; segment s has s + 1


@dataclass(frozen=True)
class Bounds:
    """Where a walker stops. All are checked at every step, the force's sigma and the grade at every stored frame.

    Attributes
    ----------
    force_sigma : float
        Largest calibrated sigma of a force component, eV/Å.
    force : float
        Largest norm of an atom's force, eV/Å.
    temperature : float
        Largest instantaneous temperature, K.
    distance_ratio : float
        Smallest distance of two atoms over the sum of their covalent radii.
    grade : float, optional
        Largest extrapolation grade of an atom: where members agree on what none of them knows, only this tells. No
        bound by default.
    """

    force_sigma: float
    force: float
    temperature: float
    distance_ratio: float
    grade: float = math.inf


@dataclass(frozen=True, eq=False)
class Walker:
    """What a walker does.

    Attributes
    ----------
    start : Atoms
        Where it starts; momenta are drawn, not taken from here.
    temperature : float
        Of the thermostat, K.
    timestep : float
        fs.
    friction : float
        1/fs.
    steps : int
        Steps in all.
    stride : int
        Steps between stored frames.
    segment : int
        Steps of a segment, a multiple of ``stride``.
    bounds : Bounds
        Where it stops before its last step.
    seed : int
        Seed of the run.
    key : tuple of int
        What tells this walker's random numbers from those of any other: cycle, step of the cycle, number of the walker
        (last).
    weighting : "total", "atom" or "none", optional
        How a baseline is weighted (:meth:`alflow.committee.committee.Committee.drive`).
    baseline_error : float, optional
        s_b, eV; from the data by default.
    pressure : float, optional
        Of the barostat, eV/Å^3; constant volume by default.
    force_sigma : bool
        Whether stored frames have the uncertainty of forces, which costs as much as M forces, and those of atoms;
        without it they are NaN, and ``bounds.force_sigma`` stops nothing.
    member : int, optional
        The member that drives it, unweighted; by default all of them together.
    """

    start: Atoms
    temperature: float
    timestep: float
    friction: float
    steps: int
    stride: int
    segment: int
    bounds: Bounds
    seed: int
    key: tuple[int, ...]
    weighting: Weighting | None = None
    baseline_error: float | None = None
    pressure: float | None = None
    force_sigma: bool = True
    member: int | None = None

    @property
    def ensemble(self) -> Ensemble:
        """What its frames are drawn from."""
        pressure = math.nan if self.pressure is None else self.pressure
        return Ensemble(str(self.start.info.get("system", "")), self.temperature, pressure)

    @property
    def n_segments(self) -> int:
        """How many segments the whole walk has."""
        return math.ceil(self.steps / self.segment)


def run_segment(walker: Walker, index: int, state: Atoms | None, committee: Committee) -> Segment:
    """Do one segment of a walk.

    Parameters
    ----------
    walker : Walker
        The walk.
    index : int
        Number of the segment, from 0.
    state : Atoms or None
        End of the segment before, with momenta; None for the first.
    committee : Committee
        Drives the walk.

    Returns
    -------
    Segment
        Frames at multiples of ``stride``, and the last one whatever its step when the walk stops early: where the
        committee lost its way is what is worth a reference calculation. A step that cannot be done, or leaves
        the numbers, is undone, and the frame before it is the last.
    """
    atoms = _first_state(walker) if state is None else state.copy()
    atoms.calc = committee.calculator(walker.weighting, walker.baseline_error, walker.member)
    first = index * walker.segment
    last = min(first + walker.segment, walker.steps)
    watched = _Watched(walker, committee, atoms)
    step = first
    # The end of a segment was checked, and stored if it was due, by the segment itself: only the very start was not.
    stop = watched.begin(step) if state is None else ""
    if not stop:
        dynamics = _dynamics(walker, atoms, _rng(walker, index + 1))
    while not stop and step < last:
        # The members' spread is not a floating-point fault: an exploding walk is reported as its stop, not as warnings.
        with np.errstate(over="ignore", invalid="ignore"):
            stop = watched.advance(dynamics)
        if stop:
            watched.keep(step)
        else:
            step += 1
            stop = watched.check(step)
    if not stop and step == walker.steps:
        stop = "finished"
    if not stop and isinstance(dynamics, LangevinBAOAB):
        # The integrator, which ends here, holds the barostat's momentum: without it each segment would begin at rest.
        atoms.info[_P_EPS] = float(dynamics.p_eps)
    return watched.segment(step, stop, walker=walker.key[-1], ensemble=walker.ensemble, timestep=walker.timestep)


def _dynamics(walker: Walker, atoms: Atoms, rng: np.random.Generator) -> Langevin | LangevinBAOAB:
    timestep = walker.timestep * units.fs
    if walker.pressure is None:
        return Langevin(
            atoms, timestep=timestep, temperature_K=walker.temperature, friction=walker.friction / units.fs,
            fixcm=False, rng=rng,
        )  # fmt: skip
    # Slower than the thermostat, which it would otherwise drive; both follow from the one friction that is set.
    period = _BAROSTAT / walker.friction
    dynamics = LangevinBAOAB(
        atoms, timestep=timestep, temperature_K=walker.temperature, externalstress=-walker.pressure, hydrostatic=True,
        T_tau=units.fs / walker.friction, P_tau=period * units.fs,
        P_mass=(period / 4 / _MASS) ** 2 * len(atoms) ** (1 / 3), rng=rng,
    )  # fmt: skip
    dynamics.p_eps = atoms.info.pop(_P_EPS, 0.0)
    return dynamics


def _rng(walker: Walker, last: int) -> np.random.Generator:
    return generator(walker.seed, *walker.key, last)


def _first_state(walker: Walker) -> Atoms:
    """The start with momenta of the Maxwell-Boltzmann distribution."""
    # Drawn, not taken from the structure: it may be a minimum, or of a walk at another temperature.
    atoms: Atoms = walker.start.copy()
    width = np.sqrt(atoms.get_masses() * units.kB * walker.temperature)
    atoms.set_momenta(width[:, None] * _rng(walker, _VELOCITIES).standard_normal((len(atoms), 3)))
    return atoms


def _failed(error: Exception) -> str:
    return f"potential failed: {(str(error) or type(error).__name__).splitlines()[0]}"


class _Watched(Observed):
    """A walk as it goes: its steps done, its bounds checked, its frames stored when they are due."""

    def __init__(self, walker: Walker, committee: Committee, atoms: Atoms) -> None:
        super().__init__(committee, atoms, force_sigma=walker.force_sigma)
        self.walker = walker

    def begin(self, step: int) -> str:
        """Check the start; a reason to stop, and no frame, when it cannot be evaluated."""
        try:
            return self.check(step)
        except FAILURES as error:
            return _failed(error)

    def advance(self, dynamics: Langevin | LangevinBAOAB) -> str:
        """Do one step; a reason to stop when it cannot be done."""
        before = self.atoms.get_positions(), self.atoms.get_momenta(), self.atoms.cell.copy()
        stop = "not finite: positions or forces were no longer numbers"
        try:
            dynamics.step()  # type: ignore[no-untyped-call]
            finite = np.isfinite(self.atoms.positions).all() and np.isfinite(self.atoms.get_momenta()).all()
            if finite and np.isfinite(self.atoms.get_forces()).all():
                return ""
        except FAILURES as error:
            stop = _failed(error)
        # Undone, not kept: a reference method can do no more with such a structure than the potential could, and the
        # one before it is where the committee lost its way.
        self.atoms.set_cell(before[2])
        self.atoms.set_positions(before[0])
        self.atoms.set_momenta(before[1])
        return stop

    def check(self, step: int) -> str:
        """Store the frame if it is due, and give the reason to stop, if there is one."""
        bounds = self.walker.bounds
        force, temperature, ratio = measured = self.measure()
        stop = ""
        # Written so that what is not a number leaves its bound.
        if not force <= bounds.force:
            stop = f"force {force:.3g} eV/Å > {bounds.force:g}"
        elif not temperature <= bounds.temperature:
            stop = f"temperature {temperature:.0f} K > {bounds.temperature:.0f}"
        elif not ratio >= bounds.distance_ratio:
            stop = f"distance {ratio:.3f} of the covalent radii < {bounds.distance_ratio:g}"
        # The sigma of forces costs as much as M forces, and the grade as much as one: bounds of stored frames only.
        if stop or step % self.walker.stride == 0:
            sigma, grade = self.store(step, measured)
            if not stop and self.force_sigma and not sigma <= bounds.force_sigma:
                stop = f"force sigma {sigma:.3g} eV/Å > {bounds.force_sigma:g}"
            elif not stop and not grade <= bounds.grade:
                stop = f"extrapolation grade {grade:.3g} > {bounds.grade:g}"
        return stop

    def keep(self, step: int) -> None:
        """Store the frame unless it has been, as that of a multiple of ``stride``."""
        if step % self.walker.stride:
            self.store(step, self.measure())
