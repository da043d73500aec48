"""Assets: the ranked report of one classifier version, and the comparison of all of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from diffex_dagster.assets import kept
from diffex_dagster.assets.common import Names, clear_errors, feature_table, page_metadata, table_metadata
from diffex_dagster.assets.lineage import Reading, upstream
from diffex_dagster.report.files import write_comparison
from diffex_dagster.report.markdown import comparison_markdown, report_markdown
from diffex_dagster.report.markdown_tables import markdown_text
from diffex_dagster.report.rows import comparison_rows, rows
from diffex_dagster.report.verdict import comparison_verdict, verdict
from diffex_dagster.report.wording import CHANGED, SHOWN, confounder, plain
from diffex_dagster.resources import ClassifierResource, EditorResource, Resources, ResultsResource
from diffex_dagster.results import ComparedFeature, Comparison, RankedFeature, Report
from diffex_dagster.stages.comparison import compare_classifiers
from diffex_dagster.stages.report import ranked_report
from diffex_dagster.stages.rules import Reliance, RuleOutcome, judge_rules, rules_for
from diffex_dagster.stages.setup import link_pages, reports_folder
from diffex_dagster.stages.versions import comparison_version, report_version
from diffex_dagster.study import RulePart, Study
from diffex_dagster.utils.columns import columns, finite


def build_report(study: Study, name: str) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """`<study>/<classifier>/ranked_report`, with the check of the study's rules for this classifier."""
    names = Names(study.for_classifier(name))
    key, rules = names.key(name, "ranked_report"), rules_for(study, name)

    @dg.asset(
        key=key,
        deps=upstream(study, "ranked_report", [name]),
        kinds={"html", "duckdb"},
        pool="gpu",  # the classifier scores the originals, and looks at the strongest edits
        check_specs=_rule_checks(key, rules),
        **names.options("ranked_report", group=name),
    )
    def ranked_report_asset(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """The features by the size of their effect, each with its interval, decision and pictures.

        Read it under *Metadata*, at `report`; `page` is the whole of it. One row of `rankings` is one line of the list;
        one row of `effects` is one feature on one image.
        """
        with clear_errors(), Resources(diffex_results, diffex_editor, diffex_classifiers).working(study) as work:
            subject = work.subject(name)
            reading, current = Reading(context, subject, "ranked_report", [name]), subject.study
            folder = reports_folder(current, name)
            explanation, _ = ranked_report(subject, context.run.run_id, folder, command(current, name))
            reliance = {row.feature: Reliance(row.magnitude, row.images, row.decision) for row in explanation.features}
            judged = judge_rules(current, subject.corpus, name, reliance, explanation.images == 1)
            return reading.result(
                report_version(explanation),
                metadata={
                    "verdict": dg.MetadataValue.md("\n\n".join(map(markdown_text, verdict(explanation)))),
                    "report": dg.MetadataValue.md(report_markdown(explanation)),
                    "page": page_metadata(current, folder / "index.html"),
                    "ranking": _ranking_table(explanation.features[:_ROWS]),
                    **_ranking_numbers(explanation),
                    **table_metadata(subject.store, "rankings", len(explanation.features)),
                },
                checks=_rule_results(key, judged),
            )

    return [ranked_report_asset]


def build_comparison(study: Study) -> dg.AssetsDefinition:
    """`<study>/classifier_comparison` and its rules, where the study has more than one classifier with its target."""
    names = Names(study)
    key = names.key("classifier_comparison")

    @dg.asset(
        key=key,
        deps=upstream(study, "classifier_comparison", study.comparable),
        kinds={"html"},
        pool="gpu",  # a version scores the edits that only another's search reached
        check_specs=_rule_checks(key, study.rules),
        **names.options("classifier_comparison"),
    )
    def classifier_comparison(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """How the classifier versions differ: the effect of every feature in each, on the same images and edits.

        Read it under *Metadata*, at `report`; `page` is the whole of it. One row of the table is one feature: its
        effect under every version, and the paired difference between the last and the first.
        """
        with clear_errors(), Resources(diffex_results, diffex_editor, diffex_classifiers).working(study) as work:
            current, names = work.study, work.study.comparable
            reading = Reading(context, work, "classifier_comparison", names)
            comparison = compare_classifiers(work, names, command(current, None))
            folder = reports_folder(current, "comparison")
            write_comparison(comparison, folder, keep_same=True)
            link_pages(current)
            fingerprints = [work.subject(name).classifier.fingerprint for name in names]
            return reading.result(
                comparison_version(comparison, work.editor.fingerprint, fingerprints),
                metadata={
                    "verdict": dg.MetadataValue.md("\n\n".join(map(markdown_text, comparison_verdict(comparison)))),
                    "report": dg.MetadataValue.md(comparison_markdown(comparison)),
                    "page": page_metadata(current, folder / "index.html"),
                    "features": _table(ComparedFeature, comparison_rows(comparison)),
                    **_comparison_numbers(comparison),
                },
                checks=_rule_results(key, comparison.rules),
            )

    return classifier_comparison


def _rule_checks(key: dg.AssetKey, rules: Sequence[RulePart]) -> list[dg.AssetCheckSpec]:
    limits = "; ".join(f"{markdown_text(rule.feature)} below {rule.below:g}" for rule in rules)
    description = f"Reliance (mean |effect|) stays within the study's rules: {limits}."
    return [dg.AssetCheckSpec("reliance_rules", asset=key, description=description)] if rules else []


def _rule_results(key: dg.AssetKey, outcomes: Sequence[RuleOutcome]) -> list[dg.AssetCheckResult]:
    """One result for all rules of an asset; it only warns where no broken rule is one that has to hold."""
    if not outcomes:
        return []
    broken = [outcome for outcome in outcomes if not outcome.holds]
    failed = any(outcome.severity == "fail" for outcome in broken)
    return [
        kept.checked(
            not broken,
            "broken: " + "; ".join(o.text for o in broken) if broken else "every rule holds",
            {
                "rules": len(outcomes),
                "broken": len(broken),
                **{f"{o.classifier}: {o.feature}": o.measured for o in outcomes if o.measured is not None},
                "all": [outcome.text for outcome in outcomes],
            },
            of=("reliance_rules", key),
            blocks=failed,
        )
    ]


_ROWS = 50  # features in a table of metadata


def _ranking_table(features: Sequence[RankedFeature]) -> dg.TableMetadataValue:
    """The first features of a ranking as a table of metadata, each decision with its mark beside it."""
    told = [row | {"mark": confounder(f)} for row, f in zip(rows(features), features, strict=True)]
    return _table(RankedFeature, told, {"mark": "string"})


def _table(
    row: type, features: Sequence[Mapping[str, Any]], more: Mapping[str, str] | None = None
) -> dg.TableMetadataValue:
    """The first features as a table of metadata, with the columns that their definition lists, and `more`."""
    return feature_table(_clean(features[:_ROWS]), {**columns(row, listed=True), **(more or {})})


def _clean(features: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what could deceive a reader (line breaks, text that runs from right to left), and without NaN."""

    def clean(value: Any) -> Any:
        value = plain(value, 60) if isinstance(value, str) else finite(value)
        return round(value, 4) if isinstance(value, float) else value

    return [{name: clean(value) for name, value in row.items()} for row in features]


def _ranking_numbers(explanation: Report) -> Mapping[str, Any]:
    """Numbers of a report that are worth a line over its materializations."""
    features = explanation.features
    decisions = [row.decision for row in features]
    return {
        "top_effect": abs(features[0].effect) if features else 0.0,
        "top_flip_rate": features[0].flip_rate if features else 0.0,
        "joint_effect": abs(explanation.joint.effect) if explanation.joint else 0.0,
        "noise_floor": explanation.noise_floor,
        "effects_shown": sum(decision in SHOWN for decision in decisions),
        "effects_inconclusive": decisions.count("inconclusive"),
        "edits_failed": decisions.count("edit failed"),
    }


def _comparison_numbers(comparison: Comparison) -> Mapping[str, Any]:
    decisions = [row.decision for row in comparison.features]
    return {
        "largest_difference": max((abs(row.difference) for row in comparison.features), default=0.0),
        "features_changed": sum(decision in CHANGED for decision in decisions),
        "features_more_reliant": decisions.count("more reliant"),
        "features_less_reliant": decisions.count("less reliant"),
        "rules_broken": sum(not rule.holds for rule in comparison.rules),
    }


def command(study: Study, classifier: str | None) -> str:
    """The command that makes a report again."""
    parts = ["diffex run", study.folder.name]  # by which the command line finds it
    if study.editor_name != next(iter(study.editors)):
        parts.append(f"--editor {study.editor_name}")
    if classifier:
        parts.append(f"--classifier {classifier}")
    return " ".join(parts)
