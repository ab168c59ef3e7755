"""alflow.toml as frozen, typed settings; unknown keys and values out of range are refused.

The models below are the documentation of every key: its unit, its default and what is allowed.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from alflow.errors import ConfigError

FILE = "alflow.toml"

_NO_SYSTEM = {"system": [{"name": "none", "structures": "none"}]}  # for a file of which one section is wanted
_LISTS = ("system", "observable")  # sections of which there may be several
_LONGEST = 80  # characters of a refused value that a message repeats

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


def _as_tuple(value: Any) -> Any:
    """A single number is a list of one; TOML's lists are our tuples."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Section(BaseModel):
    """A table of alflow.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class System(Section):
    """A system to be learned; one ``[[system]]`` for each."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="letters, digits, - and _; unique")
    structures: str = Field(
        min_length=1, description="file of initial structures, any format ASE reads; relative to here"
    )
    charge: int = Field(0, description="total charge, e")
    multiplicity: Count = Field(1, description="spin multiplicity 2S+1")
    copies: int = Field(0, ge=0, description="randomly displaced copies of each structure that are labelled with it")
    rattle: Positive = Field(0.05, description="standard deviation of these displacements, Å")


class Potential(Section):
    """The built-in linear ACE committee."""

    kind: Literal["ace"] = Field("ace", description="the only kind so far")
    cutoff: Positive = Field(5.5, description="radius within which an atom sees others, Å")
    n_members: int = Field(16, ge=8, le=256, description="members of the committee; 8 or more, to be calibrated")
    n_max: Count = Field(8, le=30, description="radial functions")
    l_max: int = Field(4, ge=0, le=12, description="largest l of the spherical harmonics")
    n_features: Count | None = Field(
        None, description="features of an atom, at most; 1250 by default, fewer with more than three species"
    )
    energy_weight: Positive = Field(
        20.0, description="weight of energies: eV over sqrt(atoms), relative to forces in eV/Å"
    )
    force_weight: NotNegative = Field(1.0, description="weight of forces")


class Tblite(Section):
    """Extended tight binding by tblite."""

    kind: Literal["tblite"] = Field("tblite", description="extended tight binding")
    method: Literal["GFN2-xTB", "GFN1-xTB", "IPEA1-xTB"] = Field("GFN2-xTB", description="parametrisation")
    accuracy: Positive = Field(1.0, description="numerical accuracy; smaller is tighter")
    electronic_temperature: Positive = Field(300.0, description="of the Fermi smearing, K")
    max_iterations: Count = Field(250, description="iterations until the charges must be self-consistent")


class Weighted(Section):
    """How a baseline takes part in the walks."""

    weighting: Literal["total", "atom", "none"] = Field(
        "total", description="walks trust the committee's correction by its sigma, in total or atom by atom, or always"
    )
    error: Positive | None = Field(
        None, description="uncertainty of the baseline, eV: of a structure or, with `atom`, of an atom; from the data"
    )


class TbliteBaseline(Weighted, Tblite):
    """Extended tight binding as a baseline."""

    method: Literal["GFN2-xTB", "GFN1-xTB", "IPEA1-xTB"] = Field("GFN1-xTB", description="parametrisation")


class AseBaseline(Weighted):
    """Any ASE calculator as a baseline."""

    kind: Literal["ase"] = Field(description="any ASE calculator")
    name: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*\.[A-Za-z_][A-Za-z0-9_]*$", description="module.Class of an ASE calculator"
    )
    parameters: dict[str, Any] = Field({}, description="its keyword arguments, a table")


class ModelBaseline(Weighted):
    """Another committee as a baseline."""

    kind: Literal["model"] = Field(description="another committee of alflow, its mean")
    file: str = Field(min_length=1, description="of `alflow train` or `alflow export`; relative to here")


def _kind(value: Any) -> str | None:
    """Which of the baselines a table describes."""
    kind = value.get("kind", "tblite") if isinstance(value, dict) else getattr(value, "kind", "tblite")
    return kind if isinstance(kind, str) else None


