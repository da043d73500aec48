"""`diffex explain`: single pictures, what moves each of them and what flips it."""

from __future__ import annotations

import json
import os
import shlex
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from diffex_dagster.assets.running import in_gpu_pool
from diffex_dagster.cli.console import TableFormat, note, terminal
from diffex_dagster.cli.results import print_rows
from diffex_dagster.effects.deciding_one import CLAIMS
from diffex_dagster.report.files import effects_csv
from diffex_dagster.report.image_model import ImageFeature, ImageFinding, feature_rows, finding_data
from diffex_dagster.report.image_page import flip_in_words, render_image
from diffex_dagster.report.tables import with_mark
from diffex_dagster.report.wording import REDRAWS, count, curly, digits_for, number, plain, signed, titled
from diffex_dagster.search.flipping import FlipOptions
from diffex_dagster.stages.asked_images import find_asked, named_apart
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.one_picture import PlannedImages, explain_images, explain_stored, plan_images
from diffex_dagster.stages.picture_edits import Wishes, asked_of
from diffex_dagster.stages.scores import check_classifier
from diffex_dagster.stages.setup import image_page, link_pages, reports_folder
from diffex_dagster.study import Study
from diffex_dagster.utils.columns import finite
from diffex_dagster.utils.files import write_output
from diffex_dagster.utils.output import print_exact
from diffex_dagster.utils.progress import Reporter

SHOWN = 12  # features in the terminal


@dataclass(frozen=True)
class Images:
    """Images that one of a study's classifiers is asked about.

    Attributes:
        named: as the command names them.
        wishes: how far the explanation goes.
    """

    study: Study
    classifier: str
    named: Sequence[str]
    wishes: Wishes

    @property
    def command(self) -> str:
        """The command that makes the same again."""
        options = [] if self.wishes.flips.most == FlipOptions().most else ["--most", str(self.wishes.flips.most)]
        options += [] if self.wishes.controls is None else ["--controls", str(self.wishes.controls)]
        first = next(iter(self.study.editors))
        options += [] if self.study.editor_name == first else ["--editor", self.study.editor_name]
        return shlex.join(["diffex", "explain", self.study.folder.name, self.classifier, *self.named, *options])


def make(
    of: Images, report: Reporter, only_plan: bool = False, say: Callable[[str], None] = note
) -> list[tuple[ImageFinding, Path]]:
    """Explain pictures and write a page about each; returns the findings and where the pages are.

    What it will cost is said first. It waits for a place in the pool of whatever edits, as a run does; where nothing
    is to be edited, it does not.

    Args:
        only_plan: say the cost and stop.
        say: told the cost, and what it waits for.

    Raises:
        DiffExError: there is no such picture, or editor, classifier or judge cannot be used.
    """
    study = of.study
    reading = StudyContext(study).to_read()  # a plan writes nothing, not even a database
    found = find_asked(reading, of.named)
    kept = reading.store.exists() and reading.store.current(study.kept_as, "corpus") is not None
    corpus = reading.store.current_corpus(study.kept_as) if kept else corpus_now(study)
    planned = plan_images(asked_of(reading.subject(of.classifier), corpus, of.wishes), list(found))
    say(cost(planned))
    if only_plan:
        return []
    subject = StudyContext(study, report=report).subject(of.classifier)
    check_classifier(subject)
    subject.store.put_images(named_apart(found))
    asked = asked_of(subject, corpus, of.wishes)
    names = {key: name for key, (name, _) in found.items()}
    findings = None if planned.edits_missing else explain_stored(asked, names, of.command)
    if findings is None:  # what flips an image may take edits that no plan can know
        findings = in_gpu_pool(study, "explain", lambda: explain_images(asked, names, of.command), say)
    pages = [_write_page(study, of.classifier, finding) for finding in findings]
    link_pages(study)
    return list(zip(findings, pages, strict=True))


