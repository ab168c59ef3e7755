"""docs/first-half-hour.md is what happens: its files are written, its commands run, and they print what it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "first-half-hour.md"
NUMBER = re.compile(r"(?<![A-Za-z])[-+]?\d[\d.:]*(?:e[-+]?\d+)?(?![A-Za-z])|(?<=\s)-(?=[\s,]|$)")


def plain(text: str) -> str:
    """A line without numbers, and with single blanks: those of a table depend on the numbers."""
    return " ".join(NUMBER.sub("N", text).split())


def blocks() -> list[tuple[str, str]]:
    return re.findall(r"^```(\S+(?: \S+)?)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Each command of a block, and the lines that it prints."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    return [(command, printed.splitlines()) for command, printed in zip(parts[1::2], parts[2::2], strict=True)]


def assert_printed(expected: list[str], printed: list[str], command: str) -> None:
    """All lines in order; ``...`` stands for any number of others."""
    where = 0
    free = False
    for line in expected:
        if line == "...":
            free = True
            continue
        rest = [plain(other) for other in printed[where:]]
        assert plain(line) in (rest if free else rest[:1]), f"{command}: expected {line!r} in {printed[where:]}"
        where += rest.index(plain(line)) + 1
        free = False
    assert free or where == len(printed), f"{command}: also printed {printed[where:]}"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("timeout") is None, reason="there is no command timeout")
def test_everything_is_printed_as_it_stands(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    n_commands = 0
    for kind, text in blocks():
        language, _, name = kind.partition(" ")
        if language == "toml":
            (tmp_path / name).write_text(text)
            continue
        for command, expected in commands(text):
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env={**os.environ, "PATH": path, "COLUMNS": "200"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=300,
                check=False,
            )
            assert_printed(expected, done.stdout.splitlines(), command)
            n_commands += 1
    assert n_commands == 21
