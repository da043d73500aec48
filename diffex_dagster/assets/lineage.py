"""Lineage of a study: its sources as observed assets, what each stage depends on, and what it has read.

Every stage depends directly on everything it reads, so that whatever changes, all that it touches is unsynced at once
and runs once, in the order of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from diffex_dagster.assets import kept
from diffex_dagster.assets.common import Names, clear_errors, links
from diffex_dagster.assets.status import made_from, observation, observed
from diffex_dagster.classifying.python_adapter import PythonPart
from diffex_dagster.errors import DiffExError
from diffex_dagster.resources import ClassifierResource, EditorResource, Resources, ResultsResource
from diffex_dagster.stages.calibration import calibration_version
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus import tree_version
from diffex_dagster.stages.sample_images import samples_version
from diffex_dagster.stages.settings import Stage, stage_version
from diffex_dagster.stages.setup import judges_beside_the_editor
from diffex_dagster.stages.source_prompts import source_prompts_version
from diffex_dagster.stages.sources import JUDGES, SHARED, Sources
from diffex_dagster.study import Study

_EDITS = ("editor", "results")
_CALIBRATION = ("editor", "judge", "results")
_SCORES = ("editor", "judge", "classifier", "results")
_SEARCH = ("editor", "judge", "second_judge", "classifier", "results")
READS: Mapping[Stage, tuple[str, ...]] = {
    "sample_images": ("image_files", "results"),
    "vlm_corpus": ("proposal_inputs", "results"),
    "corpus": ("corpus_overrides", "results"),
    "source_prompts": _CALIBRATION,
    "editor_calibration": _CALIBRATION,
    "level1_edits": _EDITS,
    "level1_scores": _SCORES,
    "level2_scores": _SEARCH,
    "ranked_report": _SEARCH,
    "classifier_comparison": _SEARCH,
}
"""The sources that each stage reads."""
_EDITED: tuple[Stage, ...] = ("sample_images", "corpus", "source_prompts", "editor_calibration")
FOLLOWS: Mapping[Stage, tuple[str, ...]] = {
    "sample_images": (),
    "vlm_corpus": ("sample_images",),
    "corpus": ("sample_images", "vlm_corpus"),
    "source_prompts": ("sample_images", "corpus"),
    "editor_calibration": ("sample_images", "corpus", "source_prompts"),
    "level1_edits": _EDITED,
    "level1_scores": (*_EDITED, "level1_edits"),
    "level2_scores": (*_EDITED, "level1_scores"),
    "ranked_report": (*_EDITED, "level2_scores"),
    "classifier_comparison": (*_EDITED, "ranked_report"),
}
"""The stages that each stage reads; `source_prompts` and `editor_calibration` where the study has them."""
_OF_EACH = {"level1_scores", "level2_scores", "ranked_report"}  # stages of one classifier


def sources_read(study: Study, stage: Stage, classifiers: Iterable[str] = ()) -> list[str]:
    """The sources that a stage of these classifiers reads."""
    found: list[str] = []
    judges = judges_beside_the_editor(study)
    for source in READS[stage]:
        if source == "classifier":
            found += [f"{name}/classifier" for name in classifiers]
        elif source not in JUDGES or source in judges:
            found.append(source)
    asked = study.images.predicted
    return [*found, f"{asked.classifier}/classifier"] if asked and stage == "sample_images" else found


def stages_read(study: Study, stage: Stage) -> list[str]:
    """The stages that a stage reads in this study."""
    lacking = set() if study.calibrates else {"editor_calibration"}
    if not study.finds_source_prompts:
        lacking.add("source_prompts")
    return [each for each in FOLLOWS[stage] if each not in lacking]


def upstream(study: Study, stage: Stage, classifiers: Sequence[str] = ()) -> list[dg.AssetKey]:
    """What a stage of these classifiers depends on."""
    parents = [
        parent
        for each in stages_read(study, stage)
        for parent in ([f"{name}/{each}" for name in classifiers] if each in _OF_EACH else [each])
    ]
    names = Names(study)
    return [names.key(*each.split("/")) for each in (*sources_read(study, stage, classifiers), *parents)]


def build_sources(study: Study, classifiers: Sequence[str], tags: Mapping[str, str]) -> list[dg.SourceAsset]:
    """The study's sources as assets that are observed.

    Args:
        tags: of the study's runs, which are metadata of its assets too.
    """
    return [_source(study, source, classifiers, tags) for source in _known(study, classifiers).names]


def _source(study: Study, source: str, classifiers: Sequence[str], tags: Mapping[str, str]) -> Any:
    classifier = source.partition("/")[0] if "/" in source else None
    about = SHARED | JUDGES
    what = about[source] if classifier is None else (
        f"The classifier version {classifier}: a fingerprint of its weights, code and preprocessing."
    )  # fmt: skip
    code = [] if classifier is None else _own_code(study, classifier)
    file = (
        {"file": dg.MetadataValue.path(str(study.path(study.corpus.overrides)))} if source == "corpus_overrides" else {}
    )

    @dg.observable_source_asset(
        key=Names(study).key(*source.split("/")),
        group_name=f"{study.prefix}_{classifier or 'shared'}",
        description=what,
        metadata={**file, **tags, **links(study, *code)},
    )
    def observe(
        diffex_editor: EditorResource, diffex_classifiers: ClassifierResource, diffex_results: ResultsResource
    ) -> dg.ObserveResult:
        with clear_errors():
            work = Resources(diffex_results, diffex_editor, diffex_classifiers).deployed(study)
            known = Sources(work.to_read(), tuple(classifiers))
            return kept.observed(known.version(source), known.numbers(source))

    return observe


def _own_code(study: Study, classifier: str) -> list[tuple[Path, int | None, str]]:
    """The module beside the study that makes or is a classifier."""
    part = study.classifiers[classifier]
    named = (part.factory or part.callable or "").partition(":")[0] if isinstance(part, PythonPart) else ""
    file = study.folder.joinpath(*named.split(".")).with_suffix(".py") if named else None
    return [(file, None, f"code of {classifier}")] if file and file.is_file() else []


def _known(study: Study, classifiers: Sequence[str], reading: bool = False) -> Sources:
    work = Resources(ResultsResource(), EditorResource(), ClassifierResource()).at_work(study)
    return Sources(work.to_read() if reading else work, tuple(classifiers))


def observe(
    study: Study,
    classifiers: Sequence[str],
    known: Sources | None = None,
    before: Mapping[str, str] | None = None,
    reading: bool = False,
) -> tuple[list[dg.AssetObservation], list[str]]:
    """Every source of a study as it is now, and why some could not be read.

    Args:
        before: versions by source, as they were last observed: what has not changed is not counted again.
        reading: where `known` is left out: open the results to read only, beside other readers.
    """
    known, names = known or _known(study, classifiers, reading), Names(study)
    found, problems = [], []
    for source in known.names:
        try:
            version = known.version(source)
            numbers = {} if (before or {}).get(source) == version else known.numbers(source)
            found.append(observation(names.key(*source.split("/")), version, numbers))
        except DiffExError as error:
            problems.append(str(error))
    return found, problems


class Reading:
    """What one stage reads: noted before it reads it, and recorded with what it made.

    Dagster would record the versions that it last heard of. Where a source changed since, or while the stage ran, the
    stage would look up to date with a content that it never saw.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        work: StudyContext,
        stage: Stage,
        classifiers: Sequence[str] = (),
    ) -> None:
        self._context, self._stage, self._known = context, stage, Sources(work, tuple(classifiers))
        self._study, self._names = work.study, Names(work.study)
        self._sources = sources_read(work.study, stage, classifiers)
        self._before = self._versions() | self._stages()

    def _versions(self) -> dict[str, str]:
        return {source: self._known.version(source) for source in self._sources}

    def _stages(self) -> dict[str, str]:
        store, found = self._known.work.store, {}
        if "sample_images" in FOLLOWS[self._stage]:
            found["sample_images"] = samples_version(
                store.samples(self._study.kept_as), store.image_columns(self._study.kept_as)
            )
        if "vlm_corpus" in FOLLOWS[self._stage]:
            found["vlm_corpus"] = tree_version(store.current_corpus(self._study.kept_as, "proposal"))
        if "corpus" in FOLLOWS[self._stage]:
            found["corpus"] = tree_version(store.current_corpus(self._study.kept_as))
        if "source_prompts" in stages_read(self._study, self._stage):
            editor = self._known.work.bare_editor.fingerprint
            found["source_prompts"] = source_prompts_version(self._study, store, editor)
        if "editor_calibration" in stages_read(self._study, self._stage):
            found["editor_calibration"] = calibration_version(self._study, store)
        return found

    def result(
        self, version: str, metadata: Mapping[str, Any], checks: Sequence[dg.AssetCheckResult] = ()
    ) -> dg.MaterializeResult:
        """What the stage returns: its data version, and what it was made from.

        A source, or what another process made of an earlier stage, that changed while the stage read it is recorded as
        such: the stage stays unsynced.
        """
        after = self._versions()
        read = {
            each: now if self._before[each] in (now, "none") else f"changed while it was read, to {now}"
            for each, now in (after | self._stages()).items()
        }
        for source, now in after.items():
            key = self._names.key(*source.split("/"))
            if observed(self._context.instance, key) != now:
                self._context.log_event(observation(key, now, self._known.numbers(source)))
        inputs = {self._names.key(*each.split("/")): v for each, v in read.items()}
        tags = made_from(stage_version(self._study, self._stage), inputs)
        return kept.materialized(version, metadata, tags, checks)
