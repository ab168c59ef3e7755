"""Labels, models and predictions as files for other programs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError, all_properties
from ase.calculators.singlepoint import SinglePointCalculator

from alflow import config
from alflow.averages.sources.productions import is_production, read_beginning, segments
from alflow.committee.committee import Committee
from alflow.data.entering import structure
from alflow.data.formats.base import Entry, Unusable
from alflow.data.names import Names
from alflow.data.reading import AS_IT_IS, entries
from alflow.data.writing import write_structures
from alflow.errors import ConfigError, PotentialError, StructureError
from alflow.models.files import load
from alflow.progress import Progress, Silent
from alflow.records.batch import labels_besides
from alflow.records.electrons import as_lists
from alflow.records.label import LabelRecord
from alflow.records.train import TrainRecord
from alflow.reference.kinds import described
from alflow.reference.method import BaselineMethod
from alflow.report.datasets import AS_EVER, XYZ, Asked, convert, expect_name, is_file_of_labels, write
from alflow.report.run import run_directory
from alflow.sampling.settings import Select
from alflow.state.store import Store
from alflow.structures import check_structure

_UNLIKE = Select.model_fields["grade_min"].default  # extrapolation grade from which on it is said


def export(directory: Path, output: Path, asked: Asked = AS_EVER, progress: Progress | None = None) -> str:
    """Write all labels (``.xyz``, ``.extxyz``) or the newest committee (``.h5``) of a run; returns what was written.

    Labels of an unfinished cycle are among them, and those that came in besides.

    Parameters
    ----------
    directory : Path
        Of a run or of a production run; or a file with labels, which is converted.
    output : Path
        The file, or for some formats the folder, to be written.
    asked : Asked
        Another format for labels, and whether some are apart, to test with.
    progress : Progress, optional
        Is told how a file was understood, and what of it was left out.

    Raises
    ------
    ConfigError
        Another ending, or nothing to export yet.
    StructureError
        The file with labels cannot be read, or the other one cannot be written.
    """
    if is_production(directory):
        _expect_plain(directory, asked)
        return _production(directory, output)
    if is_file_of_labels(directory):
        return convert(directory, output, asked, progress or Silent())
    store = run_directory(directory)
    if asked.names != AS_IT_IS:
        said = [name for name, value in asked.names if value != getattr(AS_IT_IS, name)]
        given = ", ".join(f"--{name.replace('_', '-')}" for name in said)
        msg = f"{directory} is a run, whose labels have names and units: leave out {given}"
        raise ConfigError(msg)
    if output.suffix == ".h5" and asked == AS_EVER:
        cycle, model = _newest(store)
        model.save(output)
        return f"{output}: the committee of cycle {cycle}"
    expect_name(output, asked)
    return write(output, labels_of(directory), asked)


def _newest(store: Store) -> tuple[int, Committee]:
    """The newest committee of a run, without its baseline, and its cycle."""
    trained = [k for k in store.cycles() if store.exists(k, "train")]
    if not trained:
        msg = f"{store.directory} has no committee yet: run `alflow iterate {store.directory}` first"
        raise ConfigError(msg)
    model: Committee = store.read(trained[-1], "train", TrainRecord).model
    return trained[-1], model


def labels_of(directory: Path) -> list[Atoms]:
    """All labels of a run, those of an unfinished cycle and those that came in besides among them.

    Raises
    ------
    ConfigError
        It is no run, or has none yet.
    """
    store = run_directory(directory)
    method = config.load(directory).reference.at(directory).identity()
    waiting = labels_besides(store, (), method)  # before those of the cycles, which a label step may move them to
    records = [({"cycle": k}, store.read(k, "label", LabelRecord)) for k in store.cycles() if store.exists(k, "label")]
    gathered = {name for _, record in records for name in record.ids}
    records += [({}, record) for name, record in waiting.items() if name not in gathered]
    frames = [frame for where, record in records for frame in _labelled(record, where)]
    if not frames:
        msg = f"{directory} has no labels yet: run `alflow iterate {directory}` first"
        raise ConfigError(msg)
    return frames


def _labelled(record: LabelRecord, where: dict[str, int]) -> Iterator[Atoms]:
    """Labelled structures with their id, the properties of each and of its atoms, and the levels of its electrons."""
    last = 0
    for i, (name, frame) in enumerate(zip(record.ids, record.frames, strict=True)):
        first, last = last, last + len(frame)
        frame.info.update(id=name, **where, **_flat(as_lists(record.electrons[i])))
        if np.isfinite(record.plain_energy[i]):
            frame.info["plain_energy"] = float(record.plain_energy[i])
        for key, values in record.properties.items():
            if np.isfinite(values[i]).all() and key not in frame.info:
                frame.info[key] = values[i]
        for key, values in record.atom_properties.items():
            if np.isfinite(values[first:last]).all() and key not in frame.arrays:
                frame.arrays[key] = values[first:last]
        yield frame


def _flat(lists: dict[str, Any]) -> dict[str, Any]:
    """Levels as extended XYZ can hold them: an array for each spin, numbered where there are two."""
    flat: dict[str, Any] = {}
    for key, value in lists.items():
        spins = value if isinstance(value, list) else None
        if spins is None:
            flat[key] = value
        elif len(spins) == 1:
            flat[key] = np.array(spins[0])
        else:
            flat.update({f"{key}_{number}": np.array(spin) for number, spin in enumerate(spins)})
    return flat


def _expect_plain(folder: Path, asked: Asked) -> None:
    """Frames of production runs have the energies that drove them, which are no labels."""
    if asked != AS_EVER:
        msg = f"{folder} is a production run, which has no labels: expected a file ending in .xyz, and nothing else"
        raise ConfigError(msg)


def _production(folder: Path, output: Path) -> str:
    """Write the frames of a production run, driving energies as their results."""
    if output.suffix not in XYZ:
        msg = f"{output}: expected a name ending in .xyz, found {output.suffix or 'no ending'!r}"
        raise ConfigError(msg)
    record = read_beginning(folder)
    frames: list[Atoms] = []
    for walker in range(len(record.frames)):
        for segment in segments(folder, record, walker):
            for k, atoms in enumerate(segment.frames):
                atoms.info |= {
                    "walker": walker,
                    "time": float(segment.step[k]) * record.timestep,
                    "energy_sigma": float(segment.energy_sigma[k]),
                    "committee_energies": segment.energies[k],
                }
                atoms.calc = SinglePointCalculator(atoms, energy=float(segment.energy[k]))
                frames.append(atoms)
    write_structures(output, frames)
    return f"{output}: {len(frames)} frames of {len(record.frames)} walkers"


def committee(model: Path, baseline: BaselineMethod | None, *, trust: bool = False) -> Committee:
    """A model from its file, or the newest of a run directory, with the baseline it was trained on.

    ``trust`` as of :func:`alflow.models.files.load`.

    Raises
    ------
    ConfigError
        That baseline is not given, and is not one that alflow can make from its description; or another is given.
    PotentialError
        The file is not a model.
    """
    found = _newest(run_directory(model))[1] if model.is_dir() else load(model, trust=trust)
    if not found.has_baseline:
        if baseline is not None:
            msg = f"{model} was trained without a baseline: leave out --baseline"
            raise ConfigError(msg)
        return found
    known = found.baseline_identity
    baseline = baseline or described(known)
    if baseline is None:
        msg = (
            f"{model} was trained on a baseline ({known or 'not described'}): name a file that has it in its [baseline]"
        )
        raise ConfigError(f"{msg} with --baseline")
    if known and baseline.identity() != known:
        msg = f"{model} was trained on the baseline {known}, found {baseline.identity()}: give the same"
        raise ConfigError(msg)
    return found.with_baseline(baseline.calculator())


def predictions(committee: Committee, data: Path, names: Names = AS_IT_IS) -> tuple[list[Atoms], list[str]]:
    """Every structure of a file with what is predicted of it, and why there is no prediction of some.

    A structure that cannot be treated stops no other: ``info["not_predicted"]`` says why, and it has no results. One
    that cannot even be read is left out.

    Returns
    -------
    frames : list of Atoms
        As of :func:`predicted`, in the order of the file.
    problems : list of str
        A line for each structure that cannot be treated.

    Raises
    ------
    StructureError
        The file cannot be read (:func:`alflow.data.reading.entries`).
    """
    frames: list[Atoms] = []
    problems: list[str] = []
    for index, entry in enumerate(entries(data, names, labels=False)):
        where = f"{data} frame {index}"
        if isinstance(entry, Unusable):
            problems.append(f"{where} {entry.reason}")
            continue
        atoms = _as_said(entry, names)
        try:
            check_structure(atoms, where, close=True)
            frames.append(predicted(committee, atoms, where))
        except StructureError as error:
            problems.append(str(error))
            frames.append(_without_results(atoms))
            frames[-1].info["not_predicted"] = str(error)
    return frames, problems


def _as_said(entry: Entry, names: Names) -> Atoms:
    """A structure, and what its file calls results as what it was given: under ``given_NAME``."""
    atoms = structure(entry, names)
    atoms.info |= {f"given_{name}": value for name, value in entry.said.items()}
    for name, values in entry.of_atoms.items():
        atoms.arrays[f"given_{name}"] = np.asarray(values)
    return atoms


def extrapolated(frames: Sequence[Atoms]) -> list[str]:
    """A line where there are predictions for surroundings that are unlike all labels, whatever their sigma."""
    grades = {k: float(f.arrays["extrapolation_grade"].max()) for k, f in enumerate(frames) if f.calc is not None}
    beyond = {k: grade for k, grade in grades.items() if not grade < _UNLIKE}
    if not beyond:
        return []
    worst = max(beyond, key=lambda k: beyond[k])
    up_to = f"{beyond[worst]:.3g} (frame {worst}; about 1 among labels)"
    return [
        f"{len(beyond)} structures are unlike all labels, sigma may say too little: extrapolation grade up to {up_to}"
    ]


def _without_results(atoms: Atoms) -> Atoms:
    """A copy in which nothing can be taken for a prediction.

    It has no calculator, and what its file says under the name of a result, an energy or forces, is under given_NAME.
    """
    out: Atoms = atoms.copy()
    for said in (out.info, out.arrays):
        for name in set(said) & set(all_properties):
            said[f"given_{name}"] = said.pop(name)
    return out


def predicted(committee: Committee, atoms: Atoms, where: str) -> Atoms:
    """A structure with predicted energy, forces and stress as results, and their uncertainties.

    ``info`` gets ``energy_spread`` (raw), ``energy_sigma`` (calibrated), ``committee_energies`` (calibrated; all eV)
    and ``calibrated``, false where a factor is missing and the spread stands for sigma; ``arrays`` get
    ``forces_spread``, ``forces_sigma`` (eV/Å), ``extrapolation_grade`` and, where members tell energies of atoms,
    ``atom_spread`` and ``atom_sigma`` (eV). With a stress ``info`` has ``stress_spread`` and ``stress_sigma`` (eV/Å^3).
    What they had under the name of a result is under ``given_NAME``.

    Raises
    ------
    StructureError
        The committee, or its baseline, cannot be evaluated there, or what it says is no number. The message begins with
        ``where``.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            prediction = committee.predict(atoms)
    except (CalculatorError, PotentialError) as error:
        msg = f"{where}: {error}"
        raise StructureError(msg) from error
    if not (np.isfinite(prediction.energies).all() and np.isfinite(prediction.forces).all()):
        msg = f"{where}: the prediction is not finite: atoms are too close to each other"
        raise StructureError(msg)
    out = _without_results(atoms)
    out.info["calibrated"] = prediction.calibrated
    out.info["energy_spread"] = prediction.energy_spread
    out.info["energy_sigma"] = prediction.energy_sigma
    out.info["committee_energies"] = prediction.energies
    out.arrays["forces_spread"] = prediction.forces_spread
    out.arrays["forces_sigma"] = prediction.forces_sigma
    for name in ("atom_spread", "atom_sigma"):
        if (values := getattr(prediction, name)) is not None:
            out.arrays[name] = values
    for name in ("stress_spread", "stress_sigma"):
        if (values := getattr(prediction, name)) is not None:
            out.info[name] = values
    out.arrays["extrapolation_grade"] = prediction.grade
    results = {"energy": prediction.energy, "forces": prediction.forces}
    if prediction.stress is not None:
        results["stress"] = prediction.stress
    out.calc = SinglePointCalculator(out, **results)
    return out