Baseline = Annotated[
    Annotated[TbliteBaseline, Tag("tblite")]
    | Annotated[AseBaseline, Tag("ase")]
    | Annotated[ModelBaseline, Tag("model")],
    Discriminator(_kind),
]


class Sample(Section):
    """Walkers: Langevin dynamics on the committee's mean or, with a baseline, on the weighted baseline."""

    temperature: Annotated[tuple[Positive, ...], BeforeValidator(_as_tuple)] = Field(
        (300.0,), min_length=1, description="of the thermostat, K: a number or a list; `walkers` for each"
    )
    walkers: Count = Field(1, description="for each system and temperature")
    timestep: Positive = Field(0.5, le=10, description="fs")
    steps: Count = Field(2000, description="of each walker in each cycle")
    stride: Count = Field(20, description="steps between stored frames")
    friction: Positive = Field(0.01, description="of the thermostat, 1/fs")
    checkpoint: Count = Field(500, description="steps after which a walk is durable on disk")
    force_sigma_max: Positive = Field(1.0, description="a walker stops above this sigma of a force component, eV/Å")
    force_max: Positive = Field(30.0, description="a walker stops above this force on an atom, eV/Å")
    temperature_factor_max: Positive = Field(
        4.0, description="a walker stops when it is hotter than so many times its thermostat"
    )
    distance_ratio_min: Share = Field(
        0.55, description="a walker stops when two atoms are closer than this share of their covalent radii"
    )

    @model_validator(mode="after")
    def _stride_fits(self) -> "Sample":
        if self.stride > self.steps:
            msg = f"stride = {self.stride} is larger than steps = {self.steps}: no frame would be stored"
            raise ValueError(msg)
        return self


class Select(Section):
    """Which sampled frames go to the reference method."""

    strategy: Literal["fps"] = Field("fps", description="farthest-point sampling, measured from the training set")
    budget: Count = Field(20, description="structures in each cycle, at most")
    force_sigma_min: NotNegative = Field(
        0.05, description="calibrated sigma from which on a frame is a candidate, eV/Å"
    )
    duplicate_distance: NotNegative = Field(
        0.05, description="closer structures count as one; 1 is the spread of the training set"
    )
    force_max: Positive = Field(30.0, description="frames with larger forces are not labelled, eV/Å")
    distance_ratio_min: Share = Field(
        0.55, description="frames with closer atoms are not labelled (share of the covalent radii)"
    )


class Converge(Section):
    """When to stop."""

    force_sigma: Positive | None = Field(None, description="stop when no sampled force sigma is above this, eV/Å")
    observable: str | None = Field(
        None, min_length=1, description="an average, as `alflow average` takes it, whose model error each cycle records"
    )
    tolerance: Positive | None = Field(
        None, description="stop when the model error of `observable` is below this, in its unit; of a curve the largest"
    )
    cycles: Count = Field(2, description="for so many cycles in a row; what is given of force_sigma and tolerance")
    max_cycles: Count = Field(10, description="stop after so many cycles in any case")
    max_labels: Count | None = Field(None, description="stop after so many labels in any case")

    @model_validator(mode="after")
    def _tolerance_of_something(self) -> "Converge":
        if self.tolerance is not None and self.observable is None:
            msg = f"tolerance = {self.tolerance:g} is of no observable: name one"
            raise ValueError(msg)
        return self


