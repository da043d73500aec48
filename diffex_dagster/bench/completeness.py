"""How much of a classifier's outputs do the scored features explain, where it is known what it looks at?

Each classifier of a world is explained by exact edits and by the diffusion editor's, which add their errors and the
judge's. A rule should come near 1 as long as the corpus names its attributes, and fall without its strongest group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffex_dagster.bench.true_effects import Examinee
from diffex_dagster.bench.truth import benched, kept_corpus
from diffex_dagster.report.wording import share
from diffex_dagster.results import Completeness, Report
from diffex_dagster.stages.completeness import completeness_of
from diffex_dagster.stages.context import StudyContext, Subject, at_work
from diffex_dagster.stages.pictures import Album, Pictures
from diffex_dagster.stages.prepared import prepared
from diffex_dagster.stages.ranking import Measured
from diffex_dagster.stages.report import classifier_report, original_outputs
from diffex_dagster.stages.sample_images import sample_images
from diffex_dagster.stages.search import run_search
from diffex_dagster.stages.searched import Searched
from diffex_dagster.study import Study
from diffex_dagster.utils.progress import Reporter, silent


@dataclass(frozen=True)
class ShareOf:
    """How much of one classifier is explained in one arm.

    Attributes:
        arm, classifier: whose report it is of.
        found: as its report says it.
        group: of its strongest feature.
        without: the same without the features of that group; None where one of both is not known.
    """

    arm: str
    classifier: str
    found: Completeness
    group: str
    without: float | None


def measure_completeness(
    study: Study,
    arms: Mapping[str, str],
    chosen: Sequence[Examinee],
    images: int | None = None,
    report: Reporter = silent,
) -> list[ShareOf]:
    """Explain every classifier in every arm, and say how much is explained.

    Args:
        study: of a world's drawings.
        arms: arm ("exact", "diffusion") -> name of the study's editor.
        chosen: the classifiers.
        images: the first so many of the study's; its own limit when None.

    Edits and scores are those of `bench truth` on as many images: what exists is not made again.
    """
    base = benched(study, images)
    work = StudyContext(base, report=report)
    sample_images(work)
    kept_corpus(study, work)
    found = []
    for arm, editor_name in arms.items():
        editor = at_work(base.with_editor(editor_name), store=work.store).bare_editor  # keeps the images' inversions
        for each in chosen:
            one = base.changed(classifiers={each.name: each.part}, target=each.target).with_editor(editor_name)
            at = at_work(one, store=work.store, editor=editor, report=report)
            found.append(_share_of(arm, prepared(at.subject(each.name))))
    return found


def _share_of(arm: str, subject: Subject) -> ShareOf:
    searched = run_search(subject)
    report, _ = classifier_report(subject, "diffex bench completeness", searched)
    assert report.completeness is not None
    group = report.features[0].feature.split("/")[0] if report.features else ""
    left = _without(subject.calibrated(), searched, report, group)
    known = report.completeness.score is not None
    return ShareOf(arm, subject.name, report.completeness, group, left.score if known else None)


def _without(subject: Subject, searched: Searched, report: Report, group: str) -> Completeness:
    """How much is explained by the features of the other groups."""
    others = {f: d for f, d in searched.result.scores.items() if f.split("/")[0] != group}
    pictures = Pictures(subject, subject.store.images(searched.split.reported))
    pictures.find(searched.paired)
    metrics, _ = pictures.metrics([subject.corpus[feature] for feature in searched.result.scores])
    fewer = replace(searched, result=replace(searched.result, scores=others))
    measured = Measured(subject.study, subject.corpus, fewer, metrics)
    album = Album(pictures, {}, original_outputs(subject, pictures)[:, 0])
    return completeness_of(subject, measured, report.features, report.judge, album)


def as_json(found: Sequence[ShareOf]) -> list[dict[str, Any]]:
    """The shares as plain data, without pictures."""
    columns = ("images", "features", "score", "low", "high", "spread", "scale", "fitted", "fitted_low", "fitted_high",
               "varies", "corrected", "why")  # fmt: skip
    return [
        {"arm": each.arm, "classifier": each.classifier, "strongest_group": each.group, "without": each.without}
        | {column: getattr(each.found, column) for column in columns}
        for each in found
    ]


def as_markdown(found: Sequence[ShareOf]) -> str:
    """The shares as a table."""
    rows = [
        "| arm | classifier | images | explained | 95% interval | of a standard deviation of | the prediction misses "
        "by | fitted | without its strongest group |",
        "|---|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    for each in found:
        c, head = each.found, f"| {each.arm} | `{each.classifier}` | {each.found.images} |"
        if c.missed is None:
            rows.append(f"{head} {'nothing to explain' if c.varies is False else 'not known'}: {c.why} | | | | | |")
            continue
        rows.append(
            f"{head} {share(c.score)} | {share(c.low)} to {share(c.high)} | {c.spread:.2f} | {c.missed:.2f} | "
            f"{share(c.fitted)} | {share(each.without)} |"
        )
    return "\n".join(rows)
