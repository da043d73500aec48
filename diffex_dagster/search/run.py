"""The whole search, driven by a callback: the stages run the same functions level by level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.search.joint import JointResult, grow_joint
from diffex_dagster.search.levels import (
    GateOutcome,
    depth,
    expand,
    gate,
    kept_ids,
    level1_features,
    next_level,
    survivors,
)
from diffex_dagster.search.options import SearchOptions

Score = Callable[[Sequence[tuple[Feature, ...]]], Mapping[tuple[str, ...], NDArray[np.float64]]]


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and what it asked for on the way.

    Attributes:
        scores: feature id -> d of shape (images,), for every single feature that was edited.
        gate: what the gate made of each level-1 group.
        deeper: what the refilled beam made of the nodes below, one list for each level.
        expanded: ids of the nodes that were expanded, in order.
        survivors: the features that a joint combination may use.
        joint: the best joint combination, if any beats its best member.
        asked: how many feature sets were edited; times the images, the edits made.
    """

    scores: dict[str, NDArray[np.float64]]
    gate: tuple[GateOutcome, ...]
    deeper: tuple[tuple[GateOutcome, ...], ...]
    expanded: tuple[str, ...]
    survivors: tuple[Feature, ...]
    joint: JointResult | None
    asked: int


def search(
    corpus: Corpus, score: Score, options: SearchOptions | None = None, *, noise_floor: float = 0.0
) -> SearchResult:
    """DiffEx: level-1 scores, gate, expansion of the beam level by level, joint combination.

    Args:
        score: edits and scores feature sets (the features of one set are edited together); the answer maps the ids of
            each set, in canonical order, to d of shape (images,). Every set is asked for once.
        noise_floor: mean |d| that editing noise alone reaches, in the unit of d.
    """
    options = options or SearchOptions()
    scores: dict[str, NDArray[np.float64]] = {}
    asked = 0

    def ask(features: Sequence[Feature]) -> None:
        nonlocal asked
        new = list({feature.id: feature for feature in features if feature.id not in scores}.values())
        if new:
            answers = score([(feature,) for feature in new])
            scores.update({feature.id: answers[(feature.id,)] for feature in new})
            asked += len(new)

    def ask_joint(combinations: Sequence[tuple[Feature, ...]]) -> Mapping[tuple[str, ...], NDArray[np.float64]]:
        nonlocal asked
        asked += len(combinations)
        return score(combinations)

    # 1. Score the groups.
    ask([feature for probes in level1_features(corpus, options).values() for feature in probes])
    # 2. Gate them, expand the beam.
    level1 = gate(scores, corpus, noise_floor, options)
    expanded = kept_ids(level1)
    ask(expand(corpus, expanded, options))
    # 3. Refill the beam at every deeper level.
    deeper = []
    for _ in range(2, depth(corpus)):
        outcomes = next_level(scores, corpus, expanded, noise_floor, options)
        kept = kept_ids(outcomes)
        if not kept:
            break
        deeper.append(tuple(outcomes))
        ask(expand(corpus, kept, options))
        expanded += kept
    # 4. Grow the joint combination.
    alive = survivors(scores, corpus, expanded, noise_floor, options)
    joint = grow_joint(alive, scores, ask_joint, options)
    return SearchResult(scores, tuple(level1), tuple(deeper), tuple(expanded), tuple(alive), joint, asked)
