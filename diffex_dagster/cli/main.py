"""`diffex`: run a study, show and compare what it found."""

from __future__ import annotations

import itertools
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffex_dagster.cli.bench import bench
from diffex_dagster.cli.console import (
    Console,
    EditorOption,
    StudyArgument,
    TableFormat,
    TableOption,
    WorkersOption,
    classifiers_of,
    lines,
    load,
    note,
    say_error,
    set_workers,
)
from diffex_dagster.cli.families import corpus_commands, refine, store_commands, survey_commands
from diffex_dagster.cli.setting_up import doctor, init, schema
from diffex_dagster.errors import DiffExError, of_a_disk
from diffex_dagster.utils.output import every_letter, gone_quietly
from diffex_dagster.utils.progress import shown
from diffex_dagster.utils.secrets import none_raised
from diffex_dagster.version import __version__

if TYPE_CHECKING:
    from diffex_dagster.study import Study

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Why does an image classifier decide as it does? DiffEx as Dagster assets.",
)
app.add_typer(bench, name="bench")
app.add_typer(store_commands, name="store")
app.add_typer(corpus_commands, name="corpus")
app.add_typer(survey_commands, name="survey")
INTERRUPTED = 130  # the exit status of a command that Ctrl-C ends


def _print_version(asked: bool) -> None:
    if asked:
        print(f"diffex_dagster {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and leave")
    ] = False,
) -> None:
    """Options before a command."""


def main() -> None:
    """Run the command line: what the user can put right is one sentence and exit status 1."""
    # Notes to developers about beta features, which Dagster attributes to its own modules or to those that use it.
    warnings.filterwarnings("ignore", module="dagster")
    warnings.filterwarnings("ignore", message=".* is currently in (beta|preview)")
    every_letter(sys.stdout, sys.stderr)
    try:
        with gone_quietly(), none_raised():
            app()
    except DiffExError as error:
        say_error(str(error))
        sys.exit(1)
    except OSError as error:
        if (sentence := of_a_disk(error)) is None:
            raise
        say_error(str(sentence))
        sys.exit(1)
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            note("interrupted: what was finished is kept; the same command goes on from there")
        raise


@app.command()
def run(
    study: StudyArgument,
    classifier: Annotated[str | None, typer.Option(help="explain only this one of the study's classifiers")] = None,
    editor: EditorOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="start over; earlier results are kept aside")] = False,
    workers: WorkersOption = None,
) -> None:
    """Explain a study's classifiers: materialize its assets, reusing every edit and score that exists."""
    from diffex_dagster.assets.running import explain_study

    set_workers(workers)
    loaded = load(study, editor)
    if fresh:
        _set_aside(loaded)
    names = classifiers_of(loaded, classifier)
    start = time.monotonic()
    with shown(Console(stderr=True)) as report:
        outcome = explain_study(loaded, names, report, note=note)
    from diffex_dagster.cli.showing import print_outcome

    print_outcome(loaded, outcome, time.monotonic() - start)


@app.command()
def plan(
    study: StudyArgument,
    classifier: Annotated[str | None, typer.Option(help="only this one of the study's classifiers")] = None,
    output: TableOption = TableFormat.table,
    editor: EditorOption = None,
) -> None:
    """Say what `run` would do now and why: stale stages, edits and scores to make, and how long that may take."""
    from diffex_dagster.cli import results

    loaded = load(study, editor)
    results.plan(loaded, classifiers_of(loaded, classifier), output)


@app.command()
def preview(
    study: StudyArgument,
    features: Annotated[
        str | None, typer.Option(help="names or ids, separated by commas; else one of each of a few groups")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="how many of the study's images to edit")] = 3,
    grid: Annotated[bool, typer.Option("--grid", help="also try other options of the editor on the first feature")] = (
        False
    ),
    open_it: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
    editor: EditorOption = None,
) -> None:
    """Edit a few images and judge the edits, before hours are spent; no classifier is needed."""
    from diffex_dagster.cli import preview as preview_cli

    loaded = load(study, editor)
    names = [name for name in (features or "").split(",") if name.strip()]
    with shown(Console(stderr=True)) as report:
        found, page = preview_cli.make(loaded, names, images, grid, report, note)
    preview_cli.show(found, page, Console(stderr=True), open_it)


