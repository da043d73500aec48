"""`diffex preview`: a few edits on a page and in the terminal, before GPU hours are spent."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from diffex_dagster.assets.running import in_gpu_pool
from diffex_dagster.cli.console import note
from diffex_dagster.report.preview_page import Preview, Row, render_preview
from diffex_dagster.report.wording import plain
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.preview import choose_features, preview
from diffex_dagster.study import Study
from diffex_dagster.utils.files import write_output
from diffex_dagster.utils.progress import Reporter


def make(
    study: Study,
    features: Sequence[str],
    images: int,
    grid: bool,
    report: Reporter,
    say: Callable[[str], None] = note,
) -> tuple[Preview, Path]:
    """Make a preview and write its page; returns both the data and where the page is.

    It waits for a place in the pool of whatever edits, as a run does.

    Args:
        say: told what it waits for.

    Raises:
        DiffExError: a feature is not in the corpus, the editor cannot be used, or the grid does not go with its kind.
    """
    corpus = corpus_now(study)
    chosen = choose_features(study, corpus, features)
    work = StudyContext(study, report=report)
    found = in_gpu_pool(study, "preview", lambda: preview(work, chosen, images, grid, corpus), say)
    page = study.results_folder / "preview" / f"{study.editor_name}.html"
    write_output(page, render_preview(found).encode())
    return found, page


def show(found: Preview, page: Path, console: Console, open_it: bool) -> None:
    """Print a line a feature, and where the page is."""
    console.print(_table("feature", found.rows, found.judged))
    if found.grid:
        console.print(_table(f"{plain(found.rows[0].name, 40)} under", found.grid, found.judged))
    for sentence in filter(None, (found.source_prompts, found.uncalibrated, found.note)):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{found.made} edits made, {found.reused} reused", highlight=False)
    print(page)
    if open_it:
        webbrowser.open(page.as_uri())


def _table(heading: str, rows: Sequence[Row], judged: bool) -> Table:
    table = Table()
    table.add_column(heading)
    table.add_column("shows more of it" if judged else "changed the picture", justify="right")
    table.add_column("strength", justify="right")
    table.add_column("also shows")
    if told := any(row.options for row in rows):
        table.add_column("options")
    for row in rows:
        strength = sum(each.strength for each in row.edits) / len(row.edits)
        others = dict.fromkeys(plain(each.other, 40) for each in row.edits if each.other)
        shown = f"{sum(each.shows for each in row.edits)} of {len(row.edits)}"
        cells = [plain(row.name, 60), shown, f"{strength:.2f}", ", ".join(others), plain(row.options, 120)]
        table.add_row(*map(Text, cells[: None if told else -1]))
    return table
