"""Labels as files that other programs train from, and test with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ase import Atoms

from alflow.data.formats import format_of
from alflow.data.formats.by_ase import BY_ASE
from alflow.data.formats.out import expect_new_folder, species_of
from alflow.data.formats.writers import WRITERS, train_test
from alflow.data.names import Names, understood
from alflow.data.reading import AS_IT_IS, Labelled, LeftOut, read_labelled
from alflow.data.writing import write_structures
from alflow.errors import ConfigError, StructureError
from alflow.progress import Progress
from alflow.structures import is_alone

XYZ = {".xyz", ".extxyz"}


@dataclass(frozen=True)
class Asked:
    """How labels are written.

    Attributes
    ----------
    format : str, optional
        One of :data:`alflow.data.formats.writers.WRITERS`; extended XYZ with all that is known if None.
    test : float, optional
        Share that goes to a file or folder of its own; all go to one if None.
    seed : int
        Of the choice of that share.
    names : Names
        What is said of a file that labels are read from.
    """

    format: str | None = None
    test: float | None = None
    seed: int = 0
    names: Names = AS_IT_IS


AS_EVER = Asked()
"""All labels in one file of extended XYZ."""


def is_file_of_labels(path: Path) -> bool:
    """Whether labels are to be read from this file or folder, which is no run; one that is missing may have been."""
    if path.is_dir():
        return not (path / "alflow.toml").is_file() and format_of(path) is not BY_ASE
    return path.exists() or path.suffix != ""


def expect_name(output: Path, asked: Asked) -> None:
    """ConfigError for a name that does not end as those of the format do."""
    found = output.suffix or "no ending"
    if asked.format is None:
        if output.suffix not in XYZ:
            formats = f"other formats with --format {'|'.join(WRITERS)}"
            model = " or .h5 (model)" if asked.test is None else " to be divided by --test"
            msg = f"{output}: expected a name ending in .xyz (labels){model}, found {found!r}; {formats}"
            raise ConfigError(msg)
        return
    writer = WRITERS[asked.format]
    files = {other.ending for other in WRITERS.values() if other.ending} | XYZ | {".h5"}
    if not writer.ending and output.suffix in files:
        msg = f"{output}: --format {asked.format} writes a folder: expected a name without an ending, found {found!r}"
        raise ConfigError(msg)
    if writer.ending and output.suffix not in (XYZ if writer.ending in XYZ else {writer.ending}):
        msg = f"{output}: expected a name ending in {writer.ending} with --format {asked.format}, found {found!r}"
        raise ConfigError(msg)


def beside(output: Path, asked: Asked) -> Path:
    """Where structures to test with are written: ``train-test.xyz`` beside ``train.xyz``."""
    if asked.format is not None and not WRITERS[asked.format].ending:
        return output.parent / f"{output.name}-test"
    return output.with_name(f"{output.stem}-test{output.suffix}")


def convert(source: Path, output: Path, asked: Asked, progress: Progress) -> str:
    """Write the labels of a file in another format, what cannot be used left out; returns what was written.

    Raises
    ------
    ConfigError
        A name with another ending than the format has, or a file that would be in its own place.
    StructureError
        The file cannot be read (:func:`alflow.data.reading.read_labelled`), holds nothing that can be written, or the
        other one cannot be written.
    """
    if asked.format is None and output.suffix == ".h5":
        msg = f"{output}: a model is exported from a run: fit one to {source} with `alflow train {source} -o {output}`"
        raise ConfigError(msg)
    expect_name(output, asked)
    written = [output] if asked.test is None else [output, beside(output, asked)]
    if same := [path for path in written if path.exists() and source.exists() and path.samefile(source)]:
        msg = f"{same[0]} would replace the labels that are read: give another name"
        raise ConfigError(msg)
    labels = read_labelled(source, asked.names, progress)
    labels = _once(labels) if asked.format is None else _with_forces(labels, WRITERS[asked.format].name)
    for remark in labels.remarks():
        progress.note(remark)
    return write(output, labels.frames, asked)


def _with_forces(labels: Labelled, format_name: str) -> Labelled:
    """Without structures that have energies only; nothing pulls at an atom that is alone."""
    pairs = list(zip(labels.places, labels.frames, strict=True))
    used = [(place, frame) for place, frame in pairs if "forces" in frame.calc.results or is_alone(frame)]
    if not used:
        msg = f"{labels.path}: none of {len(pairs)} labelled structures has forces: {format_name} need them"
        raise StructureError(msg)
    left_out = [LeftOut(place, "has no forces", atoms=frame) for place, frame in pairs if (place, frame) not in used]
    return replace(
        labels,
        places=[place for place, _ in used],
        frames=[frame for _, frame in used],
        left_out=sorted([*labels.left_out, *left_out], key=lambda one: one.place),
    )


def _once(labels: Labelled) -> Labelled:
    """With labels as results only: what else is called an energy, forces or a stress is under ``given_NAME``.

    A file that has its label twice, in two units perhaps, is one that nobody can read any more.
    """
    used = {name for names in labels.understood.used.values() for name in names}
    frames = []
    for frame in labels.frames:
        atoms = frame.copy()
        atoms.calc = frame.calc
        for said in (atoms.info, atoms.arrays):
            for name in list(said):
                if name in used:
                    del said[name]
                elif understood(name) is not None:
                    said[f"given_{name}"] = said.pop(name)
        frames.append(atoms)
    return replace(labels, frames=frames)


def write(output: Path, frames: Sequence[Atoms], asked: Asked) -> str:
    """Write labelled structures; returns what was written.

    Raises
    ------
    ConfigError
        All would be to test with.
    StructureError
        They cannot be written.
    """
    train, test = (frames, []) if asked.test is None else train_test(frames, asked.test, asked.seed)
    if not train:
        msg = f"all {len(frames)} structures would be to test with: expected a smaller --test than {asked.test:g}"
        raise ConfigError(msg)
    apart, said = beside(output, asked), ""
    if asked.format is not None and not WRITERS[asked.format].ending:
        for folder in [output, *([apart] if test else [])]:
            expect_new_folder(folder)
    species = species_of(frames)
    if test:
        _write(apart, test, asked.format, species)
        said = f"; {apart}: {len(test)} to test with"
    elif asked.test is not None:
        earlier = f"; {apart} is of another export" if apart.exists() else ""
        said = f"; no test set: none of {len(frames)} structures is in a share of {asked.test:g}{earlier}"
    _write(output, train, asked.format, species)  # the last: where it is new, all is there
    as_what = "" if asked.format is None else f" of {', '.join(species)} as {WRITERS[asked.format].name}"
    return f"{output}: {len(train)} labelled structures{as_what}{said}"


def _write(path: Path, frames: Sequence[Atoms], name: str | None, species: Sequence[str]) -> None:
    if name is None:
        write_structures(path, frames)
    else:
        WRITERS[name].write(path, frames, species)
