"""Templates: copied with the structures they name, never over what is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from alflow import config, templates
from alflow.errors import ConfigError, StoreError

NAMES = sorted(templates.describe())


def test_every_template_says_what_it_is_for() -> None:
    described = templates.describe()
    assert {"laptop", "bulk", "water-cluster"} <= set(described)
    for text in described.values():
        assert re.match(r"\w.{20,}\.$", text)


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_complete(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    written = templates.copy(name, folder)
    assert written[0] == folder / "alflow.toml"
    assert sorted(written) == sorted(folder.iterdir())
    for system in config.load(folder).system:
        assert folder / system.structures in written


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "hexamer.xyz").write_text("mine")
    assert templates.copy("laptop", tmp_path) == [tmp_path / "alflow.toml"]
    assert (tmp_path / "hexamer.xyz").read_text() == "mine"
    before = (tmp_path / "alflow.toml").read_bytes()
    with pytest.raises(ConfigError, match=r"alflow\.toml exists already and is not overwritten: edit it, or choose"):
        templates.copy("bulk", tmp_path)
    assert (tmp_path / "alflow.toml").read_bytes() == before
    assert not (tmp_path / "silicon.xyz").exists()


@pytest.mark.parametrize("name", ["labtop", "../workflows/laptop", ""])
def test_no_such_template(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^no template {name!r}: expected one of bulk, laptop, "):
        templates.copy(name, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StoreError, match=r"run cannot be written .*: choose another directory"):
        templates.copy("laptop", tmp_path / "run")


def test_the_locale_does_not_matter() -> None:
    """The templates hold Å and are UTF-8, whatever the locale takes files for."""
    code = "from alflow import templates; print(len(templates.describe()))"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-X", "warn_default_encoding", "-W", "error::EncodingWarning", "-c", code],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == str(len(NAMES)), done.stderr
