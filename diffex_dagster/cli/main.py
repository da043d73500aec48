"""`diffex`: run a study, show and compare what it found."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from diffex_dagster import __version__
from diffex_dagster.cli import results as report_cli
from diffex_dagster.cli.bench import bench
from diffex_dagster.cli.results import TableFormat
from diffex_dagster.definitions import studies_root
from diffex_dagster.errors import DiffExError, of_a_disk
from diffex_dagster.study import Study, find_study, load_study
from diffex_dagster.utils.output import every_letter, gone_quietly
from diffex_dagster.utils.progress import shown
from diffex_dagster.utils.secrets import none_raised

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Why does an image classifier decide as it does? DiffEx as Dagster assets.",
)
app.add_typer(bench, name="bench")
store_app = typer.Typer(no_args_is_help=True, help="Whether results are what they were, and what may be removed.")
app.add_typer(store_app, name="store")
console = Console(stderr=True)
INTERRUPTED = 130  # the exit status of a command that Ctrl-C ends

StudyArgument = Annotated[str, typer.Argument(help="a study file, its folder, or its name under studies/")]
TableOption = Annotated[TableFormat, typer.Option("--format", help="how to print it")]
EditorOption = Annotated[str | None, typer.Option("--editor", help="another of the study's editors")]


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


class Format(StrEnum):
    """How `diffex corpus` prints."""

    table = "table"
    json = "json"


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
        console.print(f"[red]error:[/] {_escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(1)
    except OSError as error:
        if (sentence := of_a_disk(error)) is None:
            raise
        console.print(f"[red]error:[/] {_escape(str(sentence))}", soft_wrap=True, highlight=False)
        sys.exit(1)
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            console.print("interrupted: what was finished is kept; the same command goes on from there", soft_wrap=True)
        raise


@app.command()
def run(
    study: StudyArgument,
    classifier: Annotated[str | None, typer.Option(help="explain only this one of the study's classifiers")] = None,
    editor: EditorOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="start over; earlier results are kept aside")] = False,
) -> None:
    """Explain a study's classifiers: materialize its assets, reusing every edit and score that exists."""
    from diffex_dagster.cli.running import explain_study

    loaded = _load(study, editor)
    if fresh:
        _set_aside(loaded)
    names = _classifiers(loaded, classifier)
    start = time.monotonic()
    with shown(console) as report:
        outcome = explain_study(loaded, names, report, note=_note)
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
    loaded = _load(study, editor)
    report_cli.plan(loaded, _classifiers(loaded, classifier), output)


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

    loaded = _load(study, editor)
    names = [name for name in (features or "").split(",") if name.strip()]
    with shown(console) as report:
        found, page = preview_cli.make(loaded, names, images, grid, report)
    preview_cli.show(found, page, console, open_it)


@app.command()
def report(
    study: StudyArgument,
    classifier: Annotated[str | None, typer.Argument(help="one of the classifiers; else the comparison")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="open it in the browser")] = False,
    editor: EditorOption = None,
) -> None:
    """Print where a report is, and open it."""
    loaded = _load(study, editor)
    if classifier is not None:
        _classifiers(loaded, classifier)
    report_cli.report(loaded, classifier, open_it)


@app.command()
def show(
    study: StudyArgument,
    classifier: Annotated[str, typer.Argument(help="one of the study's classifiers")],
    output: TableOption = TableFormat.table,
    editor: EditorOption = None,
) -> None:
    """Print the ranked list of a classifier's latest report."""
    loaded = _load(study, editor)
    (name,) = _classifiers(loaded, classifier)
    report_cli.show(loaded, name, output)


@app.command()
def compare(
    study: StudyArgument,
    versions: Annotated[list[str] | None, typer.Argument(help="classifiers, the oldest first; else all")] = None,
    output: TableOption = TableFormat.table,
    editor: EditorOption = None,
) -> None:
    """Compare classifier versions on the edits that exist."""
    loaded = _load(study, editor)
    names = [name for version in versions or () for name in _classifiers(loaded, version)]
    report_cli.compare(loaded, names, output)


@app.command()
def survey(
    study: StudyArgument,
    classifier: Annotated[str | None, typer.Argument(help="about whose features; else the first one's")] = None,
    questions: Annotated[int, typer.Option(min=1, help="how many pairs of pictures to ask about")] = 20,
    editor: EditorOption = None,
) -> None:
    """Write a page that asks people which attribute changed, and how good the edits are."""
    loaded = _load(study, editor)
    report_cli.survey(loaded, _classifiers(loaded, classifier)[0], questions)


@app.command("survey-results")
def survey_results(
    files: Annotated[list[Path], typer.Argument(help="the answers that participants downloaded")],
    output: TableOption = TableFormat.table,
) -> None:
    """Say how often people named the attribute that changed, and how they rated the edits."""
    report_cli.survey_results(files, output)


