"""Committees of every kind, small enough to be made in a moment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import alflow
from alflow.committee.committee import Committee
from ase import Atoms
from ase.calculators.calculator import Calculator

from lj_frames import SMALL

TESTS = Path(__file__).parent

TRAINER: dict[str, Any] = {
    "command": "{python} pair_trainer.py {train} {validation} {output} {seed}",
    "calculator": "pair_trainer.Pairs",
    "parameters": {"model": "{model}"},
    "directory": str(TESTS),
    "workers": 2,
}


def ace(frames: list[Atoms], baseline: Calculator | None) -> Committee:
    return alflow.fit(frames, baseline=baseline, **SMALL)


def trained(frames: list[Atoms], baseline: Calculator | None, **settings: Any) -> Committee:
    options = {**TRAINER, "n_members": 4, **settings}
    return alflow.fit(frames, kind="trained", baseline=baseline, **options)


def calculators(frames: list[Atoms], baseline: Calculator | None, **parameters: Any) -> Committee:
    members = [
        {"calculator": "odd_calculators.Odd", "parameters": {"epsilon": epsilon, "sigma": sigma, **parameters}}
        for epsilon, sigma in ((0.28, 2.2), (0.3, 2.15), (0.33, 2.2), (0.3, 2.22))
    ]
    return alflow.fit(frames, kind="calculators", baseline=baseline, members=members, directory=str(TESTS))


KINDS: dict[str, Callable[[list[Atoms], Calculator | None], Committee]] = {
    "ace": ace,
    "trained": trained,
    "calculators": calculators,
}
