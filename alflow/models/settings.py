"""The table ``[potential]``: what is trained."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from alflow.section import Section

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from alflow.committee.committee import Committee
    from alflow.committee.protocol import Model
    from alflow.progress import Progress


@dataclass(frozen=True)
class Workshop:
    """Where a model that has to be trained elsewhere is trained.

    Attributes
    ----------
    directory : Path
        Files that settings name are found there.
    models : Path
        Folder for what was trained.
    scratch : Path
        Folder for what is of no use afterwards.
    open_executor : callable
        Opens an executor with some settings changed, as a context manager.
    progress : Progress
        Where to report.
    before : Committee, optional
        The committee before this one, of the same run.
    retry : bool
        Whether what has failed is tried again.
    remedy : str
        What the user can do about trainings that failed.
    """

    directory: Path
    models: Path
    scratch: Path
    open_executor: "Callable[[Mapping[str, Any]], AbstractContextManager[Executor]]"
    progress: "Progress"
    before: "Committee | None" = None
    retry: bool = False
    remedy: str = "correct the command, or remove the cause, and try again"


class AnyPotential(Section):
    """A kind of ``[potential]``: a subclass has a literal ``kind``, and the keys of its own.

    All keys but ``kind`` and ``n_members`` are the settings that :meth:`alflow.committee.protocol.Model.make` takes.
    """

    by_atom: ClassVar[bool] = True
    """Whether a baseline can be weighted atom by atom."""

    adds: ClassVar[bool] = False
    """Whether a fit to more structures is cheaper if it goes on from the last one, with the same result to the bit."""

    kind: str = Field(description="which model the committee is made of")

    @classmethod
    def model_class(cls) -> "type[Model]":
        """The class of the models, imported only here: settings are read without loading what evaluates them."""
        raise NotImplementedError

    def unfitted(self, workshop: Workshop) -> "Model":
        """A model that is still to be fitted; ConfigError or PotentialError when it cannot be made."""
        raise NotImplementedError

    @property
    def goes_on(self) -> bool:
        """Whether a fit uses the committee of the cycle before."""
        return False

    def executor_changes(self) -> Mapping[str, Mapping[str, Any]]:
        """What is changed of ``[executor]`` for trainings, by the key that changes it."""
        return {}


class Potential(AnyPotential):
    """A kind whose members are fitted, as many as are asked for."""

    n_members: int = Field(16, ge=8, le=256, description="members of the committee; 8 or more, to be calibrated")

    def unfitted(self, workshop: Workshop) -> "Model":  # noqa: ARG002 - most are fitted right where they are made
        """A model that is still to be fitted, by the keys of the table."""
        return self.model_class().make(self.n_members, self.model_dump(exclude={"kind", "n_members"}))
