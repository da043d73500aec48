"""The levels of the search: what is edited, what the gate keeps, what is expanded next.

Scores are `{feature id: d}` with d of shape (images,), the paired differences f(edit) − f(null) of `effects.paired`.
Every function is pure and its order is the corpus's own order or a ranking with ties in that order, so that the same
scores always lead to the same edits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.search.options import SearchOptions

Scores = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class NodeScore:
    """How strongly the edits that stand for a node move the classifier.

    Attributes:
        magnitude: mean |d| of the strongest stand-in.
        signed: mean d of the stand-in with the largest mean d (the paper looks upwards only).
        by: names of the features it was measured on, the node's own name if it is editable.
    """

    feature: Feature
    magnitude: float
    signed: float
    by: tuple[str, ...]


@dataclass(frozen=True)
class GateOutcome:
    """Whether the beam kept a node, and why, in words for the report. `magnitude` is None if nothing was scored."""

    feature: str
    kept: bool
    reason: str
    magnitude: float | None


def stand_ins(feature: Feature, options: SearchOptions) -> tuple[Feature, ...]:
    """The features that are edited to score a node: itself if editable, else `options.probes` of its descendants.

    Probes are the editable children, or the nearest level below that has any, picked at even distances from first to
    last: lists of values are often sorted (light to dark, short to long), and the ends differ most.
    """
    if feature.editable:
        return (feature,)
    level: Sequence[Feature] = feature.children
    while level:
        editable = [child for child in level if child.editable]
        if editable:
            return _spread(editable, options.probes)
        level = [grandchild for child in level for grandchild in child.children]
    return ()


def _spread(features: Sequence[Feature], count: int) -> tuple[Feature, ...]:
    if count >= len(features):
        return tuple(features)
    if count == 1:
        return (features[len(features) // 2],)
    return tuple(features[round(i * (len(features) - 1) / (count - 1))] for i in range(count))


def level1_features(corpus: Corpus, options: SearchOptions) -> dict[str, tuple[Feature, ...]]:
    """Group id -> the features edited to score it at level 1; empty for a group with nothing to edit."""
    return {group.id: stand_ins(group, options) for group in corpus.groups}


def score_node(feature: Feature, scores: Scores, options: SearchOptions) -> NodeScore | None:
    """Score a node by its stand-ins that have been scored; None if none has.

    The strongest stand-in speaks for the node (not their average): one child that matters is reason enough to look at
    the others.
    """
    scored = [probe for probe in stand_ins(feature, options) if probe.id in scores]
    if not scored:
        return None
    magnitudes = [float(np.mean(np.abs(scores[probe.id]))) for probe in scored]
    means = [float(np.mean(scores[probe.id])) for probe in scored]
    return NodeScore(feature, max(magnitudes), max(means), tuple(probe.name for probe in scored))


def score_groups(scores: Scores, corpus: Corpus, options: SearchOptions) -> dict[str, NodeScore | None]:
    """Group id -> its score, None for a group of which nothing was scored."""
    return {group.id: score_node(group, scores, options) for group in corpus.groups}


def gate(scores: Scores, corpus: Corpus, noise_floor: float, options: SearchOptions) -> list[GateOutcome]:
    """Choose the level-1 groups that enter the beam.

    Args:
        scores: d of every feature of `level1_features`; features that are missing count as not scored.
        noise_floor: mean |d| that editing noise alone reaches (`effects.noise`); used by the magnitude gate.

    Returns:
        One outcome for each group, the strongest first, ties and groups without a score in the order of the corpus.
    """
    return _gate(corpus.groups, scores, noise_floor, options, parents={})


def _gate(
    nodes: Sequence[Feature],
    scores: Scores,
    noise_floor: float,
    options: SearchOptions,
    parents: Mapping[str, Feature],
) -> list[GateOutcome]:
    scored: list[NodeScore] = []
    unscored: list[GateOutcome] = []
    for node in nodes:
        node_score = score_node(node, scores, options)
        if node_score is None:
            reason = "not scored" if stand_ins(node, options) else "neither it nor anything below it can be edited"
            unscored.append(GateOutcome(node.id, False, reason, None))
        else:
            scored.append(node_score)
    signed = options.gate == "signed"
    scored.sort(key=lambda s: s.signed if signed else s.magnitude, reverse=True)  # stable: ties keep corpus order

    outcomes = []
    places = options.beam
    for node_score in scored:
        if signed:
            passes, why = _passes_signed(node_score, scores, options, parents.get(node_score.feature.id))
        else:
            passes, why = _passes_magnitude(node_score, noise_floor)
        kept = passes and places > 0
        if passes and not kept:
            why += f", but the beam of {options.beam} was full"
        places -= kept
        if not node_score.feature.editable:
            why += f" (measured on {', '.join(node_score.by)})"
        outcomes.append(GateOutcome(node_score.feature.id, kept, why, node_score.magnitude))
    return outcomes + unscored


def _passes_magnitude(node: NodeScore, noise_floor: float) -> tuple[bool, str]:
    if node.magnitude == 0.0:
        return False, "no image moved"
    passes = node.magnitude > noise_floor
    where = "above" if passes else "not above"
    return passes, f"mean |d| {node.magnitude:.3f} {where} the noise floor {noise_floor:.3f}"


def _passes_signed(node: NodeScore, scores: Scores, options: SearchOptions, parent: Feature | None) -> tuple[bool, str]:
    if node.signed < options.delta:
        return False, f"mean d {node.signed:+.3f} below the threshold {options.delta:+.3f}"
    why = f"mean d {node.signed:+.3f} at or above the threshold {options.delta:+.3f}"
    if parent is not None and parent.id in scores:
        of_parent = float(np.mean(scores[parent.id]))
        if node.signed <= of_parent:
            return False, f"mean d {node.signed:+.3f} does not beat its parent's {of_parent:+.3f}"
        why += f" and above its parent's {of_parent:+.3f}"
    return True, why


def kept_ids(outcomes: Iterable[GateOutcome]) -> list[str]:
    """Ids of the nodes that the gate kept, the strongest first."""
    return [outcome.feature for outcome in outcomes if outcome.kept]


def expand(corpus: Corpus, kept: Sequence[str], options: SearchOptions | None = None) -> list[Feature]:
    """The features to edit at the next level: the children of the kept nodes, in the order of `kept`.

    A child whose own name is not an edit is replaced by its stand-ins. Children that were already edited as stand-ins
    of their parent are in the list too: what exists is the store's business.
    """
    options = options or SearchOptions()
    found: dict[str, Feature] = {}
    for node_id in kept:
        for child in corpus[node_id].children:
            for feature in stand_ins(child, options):
                found.setdefault(feature.id, feature)
    return list(found.values())


def next_level(
    scores: Scores, corpus: Corpus, expanded: Sequence[str], noise_floor: float, options: SearchOptions
) -> list[GateOutcome]:
    """Refill the beam for a deeper level, among the children scored so far that have children of their own.

    Args:
        scores: d of every feature scored so far.
        expanded: ids of all nodes expanded so far; their children are the candidates, those in `expanded` excepted.

    Returns:
        One outcome for each candidate, the strongest first; empty when no candidate is left, which ends the search.
        Published Algorithm 1 does not refill its beam; a strong child of a weak sibling would be lost.
    """
    parents = _unexpanded(corpus, expanded)
    return _gate([corpus[child] for child in parents], scores, noise_floor, options, parents)


def candidates(corpus: Corpus, expanded: Sequence[str], options: SearchOptions) -> dict[str, tuple[Feature, ...]]:
    """What `next_level` chooses from, with the features that each is scored by."""
    return {child: stand_ins(corpus[child], options) for child in _unexpanded(corpus, expanded)}


def _unexpanded(corpus: Corpus, expanded: Sequence[str]) -> dict[str, Feature]:
    """Children of expanded nodes that have children of their own and are not expanded yet -> their parents."""
    done = set(expanded)
    return {
        child.id: parent
        for parent in corpus.walk()
        if parent.id in done
        for child in parent.children
        if child.children and child.id not in done
    }


def survivors(
    scores: Scores, corpus: Corpus, expanded: Sequence[str], noise_floor: float, options: SearchOptions
) -> list[Feature]:
    """The single features that a joint combination may use: editable, scored, and past the gate.

    A survivor belongs to an expanded node (or is a kept node itself). Magnitude gate: mean |d| above the noise floor.
    Signed gate: f >= delta, and above its parent where the parent was edited. In the order of the corpus.
    """
    done = set(expanded)
    alive: list[Feature] = []

    def visit(feature: Feature, parent: Feature | None, reached: bool) -> None:
        reached = reached or feature.id in done
        if feature.editable and reached and feature.id in scores:
            node = score_node(feature, scores, options)
            assert node is not None  # the feature is editable and scored
            if options.gate == "signed":
                passes, _ = _passes_signed(node, scores, options, parent)
            else:
                passes, _ = _passes_magnitude(node, noise_floor)
            if passes:
                alive.append(feature)
        for child in feature.children:
            visit(child, feature, reached)

    for group in corpus.groups:
        visit(group, None, False)
    return alive


def depth(corpus: Corpus) -> int:
    """The deepest level of the corpus: 2 for groups with children."""
    return max((feature.level for feature in corpus.walk()), default=0)
