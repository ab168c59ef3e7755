"""The command line: each command is a few lines, and imports what it needs when it runs."""

import json
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from alflow.errors import AlflowError
from alflow.version import __version__

if TYPE_CHECKING:
    from alflow.data.names import Names
    from alflow.reference.method import BaselineMethod

DIRECTORY = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
PLACE = click.Path(path_type=Path)  # a file, or a folder of a format that is one

directory_argument = click.argument("directory", type=DIRECTORY, default=".", metavar="[DIR]")
baseline_option = click.option(
    "--baseline", type=FILE, help="A TOML file with the [baseline] to learn the difference from, as in alflow.toml."
)
retry_option = click.option("--retry", is_flag=True, help="Try trainings of members that have failed again.")


species_option = click.option(
    "--species",
    metavar="Cu,Ag",
    callback=lambda _context, _option, text: tuple(text.replace(",", " ").split()) if text else (),
    help="Of the types, in their order, of a file that only numbers them (LAMMPS, MTP, DeePMD).",
)


def _names_options(command: Any) -> Any:
    """What is said of a file with labels: options of a command, from the descriptions of its keys."""
    for option, metavar, text in reversed(
        (
            ("--energy-key", "NAME", "The file's name for energies [default: found by itself]"),
            ("--forces-key", "NAME", "The same for forces; none: it has none."),
            ("--stress-key", "NAME", "The same for stresses or virials; none: no stress."),
            ("--energy-unit", "UNIT", "Of energies in the file: eV, Ha, Ry, kcal/mol, kJ/mol."),
            ("--length-unit", "UNIT", "Of lengths, also in forces: A, bohr, nm."),
        )
    ):
        command = click.option(option, metavar=metavar, help=text)(command)
    return species_option(command)


def _names_of(asked: dict[str, Any]) -> "Names":
    """Take what is said of a file out of the options."""
    from alflow.data.names import Names

    return Names(**{name: asked.pop(name) for name in Names.model_fields})


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


class Command(click.Command):
    """One that says what is true when it is interrupted."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; KeyboardInterrupt with what is kept, and what goes on."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_kept(ctx)) from None


def _kept(ctx: click.Context) -> str:
    """What is left of an interrupted command."""
    directory, output = ctx.params.get("directory"), ctx.params.get("output")
    if ctx.command.name in {"iterate", "resume", "label"}:
        where = "" if str(directory) == "." else f" {directory}"
        return f"what was finished is kept; go on with `alflow resume{where}`"
    if ctx.command.name == "produce":
        return "what was finished is kept; go on with the same command"
    if ctx.command.name == "train" and Path(f"{output}.models").exists():
        return f"{output} is not written; trainings that were finished are kept in {output}.models for the same command"
    return f"{output} is not written, and nothing is kept" if output is not None else "nothing was written"


class Alflow(click.Group):
    """The commands; what alflow raises on purpose ends in one line on stderr and an exit code."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; tracebacks only with --debug."""
        try:
            return super().invoke(ctx)
        except AlflowError as error:
            self._fail(ctx, str(error), error.exit_code)
        except KeyboardInterrupt as interrupt:
            self._fail(ctx, f"interrupted: {interrupt}" if interrupt.args else "interrupted", 1)
        except BrokenPipeError:
            sys.stderr.close()
            ctx.exit(1)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: one line for the user, the rest behind --debug
            self._fail(ctx, f"unexpected {type(error).__name__}: {error} (run again with --debug and report it)", 1)

    @staticmethod
    def _fail(ctx: click.Context, message: str, code: int) -> NoReturn:
        if ctx.params.get("debug"):
            traceback.print_exc()
        click.echo(f"alflow: {message}", err=True)
        ctx.exit(code)


