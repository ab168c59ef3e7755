"""What a file of structures and labels holds, in lines: the report on entering."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from alflow.structures import DISTANCE_RATIO_MIN

_NAMED = 5  # places in a line


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
