"""What one picture shows about a classifier, as plain data: the stage fills it in, page, table and notebook read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from diffex_dagster.results import Picture, opened

VERDICTS = ("raises", "lowers", "too small to matter", "within the noise", "inconclusive", "already there",
            "edit failed")  # fmt: skip
"""What is said of a feature on one picture."""


@dataclass(frozen=True)
class ImageFeature:
    """One feature on one picture.

    Scores and effects are in the unit of the target measure, means over the seeds.

    Attributes:
        rank: by |effect| on this picture; features of which nothing can be said come last.
        feature, name, prompt, direction, group: as in the corpus; `group` is the name of the level-1 group.
        edit: the edited picture, under the first seed.
        score_null, score_edit, score_control: of the null edit, of the edit, and the mean of the control edits (None
            without control prompts).
        effect: `score_edit` less `score_control` (less `score_null` without control prompts).
        low, high: the effects that the picture does not rule out (`effects.one_picture.effect_interval`).
        p_value: of the control edits and this one, how many lie as far out (`effects.one_picture.p_value`).
        verdict: one of `VERDICTS`.
        shows: whether the edit shows the attribute, by the judge; None where nobody judges.
        strength, ssim: how far the edit changed its null edit (`effects.edit_metrics`).
        redraws: whether it changes more of the picture than every control edit, which then do not say how much of the
            effect is the attribute (`effects.one_picture.changes_more`).
        flips: whether it changes the decision, under at least half of the seeds.
        study_effect, study_low, study_high, study_decision: the same feature over the study's images, by its latest
            report; None where no report has it.
        study_mark: the mark beside that decision (`wording.marked`); "" where it has none.
    """

    rank: int
    feature: str
    name: str
    prompt: str
    direction: str
    group: str
    edit: Picture
    score_null: float
    score_edit: float
    score_control: float | None
    effect: float
    low: float
    high: float
    p_value: float
    verdict: str
    shows: bool | None
    strength: float
    ssim: float
    flips: bool
    study_effect: float | None = None
    study_low: float | None = None
    study_high: float | None = None
    study_decision: str | None = None
    redraws: bool = False
    study_mark: str = ""


@dataclass(frozen=True)
class FlipSet:
    """Edits, made together, with which the decision is another one.

    Attributes:
        features, names, groups: ids, titles and groups of the features.
        edit: the picture with all of them.
        score_before, score_after: measure of the null edit and of this one.
        decision: what the picture is taken for now.
        shown: whether the edit shows each attribute, by the judge; None where nobody judges.
        distance: 1 − SSIM between edit and null edit, under the first seed: how far the picture is from what it was.
        controls: control edits that it was held against; 0 where it was not, for it does not show what it should.
        words: control prompts in each of them: as many as it has features, or 1 where no words are
            left for that, and of edits that another tool made.
        redraws: whether it changes more of the picture than every one of them.
    """

    features: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    edit: Picture
    score_before: float
    score_after: float
    decision: str
    shown: tuple[bool | None, ...]
    distance: float
    controls: int = 0
    words: int = 0
    redraws: bool = False


@dataclass(frozen=True)
class ImageFinding:
    """Everything on the page of one picture.

    Attributes:
        study, title, classifier, editor, target, corpus_version, created, command: what it belongs to.
        image, file: key and name of the picture; `sample`: whether it is one of the study's own.
        original, null: the prepared picture and its null edit.
        score_original, score_null: measure of both.
        decision_original, decision: what both are taken for; the decision about the null edit is what is explained.
        features: by rank.
        flips: the smallest sets of edits that flip the decision, the closest picture first; empty where none does.
        unseen: sets that flip it, but whose edits do not show what they should, or lie within the noise.
        no_flip: why there is none, in a sentence; "" where there is one.
        sets, largest: how many sets were tried, and the features of the largest of them.
        controls: d of every control edit, by control prompt.
        control_flips: how many of them flip the decision.
        seeds: how many seeds each edit was made under.
        level: error rate of one verdict.
        least_controls: control prompts that a verdict needs at that rate.
        expected: how many of the features that were tested stand out by chance, if their edits change the picture no
            more than control edits do.
        margin: effects inside ± this do not matter to the study.
        judge: its name; "" where no edit was judged, and `unjudged` says why.
        study_images: images of the study's report; 0 where it has none.
        warnings: what to know before anything on the page is believed.
        made_with: what tells it from a finding of other parts: `classifier`, `target`, `editor`, `corpus_version`.
        no_study: why there are no effects over the study beside these; "" where there are, or no report at all.
        edits_made, edits_reused: what it cost, together with the pictures that were asked about with it.
    """

    study: str
    title: str
    classifier: str
    editor: str
    target: str
    corpus_version: str
    created: datetime
    command: str
    image: str
    file: str
    sample: bool
    original: Picture
    null: Picture
    score_original: float
    score_null: float
    decision_original: str
    decision: str
    features: tuple[ImageFeature, ...]
    flips: tuple[FlipSet, ...]
    unseen: tuple[FlipSet, ...]
    no_flip: str
    sets: int
    largest: int
    controls: tuple[tuple[str, float], ...]
    control_flips: int
    seeds: int
    level: float
    least_controls: int
    expected: float
    margin: float
    judge: str
    unjudged: str
    study_images: int
    warnings: tuple[str, ...] = ()
    made_with: Mapping[str, str] = field(default_factory=dict)
    no_study: str = ""
    edits_made: int = 0
    edits_reused: int = 0


COLUMNS = (
    "rank", "feature", "name", "group", "effect", "low", "high", "verdict", "p_value", "shows", "flips", "score_null",
    "score_control", "score_edit", "strength", "ssim", "redraws", "study_effect", "study_low",
    "study_high", "study_decision", "study_mark",
)  # fmt: skip


def feature_rows(features: Sequence[ImageFeature]) -> list[dict[str, Any]]:
    """The features as rows of a table."""
    return [{column: getattr(feature, column) for column in COLUMNS} for feature in features]


def flip_rows(flips: Sequence[FlipSet]) -> list[dict[str, Any]]:
    """Sets as plain data, without their pictures."""
    columns = ("features", "names", "score_before", "score_after", "decision", "shown", "distance", "controls", "words",
               "redraws")  # fmt: skip
    return [{column: getattr(each, column) for column in columns} for each in flips]


def finding_data(finding: ImageFinding) -> dict[str, Any]:
    """A finding as plain data (JSON), without its pictures."""
    fields = (
        "study", "classifier", "editor", "target", "corpus_version", "image", "file", "sample", "score_original",
        "score_null", "decision_original", "decision", "no_flip", "sets", "largest", "control_flips", "seeds", "level",
        "expected", "margin", "judge", "study_images",
    )  # fmt: skip
    return {
        **{field: getattr(finding, field) for field in fields},
        "made_with": dict(finding.made_with),
        "no_study": finding.no_study,
        "controls": dict(finding.controls),
        "warnings": list(finding.warnings),
        "flips": flip_rows(finding.flips),
        "unseen": flip_rows(finding.unseen),
        "features": feature_rows(finding.features),
    }


def in_memory(finding: ImageFinding) -> ImageFinding:
    """The same with its pictures read: for use after the folder that they are in is gone."""

    def sets(of: Sequence[FlipSet]) -> tuple[FlipSet, ...]:
        return tuple(replace(each, edit=opened(each.edit)) for each in of)

    return replace(
        finding, original=opened(finding.original), null=opened(finding.null), flips=sets(finding.flips),
        unseen=sets(finding.unseen), features=tuple(replace(each, edit=opened(each.edit)) for each in finding.features),
    )  # fmt: skip
