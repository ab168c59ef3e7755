"""A committee whose members a program trains, each on its own half of the labels."""

import hashlib
import json
import shutil
import sys
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar, Self

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from alflow.committee.protocol import Fitted
from alflow.committee.resampling import Resampling
from alflow.committee.training import TrainingSet
from alflow.errors import AlflowError, PotentialError
from alflow.executors import LocalExecutor
from alflow.models.ace.fingerprint import Fingerprint
from alflow.models.independent import IndependentMembers
from alflow.models.settings import Workshop
from alflow.models.trained import keeping
from alflow.models.trained.settings import TrainedKeys
from alflow.models.trained.training import Job, command_of, train_all
from alflow.progress import Silent
from alflow.randomness import generator
from alflow.workers import programs
from alflow.workers.recipe import Recipe, interpreter_of

Array = NDArray[np.float64]

_LEAST = 2  # structures of a member's half: one to train on, one to validate
_DIGITS = 16  # of the hash that names a member
_PARENTS = 4  # folders above the file of a committee in which members are looked for
_SEED = 3  # last element of a random key: of a member's seed
_SHARE = 0x76616C69  # first element of another, no cycle's number: what of its half a member is validated on


class _Temporary:
    """A folder that is removed when nobody holds this object any more."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="alflow-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class TrainedModel(IndependentMembers):
    """A model of a committee (:class:`alflow.committee.protocol.Model`) whose members a program trains.

    Parameters
    ----------
    section : TrainedKeys
        What defines it.
    workshop : Workshop, optional
        Where members are trained; a model that was read from a file has none.
    """

    kind: ClassVar[str] = "trained"
    by_atom: ClassVar[bool] = False
    whole: ClassVar[bool] = False

    def __init__(self, section: TrainedKeys, workshop: Workshop | None) -> None:
        super().__init__()
        self.section, self.workshop = section, workshop
        self.names: tuple[str, ...] = ()
        self._temporary: _Temporary | None = None  # removed with the last copy of this model
        self.models = Path() if workshop is None else workshop.models.absolute()
        self.directory = Path() if workshop is None else workshop.directory.absolute()

    @classmethod
    def make(cls, n_members: int, settings: dict[str, Any]) -> Self:
        """Members that are still to be trained, on this machine; PotentialError for settings that are not allowed.

        ``settings`` may have besides the keys of the table: ``directory``, where files are found, by default the
        current one; ``models``, a folder for the members, by default a temporary one that is removed with the model;
        ``workers``, trainings at once.
        """
        given = dict(settings)
        directory, workers = Path(given.pop("directory", ".")), given.pop("workers", None)
        models = given.pop("models", None)
        try:
            section = TrainedKeys.model_validate({"n_members": n_members, **given})
        except ValidationError as error:
            first = error.errors()[0]
            msg = f"potential setting {'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise PotentialError(msg) from error
        temporary = _Temporary()
        workshop = Workshop(
            directory=directory,
            models=Path(temporary.path, "models") if models is None else Path(models),
            scratch=Path(temporary.path, "work"),
            open_executor=partial(_local, workers),
            progress=Silent(),
        )
        model = cls(section, workshop)
        model._temporary = temporary
        return model

    @property
    def n_members(self) -> int:
        """M."""
        return self.section.n_members

    @property
    def settings(self) -> TrainedKeys:
        """What defines it."""
        return self.section

    def recipes(self) -> Sequence[Recipe]:
        """How the calculator of each member is made; ConfigError when a member is missing or damaged."""
        plain = Recipe(self.section.calculator, self.section.parameters, self.section.python or "")
        here = plain.located(self.directory)
        return [here.with_file("{model}", str(keeping.model_of(self.models, name))) for name in self.names]

    def update(self, training: TrainingSet, first: int, resampling: Resampling, *, repels: bool) -> Fitted:  # noqa: ARG002
        """Train the members that are not trained yet, and judge all of them; see the protocol."""
        if self.workshop is None:
            msg = "members that were read from a file are not trained any further: train a new committee"
            raise PotentialError(msg)
        seen = resampling.seen
        fingerprint = Fingerprint.of(training.frames, training.numbers)
        halves = [np.flatnonzero(mine[resampling.groups]) for mine in seen]
        jobs = [self._job(member, training, half, resampling) for member, half in enumerate(halves)]
        train_all(jobs, self.section, self.workshop)
        self.workshop.progress.begin("judge members", 1)
        before = self.names, self.numbers, self.zeros
        self.names, self.numbers, self._recipes = tuple(job.name for job in jobs), training.numbers, None
        self.zeros = np.zeros((len(self.numbers), self.n_members))
        try:
            said = self.say(training.frames)
        except AlflowError:
            self.names, self.numbers, self.zeros = before
            self._recipes = None
            raise
        members = np.array([one.energies for one in said])
        judgement, noise = self.judged(training, members, said, resampling, seen)
        self.fingerprint, self._last = fingerprint, None
        unknown = np.full(len(self.numbers), np.nan)
        remarks = (*resampling.remarks(training.kinds()), *judgement.by_kind, *self.remarks(noise))
        return Fitted(judgement, float("nan"), unknown, float("nan"), remarks)

    def _job(self, member: int, training: TrainingSet, half: NDArray[np.intp], resampling: Resampling) -> Job:
        """The training of a member on its half; PotentialError if that is too small to train anything on."""
        assert self.workshop is not None  # noqa: S101
        if len(half) < _LEAST:
            msg = (
                f"member {member} would see {len(half)} of {len(training)} structures, expected {_LEAST} at least: "
                "add structures that differ (system.copies, system.rattle)"
            )
            raise PotentialError(msg)
        # Keyed by structure: what is validated on stays so when structures are added.
        draws = [
            float(generator(resampling.seed, _SHARE, member, int(k)).random()) if resampling.dealt[k] else 1.0
            for k in half
        ]
        aside = {int(k) for k, x in zip(half, draws, strict=True) if x < self.section.validation}
        aside = aside or {int(half[np.argmin(draws)])}
        if len(aside) == len(half):
            aside -= {int(half[np.argmax(draws)])}
        train, validation = [int(k) for k in half if int(k) not in aside], sorted(aside)
        start = self._start(training, member, resampling)
        values = {
            "seed": str(int(generator(resampling.seed, member, _SEED).integers(2**31))),
            "member": str(member),
            "python": interpreter_of(self.section.python or "", self.directory) or sys.executable,
        }
        words = command_of(self.section, self.directory, starts=bool(start))
        decides = {
            "command": programs.contents_of(words),
            "seed": values["seed"],
            "member": member,
            "start": start,
            "train": _digest(training, train),
            "validation": _digest(training, validation),
        }
        name = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:_DIGITS]
        if start:
            values["start"] = str(keeping.model_of(self.models, start))
        return Job(
            name=name,
            member=member,
            words=words,
            values=values,
            train=training.subset(train),
            validation=training.subset(validation),
            changes={},
            models=self.models,
            folder=self.workshop.scratch.absolute() / "training" / name,
            failed=keeping.failure_path(self.models, name, 0),
        )

    def _start(self, training: TrainingSet, member: int, resampling: Resampling) -> str:
        """Name of the model that a member goes on from; empty where there is none.

        It must have seen nothing that judges the new one: the halves must be those of then.
        """
        before = None if self.workshop is None else self.workshop.before
        if before is None or self.section.start is None or not isinstance(before.model, TrainedModel):
            return ""
        n, groups = len(before.training), before.resampling.groups
        same = (before.n_members, before.seed) == (self.n_members, resampling.seed)
        same = same and np.array_equal(groups, resampling.groups[: len(groups)]) and len(groups) == n
        if not same or n > len(training) or _digest(before.training, range(n)) != _digest(training, range(n)):
            return ""
        return before.model.names[member]

    def write(self, group: h5py.Group) -> None:
        """Write into an HDF5 group: what defines the members, and their names."""
        group.attrs["settings"] = self.section.model_dump_json(exclude_defaults=True, exclude={"kind"})
        group.attrs["members"] = json.dumps(self.names)

    @classmethod
    def read(cls, group: h5py.Group, training: TrainingSet) -> Self:
        """Read what :meth:`write` wrote; KeyError when something is missing."""
        model = cls(TrainedKeys.model_validate(json.loads(group.attrs["settings"])), None)
        model.names = tuple(json.loads(group.attrs["members"]))
        model.numbers = training.numbers
        model.zeros = np.zeros((len(model.numbers), model.n_members))
        model.fingerprint = Fingerprint.of(training.frames, training.numbers)
        if "files" in group:
            model._unpack(group)
        return model

    def found_at(self, path: Path) -> None:
        """Look for the members in the folders above the file of the committee."""
        if self.models != Path():  # they came with the file
            return
        for folder in list(path.absolute().parents)[:_PARENTS]:
            if all(keeping.is_trained(folder / "models", name) for name in self.names):
                self.models, self.directory = folder / "models", folder
                return

    def enclose(self, group: h5py.Group) -> None:
        """Write the members' files, and where other files that their calculators need are."""
        group.attrs["directory"] = str(self.directory)
        files = group.create_group("files")
        for name in self.names:
            keeping.model_of(self.models, name)  # verified before it is handed on
            folder = self.models / name
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
                files.create_dataset(f"{name}/{path.relative_to(folder)}", data=content)

    def _unpack(self, group: h5py.Group) -> None:
        """Put the members' files where their calculators can read them, until this model is gone."""
        self._temporary = _Temporary()
        temporary = self._temporary.path

        def unpack(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                path = temporary / "models" / name
                if not path.resolve().is_relative_to(temporary.resolve()):
                    msg = f"a file named {name}, outside the folder of its member"
                    raise KeyError(msg)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(item[()].tobytes())

        group["files"].visititems(unpack)
        self.models, self.directory = temporary / "models", Path(group.attrs["directory"])


def _local(workers: int | None, changes: Any) -> LocalExecutor:
    """Processes on this machine."""
    known = {key: changes[key] for key in ("threads", "timeout", "environment") if key in changes}
    return LocalExecutor(changes.get("workers", workers), **known)


def _digest(training: TrainingSet, indices: Sequence[int] | range) -> str:
    """Of structures and labels, to the last bit."""
    digest = hashlib.sha256()
    for k in indices:
        frame, energy, forces = training[k]
        for part in (frame.numbers, frame.positions, frame.cell.array, frame.pbc, np.float64(energy)):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(b"-" if forces is None else np.ascontiguousarray(forces).tobytes())
    return digest.hexdigest()
