"""`diffex calibrate`: the editor's options for each prompt, on a page and in the terminal."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path

from rich.table import Table

from diffex_dagster.cli.console import TableFormat, note, terminal
from diffex_dagster.cli.results import print_rows
from diffex_dagster.errors import StudyError
from diffex_dagster.report.wording import plain
from diffex_dagster.stages.calibration import Calibration, calibrate, calibration_rows, planned_tries
from diffex_dagster.stages.calibration_page import write_page
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.study import CALIBRATED, Study
from diffex_dagster.utils.progress import Reporter


def make(
    study: Study, report: Reporter, say: Callable[[str], None] = note, again: bool = False
) -> tuple[Calibration, Path]:
    """Calibrate the prompts of the corpus as it would be searched now, and write the page.

    Args:
        report: told how far it is.
        say: told, before it starts, what it may cost.
        again: forget what was chosen before.

    Raises:
        DiffExError: the study does not calibrate, or its images, corpus or editor cannot be used.
    """
    if not study.calibrates:
        raise StudyError(
            f"{study.file}: this study does not look for the options of its editor {study.editor_name!r}: it says "
            f"calibrate: false, has no judge, or sets them itself ({', '.join(sorted(CALIBRATED))}); write "
            "calibrate: true"
        )
    work = StudyContext(study, report=report)
    work.know()
    corpus = corpus_now(study)
    sample_images(work)
    store = work.store
    store.put_corpus(study.name, corpus)
    store.set_current(study.name, "corpus", corpus.version)
    if again:
        store.forget_calibration(study.name, work.editor.fingerprint)
    prompts, most = planned_tries(work, corpus, work.samples)
    say(f"{prompts} prompts to calibrate, with at most {most} edits")
    found = calibrate(work)
    return found, write_page(work, found)


def show(found: Calibration, page: Path, output: TableFormat, open_it: bool) -> None:
    """Print a line a prompt, and where the page is."""
    if output is not TableFormat.table:
        print_rows(calibration_rows(found), output)
    else:
        table = Table()
        for column in ("prompt", "options", "shown", "why"):
            table.add_column(column)
        for row in calibration_rows(found):
            success = "" if row["success"] is None else f"{row['success']:.0%}"
            without = "without " if row["direction"] == "remove" else ""
            table.add_row(without + plain(str(row["prompt"]), 50), str(row["options"]), success, str(row["why"]))
        terminal().print(table)
        print(page)
    if found.note:
        note(f"nothing was tried: {found.note}")
    note(f"{found.edits.made} edits made, {found.edits.reused} reused, of {found.budget} allowed")
    if open_it:
        webbrowser.open(page.as_uri())