class UserObservable(Section):
    """An observable of your own, for `alflow average` and ``[converge]``; one ``[[observable]]`` for each."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="by which it is asked for; unique")
    function: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$",
        description="module:function of the structure (ASE Atoms), a number or an array; module.py may be here",
    )
    unit: str = Field("", description="of what it returns")
    committee: bool = Field(
        False, description="it returns a value of each of several models of the property, along the first axis"
    )


class Executor(Section):
    """Where calculations run."""

    kind: Literal["local"] = Field("local", description="processes on this machine")
    workers: Count | None = Field(None, description="processes at once; all cores over `threads` by default")
    threads: Count = Field(1, description="threads of each; tblite gives the same digits every time only with 1")
    timeout: Positive | None = Field(
        None, description="a calculation, of the reference or the baseline, is killed after so many seconds"
    )


class Settings(Section):
    """The whole of alflow.toml."""

    seed: int = Field(0, ge=0, description="of every random choice")
    system: tuple[System, ...] = Field(min_length=1, description="what is to be learned", strict=False)
    potential: Potential = Field(Potential(), description="what is trained")
    baseline: Baseline | None = Field(
        None, description="a cheaper potential; the committee learns the difference from it"
    )
    reference: Tblite = Field(Tblite(), description="what labels structures")
    sample: Sample = Field(Sample(), description="how new structures are found")
    select: Select = Field(Select(), description="which of them are labelled")
    converge: Converge = Field(Converge(), description="when to stop")
    observable: tuple[UserObservable, ...] = Field((), description="observables of your own", strict=False)
    executor: Executor = Field(Executor(), description="where calculations run")

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Settings":
        for what, names in (
            ("system", [s.name for s in self.system]),
            ("observable", [o.name for o in self.observable]),
        ):
            if len(set(names)) < len(names):
                msg = f"{what} names must differ, found {', '.join(names)}"
                raise ValueError(msg)
        return self


def load(directory: Path) -> Settings:
    """Read the settings of a run directory.

    Raises
    ------
    ConfigError
        No alflow.toml, not TOML, or settings that are not allowed: one line for each, with the file, the key, what was
        found and what is allowed.
    """
    path = directory / FILE
    if not path.exists():
        msg = f"no {FILE} in {directory}: give a run directory, or make one with `alflow init {directory}`"
        raise ConfigError(msg)
    return parse(_toml_of(path), str(path))


def load_baseline(path: Path) -> TbliteBaseline | AseBaseline | ModelBaseline:
    """The ``[baseline]`` of a TOML file, whatever else it holds; ConfigError as of :func:`load`."""
    data = _toml_of(path)
    if "baseline" not in data:
        msg = f"{path} has no [baseline]: expected a table that describes one, as in alflow.toml"
        raise ConfigError(msg)
    found = parse({"baseline": data["baseline"], **_NO_SYSTEM}, str(path)).baseline
    assert found is not None  # noqa: S101
    return found


def load_observables(path: Path) -> tuple[UserObservable, ...]:
    """The ``[[observable]]`` of a TOML file, whatever else it holds; ConfigError as of :func:`load`."""
    return parse({"observable": _toml_of(path).get("observable", []), **_NO_SYSTEM}, str(path)).observable


def _toml_of(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read: {error}"
        raise ConfigError(msg) from error
    except tomllib.TOMLDecodeError as error:
        msg = f"{path} is not TOML: {error}"
        raise ConfigError(msg) from error


def parse(data: Mapping[str, Any], where: str) -> Settings:
    """Settings from the content of alflow.toml; ConfigError, its lines beginning with ``where``, as of :func:`load`."""
    try:
        return Settings.model_validate(dict(data))
    except ValidationError as error:
        problems = [problem for problem in error.errors() if not _told_already(problem, error.errors())]
        lines = [f"{where}: {_explain(problem)}" for problem in problems]
        raise ConfigError("\n".join(lines)) from None


def _told_already(problem: ErrorDetails, problems: list[ErrorDetails]) -> bool:
    """Whether a list is called too short only because an entry of it was refused."""
    place = problem["loc"]
    inside = any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in problems)
    return problem["type"] == "too_short" and inside


def _explain(problem: ErrorDetails) -> str:
    """One line: the key, what is allowed, what was found."""
    place = problem["loc"]
    key = _dotted(place)
    if problem["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        kinds = ", ".join(_toml(kind) for kind in _choices(Settings.model_fields[str(place[0])].annotation))
        return f"{key}.kind: expected one of {kinds}, found {_found(_kind_given(problem['input']))}"
    if problem["type"] == "extra_forbidden":
        known = sorted(_known_keys(place[:-1]))
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        return f"unknown key {key}: {hint}"
    if problem["type"] == "missing":
        about = _description(place)
        return f"{key} is missing: {about}" if about else f"{key} is missing"
    if problem["type"] in {"tuple_type", "model_type"}:
        table = f"[{key}]" if problem["type"] == "model_type" else "a number or a list of numbers"
        expected = f"tables [[{place[0]}]]" if place[0] in _LISTS else table
        return f"{key}: expected {expected}, found {_found(problem['input'])}"
    if problem["type"] == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    if problem["type"] in {"too_short", "string_too_short"}:
        expected = "at least one" if problem["type"] == "too_short" else "at least one character"
    elif problem["type"] == "string_pattern_mismatch":
        expected = f"a match of {problem['ctx']['pattern']}"
    else:
        expected = problem["msg"].removeprefix("Input should be ")
    about = _description(place)
    return f"{key}: expected {expected}{f' ({about})' if about else ''}, found {_found(problem['input'])}"


def _found(value: Any) -> str:
    """A refused value as it stands in the file, shortened."""
    text = _toml(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _kind_given(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else value


def _dotted(place: tuple[int | str, ...]) -> str:
    out = ""
    for part in _untagged(place):
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            out += f"{'.' if out else ''}{part if bare else json.dumps(part, ensure_ascii=False)}"
    return out


def _known_keys(place: tuple[int | str, ...]) -> set[str]:
    model = _model_at(place)
    return set(model.model_fields) if model else set()


def _description(place: tuple[int | str, ...]) -> str:
    while place and isinstance(place[-1], int):
        place = place[:-1]
    if not place:
        return ""
    model = _model_at(place[:-1])
    return (model.model_fields[place[-1]].description or "") if model and place[-1] in model.model_fields else ""


def _model_at(place: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The section that a path of keys leads to."""
    model: type[BaseModel] | None = Settings
    kinds: dict[str, type[BaseModel]] = {}
    for part in place:
        if part in kinds:
            model = kinds[str(part)]
        elif isinstance(part, str) and model is not None:
            field = model.model_fields.get(part)
            model = next(sections(field.annotation), None) if field else None
            kinds = _choices(field.annotation) if field else {}
    return model


