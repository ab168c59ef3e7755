"""What the tables of several kinds may be: the kinds that alflow has, and those of installed packages.

A package adds a kind by an entry point, in its pyproject.toml::

    [project.entry-points."alflow.references"]
    mycode = "mypackage.mycode:MyMethod"

The groups are ``alflow.references``, ``alflow.baselines``, ``alflow.models`` and ``alflow.observables``; the name is
the kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, TypeVar

from alflow.averages.observables.base import Kind
from alflow.errors import ConfigError
from alflow.models.kinds import POTENTIALS
from alflow.models.settings import AnyPotential
from alflow.reference.kinds import BASELINES, REFERENCES
from alflow.reference.method import MethodSection, Weighted
from alflow.section import Section, kind_of

S = TypeVar("S", bound=Section)


@dataclass(frozen=True, eq=False)
class Kinds:
    """What each table of several kinds may be, by its kind; the first where a table has no ``kind``.

    Attributes
    ----------
    references, baselines, potentials : mapping of str to type
        The sections, which are frozen and have a literal ``kind``.
    observables : mapping of str to Kind
        Of installed packages, besides those that :mod:`alflow.averages.observables` has.
    """

    references: Mapping[str, type[MethodSection]] = field(default_factory=lambda: dict(REFERENCES))
    baselines: Mapping[str, type[Weighted]] = field(default_factory=lambda: dict(BASELINES))
    potentials: Mapping[str, type[AnyPotential]] = field(default_factory=lambda: dict(POTENTIALS))
    observables: Mapping[str, Kind] = field(default_factory=dict)


@lru_cache(maxsize=1)
def installed() -> Kinds:
    """The kinds of alflow and of the packages that are installed beside it.

    Raises
    ------
    ConfigError
        One of them cannot be imported, is not what its group holds, or has the name of another.
    """
    own, points = Kinds(), entry_points()  # once: it reads a file of every installed package
    return Kinds(
        _sections(points.select(group="alflow.references"), own.references, MethodSection),
        _sections(points.select(group="alflow.baselines"), own.baselines, Weighted),
        _sections(points.select(group="alflow.models"), own.potentials, AnyPotential),
        _observables(points.select(group="alflow.observables")),
    )


def _sections(points: EntryPoints, own: Mapping[str, type[S]], base: type) -> dict[str, type[S]]:
    """The sections of alflow, and then those of packages."""
    kinds = dict(own)
    for point in points:
        section: Any = _loaded(point, kinds)
        fits = isinstance(section, type) and issubclass(section, base)
        if not fits:
            msg = f"{_who(point)}: expected a subclass of {base.__module__}.{base.__name__}, found {section!r}"
            raise ConfigError(f"{msg}: correct or uninstall the package")
        if "kind" not in section.model_fields or kind_of(section) != point.name:
            msg = f'{_who(point)}: expected a section with kind: Literal["{point.name}"], as the entry point is named'
            raise ConfigError(f"{msg}: correct or uninstall the package")
        kinds[point.name] = section
    return kinds


def _observables(points: EntryPoints) -> dict[str, Kind]:
    """Those of packages."""
    if not points:
        return {}
    from alflow.averages.observables.parsing import KINDS  # only now: it knows neighbours, which take long to import

    kinds: dict[str, Kind] = {}
    for point in points:
        found = _loaded(point, {**KINDS, **kinds})
        if not isinstance(found, Kind):
            msg = f"{_who(point)}: expected an alflow.averages.observables.base.Kind, found {found!r}"
            raise ConfigError(f"{msg}: correct or uninstall the package")
        kinds[point.name] = found
    return kinds


def _loaded(point: EntryPoint, taken: Mapping[str, Any]) -> Any:
    """What an entry point names; ConfigError when its name is taken, or it cannot be imported."""
    if point.name in taken:
        msg = f"{_who(point)}: there is a kind {point.name} already: rename or uninstall the package"
        raise ConfigError(msg)
    try:
        return point.load()
    except Exception as error:  # whatever the package raises
        what = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"{_who(point)} cannot be imported ({what}): repair or uninstall the package"
        raise ConfigError(msg) from error


def _who(point: EntryPoint) -> str:
    """Which package adds what."""
    package = point.dist.name if point.dist is not None else point.value
    return f"package {package}, entry point {point.name} of {point.group}"
