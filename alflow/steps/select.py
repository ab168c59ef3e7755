"""Select: the frames of a cycle that go to the reference method."""

import numpy as np
from ase import Atoms

from alflow.records.sample import SIGMAS, SampleRecord
from alflow.records.select import SelectRecord
from alflow.sampling.selection import select_fps
from alflow.steps.context import Context, labelled_frames
from alflow.steps.train import read_trained, trained_file
from alflow.structures import structure_id


def select(context: Context, cycle: int) -> SelectRecord:
    """Choose the frames of a cycle that go to the reference method."""
    settings = context.settings.select
    record = context.store.read(cycle, "sample", SampleRecord)
    model = read_trained(trained_file(context, cycle - 1)).model
    known_ids, known = labelled_frames(context.store, cycle - 1)
    context.progress.begin(f"cycle {cycle} select", 1)
    identity = context.method.identity()
    ids = [structure_id(frame, identity) for frame in record.frames]
    sane = (
        (record.distance_ratio >= settings.distance_ratio_min)
        & (record.largest_force <= settings.force_max)
        & np.isfinite(record.energy_sigma)
    )
    chosen = select_fps(
        np.array([model.features(frame) for frame in record.frames]),
        np.array([model.features(frame) for frame in known]),
        record.largest_force_sigma,
        sane & ~np.isin(ids, [*known_ids, *context.store.failed()]),
        sigma_min=settings.force_sigma_min,
        budget=_budget(context, len(known)),
        duplicate_distance=settings.duplicate_distance,
    )
    context.progress.advance()
    i = chosen.indices
    return SelectRecord(
        ids=tuple(ids[k] for k in i),
        frames=tuple(_bare(record.frames[k]) for k in i),
        source=i.astype(np.int64),
        reason=tuple(
            f"force sigma {record.largest_force_sigma[k]:.3f} >= {settings.force_sigma_min:g} eV/Å; {d:.2f} from known"
            for k, d in zip(i, chosen.distances, strict=True)
        ),
        energy_predicted=record.energies[i].mean(axis=1),
        **{name: getattr(record, name)[i] for name in SIGMAS},
        n_candidates=len(record.frames),
        n_rejected_sigma=chosen.n_sigma,
        n_rejected_unphysical=chosen.n_unphysical,
        n_rejected_duplicate=chosen.n_duplicate,
    )


def _budget(context: Context, n_known: int) -> int:
    """How many may be chosen: the cycle's budget, or what is left of the whole run's."""
    limit = context.settings.converge.max_labels
    budget = context.settings.select.budget
    return budget if limit is None else max(0, min(budget, limit - n_known))


def _bare(atoms: Atoms) -> Atoms:
    """The structure alone: no calculator, no momenta."""
    bare: Atoms = atoms.copy()
    bare.calc = None
    if bare.has("momenta"):
        del bare.arrays["momenta"]
    return bare
