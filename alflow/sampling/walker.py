"""A walker: Langevin dynamics on a committee's mean or weighted baseline, until its last step or until a bound is left.

A walk is cut into segments. A segment is a pure function of the walker, its own number and the state in which the
segment before it ended: the random numbers are keyed by (cycle, walker, segment), never carried over, so a walk that
was interrupted after any segment goes on exactly as if it had not been.

The dynamics is ASE's ``Langevin`` (Vanden-Eijnden and Ciccotti, Chem. Phys. Lett. 429, 310 (2006)) or, at constant
pressure, its ``LangevinBAOAB`` (Leimkuhler and Matthews, J. Chem. Phys. 138, 174102 (2013); Quigley and Probert, J.
Chem. Phys. 120, 11432 (2004)) for a cell of constant shape. Neither holds the centre of mass: all 3 N momenta are
canonical.
"""

import math
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculatorError
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from numpy.typing import NDArray

from alflow.committee.committee import Committee
from alflow.committee.protocol import Weighting
from alflow.errors import PotentialError
from alflow.randomness import generator
from alflow.records.sample import SIGMAS, Segment
from alflow.structures import distance_ratio

Array = NDArray[np.float64]

_OF_FORCES = {
    "largest_force_spread": "forces_spread",
    "largest_force_sigma": "forces_sigma",
    "largest_atom_spread": "atom_spread",
    "largest_atom_sigma": "atom_sigma",
}
_COLUMNS = ("energy", *SIGMAS, "largest_grade", "largest_force", "temperature", "distance_ratio")
_FAILURES = (CalculatorError, PotentialError)  # a baseline that does not converge, atoms that coincide, ...
_BAROSTAT = 10.0  # time constant of the barostat over that of the thermostat
_MASS = 1.66  # fs; with it ASE's documentation estimates a barostat mass from its period: ((tau/4)/C)^2 N^(1/3)
_P_EPS = "barostat_momentum"  # in Atoms.info of the state between two segments
_VELOCITIES = 0  # last element of the random key of the initial velocities; segment s has s + 1


@dataclass(frozen=True)
class Bounds:
    """Where a walker stops. All are checked at every step, the force's sigma at every stored frame.

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
    """

    force_sigma: float
    force: float
    temperature: float
    distance_ratio: float


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
        What tells this walker's random numbers from those of any other: cycle, step of the cycle, walker.
    weighting : "total", "atom" or "none", optional
        How a baseline is weighted (:meth:`alflow.committee.committee.Committee.drive`).
    baseline_error : float, optional
        s_b, eV; from the data by default.
    pressure : float, optional
        Of the barostat, eV/Å^3; constant volume by default.
    force_sigma : bool
        Whether stored frames have the uncertainty of forces, which costs as much as M forces, and those of atoms;
        without it they are NaN, and ``bounds.force_sigma`` stops nothing.
    candidates : tuple of Atoms
        Structures that are looked at instead of a walk, one a step.
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
    candidates: tuple[Atoms, ...] = ()

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
    if walker.candidates:
        return _judged(walker, index, committee)
    atoms = _first_state(walker) if state is None else state.copy()
    atoms.calc = committee.calculator(walker.weighting, walker.baseline_error)
    first = index * walker.segment
    last = min(first + walker.segment, walker.steps)
    observed = _Observed(walker, committee, atoms)
    step = first
    stop = observed.begin(step) if state is None else ""
    if not stop:
        dynamics = _dynamics(walker, atoms, _rng(walker, index + 1))
    while not stop and step < last:
        # The members' spread is not a floating-point fault: an exploding walk is reported as its stop, not as warnings.
        with np.errstate(over="ignore", invalid="ignore"):
            stop = observed.advance(dynamics)
        if stop:
            observed.keep(step)
        else:
            step += 1
            stop = observed.check(step)
    if not stop and step == walker.steps:
        stop = "finished"
    if not stop and isinstance(dynamics, LangevinBAOAB):
        atoms.info[_P_EPS] = float(dynamics.p_eps)
    return observed.segment(step, stop)


def _judged(walker: Walker, index: int, committee: Committee) -> Segment:
    """What the committee says of the candidates of a segment; those that it cannot evaluate are left out."""
    first = index * walker.segment
    last = min(first + walker.segment, walker.steps)
    observed = _Observed(walker, committee, walker.candidates[first])
    for step in range(first, last):
        observed.atoms = walker.candidates[step].copy()
        observed.atoms.calc = committee.calculator(walker.weighting, walker.baseline_error)
        with np.errstate(over="ignore", invalid="ignore"), suppress(*_FAILURES):
            observed.check(step)
    return observed.segment(last, "finished" if last == walker.steps else "")


