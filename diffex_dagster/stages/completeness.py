"""Stage: how much of the classifier's outputs the scored features explain, and which images they explain least.

See `effects.completeness`. What pictures show and what edits do is read from what the search has judged and scored. The
one thing that may be computed here is an embedding of the null edits, where a judge has one; it is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.effects.completeness import LEAST, Explained, Node, chance_shown, explained, weights_of
from diffex_dagster.errors import DiffExError, StoreError
from diffex_dagster.judging.protocol import KnowingJudge
from diffex_dagster.results import Completeness, JudgeCheck, RankedFeature, Unexplained
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.edits import edit_requests
from diffex_dagster.stages.judging import judge_name, judged_edits
from diffex_dagster.stages.pictures import Album
from diffex_dagster.stages.ranking import Measured
from diffex_dagster.stages.searched import Searched
from diffex_dagster.store import InOrder, StoredPicture, edit_key
from diffex_dagster.utils.lines import one_line

FURTHEST = 12
"""Images that are named as least explained; pages show the first of them."""

SEES = 0.8
"""The least share of a judge's edits that is taken for what it sees of what is there. Less may be the editor's."""

ROUNDING = 1e-6
"""Of the largest output: outputs that differ by less are the same."""

CANNOT_EMBED = (DiffExError, ImportError, MemoryError, OSError, RuntimeError)
"""What a judge's model fails with where it is asked in a process that lacks its weights, its GPU or memory for it."""

Embeds = Callable[[Sequence[Image.Image]], np.ndarray]


def completeness_of(
    subject: Subject, measured: Measured, ranked: Sequence[RankedFeature], judge: JudgeCheck | None, album: Album
) -> Completeness:
    """How much of the outputs on the reported images the features explain; where that is not known, why.

    Args:
        ranked: a feature whose edits failed has no known effect, and no part in this.
        judge: how the judge of the study does.
    """
    outputs, searched = measured.searched.paired[()].null, measured.searched
    images = len(searched.split.reported)
    if why := why_unknown(measured, judge):
        return Completeness(images=images, why=why)
    spread, still = float(outputs.std()), measured.reach.still
    if not varies(outputs, still):
        return Completeness(images=images, spread=spread, varies=False, why=why_nothing(outputs, still))
    failed = {row.feature for row in ranked if row.decision == "edit failed"}
    effects = {f.id: both_ways(measured, f) for f in measured.features if f.id in searched.shown}
    used = [f for f in measured.features if f.id in effects and f.id not in failed and _known(effects[f.id])]
    if not used:
        return Completeness(
            images=images,
            why="of no feature it is known both which images show it and what its edits do: those failed, or too few "
            "images could be edited",
        )
    sure = isinstance(subject.judge, KnowingJudge)
    hit = None if sure else hit_rate(subject, used, searched)
    false_alarm = judge.control_words if judge else None
    shown = {f.id: presence(searched.shown[f.id], hit, false_alarm) for f in used}
    name, embedding, why_not = embedded(subject, searched.split.reported)
    found = explained(
        outputs,
        weights_of([_node(group) for group in measured.corpus.groups], shown),
        {f.id: effects[f.id] for f in used},
        bounds=(0.0, 1.0) if measured.study.target.bounded else (-math.inf, math.inf),
        embedding=embedding,
    )
    best = found.by_effects
    return Completeness(
        images=images,
        spread=spread,
        varies=True,
        features=len(used),
        score=best.score,
        low=best.low,
        high=best.high,
        scale=found.scale,
        fitted=found.fitted.score,
        fitted_low=found.fitted.low,
        fitted_high=found.fitted.high,
        ceiling=found.ceiling.score if found.ceiling else None,
        ceiling_low=found.ceiling.low if found.ceiling else None,
        ceiling_high=found.ceiling.high if found.ceiling else None,
        ceiling_by=name if found.ceiling else "",
        ceiling_why=why_not,
        corrected=None if sure else hit is not None and false_alarm is not None and hit > false_alarm,
        least_explained=tuple(least_explained(measured, found, album)),
    )


def why_unknown(measured: Measured, judge: JudgeCheck | None) -> str:
    """Why it cannot be said which images show what, or how the outputs vary; "" where it can."""
    searched = measured.searched
    if not searched.judged or judge is None:
        return "nobody judges which images show an attribute (`judge`)"
    if searched.sight.imagines(judge.control_words) or searched.sight.blind:
        return "the judge cannot be used, so that nobody knows which images show an attribute"
    if len(searched.split.reported) < LEAST:
        return f"fewer than {LEAST} images are too few to predict one from the others"
    if not any(f.id in searched.shown for f in measured.features):
        return "the judge cannot say of any feature which images show it"
    return ""


def varies(outputs: np.ndarray, margin: float) -> bool:
    """Whether the outputs differ by more than a reader of the study cares for: one is further from the mean of all.

    A share of what varies less would be a share of nothing, and read as if something were found. One image that stands
    out is enough, be it one in a thousand.

    Args:
        outputs: target measure of each image, (images,).
        margin: effects inside ± margin do not matter to the study.
    """
    return bool(np.abs(outputs - outputs.mean()).max() > max(margin, ROUNDING * np.abs(outputs).max()))


