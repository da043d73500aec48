"""`diffex refine`, `corpus`, `survey` and `store`: what each command is called, and which module does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffex_dagster.cli.console import (
    Console,
    EditorOption,
    StudyArgument,
    TableFormat,
    TableOption,
    TreeFormat,
    TreeOption,
    classifiers_of,
    lines,
    load,
)
from diffex_dagster.utils.progress import shown

store_commands = typer.Typer(no_args_is_help=True, help="Whether results are what they were, and what may be removed.")
corpus_commands = typer.Typer(no_args_is_help=True, help="A study's tree of attributes: show it, check it, compare it.")
survey_commands = typer.Typer(
    no_args_is_help=True, help="Ask people what changed in the pictures, and read their answers."
)


def refine(
    study: StudyArgument,
    classifier: Annotated[str | None, typer.Argument(help="after whose report; else the first one's")] = None,
    question: Annotated[
        Path | None, typer.Option(help="write the question and its pictures into this folder, and ask nobody")
    ] = None,
    editor: EditorOption = None,
) -> None:
    """Ask the vision-language model which attributes to try next, after a report. Nothing is applied."""
    from diffex_dagster.cli import refine as refine_cli

    loaded = load(study, editor)
    name = classifiers_of(loaded, classifier)[0]
    with shown(Console(stderr=True)) as report:
        if question is not None:
            return refine_cli.question(loaded, name, question, report, Console())
        return refine_cli.make(loaded, name, report, Console())


@survey_commands.command("make")
def survey_make(
    study: StudyArgument,
    classifier: Annotated[str | None, typer.Argument(help="about whose features; else the first one's")] = None,
    questions: Annotated[int, typer.Option(min=1, help="how many pairs of pictures to ask about")] = 20,
    editor: EditorOption = None,
) -> None:
    """Write a page that asks people which attribute changed, and how good the edits are."""
    from diffex_dagster.cli import results

    loaded = load(study, editor)
    results.survey(loaded, classifiers_of(loaded, classifier)[0], questions)


@survey_commands.command("results")
def survey_results(
    files: Annotated[list[Path], typer.Argument(help="the answers that participants downloaded")],
    output: TableOption = TableFormat.table,
) -> None:
    """Say how often people named the attribute that changed, and how they rated the edits."""
    from diffex_dagster.cli import results

    results.survey_results(files, output)


@corpus_commands.command("show")
def corpus_show(study: StudyArgument, output: TreeOption = TreeFormat.table) -> None:
    """Show a study's tree of features with prompts, support and drops."""
    from diffex_dagster.cli import corpus
    from diffex_dagster.stages.corpus_now import corpus_now

    loaded = load(study)
    corpus.show(corpus_now(loaded), f"{loaded.name}: corpus", output, Console())


@corpus_commands.command("check")
def corpus_check(study: StudyArgument) -> None:
    """Validate the corpus file without running anything."""
    from diffex_dagster.cli import corpus

    corpus.check(load(study), Console())


@corpus_commands.command("accept")
def corpus_accept(
    study: StudyArgument,
    names: Annotated[list[str] | None, typer.Argument(help="suggestions by id or name; else they are listed")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every suggestion that can be taken up")] = False,
) -> None:
    """Write suggestions of `diffex refine` into the corpus file, under `add:`."""
    from diffex_dagster.cli import refine

    refine.take_up(load(study), names or [], everything, Console())


@corpus_commands.command("diff")
def corpus_diff(
    study: StudyArgument,
    against: Annotated[str | None, typer.Option(help="another version, by its hash")] = None,
) -> None:
    """Show what changed since the corpus was last materialized."""
    from diffex_dagster.cli import corpus

    corpus.show_diff(load(study), against, Console())


@corpus_commands.command("read")
def corpus_read(
    file: Annotated[Path, typer.Argument(help="a saved answer of a vision-language model")],
    output: TreeOption = TreeFormat.table,
) -> None:
    """Show the tree that a saved answer of a vision-language model holds."""
    from diffex_dagster.cli import corpus

    corpus.show(corpus.read_file(file), file.name, output, Console())


@store_commands.command("check")
def store_check(study: StudyArgument) -> None:
    """Read every stored picture, and say which are lost or altered; a run makes those again."""
    from diffex_dagster.cli import store

    if not store.check(load(study), lines()):
        raise typer.Exit(1)


@store_commands.command("prune")
def store_prune(
    study: StudyArgument,
    yes: Annotated[bool, typer.Option("--yes", help="remove it; else it is only shown")] = False,
) -> None:
    """Show, and with --yes remove, reports that a later one replaced and files that no row names."""
    from diffex_dagster.cli import store

    store.prune(load(study), yes, lines())
