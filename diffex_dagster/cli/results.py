"""`diffex plan`, `report`, `show`, `compare` and `survey make|results`: what would happen, and what was found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from diffex_dagster.assets.common import GPU_MEMORY
from diffex_dagster.assets.staleness import Known, staleness
from diffex_dagster.assets.status import FRESH
from diffex_dagster.cli.console import TableFormat, note, terminal
from diffex_dagster.cli.showing import compare_latest, latest_ranking, print_ranking, print_warnings, to_read
from diffex_dagster.errors import DiffExError
from diffex_dagster.report.files import effects_csv
from diffex_dagster.report.rows import COLUMNS, comparison_flat_rows, editor_rows, flat_rows, rows
from diffex_dagster.report.tables import comparison_rich_table, editors_rich_table
from diffex_dagster.report.verdict import agreement_sentences
from diffex_dagster.report.wording import number, plain, share
from diffex_dagster.stages.agreement import editors_page
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.corpus_now import corpus_now
from diffex_dagster.stages.plan import NotThere, PlannedStage, plan_edits
from diffex_dagster.stages.sample_images import read_samples
from diffex_dagster.stages.setup import build_classifier, build_editor, build_store, reports_folder
from diffex_dagster.study import Study
from diffex_dagster.utils.columns import finite
from diffex_dagster.utils.output import print_exact


def show(study: Study, classifier: str, output: TableFormat) -> None:
    """Print the ranked list of a classifier's latest report; a table has what that says first, and control prompts."""
    work = to_read(study)
    ranking = latest_ranking(study, classifier, work)
    if work.store.less_control_edits(study.kept_as, classifier, work.editor.fingerprint):
        note(
            f"{classifier}: this report is of an earlier version, whose effects are less those of the control prompts; "
            f"`diffex run {study.folder.name}` writes one against the null edits from the edits that are there"
        )
    if output is TableFormat.table:
        print_ranking(study, classifier, ranking, f"{study.name}: {classifier}")
    else:
        print_rows((rows if output is TableFormat.json else flat_rows)(ranking), output, COLUMNS)


def compare(study: Study, versions: Sequence[str], output: TableFormat) -> None:
    """Print how classifier versions differ on the edits that exist, and the rules of the study."""
    comparison = compare_latest(study, versions)
    if output is not TableFormat.table:
        return print_rows(comparison_flat_rows(comparison), output)
    console = terminal()
    console.print(comparison_rich_table(comparison, limit=25))
    print_warnings(comparison.warnings, comparison.caveats)
    for rule in comparison.rules:
        mark, colour = ("✓ holds", "green") if rule.holds else ("✕ broken", "red")
        console.print(Text(f"{mark}  {plain(rule.text)}", colour))
    return None


def compare_editors(study: Study, classifiers: Sequence[str], editors: Sequence[str], output: TableFormat) -> None:
    """Print what of each classifier's reports holds under both editors, write the page, and print where it is."""
    work = to_read(study)
    found = {}
    for name in classifiers:
        command = f"diffex compare {study.folder.name} {name} --editors {','.join(editors)}"
        found[name] = editors_page(work, name, editors, command)
    if output is not TableFormat.table:
        rows = [{"classifier": name} | row for name, (each, _) in found.items() for row in editor_rows(each)]
        return print_rows(rows, output)
    console = terminal()
    for name, (each, folder) in found.items():
        console.print(Text(f"{study.name}: {plain(name)}", "bold"))
        console.print(editors_rich_table(each, limit=25))
        for sentence in agreement_sentences(each):
            console.print(sentence, highlight=False, markup=False)
        console.print(f"page: {folder / 'index.html'}", highlight=False, markup=False, soft_wrap=True)
    return None


def report(study: Study, classifier: str | None, open_it: bool) -> None:
    """Print where a report is (the comparison's, where no classifier is named), and open it in the browser.

    Raises:
        DiffExError: it has not been made yet.
    """
    what = classifier or ("comparison" if len(study.comparable) > 1 else next(iter(study.classifiers)))
    page = reports_folder(study, what) / "index.html"
    if not page.exists():
        raise DiffExError(f"{study.name}: {what} has no report yet; run `diffex run {study.folder.name}` first")
    print(page)
    if open_it:
        import webbrowser

        if not webbrowser.open(page.as_uri()):
            raise DiffExError(f"{page}: no browser was found to open it; open the file yourself")


def plan(study: Study, classifiers: Sequence[str], output: TableFormat) -> None:
    """Print what a materialization would do now, and why. Nothing is edited, scored or asked of a model."""
    notes: list[str] = []
    store = build_store(study, reading=True)
    editor = _there(partial(build_editor, study), "every edit counts as missing", notes)
    models = {
        name: _there(partial(build_classifier, study, name), f"every score of {name} counts as missing", notes)
        for name in classifiers
    }
    states = {} if notes else staleness(study, classifiers)
    work = at_work(study, store=store, editor=editor, classifiers=models)
    read = read_samples(study, lambda name: work.subject(name).classifier)
    samples: dict[str, str] = {}
    for name in read.pictures:
        samples.setdefault(read.image_keys[name], name)
    corpus = corpus_now(study)
    planned = {s.stage: s for s in plan_edits(work, classifiers, corpus, samples)}
    stages = list(states) or list(planned)
    table = [_plan_row(name, states.get(name, Known()), planned.get(name)) for name in stages]
    if output is not TableFormat.table:
        return print_rows(table, output)
    _print_plan(table)
    for remark in notes:
        terminal().print(remark, highlight=False, markup=False, soft_wrap=True)
    return None


