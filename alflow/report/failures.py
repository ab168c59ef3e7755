"""Reference calculations, and trainings, that failed: why, with which settings, and how their logs end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alflow.errors import StoreError
from alflow.models.trained import keeping
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


def trainings(directory: Path) -> list[dict[str, Any]]:
    """Trainings of members that failed and are on disk.

    Returns
    -------
    list of dict
        One for each training: ``id``, ``member``, ``trained`` (whether a later attempt succeeded), and ``attempts`` as
        of :func:`failures`.
    """
    models = run_directory(directory).models
    found = []
    for name, paths in keeping.failures(models).items():
        try:
            records = [keeping.read_failure(path) for path in paths]
        except StoreError:
            if all(path.exists() for path in paths):
                raise
            continue  # tried again meanwhile
        attempts = [
            {"reason": record.reason, "detail": record.detail, "changes": json.loads(record.changes or "{}")}
            for record in records
        ]
        done = keeping.is_trained(models, name)
        found.append({"id": name, "member": records[0].member, "trained": done, "attempts": attempts})
    return found


def document(directory: Path) -> str:
    """All of :func:`failures` as JSON, then, where there are some, those of :func:`trainings`."""
    return json.dumps([*failures(directory), *trainings(directory)], indent=2)


def text(directory: Path) -> str:
    """The same for a reader: each attempt with its reason and the end of its log."""
    lines: list[str] = []
    for entry in failures(directory):
        ended = ", labelled by a later attempt" if entry["labelled"] else ""
        lines += [f"{entry['id']} {entry['formula']}{ended}", *_attempts(entry)]
    if lines:
        lines.append(f"to try again: alflow label {directory} --retry failed (or a reason, or an id)")
    members = trainings(directory)
    for entry in members:
        ended = ", trained by a later attempt" if entry["trained"] else ""
        lines += [f"{entry['id']} training of member {entry['member']}{ended}", *_attempts(entry)]
    if members:
        lines.append(f"to try again: alflow resume {directory} --retry")
    return "\n".join(lines) if lines else "no reference calculation has failed"


def _attempts(entry: dict[str, Any]) -> Iterator[str]:
    for number, attempt in enumerate(entry["attempts"]):
        changes = f" with {json.dumps(attempt['changes'])}" if attempt["changes"] else ""
        yield f"  attempt {number}{changes}: {attempt['reason']}"
        yield from (f"    | {line}" for line in attempt["detail"].splitlines())