def why_nothing(outputs: np.ndarray, margin: float) -> str:
    """Why there is nothing to explain."""
    furthest = float(np.abs(outputs - outputs.mean()).max())
    if furthest <= ROUNDING * np.abs(outputs).max():
        return "it says the same of all images"
    return (
        f"what it says of an image is at most {furthest:.2g} from the mean of all, and {margin:.2g} does not matter to "
        "this study (`effects.margin`)"
    )


def hit_rate(subject: Subject, features: Sequence[Feature], searched: Searched) -> float | None:
    """In what share of the edits that were to put a feature into an image without it the judge sees it.

    All edits of these features count, failed ones too: of those that the judge itself calls a success it would be right
    always. So it is rather too low, and None below `SEES`: corrected by a share that is far too low, every image would
    show the feature. None of a judge that only says yes or no, whose verdict on an edit is the same answer, so that an
    edit that failed and a judge that is blind look alike, and of one without a level.
    """
    added = [f for f in features if f.direction == "add" and f.id in searched.gains]
    if searched.sight.level is None or searched.sight.binary or not added:
        return None
    edits = judged_edits(subject, added, searched.split.reported, searched.sight)
    every = np.concatenate([of.seen() for of in edits.values()])
    return share if every.size and (share := float(every.mean())) >= SEES else None


def presence(seen: np.ndarray, hit: float | None, false_alarm: float | None) -> np.ndarray:
    """How likely each image shows a feature, given how often the judge is known to be wrong; (images,), 0 to 1.

    The judge's word as it is where either share is not known.
    """
    if hit is None or false_alarm is None:
        return np.asarray(seen, dtype=np.float64)
    return chance_shown(seen, hit, false_alarm)


def both_ways(measured: Measured, feature: Feature) -> np.ndarray:
    """do(1) − do(0) of a feature on each image, (images,); NaN where neither arm was measured.

    On the images without it by its own edit, on the others by its edit the other way where that was made. An arm of
    which fewer edits than the study's `min_edit_success` did what they were meant to has measured nothing.
    """
    searched, sign = measured.searched, 1.0 if feature.direction == "add" else -1.0
    changed, least = searched.without[feature.id], measured.study.effects.min_edit_success
    found = np.full(changed.size, math.nan)
    succeeded = measured.succeeded.get(feature.id)
    if changed.any() and (succeeded is None or succeeded[changed].mean() >= least):
        found[changed] = sign * measured.paired[feature.id].effect[changed]
    other = searched.reversed.get(feature.id)
    if other is not None and other.succeeded.size and other.succeeded.mean() >= least:
        found[~changed] = -sign * other.effect
    return found


def _known(effects: np.ndarray) -> bool:
    """Whether there is a mean to speak of: two images."""
    return int(np.isfinite(effects).sum()) >= 2


def least_explained(measured: Measured, found: Explained, album: Album) -> list[Unexplained]:
    """The images whose outputs are furthest from what the features predict, the furthest first."""
    outputs, predicted = measured.searched.paired[()].null, found.by_effects.values
    furthest = sorted(range(len(outputs)), key=lambda i: -abs(float(outputs[i] - predicted[i])))[:FURTHEST]
    samples = list(album.pictures.samples.stored.items())
    return [
        Unexplained(
            image=samples[i][0],
            file=album.files.get(samples[i][0], ""),
            score=float(outputs[i]),
            predicted=float(predicted[i]),
            shows=_shows(measured.features, found.weights, i),
            picture=samples[i][1],
        )
        for i in furthest
    ]


def _shows(features: Sequence[Feature], weights: Mapping[str, np.ndarray], image: int) -> tuple[str, ...]:
    """Names of the features that an image shows, the finest of each branch, in the order of the list."""
    return tuple(f.name for f in features if f.id in weights and weights[f.id][image] >= 0.5)


def _node(feature: Feature) -> Node:
    return Node(feature.id, feature.one_of, tuple(_node(child) for child in feature.children))


def embedded(subject: Subject, images: Sequence[str]) -> tuple[str, np.ndarray | None, str]:
    """What embeds pictures, and the embedding of each null edit, (images, numbers); None where no judge does.

    Kept in the store: a report that is made again embeds nothing. A report does not depend on it: where it cannot be
    made, the third value says why ("" where all went well, and where no judge has one).
    """
    for judge in (subject.judge, subject.second_judge):
        embeds: Embeds | None = getattr(judge, "embeddings", None)
        if judge is None or embeds is None:
            continue
        name = judge_name(judge)
        try:
            return name, _embedding(subject, images, judge.fingerprint, embeds), ""
        except CANNOT_EMBED as error:
            return name, None, one_line(str(error)) or type(error).__name__
    return "", None, ""


def _embedding(subject: Subject, images: Sequence[str], judge: str, embeds: Embeds) -> np.ndarray:
    """The embedding of each null edit, (images, numbers), asking the judge only for what the store does not hold."""
    store, editor = subject.store, subject.editor.fingerprint
    requests = edit_requests(images, [()], [subject.study.seed])
    keys = [edit_key(request, editor) for request in requests]
    known = store.stored_embeddings(keys, judge)
    if missing := [(key, request) for key, request in zip(keys, requests, strict=True) if key not in known]:
        if store.reading:
            raise StoreError("it is not in the database, which is only read here")
        files = store.stored_edits([request for _, request in missing], editor)
        pictures = InOrder([StoredPicture(store.pictures, files[request]) for _, request in missing])
        new = dict(zip((key for key, _ in missing), embeds(pictures), strict=True))
        store.put_embeddings(new, judge)
        known |= new
    return np.stack([known[key] for key in keys])
