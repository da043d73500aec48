"""What the command line prints: tables from the database, paths, and how the estimates compare with known truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from diffex_dagster.assets.running import Outcome, report_paths
from diffex_dagster.cli.console import terminal
from diffex_dagster.effects.grading import Grade, grade
from diffex_dagster.errors import DiffExError
from diffex_dagster.report.tables import rich_table
from diffex_dagster.results import Comparison, RankedFeature
from diffex_dagster.stages.comparison import compare_classifiers
from diffex_dagster.stages.context import StudyContext, at_work
from diffex_dagster.stages.known_truth import true_effects
from diffex_dagster.stages.setup import build_store
from diffex_dagster.study import Study


def to_read(study: Study) -> StudyContext:
    """The study at work for a command that only looks: its results are opened to read."""
    return at_work(study, store=build_store(study, reading=True))


def latest_ranking(study: Study, classifier: str, work: StudyContext | None = None) -> list[RankedFeature]:
    """The latest ranked list of a classifier under the study's editor.

    Args:
        work: of the study, where there is one already.

    Raises:
        DiffExError: there is none yet.
    """
    work = work or to_read(study)
    ranking = work.store.latest_ranking(study.kept_as, classifier, work.editor.fingerprint)
    if not ranking:
        raise DiffExError(f"{study.name}: {classifier} has no report yet; run `diffex run {study.folder.name}` first")
    return ranking


def compare_latest(study: Study, versions: Sequence[str] = ()) -> Comparison:
    """Compare classifiers of the study on the edits that exist: `versions`, the oldest first, or all that can be.

    Raises:
        DiffExError: there are not two of them with the study's target, or one has no report yet.
    """
    names = list(dict.fromkeys(versions or study.comparable))
    if len(names) < 2 or not set(names) <= set(study.comparable):
        raise DiffExError(
            f"{study.file}: classifiers: a comparison needs two with the same target; the study has "
            f"{', '.join(study.comparable) or 'none'}"
        )
    work = to_read(study)
    for name in names:
        latest_ranking(study, name, work)  # says which run is missing
    command = " ".join(["diffex compare", study.folder.name, *versions])
    return compare_classifiers(work, names, command)


def print_outcome(study: Study, outcome: Outcome, seconds: float) -> None:
    """The ranked list of every classifier, what it cost, how it grades, and where the pages are."""
    console, work = terminal(), to_read(study)
    for name in outcome.classifiers:
        ranking = latest_ranking(study, name, work)
        console.print(rich_table(ranking, limit=15, title=f"{study.prefix}: {name}"))
        for sentence in _look_first(report_paths(study, [name]).get(name)):
            console.print(f"[yellow]look at this first:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
        if study.truth:
            console.print(_grade_line(graded(study, name, ranking)), highlight=False)
    console.print(
        f"{outcome.total('edits_made')} edits made, {outcome.total('pictures_scored')} pictures scored, "
        f"{seconds:.0f} s",
        highlight=False,
    )
    console.print(f"results: {escape(str(study.results_folder))}", highlight=False, soft_wrap=True)
    for what, page in report_paths(study, outcome.classifiers).items():
        console.print(f"report ({escape(what)}): {escape(str(page))}", highlight=False, soft_wrap=True)


def _look_first(page: Path | None) -> list[str]:
    """What stands above the verdict of a report: what to mend, and what looks wrong."""
    if page is None:
        return []
    data = json.loads(page.with_name("report.json").read_text("utf-8"))
    return [*data.get("warnings", ()), *data.get("hints", ())]  # an early report has neither


def graded(study: Study, classifier: str, ranking: Sequence[RankedFeature]) -> Grade:
    """Grade a ranked list against the known truth of the study's world."""
    prompts = {row.feature: (row.prompt, row.direction) for row in ranking}
    true = true_effects(StudyContext(study).subject(classifier), list(prompts.values()))
    return grade(
        {row.feature: row.effect if row.effect_all is None else row.effect_all for row in ranking},  # as the truth is
        {feature: true[prompt] for feature, prompt in prompts.items()},
        {row.feature: (row.ci_low, row.ci_high) for row in ranking},
        {row.feature: row.decision for row in ranking},
    )


def _grade_line(result: Grade) -> str:
    return (
        f"against the truth: Spearman ρ {result.spearman:.2f} over {result.features} features, "
        f"{result.spearman_relevant:.2f} over the {result.relevant} with |true effect| > 0.02; "
        f"mean absolute error {result.effect_mae:.3f}"
    )
