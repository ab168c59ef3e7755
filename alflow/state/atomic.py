"""A file is there as a whole or not at all: the one way in which alflow writes files that matter.

Importing this module must stay light: a worker process imports it before it sets its number of threads.
"""

import errno
import fcntl
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_COMPRESSED = {".gz", ".bz2", ".xz"}  # by the end of a name ASE decides on compression, so a temporary one keeps it
_TEMPORARY = re.compile(r"\..+\.(?P<pid>[0-9]+)@(?P<host>.+)\.tmp(\.gz|\.bz2|\.xz)?")
_ABANDONED = 86400.0  # s; a temporary file lives for seconds, so one this old is nobody's, on whatever host it was made


class TakenError(Exception):
    """The name of a file that may not be overwritten is taken."""


@contextmanager
def whole_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Write a file completely and durably: its name appears when it is finished, or not at all.

    Parameters
    ----------
    path : Path
        Its name; the folder must exist.
    overwrite : bool
        Whether a file that is there is replaced.

    Yields
    ------
    Path
        A temporary name in the same folder, under which the content is to be written. It is gone in any case.

    Raises
    ------
    TakenError
        There is a file of that name, and it is not to be replaced.
    OSError
        As the operating system says.
    """
    ending = path.suffix if path.suffix in _COMPRESSED else ""
    name = f".{path.name}.{secrets.token_hex(4)}.{os.getpid()}@{socket.gethostname()}.tmp{ending}"
    temporary = path.parent / name
    try:
        yield temporary
        # The content must be on the disk before the name is: after a power failure a name without content would look
        # like a finished result.
        _flush(temporary)
        if overwrite:
            temporary.replace(path)
        else:
            _link(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(temporary: Path, path: Path) -> None:
    """Give a file its name; unlike a rename, a hard link never replaces what is there."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may do it, lose the answer, and refuse the repetition: then it is this very file.
        if not path.samefile(temporary):
            raise TakenError from None
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
        _rename(temporary, path)


def _rename(temporary: Path, path: Path) -> None:
    """Where there are no hard links: look, then rename, with the folder locked against whoever does the same."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # no lock to be had on a folder: the lock of the run directory has to be enough
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.lexists(path):
            raise TakenError
        temporary.rename(path)
    finally:
        os.close(descriptor)


def sync(folder: Path) -> None:
    """Flush the entries of a folder to disk: a name, too, is lost in a power failure until that is done."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


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
