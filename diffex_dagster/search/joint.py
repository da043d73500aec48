"""The joint combination: features of different groups, edited together, that move the classifier furthest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.search.levels import Scores
from diffex_dagster.search.options import SearchOptions

Combination = tuple[Feature, ...]
ScoreJoint = Callable[[list[Combination]], Mapping[tuple[str, ...], NDArray[np.float64]]]


@dataclass(frozen=True)
class JointStep:
    """One extension that was tried: the combination, its mean d, and whether it became the present combination."""

    features: tuple[str, ...]
    effect: float
    kept: bool


@dataclass(frozen=True)
class JointResult:
    """The best combination of at least two features.

    Attributes:
        features: its members, ordered by id.
        d: paired differences of the joint edit, shape (images,).
        effect: mean of d.
        direction: the direction it was grown in.
        steps: everything that was tried, in both directions, in the order it was tried.
    """

    features: Combination
    d: NDArray[np.float64]
    effect: float
    direction: Literal["raises", "lowers"]
    steps: tuple[JointStep, ...]


def most_combinations(groups: int, options: SearchOptions) -> int:
    """The most combinations that growing asks for, where features of so many groups survive."""
    heads = 2 if options.joint_directions == "both" else 1
    return heads * sum(max(0, min(options.joint_width, groups - size)) for size in range(1, options.joint_size))


def combination(features: Sequence[Feature]) -> Combination:
    """The canonical order of a feature set: by id, so that one set is one edit."""
    return tuple(sorted(features, key=lambda feature: feature.id))


def key(features: Sequence[Feature]) -> tuple[str, ...]:
    """Ids of a feature set in canonical order: how scores of combinations are looked up."""
    return tuple(feature.id for feature in combination(features))


def joint_candidates(
    present: Sequence[Feature], features: Sequence[Feature], scores: Scores, sign: int, options: SearchOptions
) -> list[Combination]:
    """The extensions of the present combination that are worth an edit.

    A feature qualifies when its group is not yet represented (two hair colours cannot both be drawn) and its own mean
    d goes the way of `sign`; the strongest `options.joint_width` are tried. A pure interaction, in which neither
    feature does anything alone, is therefore not found: that would take an edit of every pair.
    """
    used = {feature.group for feature in present}
    means = {feature.id: sign * float(np.mean(scores[feature.id])) for feature in features}
    open_ = [feature for feature in features if feature.group not in used and means[feature.id] > 0.0]
    open_.sort(key=lambda feature: means[feature.id], reverse=True)  # stable: ties keep corpus order
    return [combination((*present, feature)) for feature in open_[: options.joint_width]]


def grow_joint(
    features: Sequence[Feature], scores: Scores, score: ScoreJoint, options: SearchOptions
) -> JointResult | None:
    """Grow combinations greedily from the strongest single feature, keeping b' only if f(b') > f(b) (Algorithm 1).

    Both directions are grown unless the options say otherwise: what lowers the target most is not the opposite of what
    raises it most, and which of them has the larger effect depends on where the images start. The stronger of the two
    combinations is reported. `score` is asked for all extensions of one step at once, of both directions together.

    Args:
        features: the survivors of the search.
        scores: d of each of them, shape (images,).
        score: edits and scores combinations; its answer is keyed by the ids in canonical order (`key`).

    Returns:
        The combination, or None when no pair of features from different groups beats the better single feature. Its
        effect is the best of many on these images: report it from images that the search has not seen.
    """
    by_sign = {sign: _strongest(features, scores, sign) for sign in (1, -1)}
    heads = {sign: head for sign, head in by_sign.items() if head is not None}
    if options.joint_directions == "strongest" and len(heads) > 1:
        best = max(heads, key=lambda sign: sign * float(np.mean(scores[heads[sign].id])))
        heads = {best: heads[best]}

    present: dict[int, Combination] = {sign: (head,) for sign, head in heads.items()}
    d = {sign: np.asarray(scores[head.id], dtype=np.float64) for sign, head in heads.items()}
    growing = list(heads)
    steps: list[JointStep] = []
    for _ in range(options.joint_size - 1):
        asked = {sign: joint_candidates(present[sign], features, scores, sign, options) for sign in growing}
        batch = list({key(c): c for candidates in asked.values() for c in candidates}.values())
        if not batch:
            break
        answers = score(batch)
        still_growing = []
        for sign in growing:
            if not asked[sign]:
                continue
            means = [sign * float(np.mean(answers[key(c)])) for c in asked[sign]]
            winner = int(np.argmax(means))  # first of equals: the stronger single feature
            improved = means[winner] > sign * float(np.mean(d[sign])) + options.joint_gain
            for i, c in enumerate(asked[sign]):
                steps.append(JointStep(key(c), sign * means[i], improved and i == winner))
            if improved:
                present[sign] = asked[sign][winner]
                d[sign] = np.asarray(answers[key(present[sign])], dtype=np.float64)
                still_growing.append(sign)
        growing = still_growing

    grown = [sign for sign in present if len(present[sign]) > 1]
    if not grown:
        return None
    sign = max(grown, key=lambda s: s * float(np.mean(d[s])))
    effect = float(np.mean(d[sign]))
    return JointResult(present[sign], d[sign], effect, "raises" if sign > 0 else "lowers", tuple(steps))


def _strongest(features: Sequence[Feature], scores: Scores, sign: int) -> Feature | None:
    """The feature with the largest mean d in a direction, None if none moves that way."""
    moving = [feature for feature in features if sign * float(np.mean(scores[feature.id])) > 0.0]
    return max(moving, key=lambda feature: sign * float(np.mean(scores[feature.id])), default=None)