@click.group(cls=Alflow, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="alflow")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:  # noqa: ARG001 - read from the context when something fails
    """Committee potentials by active learning, and simulations that know where they can be trusted."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """A polite kill ends like Ctrl-C: workers are stopped, finished work is kept."""
    raise KeyboardInterrupt


@main.command()
@click.argument("directory", type=DIRECTORY, metavar="DIR", required=False)
@click.option("--template", default="laptop", show_default=True, help="Which settings to start from; '?' lists them.")
def init(directory: Path | None, template: str) -> None:
    """Make a run directory with a commented alflow.toml."""
    from alflow.config import templates

    if template == "?":
        click.echo("\n".join(f"{name:20s} {about}" for name, about in templates.describe().items()))
        return
    if directory is None:
        msg = "Missing argument 'DIR': where to make the run directory."
        raise click.UsageError(msg)
    for path in templates.copy(template, directory):
        click.echo(f"wrote {path}")
    click.echo(
        f"next: edit {directory / 'alflow.toml'}, then `alflow check {directory}` and `alflow iterate {directory}`"
    )


@main.command()
@directory_argument
@click.option("--cycles", type=click.IntRange(min=0), help="How many more cycles [default: as [converge] allows].")
@retry_option
def iterate(directory: Path, cycles: int | None, retry: bool) -> None:
    """Finish an interrupted cycle, then run more."""
    from alflow import loop
    from alflow.report.progress import terminal_progress

    with terminal_progress() as progress:
        loop.iterate(directory, progress, cycles, retry=retry)


@main.command()
@directory_argument
@retry_option
def resume(directory: Path, retry: bool) -> None:
    """Finish only the interrupted cycle."""
    from alflow import loop
    from alflow.report.progress import terminal_progress

    with terminal_progress() as progress:
        if not loop.resume(directory, progress, retry=retry):
            progress.note("no cycle was interrupted: nothing to do; `alflow iterate` runs the next one")


@main.command()
@directory_argument
@click.option("--retry", metavar="failed|REASON|ID", help="Try failed calculations again, with the settings of now.")
@click.option(
    "--import",
    "file",
    type=click.Path(path_type=Path),
    help="Take labels from this file, or from the folder cycles of another run, and finish the cycle.",
)
@_names_options
def label(directory: Path, retry: str | None, file: Path | None, **said: Any) -> None:
    """Run the reference calculations that wait, and nothing else.

    With `kind = "manual"` they are written to to-label.xyz, and come back with --import: structures with energies and
    forces, in any format that is read and in any order.
    """
    from alflow import loop
    from alflow.report.progress import terminal_progress

    if retry is not None and file is not None:
        msg = "--retry and --import exclude each other"
        raise click.UsageError(msg)
    with terminal_progress() as progress:
        if retry is not None:
            loop.label_again(directory, progress, retry)
        elif file is not None:
            loop.label_from(directory, progress, file, _names_of(said))
        else:
            loop.label(directory, progress)


@main.command()
@directory_argument
@json_option
def status(directory: Path, as_json: bool) -> None:
    """Show how far a run is; works at any time."""
    from alflow.report import tables
    from alflow.report.status import status as status_of

    found = status_of(directory)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if found["cycles"]:
        tables.show(tables.status_table(found["cycles"]))
    who = found["writer"]
    running = f"running (pid {who['pid']} on {who['host']})" if who else "not running"
    besides = f", and {found['n_besides']} that the next label step takes in" if found["n_besides"] else ""
    click.echo(
        f"{found['n_labelled']} labels{besides}; {running}; next: {found['next']} of cycle {found['next_cycle']}"
    )
    if found["note"]:
        click.echo(found["note"])
    converged = "yes" if found["converged"] else "no, but the cycles end" if found["ended"] else "no"
    click.echo(f"converged: {converged} ({found['reason']})")


@main.command()
@directory_argument
@click.option("--cycle", type=click.IntRange(min=0), help="Only this one.")
@json_option
@click.option("--export", type=FILE, help="Also write the structures to this file (extended XYZ).")
@click.option("--failed", is_flag=True, help="Show the reference calculations that failed instead, with their logs.")
def inspect(directory: Path, cycle: int | None, as_json: bool, export: Path | None, failed: bool) -> None:
    """Show what was selected, why, and how far off the prediction was."""
    from alflow.report import failures

    if failed:
        click.echo(failures.document(directory) if as_json else failures.text(directory))
        return
    from alflow.report import inspection, tables
    from alflow.report.status import status as status_of

    rows, selections = inspection.inspect(directory, cycle), inspection.selections(directory, cycle)
    if export is not None:
        from alflow.data.writing import write_structures

        write_structures(export, inspection.inspected_frames(directory, cycle))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if rows:
        tables.show(tables.inspect_table(rows))
    click.echo("\n".join(selections) or ("" if rows else "nothing selected yet"))
    if rows:
        cycles = [one for one in status_of(directory)["cycles"] if cycle in {None, one["cycle"]}]
        tables.show(tables.calibration_table(cycles))


@main.command()
@directory_argument
@click.option("--reference", is_flag=True, help="Try the reference as baselines and members are: some 15 calculations.")
def check(directory: Path, reference: bool) -> None:
    """Check settings, initial structures, reference, baseline, members that are calculators, and the state of a run."""
    from alflow.steps import check as checks

    failed = None
    for what, problem in checks.run(directory, reference=reference):
        click.echo(f"{'ok' if problem is None else 'FAILED':7s}{what}{'' if problem is None else f': {problem}'}")
        failed = failed or problem
    if failed is not None:
        raise failed


@main.command()
@click.argument("arguments", nargs=-1, required=True, metavar="[DIR|LABELS] OUT")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["mace", "nep", "deepmd", "mtp"]),
    help="Write labels for this program: OUT.xyz, OUT.xyz, a folder OUT, OUT.cfg.",
)
@click.option(
    "--test",
    metavar="SHARE",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Write about this share apart, to test with: to train-test.xyz beside train.xyz.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Which structures these are [default: 0]")
@_names_options
def export(arguments: tuple[str, ...], format_: str | None, test: float | None, seed: int | None, **said: Any) -> None:
    """Write all labels (OUT.xyz) or the newest committee (OUT.h5) of a run.

    With --format labels are written as MACE, NEP, DeePMD-kit or MTP trains from them. In place of a run there may be a
    file with LABELS in any format that is read: it is converted, and what cannot be used is left out and named.
    """
    from alflow.report import exports
    from alflow.report.datasets import Asked
    from alflow.report.progress import terminal_progress

    if len(arguments) > 2:
        msg = f"expected [DIR] OUT, found {len(arguments)} arguments"
        raise click.UsageError(msg)
    if seed is not None and test is None:
        msg = "--seed chooses structures to test with: expected --test SHARE beside it"
        raise click.UsageError(msg)
    directory = Path(arguments[0]) if len(arguments) == 2 else Path()
    asked = Asked(format=format_, test=test, seed=seed or 0, names=_names_of(said))
    with terminal_progress(errors=True) as progress:
        done = exports.export(directory, Path(arguments[-1]), asked, progress)
    click.echo(done)


def _baseline_of(path: Path | None) -> "BaselineMethod | None":
    from alflow import config

    return None if path is None else config.load_baseline(path).at(path.parent)


@main.command()
@click.argument("file", type=PLACE)
@_names_options
@json_option
def data(file: Path, as_json: bool, **said: Any) -> None:
    """Show what a file of structures and labels holds, how it is read, and what is odd about it."""
    from alflow.report.data import text
    from alflow.report.progress import terminal_progress
    from alflow.steps.contents import of_file

    with terminal_progress() as progress:
        found = of_file(file, _names_of(said), progress)
    click.echo(json.dumps(found, indent=2) if as_json else text(found))


@main.command()
@click.argument("data", type=PLACE)
@click.option("-o", "--output", type=FILE, required=True, help="The model to write (HDF5).")
@click.option("--config", "settings", type=FILE, help="An alflow.toml: its seed, [potential], [baseline], [executor].")
@click.option("--members", type=click.IntRange(min=2), help="Members of the committee [default: 16, or of --config]")
@click.option("--seed", type=click.IntRange(min=0), help="Which members see what [default: 0, or of --config]")
@click.option("--cutoff", type=click.FloatRange(min=0, min_open=True), help="Radius in Å.")
@click.option("--features", type=click.IntRange(min=1), help="Of an atom, at most (n_features).")
@click.option("--energy-weight", type=click.FloatRange(min=0, min_open=True), help="Beside that of forces, 1.")
@click.option(
    "--weight", "weights", multiple=True, metavar="KIND=NUMBER", help="Of structures of a kind; may be repeated."
)
@baseline_option
@_names_options
def train(data: Path, output: Path, **asked: Any) -> None:
    """Fit a committee to labelled structures."""
    from alflow.report.progress import terminal_progress
    from alflow.steps.fit_file import Asked, fit_file

    with terminal_progress(errors=True) as progress:
        committee = fit_file(
            data, output, Asked(names=_names_of(asked), **asked), progress, closely=sys.stderr.isatty()
        )
    click.echo(
        f"{output}: {committee.n_members} members, {len(committee.training)} structures; {committee.judgement.accuracy}"
    )


@main.command()
@click.argument("model", type=FILE)
@click.argument("data", type=PLACE)
@click.option("-o", "--output", type=FILE, required=True, help="Where to write the structures with predictions.")
@click.option("--trust", is_flag=True, help="Run the calculators that MODEL names, programs of others.")
@click.option("--length-unit", metavar="UNIT", help="Of lengths in DATA: A, bohr, nm.")
@species_option
@baseline_option
def predict(model: Path, data: Path, output: Path, trust: bool, baseline: Path | None, **said: Any) -> None:
    """Predict energies and forces with their uncertainties.

    A structure that cannot be treated (a species that MODEL does not know, atoms in the same place, no atoms, ...)
    stops no other: it is named, and written with the reason as not_predicted in place of results. The exit code is
    then 2.
    """
    from alflow.data.names import Names
    from alflow.data.writing import write_structures
    from alflow.errors import StructureError
    from alflow.report import exports

    committee = exports.committee(model, _baseline_of(baseline), trust=trust)
    frames, problems = exports.predictions(committee, data, Names(**said))
    write_structures(output, frames)
    click.echo(f"{output}: {len(frames)} structures{f', {len(problems)} not predicted' if problems else ''}")
    for line in exports.extrapolated(frames):
        click.echo(line, err=True)
    if committee.judgement.note:
        click.echo(committee.judgement.note, err=True)
    for problem in problems:
        click.echo(f"alflow: {problem}", err=True)
    if problems:
        click.get_current_context().exit(StructureError.exit_code)


@main.command()
@click.argument("model", type=PLACE)
@click.argument("data", type=PLACE)
@click.option("--plot", type=FILE, help="Also draw predictions beside labels, and errors beside sigma.")
@click.option("--trust", is_flag=True, help="Run the calculators that MODEL names, programs of others.")
@baseline_option
@_names_options
@json_option
def evaluate(model: Path, data: Path, as_json: bool, plot: Path | None, **said: Any) -> None:
    """Show how good MODEL is on the labels of DATA: errors, and whether its uncertainties tell them.

    MODEL is a file or a run directory, whose newest committee it is; DATA is a file with labels, or a run directory. A
    structure that cannot be predicted stops no other: it is named, and the exit code is then 2.
    """
    from alflow.errors import StructureError
    from alflow.report import evaluation, exports, tables
    from alflow.report.progress import terminal_progress

    committee = exports.committee(model, _baseline_of(said.pop("baseline")), trust=said.pop("trust"))
    with terminal_progress(errors=True) as progress:
        found = evaluation.evaluate(committee, str(model), data, progress, _names_of(said))
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, allow_nan=False))
    else:
        tables.show(evaluation.table(found))
        for line in evaluation.remarks(found):
            click.echo(line, err=True)
    if plot is not None:
        evaluation.plot(found, plot)
    for problem in found.problems:
        click.echo(f"alflow: {problem}", err=True)
    if found.problems:
        click.get_current_context().exit(StructureError.exit_code)


@main.command()
@directory_argument
@click.option("--steps", type=click.IntRange(min=1), required=True, help="Of each walker, in all.")
@click.option("--name", default="run", show_default=True, help="Of the production run.")
@click.option("--drive", type=click.Choice(["mean", "members"]), help="All by the mean [default], or each by a member.")
@click.option("--walkers", type=click.IntRange(1, 999), help="[default: 4; with --drive members 1 for each]")
@click.option("--temperature", type=click.FloatRange(min=0, min_open=True), help="K [default: of [sample]]")
@click.option("--pressure", type=float, help="GPa [default: constant volume]")
@click.option("--timestep", type=click.FloatRange(0, 10, min_open=True), help="fs [default: of [sample]]")
@click.option("--stride", type=click.IntRange(min=1), help="Steps between stored frames [default: of [sample]]")
@click.option("--friction", type=click.FloatRange(min=0, min_open=True), help="1/fs [default: of [sample]]")
@click.option("--system", help="Which, if there are several.")
@click.option("--cycle", type=click.IntRange(min=0), help="Whose committee [default: the newest]")
@click.option("--seed", type=click.IntRange(min=0), help="[default: of alflow.toml]")
@click.option(
    "--force-sigma-max", type=click.FloatRange(min=0, min_open=True), help="Stop above, eV/Å [default: never]"
)
@retry_option
def produce(directory: Path, retry: bool, **asked: Any) -> None:
    """Run walkers with the newest committee, for averages; the same command goes on, more steps make it longer."""
    from alflow import loop
    from alflow.report import averages
    from alflow.report.progress import terminal_progress
    from alflow.steps.produce import Asked

    with terminal_progress() as progress:
        folder = loop.produce(directory, progress, Asked(**asked), retry=retry)
    for line in averages.walks(folder):
        click.echo(line)
    click.echo(f"next: alflow average {folder} --observable potential_energy")


OBSERVABLES = """\b
Observables, each with --observable (quote them):
  potential_energy  total_energy  heat_capacity  volume  density
  'rdf O-H [r_max=6] [bins=120]'
  'coordination O-H 1.3'              'angle H-O-H 1.3 [bins=90]'
  'hydrogen_bonds [r=3.5] [angle=30]'
  'free_energy CV MIN..MAX [bins=50]' 'free_energy_difference CV A..B C..D'
  with CV: distance 0 3, distance O-O, angle 0 1 2, coordination 0 O 2.5,
  distance_difference 0 1 2
  and your own functions, named in [[observable]] of alflow.toml
