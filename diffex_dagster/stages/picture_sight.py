"""Which pictures show an attribute, by the study's judge, and how often it is known to be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.effects.presence import CHANCE, YES, clustered_interval, seen_from
from diffex_dagster.judging.protocol import KnowingJudge, Pair, traits_of
from diffex_dagster.report.wording import count, titled
from diffex_dagster.results import RankedFeature
from diffex_dagster.stages.asked_of_pictures import AskedOfPictures
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.edits import Concepts, concepts_of, control_edits, edit_requests
from diffex_dagster.stages.judging import (
    JudgedEdits,
    Sight,
    ask_judge,
    evidence_before,
    judge_name,
    judged_edits,
    sight_of,
)
from diffex_dagster.store import StoredPicture, edit_key

LEAST_QUESTIONS = 30
"""About words that mean nothing, from which on their answers in other pictures say where a judge's level is."""


def picture_evidence(asked: AskedOfPictures) -> dict[str, np.ndarray]:
    """Prompt -> evidence for it in each picture, or in its null edit, (images,)."""
    subject, images, prompts = asked.subject, asked.folder.images, asked.prompts
    store, judge = subject.store, subject.judge
    assert judge is not None
    if asked.wanted.null_edits:
        return evidence_before(subject, prompts, images)
    if isinstance(judge, KnowingJudge):
        nulls = [EditRequest(image, (), subject.study.seed) for image in images]
        return {prompt: np.array([judge.evidence_of(null, prompt) for null in nulls]) for prompt in prompts}
    pairs = [(image, prompt) for image in images for prompt in prompts]
    found = store.stored_evidence(pairs, judge.fingerprint)
    missing = [pair for pair in pairs if pair not in found]
    subject.report("attributes", 0, len(missing), len(found))

    def pictures(some: Sequence[Pair]) -> Mapping[str, StoredPicture]:
        return store.images(list(dict.fromkeys(key for key, _ in some))).stored

    found |= ask_judge(subject, missing, pictures, len(found), "attributes")
    return {prompt: np.array([found[image, prompt] for image in images]) for prompt in prompts}


@dataclass(frozen=True)
class PictureSight:
    """From which evidence on the judge sees each attribute, and how often it is known to be wrong.

    Attributes:
        levels: feature -> level; without those of which it is not known.
        in_edits: feature -> share of the study's edits that it is seen in, of how many (`_share`).
        share, low, high: of the questions about words that mean nothing, those it says yes to in these pictures, with
            its interval; None where that was not asked.
        level_by: whose control prompts the level is found by: the study's, or those asked of these pictures; empty for
            a judge whose level does not come from them.
        warnings: what is not known, or not to be trusted, and why.
    """

    levels: Mapping[str, float]
    in_edits: Mapping[str, tuple[float | None, int]]
    share: float | None = None
    low: float | None = None
    high: float | None = None
    level_by: Literal["study", "images", ""] = ""
    warnings: tuple[str, ...] = ()


def picture_sight(asked: AskedOfPictures, evidence: Mapping[str, np.ndarray]) -> PictureSight:
    """What the study's judge sees in the pictures, by what it has said of the study's own null edits and edits.

    Nothing is asked here that the study has not asked already.

    Args:
        evidence: of `picture_evidence`.
    """
    there = asked.subject.calibrated()
    sight = _sight_of_study(there)
    edits, unknown = _of_study(there, asked.rows, sight)
    if traits_of(there.judge).absolute:
        return _by_words(asked, evidence, sight, edits)
    levels = {f: of.level for f, of in edits.items() if of.level is not None}
    unknown |= dict.fromkeys(edits.keys() - levels.keys(), _FEW)
    return PictureSight(
        levels,
        {f: _share(of) for f, of in edits.items() if f in levels},
        warnings=tuple(
            f"Which pictures show “{titled(row)}” is not known: {unknown[row.feature]}."
            for row in asked.rows
            if row.feature in unknown
        ),
    )


