"""Reference calculations, finished and failed."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from alflow.records.electrons import Electrons
from alflow.records.properties import together

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_SHAPES: dict[str, tuple[tuple[int, ...], type]] = {
    "plain_energy": ((0,), np.float64),
    "wall_time": ((0,), np.float64),
    "cores": ((0,), np.int64),
    "baseline_energy": ((0,), np.float64),
    "baseline_forces": ((0, 3), np.float64),
    "baseline_stress": ((0, 6), np.float64),
}
"""Fields that are arrays, as they are without any label."""


def method_digest(method: str) -> str:
    """By which the headers of files know a reference method: eight digits of the hash of its identity."""
    return hashlib.sha256(method.encode()).hexdigest()[:8]


def label_place(name: str, batch: int, method: str) -> dict[str, str | int]:
    """What the header of a finished calculation says of its place.

    Parameters
    ----------
    name : str
        Of the calculation.
    batch : int
        Cycle whose label step asked for it; -1 for one that was tried again apart from its cycle.
    method : str
        Identity of the method of the run, without what was changed for an attempt.
    """
    return {"calculation": name, "batch": batch, "method": method_digest(method)}


@dataclass(frozen=True, eq=False)
class LabelRecord:
    """Reference calculations, finished and failed.

    Attributes
    ----------
    ids : tuple of str, length L
        Hash of structure and method.
    frames : tuple of Atoms, length L
        Structures with energy (eV), forces (eV/Å) and, where there is one, stress (eV/Å^3). The energy is the one that
        forces are the gradient of: with smearing of electrons the free energy E - TS.
    plain_energy : ndarray, shape (L,)
        E alone, eV; NaN where the program does not tell it apart.
    electrons : tuple of Electrons, length L
        Fermi energy, eigenvalues and occupations with the weights of their k-points.
    properties : dict of ndarray, shape (L, ...)
        What else there is of each structure, by name (``dipole``, e Å); NaN where a label has no such value.
    atom_properties : dict of ndarray, shape (sum N, ...)
        The same of each atom (``charges``, e; ``magmoms``, Bohr magnetons), structure after structure.
    wall_time : ndarray, shape (L,)
        Of each calculation, s.
    cores : ndarray of int, shape (L,)
        That each calculation had; 0 where nobody knows.
    code : tuple of str, length L
        Program and version.
    log : tuple of str, length L
        The end of what the program printed; empty where it prints nothing.
    changes : tuple of str, length L
        Settings that were changed for the attempt that gave the label, JSON; empty for the first.
    baseline : tuple of str, length L
        Identity of the baseline whose results stand beside the label, JSON; empty where there is none.
    baseline_energy : ndarray, shape (L,)
        Energy by the baseline, eV; NaN where there is none or it failed. Labels hold the whole reference energy, so
        another baseline needs no new reference calculation.
    baseline_forces : ndarray, shape (sum N, 3)
        Forces by the baseline, structure after structure, eV/Å; NaN likewise.
    baseline_stress : ndarray, shape (L, 6)
        Stress by the baseline, eV/Å^3; NaN where it has none, too.
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
    plain_energy: Array
    electrons: tuple[Electrons, ...]
    properties: dict[str, Array]
    atom_properties: dict[str, Array]
    wall_time: Array
    cores: IntArray
    code: tuple[str, ...]
    log: tuple[str, ...]
    changes: tuple[str, ...]
    baseline: tuple[str, ...]
    baseline_energy: Array
    baseline_forces: Array
    baseline_stress: Array
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
        self,
        name: str,
        frame: Atoms,
        wall_time: float,
        code: str,
        log: str = "",
        changes: str = "",
        *,
        plain_energy: float = float("nan"),
        electrons: Electrons | None = None,
        properties: Mapping[str, Array] | None = None,
        atom_properties: Mapping[str, Array] | None = None,
        cores: int = 0,
    ) -> "LabelRecord":
        """One label more, without a baseline's result."""
        one = replace(
            self.empty(self.method),
            ids=(name,),
            frames=(frame,),
            plain_energy=np.array([plain_energy], dtype=float),
            electrons=(electrons or Electrons(),),
            properties={key: np.asarray(value)[None] for key, value in (properties or {}).items()},
            atom_properties={key: np.asarray(value) for key, value in (atom_properties or {}).items()},
            wall_time=np.array([wall_time], dtype=float),
            cores=np.array([cores], dtype=np.int64),
            code=(code,),
            log=(log,),
            changes=(changes,),
            baseline=("",),
            baseline_energy=np.full(1, np.nan),
            baseline_forces=np.full((len(frame), 3), np.nan),
            baseline_stress=np.full((1, 6), np.nan),
        )
        return self.join([self, one], self.method)

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

    def parts(self) -> Iterator["LabelRecord"]:
        """Each of the labels alone, with all that stands beside it."""
        last = 0
        for index, frame in enumerate(self.frames):
            first, last = last, last + len(frame)
            one, atoms = slice(index, index + 1), slice(first, last)
            changed: dict[str, Any] = {
                "baseline_forces": self.baseline_forces[atoms],
                "properties": {name: values[one] for name, values in self.properties.items()},
                "atom_properties": {name: values[atoms] for name, values in self.atom_properties.items()},
            }
            for f in fields(self):
                if f.name not in changed and f.name != "method":
                    changed[f.name] = () if f.name.startswith("failed") else getattr(self, f.name)[one]
            yield replace(self, **changed)

    @property
    def gave_up(self) -> tuple[str, ...]:
        """Calculations that have failed and no label, in order."""
        return tuple(name for name in dict.fromkeys(self.failed_ids) if name not in set(self.ids))

    @property
    def headline(self) -> dict[str, str | int]:
        """Number of labels and of calculations that gave up, and a digest of the method."""
        return {"labels": len(self.ids), "failed": len(self.gave_up), "method": method_digest(self.method)}

    @classmethod
    def join(cls, records: Sequence["LabelRecord"], method: str) -> "LabelRecord":
        """One record of all the labels and failures of several, in their order."""
        joined: dict[str, Any] = {}
        for f in fields(cls):
            parts = [getattr(record, f.name) for record in records]
            if f.name in _SHAPES:
                shape, kind = _SHAPES[f.name]
                joined[f.name] = np.concatenate([np.zeros(shape, dtype=kind), *parts])
            elif f.name == "properties":
                joined[f.name] = together(parts, [len(record.ids) for record in records])
            elif f.name == "atom_properties":
                joined[f.name] = together(parts, [sum(map(len, record.frames)) for record in records])
            elif f.name != "method":
                joined[f.name] = tuple(item for part in parts for item in part)
        return cls(**joined, method=method)

    def baseline_results(self, identity: str) -> list[tuple[float, Array, Array] | None]:
        """Energy, forces and stress (NaN where it has none) by the baseline of that identity, for each label.

        None where they are not kept.
        """
        cuts = np.cumsum([len(frame) for frame in self.frames])[:-1]
        forces = np.split(self.baseline_forces, cuts) if self.frames else []
        return [
            (float(energy), pull, pressed) if name == identity and np.isfinite(energy) else None
            for name, energy, pull, pressed in zip(
                self.baseline, self.baseline_energy, forces, self.baseline_stress, strict=True
            )
        ]