def _untagged(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A path of keys as it stands in the file: a problem inside a table of several kinds names the kind besides."""
    if len(place) > 1 and isinstance(place[0], str) and place[0] in Settings.model_fields:
        kinds = _choices(Settings.model_fields[place[0]].annotation)
        if place[1] in kinds:
            return (place[0], *place[2:])
    return place


def _choices(annotation: Any) -> dict[str, type[BaseModel]]:
    """The sections that a table may be, by their ``kind``; empty when there is only one."""
    found = list(sections(annotation))
    return {get_args(model.model_fields["kind"].annotation)[0]: model for model in found} if len(found) > 1 else {}


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections named in the annotation of a field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from sections(argument)


def document() -> str:
    """Every key with its default and its meaning, as Markdown: docs/settings.md."""
    lines = [
        "# Settings: every key of alflow.toml",
        "",
        "Made from the models in `alflow/config.py`. Unknown keys are refused.",
        "",
    ]
    for name, field in Settings.model_fields.items():
        models = list(sections(field.annotation))
        if not models:
            lines += [f"`{name} = {field.default}`: {field.description}", ""]
            continue
        title = f"[[{name}]]" if name in _LISTS else f"[{name}]"
        lines += [f"## `{title}`: {field.description}", ""]
        for model in models:
            if len(models) > 1:
                kind = get_args(model.model_fields["kind"].annotation)[0]
                lines += [f'With `kind = "{kind}"`:', ""]
            lines += [*_table(model), ""]
    return "\n".join(lines)


def _table(model: type[BaseModel]) -> list[str]:
    """The keys of a section as a table in Markdown."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for key, entry in model.model_fields.items():
        default = "required" if entry.is_required() else "-" if entry.default is None else f"`{_toml(entry.default)}`"
        lines.append(f"| `{key}` | {default} | {entry.description} |")
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(part) for part in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(part)}' for key, part in value.items())}}}"
    return str(value)