def _by_words(
    asked: AskedOfPictures, evidence: Mapping[str, np.ndarray], sight: Sight | None, edits: Mapping[str, JudgedEdits]
) -> PictureSight:
    """Of a judge whose evidence is comparable between words.

    The levels are the study's, found on its own edits and null edits, where this judge was asked about them. Only where
    it was not do the pictures at hand have to say, if there are enough questions to them.
    """
    judge = asked.subject.judge
    words = list(dict.fromkeys(concepts[0].prompt for concepts in control_edits(asked.subject.study)))
    nothing = np.stack([evidence[word] for word in words]) if words else np.empty((0, 0))  # (words, pictures)
    told, binary = isinstance(judge, KnowingJudge), traits_of(judge).binary
    level_by: Literal["study", "images", ""] = ""
    if binary:
        level = YES
    elif sight is not None and sight.level is not None:
        level, level_by = sight.level, "study"
    elif told:
        level = seen_from(nothing)
    elif nothing.size >= LEAST_QUESTIONS:
        level, level_by = seen_from(nothing), "images"
    else:
        few = (
            f"Which pictures show an attribute is not known: this judge, {judge_name(judge)}, has not been asked about "
            f"the study's null edits, and {count(nothing.size, 'question')} about words that mean nothing "
            f"{'is' if nothing.size == 1 else 'are'} too few to find its level in these pictures ({LEAST_QUESTIONS} "
            "would do). Run the study with this judge, or ask about more pictures."
        )
        return PictureSight({}, {}, warnings=(few,))
    levels = dict.fromkeys((row.feature for row in asked.rows), level)
    levels |= {f: of.level for f, of in edits.items() if of.level is not None}
    in_edits = {} if binary else {f: _share(of) for f, of in edits.items()}
    if not nothing.size or told:
        return PictureSight(levels, in_edits, level_by=level_by)
    yes = nothing > level
    low, high = clustered_interval(yes.sum(axis=0), np.full(yes.shape[1], len(words)))
    share, warnings = float(yes.mean()), tuple[str, ...]()
    if share > CHANCE and (binary or (level_by == "study" and low > CHANCE)):
        warnings = (
            f"The judge, {judge_name(judge)}, sees words that mean nothing in {share:.0%} of these "
            f"questions, and more than {CHANCE:.0%} is too many: which pictures show an attribute is not to be "
            "trusted.",
        )
    return PictureSight(levels, in_edits, share, low, high, level_by, warnings)


def _share(of: JudgedEdits) -> tuple[float | None, int]:
    """In what share of the edits that were to put it where it was not the judge sees it; how many these are."""
    seen = of.seen()
    return (float(seen.mean()) if seen.size else None), seen.size


_GONE = "the corpus does not have it now as the report does; run the study again"
_NEW = (
    "this judge has not been asked about all of the study's edits of it (the judge is another one now, or the search "
    "gave the attribute up)"
)
_FEW = "too few of the study's edits of it succeeded to find this judge's level"


def _sight_of_study(there: Subject) -> Sight | None:
    """What the study itself takes for seen (`sight_of`); None where this judge has not been asked what that takes."""
    images = there.split.discovery
    return sight_of(there, images) if _was_asked(there, control_edits(there.study), images) else None


def _of_study(
    there: Subject, rows: Sequence[RankedFeature], sight: Sight | None
) -> tuple[dict[str, JudgedEdits], dict[str, str]]:
    """Feature -> the study's edits of it on the images that are reported; and feature -> why these are not known."""
    images, known = there.split.reported, {f.id: f for f in there.corpus.walk() if f.editable}
    found, unknown = dict[str, Feature](), dict[str, str]()
    for row in rows:
        feature = known.get(row.feature)
        if feature is None or (feature.prompt, feature.direction) != (row.prompt, row.direction):
            unknown[row.feature] = _GONE
            continue
        concepts = concepts_of([feature])
        if sight is None or not _was_asked(there, [concepts], images):
            unknown[row.feature] = _NEW
            continue
        found[row.feature] = feature
    return (judged_edits(there, list(found.values()), images, sight) if sight and found else {}), unknown


def _was_asked(there: Subject, edits: Sequence[Concepts], images: Sequence[str]) -> bool:
    """Whether the store holds what the judge says of these edits and of the null edits, each for its own prompt."""
    store, editor, judge = there.store, there.editor.fingerprint, there.judge
    assert judge is not None
    pairs = {
        (edit_key(request, editor), concepts[0].prompt)
        for concepts in edits
        for request in edit_requests(images, [(), concepts], there.seeds)
    }
    return len(store.stored_evidence(pairs, judge.fingerprint)) == len(pairs)
