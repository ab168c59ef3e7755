"""A committee of calculators that are there already."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import h5py
import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pydantic import ValidationError

from alflow.committee.committee import Committee
from alflow.committee.protocol import Fitted
from alflow.committee.resampling import Resampling
from alflow.committee.training import TrainingSet
from alflow.errors import ConfigError, PotentialError
from alflow.models.ace.fingerprint import Fingerprint
from alflow.models.calculators.settings import CalculatorsKeys, Member
from alflow.models.independent import IndependentMembers, Said
from alflow.structures import bits
from alflow.workers.interpreters import interpreter
from alflow.workers.recipe import Recipe

Array = NDArray[np.float64]

_ALONE = 1.0 - 1e-9  # leverage of a structure that alone decides on an energy zero: nothing is left to judge it by
_SETTINGS = "alflow.toml"
_PARENTS = 4  # folders above the file of a committee in which what it names is looked for


class CalculatorsModel(IndependentMembers):
    """A model of a committee (:class:`alflow.committee.protocol.Model`) of which nothing is trained.

    Each member counts its energies from where its authors did: an energy for each species of each member, by least
    squares over the labels, brings them together. All members judge all labels.

    Parameters
    ----------
    members : sequence of Member
        The calculators.
    directory : Path
        Where their files are.
    """

    kind: ClassVar[str] = "calculators"
    by_atom: ClassVar[bool] = False
    whole: ClassVar[bool] = True

    def __init__(self, members: Sequence[Member], directory: Path) -> None:
        super().__init__()
        self.members, self.directory = tuple(members), directory.absolute()
        self._contents: dict[str, str] | None = None
        self._packages: list[str] = []
        self._recorded: Path | None = None  # directory that a file for itself has
        self._known: dict[tuple[bytes, ...], Said] = {}
        self._frames: tuple[Atoms, ...] = ()

    @classmethod
    def make(cls, n_members: int, settings: dict[str, Any]) -> Self:  # noqa: ARG003 - as the protocol has it
        """Members that are still to be looked at: as many as ``settings`` list, whatever ``n_members`` says.

        Files that they name are found in the ``directory`` of ``settings``, by default the current one. PotentialError
        for settings that are not allowed.
        """
        given = dict(settings)
        directory = Path(given.pop("directory", "."))
        try:
            section = CalculatorsKeys.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            msg = f"potential setting {'.'.join(map(str, first['loc']))}: {first['msg']}, found {first['input']!r}"
            raise PotentialError(msg) from error
        return cls(section.members, directory)

    @property
    def n_members(self) -> int:
        """M."""
        return len(self.members)

    @property
    def settings(self) -> dict[str, Any]:
        """The members, as in alflow.toml."""
        return {"members": [member.model_dump(exclude_defaults=True) for member in self.members]}

    def recipes(self) -> Sequence[Recipe]:
        """How the calculator of each member is made.

        Raises
        ------
        ConfigError
            A file is missing, or is not the one that the committee was made with.
        """
        recipes = [member.recipe(self.directory) for member in self.members]
        for member in self.members:
            if member.file is not None and not (self.directory / member.file).is_file():
                msg = f"{self.directory / member.file}: no such file: give a model of `alflow train` or `alflow export`"
                raise ConfigError(msg)
        now = self._hashes(recipes)
        if self._contents is None:
            self._contents = now
        for name, content in self._contents.items():
            if now.get(name) != content:
                what = "is missing" if name not in now else "has another content now"
                msg = f"{self.directory / name} {what}, which a member was made from: restore it, or train again"
                raise ConfigError(msg)
        return [recipe.versioned() for recipe in recipes]

    def _hashes(self, recipes: Sequence[Recipe]) -> dict[str, str]:
        """SHA-256 of all files, by their place in the directory."""
        found: dict[str, str] = {}
        for recipe in recipes:
            for name, content in recipe.files().items():
                path = Path(name)
                inside = path.is_relative_to(self.directory)
                found[str(path.relative_to(self.directory)) if inside else name] = content
        return found

    def remember(self, before: Committee) -> None:
        """Take over what the same members have said in an earlier committee: nothing is evaluated twice."""
        other = before.model
        if isinstance(other, CalculatorsModel) and other.settings == self.settings:
            self.recipes()
            if (other._contents, other._packages) == (self._contents, self._packages_of()):  # noqa: SLF001
                self._known |= other._known  # noqa: SLF001 - of the same class

    def _packages_of(self) -> list[str]:
        """The package of each member with its version, as its interpreter says."""
        recipes = self.recipes()
        for recipe in recipes:
            interpreter(recipe, self.threads).make(recipe)
        return [interpreter(recipe, self.threads).packages[recipe.key] for recipe in recipes]

    def update(self, training: TrainingSet, first: int, resampling: Resampling, *, repels: bool) -> Fitted:  # noqa: ARG002
        """Find the members' energy zeros, and how far they are from the labels; see the protocol."""
        frames, numbers = training.frames, training.numbers
        fingerprint = Fingerprint.of(frames, numbers)
        new = [frame for frame in frames if bits(frame) not in self._known]
        self._known |= zip(map(bits, new), self.say(new), strict=True)
        said = [self._known[bits(frame)] for frame in frames]
        energies = np.array([one.energies for one in said])
        zeros = np.array([_differences(training, own).scatter()[0] for own in energies.T]).T
        counts = training.composition()
        leverage = np.sum(counts * np.linalg.pinv(counts, rcond=1e-8).T, axis=1)
        errors = training.energies[:, None] - energies - counts @ zeros
        # As if a structure had not been there when the zeros were found: it must not be judged by its own label.
        with np.errstate(divide="ignore", invalid="ignore"):
            judged = np.where(leverage < _ALONE, 1.0 / (1.0 - leverage), np.nan)
        members = training.energies[:, None] - errors * judged[:, None]
        judgement, noise = self.judged(training, members, said, resampling, seen=None)
        self.numbers, self.zeros, self.fingerprint, self._frames = numbers, zeros, fingerprint, frames
        self._packages = self._packages_of()
        unknown = np.full(len(numbers), np.nan)
        return Fitted(judgement, float("nan"), unknown, float("nan"), self.remarks(noise))

    def write(self, group: h5py.Group) -> None:
        """Write into an HDF5 group: how members are made, their energy zeros, and what they have said of labels."""
        said = [self._known[bits(frame)] for frame in self._frames]
        group.attrs["members"] = json.dumps(self.settings["members"], sort_keys=True)
        group.attrs["contents"] = json.dumps(self._contents or {}, sort_keys=True)
        group.attrs["packages"] = json.dumps(self._packages)
        group["zeros"] = self.zeros
        group["said_energies"] = np.array([one.energies for one in said])
        group["said_forces"] = np.concatenate([one.forces for one in said], axis=1)

    @classmethod
    def read(cls, group: h5py.Group, training: TrainingSet) -> Self:
        """Read what :meth:`write` wrote; KeyError when something is missing."""
        members = [Member.model_validate(member) for member in json.loads(group.attrs["members"])]
        recorded = group.attrs.get("directory")
        model = cls(members, Path(recorded or "."))
        model._recorded = Path(recorded) if recorded else None
        model._contents = json.loads(group.attrs["contents"])
        model._packages = json.loads(group.attrs["packages"])
        model.numbers, model.zeros = training.numbers, group["zeros"][()]
        model.fingerprint = Fingerprint.of(training.frames, training.numbers)
        model._frames = training.frames
        cuts = np.cumsum([len(frame) for frame in training.frames])[:-1]
        forces = np.split(group["said_forces"][()], cuts, axis=1)
        for frame, energies, own in zip(training.frames, group["said_energies"][()], forces, strict=True):
            model._known[bits(frame)] = Said(energies, own, None, None)
        return model

    def found_at(self, path: Path) -> None:
        """Look for the members' files in the run that the file of the committee is of, or near that file."""
        above = list(path.absolute().parents)[:_PARENTS]
        homes = [folder for folder in above if self._is_home(folder)]
        # Modules of the user's own lie where alflow.toml does, and never where alflow happens to be called.
        runs = [folder for folder in above if (folder / _SETTINGS).is_file()]
        self.directory = next(iter([*homes, *runs]), self._recorded or above[0])

    def _is_home(self, folder: Path) -> bool:
        """Whether all files that the members name are in a folder, interpreters included."""
        named = [*(self._contents or {}), *(m.python for m in self.members if m.python and "/" in m.python)]
        inside = [name for name in named if not Path(name).is_absolute()]
        return bool(inside) and all((folder / name).exists() for name in inside)

    def enclose(self, group: h5py.Group) -> None:
        """Say where the members' files are: they are the user's, may be large, and stay there."""
        group.attrs["directory"] = str(self.directory)


def _differences(training: TrainingSet, energies: Array) -> TrainingSet:
    """Labels less what a member says."""
    return TrainingSet(training.frames, training.energies - energies, training.forces)
