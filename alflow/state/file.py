"""One state file: written whole or not at all, never overwritten, verified whenever it is read.

It is written into a temporary file in the same folder, flushed to disk, linked to its name, and the folder is flushed
too. In front of its HDF5 content (in the HDF5 user block, which every HDF5 reader skips) stands one line of text with
the SHA-256 of all that follows, padded with NUL to 512 bytes; both are checked before anything is parsed.
"""

import errno
import fcntl
import hashlib
import io
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import h5py

from alflow.errors import AlflowError, StoreError
from alflow.state import encoding
from alflow.version import __version__

SCHEMA = 4

REMEDY = (
    "restore it from a backup, or remove it together with everything that was made after it "
    "and run `alflow resume` (of a production run: `alflow produce`) to make it again"
)

_HEADER = 512  # bytes of the HDF5 user block
_MAGIC = b"alflow state file, sha256 of what follows: "
_TEMPORARY = re.compile(r"\..+\.(?P<pid>[0-9]+)@(?P<host>.+)\.tmp")
_ABANDONED = 86400.0  # s; a temporary file lives for seconds, so one this old is nobody's, on whatever host it was made

_UNREADABLE = (AlflowError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What h5py, znh5md and a record's parts raise for content that is not what they expect."""

T = TypeVar("T")


def commit_file(
    path: Path, record: Any, attributes: Mapping[str, Any] | None = None, *, exist_ok: bool = False
) -> None:
    """Write a record into a file of its own: completely, durably and without overwriting.

    Parameters
    ----------
    path : Path
        Where; its folder must exist.
    record : dataclass instance
        What (:mod:`alflow.records`).
    attributes : mapping, optional
        Further attributes of the file: strings and numbers.
    exist_ok : bool
        Keep the file that is there already, instead of refusing.

    Raises
    ------
    StoreError
        The file exists, or cannot be written (disk full, read-only, no permission, ...), or the record holds what no
        file can; then no trace is left.
    """
    try:
        content = _encode(record, {"schema": SCHEMA, "alflow": __version__, **(attributes or {})})
    except (TypeError, ValueError) as error:
        msg = f"{path} cannot be written: {_line(error)}"
        raise StoreError(msg) from error
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.{os.getpid()}@{socket.gethostname()}.tmp"
    with os_errors(path):
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            _link(temporary, path, exist_ok=exist_ok)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        sync(path.parent)


def _link(temporary: Path, path: Path, *, exist_ok: bool) -> None:
    """Give a file its name; a name that is taken is not overwritten."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may do it, lose the answer, and refuse the repetition: then it is this very file.
        if not exist_ok and not path.samefile(temporary):
            raise StoreError(_taken(path)) from None
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        _rename(temporary, path, exist_ok=exist_ok)


def _rename(temporary: Path, path: Path, *, exist_ok: bool) -> None:
    """Where there are no hard links: look, then rename, with the folder locked against whoever does the same."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # no lock to be had on a folder: the lock of the run directory has to be enough
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not os.path.lexists(path):
            temporary.rename(path)
        elif not exist_ok:
            raise StoreError(_taken(path))
    finally:
        os.close(descriptor)


def _taken(path: Path) -> str:
    return (
        f"{path} exists already and is never overwritten: it is a finished result; "
        "to make it again, remove it together with everything that was made after it"
    )


def read_file(path: Path, cls: type[T], expected: Mapping[str, Any] | None = None) -> T:
    """Read a record, verified.

    Parameters
    ----------
    path : Path
        Where it is.
    cls : type
        What it must be.
    expected : mapping, optional
        Attributes that the file must have.

    Raises
    ------
    StoreError
        The file is missing, truncated, altered, of a newer version or not what it should be.
    """
    with os_errors(path):
        content = path.read_bytes()
    stated = _stated(content[:_HEADER], path)
    if hashlib.sha256(memoryview(content)[_HEADER:]).hexdigest() != stated:
        msg = f"{path} is damaged: its content does not match its checksum (truncated or altered); {REMEDY}"
        raise StoreError(msg)
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            _check_attributes(file.attrs, path, expected or {})
            return encoding.read(cls, file)
    except StoreError:
        raise
    except _UNREADABLE as error:
        msg = f"{path} is not what it should be, a {cls.__name__} ({_line(error)}); {REMEDY}"
        raise StoreError(msg) from error


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, as its header states it; StoreError when it has no such header."""
    with os_errors(path), path.open("rb") as file:
        return _stated(file.read(_HEADER), path)


def _check_attributes(attributes: Mapping[str, Any], path: Path, expected: Mapping[str, Any]) -> None:
    if attributes["schema"] > SCHEMA:
        msg = f"{path} was written by alflow {attributes['alflow']}, which is newer than this one: update alflow"
        raise StoreError(msg)
    if attributes["schema"] < SCHEMA:
        msg = f"{path} was written by an alflow before its first release: begin a new run directory"
        raise StoreError(msg)
    wrong = [key for key in expected if attributes.get(key) != expected[key]]
    if wrong:
        found = ", ".join(f"{key} {attributes.get(key)}" for key in wrong)
        wanted = ", ".join(f"{key} {expected[key]}" for key in wrong)
        msg = f"{path} is the file of another step or run: expected {wanted}, found {found}; {REMEDY}"
        raise StoreError(msg)


def _encode(record: Any, attributes: Mapping[str, Any]) -> memoryview:
    """Make the bytes of a state file. HDF5 writes into memory: a disk that fills up then fails in one plain place."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=_HEADER) as file:
        file.attrs.update(attributes)
        encoding.write(record, file)
    content = buffer.getbuffer()
    content[:_HEADER] = _header(hashlib.sha256(content[_HEADER:]).hexdigest())
    return content


def _header(digest: str) -> bytes:
    return (_MAGIC + digest.encode() + b"\n").ljust(_HEADER, b"\0")


def _stated(header: bytes, path: Path) -> str:
    """Give the checksum that a file's header states."""
    digest = header[len(_MAGIC) : len(_MAGIC) + 64].decode(errors="replace")
    if not re.fullmatch("[0-9a-f]{64}", digest) or header != _header(digest):
        msg = f"{path} is damaged: it does not begin like a state file (truncated or altered); {REMEDY}"
        raise StoreError(msg)
    return digest


def is_litter(path: Path) -> bool:
    """Whether a file is a temporary one whose writer, a process on this host, is dead (or made a day ago, anywhere)."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    if match["host"] == socket.gethostname() and not _is_alive(int(match["pid"])):
        return True
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > _ABANDONED
    return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True


def make_folder(folder: Path) -> None:
    """Make a folder, and those it is in, durable; StoreError when it cannot be made."""
    with os_errors(folder):
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for place in missing:
            sync(place.parent)


def sync(folder: Path) -> None:
    """Flush the entries of a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


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
