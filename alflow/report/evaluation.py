"""How good a committee is on labelled structures: its errors, and whether its uncertainties tell them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray
from rich.table import Table

from alflow.committee.calibration import reliability
from alflow.committee.committee import Committee
from alflow.committee.twins import Twins
from alflow.data.names import Names
from alflow.data.reading import AS_IT_IS, read_labelled
from alflow.errors import ConfigError, StructureError
from alflow.progress import Progress, Silent
from alflow.report.exports import labels_of, predicted
from alflow.report.plots import new_figure, save
from alflow.structures import check_structure

Array = NDArray[np.float64]

_COMPOSITIONS = 8  # up to which structures without a system or config_type are told apart by them
_UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "GPa"}
_LONG = 200  # structures from which on it is told how far it is
_MANY = 20_000  # points in a panel of a plot


@dataclass(frozen=True, eq=False)
class Values:
    """Labels and predictions of one quantity, value by value.

    Attributes
    ----------
    label, prediction, sigma, spread : ndarray, shape (n,)
        Energies and their calibrated and raw uncertainties in eV/atom, components of forces in eV/Å, of stresses in
        GPa.
    """

    label: Array = field(default_factory=lambda: np.zeros(0))
    prediction: Array = field(default_factory=lambda: np.zeros(0))
    sigma: Array = field(default_factory=lambda: np.zeros(0))
    spread: Array = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def together(cls, parts: Sequence["Values"]) -> "Values":
        """All values of several."""
        names = ("label", "prediction", "sigma", "spread")
        return cls(*(np.concatenate([np.zeros(0), *(getattr(part, name) for part in parts)]) for name in names))

    def errors(self, quantity: str) -> dict[str, float | int] | None:
        """Errors in the unit of the values, and how sigma describes them; None without any."""
        if not len(self.label):
            return None
        error = self.prediction - self.label
        judged = reliability(error, self.sigma, self.spread if quantity == "forces" else None)
        return {
            "n": len(error),
            "mae": float(np.abs(error).mean()),
            "rmse": float(np.sqrt((error**2).mean())),
            "largest": float(np.abs(error).max()),
            "within_sigma": judged.coverage_1,
            "within_2_sigma": judged.coverage_2,
            "rms_z": judged.rms_z,
            "rank_correlation": judged.spearman,
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A committee beside labels.

    Attributes
    ----------
    model, data : str
        What was evaluated, and on what.
    kinds : list of (str, int, dict)
        Name of the kind, how many structures are of it, and :class:`Values` by quantity; the first is all together.
    calibrated : bool
        Whether sigma is that: else it is the raw spread.
    n_known : int
        Structures that all but coincide with one that the committee was trained on.
    remarks, problems : list of str
        How the labels were read; which structures could not be predicted.
    """

    model: str
    data: str
    kinds: list[tuple[str, int, dict[str, Values]]]
    calibrated: bool
    n_known: int
    remarks: list[str]
    problems: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: energies in eV/atom, forces in eV/Å, stresses in GPa; numbers that are none are null."""
        return {
            "model": self.model,
            "data": self.data,
            "structures": self.kinds[0][1],
            "calibrated": self.calibrated,
            "among_training": self.n_known,
            "not_predicted": self.problems,
            "remarks": self.remarks,
            "units": _UNITS,
            "kinds": [
                {"kind": name, "structures": count} | {what: _finite(values[what].errors(what)) for what in _UNITS}
                for name, count, values in self.kinds
            ],
        }


def evaluate(committee: Committee, model: str, data: Path, progress: Progress, names: Names = AS_IT_IS) -> Evaluation:
    """Compare a committee with the labels of a file, or of a run.

    Parameters
    ----------
    committee : Committee
        With its baseline, if it has one.
    model : str
        Its name.
    data : Path
        A file or folder of labelled structures, or a run directory.
    progress : Progress
        Is told how far it is.
    names : Names
        What the user says of the file.

    Raises
    ------
    StructureError
        There are no labels in it.
    ConfigError
        None of the structures can be predicted.
    """
    if (data / "alflow.toml").is_file():
        if names != AS_IT_IS:
            msg = f"{data} is a run, whose labels have names and units: leave out what is said of a file"
            raise ConfigError(msg)
        frames, places, remarks = labels_of(data), None, list[str]()
    else:
        labels = read_labelled(data, names, progress)
        frames, places, remarks = labels.frames, labels.places, labels.remarks()
    shown = progress if len(frames) >= _LONG else Silent()
    shown.begin("evaluate", len(frames))
    found: list[tuple[Atoms, dict[str, Values]]] = []
    problems: list[str] = []
    for k, frame in enumerate(frames):
        where = f"{data} frame {k if places is None else places[k]}"
        try:
            check_structure(frame, where, close=True)
            found.append((frame, _compared(committee, frame, where)))
        except StructureError as error:
            problems.append(str(error))
        shown.advance()
    if not found:
        msg = f"none of {len(frames)} structures can be predicted: {problems[0]}"
        raise ConfigError(msg)
    kinds = [
        (name, len(chosen), {what: Values.together([values[what] for _, values in chosen]) for what in _UNITS})
        for name, chosen in _by_kind(found)
    ]
    n_known = _known(committee, [frame for frame, _ in found])
    return Evaluation(model, str(data), kinds, not committee.judgement.note, n_known, remarks, problems)


def _compared(committee: Committee, frame: Atoms, where: str) -> dict[str, Values]:
    label = frame.calc.results
    bare = frame.copy()
    bare.calc = None
    said = predicted(committee, bare, where)
    results, n = said.calc.results, len(frame)
    values = {what: Values() for what in _UNITS}
    energies = (label["energy"], results["energy"], said.info["energy_sigma"], said.info["energy_spread"])
    values["energy"] = Values(*(np.array([value / n]) for value in energies))
    if "forces" in label:
        forces = (label["forces"], results["forces"], said.arrays["forces_sigma"], said.arrays["forces_spread"])
        values["forces"] = Values(*(np.asarray(value, dtype=float).ravel() for value in forces))
    if "stress" in label and "stress_sigma" in said.info:
        given = np.asarray(label["stress"]) - committee.stress_offset(frame)
        stress = (given, results["stress"], said.info["stress_sigma"], said.info["stress_spread"])
        values["stress"] = Values(*(np.asarray(value, dtype=float) / units.GPa for value in stress))
    return values


def _by_kind(
    found: Sequence[tuple[Atoms, dict[str, Values]]],
) -> Iterator[tuple[str, list[tuple[Atoms, dict[str, Values]]]]]:
    """All together and, where there are several, each system and ``config_type``, else each composition of a few."""
    yield "all", list(found)
    for name in ("system", "config_type"):
        for kind, chosen in _split(found, lambda frame, name=name: str(frame.info.get(name, ""))):  # type: ignore[misc]
            yield f"{name} {kind}" if kind else f"no {name}", chosen
    if not any(frame.info.get(name) for frame, _ in found for name in ("system", "config_type")):
        compositions = list(_split(found, Atoms.get_chemical_formula))
        yield from compositions if len(compositions) <= _COMPOSITIONS else []


def _split(
    found: Sequence[tuple[Atoms, dict[str, Values]]], name: Callable[[Atoms], str]
) -> Iterator[tuple[str, list[tuple[Atoms, dict[str, Values]]]]]:
    kinds: dict[str, list[tuple[Atoms, dict[str, Values]]]] = {}
    for frame, values in found:
        kinds.setdefault(name(frame), []).append((frame, values))
    if len(kinds) > 1:
        yield from kinds.items()


def _known(committee: Committee, frames: Sequence[Atoms]) -> int:
    """How many all but coincide with a structure of the training set."""
    twins = Twins()
    twins.add(committee.training.frames)
    n = len(committee.training.frames)
    twins.add(frames)
    return sum(first < n for first in twins.first[n:])


def _finite(errors: dict[str, float | int] | None) -> dict[str, float | int | None] | None:
    if errors is None:
        return None
    return {name: value if np.isfinite(value) else None for name, value in errors.items()}


def table(evaluation: Evaluation) -> Table:
    """A row for each kind; energies in meV/atom, forces in meV/Å, stresses in GPa."""
    shown = [what for what in _UNITS if len(evaluation.kinds[0][2][what].label)]
    heads = {"energy": "energy\nmeV/atom", "forces": "forces\nmeV/Å", "stress": "stress\nGPa"}
    out = Table(box=None, pad_edge=False, header_style="bold")
    out.add_column("kind")
    out.add_column("structures", justify="right")
    for what in shown:
        for name in ("MAE", "RMSE"):
            out.add_column(f"{heads[what]}\n{name}", justify="right")
        out.add_column("within\n1 sigma\n(0.68)", justify="right")
    for kind, count, values in evaluation.kinds:
        cells: list[str] = []
        for what in shown:
            errors = values[what].errors(what)
            scale, digits = (1, 3) if what == "stress" else (1e3, 2 if what == "energy" else 1)
            if errors is None:
                cells += ["-"] * 3
            else:
                cells += [f"{scale * errors[name]:.{digits}f}" for name in ("mae", "rmse")]
                cells.append(f"{errors['within_sigma']:.2f}")
        out.add_row(kind, str(count), *cells)
    return out


def remarks(evaluation: Evaluation) -> list[str]:
    """Lines beside the table."""
    lines = list(evaluation.remarks)
    if not evaluation.calibrated:
        lines.append("the committee is not calibrated: sigma is the raw spread of its members")
    if evaluation.n_known:
        count = evaluation.kinds[0][1]
        lines.append(
            f"{evaluation.n_known} of {count} structures all but coincide with some that the committee was trained on: "
            "errors of these are none of structures never seen"
        )
    return lines


def plot(evaluation: Evaluation, path: Path) -> None:
    """For each quantity, prediction beside label, and error beside sigma.

    Raises
    ------
    ConfigError
        matplotlib is not installed, or the file cannot be written.
    """
    all_values = evaluation.kinds[0][2]
    shown = [what for what in _UNITS if len(all_values[what].label)]
    figure = new_figure(8.4, 3.8 * len(shown))
    axes = figure.subplots(len(shown), 2, squeeze=False)
    for what, (parity, honest) in zip(shown, axes, strict=True):
        _parity(all_values[what], what, parity)
        _honesty(all_values[what], what, honest)
    figure.suptitle(f"{evaluation.model} on {evaluation.data}", fontsize="medium")
    save(figure, path)


def _some(count: int) -> NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, _MANY)).astype(int)


def _parity(values: Values, what: str, ax: Any) -> None:
    some = _some(len(values.label))
    ax.plot(values.label[some], values.prediction[some], ".", ms=2, color="tab:blue", rasterized=True)
    ends = [min(values.label.min(), values.prediction.min()), max(values.label.max(), values.prediction.max())]
    ax.plot(ends, ends, color="black", lw=0.8)
    ax.locator_params(nbins=5)
    ax.set_xlabel(f"{what} of the labels / {_UNITS[what]}")
    ax.set_ylabel(f"predicted / {_UNITS[what]}")


def _honesty(values: Values, what: str, ax: Any) -> None:
    """Errors beside sigma, with the root mean squares of bins."""
    error = np.abs(values.prediction - values.label)
    some = _some(len(error))
    seen = some[(values.sigma[some] > 0) & (error[some] > 0)]
    ax.loglog(values.sigma[seen], error[seen], ".", ms=2, color="tab:blue", alpha=0.4, rasterized=True)
    bins = reliability(error, values.sigma, values.spread if what == "forces" else None).bins
    ax.loglog(bins[:, 0], bins[:, 1], "o-", ms=4, color="tab:orange", label="root mean square, in bins")
    if len(seen):
        ends = [values.sigma[seen].min(), values.sigma[seen].max()]
        ax.loglog(ends, ends, color="black", lw=0.8)
    ax.minorticks_off()  # their labels overlap where there is little more than a decade
    ax.set_xlabel(f"sigma of {what} / {_UNITS[what]}")
    ax.set_ylabel(f"error / {_UNITS[what]}")
    ax.legend(frameon=False, fontsize="small")
