"""`diffex apply`: which other pictures carry what a classifier leans on, and which depend on it."""

from __future__ import annotations

import json
import shlex
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from diffex_dagster.assets.running import in_gpu_pool
from diffex_dagster.cli.console import TableFormat, note, terminal
from diffex_dagster.cli.results import print_rows
from diffex_dagster.report.applied_files import check_folder, write_applied
from diffex_dagster.report.applied_model import Applied, AppliedRow, applied_data, applied_rows
from diffex_dagster.report.applied_page import RISK, judge_error, seen_in, taken_away_in_words
from diffex_dagster.report.tables import with_mark
from diffex_dagster.report.wording import count, curly, digits_for, marked, number, plain, share, signed, titled
from diffex_dagster.stages.applying import apply_study
from diffex_dagster.stages.asked_of_pictures import TOP, PlannedApply, Wanted, asked_of_pictures, plan_apply
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.folder_pictures import keep_pictures, read_folder
from diffex_dagster.stages.scores import check_classifier
from diffex_dagster.stages.setup import applied_folder
from diffex_dagster.study import Study
from diffex_dagster.utils.columns import columns
from diffex_dagster.utils.output import print_exact
from diffex_dagster.utils.progress import Reporter

SHOWN = 12  # pictures of an attribute in the terminal


@dataclass(frozen=True)
class Pictures:
    """Pictures that a study is applied to.

    Attributes:
        folder: where they are, as the command names it.
        wanted: which attributes are looked for, and how.
    """

    study: Study
    classifier: str
    folder: Path
    wanted: Wanted

    @property
    def command(self) -> str:
        """The command that makes the same again."""
        options = [option for each in self.wanted.shortcuts for option in ("--shortcut", each)]
        options += [] if self.wanted.top == TOP else ["--top", str(self.wanted.top)]
        options += ["--null-edits"] if self.wanted.null_edits else []
        first = next(iter(self.study.editors))
        options += [] if self.study.editor_name == first else ["--editor", self.study.editor_name]
        named = ["diffex", "apply", self.study.folder.name, self.classifier, "--images", str(self.folder)]
        return shlex.join([*named, *options])


def make(
    of: Pictures,
    report: Reporter,
    only_plan: bool = False,
    output: Path | None = None,
    say: Callable[[str], None] = note,
) -> tuple[Applied, Path] | None:
    """Apply a study to the pictures of a folder and write page and tables; returns what was found and the page.

    What it will cost is said first. It waits for a place in the pool of whatever edits where a model on this machine
    edits or judges.

    Args:
        only_plan: say the cost and stop.
        output: the folder that is written; one of the study's own when None (`setup.applied_folder`).
        say: told the cost, the files that cannot be read, and what it waits for.

    Raises:
        DiffExError: there is no such folder, or no report to apply; editor, classifier or judge cannot be used; or the
            folder that is to be written cannot be.
    """
    study, classifier, wanted = of.study, of.classifier, of.wanted
    folder = read_folder(study, of.folder)
    reading = StudyContext(study).to_read()  # a plan writes nothing, not even a database
    planned = plan_apply(asked_of_pictures(reading.subject(classifier), folder, wanted))
    say(cost(planned))
    for file, why in folder.unread:
        say(f"{plain(file, 200)} cannot be read as a picture ({plain(why, 160)})")
    if folder.notes:
        say(f"left out: {', '.join(plain(each, 80) for each in folder.notes)}")
    if only_plan:
        return None
    where = output or applied_folder(study, classifier, folder.path)
    check_folder(where)
    work = StudyContext(study, report=report)

    def found() -> Applied:
        subject = work.subject(classifier)
        check_classifier(subject)
        keep_pictures(subject, folder)
        return apply_study(asked_of_pictures(subject, folder, wanted), of.command)

    applied = in_gpu_pool(study, "apply", found, say) if planned.on_this_machine else found()
    page, *_ = write_applied(applied, where)
    return applied, page


def cost(planned: PlannedApply) -> str:
    """What applying a study to pictures will cost, as a sentence."""
    same = "" if planned.files == planned.images else f" ({planned.images:,} different)"
    asked = f"{count(planned.questions_missing, 'question')} to the judge"
    if planned.requests is not None:
        price = "" if planned.price is None else f", about ${planned.price:.2f}"
        asked += f" in {count(planned.requests, 'request')}{price}"
    edits = "no edit" if not planned.edits_missing else count(planned.edits_missing, "null edit")
    pace = "" if not planned.edits_missing or planned.seconds is None else f" ({planned.seconds:,.0f} seconds)"
    return (
        f"{count(planned.files, 'image')}{same}, {count(planned.attributes, 'attribute')}: {edits}{pace}, {asked}, "
        f"{planned.scores_missing:,} to score"
    )


def show(found: Applied, page: Path, output: TableFormat, open_it: bool) -> None:
    """Print which pictures carry what, those most at risk first, and where the page is."""
    if output is TableFormat.json:
        print_exact(json.dumps(applied_data(found), indent=2, ensure_ascii=False))
    elif output is TableFormat.csv:
        print_rows(applied_rows(found), output, list(columns(AppliedRow)))
    else:
        _show(found)
        terminal().print(f"page: {page}", highlight=False, markup=False, soft_wrap=True)
    if open_it:
        webbrowser.open(page.as_uri())


def _show(found: Applied) -> None:
    digits, console = digits_for(f.effect for f in found.features), terminal()
    console.print(Text(f"{curly(found.target)} of {count(found.images, 'image')}", "bold"))
    for warning in found.warnings:
        console.print(Text.assemble(("look at this first: ", "yellow"), plain(warning)), highlight=False)
    table = Table(header_style="bold")
    for heading in ("attribute", "effect", "seen in", "share", "score with", "without", "at risk", "judge sees edits"):
        table.add_column(heading, justify="left" if heading == "attribute" else "right")
    for f in found.features:
        between = "–" if f.carriers is None else f"{share(f.prevalence_low)} to {share(f.prevalence_high)}"
        table.add_row(
            with_mark(titled(f, 40), marked(f.relation, f.confounded_with)), signed(f.effect, digits),
            "–" if f.carriers is None else str(f.carriers), between,
            number(f.score_with, digits), number(f.score_without, digits),
            "–" if f.at_risk is None else str(f.at_risk), seen_in(f),
        )  # fmt: skip
    console.print(table)
    console.print(judge_error(found), highlight=False, markup=False, soft_wrap=True)
    console.print(RISK, highlight=False, markup=False, soft_wrap=True)
    for f in found.features if any(f.named for f in found.features) else found.features[:1]:
        if f.named or not any(each.named for each in found.features):
            _show_pictures(found, f.feature, f"{titled(f, 60)} (without it: {taken_away_in_words(f, digits)})", digits)


def _show_pictures(found: Applied, feature: str, title: str, digits: int) -> None:
    there = found.at_risk(feature)
    if not there:
        return
    table = Table(header_style="bold", title=Text(title), title_justify="left")
    for heading in ("#", "image", "taken for", "score", "without it", "decision"):
        table.add_column(heading, justify="left" if heading in ("image", "taken for", "decision") else "right")
    for row in there[:SHOWN]:
        change = "–" if row.changes is None else "another one" if row.changes else "stays"
        table.add_row(
            str(row.place), Text(plain(row.file, 60)), Text(row.decision), number(row.score, digits),
            number(row.after, digits), f"{change}{', also at the interval’s end' if row.surely else ''}",
        )  # fmt: skip
    terminal().print(table)
    if len(there) > SHOWN:
        terminal().print(f"and {len(there) - SHOWN} more: page and images.csv", highlight=False)