def _there(build: Callable[[], Any], otherwise: str, notes: list[str]) -> Any:
    """An editor or a classifier as it is; `NotThere`, with a note, where what it needs is not on this machine."""
    try:
        built = build()
        built.fingerprint  # noqa: B018 (reads the weights' files)
    except DiffExError as error:
        notes.append(f"{otherwise}: {error}")
        return NotThere()
    return built


def _plan_row(name: str, known: Known, work: PlannedStage | None) -> dict[str, Any]:
    counts = {field: getattr(work, field) if work else 0 for field in
              ("edits_missing", "edits_reused", "scores_missing", "scores_reused")}  # fmt: skip
    seconds = round(work.seconds, 1) if work and work.seconds is not None else None
    note = work.note if work and known.why != FRESH else ""  # what is up to date does nothing more
    return {"stage": name, "why": known.why, **counts, "edit_seconds": seconds, GPU_MEMORY: known.gpu_gb, "note": note}


def _print_plan(table: Sequence[dict[str, Any]]) -> None:
    shown = Table(header_style="bold")
    gpu = any(row[GPU_MEMORY] is not None for row in table)  # nothing to say on a CPU
    headings = (
        "stage",
        "now",
        "edits to make",
        "reused",
        "to score",
        "reused",
        "seconds",
        *(("GPU GB",) if gpu else ()),
    )
    for heading in headings:
        shown.add_column(heading, justify="left" if heading in ("stage", "now") else "right")
    for row in table:
        counts = [str(row[field] or "") for field in
                  ("edits_missing", "edits_reused", "scores_missing", "scores_reused")]  # fmt: skip
        seconds = "?" if row["edits_missing"] and row["edit_seconds"] is None else f"{row['edit_seconds'] or 0:.0f}"
        why = Text(plain(row["why"], 120), "dim" if row["why"] == FRESH else "")
        memory = (
            [f"{row[GPU_MEMORY]:.1f}" if row[GPU_MEMORY] is not None and row["edits_missing"] else ""] if gpu else []
        )
        shown.add_row(row["stage"], why, *counts, seconds if row["edits_missing"] else "", *memory)
    console = terminal()
    console.print(shown)
    for row in table:
        if row["note"]:
            console.print(f"{row['stage']}: {row['note']}", highlight=False, markup=False)


def survey(study: Study, classifier: str, questions: int) -> None:
    """Write a survey about a classifier's features beside its report, and print where it is."""
    from diffex_dagster.report.survey import render_survey
    from diffex_dagster.stages.report import classifier_report
    from diffex_dagster.utils.files import write_output

    work = to_read(study)
    latest_ranking(study, classifier, work)  # says which run is missing
    command = f"diffex survey make {study.folder.name} {classifier}"
    explanation, _ = classifier_report(work.subject(classifier), command)
    page = reports_folder(study, classifier) / "survey.html"
    write_output(page, render_survey(explanation, questions, study.seed).encode("utf-8"))
    print(page)


def survey_results(files: Sequence[Path], output: TableFormat) -> None:
    """Print what the participants of a survey answered: accuracy and ratings, with intervals."""
    from diffex_dagster.report.survey import read_answers
    from diffex_dagster.report.survey import survey_results as results

    found = results(read_answers(files))
    if output is not TableFormat.table:
        return print_rows([vars(row) for row in found.rows], output)
    shown = Table("feature", "answers", "named it", "edit quality (1–5)", "disentanglement (1–5)", header_style="bold")
    for row in found.rows:
        shown.add_row(
            Text(plain(row.feature, 60)),
            str(row.answers),
            f"{share(row.identified)} [{share(row.identified_low)}, {share(row.identified_high)}]",
            *(
                f"{number(mean)} [{number(low)}, {number(high)}]"
                for mean, low, high in (
                    (row.quality, row.quality_low, row.quality_high),
                    (row.disentanglement, row.disentanglement_low, row.disentanglement_high),
                )
            ),
        )
    console = terminal()
    console.print(shown)
    console.print(
        f"{found.participants} participants; {found.excluded} more failed an attention check", highlight=False
    )
    return None


def print_rows(table: Sequence[dict[str, Any]], output: TableFormat, columns: Sequence[str] | None = None) -> None:
    if output is TableFormat.json:
        print_exact(json.dumps(finite(list(table)), indent=2, ensure_ascii=False))
    else:
        print_exact(effects_csv(table, columns), end="")
