"""Reference calculations that failed: why, with which settings, and how their logs end."""

import json
from pathlib import Path
from typing import Any

from alflow.errors import StoreError
from alflow.records.label import LabelRecord
from alflow.report.run import run_directory


def failures(directory: Path) -> list[dict[str, Any]]:
    """Failed attempts that are on disk.

    Returns
    -------
    list of dict
        One for each calculation: ``id``, ``formula``, ``labelled`` (whether a later attempt gave a label) and
        ``attempts``, a list with ``reason``, ``detail`` (with the end of the log) and ``changes`` (settings changed for
        the attempt) of each.
    """
    store = run_directory(directory)
    labelled = set(store.labelled())
    for cycle in (cycle for cycle in store.cycles() if store.exists(cycle, "label")):
        labelled |= set(store.read(cycle, "label", LabelRecord).ids)
    found = []
    for name, paths in store.failures().items():
        try:
            records = [store.read_failure(path, LabelRecord) for path in paths]
        except StoreError:
            if all(path.exists() for path in paths):
                raise
            continue  # tried again meanwhile
        attempts = [
            {
                "reason": record.failed_reason[0],
                "detail": record.failed_detail[0],
                "changes": json.loads(record.failed_changes[0] or "{}"),
            }
            for record in records
        ]
        formula = records[0].failed_frames[0].get_chemical_formula()
        found.append({"id": name, "formula": formula, "labelled": name in labelled, "attempts": attempts})
    return found


def document(directory: Path) -> str:
    """All of :func:`failures` as JSON."""
    return json.dumps(failures(directory), indent=2)


def text(directory: Path) -> str:
    """The same for a reader: each attempt with its reason and the end of its log."""
    lines: list[str] = []
    for entry in failures(directory):
        ended = ", labelled by a later attempt" if entry["labelled"] else ""
        lines.append(f"{entry['id']} {entry['formula']}{ended}")
        for number, attempt in enumerate(entry["attempts"]):
            changes = f" with {json.dumps(attempt['changes'])}" if attempt["changes"] else ""
            lines.append(f"  attempt {number}{changes}: {attempt['reason']}")
            lines += [f"    | {line}" for line in attempt["detail"].splitlines()]
    if not lines:
        return "no reference calculation has failed"
    lines.append(f"to try again: alflow label {directory} --retry failed (or a reason, or an id)")
    return "\n".join(lines)