"""


@main.command(epilog=OBSERVABLES)
@click.argument("source", type=click.Path(path_type=Path), required=False)
@click.option("-o", "--observable", "texts", multiple=True, metavar="TEXT", help="What to average; may be repeated.")
@click.option("--temperature", type=click.FloatRange(min=0, min_open=True), help="Of the run, K.")
@click.option("--pressure", type=float, help="Of a run of i-PI at constant pressure, GPa.")
@click.option("--system", help="Only walkers of this system.")
@click.option(
    "--method",
    type=click.Choice(["direct", "cea", "mbar", "own"]),
    help="[default: by the spread of h; mbar or own where members drove, by their overlap]",
)
@click.option("--drop", type=click.FloatRange(0, 0.95), help="Share dropped at the beginning [default: detected].")
@click.option("--ipi", metavar="PREFIX", help="Output of i-PI: PREFIX.out, .committee_pot_0, .pos_0.xyz.")
@click.option(
    "--energies", multiple=True, metavar="FILE", help="Member energies: rows are frames; one for each walker."
)
@click.option("--driving", multiple=True, metavar="FILE|mean", help="Energies of the potential that drove the run.")
@click.option("--values", multiple=True, metavar="FILE", help="Observables: rows are frames.")
@click.option("--unit", help="Of energies: eV, Ha, Ry, kcal/mol, kJ/mol [default: eV]")
@click.option("--values-unit", help="Of observables, for the table.")
@click.option("--models", is_flag=True, help="The columns of --values are models of one property.")
@json_option
@click.option("--plot", type=FILE, help="Also draw the averages with their error bands.")
def average(source: Path | None, as_json: bool, plot: Path | None, **asked: Any) -> None:
    """Average observables over SOURCE with their statistical and model errors.

    SOURCE is a production run (my-run/production/NAME) or a cycle's samples (my-run/cycles/001/sample.h5); foreign data
    come with --ipi, or --energies, --driving and --values (.npy, text, or HDF5 as file.h5:dataset).
    """
    from alflow.report import averages

    report = averages.asked(source, **asked)
    if plot is not None:
        averages.plot(report, plot)
    click.echo(
        averages.document(report) if as_json else "\n".join([*averages.lines(report), "", averages.text_table(report)])
    )