def _write_page(study: Study, classifier: str, finding: ImageFinding) -> Path:
    page = image_page(study, classifier, finding.image)
    there = reports_folder(study, classifier) / "index.html"
    address = Path(os.path.relpath(there, page.parent)).as_posix() if there.is_file() else ""
    write_output(page, render_image(finding, address).encode("utf-8"))
    data = json.dumps(finite(finding_data(finding)), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    write_output(page.with_suffix(".json"), data.encode("utf-8"))
    write_output(page.with_suffix(".csv"), effects_csv(feature_rows(finding.features)).encode("utf-8"))
    return page


def cost(planned: PlannedImages) -> str:
    """What explaining pictures will cost, as a sentence."""
    each = f"{count(planned.features, 'feature')}, {count(planned.controls, 'control prompt')} and the null edit"
    text = (
        f"{count(planned.images, 'image')}, each edited towards {each}: {planned.edits_missing:,} edits to make "
        f"({planned.edits_reused:,} are there), at most {planned.edits_most:,} more in search of what flips it, "
        f"{planned.scores_missing:,} pictures to score"
    )
    if planned.seconds is None or not planned.edits_missing + planned.edits_most:
        return text
    low, high = planned.seconds
    return f"{text}; {low:,.0f} to {high:,.0f} seconds at the pace of earlier edits"


def show(found: Sequence[tuple[ImageFinding, Path]], output: TableFormat, open_it: bool) -> None:
    """Print what was found of each picture, and where its page is."""
    if output is TableFormat.json:
        print_exact(json.dumps(finite([finding_data(each) for each, _ in found]), indent=2, ensure_ascii=False))
    elif output is TableFormat.csv:
        print_rows([{"image": each.file} | row for each, _ in found for row in feature_rows(each.features)], output)
    else:
        for finding, page in found:
            _show(finding)
            terminal().print(f"page: {page}", highlight=False, markup=False, soft_wrap=True)
    if open_it:
        for _, page in found:
            webbrowser.open(page.as_uri())


def _show(f: ImageFinding) -> None:
    digits, console = digits_for(x.effect for x in f.features), terminal()
    taken = f", {f.decision}" if f.decision else ""
    console.print(Text(f"{plain(f.file, 80)}: {curly(f.target)} {number(f.score_null, digits)}{taken}", "bold"))
    for warning in f.warnings:
        console.print(Text.assemble(("look at this first: ", "yellow"), plain(warning)), highlight=False)
    console.print(flip_in_words(f), highlight=False, markup=False, soft_wrap=True)
    table = Table(header_style="bold")
    for heading in ("#", "feature", "this image", "not ruled out", "verdict", "before → after", "over the study"):
        table.add_column(heading, justify="left" if heading in ("feature", "verdict") else "right")
    for x in f.features[:SHOWN]:
        table.add_row(
            str(x.rank), Text(titled(x, 40)), signed(x.effect, digits),
            f"{signed(x.low, digits)} to {signed(x.high, digits)}", f"{x.verdict}{' *' if _marked(x) else ''}",
            f"{number(x.score_null, digits)} → {number(x.score_edit, digits)}{' flips' if x.flips else ''}",
            "–" if x.study_effect is None else with_mark(signed(x.study_effect, digits), x.study_mark),
        )  # fmt: skip
    console.print(table)
    if f.no_study:
        console.print(f.no_study, highlight=False, markup=False)
    if any(_marked(x) for x in f.features[:SHOWN]):
        console.print(f"* {REDRAWS}: they do not say how much of it is the attribute", highlight=False)
    if f.expected == f.expected:
        console.print(
            f"if no edit changed more than those towards meaningless words, {f.expected:.1f} features would stand "
            f"out by chance; "
            f"{f.edits_made} edits made, {f.edits_reused} reused",
            highlight=False,
        )


def _marked(x: ImageFeature) -> bool:
    return x.redraws and x.verdict in CLAIMS
