"""What the command line prints: tables from the database, paths, and how the estimates compare with known truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from diffex_dagster.assets.running import Outcome, report_paths
from diffex_dagster.cli.console import terminal
from diffex_dagster.effects.grading import Grade, grade
from diffex_dagster.errors import DiffExError
from diffex_dagster.report.schema import report_from_json
from diffex_dagster.report.tables import rich_table
from diffex_dagster.report.wording import controls_in_words, digits_for, plain, unjudged
from diffex_dagster.results import Comparison, RankedFeature, Report
from diffex_dagster.stages.comparison import compare_classifiers
from diffex_dagster.stages.context import StudyContext, at_work
from diffex_dagster.stages.known_truth import Prompt, true_effects
from diffex_dagster.stages.setup import build_store
from diffex_dagster.study import Study
from diffex_dagster.worlds.exact import draws_exactly


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
        print_ranking(study, name, ranking, f"{study.prefix}: {name}", limit=15)
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


def print_ranking(
    study: Study, classifier: str, ranking: Sequence[RankedFeature], title: str, limit: int | None = None
) -> None:
    """A ranked list, and below it what the report of the classifier says first, a line each: see `print_warnings`."""
    console = terminal()
    console.print(rich_table(ranking, limit=limit, title=title, width=console.width))
    page = report_paths(study, [classifier]).get(classifier)
    report = _written(page) if page else None
    if report is None or [(f.feature, f.decision) for f in report.features] != [
        (row.feature, row.decision) for row in ranking
    ]:  # the page is of another run than the ranking
        return
    print_warnings([*report.warnings, *report.hints], report.caveats)
    digits = digits_for(row.effect for row in ranking)
    if controls := controls_in_words(report.controls, digits):
        console.print(controls, markup=False, highlight=False, soft_wrap=True)


def print_warnings(first: Sequence[str], caveats: Sequence[str]) -> None:
    """What stands at the top of a page, a line each: what to mend, what looks wrong, and that nobody judged."""
    for sentence in (*first, *unjudged(caveats)):
        terminal().print(f"[yellow]look at this first:[/] {escape(plain(sentence))}", highlight=False, soft_wrap=True)


def _written(page: Path) -> Report | None:
    """The report beside its page; None where it is gone, or of a later version."""
    try:
        return report_from_json(json.loads(page.with_name("report.json").read_text("utf-8")))
    except (OSError, ValueError):
        return None


@dataclass(frozen=True)
class Graded:
    """How a ranked list agrees with the known truth of the study's world.

    Attributes:
        reported: marks over the features that are reported.
        whole: marks over every editable feature of the corpus, with an effect of 0 where none is reported.
        exact: the edits are the drawings that the truth is of, so that marks over what is reported are identities.
        asked: the classifier was asked about what is not reported. One behind a service is not, and `whole` is over
            what is reported.
    """

    reported: Grade
    whole: Grade
    exact: bool
    asked: bool = True


def graded(study: Study, classifier: str, ranking: Sequence[RankedFeature]) -> Graded:
    """Grade a ranked list against the known truth of the study's world.

    A search with a beam reports a part of the corpus, which it chose by the effects: how it ranks that part says
    nothing of what it left out, and the reader of a report takes that for no effect.
    """
    subject = StudyContext(study).subject(classifier)
    asked = not subject.study.classifiers[classifier].service
    corpus = subject.corpus.walk() if asked else ()
    prompts: dict[str, Prompt] = {f.id: (f.prompt, f.direction) for f in corpus if f.editable}
    prompts |= {row.feature: (row.prompt, row.direction) for row in ranking}  # of a corpus that was edited since
    true = true_effects(subject, list(prompts.values()))
    truth = {feature: true[prompt] for feature, prompt in prompts.items()}
    found = {row.feature: row.effect if row.effect_all is None else row.effect_all for row in ranking}  # as the truth
    reported = grade(
        found,
        {feature: truth[feature] for feature in found},
        {row.feature: (row.ci_low, row.ci_high) for row in ranking},
        {row.feature: row.decision for row in ranking},
    )
    whole = grade(dict.fromkeys(truth, 0.0) | found, truth)
    return Graded(reported, whole, draws_exactly(study.editor_part), asked)


def _grade_line(result: Graded) -> str:
    reported, whole = result.reported, result.whole
    unreported = "0 where none is reported" if result.asked else "of a service, which is not asked about others"
    return (
        f"against the truth: Spearman ρ {whole.spearman:.2f} over {'all ' * result.asked}{whole.features} features "
        f"({unreported}), {reported.spearman_relevant:.2f} over the {reported.relevant} reported ones with "
        f"|true effect| > 0.02; mean absolute error {reported.effect_mae:.3f} over {reported.features} reported ones"
        + (" (exact edits: a plumbing check)" if result.exact else "")
    )