@app.command()
def calibrate(
    study: StudyArgument,
    output: TableOption = TableFormat.table,
    again: Annotated[bool, typer.Option("--again", help="forget what was chosen before: edits are made anew")] = False,
    open_it: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
    editor: EditorOption = None,
    workers: WorkersOption = None,
) -> None:
    """Find the editor's options for each prompt on a few images, as `run` would; no classifier scores anything."""
    from diffex_dagster.cli import calibrate as calibrate_cli

    set_workers(workers)
    loaded = load(study, editor)
    with shown(Console(stderr=True)) as report:
        found, page = calibrate_cli.make(loaded, report, note, again)
    calibrate_cli.show(found, page, output, open_it)


@app.command("source-prompts")
def source_prompts(
    study: StudyArgument,
    output: TableOption = TableFormat.table,
    again: Annotated[
        bool, typer.Option("--again", help="find the words anew in the corpus as it is: edits are made anew")
    ] = False,
    editor: EditorOption = None,
) -> None:
    """The words that pictures are described in, so that edits leave alone what else they show; found where needed."""
    from diffex_dagster.cli import source_prompts as source_prompts_cli

    loaded = load(study, editor)
    with shown(Console(stderr=True)) as report:
        found = source_prompts_cli.make(loaded, report, note, again)
    source_prompts_cli.show(found, output)