def _dynamics(walker: Walker, atoms: Atoms, rng: np.random.Generator) -> Langevin | LangevinBAOAB:
    timestep = walker.timestep * units.fs
    if walker.pressure is None:
        return Langevin(
            atoms, timestep=timestep, temperature_K=walker.temperature, friction=walker.friction / units.fs,
            fixcm=False, rng=rng,
        )  # fmt: skip
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
    atoms: Atoms = walker.start.copy()
    width = np.sqrt(atoms.get_masses() * units.kB * walker.temperature)
    atoms.set_momenta(width[:, None] * _rng(walker, _VELOCITIES).standard_normal((len(atoms), 3)))
    return atoms


def _failed(error: Exception) -> str:
    return f"potential failed: {(str(error) or type(error).__name__).splitlines()[0]}"


class _Observed:
    """The frames of a segment as they are stored, and the bounds as they are checked."""

    def __init__(self, walker: Walker, committee: Committee, atoms: Atoms) -> None:
        self.walker = walker
        self.committee = committee
        self.atoms = atoms
        self.frames: list[Atoms] = []
        self.energies: list[Array] = []
        self.rows: list[dict[str, float]] = []

    def begin(self, step: int) -> str:
        """Check the start; a reason to stop, and no frame, when it cannot be evaluated."""
        try:
            return self.check(step)
        except _FAILURES as error:
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
        except _FAILURES as error:
            stop = _failed(error)
        self.atoms.set_cell(before[2])
        self.atoms.set_positions(before[0])
        self.atoms.set_momenta(before[1])
        return stop

    def check(self, step: int) -> str:
        """Store the frame if it is due, and give the reason to stop, if there is one."""
        bounds = self.walker.bounds
        force, temperature, ratio = measured = self._measure()
        stop = ""
        # Written so that what is not a number leaves its bound.
        if not force <= bounds.force:
            stop = f"force {force:.3g} eV/Å > {bounds.force:g}"
        elif not temperature <= bounds.temperature:
            stop = f"temperature {temperature:.0f} K > {bounds.temperature:.0f}"
        elif not ratio >= bounds.distance_ratio:
            stop = f"distance {ratio:.3f} of the covalent radii < {bounds.distance_ratio:g}"
        if stop or step % self.walker.stride == 0:
            sigma = self._store(step, measured)
            if not stop and self.walker.force_sigma and not sigma <= bounds.force_sigma:
                stop = f"force sigma {sigma:.3g} eV/Å > {bounds.force_sigma:g}"
        return stop

    def keep(self, step: int) -> None:
        """Store the frame unless it has been, as that of a multiple of ``stride``."""
        if step % self.walker.stride:
            self._store(step, self._measure())

    def _measure(self) -> tuple[float, float, float]:
        """Largest force, temperature and distance ratio of the moment."""
        force = float(np.linalg.norm(self.atoms.get_forces(), axis=1).max())
        return force, float(self.atoms.get_temperature()), distance_ratio(self.atoms)

    def _store(self, step: int, measured: tuple[float, float, float]) -> float:
        """Store the frame; its largest sigma of a force component."""
        results = self.atoms.calc.results  # of this very structure: the forces have just been measured
        row = dict(zip(("largest_force", "temperature", "distance_ratio"), measured, strict=True))
        row |= {"step": float(step), "energy": float(results["energy"])}
        row |= {"smallest_weight": float(np.min(results.get("weight", 1.0)))}
        if self.walker.force_sigma:
            energies = self._predict(row)
        else:
            energies = np.asarray(results["committee_energies"])
            row |= dict.fromkeys(_OF_FORCES, np.nan)
            row |= {name: float(results[name]) for name in ("energy_spread", "energy_sigma")}
            row |= {"largest_grade": float(self.committee.grade(self.atoms).max())}
        frame = self.atoms.copy()
        frame.calc = None
        self.frames.append(frame)
        self.energies.append(energies)
        self.rows.append(row)
        return row["largest_force_sigma"]

    def _predict(self, row: dict[str, float]) -> Array:
        """Add all that the committee says of its uncertainty; the energies of its members."""
        p = self.committee.predict(self.atoms)
        row |= {"energy_spread": p.energy_spread, "energy_sigma": p.energy_sigma, "largest_grade": float(p.grade.max())}
        row |= {name: float(getattr(p, of).max()) for name, of in _OF_FORCES.items()}
        return p.energies

    def segment(self, step: int, stop: str) -> Segment:
        """Everything stored so far, as columns."""
        end = self.atoms.copy()
        end.calc = None
        columns = {name: np.array([row[name] for row in self.rows]) for name in ("step", *_COLUMNS)}
        return Segment(
            frames=tuple(self.frames),
            energies=np.array(self.energies).reshape(len(self.energies), self.committee.n_members),
            **columns,
            end=(end,),
            end_step=step,
            stop=stop,
        )
