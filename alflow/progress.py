"""What a long step tells whoever watches."""

from typing import Protocol, runtime_checkable


class Progress(Protocol):
    """What a step tells about itself while it runs."""

    def begin(self, what: str, total: int) -> None:
        """A piece of work of ``total`` items begins."""

    def advance(self, done: int = 1) -> None:
        """``done`` more items are finished."""

    def detail(self, text: str) -> None:
        """How the piece of work stands now."""

    def note(self, message: str) -> None:
        """One line worth reading."""


@runtime_checkable
class Watched(Protocol):
    """A model that tells how far a fit is."""

    progress: Progress


class Silent:
    """Nobody watches."""

    def begin(self, what: str, total: int) -> None:
        """Nothing."""

    def advance(self, done: int = 1) -> None:
        """Nothing."""

    def detail(self, text: str) -> None:
        """Nothing."""

    def note(self, message: str) -> None:
        """Nothing."""
