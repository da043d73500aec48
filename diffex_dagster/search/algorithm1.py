"""Algorithm 1 of DiffEx as published (Kazimi et al., arXiv 2412.18604): a beam over combinations of keywords.

The beam starts with the best B single keywords with f ≥ δ. Each combination b in it is extended to b' by one keyword: a
sub-feature of one of its members (edited together with its parent), or another keyword of the first beam, of the same
group or not. b' is kept where f(b') > f(b), and the best B of what was kept are the next beam. It looks upwards only,
and every edit is asked for on every image: up to B (keywords + sub-features) combinations a step, which is why it is an
option here (`search.joint_search: published`) and not the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.search.joint import Combination, JointResult, JointStep, ScoreJoint, combination, key
from diffex_dagster.search.levels import stand_ins
from diffex_dagster.search.options import BEAM, SearchOptions

Found = Mapping[tuple[str, ...], NDArray[np.float64]]


def algorithm1(
    corpus: Corpus, start: Sequence[Feature], scores: Found, score: ScoreJoint, options: SearchOptions
) -> tuple[dict[tuple[str, ...], NDArray[np.float64]], list[JointStep]]:
    """Search combinations of at most `options.joint_size` keywords.

    Args:
        start: the single keywords that the first beam is chosen from.
        scores: d of each of them by key, shape (images,).
        score: edits and scores combinations, all those of one step at once.

    Returns:
        d of every combination that was kept, those of the first beam too, by key; and everything that was tried.
    """
    mean = {key((feature,)): float(np.mean(scores[key((feature,))])) for feature in start}
    passing: list[Combination] = [(feature,) for feature in start if mean[key((feature,))] >= options.delta]
    beam = sorted(passing, key=lambda c: -mean[key(c)])[: options.beam or BEAM]
    keywords = [feature for single in beam for feature in single]
    kept = {key(c): np.asarray(scores[key(c)], dtype=np.float64) for c in beam}
    tried: dict[tuple[str, ...], NDArray[np.float64]] = {}
    steps: list[JointStep] = []
    for _ in range(options.joint_size - 1):
        asked = {key(b): extensions(corpus, b, keywords, options) for b in beam}
        new = {key(c): c for of in asked.values() for c in of if key(c) not in tried}
        if not new:
            break
        tried |= {ids: np.asarray(d, dtype=np.float64) for ids, d in score(list(new.values())).items()}
        mean |= {ids: float(np.mean(tried[ids])) for ids in new}
        better: dict[tuple[str, ...], Combination] = {}
        for b in beam:
            for c in asked[key(b)]:
                improved = mean[key(c)] > mean[key(b)] + options.joint_gain
                steps.append(JointStep(key(c), mean[key(c)], improved))
                if improved:
                    better[key(c)] = c
        kept |= {ids: tried[ids] for ids in better}
        beam = sorted(better.values(), key=lambda c: -mean[key(c)])[: options.beam or BEAM]
    return kept, steps


def extensions(
    corpus: Corpus, present: Combination, keywords: Sequence[Feature], options: SearchOptions
) -> list[Combination]:
    """A combination with one more: a sub-feature of a member, or another keyword."""
    below = [each for member in present for child in corpus[member.id].children for each in stand_ins(child, options)]
    ids = {member.id for member in present}
    more = {feature.id: feature for feature in (*below, *keywords) if feature.id not in ids}
    return [combination((*present, feature)) for feature in more.values()]


def grow_published(
    corpus: Corpus,
    features: Sequence[Feature],
    scores: Mapping[str, NDArray[np.float64]],
    score: ScoreJoint,
    options: SearchOptions,
) -> JointResult | None:
    """The best combination that Algorithm 1 finds from the survivors of a search.

    Args:
        features: the survivors.
        scores: d of each of them, shape (images,).

    Returns:
        None when no combination of two or more was kept.
    """
    single = {key((feature,)): scores[feature.id] for feature in features}
    kept, steps = algorithm1(corpus, features, single, score, options)
    grown = {ids: d for ids, d in kept.items() if len(ids) > 1}
    if not grown:
        return None
    best = max(grown, key=lambda ids: float(np.mean(grown[ids])))  # the first of equals
    members = combination([corpus[feature] for feature in best])
    effect = float(np.mean(grown[best]))
    return JointResult(members, grown[best], effect, "raises" if effect > 0 else "lowers", tuple(steps))


def most_published(features: int, options: SearchOptions) -> int:
    """The most combinations that Algorithm 1 asks for, in a corpus of so many features."""
    return max(0, options.joint_size - 1) * (options.beam or BEAM) * features