@app.command()
def report(
    study: StudyArgument,
    classifier: Annotated[str | None, typer.Argument(help="one of the classifiers; else the comparison")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
    editor: EditorOption = None,
) -> None:
    """Print where a report is, and open it."""
    from diffex_dagster.cli import results

    loaded = load(study, editor)
    if classifier is not None:
        classifiers_of(loaded, classifier)
    results.report(loaded, classifier, open_it)


@app.command()
def show(
    study: StudyArgument,
    classifier: Annotated[str, typer.Argument(help="one of the study's classifiers")],
    output: TableOption = TableFormat.table,
    editor: EditorOption = None,
) -> None:
    """Print the ranked list of a classifier's latest report."""
    from diffex_dagster.cli import results

    loaded = load(study, editor)
    (name,) = classifiers_of(loaded, classifier)
    results.show(loaded, name, output)


@app.command()
def compare(
    study: StudyArgument,
    versions: Annotated[list[str] | None, typer.Argument(help="classifiers, the oldest first; else all")] = None,
    output: TableOption = TableFormat.table,
    editor: EditorOption = None,
    editors: Annotated[
        str | None,
        typer.Option(help="two of the study's editors, as A,B: what of each classifier's reports holds under both"),
    ] = None,
) -> None:
    """Compare classifier versions on the edits that exist, or one version's reports under two editors."""
    from diffex_dagster.cli import results

    loaded = load(study, editor)
    names = [name for version in versions or () for name in classifiers_of(loaded, version)]
    if editors is not None:
        wanted = [name.strip() for name in editors.split(",")]
        return results.compare_editors(loaded, names or list(loaded.classifiers), wanted, output)
    return results.compare(loaded, names, output)


@app.command("explain")
def explain_images(
    study: StudyArgument,
    classifier: Annotated[str, typer.Argument(help="one of the study's classifiers")],
    images: Annotated[list[str], typer.Argument(help="images of the study by name or key, or other picture files")],
    most: Annotated[int, typer.Option(min=1, max=6, help="features of the largest set that is tried")] = 3,
    controls: Annotated[
        int | None,
        typer.Option(min=2, help="control prompts; as few as let something be claimed of one image (19 at 5%)"),
    ] = None,
    only_plan: Annotated[bool, typer.Option("--plan", help="say what it would cost, and stop")] = False,
    output: TableOption = TableFormat.table,
    open_it: Annotated[bool, typer.Option("--open", help="open the pages in the browser")] = False,
    editor: EditorOption = None,
    workers: WorkersOption = None,
) -> None:
    """Explain single images: what each feature does to it, the fewest edits that flip it, and what is noise."""
    from diffex_dagster.cli import explain as explain_cli
    from diffex_dagster.search.flipping import FlipOptions
    from diffex_dagster.stages.picture_edits import Wishes

    set_workers(workers)
    loaded = load(study, editor)
    (name,) = classifiers_of(loaded, classifier)
    wishes = Wishes(FlipOptions(most=most), controls)
    with shown(Console(stderr=True)) as report:
        found = explain_cli.make(explain_cli.Images(loaded, name, images, wishes), report, only_plan)
    if not only_plan:
        explain_cli.show(found, output, open_it)


@app.command()
def apply(
    study: StudyArgument,
    classifier: Annotated[str, typer.Argument(help="one of the study's classifiers")],
    images: Annotated[Path, typer.Option(help="a folder of other images, and the folders in it")],
    shortcut: Annotated[
        list[str] | None,
        typer.Option(
            help="an attribute of the report, by name or id, whatever was found of it; several times for more"
        ),
    ] = None,
    top: Annotated[
        int, typer.Option(min=0, help="of the attributes that the report claims, at most so many, the strongest first")
    ] = 10,
    null_edits: Annotated[
        bool, typer.Option("--null-edits", help="judge and score null edits, as the study does; makes one an image")
    ] = False,
    only_plan: Annotated[bool, typer.Option("--plan", help="say what it would cost, and stop")] = False,
    folder: Annotated[Path | None, typer.Option("--to", help="the folder to write; else one beside the report")] = None,
    output: TableOption = TableFormat.table,
    open_it: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
    editor: EditorOption = None,
    workers: WorkersOption = None,
) -> None:
    """Which other images carry what a classifier leans on, how it scores them, and which depend on one attribute."""
    from diffex_dagster.cli import apply as apply_cli
    from diffex_dagster.stages.asked_of_pictures import Wanted

    set_workers(workers)
    loaded = load(study, editor)
    (name,) = classifiers_of(loaded, classifier)
    of = apply_cli.Pictures(loaded, name, images, Wanted(tuple(shortcut or ()), top, null_edits))
    with shown(Console(stderr=True)) as report:
        found = apply_cli.make(of, report, only_plan, folder)
    if found is not None:
        apply_cli.show(*found, output, open_it)


app.command()(refine)
app.command()(init)
app.command()(doctor)


@app.command()
def export(
    study: StudyArgument,
    file: Annotated[Path, typer.Argument(help="a DuckDB file, which must not be there yet")],
    editor: EditorOption = None,
) -> None:
    """Write a study's results into one DuckDB file, wherever they are kept: every row, no picture."""
    from diffex_dagster.cli import store

    store.export(load(study, editor), file, lines())


app.command()(schema)


def _set_aside(study: Study) -> None:
    """Move the results folder away under a new name: nothing that was computed is lost."""
    if study.shared.database:
        raise DiffExError("--fresh puts a results folder aside, and these are in a database: name another space")
    folder = study.results_folder
    if folder.exists():
        named = f"{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        names = (named if not n else f"{named}-{n}" for n in itertools.count())
        aside = next(folder.with_name(name) for name in names if not folder.with_name(name).exists())
        try:
            folder.rename(aside)
        except OSError as error:
            raise DiffExError(
                f"{folder}: cannot be put aside ({error.strerror or error}); nothing was changed"
            ) from error
        note(f"earlier results are kept in {aside}")


if __name__ == "__main__":
    main()
