"""What a training leaves: a member that is finished, or an attempt that failed."""

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class MemberRecord:
    """A member that is finished; what the program wrote stands beside the file of this record, as ``model``.

    Attributes
    ----------
    name : str
        Hash of all that decides it.
    member : int
        Its number.
    seconds : float
        Wall time.
    n_train, n_validation : int
        Structures that it was shown.
    changes : str
        Settings changed for the attempt, as JSON; empty for none.
    log : str
        The end of what the program printed.
    files, checksums : tuple of str
        Every file of the model, relative to the folder, and its SHA-256.
    """

    name: str
    member: int
    seconds: float
    n_train: int
    n_validation: int
    changes: str
    log: str
    files: tuple[str, ...]
    checksums: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class FailedTraining:
    """An attempt that failed.

    Attributes
    ----------
    name, member
        As of :class:`MemberRecord`.
    reason : str
        One word of the taxonomy.
    detail : str
        The rest, with the end of the log.
    changes : str
        Settings changed for the attempt, as JSON.
    """

    name: str
    member: int
    reason: str
    detail: str
    changes: str
