"""Reference calculations, finished and failed."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LabelRecord:
    """Reference calculations, finished and failed.

    Attributes
    ----------
    ids : tuple of str, length L
        Hash of structure and method.
    frames : tuple of Atoms, length L
        Structures with energy (eV), forces (eV/Å) and, where there is one, stress (eV/Å^3).
    wall_time : ndarray, shape (L,)
        Of each calculation, s.
    code : tuple of str, length L
        Program and version.
    log : tuple of str, length L
        The end of what the program printed; empty where it prints nothing.
    extra : tuple of str, length L
        What else it gave, JSON: ``fermi_energy`` (eV), ``eigenvalues`` (eV, a list for each spin), ``occupations``.
    changes : tuple of str, length L
        Settings that were changed for the attempt that gave the label, JSON; empty for the first.
    baseline : tuple of str, length L
        Identity of the baseline whose results stand beside the label, JSON; empty where there is none.
    baseline_energy : ndarray, shape (L,)
        Energy by the baseline, eV; NaN where there is none or it failed. Labels hold the whole reference energy, so
        another baseline needs no new reference calculation.
    baseline_forces : ndarray, shape (sum N, 3)
        Forces by the baseline, structure after structure, eV/Å; NaN likewise.
    failed_ids, failed_reason, failed_detail, failed_changes : tuple of str, length F
        Attempts that failed, of a calculation one after the other: its id, one word of the taxonomy, the end of what
        the program said, and the settings changed for the attempt, JSON.
    failed_frames : tuple of Atoms, length F
        Their structures.
    method : str
        Identity of the reference method, JSON.
    """

    ids: tuple[str, ...]
    frames: tuple[Atoms, ...]
    wall_time: Array
    code: tuple[str, ...]
    log: tuple[str, ...]
    extra: tuple[str, ...]
    changes: tuple[str, ...]
    baseline: tuple[str, ...]
    baseline_energy: Array
    baseline_forces: Array
    failed_ids: tuple[str, ...]
    failed_frames: tuple[Atoms, ...]
    failed_reason: tuple[str, ...]
    failed_detail: tuple[str, ...]
    failed_changes: tuple[str, ...]
    method: str

    @classmethod
    def empty(cls, method: str) -> "LabelRecord":
        """No label and no failure, of a method."""
        return cls.join([], method)

    def with_label(
        self, name: str, frame: Atoms, wall_time: float, code: str, log: str = "", extra: str = "", changes: str = ""
    ) -> "LabelRecord":
        """One label more, without a baseline's result."""
        return replace(
            self,
            ids=(*self.ids, name),
            frames=(*self.frames, frame),
            wall_time=np.append(self.wall_time, wall_time),
            code=(*self.code, code),
            log=(*self.log, log),
            extra=(*self.extra, extra),
            changes=(*self.changes, changes),
            baseline=(*self.baseline, ""),
            baseline_energy=np.append(self.baseline_energy, np.nan),
            baseline_forces=np.concatenate([self.baseline_forces, np.full((len(frame), 3), np.nan)]),
        )

    def with_failure(self, name: str, frame: Atoms, reason: str, detail: str, changes: str = "") -> "LabelRecord":
        """One failed attempt more."""
        return replace(
            self,
            failed_ids=(*self.failed_ids, name),
            failed_frames=(*self.failed_frames, frame),
            failed_reason=(*self.failed_reason, reason),
            failed_detail=(*self.failed_detail, detail),
            failed_changes=(*self.failed_changes, changes),
        )

    @property
    def gave_up(self) -> tuple[str, ...]:
        """Calculations that have failed and no label, in order."""
        return tuple(name for name in dict.fromkeys(self.failed_ids) if name not in set(self.ids))

    @classmethod
    def join(cls, records: Sequence["LabelRecord"], method: str) -> "LabelRecord":
        """One record of all the labels and failures of several, in their order."""

        def column(name: str) -> tuple[Any, ...]:
            return tuple(item for record in records for item in getattr(record, name))

        arrays = {"wall_time": (0,), "baseline_energy": (0,), "baseline_forces": (0, 3)}
        joined: dict[str, Any] = {f.name: column(f.name) for f in fields(cls) if f.name not in {*arrays, "method"}}
        for name, shape in arrays.items():
            joined[name] = np.concatenate([np.zeros(shape), *(getattr(record, name) for record in records)])
        return cls(**joined, method=method)

    def baseline_results(self, identity: str) -> list[tuple[float, Array] | None]:
        """Energy and forces by the baseline of that identity, for each label; None where they are not kept."""
        cuts = np.cumsum([len(frame) for frame in self.frames])[:-1]
        forces = np.split(self.baseline_forces, cuts) if self.frames else []
        return [
            (float(energy), pull) if name == identity and np.isfinite(energy) else None
            for name, energy, pull in zip(self.baseline, self.baseline_energy, forces, strict=True)
        ]
