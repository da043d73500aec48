"""Assets of one classifier version: how it scores level 1, and the whole search."""

import dagster as dg

from diffex_dagster.assets import kept
from diffex_dagster.assets.common import Names, announce, clear_errors, edit_metadata, judge_metadata, table_metadata
from diffex_dagster.assets.lineage import Reading, upstream
from diffex_dagster.report.markdown_tables import markdown_text
from diffex_dagster.resources import ClassifierResource, EditorResource, Resources, ResultsResource
from diffex_dagster.search.levels import GateOutcome
from diffex_dagster.search.racing import Race
from diffex_dagster.stages.plan import plan_of
from diffex_dagster.stages.search import level1_scores, run_search
from diffex_dagster.stages.versions import level1_version, search_version
from diffex_dagster.study import Study


def build(study: Study, name: str) -> list[dg.AssetsDefinition]:
    """`<study>/<classifier>/level1_scores` and `.../level2_scores`."""
    names = Names(study.for_classifier(name))

    @dg.asset(
        key=names.key(name, "level1_scores"),
        deps=upstream(study, "level1_scores", [name]),
        kinds={"pytorch", "duckdb"},
        check_specs=[
            dg.AssetCheckSpec(
                "noise_floor",
                asset=names.key(name, "level1_scores"),
                description="Some group moves the score further than words that mean nothing do.",
            )
        ],
        pool="gpu",  # the judge of edits may be the editor's model
        **names.options("level1_scores", group=name),
    )
    def level1_scores_asset(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """What the classifier says of every level-1 edit, and which groups enter the beam.

        One row of `scores` is the classifier's outputs on one picture; one row of `gates` is one group.
        """
        with (
            clear_errors(),
            Resources(diffex_results, diffex_editor, diffex_classifiers).working(study, log=context.log.info) as work,
        ):
            subject = work.subject(name)
            reading = Reading(context, subject, "level1_scores", [name])
            level1 = level1_scores(subject)
            return reading.result(
                level1_version(level1, subject.editor.fingerprint, subject.classifier.fingerprint),
                metadata={
                    "pictures_scored": level1.scored,
                    "noise_floor": level1.noise.floor,
                    "groups_kept": sum(outcome.kept for outcome in level1.gate),
                    **judge_metadata(subject),
                    "gate": _gate_table(level1.gate),
                    **table_metadata(subject.store, "gates", len(level1.gate)),
                },
                checks=[
                    kept.checked(
                        not level1.warning,
                        level1.warning or "the noise floor is no higher than the margin, or a group is above it",
                        {
                            "noise_floor": level1.noise.floor,
                            "strongest_group": max((each.magnitude or 0.0 for each in level1.gate), default=0.0),
                            "groups_kept": sum(each.kept for each in level1.gate),
                        },
                        of=("noise_floor", names.key(name, "level1_scores")),
                    )
                ],
            )

    @dg.asset(
        key=names.key(name, "level2_scores"),
        deps=upstream(study, "level2_scores", [name]),
        kinds={"diffusers", "pytorch", "duckdb"},
        pool="gpu",
        **names.options("level2_scores", group=name),
    )
    def level2_scores_asset(
        context: dg.AssetExecutionContext,
        diffex_results: ResultsResource,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
    ) -> dg.MaterializeResult:
        """The children of the groups in the beam, edited and scored level by level, and the best joint combination.

        One row of `scores` is the classifier's outputs on one picture. Only edits that do not exist yet are made,
        whichever classifier asked for them first.
        """
        with (
            clear_errors(),
            Resources(diffex_results, diffex_editor, diffex_classifiers).working(study, log=context.log.info) as work,
        ):
            subject = work.subject(name)
            reading = Reading(context, subject, "level2_scores", [name])
            announce(context, plan_of(subject, f"{name}/level2_scores", [name]))
            searched = run_search(subject)
            store, corpus = subject.store, subject.corpus
            editor, classifier = subject.editor.fingerprint, subject.classifier.fingerprint
            scored = store.count("scores", classifier=classifier)
            result = searched.result
            return reading.result(
                search_version(searched, corpus, editor, classifier),
                metadata={
                    **edit_metadata(searched.edits),
                    **judge_metadata(subject),
                    "pictures_scored": searched.scored,
                    "features_scored": len(result.scores),
                    "groups_expanded": list(result.expanded),
                    "joint_combination": [f.name for f in result.joint.features] if result.joint else [],
                    **_race_metadata(result.race),
                    **table_metadata(store, "scores", scored),
                },
            )

    return [level1_scores_asset, level2_scores_asset]


def _race_metadata(race: Race | None) -> dict[str, int | str]:
    if race is None:
        return {}
    return {"edits_without_racing": race.exhaustive, "edits_with_racing": race.spent, "racing": race.describe()}


def _gate_table(outcomes: list[GateOutcome]) -> dg.MarkdownMetadataValue:
    lines = ["| group | searched | why |", "|---|---|---|"]
    for outcome in outcomes:
        kept = "yes" if outcome.kept else "no"
        lines.append(f"| {markdown_text(outcome.feature)} | {kept} | {markdown_text(outcome.reason)} |")
    return dg.MetadataValue.md("\n".join(lines))
