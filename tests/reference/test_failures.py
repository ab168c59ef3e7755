"""Reasons of failures are those that [failures] has a key for."""

import inspect
import re
from pathlib import Path

import alflow.reference
from alflow.reference.failures import REASONS, Failures

SOURCES = Path(inspect.getfile(alflow.reference)).parent


def test_the_reasons() -> None:
    expected = ("not_converged", "crashed", "timed_out", "out_of_memory", "no_output", "not_finite", "inconsistent")
    assert expected == REASONS
    assert all(isinstance(getattr(Failures(), reason), tuple) for reason in REASONS)


def test_no_code_gives_another_reason() -> None:
    text = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    given = set(re.findall(r'LabelError\(\s*"(\w+)"', text))
    assert {"not_converged", "no_output", "crashed"} <= given <= set(REASONS)
