"""Which pictures show an attribute, by the study's judge, and how often it is known to be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.effects.presence import CHANCE, YES, seen_between, seen_from, share_interval
from diffex_dagster.judging.protocol import KnowingJudge, Pair
from diffex_dagster.report.wording import titled
from diffex_dagster.stages.asked_of_pictures import AskedOfPictures
from diffex_dagster.stages.edits import concepts_of, control_edits, edit_requests
from diffex_dagster.stages.judging import ask_judge, chance_of, control_gains, evidence_before, gains, judge_name
from diffex_dagster.store import StoredPicture, edit_key


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
    """From which evidence on the judge sees each attribute, and how often it is known to be wrong."""

    levels: Mapping[str, float]  # feature -> level; without those of which it is not known
    in_edits: Mapping[str, tuple[float | None, int]]  # feature -> share of the study's edits it is seen in, of how many
    share: float | None = None
    low: float | None = None
    high: float | None = None
    set_by_words: bool = False
    warnings: tuple[str, ...] = ()


def picture_sight(asked: AskedOfPictures, evidence: Mapping[str, np.ndarray]) -> PictureSight:
    subject, study = asked.subject, asked.subject.study
    judge = subject.judge
    edits = _of_study(asked)
    if not getattr(judge, "absolute", False):
        levels = {
            f: level for f, of in edits.items() if (level := seen_between(of.before, of.after, of.took)) is not None
        }
        unknown = [titled(row) for row in asked.rows if row.feature not in levels]
        return PictureSight(
            levels,
            {f: of.seen(levels[f]) for f, of in edits.items() if f in levels},
            warnings=tuple(
                f"Which pictures show “{name}” is not known: too few of the study's edits towards it succeeded to find "
                "this judge's level."
                for name in unknown
            ),
        )
    words = list(dict.fromkeys(concepts[0].prompt for concepts in control_edits(study)))
    nothing = np.concatenate([evidence[word] for word in words]) if words else np.empty(0)
    told, binary = isinstance(judge, KnowingJudge), getattr(judge, "binary", False)
    level = YES if binary else seen_from(nothing)
    levels = dict.fromkeys((row.feature for row in asked.rows), level)
    in_edits = {f: of.seen(level) for f, of in edits.items()}
    if not nothing.size or told:
        return PictureSight(levels, in_edits)
    seen = int((nothing > level).sum())
    low, high = share_interval(seen, nothing.size)
    warnings: tuple[str, ...] = ()
    if binary and seen / nothing.size > CHANCE:
        warnings = (
            f"The judge, {judge_name(judge)}, sees words that mean nothing in {seen / nothing.size:.0%} of these "
            f"questions, and more than {CHANCE:.0%} is too many: which pictures show an attribute is not to be "
            "trusted.",
        )
    return PictureSight(levels, in_edits, seen / nothing.size, low, high, not binary, warnings)


@dataclass(frozen=True)
class _Edits:
    """The study's edits towards one attribute: evidence before and after, and which of them succeeded, (images,)."""

    before: np.ndarray
    after: np.ndarray
    took: np.ndarray

    def seen(self, level: float) -> tuple[float | None, int]:
        """In what share of the edits that put it there the judge sees it, and how many these are."""
        n = int(self.took.sum())
        return (float((self.after[self.took] > level).mean()), n) if n else (None, 0)


def _of_study(asked: AskedOfPictures) -> dict[str, _Edits]:
    """Feature -> the study's edits that put it there; without those that this judge has not been asked about."""
    there = asked.subject.calibrated()
    store, editor, judge = there.store, there.editor.fingerprint, there.judge
    assert judge is not None
    corpus, images = there.corpus, there.split.reported
    known = {f.id: f for f in corpus.walk() if f.editable and f.direction == "add"}
    of = {row.feature: concepts_of([known[row.feature]]) for row in asked.rows if row.feature in known}
    controls = control_edits(there.study)
    asked_before = [
        (r, c[0].prompt) for c in (*of.values(), *controls) for r in edit_requests(images, [(), c], there.seeds)
    ]
    pairs = {(edit_key(request, editor), prompt) for request, prompt in asked_before}
    if not of or len(store.stored_evidence(pairs, judge.fingerprint)) < len(pairs):
        return {}
    chances = control_gains(there, images)
    before = evidence_before(there, [c[0].prompt for c in of.values()], images)
    gained = gains(there, [(c, c[0]) for c in of.values()], images)
    return {
        f: _Edits(null := before[c[0].prompt], null + gained[c, c[0]], gained[c, c[0]] > chance_of(chances, c[0]))
        for f, c in of.items()
    }
