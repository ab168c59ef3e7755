"""One state file: written whole or not at all, never overwritten, verified whenever it is read.

In front of its HDF5 content (in the HDF5 user block, which every HDF5 reader skips) stand two lines of text, padded
with NUL. The first states the SHA-256 of all that follows it. The second, a JSON object, is the :class:`Header`: which
file this is, the checksums of the files it was made from, and the few numbers that `alflow status` shows, so that a
chain of files can be followed, and a file in a wrong place be known, without opening HDF5.
"""

import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from alflow.errors import AlflowError, StoreError
from alflow.state.atomic import TakenError, sync, whole_file
from alflow.version import __version__

if TYPE_CHECKING:
    import h5py

SCHEMA = 7

REMEDY = (
    "restore it from a backup, or remove it together with everything that was made after it "
    "and run `alflow resume` (of a production run: `alflow produce`) to make it again"
)

_BLOCK = 512  # bytes of the smallest HDF5 user block; others are this times a power of two
_MAGIC = b"alflow file, sha256 of what follows: "
_OLD = b"alflow state file, sha256"
_FIRST = len(_MAGIC) + 65  # bytes of the first line

_UNREADABLE = (AlflowError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What h5py, znh5md and a record's parts raise for content that is not what they expect."""

T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its content.

    Attributes
    ----------
    kind : str
        Name of the class of its record.
    place : mapping
        Which file it is: cycle and step; walker and segment; calculation and attempt; ...
    made_from : mapping
        Checksum of each file that it was made from, by its path from the folder of this one: a run that was copied or
        moved as a whole is as good as it was.
    settings : str
        Hash of the settings that made it; empty where there are none.
    headline : mapping
        The few numbers that are shown without reading the content.
    size : int
        Bytes of the whole file: one that was cut is known without reading it.
    schema : int
        Version of the format.
    alflow : str
        Version of alflow that wrote it.
    checksum : str
        SHA-256 of all that follows the first line.
    """

    kind: str
    place: Mapping[str, str | int] = field(default_factory=dict)
    made_from: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""
    headline: Mapping[str, str | int] = field(default_factory=dict)
    size: int = 0
    schema: int = SCHEMA
    alflow: str = __version__
    checksum: str = ""


def commit_file(
    path: Path,
    record: Any,
    *,
    place: Mapping[str, str | int] | None = None,
    made_from: Mapping[str, str] | None = None,
    settings: str = "",
    exist_ok: bool = False,
) -> None:
    """Write a record into a file of its own: completely, durably and without overwriting.

    Parameters
    ----------
    path : Path
        Where; its folder must exist.
    record : dataclass instance
        What (:mod:`alflow.records`). Its property ``headline``, if it has one, goes into the header.
    place, made_from, settings
        As in :class:`Header`.
    exist_ok : bool
        Keep the file that is there already, instead of refusing.

    Raises
    ------
    StoreError
        The file exists, or cannot be written (disk full, read-only, no permission, ...), or the record holds what no
        file can; then no trace is left.
    """
    from alflow.state import encoding

    header = Header(
        kind=type(record).__name__,
        place=dict(place or {}),
        made_from=dict(made_from or {}),
        settings=settings,
        headline=dict(getattr(record, "headline", {})),
    )
    write_file(path, header, lambda file: encoding.write(record, file), exist_ok=exist_ok)


def write_file(
    path: Path,
    header: Header,
    write: Callable[["h5py.File"], None],
    *,
    exist_ok: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a header and what ``write`` puts into an empty HDF5 file; arguments and errors as of :func:`commit_file`.

    With ``overwrite`` a file that is there is replaced: for what a user asks for by name, never for state.
    """
    try:
        content = _encoded(header, write)
    except (TypeError, ValueError) as error:
        msg = f"{path} cannot be written: {_line(error)}"
        raise StoreError(msg) from error
    with os_errors(path):
        try:
            with whole_file(path, overwrite=overwrite) as temporary:
                temporary.write_bytes(content)
        except TakenError:
            if exist_ok:
                return
            msg = (
                f"{path} exists already and is never overwritten: it is a finished result; "
                "to make it again, remove it together with everything that was made after it"
            )
            raise StoreError(msg) from None


def read_file(path: Path, cls: type[T], place: Mapping[str, str | int] | None = None) -> T:
    """Read a record, verified.

    Parameters
    ----------
    path : Path
        Where it is.
    cls : type
        What it must be.
    place : mapping, optional
        What its header must say of its place, whatever else it says.

    Raises
    ------
    StoreError
        The file is missing, truncated, altered, of another version or not what it should be; or a file that it was made
        from is not the one that is there now.
    """
    from alflow.state import encoding

    with opened_file(path, place) as (_, file):
        try:
            return encoding.read(cls, file, path)
        except _UNREADABLE as error:
            msg = f"{path} is not what it should be, a {cls.__name__} ({_line(error)}); {REMEDY}"
            raise StoreError(msg) from error


@contextmanager
def opened_file(
    path: Path, place: Mapping[str, str | int] | None = None, remedy: str = REMEDY
) -> Iterator[tuple[Header, "h5py.File"]]:
    """The header and the HDF5 content of a file, every byte of it verified.

    Arguments and errors as of :func:`read_file`; ``remedy`` is what to do about a file that is damaged.
    """
    import h5py

    with os_errors(path):
        content = path.read_bytes()
    header = _parsed(content, path, remedy)
    _check_size(path, header, len(content), remedy)
    if hashlib.sha256(memoryview(content)[_FIRST:]).hexdigest() != header.checksum:
        msg = f"{path} is damaged: its content does not match its checksum (truncated or altered); {remedy}"
        raise StoreError(msg)
    check_place(path, header, place or {})
    check_origin(path, header)
    try:
        file = h5py.File(io.BytesIO(content), "r")
    except OSError as error:
        msg = f"{path} is not what it should be, a {header.kind} ({_line(error)}); {remedy}"
        raise StoreError(msg) from error
    with file:
        yield header, file


def read_header(path: Path) -> Header:
    """What a file says of itself, its content unread; StoreError as of :func:`read_file`, but not for altered content.

    A file that was cut is noticed by its size.
    """
    with os_errors(path), path.open("rb") as file:
        text = file.read(_BLOCK)
        while not text.endswith(b"\0") and (more := file.read(len(text))):
            text += more
        size = file.seek(0, 2)
    header = _parsed(text, path)
    _check_size(path, header, size)
    return header


def _check_size(path: Path, header: Header, size: int, remedy: str = REMEDY) -> None:
    if header.size != size:
        msg = f"{path} is damaged: it has {size} bytes, expected {header.size} (truncated or altered); {remedy}"
        raise StoreError(msg)


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, as its header states it; StoreError when it has no such header."""
    return read_header(path).checksum


def check_place(path: Path, header: Header, place: Mapping[str, str | int]) -> None:
    """StoreError for a file that is valid, and another than it is taken for."""
    wrong = [key for key in place if header.place.get(key) != place[key]]
    if wrong:
        found = ", ".join(f"{key} {header.place.get(key, 'none')}" for key in wrong)
        wanted = ", ".join(f"{key} {place[key]}" for key in wrong)
        msg = f"{path} is the file of another step or run: expected {wanted}, found {found}; {REMEDY}"
        raise StoreError(msg)


def check_origin(path: Path, header: Header, known: Mapping[Path, str] | None = None) -> None:
    """StoreError if a file that this one was made from is there and is another now; one that is gone says nothing.

    Parameters
    ----------
    path, header
        The file, and what it says of itself.
    known : mapping, optional
        Checksums of files whose headers have been read already.
    """
    for name, stated in header.made_from.items():
        source = Path(os.path.normpath(path.parent / name))
        found = known.get(source) if known else None
        if found is None and source.exists():
            found = checksum(source)
        if found not in {None, stated}:
            msg = (
                f"{source} is not the file that {path} was made from: one of them is of another run, or was made anew; "
                "restore the one that was there from a backup, or remove everything that was made after it and run "
                "`alflow resume`"
            )
            raise StoreError(msg)


def origin(path: Path, sources: Iterable[Path]) -> dict[str, str]:
    """What the header of a file says of those it is made from: ``made_from`` of :class:`Header`."""
    return {Path(os.path.relpath(source, path.parent)).as_posix(): checksum(source) for source in sources}


def _encoded(header: Header, write: Callable[["h5py.File"], None]) -> memoryview:
    """Make the bytes of a state file. HDF5 writes into memory: a disk that fills up then fails in one plain place."""
    import h5py

    block = _BLOCK
    while block < _FIRST + len(_second_line(header, size=10**15)):
        block *= 2
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=block) as file:
        write(file)
    content = buffer.getbuffer()
    content[_FIRST:block] = _second_line(header, size=len(content)).ljust(block - _FIRST, b"\0")
    content[:_FIRST] = _MAGIC + hashlib.sha256(content[_FIRST:]).hexdigest().encode() + b"\n"
    return content


def _second_line(header: Header, size: int) -> bytes:
    """The header as JSON; its text ends with a NUL, so that whoever reads it knows where."""
    plain = {**asdict(header), "size": size}
    del plain["checksum"]
    return json.dumps(plain, sort_keys=True).encode() + b"\n\0"


def _parsed(content: bytes, path: Path, remedy: str = REMEDY) -> Header:
    """The header in the beginning of a file."""
    if content.startswith(_OLD):
        msg = (
            f"{path} was written by an alflow before its first release: begin a new run directory; its labels can be "
            "taken over with `alflow label --import OLD/cycles`, its models trained again"
        )
        raise StoreError(msg)
    first, text = content[:_FIRST], content[_FIRST : max(content.find(b"\n", _FIRST), _FIRST)]
    digest = first[len(_MAGIC) : -1].decode(errors="replace")
    try:
        if not re.fullmatch("[0-9a-f]{64}", digest) or first != _MAGIC + digest.encode() + b"\n":
            raise ValueError
        found = json.loads(text)
        if found["schema"] > SCHEMA:
            msg = f"{path} was written by alflow {found['alflow']}, which is newer than this one: update alflow"
            raise StoreError(msg)
        if not all(isinstance(found[name], dict) for name in ("place", "made_from", "headline")):
            raise TypeError
        return Header(**found, checksum=digest)
    except (ValueError, TypeError, KeyError) as error:
        msg = f"{path} is damaged: it does not begin like a file of alflow (truncated or altered); {remedy}"
        raise StoreError(msg) from error


def make_folder(folder: Path) -> None:
    """Make a folder, and those it is in, durable; StoreError when it cannot be made."""
    with os_errors(folder):
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for place in missing:
            sync(place.parent)


_AGAIN = "and run `alflow resume` (or `alflow produce`) again"
_WHAT_TO_DO = {
    errno.ENOSPC: f"free some space {_AGAIN}; nothing that was finished is lost",
    errno.EDQUOT: f"free some of your quota {_AGAIN}; nothing that was finished is lost",
    errno.EFBIG: f"raise the limit on file size {_AGAIN}; nothing that was finished is lost",
    errno.EROFS: "make the file system writable, or copy the run directory to one that is",
    errno.EACCES: "check its permissions and owner",
    errno.EPERM: "check its permissions and owner",
    errno.EEXIST: "a file is where a folder should be: move it away",
    errno.ENOTDIR: "a file is where a folder should be: move it away",
    errno.EISDIR: "a folder is where a file should be: move it away",
    errno.ENOENT: "check the name of the run directory; if that is right, run `alflow resume` to make what is missing",
}


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into one clear line."""
    try:
        yield
    except OSError as error:
        remedy = _WHAT_TO_DO.get(error.errno or 0, "check the file system")
        msg = f"{path}: {error.strerror or error}: {remedy}"
        raise StoreError(msg) from error


def _line(error: Exception) -> str:
    """Put what an error says into one line."""
    return " ".join(f"{error}".split()) or type(error).__name__
