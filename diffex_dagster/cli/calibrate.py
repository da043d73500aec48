"""`diffex calibrate`: the editor's options for each prompt, on a page and in the terminal."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from diffex_dagster.assets.running import prepare_study
from diffex_dagster.cli.console import TableFormat, note, terminal
from diffex_dagster.cli.results import print_rows
from diffex_dagster.errors import StudyError
from diffex_dagster.report.wording import plain
from diffex_dagster.stages.calibration import Calibration, calibration_now, calibration_rows
from diffex_dagster.stages.calibration_page import page_path
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import EditCounts
from diffex_dagster.stages.ready import check_ready
from diffex_dagster.stages.tried_first import tried_first
from diffex_dagster.study import Study
from diffex_dagster.utils.progress import Reporter


def make(
    study: Study, report: Reporter, say: Callable[[str], None] = note, again: bool = False
) -> tuple[Calibration, Path]:
    """Calibrate the prompts of the corpus as it would be searched now, and write the page.

    The stages are materialized as in a run, so that what was made with other options is known to be out of date, and no
    two runs edit at once where their pool says so.

    Args:
        report: told how far it is.
        say: told, before it starts, what it may cost.
        again: forget what was chosen before.

    Raises:
        DiffExError: the study does not calibrate, or its images, corpus or editor cannot be used.
    """
    if not study.calibrates:
        options = ", ".join(sorted(study.editor_part.calibrated))
        raise StudyError(
            f"{study.file}: this study does not look for the options of its editor {study.editor_name!r}: it says "
            "calibrate: false, has no judge, or "
            + (
                f"sets them itself ({options}); write calibrate: true"
                if options
                else "has an editor of another kind; "
                "one of kind 'ledits' has options to be found, and one of your own may have with calibrate: true"
            )
        )
    check_ready(study)
    work = StudyContext(study)
    work.know()
    say(tried_first(work, anew=again) or "no edits are to be tried")
    if again:
        work.store.forget_calibration(study.kept_as, work.editor.fingerprint)
    said = prepare_study(study, "editor_calibration", report, say).metadata["editor_calibration"]
    work = work.changed()  # whose editor knows in which words pictures are described
    found = calibration_now(study, work.store, work.editor.fingerprint, work.store.current_corpus(study.kept_as))
    counts = EditCounts(said["edits_made"], said["edits_reused"], said["edit_seconds"])
    return replace(found, budget=said["edits_allowed"], note=said.get("note", ""), edits=counts), page_path(study)


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
