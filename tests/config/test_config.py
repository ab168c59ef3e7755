"""Settings: what is wrong is named with its file, its key, what is allowed and what was found."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from alflow import config
from alflow.averages.observables.settings import UserObservable
from alflow.config import load, parse, templates
from alflow.config.places import sections
from alflow.errors import ConfigError
from alflow.executors.settings import Parsl, Slurm
from alflow.models.calculators.potential import CalculatorsPotential
from alflow.models.trained.potential import TrainedPotential
from alflow.reference.kinds import BASELINES as BUILT_IN
from alflow.reference.kinds import REFERENCES
from alflow.reference.method import Weighted
from alflow.section import Section
from alflow.steps.initial import initial_structures
from pydantic import ValidationError

WORKFLOWS = Path(__file__).parents[2] / "workflows"
SYSTEM = '[[system]]\nname = "water"\nstructures = "water.xyz"\n'
SETTINGS = config.schema()
SECTIONS = {name: list(sections(field.annotation)) for name, field in SETTINGS.model_fields.items()}
MODELS = [SETTINGS, *(model for models in SECTIONS.values() for model in models)]
BASELINES = {get_args(model.model_fields["kind"].annotation)[0]: model for model in SECTIONS["baseline"]}
REQUIRED: dict[type[Section], dict[str, Any]] = {
    config.System: {"name": "water", "structures": "water.xyz"},
    UserObservable: {"name": "gap", "function": "gaps:largest"},
    BUILT_IN["ase"]: {"kind": "ase", "name": "ase.calculators.lj.LennardJones"},
    BUILT_IN["model"]: {"kind": "model", "file": "model.h5"},
    TrainedPotential: {
        "kind": "trained",
        "command": "train {train} {output}",
        "calculator": "trainer.Calculator",
        "parameters": {"model": "{model}"},
    },
    CalculatorsPotential: {
        "kind": "calculators",
        "members": [{"file": "a.h5"}, {"calculator": "ase.calculators.emt.EMT"}],
    },
    **{
        REFERENCES[kind]: {"kind": kind, **options}
        for kind, options in {
            "pyscf": {},
            "cp2k": {"template": "cp2k.inp"},
            "espresso": {"template": "espresso.in"},
            "orca": {},
            "vasp": {},
            "aims": {},
            "gpaw": {},
            "ase": {"name": "ase.calculators.lj.LennardJones"},
            "command": {"command": "label"},
            "dataset": {"file": "labelled.xyz"},
            "manual": {},
        }.items()
    },
    Slurm: {"kind": "slurm"},
    Parsl: {"kind": "parsl"},
}


def refused(folder: Path, text: str) -> list[str]:
    """The lines of the refusal, without the file they all begin with."""
    (folder / "alflow.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(folder)
    lines = str(caught.value).split("\n")
    assert all(line.startswith(f"{folder / 'alflow.toml'}: ") for line in lines)
    return [line.removeprefix(f"{folder / 'alflow.toml'}: ") for line in lines]


def test_defaults(tmp_path: Path) -> None:
    (tmp_path / "alflow.toml").write_text(SYSTEM)
    settings = load(tmp_path)
    assert [system.name for system in settings.system] == ["water"]
    assert settings.baseline is None
    assert settings.sample.temperature == (300.0,)


def test_a_file_that_is_missing_or_cannot_be_read(tmp_path: Path) -> None:
    match = rf"^no alflow\.toml in {re.escape(str(tmp_path))}: give a run directory, or make one with `alflow init "
    with pytest.raises(ConfigError, match=match):
        load(tmp_path)
    path = tmp_path / "alflow.toml"
    path.mkdir()
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))} cannot be read: .*directory"):
        load(tmp_path)
    path.rmdir()
    path.write_bytes(b"# \xff\n")
    with pytest.raises(ConfigError, match="cannot be read: 'utf-8' codec"):
        load(tmp_path)


def test_not_toml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "alflow.toml").write_text("seed = 1\nseed 2\n")
    with pytest.raises(ConfigError, match=r"alflow\.toml is not TOML: .*line 2"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sede = 1\n" + SYSTEM, "unknown key sede: did you mean seed?"),
        (SYSTEM + "[potental]\n", "unknown key potental: did you mean potential?"),
        (SYSTEM + "[sample]\ntemprature = 1\n", "unknown key sample.temprature: did you mean temperature?"),
        (SYSTEM + "copis = 1\n", "unknown key system[0].copis: did you mean copies?"),
        (SYSTEM + '[baseline]\nmetod = ""\n', "unknown key baseline.metod: did you mean method?"),
        (
            SYSTEM + "[converge]\nxyzzy = 1\n",
            (
                "unknown key converge.xyzzy: expected one of cycles, force_sigma, max_cycles, max_labels, "
                "observable, tolerance"
            ),
        ),
        (SYSTEM + '[converge]\n"x y\\n" = 1\n', r'unknown key converge."x y\n": expected one of cycles, '),
        (
            SYSTEM + '[baseline]\nkind = "magic"\n',
            'baseline.kind: expected one of "tblite", "ase", "model", found "magic"',
        ),
        (SYSTEM + "[baseline]\nkind = 3\n", 'baseline.kind: expected one of "tblite", "ase", "model", found 3'),
        ("baseline = 3\n" + SYSTEM, "baseline: expected [baseline], found 3"),
        (SYSTEM + '[baseline]\nkind = "ase"\n', "baseline.name is missing: module.Class of an ASE calculator"),
        (
            SYSTEM + '[baseline]\nkind = "ase"\nname = "LennardJones"\n',
            (
                r"baseline.name: expected a match of ^[A-Za-z_][A-Za-z0-9_.]*\.[A-Za-z_][A-Za-z0-9_]*$ "
                '(module.Class of an ASE calculator), found "LennardJones"'
            ),
        ),
        (
            SYSTEM + '[baseline]\nkind = "ase"\nname = "a.B"\nparameters = 3\n',
            "baseline.parameters: expected a valid dictionary (its keyword arguments, a table), found 3",
        ),
        (
            SYSTEM + '[baseline]\nkind = "model"\nfile = "m.h5"\nmethod = "GFN1-xTB"\n',
            "unknown key baseline.method: expected one of error, file, kind, trust, weighting",
        ),
        (
            SYSTEM + '[baseline]\nweighting = "some"\n',
            (
                "baseline.weighting: expected 'total', 'atom' or 'none' (walks trust the committee's correction by its "
                'sigma, in total or atom by atom, or always), found "some"'
            ),
        ),
        ("[system]\n", "system: expected tables [[system]], found {}"),
        ('system = ["water"]\n', 'system[0]: expected tables [[system]], found "water"'),
        ("", "system is missing: what is to be learned"),
        ("system = []\n", "system: expected at least one (what is to be learned), found []"),
        ('[[system]]\nstructures = "a"\n', "system[0].name is missing: letters, digits, - and _; unique"),
        (
            SYSTEM.replace("water.xyz", ""),
            (
                "system[0].structures: expected at least one character "
                "(file of initial structures, extended XYZ or another format of docs/formats.md; relative to here), "
                'found ""'
            ),
        ),
        (
            SYSTEM.replace('"water"', '"liquid water"'),
            (
                "system[0].name: expected a match of ^[A-Za-z0-9_-]+$ (letters, digits, - and _; unique), "
                'found "liquid water"'
            ),
        ),
        (SYSTEM + SYSTEM, "system names must differ, found water, water"),
        (
            SYSTEM + '[potential]\ncutoff = "5.5"\n',
            (
                "potential.cutoff: expected a valid number (radius within which an atom sees others, Å; by default "
                '4.5 to 6.5, as suits the labels), found "5.5"'
            ),
        ),
        (
            SYSTEM + "[potential]\ncutoff = nan\n",
            (
                "potential.cutoff: expected a finite number (radius within which an atom sees others, Å; by default "
                "4.5 to 6.5, as suits the labels), found nan"
            ),
        ),
        (
            SYSTEM + "[potential]\nn_members = 16.0\n",
            (
                "potential.n_members: expected a valid integer "
                "(members of the committee; 8 or more, to be calibrated), found 16.0"
            ),
        ),
        (
            SYSTEM + "[potential]\nn_members = 4\n",
            (
                "potential.n_members: expected greater than or equal to 8 "
                "(members of the committee; 8 or more, to be calibrated), found 4"
            ),
        ),
        ("seed = true\n" + SYSTEM, "seed: expected a valid integer (of every random choice), found true"),
        (SYSTEM + "charge = false\n", "system[0].charge: expected a valid integer (total charge, e), found false"),
        (
            SYSTEM + "[sample]\ntemperature = [300, -10]\n",
            (
                "sample.temperature[1]: expected greater than 0 "
                "(of the thermostat, K: a number or a list; `walkers` for each), found -10"
            ),
        ),
        (
            SYSTEM + "[sample]\ntemperature = []\n",
            (
                "sample.temperature: expected at least one "
                "(of the thermostat, K: a number or a list; `walkers` for each), found []"
            ),
        ),
        (
            SYSTEM + '[sample]\ntemperature = "hot"\n',
            'sample.temperature: expected a number or a list of numbers, found "hot"',
        ),
        (
            SYSTEM + "[sample]\ntemperature = true\n",
            "sample.temperature: expected a number or a list of numbers, found true",
        ),
        (
            SYSTEM + "[sample]\nsteps = 10\nstride = 20\n",
            "sample: stride = 20 is larger than steps = 10: no frame would be stored",
        ),
        (
            SYSTEM + "[select]\ndistance_ratio_min = 1.5\n",
            (
                "select.distance_ratio_min: expected less than or equal to 1 "
                "(frames with closer atoms are not labelled (share of the covalent radii)), found 1.5"
            ),
        ),
        (
            SYSTEM + '[reference]\nmethod = "GFN0-xTB"\n',
            "reference.method: expected 'GFN2-xTB', 'GFN1-xTB' or 'IPEA1-xTB' (parametrisation), found \"GFN0-xTB\"",
        ),
        ("sample = 3\n" + SYSTEM, "sample: expected [sample], found 3"),
        (f"sample = {list(range(90))}\n" + SYSTEM, f"sample: expected [sample], found {str(list(range(90)))[:80]}..."),
    ],
)
def test_one_problem(text: str, line: str, tmp_path: Path) -> None:
    (found,) = refused(tmp_path, text)
    assert found.startswith(line)
    assert found == line or line.endswith(", ")


def test_several_problems_are_a_line_each(tmp_path: Path) -> None:
    lines = refused(tmp_path, "seed = -1\n" + SYSTEM + "copies = -1\n[select]\nbudget = 0\n[smaple]\n")
    assert [re.split("[: ]", line.removeprefix("unknown key "))[0] for line in lines] == [
        "seed",
        "system[0].copies",
        "select.budget",
        "smaple",
    ]


def test_one_number_is_a_list_of_one(tmp_path: Path) -> None:
    for text, expected in (("350", (350.0,)), ("[300, 450.5]", (300.0, 450.5))):
        (tmp_path / "alflow.toml").write_text(SYSTEM + f"[sample]\ntemperature = {text}\n")
        assert load(tmp_path).sample.temperature == expected


def test_settings_are_frozen() -> None:
    settings = parse({"system": [{"name": "a", "structures": "a.xyz"}]}, "here")
    for section, key in ((settings, "seed"), (settings.sample, "steps"), (settings.system[0], "charge")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, 3)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_has_a_description(model: type[Section]) -> None:
    assert model.model_fields
    for key, field in model.model_fields.items():
        assert field.description, key


@pytest.mark.parametrize("model", MODELS[1:], ids=lambda model: model.__name__)
def test_defaults_are_allowed(model: type[Section]) -> None:
    """Pydantic does not check them by itself."""
    required = REQUIRED.get(model, {})
    assert {key for key, field in model.model_fields.items() if field.is_required()} == set(required)
    default = model(**required)
    assert model.model_validate(default.model_dump()) == default


@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_is_of_its_kind(kind: str, tmp_path: Path) -> None:
    """From the settings of a run, and from a file of its own; of the kind tblite when nothing is said."""
    table = "[baseline]\n" + "".join(f'{key} = "{x}"\n' for key, x in REQUIRED.get(BASELINES[kind], {}).items())
    (tmp_path / "alflow.toml").write_text(SYSTEM + table)
    found = load(tmp_path).baseline
    assert type(found) is BASELINES[kind]
    assert (found.kind, found.weighting, found.error) == (kind, "total", None)
    (tmp_path / "baseline.toml").write_text(table)
    assert config.load_baseline(tmp_path / "baseline.toml") == found


@pytest.mark.parametrize("name", templates.texts())
def test_templates_load_and_their_structures_can_be_used(name: str) -> None:
    text = templates.texts()[name]
    assert text.startswith("# ")
    settings = parse(tomllib.loads(text), name)
    frames = initial_structures(settings, WORKFLOWS)
    assert len(frames) >= 12  # cycle 0 has something to learn from
    assert {bool(frame.pbc.all()) for frame in frames} == {"silicon" in text or "copper" in text}


def uncommented(text: str) -> dict[str, Any]:
    """A template in which the settings that are commented out count too."""
    return tomllib.loads(re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE))


def alternatives(text: str) -> dict[str, dict[str, Any]]:
    """The other kinds of a section, in lines that begin with ##: the keys of each that the first does not have."""
    lines = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    starts = [i for i, line in enumerate(lines) if line.startswith("kind = ")]
    tables = [tomllib.loads("\n".join(lines[a:b])) for a, b in pairwise([*starts, len(lines)])]
    return {table["kind"]: table for table in tables}


