"""What a file of structures and labels holds: the report on entering."""

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
_NAMED = 5  # places in a line
_CONTRADICTION = "labels change by"


def contents(path: Path, names: Names, progress: Progress) -> dict[str, Any]:
    """What a file holds, as numbers and words for JSON.

    Energies in eV/atom, forces in eV/Å, stresses in GPa. Places of structures count from 0, in the file.

    Raises
    ------
    StructureError
        As of :func:`alflow.data.reading.read_labelled`, but for structures without labels.
    """
    labels = read_labelled(path, names, progress, allow_none=True)
    known = sorted(
        [*zip(labels.places, labels.frames, strict=True)]
        + [(left.place, left.atoms) for left in labels.left_out if left.atoms is not None],
        key=lambda pair: pair[0],
    )
    places, frames = [place for place, _ in known], [frame for _, frame in known]
    found: dict[str, Any] = {
        "file": str(path),
        "format": format_of(path).name,
        "structures": len(labels.frames) + len(labels.left_out),
        "labelled": len(labels.frames),
        **_of_structures(frames, places),
        **_of_labels(labels),
        "read_as": {what: list(names) for what, names in labels.understood.used.items()},
        "not_used": sorted(labels.understood.unused),
        "left_out": [{"structure": left.place, "reason": left.reason} for left in labels.left_out],
        "remarks": labels.remarks(),
    }
    return found


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
    warnings, contradictions = _doubts(frames, places)
    return {
        "energy_per_atom": [min(energies), max(energies)] if energies else None,
        "with_forces": len(forces),
        "largest_force": None if most is None else strongest,
        "largest_force_in": None if most is None else places[most],
        "with_stress": len(stresses),
        "stress": [float(pressed.min()), float(pressed.max())] if stresses else None,
        "outliers": warnings,
        "contradictions": contradictions,
    }


def _doubts(frames: Sequence[Atoms], places: Sequence[int]) -> tuple[list[str], list[str]]:
    """Labels unlike all others, and energies, forces and stresses that are not of one potential."""
    if not frames:
        return [], []
    told: list[str] = []
    with warnings_told(told.append):
        usual = without_wild_forces(frames, 0)
        twins = Twins()
        twins.add(frames)
        warn_of_outliers(make_training_set(usual, None), 0, twins.isolated)
    some = np.unique(np.linspace(0, len(frames) - 1, min(_COMPARED, len(frames))).round().astype(int))
    contradictions: list[str] = []
    try:
        with warnings_told(lambda _: None):
            committee = fit([usual[k] for k in some], **_QUICK)  # type: ignore[arg-type]
        contradictions = [remark for remark in committee.remarks if _CONTRADICTION in remark]
    except AlflowError:  # too little to fit: nothing can contradict itself
        pass
    return [_by_place(text, places) for text in told], contradictions


def _by_place(text: str, places: Sequence[int]) -> str:
    """A warning of a fit, with the places of structures in their file."""
    text = text.removeprefix("warning: ")
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
    doubts = ("duplicates", "left_out", "outliers", "contradictions")
    parts += [f"{len(found[what])} {what.replace('_', ' ')}" for what in doubts if found[what]]
    return ", ".join(parts)


def text(found: dict[str, Any]) -> str:
    """The report in lines."""
    n_atoms = "{} to {}".format(*found["atoms"]) if found["atoms"][0] != found["atoms"][1] else str(found["atoms"][0])
    periodic = ", ".join(f"{count} in {number}" for number, count in found["periodic_directions"].items())
    elements = ", ".join(f"{symbol} ({count})" for symbol, count in found["elements"].items())
    rows = [
        ("format", found["format"]),
        ("structures", f"{found['structures']}, of which {found['labelled']} have labels that can be used"),
        ("elements", f"{elements}; {found['compositions']} compositions"),
        ("atoms", f"{n_atoms} in a structure; periodic directions: {periodic}"),
        *_label_rows(found),
        ("duplicates", _places(found["duplicates"], "all but coincide with an earlier one") or "none"),
        ("isolated atoms", _places(found["isolated_atoms"], "")),
        ("too close", _places([int(k) for k in found["too_close"]], _closest(found["too_close"])) or "none"),
        ("electronic states", _states(found["electronic_states"])),
        ("outliers", "\n".join(found["outliers"]) or "none"),
        ("contradictions", "\n".join(found["contradictions"]) or "none"),
        ("left out", _reasons(found["left_out"]) or "none"),
        ("read as", ", ".join(f"{what} from {' or '.join(names)}" for what, names in found["read_as"].items())),
        ("not used", ", ".join(found["not_used"])),
    ]
    lines = [found["file"]]
    for name, said in rows:
        first, *others = said.split("\n") if said else [""]
        lines += [f"  {name:18s}{first}", *(f"  {'':18s}{other}" for other in others)] if said else []
    return "\n".join(lines)


def _label_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    if not found["energy_per_atom"]:
        return [("labels", "none")]
    low, high = found["energy_per_atom"]
    rows = [("energies", f"{low:.6f} to {high:.6f} eV/atom")]
    if found["largest_force"] is None:
        rows.append(("forces", "none"))
    else:
        where = f"up to {found['largest_force']:.4g} eV/Å, in frame {found['largest_force_in']}"
        rows.append(("forces", f"of {found['with_forces']} structures, {where}"))
    if found["stress"]:
        low, high = found["stress"]
        rows.append(("stresses", f"of {found['with_stress']} structures, components {low:.4g} to {high:.4g} GPa"))
    else:
        rows.append(("stresses", "none"))
    return rows


def _places(places: Sequence[int], what: str) -> str:
    if not places:
        return ""
    named = ", ".join(map(str, places[:_NAMED])) + (", ..." if len(places) > _NAMED else "")
    return f"{len(places)}{f' {what}' if what else ''}: frame {named}"


def _closest(ratios: dict[str, float]) -> str:
    least = min(ratios.values(), default=1.0)
    return f"with atoms closer than {DISTANCE_RATIO_MIN} of their covalent radii, down to {least}"


def _states(states: dict[str, list[list[int]]]) -> str:
    lines = []
    for formula, several in states.items():
        listed = ", ".join(f"charge {charge} and multiplicity {spin}" for charge, spin in several)
        lines.append(f"{formula}: {listed}; the potential sees neither")
    return "\n".join(lines)


def _reasons(left_out: Sequence[dict[str, Any]]) -> str:
    by_reason: dict[str, list[int]] = defaultdict(list)
    for left in left_out:
        by_reason[left["reason"]].append(left["structure"])
    return "\n".join(f"{_places(places, '')}: {reason}" for reason, places in by_reason.items())
