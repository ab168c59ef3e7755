"""What a batch of reference calculations has left in a run directory, taken together."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from alflow.errors import StoreError
from alflow.records.label import LabelRecord
from alflow.state.store import Store
from alflow.structures import structure_id


def gather(store: Store, names: Sequence[str], method: str) -> LabelRecord:
    """Join the results of a batch, in the batch's order; StoreError when one of them is neither done nor failed."""
    failures = store.failures()
    records: list[LabelRecord] = []
    for name in names:
        records += [store.read_failure(path, LabelRecord) for path in failures.get(name, [])]
        if store.is_labelled(name) or name not in failures:
            records.append(store.read_label(name, LabelRecord))
    return LabelRecord.join(records, method)


def labels_besides(store: Store, names: Collection[str], method: str) -> dict[str, LabelRecord]:
    """Finished calculations that a method has made, but for some named ones: settings may have been others before.

    One that a writer gathers meanwhile may be missing: read these before the cycles' labels, and none is missed.
    StoreError when one is damaged.
    """
    found: dict[str, LabelRecord] = {}
    for name in store.labelled():
        if name in names:
            continue
        try:
            record = store.read_label(name, LabelRecord)
        except StoreError:
            if store.is_labelled(name):
                raise
            continue
        if structure_id(record.frames[0], method) == name:
            found[name] = record
    return found


def sweep_labels(store: Store, cycles: Iterable[int]) -> None:
    """Remove finished calculations that the committed label steps of some cycles have gathered.

    A writer that is killed between the commit and this leaves them behind: the next one removes them, and looks at all
    cycles for it.
    """
    if not store.labelled():
        return
    for cycle in cycles:
        if store.exists(cycle, "label"):
            for name in store.read(cycle, "label", LabelRecord).ids:
                with suppress(OSError):  # litter that stays does no harm, and the next writer tries again
                    store.label_path(name).unlink(missing_ok=True)
