"""Programs that read an input file and print what they find: runs, and the end of a log."""

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alflow.errors import ConfigError, LabelError

COMMAND = "program with its arguments, mpirun included; files of the run directory are found"
"""Description of the key ``command``."""

_TAIL_LINES, _TAIL_CHARACTERS = 60, 6000

_NOT_CONVERGED = ("not converge", "converge failure", "no convergence", "unconverged", "failed to converge",
                  "convergence not achieved")  # fmt: skip
_NO_MEMORY = ("out of memory", "cannot allocate memory", "bad_alloc", "memoryerror", "oom-kill", "oom_kill",
              "insufficient memory", "allocation failed")  # fmt: skip


@contextmanager
def working_folder(folder: Path | None) -> Iterator[Path]:
    """The folder given, or one that is removed in the end."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with TemporaryDirectory(prefix="alflow-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def check_command(command: str, what: str) -> None:
    """ConfigError if a program is not to be found."""
    check_program(words_of(command, what)[0], what)


def check_program(name: str, what: str) -> None:
    """ConfigError if a program is not to be found."""
    if shutil.which(name) is None:
        msg = f"{what}: command: no program {name} on PATH: install it, or give its path"
        raise ConfigError(msg)


def contents_of(words: list[str]) -> list[Any]:
    """The words of a command, with the content of files in the place of where they are."""
    return [{"sha256": content_hash(Path(word))} if _is_file(word) else word for word in words]


def _is_file(word: str) -> bool:
    """Whether it names a file wherever the program runs."""
    return Path(word).is_absolute() and Path(word).is_file()


def words_of(command: str, what: str) -> list[str]:
    """The words of a command line; ConfigError if it is not one."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        msg = f"{what}: command {command!r}: {error}"
        raise ConfigError(msg) from error
    if not words:
        msg = f"{what}: command is empty: expected a program with its arguments"
        raise ConfigError(msg)
    return words


def located(command: str, directory: Path) -> str:
    """A command whose words that name files of a directory are found from any other."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command  # told where it is checked
    place = directory.absolute()
    return shlex.join(str(place / word) if (place / word).is_file() else word for word in words)


def run(words: list[str], folder: Path, output: Path) -> str:
    """Run a program in a folder, its output and errors into a file; returns the end of that.

    Raises
    ------
    LabelError
        It cannot be started, ends by a signal or with another exit code than 0: ``out_of_memory``, ``not_converged``
        (as it says itself) or ``crashed``, with the end of what it printed.
    """
    before = out_of_memory_kills()
    try:
        with output.open("wb") as file:
            code = subprocess.run(  # noqa: S603 - the user's own command
                words, cwd=folder, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False
            ).returncode
    except OSError as error:
        msg = f"{words[0]} cannot be started: {error.strerror or error}"
        raise LabelError("crashed", msg) from error
    log = tail(output)
    if code == 0:
        return log
    killed = code in {-signal.SIGKILL, 128 + signal.SIGKILL}
    reason = "out_of_memory" if killed and out_of_memory_kills() > before else reason_of(None, log)
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    msg = f"{words[0]} ended {how}\n{log}"
    raise LabelError(reason, msg)


def reason_of(error: BaseException | None, text: str) -> str:
    """One word of the taxonomy for an exception, or for what a program printed before it gave up."""
    text = text.lower()
    if isinstance(error, MemoryError) or any(word in text for word in _NO_MEMORY):
        return "out_of_memory"
    if any(word in text for word in _NOT_CONVERGED):
        return "not_converged"
    if error is not None and "converge" in f"{type(error).__name__} {text}".lower():
        return "not_converged"
    return "crashed"


def tail(path: Path) -> str:
    """The last lines of a text file; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_CHARACTERS))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line.rstrip() for line in text.splitlines()[-_TAIL_LINES:]).strip("\n")


def end_of_logs(folder: Path) -> str:
    """The end of the text file that was written last in the folder of a calculation; empty when there is none."""
    try:
        logs = [path for path in folder.iterdir() if path.suffix in {".out", ".log"} and path.stat().st_size]
        return tail(max(logs, key=lambda path: path.stat().st_mtime)) if logs else ""
    except OSError:
        return ""


def out_of_memory_kills() -> int:
    """How many processes the kernel has killed because memory ran out; 0 where it does not say."""
    try:
        text = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", text, flags=re.MULTILINE)
    return int(found[1]) if found else 0


def text_of(path: Path, what: str) -> str:
    """What a program wrote; LabelError ``no_output`` when there is nothing."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    if not text.strip():
        msg = f"{what} wrote nothing to {path.name}"
        raise LabelError("no_output", msg)
    return text


def content_hash(path: Path) -> str:
    """SHA-256 of a file, calculated again only when its time or size is another; OSError when it cannot be read."""
    status = path.stat()
    return _content_hash(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _content_hash(path: Path, _time: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
