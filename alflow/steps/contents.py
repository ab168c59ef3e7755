"""What a file of structures and labels holds, as numbers."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from alflow.committee.training import make_training_set, warn_of_outliers, without_wild_forces
from alflow.committee.twins import Twins
from alflow.data.formats import format_of
from alflow.data.names import Names
from alflow.data.reading import Labelled, read_labelled
from alflow.errors import AlflowError, warnings_told
from alflow.models.fitting import fit
from alflow.progress import Progress
from alflow.structures import DISTANCE_RATIO_MIN, charge_and_multiplicity, distance_ratio

_COMPARED = 150  # structures of the fit that compares energies with forces
_QUICK = {"n_members": 4, "cutoff": 5.5, "n_features": 600, "energy_weight": 20.0}
_CONTRADICTION = "labels change by"


def of_file(path: Path, names: Names, progress: Progress) -> dict[str, Any]:
    """What a file holds, as numbers and words for JSON, doubts about its labels included.

    Raises
    ------
    StructureError
        As of :func:`alflow.data.reading.read_labelled`, but for structures without labels.
    """
    labels = read_labelled(path, names, progress, allow_none=True)
    found = contents(labels)
    warnings, contradictions = _doubts(labels.frames, labels.places, found["isolated_atoms"])
    return {**found, "outliers": warnings, "contradictions": contradictions}


def contents(labels: Labelled) -> dict[str, Any]:
    """What a file holds, as numbers and words for JSON.

    Energies in eV/atom, forces in eV/Å, stresses in GPa. Places of structures count from 0, in the file.
    """
    known = sorted(
        [*zip(labels.places, labels.frames, strict=True)]
        + [(left.place, left.atoms) for left in labels.left_out if left.atoms is not None],
        key=lambda pair: pair[0],
    )
    places, frames = [place for place, _ in known], [frame for _, frame in known]
    return {
        "file": str(labels.path),
        "format": format_of(labels.path).name,
        "structures": len(labels.frames) + len(labels.left_out),
        "labelled": len(labels.frames),
        **_of_structures(frames, places),
        **_of_labels(labels),
        "read_as": {what: list(names) for what, names in labels.understood.used.items()},
        "not_used": sorted(labels.understood.unused),
        "left_out": [{"structure": left.place, "reason": left.reason} for left in labels.left_out],
        "remarks": labels.remarks(),
    }


def _of_structures(frames: Sequence[Atoms], places: Sequence[int]) -> dict[str, Any]:
    twins = Twins()
    twins.add(frames)
    ratios = np.array([distance_ratio(frame) for frame in frames])
    states: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for frame in frames:
        states[frame.get_chemical_formula()].add(charge_and_multiplicity(frame))
    close = np.flatnonzero(ratios < DISTANCE_RATIO_MIN)
    sizes = [len(frame) for frame in frames]
    periodic = Counter(int(frame.pbc.sum()) for frame in frames)
    return {
        "elements": dict(sorted(Counter(symbol for frame in frames for symbol in set(frame.symbols)).items())),
        "compositions": len(states),
        "atoms": [min(sizes, default=0), max(sizes, default=0)],
        "periodic_directions": {str(directions): count for directions, count in sorted(periodic.items())},
        "duplicates": [places[k] for k, first in enumerate(twins.first) if first != k],
        "isolated_atoms": [places[k] for k in twins.isolated],
        "too_close": {str(places[int(k)]): round(float(ratios[k]), 3) for k in close},
        "electronic_states": {
            formula: [list(state) for state in sorted(several)]
            for formula, several in states.items()
            if len(several) > 1
        },
    }


def _of_labels(labels: Labelled) -> dict[str, Any]:
    frames, places = labels.frames, labels.places
    energies = [frame.calc.results["energy"] / len(frame) for frame in frames]
    forces = {k: frame.calc.results["forces"] for k, frame in enumerate(frames) if "forces" in frame.calc.results}
    largest = {k: float(np.linalg.norm(values, axis=1).max()) for k, values in forces.items()}
    stresses = [frame.calc.results["stress"] for frame in frames if "stress" in frame.calc.results]
    pressed = np.array(stresses).reshape(-1, 6) / units.GPa
    most, strongest = max(largest.items(), key=lambda one: one[1], default=(None, 0.0))
    return {
        "energy_per_atom": [min(energies), max(energies)] if energies else None,
        "with_forces": len(forces),
        "largest_force": None if most is None else strongest,
        "largest_force_in": None if most is None else places[most],
        "with_stress": len(stresses),
        "stress": [float(pressed.min()), float(pressed.max())] if stresses else None,
    }


def _doubts(frames: Sequence[Atoms], places: Sequence[int], isolated: Sequence[int]) -> tuple[list[str], list[str]]:
    """Labels unlike all others, and energies, forces and stresses that are not of one potential.

    ``isolated``: places of structures whose atoms are all alone.
    """
    if not frames:
        return [], []
    told: list[str] = []
    with warnings_told(told.append):
        usual = without_wild_forces(frames, 0)
        alone = np.flatnonzero(np.isin(places, isolated)).tolist()
        warn_of_outliers(make_training_set(usual, None), 0, alone)
    some = np.unique(np.linspace(0, len(frames) - 1, min(_COMPARED, len(frames))).round().astype(int))
    contradictions: list[str] = []
    try:
        with warnings_told(lambda _: None):
            committee = fit([usual[k] for k in some], **_QUICK)  # type: ignore[arg-type]
        contradictions = [remark for remark in committee.remarks if _CONTRADICTION in remark]
    except AlflowError:  # too little to fit: nothing can contradict itself
        pass
    return [by_place(text.removeprefix("warning: "), places) for text in told], contradictions


def by_place(text: str, places: Sequence[int]) -> str:
    """A warning of a fit, with the places of structures in their file."""
    return re.sub(r"structure (\d+)", lambda number: f"frame {places[int(number[1])]}", text)


def line(found: dict[str, Any]) -> str:
    """The report in one line."""
    parts = [f"{found['file']}: {found['labelled']} labelled structures of {', '.join(found['elements'])}"]
    if found["energy_per_atom"]:
        low, high = found["energy_per_atom"]
        parts.append(f"{low:.6g} to {high:.6g} eV/atom")
    if found["largest_force"] is not None:
        parts.append(f"forces up to {found['largest_force']:.3g} eV/Å")
    parts.append(f"{found['with_stress']} with stress")
    doubts = ("duplicates", "too_close", "electronic_states", "left_out")
    parts += [f"{len(found[what])} {what.replace('_', ' ')}" for what in doubts if found[what]]
    return ", ".join(parts)
