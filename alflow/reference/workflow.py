"""The settings that ``alflow init`` begins a run with a code from."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Workflow:
    """A ready alflow.toml for a code, and the files of that code which it names.

    Attributes
    ----------
    text : str
        The alflow.toml; its first line is a comment that says what it is for.
    files : mapping of str to str
        Content of each further file by its name: an input file, a script. Structures that the text names are those of
        the folder ``workflows/``.
    """

    text: str
    files: Mapping[str, str] = field(default_factory=dict)
