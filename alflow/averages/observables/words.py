"""The words of an observable, taken one after the other; whatever is wrong with them is an ObservableError."""

import math
from collections.abc import Iterable
from difflib import get_close_matches

from ase.data import chemical_symbols

from alflow.errors import ObservableError

_LARGEST = 100_000  # bins, and not a slip


def suggestion(word: str, known: Iterable[str]) -> str:
    """``"; did you mean ...?"`` for a near miss of a known word, else nothing."""
    names = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), names, n=1)
    return f"; did you mean {names[near[0]]}?" if near else ""


class Words:
    """What is left of the words of an observable; every method raises ObservableError.

    Parameters
    ----------
    text : str
        All words.
    usage : str
        What they should look like.
    """

    def __init__(self, text: str, usage: str) -> None:
        self.text = text
        self.usage = usage
        words = text.split()[1:]
        self._positional = [word for word in words if "=" not in word]
        pairs = [word.split("=", 1) for word in words if "=" in word]
        self._options = dict(pairs)
        self._asked: list[str] = []
        for key in self._options:
            if sum(key == pair[0] for pair in pairs) > 1:
                raise self.error(f"{key} is given more than once")

    def error(self, what: str) -> ObservableError:
        """An error that says ``what`` and what was expected."""
        return ObservableError(f"{self.text}: {what}: expected `{self.usage}`")

    @property
    def next(self) -> str:
        """The next positional word, empty when there is none; it stays."""
        return self._positional[0] if self._positional else ""

    def word(self, what: str) -> str:
        """The next positional word; ``what`` names it."""
        if not self._positional:
            raise self.error(f"{what} is missing")
        return self._positional.pop(0)

    def species(self, count: int) -> tuple[str, ...]:
        """Symbols joined by hyphens."""
        word = self.word("species")
        symbols = tuple(word.split("-"))
        if len(symbols) != count:
            raise self.error(f"{word} names {len(symbols)} species where {count} are meant")
        for symbol in symbols:
            if symbol not in chemical_symbols[1:]:
                near = suggestion(symbol, chemical_symbols[1:])
                raise self.error(f"{symbol!r} in {word!r} is not the symbol of an element{near}")
        return symbols

    def atoms(self, count: int) -> tuple[int, ...]:
        """Different indices of atoms."""
        indices = []
        for _ in range(count):
            word = self.word("the index of an atom")
            if not (word.isascii() and word.isdigit()):
                raise self.error(f"{word!r} is not the index of an atom (0, 1, 2, ...)")
            indices.append(int(word))
        if len(set(indices)) < count:
            raise self.error(f"atoms {' '.join(map(str, indices))} are not all different")
        return tuple(indices)

    def positive(self, what: str) -> float:
        """A positive number; ``what`` names it."""
        return self._positive(self.word(what), what)

    def interval(self) -> tuple[float, float]:
        """Two numbers ``low..high``, low < high."""
        word = self.word("a range")
        low, high = (_number(end) for end in word.partition("..")[::2])
        if not (math.isfinite(low) and math.isfinite(high)):
            raise self.error(f"the range {word!r} is not two numbers with .. between them")
        if low >= high:
            raise self.error(f"the range {word!r} is empty, write the smaller number first")
        return low, high

    def option(self, key: str, default: float) -> float:
        """A positive number, by its key."""
        self._asked.append(key)
        return self._positive(self._options[key], key) if key in self._options else default

    def bins(self, default: int) -> int:
        """A number of bins."""
        self._asked.append("bins")
        if "bins" not in self._options:
            return default
        word = self._options["bins"]
        if not (word.isascii() and word.isdigit() and 0 < int(word) <= _LARGEST):
            raise self.error(f"bins = {word!r} is not a whole number from 1 to {_LARGEST}")
        return int(word)

    def end(self) -> None:
        """Refuse what has not been asked for."""
        for key in self._options:
            if key not in self._asked:
                raise self.error(f"unknown option {key}{suggestion(key, self._asked)}")
        if self._positional:
            raise self.error(f"{self._positional[0]!r} is a word too many")

    def _positive(self, word: str, what: str) -> float:
        number = _number(word)
        if not 0 < number < math.inf:
            raise self.error(f"{what} = {word!r} is not a positive number")
        return number


def _number(word: str) -> float:
    """NaN if it is none."""
    try:
        return float(word)
    except ValueError:
        return math.nan