def test_the_laptop_template_shows_every_key_with_its_default() -> None:
    """A value that is not the default says in its comment what the default is."""
    text = (WORKFLOWS / "laptop.toml").read_text(encoding="utf-8")
    data = uncommented(text)
    usable = data | {
        "sample": {key: x for key, x in data["sample"].items() if key != "candidates"}
    }  # not with averages
    parse(usable, "laptop.toml")
    assert set(data) == set(SETTINGS.model_fields)
    for name, models in SECTIONS.items():
        for model in models[:1]:
            section = data[name][0] if isinstance(data[name], list) else data[name]
            assert set(section) == set(model.model_fields), name
    others = alternatives(text)
    assert [data["baseline"]["kind"], *others] == list(BASELINES)
    shared = {key: data["baseline"][key] for key in Weighted.model_fields}
    for kind, table in others.items():
        assert {*shared, *table} == set(BASELINES[kind].model_fields)
        assert type(parse(usable | {"baseline": shared | table}, "laptop.toml").baseline) is BASELINES[kind]
    section = ""
    model: type[Section] = SETTINGS
    for line in text.splitlines():
        header = re.match(r"(?:# )?\[+(\w+)\]+", line)
        section = header[1] if header else section
        entry = re.match(r"(?:##? )?(\w+) = ([^#]+?) *(# .+)$", line)
        if not entry:
            assert not re.match(r"(?:##? )?\w+ = ", line), f"no comment: {line}"
            continue
        key, value, comment = entry.groups()
        given = tomllib.loads(f"x = {value}")["x"]
        if not line.startswith("## "):
            model = SECTIONS[section][0] if section else SETTINGS
        elif key == "kind":
            model = BASELINES[given]
        field = model.model_fields[key]
        default = None if field.is_required() else field.default
        same = field.is_required() or given == (list(default) if isinstance(default, tuple) else default)
        assert same or "default" in comment, line
        for unit in re.findall(r"eV/Å|eV|Å|1/fs|fs|K\b", field.description or ""):
            assert unit in comment, line


def test_the_documentation_lists_every_key() -> None:
    text = config.document()
    for name, models in SECTIONS.items():
        assert f"[{name}]" in text or f"`{name} = " in text
        for model in models:
            for key, field in model.model_fields.items():
                assert re.search(rf"^\| `{key}` \| .+ \| {re.escape(field.description or '')} \|$", text, re.MULTILINE)
