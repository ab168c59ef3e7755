"""The frames that the walkers of a cycle stored."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from alflow.averages.measuring import Batch, Source
from alflow.errors import AverageError
from alflow.records.sample import SampleRecord
from alflow.state.file import read_file
from alflow.state.store import Store


def sample_source(path: Path, temperature: float | None = None, system: str | None = None) -> Source:
    """A cycle's ``sample.h5`` as a source.

    Raises
    ------
    AverageError
        As of :func:`sampled`.
    StoreError
        The file is damaged, or another record's; or the run that it is in is not of one piece.
    """
    place: dict[str, str | int] = {"step": "sample"}
    folder = path.absolute().parent
    if folder.parent.name == "cycles" and folder.name.isdigit():
        place["cycle"] = int(folder.name)
        if (folder.parents[1] / "alflow.toml").is_file():  # in its run; a copy of samples alone has no chain
            Store(folder.parents[1]).check()
    return sampled(read_file(path, SampleRecord, place), str(path), temperature, system)


def groups(record: SampleRecord) -> list[tuple[str, float]]:
    """System and temperature (K) of the ensembles that a record has frames of."""
    present = [record.ensembles[w] for w in np.unique(record.walker)]
    return sorted({(ensemble.system, ensemble.temperature) for ensemble in present})


def sampled(record: SampleRecord, name: str, temperature: float | None = None, system: str | None = None) -> Source:
    """The walkers of one system at one temperature.

    Parameters
    ----------
    record : SampleRecord
        Of all walkers of a cycle.
    name : str
        Where it is from.
    temperature : float, optional
        Which walkers, K; needed when they had several.
    system : str, optional
        Which walkers; needed when they had several.

    Raises
    ------
    AverageError
        No walkers of that system or temperature, or several and none is given.
    """
    found = groups(record)
    chosen = [(s, t) for s, t in found if system in {None, s} and (temperature is None or np.isclose(t, temperature))]
    there = ", ".join(f"{s} at {t:g} K" for s, t in found)
    if not chosen:
        asked = " ".join(
            [*([system] if system else []), *([f"at {temperature:g} K"] if temperature is not None else [])]
        )
        msg = f"{name} has no frames of {asked}: expected one of {there}"
        raise AverageError(msg)
    if len(chosen) > 1:
        msg = f"{name} has frames of several ensembles ({there}): choose one with --temperature and --system"
        raise AverageError(msg)
    system, kelvin = chosen[0]
    walkers = [
        int(w)
        for w in np.unique(record.walker)
        if (record.ensembles[w].system, record.ensembles[w].temperature) == (system, kelvin)
    ]
    stopped = sum(record.walker_stop[w] != "finished" for w in walkers)
    notes = () if not stopped else (f"{stopped} of {len(walkers)} walkers stopped early, where the committee was lost",)

    def batches() -> Iterator[Batch]:
        for walker in walkers:
            mine = np.flatnonzero(record.walker == walker)
            if record.walker_stop[walker] != "finished":
                mine = mine[:-1]  # where it left its bounds is no sample of the ensemble
            if len(mine):
                yield Batch(walker, record.energies[mine], record.energy[mine], [record.frames[k] for k in mine])

    return Source(f"{name}, {system} at {kelvin:g} K", kelvin, None, len(walkers), batches, notes)
