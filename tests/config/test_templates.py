"""Templates: copied with the files they name, never over what is there, and labelling what they are for.

``python tests/test_templates.py`` writes the stored inputs of programs that must be bought anew: look at what changed.
"""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alflow import config
from alflow.config import templates
from alflow.errors import ConfigError, LabelError, StoreError
from alflow.reference.kinds import REFERENCES
from alflow.steps.initial import initial_structures
from ase.data import atomic_numbers

NAMES = sorted(templates.describe())
STORED = Path(__file__).parents[1] / "reference" / "codes" / "stored" / "templates"
INPUTS = {"orca": ("orca.inp",), "aims": ("control.in", "geometry.in"), "vasp": ("INCAR", "KPOINTS", "POSCAR")}


def test_every_template_says_what_it_is_for() -> None:
    described = templates.describe()
    methods = {"pyscf", "cp2k", "espresso", "orca", "vasp", "aims", "gpaw", "command", "dataset", "manual"}
    others = {"laptop", "bulk", "water-cluster", "slurm", "parsl", "mace", "nequip", "foundation"}
    assert others | methods == set(described)
    for text in described.values():
        assert re.match(r"\w.{20,}\.$", text)


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_complete(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    written = templates.copy(name, folder)
    assert written[0] == folder / "alflow.toml"
    assert sorted(written) == sorted(folder.iterdir())
    settings = config.load(folder)
    for system in settings.system:
        assert folder / system.structures in written
    named = settings.reference.model_dump(include={"template", "file", "command"}, exclude_none=True).values()
    for word in " ".join(named).split():
        if word.endswith((".inp", ".in", ".py", ".xyz")):
            assert folder / word in written
    assert initial_structures(settings, folder)


def test_every_file_belongs_to_a_template(tmp_path: Path) -> None:
    written = {path.name for name in NAMES for path in templates.copy(name, tmp_path / name)}
    others = {path.name for path in templates.folder().iterdir() if path.suffix != ".toml" and path.is_file()}
    for method in REFERENCES.values():
        others |= set(method.workflow.files if method.workflow is not None else ())
    assert others == written - {"alflow.toml"}


def test_only_files_beside_the_template_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is no name, and a comment names nothing."""
    monkeypatch.setattr(templates, "folder", lambda: tmp_path / "from")
    (tmp_path / "from").mkdir()
    for name in ("a.xyz", "../secret.py", "b.inp"):
        (tmp_path / "from" / name).write_text("1")
    text = '# Words.\n# file = "b.inp"\n[reference]\ncommand = "python ../secret.py a.xyz"\nmore = [{x = "none.py"}]\n'
    (tmp_path / "from" / "one.toml").write_text(text)
    written = templates.copy("one", tmp_path / "to")
    assert [path.name for path in written] == ["alflow.toml", "a.xyz"]


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
    with pytest.raises(ConfigError, match=rf"^no template {name!r}: expected one of aims, bulk, command, cp2k, "):
        templates.copy(name, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StoreError, match=r"run cannot be written .*: choose another directory"):
        templates.copy("laptop", tmp_path / "run")


def test_the_locale_does_not_matter() -> None:
    """The templates hold Å and are UTF-8, whatever the locale takes files for."""
    code = "from alflow.config import templates; print(len(templates.describe()))"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-X", "warn_default_encoding", "-W", "error::EncodingWarning", "-c", code],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == str(len(NAMES)), done.stderr


@pytest.fixture
def equipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Potentials of VASP and basis sets of FHI-aims, and this Python before others."""
    equip(tmp_path)
    monkeypatch.setenv("VASP_PP_PATH", str(tmp_path / "potentials"))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    return tmp_path


def equip(folder: Path) -> None:
    for symbol in ("Si",):
        for file in (f"potentials/potpaw_PBE/{symbol}/POTCAR", f"light/{atomic_numbers[symbol]}_{symbol}_default"):
            (folder / file).parent.mkdir(parents=True)
            (folder / file).write_text(f"  species        {symbol}\n")


def opened(name: str, folder: Path) -> tuple[Any, config.Settings]:
    """The reference method of a template, and all its settings."""
    templates.copy(name, folder / "run")
    settings = config.load(folder / "run")
    changes = {"parameters": {"species_dir": str(folder / "light")}} if name == "aims" else {}
    return settings.reference.changed(changes).at(folder / "run"), settings


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_method_is_right_where_its_program_is(name: str, equipped: Path) -> None:
    method, _ = opened(name, equipped)
    if is_here(name, method):
        method.check()
        return
    programs = r"no program (orca|mpirun|srun|pw\.x|cp2k\.psmp) on PATH: |GPAW cannot be imported |PySCF .*pip install"
    absent = f"{programs}|no pseudopotential "
    with pytest.raises(ConfigError, match=absent):
        method.check()


def is_here(name: str, method: Any) -> bool:
    """Whether the program of a template, or its module, is on this machine."""
    if name in {"pyscf", "gpaw"}:
        return find_spec(name) is not None
    if name == "espresso" and not Path("/usr/share/espresso/pseudo/Si.pbe-rrkj.UPF").is_file():
        return False
    command = getattr(method, "command", None)
    return command is None or shutil.which(command.split()[0]) is not None


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_the_input_of_a_program_that_must_be_bought(name: str, equipped: Path) -> None:
    for file, text in inputs(name, equipped).items():
        assert text == (STORED / file).read_text(), file


def inputs(name: str, folder: Path) -> dict[str, str]:
    """What the program finds for the first structure, without the date."""
    method, settings = opened(name, folder)
    atoms = initial_structures(settings, folder / "run")[0]
    with pytest.raises(LabelError, match="no_output"):
        method.model_copy(update={"command": "true"}).calculate(atoms, folder / "files")
    texts = {file: (folder / "files" / file).read_text().splitlines() for file in INPUTS[name]}
    return {
        file: "".join(f"{line.rstrip()}\n" for line in lines if not (line.startswith("#") and line.count(":") == 2))
        for file, lines in texts.items()
    }


@pytest.mark.parametrize(
    "name",
    [
        "laptop", "bulk", "water-cluster", "parsl", "command", "dataset", "espresso", "pyscf",
        "gpaw", pytest.param("cp2k", marks=[pytest.mark.slow, pytest.mark.long]),
    ],
)  # fmt: skip
def test_a_structure_is_labelled(name: str, equipped: Path) -> None:
    """Really, by the program itself; its forces sum to nearly zero, so that grids and cutoffs are fine enough."""
    method, settings = opened(name, equipped)
    if not is_here(name, method):
        pytest.skip("its program is not installed")
    method.check()
    atoms = initial_structures(settings, equipped / "run")[1]
    result = method.calculate(atoms, equipped / "files")
    forces = result.frame.get_forces()
    assert np.isfinite(result.frame.get_potential_energy())
    assert forces.shape == (len(atoms), 3)
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=2e-3 * np.sqrt(len(atoms)))
    assert ("stress" in result.frame.calc.results) == atoms.pbc.all()
    assert result.code


if __name__ == "__main__":
    import tempfile

    for bought in INPUTS:
        with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
            equip(Path(made))
            patch.setenv("VASP_PP_PATH", str(Path(made) / "potentials"))
            for input_file, content in inputs(bought, Path(made)).items():
                STORED.mkdir(exist_ok=True)
                (STORED / input_file).write_text(content)
