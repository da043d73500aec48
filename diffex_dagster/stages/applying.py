"""Apply what a study found to other pictures: which carry the attributes, how they score, which depend on one.

Nothing is edited unless null edits are asked for. Pictures, scores and a judge's answers are kept under the keys that a
study has for them, so that nothing is asked twice; no sample, version or report of the study changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np

from diffex_dagster.classifying.asking import said_outputs
from diffex_dagster.classifying.target import boundary, has_class, measure
from diffex_dagster.effects.at_risk import Shift, beyond, shifted, taken_away
from diffex_dagster.effects.presence import share_interval
from diffex_dagster.report.applied_model import Applied, AppliedFeature, AppliedRow
from diffex_dagster.report.wording import confounder, listing, titled
from diffex_dagster.results import RankedFeature
from diffex_dagster.stages.asked_of_pictures import AskedOfPictures
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.edits import edit_requests, make_edits
from diffex_dagster.stages.judging import judge_name
from diffex_dagster.stages.picture_sight import picture_evidence, picture_sight
from diffex_dagster.stages.scores import decisions_in_words, ensure_scores, picture_scores

BY_SEED = "differs by seed"  # the decision about an image whose null edits are not all taken for the same


def apply_study(asked: AskedOfPictures, command: str) -> Applied:
    """Judge and score the pictures, and say which depend on which attribute.

    Args:
        asked: whose pictures are in the store (`keep_pictures`).
        command: that makes the same again.

    Raises:
        DiffExError: the judge cannot be asked, the classifier cannot score, or an editor cannot make null edits.
    """
    subject, study, folder, wanted = asked.subject, asked.subject.study, asked.folder, asked.wanted
    store, images, judge = subject.store, folder.images, subject.judge
    assert judge is not None
    subject.ready_to_judge()
    with store.hold():
        if wanted.null_edits:
            make_edits(subject, edit_requests(images, [()], subject.seeds), "null edits")
        scored = _scored(subject, images, wanted.null_edits)
        evidence = picture_evidence(asked)
        sight = picture_sight(asked, evidence)
        pictures = dict(store.images(images).stored)
    features, rows = [], []
    for row in asked.rows:
        found = _Attribute(asked, row, evidence[row.prompt], sight.levels.get(row.feature), scored)
        features.append(found.feature(*sight.in_edits.get(row.feature, (None, 0))))
        rows += found.rows
    return Applied(
        study=study.name, title=study.title or study.name, classifier=subject.name, editor=study.editor_name,
        target=study.target.describe(), unit=study.target.effect_unit, bounded=study.target.bounded,
        created=datetime.now(UTC), command=command, folder=str(folder.path), null_edits=wanted.null_edits,
        images=len(folder.keys), different=len(images), judge=judge_name(judge),
        control_words=sight.share, control_low=sight.low, control_high=sight.high, level_by=sight.level_by,
        features=tuple(features), rows=tuple(rows), unread=tuple(folder.unread), left_out=tuple(folder.notes),
        warnings=(*asked.warnings, *_marks(asked.rows), *sight.warnings, *_no_decision(subject, scored)),
        pictures=pictures,
    )  # fmt: skip


@dataclass(frozen=True)
class _Scored:
    """What the classifier says of the pictures, by key."""

    measure: Mapping[str, float]
    boundary: Mapping[str, float] | None  # None where nothing is decided, or nobody knows where
    decision: Mapping[str, str]


def _scored(subject: Subject, images: Sequence[str], null_edits: bool) -> _Scored:
    """The measure of each picture, or of its null edit (the mean over seeds)."""
    study, classifier = subject.study, subject.classifier
    if null_edits:
        requests = edit_requests(images, [()], subject.seeds)
        outputs, _ = ensure_scores(subject, requests)
        logits = np.stack([outputs[request] for request in requests])
    else:
        scores = picture_scores(subject.store, classifier, subject.store.images(images))
        logits = np.stack([scores[image] for image in images])
    said = said_outputs(classifier)

    def by_image(values: np.ndarray) -> dict[str, float]:
        return dict(zip(images, values.reshape(len(images), -1).mean(axis=1).tolist(), strict=True))

    edge = boundary(logits, classifier.labels, study.target, study.folder, said)
    by_seed = np.array(decisions_in_words(subject, logits)).reshape(len(images), -1)  # (images, seeds)
    decided = [str(each[0]) if len(set(each)) == 1 else BY_SEED for each in by_seed]
    return _Scored(
        by_image(measure(logits, classifier.labels, study.target, study.folder, said)),
        None if edge is None else by_image(edge),
        dict(zip(images, decided, strict=True)),
    )


def _marks(rows: Sequence[RankedFeature]) -> Iterator[str]:
    """Which of the attributes that are looked for may owe their effect to another one."""
    said = [
        f"“{titled(row)}” {'is ' if row.confounded_with.told_apart else ''}{confounder(row)}"
        for row in rows
        if row.confounded_with
    ]
    if said:
        yield (
            f"By the study's report, {listing(said)}: the effect may be that of the other attribute, and the decision "
            "about an image that is listed as at risk may depend on that one."
        )


def _no_decision(subject: Subject, scored: _Scored) -> Iterator[str]:
    if scored.boundary is not None:
        return
    if has_class(subject.classifier.labels, subject.study.target):
        yield (
            "Where the decision changes cannot be said in the unit of this target: nobody is listed as at risk; "
            "write target.threshold, or explain a probability, a logit or a margin."
        )
    else:
        yield (
            "The target is a number without a threshold: no decision can change, so that nobody is listed as at risk. "
            "Write target.threshold."
        )


@dataclass(frozen=True)
class _Attribute:
    """One attribute in the pictures of a folder."""

    asked: AskedOfPictures
    row: RankedFeature
    evidence: np.ndarray
    level: float | None
    scored: _Scored

    @cached_property
    def shift(self) -> Shift:
        effects = self.asked.subject.study.effects
        return taken_away(self.row, effects.min_edit_success, effects.level)

    def feature(self, in_edits: float | None, edits: int) -> AppliedFeature:
        """The attribute over all different pictures: a copy of a file says nothing more about how common it is."""
        row, shift = self.row, self.shift
        rows = list({each.image: each for each in self.rows}.values())
        here = [each for each in rows if each.carries]
        others = [each for each in rows if each.carries is False]
        low, high = (None, None) if self.level is None else share_interval(len(here), len(rows))
        decided = self.level is not None and self.scored.boundary is not None
        return AppliedFeature(
            feature=row.feature, name=row.name, prompt=row.prompt, direction=row.direction, group=row.group,
            effect=row.effect, ci_low=row.ci_low, ci_high=row.ci_high, decision=row.decision,
            named=row.feature in self.asked.named,
            confounded_with=row.confounded_with.name if row.confounded_with else None,
            relation=row.confounded_with.relation if row.confounded_with else None,
            shift=shift.mean, shift_low=shift.low, shift_high=shift.high, removed=shift.removed,
            level=self.level, seen_in_edits=in_edits, edits_judged=edits,
            carriers=None if self.level is None else len(here),
            prevalence=None if self.level is None else len(here) / len(rows),
            prevalence_low=low, prevalence_high=high, study_prevalence=row.prevalence,
            score_with=_mean(here), score_without=_mean(others),
            at_risk=sum(bool(each.changes) for each in here) if decided else None,
        )  # fmt: skip

    @cached_property
    def rows(self) -> list[AppliedRow]:
        """A row a file, the most at risk first, then the others that show it, then the rest in name order."""
        folder = self.asked.folder
        found = [self._row(file, key) for file, key in folder.keys.items()]
        there = [row for row in found if row.carries]
        there.sort(key=lambda row: (-row.beyond if row.beyond is not None else 0.0, -(row.evidence or 0.0)))
        numbered = [replace(row, place=place) for place, row in enumerate(there, 1)]
        return [*numbered, *(row for row in found if not row.carries)]

    def _row(self, file: str, key: str) -> AppliedRow:
        study, shift, scored = self.asked.subject.study, self.shift, self.scored
        evidence, score = float(self.evidence[self._at[key]]), scored.measure[key]
        carries = None if self.level is None else evidence > self.level
        edge = None if scored.boundary is None else scored.boundary[key]
        after = margin = None
        changes = surely = None
        if carries:
            ends = [end for end in (shift.low, shift.high) if end is not None]
            least = 0.0 if ends and min(ends) <= 0.0 <= max(ends) else min(ends or [shift.mean], key=abs)
            after = float(shifted(score, shift.mean, study.target.bounded))
            if edge is not None:
                inside = score > edge
                margin = float(beyond(inside, after, edge))
                changes = margin > 0
                at_least = float(beyond(inside, shifted(score, least, study.target.bounded), edge))
                surely = changes and at_least > 0 if ends else None
        return AppliedRow(
            self.row.feature, titled(self.row), None, key, file, carries, evidence, score, scored.decision[key], edge,
            after, changes, surely, margin,
        )  # fmt: skip

    @cached_property
    def _at(self) -> dict[str, int]:
        return {key: i for i, key in enumerate(self.asked.folder.images)}


def _mean(rows: Sequence[AppliedRow]) -> float | None:
    return float(np.mean([row.score for row in rows])) if rows else None
