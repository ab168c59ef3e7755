"""Kinds that installed packages add: a reference code, a baseline, a potential, an observable."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from alflow import config
from alflow.averages.observables.base import Frame
from alflow.config import Kinds, installed, load, parse, templates
from alflow.errors import ConfigError, ObservableError
from alflow.executors.settings import Local
from alflow.report.averages import observables
from alflow.steps.assess import wanted
from ase import Atoms

MODULE = '''
import json
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from alflow.averages.observables.base import Kind, Observable
from alflow.models.settings import Potential
from alflow.reference.method import MethodSection, Result, Weighted, labelled
from alflow.reference.workflow import Workflow
from alflow.section import Positive
from pydantic import Field


class Springs(MethodSection):
    """Springs to the middle."""

    kind: Literal["springs"] = Field(description="springs to the middle")
    stiffness: Positive = Field(1.0, description="eV/Å^2")

    workflow: ClassVar[Workflow | None] = Workflow("# Springs to the middle of a molecule.\\nseed = 3\\n")
    after_colon: ClassVar[str | None] = "name"

    def identity(self):
        return json.dumps({"kind": "springs", "stiffness": self.stiffness})

    def code(self):
        return "springs 1.0"

    def check(self):
        pass

    def calculate(self, atoms, folder=None):
        away = atoms.positions - atoms.positions.mean(axis=0)
        energy, forces = 0.5 * self.stiffness * (away**2).sum(), -self.stiffness * away
        return Result(labelled(atoms, energy=energy, forces=forces), self.code())


class SpringsBaseline(Weighted, Springs):
    """The same below a committee."""


class Other(Potential):
    """Another model."""

    kind: Literal["other"] = Field(description="another model")
    depth: int = Field(3, ge=1, description="of it")


def build(words):
    return Observable(words.text, "size", "Å", lambda frame: np.array([np.ptp(frame.atoms.positions)]))


size = Kind("size", build)
'''
POINTS = {
    "references": "springs = springs:Springs",
    "baselines": "springs = springs:SpringsBaseline",
    "models": "other = springs:Other",
    "observables": "size = springs:size",
}
SYSTEM = '[[system]]\nname = "water"\nstructures = "water.xyz"\n'


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Makes a package of that module, with entry points, as pip would install it."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def make(points: dict[str, str], module: str = MODULE) -> Path:
        site = tmp_path / "site"
        info = site / "alflow_springs-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "springs.py").write_text(module)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: alflow-springs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("".join(f"[alflow.{group}]\n{line}\n" for group, line in points.items()))
        installed.cache_clear()
        return site

    yield make
    sys.modules.pop("springs", None)
    installed.cache_clear()


def test_what_alflow_has() -> None:
    kinds = Kinds()
    assert next(iter(kinds.references)) == next(iter(kinds.baselines)) == "tblite"
    assert list(kinds.potentials) == ["ace", "trained", "calculators"]
    assert dict(kinds.observables) == {}


def test_every_table_takes_the_kinds_of_a_package(install: Callable[..., Path], tmp_path: Path) -> None:
    install(POINTS)
    text = '[reference]\nkind = "springs"\nstiffness = 2\n[baseline]\nkind = "springs"\nweighting = "atom"\n'
    (tmp_path / "alflow.toml").write_text(f'{SYSTEM}{text}[potential]\nkind = "other"\nn_members = 8\ndepth = 4\n')
    settings = load(tmp_path)
    assert settings.reference.identity() == '{"kind": "springs", "stiffness": 2.0}'
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1.0]])
    assert settings.reference.at(tmp_path).calculate(atoms).frame.get_potential_energy() == 0.5
    assert settings.baseline is not None
    assert (settings.baseline.weighting, settings.baseline.code()) == ("atom", "springs 1.0")
    assert settings.potential.model_dump() == {"kind": "other", "n_members": 8, "depth": 4}
    assert settings.executor == Local()


def test_problems_are_told_of_kinds_of_a_package(install: Callable[..., Path], tmp_path: Path) -> None:
    install(POINTS)
    for text, message in (
        ('[reference]\nkind = "springs"\nstifness = 2\n', "unknown key reference.stifness: did you mean stiffness?"),
        ('[reference]\nkind = "springs"\nstiffness = -1\n', "reference.stiffness: expected greater than 0 (eV/Å^2), "),
        (
            '[potential]\nkind = "none"\n',
            'potential.kind: expected one of "ace", "trained", "calculators", "other", found "none"',
        ),
        ("[potential]\nn_members = 4\n", "potential.n_members: expected greater than or equal to 8"),
        ("[potential]\ndepth = 4\n", "unknown key potential.depth: expected one of cutoff, "),
    ):
        (tmp_path / "alflow.toml").write_text(SYSTEM + text)
        with pytest.raises(ConfigError) as caught:
            load(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path / 'alflow.toml'}: {message}")


def test_the_kinds_are_handed_in(install: Callable[..., Path]) -> None:
    """Those of alflow alone, whatever is installed."""
    install(POINTS)
    data = {"system": [{"name": "a", "structures": "a.xyz"}], "reference": {"kind": "springs"}}
    assert parse(data, "here").reference.code() == "springs 1.0"
    with pytest.raises(ConfigError, match=r'here: reference\.kind: expected one of "tblite", .*, found "springs"'):
        parse(data, "here", Kinds())
    assert "springs" not in config.document()


def test_a_kind_and_a_key_in_one_word(install: Callable[..., Path]) -> None:
    """The key that a class names after the colon is as unknown as any when the class does not have it."""
    install(POINTS)
    data = {"system": [{"name": "a", "structures": "a.xyz"}], "reference": {"kind": "springs:soft"}}
    with pytest.raises(ConfigError, match=r"here: unknown key reference\.name: expected one of kind, stiffness"):
        parse(data, "here")


def test_init_begins_with_a_code_of_a_package(install: Callable[..., Path], tmp_path: Path) -> None:
    install(POINTS)
    assert templates.describe()["springs"] == "Springs to the middle of a molecule."
    assert "springs" not in templates.describe(Kinds())
    assert templates.copy("springs", tmp_path / "run") == [tmp_path / "run" / "alflow.toml"]


def test_observables_of_a_package(install: Callable[..., Path], tmp_path: Path) -> None:
    """On the command line of `alflow average`, and in [converge]."""
    install(POINTS)
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.75]])
    (found,) = observables(["size"], tmp_path)
    assert found.parts(Frame(atoms, np.zeros(2), 300.0, None)).tolist() == [0.75]
    with pytest.raises(
        ObservableError, match=r"unknown observable 'sizes': expected one of .*, size; did you mean size"
    ):
        observables(["sizes"], tmp_path)
    data = {"system": [{"name": "a", "structures": "a.xyz"}], "converge": {"observable": "size"}}
    observable = wanted(parse(data, "here"), tmp_path)
    assert observable is not None
    assert observable.unit == "Å"
    with pytest.raises(ObservableError, match="unknown observable 'size'"):
        wanted(parse(data, "here", Kinds()), tmp_path)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (
            {"references": "springs = nowhere:Springs"},
            r"cannot be imported \(ModuleNotFoundError: No module named 'now",
        ),
        ({"references": "springs = springs:Nothing"}, r"cannot be imported \(AttributeError: .*'Nothing'"),
        ({"references": "tblite = springs:Springs"}, r": there is a kind tblite already: rename or uninstall"),
        ({"models": "ace = springs:Other"}, r": there is a kind ace already: rename or uninstall"),
        ({"observables": "rdf = springs:size"}, r": there is a kind rdf already: rename or uninstall"),
        (
            {"references": "coils = springs:Springs"},
            r': expected a section with kind: Literal\["coils"\], as the entry',
        ),
        (
            {"baselines": "springs = springs:Springs"},
            r": expected a subclass of alflow\.reference\.method\.Weighted, fo",
        ),
        (
            {"models": "springs = springs:size"},
            r": expected a subclass of alflow\.models\.settings\.AnyPotential, found",
        ),
        (
            {"observables": "size = springs:build"},
            r": expected an alflow\.averages\.observables\.base\.Kind, found <func",
        ),
    ],
)
def test_a_package_that_is_wrong(points: dict[str, str], message: str, install: Callable[..., Path]) -> None:
    install(points)
    with pytest.raises(ConfigError, match=f"^package alflow-springs, entry point .*{message}") as caught:
        config.schema()
    assert "\n" not in str(caught.value)


def test_a_whole_command_with_a_code_of_a_package(install: Callable[..., Path], tmp_path: Path) -> None:
    """Settings are read, the code is checked and calculates in a worker."""
    site = install(POINTS)
    run = tmp_path / "run"
    run.mkdir()
    (run / "water.xyz").write_text("3\n\nO 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n")
    (run / "alflow.toml").write_text(f'{SYSTEM}[reference]\nkind = "springs"\n[executor]\nworkers = 1\n')
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from alflow.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "check", run], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "ok     reference springs 1.0 on H2O: " in done.stdout
    assert json.loads(load(run).reference.identity())["stiffness"] == 1.0
