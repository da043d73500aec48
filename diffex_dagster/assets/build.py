"""From a study to its asset graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from diffex_dagster.assets import (
    calibration,
    corpus,
    edits,
    images,
    kept,
    lineage,
    report,
    scores,
    source_prompts,
    suggestions,
)
from diffex_dagster.assets.automation import automation_sensor
from diffex_dagster.assets.common import quiet, with_code
from diffex_dagster.errors import DiffExError
from diffex_dagster.resources import (
    RESOURCES,
    ClassifierResource,
    EditorResource,
    Place,
    Resources,
    ResultsResource,
    placed,
)
from diffex_dagster.resources.ownership import end_dead_runs
from diffex_dagster.resources.queue import run_tags
from diffex_dagster.stages.sources import Sources
from diffex_dagster.study import Study, load_study
from diffex_dagster.utils.secrets import none_raised


@quiet()
def build_study(
    study: Study, classifiers: Sequence[str] | None = None, resources: Mapping[str, Place] | None = None
) -> dg.Definitions:
    """One small asset graph for a study: assets, checks, a job and a sensor, keys prefixed by its name.

    Not partitions: a partitioned asset never shows as unsynced, and "re-run only what changed" would be invisible.
    With prefixes two classifier versions stand side by side in the lineage, on shared images, corpus and edits.

    Args:
        study: as `load_study` reads it.
        classifiers: build only these; all of the study's when left out.
        resources: where it is worked on, by key: `{"diffex_editor": EditorResource(device="cuda")}`. Those that are
            left out are as the environment says; an empty mapping brings none, for definitions that have their own.

    Raises:
        StudyError: the study has no such classifier.
    """
    chosen = list(study.classifiers if classifiers is None else classifiers)
    for name in chosen:
        study.for_classifier(name)
    tags = run_tags(study, getattr((resources or {}).get("diffex_results"), "space", None))
    everything: list[Any] = [
        *lineage.build_sources(study, chosen, tags), images.build(study), *corpus.build(study, chosen),
        *(source_prompts.build(study) if study.finds_source_prompts else ()),
        *(calibration.build(study) if study.calibrates else ()), *edits.build(study)
    ]  # fmt: skip
    for name in chosen:
        everything += [*scores.build(study, name), *report.build_report(study, name)]
    if len(study.comparable) > 1 and set(study.comparable) <= set(chosen):
        everything.append(report.build_comparison(study))
    checks = [each for each in everything if isinstance(each, dg.AssetChecksDefinition)]
    assets = with_code(study, [each for each in everything if not isinstance(each, dg.AssetChecksDefinition)], tags)
    stages = [each for each in assets if isinstance(each, dg.AssetsDefinition)]
    job = dg.define_asset_job(
        f"{study.prefix}_explain",
        dg.AssetSelection.assets(*stages),
        description=f"Every stage of the study {study.prefix}.",
        tags=tags,
        executor_def=dg.in_process_executor,  # the model is loaded once for a run, in whatever project
    )
    by_hand = with_code(study, suggestions.build(study, chosen), tags)  # in no job: a run of a study asks for none
    return dg.Definitions(
        assets=[*assets, *by_hand],
        asset_checks=checks,
        jobs=[job],
        sensors=[_watch(study, chosen), automation_sensor(study, stages, tags), free_places],
        resources=RESOURCES if resources is None else {**RESOURCES, **resources} if resources else {},
    )


@dg.sensor(
    name="diffex_free_places",
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends runs whose process has died (out of memory, a lost machine), and gives back the places that they "
    "hold in pools such as `gpu`, so that the runs behind them go on. Works on nothing, and requests nothing.",
)
def free_places(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Once for all studies of a code location."""
    with none_raised():
        ended = end_dead_runs(context.instance)
    return kept.skipped(f"ended: {', '.join(ended)}" if ended else "no run has died")


def _settings(study: Study) -> dict[str, Any]:
    """What a study file says; which of its editors is in use is not in the file alone."""
    return study.model_dump(exclude={"editor"})


def _watch(study: Study, classifiers: list[str]) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{study.prefix}_watch",
        minimum_interval_seconds=15,
        description="Observes the study's sources without a run: image files, the corpus file, what a proposal is made "
        "from, editor, classifiers, and the results database. Together with the automation sensor, the stages that a "
        "change touches are then requested. Says when the study file has changed.",
    )
    def watch(
        context: dg.SensorEvaluationContext,
        diffex_editor: EditorResource,
        diffex_classifiers: ClassifierResource,
        diffex_results: ResultsResource,
    ) -> dg.SensorResult | dg.SkipReason:
        with none_raised():
            current = placed(study, diffex_editor, diffex_classifiers, diffex_results)
            work = Resources(diffex_results, diffex_editor, diffex_classifiers).at_work(current).to_read()
            known = Sources(work, tuple(classifiers))
            before: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
            seen = {name.partition("/")[2]: version for name, version in before.items()}
            observations, problems = lineage.observe(current, classifiers, known, seen)
            problems += _changed_since(study)
        versions = {o.asset_key.to_user_string(): str(o.data_version) for o in observations}
        changed = [o for o in observations if before.get(o.asset_key.to_user_string()) != o.data_version]
        if not changed:
            return kept.skipped("; ".join(problems) or "nothing changed")
        for problem in problems:
            kept.warn(context, problem)
        return kept.noticed(changed, before | versions)

    return watch


def _changed_since(study: Study) -> list[str]:
    """Why a study file is no longer what the code location has loaded, in a sentence; nothing where it is."""
    try:
        if _settings(load_study(study.file)) != _settings(study):
            return [f"{study.file} has changed: reload the code location to see its new stages and versions"]
    except DiffExError as error:
        return [str(error)]
    return []
