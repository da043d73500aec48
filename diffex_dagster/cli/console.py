"""What the commands share: arguments, the study that they name, and where they print. Nothing heavy loads here."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich import console as rich_console
from rich.markup import escape
from rich.segment import Segment

from diffex_dagster.utils.lines import in_print, one_line
from diffex_dagster.utils.paths import studies_root

if TYPE_CHECKING:
    from collections.abc import Iterable

    from diffex_dagster.study import Study

StudyArgument = Annotated[str, typer.Argument(help="a study file, its folder, or its name under studies/")]
EditorOption = Annotated[str | None, typer.Option("--editor", help="another of the study's editors")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="how many processes edit and judge; else DIFFEX_WORKERS"),
]


class TableFormat(StrEnum):
    """How a table is printed."""

    table = "table"
    json = "json"
    csv = "csv"


class TreeFormat(StrEnum):
    """How a corpus is printed."""

    table = "table"
    json = "json"


TableOption = Annotated[TableFormat, typer.Option("--format", help="how to print it")]
TreeOption = Annotated[TreeFormat, typer.Option("--format", help="how to print the tree")]


class Console(rich_console.Console):
    """A terminal that obeys nothing of what it is shown: names of files and words of models may hold its commands."""

    def render(
        self, renderable: rich_console.RenderableType, options: rich_console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Lay something out; of its text only what can be printed."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(in_print(segment.text), segment.style)


def terminal(columns: int = 120) -> Console:
    """A terminal as wide as it is; where the output goes to a file, wide enough for tables that need `columns`."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, columns))


def lines() -> Console:
    """Standard output for sentences: one a line, however narrow the terminal."""
    return Console(highlight=False, soft_wrap=True)


def note(sentence: str) -> None:
    """Say something beside the output, on standard error."""
    Console(stderr=True).print(sentence, markup=False, highlight=False, soft_wrap=True)


def say_error(sentence: str) -> None:
    """Say why a command failed, on standard error and on one line."""
    Console(stderr=True).print(f"[red]error:[/] {escape(one_line(sentence))}", soft_wrap=True, highlight=False)


def set_workers(workers: int | None) -> None:
    """Let this process, and the assets that it runs, have as many workers: the option stands for DIFFEX_WORKERS."""
    if workers is not None:
        os.environ["DIFFEX_WORKERS"] = str(workers)


def load(study: str, editor: str | None = None) -> Study:
    """The study that a command names, with another of its editors where one is named.

    Raises:
        StudyError: there is none, it is wrong, or it has no such editor.
    """
    from diffex_dagster.study import find_study, load_study

    loaded = load_study(find_study(study, studies_root()))
    return loaded.with_editor(editor) if editor else loaded


def classifiers_of(study: Study, name: str | None) -> list[str]:
    """The classifier that a command names; all of the study's where it names none.

    Raises:
        StudyError: the study has no such classifier.
    """
    if name is None:
        return list(study.classifiers)
    study.for_classifier(name)
    return [name]