@app.command()
def corpus(
    study: Annotated[str | None, typer.Argument(help="a study; not needed with --read")] = None,
    diff: Annotated[bool, typer.Option("--diff", help="what changed since the corpus was last materialized")] = False,
    against: Annotated[str | None, typer.Option(help="with --diff: another version, by its hash")] = None,
    check: Annotated[bool, typer.Option("--check", help="validate the corpus file without running anything")] = False,
    read: Annotated[Path | None, typer.Option("--read", help="read a saved answer of a vision-language model")] = None,
    output: Annotated[Format, typer.Option("--format", help="how to print the tree")] = Format.table,
) -> None:
    """Show a study's tree of features with prompts, support and drops."""
    from diffex_dagster.cli import corpus as corpus_cli
    from diffex_dagster.corpus.showing import render_tree

    out = Console()
    if read is None and study is None:
        raise DiffExError("corpus: name a study, or a saved answer with --read FILE")
    if read is not None:
        tree, title = corpus_cli.read_file(read), read.name
    else:
        loaded = _load(str(study), None)
        if check:
            return corpus_cli.check(loaded, out)
        if diff or against:
            return corpus_cli.show_diff(loaded, against, out)
        tree, title = corpus_cli.corpus_now(loaded), f"{loaded.name}: corpus"
    if output is Format.json:
        print(corpus_cli.as_json(tree))
    else:
        out.print(render_tree(tree, title=title))
    return None


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="name of the study: letters, digits and underscores")],
    images: Annotated[str, typer.Option(help="a folder, a pattern, a .txt list, a table, or a dataset folder")],
    classifier: Annotated[str, typer.Option(help="a hub id or folder, a model file, an address, or KIND:VALUE")],
    label: Annotated[str | None, typer.Option(help="the class to explain; the one predicted most often")] = None,
    labels: Annotated[
        str | None, typer.Option(help="class names in order, separated by commas, or a file with them")
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(help="what the model returns: logits, probabilities or sigmoid; found out when left out"),
    ] = None,
    domain: Annotated[str | None, typer.Option(help="what the images show, in words; from the name")] = None,
    editor: Annotated[str, typer.Option(help="KIND:VALUE: ledits, instruct, precomputed, python")] = (
        "ledits:stable-diffusion-v1-5/stable-diffusion-v1-5"
    ),
    size: Annotated[int | None, typer.Option(help="side in pixels that the editor works on; 512")] = None,
    starter: Annotated[str | None, typer.Option(help="a shipped list of attributes")] = None,
    vlm: Annotated[str | None, typer.Option(help="a vision-language model that names the attributes")] = None,
    vlm_url: Annotated[str | None, typer.Option(help="its address; OpenAI's own when left out")] = None,
) -> None:
    """Write a study file, try its images and classifier, and say what a run will cost."""
    from diffex_dagster.cli.init import Wishes, make_study

    root = Path(os.environ.get("DIFFEX_ROOT") or Path.cwd())
    classes = tuple(each.strip() for each in labels.split(",")) if labels else ()
    wishes = Wishes(name, images, classifier, label, classes, outputs, domain, editor, size, starter, vlm, vlm_url)
    made = make_study(wishes, root / "studies" / name)
    out = Console(highlight=False, soft_wrap=True)
    out.print(f"wrote {_escape(str(made.study.file))}")
    out.print(_escape(made.images.summary()))
    for file, predicted, probability in made.predictions:
        out.print(f"  {_escape(file)}: {_escape(predicted)} ({probability:.2f})")
    out.print(f"explaining: {_escape(made.study.target.describe())}")
    level1 = "" if made.level1_edits is None else f"{made.level1_edits} edits at level 1, "
    hours = made.most_edits / 3600
    out.print(f"a run makes {level1}at most {made.most_edits} edits in all: {hours:.1f} hours at one second each")
    out.print(f"next: diffex doctor {_escape(name)}, then diffex run {_escape(name)}")


@app.command()
def doctor(
    study: Annotated[str | None, typer.Argument(help="a study to look at too")] = None,
) -> None:
    """Look for what would stop a run: device, memory, packages, hub, disk, and a study with all that it names."""
    from diffex_dagster.cli.doctor import examine

    marks = {True: "[green]ok[/]     ", None: "[yellow]note[/]   ", False: "[red]problem[/]"}
    out, bad = Console(highlight=False, soft_wrap=True), 0
    for finding in examine(find_study(study, studies_root()) if study else None):
        remedy = f": {finding.remedy}" if finding.remedy and finding.fine is not True else ""
        out.print(f"{marks[finding.fine]} {finding.what}: {_escape(finding.found)}{_escape(remedy)}")
        bad += finding.fine is False
    if bad:
        raise typer.Exit(1)


@store_app.command("check")
def store_check(study: StudyArgument) -> None:
    """Read every stored picture, and say which are lost or altered; a run makes those again."""
    from diffex_dagster.cli import store

    if not store.check(_load(study, None), Console(highlight=False, soft_wrap=True)):
        raise typer.Exit(1)


@store_app.command("prune")
def store_prune(
    study: StudyArgument,
    yes: Annotated[bool, typer.Option("--yes", help="remove it; else it is only shown")] = False,
) -> None:
    """Show, and with --yes remove, reports that a later one replaced and files that no row names."""
    from diffex_dagster.cli import store

    store.prune(_load(study, None), yes, Console(highlight=False, soft_wrap=True))


@app.command()
def schema() -> None:
    """Print the JSON Schema of a study file, for editors and validators."""
    from diffex_dagster.cli.init import json_schema

    print(json.dumps(json_schema(), indent=1))


def _load(study: str, editor: str | None) -> Study:
    loaded = load_study(find_study(study, studies_root()))
    return loaded.with_editor(editor) if editor else loaded


def _classifiers(study: Study, name: str | None) -> list[str]:
    if name is None:
        return list(study.classifiers)
    if name not in study.classifiers:
        known = ", ".join(study.classifiers)
        raise DiffExError(f"{study.file}: classifiers: there is no {name!r}; the study has {known}")
    return [name]


def _set_aside(study: Study) -> None:
    """Move the results folder away under a new name: nothing that was computed is lost."""
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
        console.print(f"earlier results are kept in {aside}", highlight=False)


def _note(sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
