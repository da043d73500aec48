"""The levels of the search: what is edited, what the gate keeps, what is expanded next.

Scores are `{feature id: d}` with d of shape (images,), the paired differences f(edit) − f(null) of `effects.paired`.
Every function is pure and its order is the corpus's own order or a ranking with ties in that order, so that the same
scores always lead to the same edits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.effects.presence import Mask, enough
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.utils.lines import decimals

Scores = Mapping[str, NDArray[np.float64]]
Floor = float | Callable[..., float]
"""Mean |d| that editing noise alone reaches, or that for the strongest of so many edits, of a mean over so many images
where it is not over all (`effects.noise`)."""
Failed = Mapping[str, float]
"""Features whose edits were made and do not show them -> the share of edits that do."""
Without = Mapping[str, Mask]
"""Features -> which images their edits can change: those that do not show them already."""


@dataclass(frozen=True)
class Judged:
    """What a judge says of scored features: whose edits do not show them, and which images lack them.

    Features of which nothing is said are missing, all of them where nobody judges. Only the magnitude gate asks.

    Attributes:
        level: the error rate of the study's claims, which decides how few images are too few (`presence.enough`).
    """

    failed: Failed = field(default_factory=dict)
    without: Without = field(default_factory=dict)
    level: float = 0.05


UNJUDGED = Judged()


def floor_of(floor: Floor, edits: int, images: int | None = None) -> float:
    """The noise floor of the strongest of so many edits; of a mean over `images` where it is not over all."""
    if not callable(floor):
        return floor
    return floor(edits) if images is None else floor(edits, images)


@dataclass(frozen=True)
class NodeScore:
    """How strongly the edits that stand for a node move the classifier.

    Attributes:
        magnitude: mean |d| of the strongest stand-in.
        signed: mean d of the stand-in with the largest mean d (the paper looks upwards only).
        absolute: |mean d| of the stand-in where it is largest (the authors' released code).
        by: names of the features it was measured on, the node's own name if it is editable.
        success: the largest share of edits that show their stand-in, where none of them has enough; None otherwise.
        images: how many images the strongest stand-in was measured on, where some show it already; None for all.
        there: the least share of images that show a stand-in already, where too few lack any; None otherwise.
    """

    feature: Feature
    magnitude: float
    signed: float
    absolute: float
    by: tuple[str, ...]
    success: float | None = None
    images: int | None = None
    there: float | None = None


@dataclass(frozen=True)
class GateOutcome:
    """Whether the beam kept a node, and why, in words for the report.

    `magnitude` is None if nothing was scored; `floor` is the noise floor that it was held against, of as many edits and
    over as many images as it was measured with: None under gates without one.
    """

    feature: str
    kept: bool
    reason: str
    magnitude: float | None
    floor: float | None = None


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


def competitors(feature: Feature, options: SearchOptions) -> tuple[Feature, ...]:
    """The features by which a node competes for a place in the beam: `options.probes` for every node that has so many.

    A node that is an edit itself competes with it and with its children: a coarse word is often drawn as one of its
    kinds, or not at all, and one edit against the strongest of several would be no fair match. Under the gates of the
    paper and of its authors' code such a node competes with its own edit alone.
    """
    own = stand_ins(feature, options)
    if not feature.editable or options.gate != "magnitude" or options.probes < 2:
        return own
    below = stand_ins(replace(feature, editable=False), options.replaced(probes=options.probes - 1))
    return (*own, *below)


def level1_features(corpus: Corpus, options: SearchOptions) -> dict[str, tuple[Feature, ...]]:
    """Group id -> the features edited to score it at level 1; empty for a group with nothing to edit."""
    return {group.id: competitors(group, options) for group in corpus.groups}


def score_node(
    feature: Feature,
    scores: Scores,
    options: SearchOptions,
    judged: Judged = UNJUDGED,
    floor: Floor = 0.0,
) -> NodeScore | None:
    """Score a node by its competitors that have been scored; None if none has.

    The strongest speaks for the node (not their average): one child that matters is reason enough to look at the
    others. Those whose edits do not show them say nothing of the classifier and are left out while others do, and so do
    those that too few images lack. Each is measured on the images that lack it, the strongest against its own floor.
    """
    scored = [probe for probe in competitors(feature, options) if probe.id in scores]
    if not scored:
        return None
    failed, without = judged.failed, judged.without
    open_ = [probe for probe in scored if probe.id not in without or enough(without[probe.id], judged.level)]
    shown = [probe for probe in open_ if probe.id not in failed]
    success = there = None
    if not open_:
        there = min(1.0 - float(np.mean(without[probe.id])) for probe in scored)
    elif not shown:
        success = max(failed[probe.id] for probe in open_)
    scored = shown or scored
    seen = {p.id: scores[p.id][without[p.id]] if p.id in without and shown else scores[p.id] for p in scored}
    magnitudes = {p.id: float(np.mean(np.abs(seen[p.id]))) for p in scored}
    few = {p.id: len(seen[p.id]) if len(seen[p.id]) < len(scores[p.id]) else None for p in scored}
    strongest = max(magnitudes, key=lambda p: magnitudes[p] - floor_of(floor, len(scored), few[p]))
    means = [float(np.mean(d)) for d in seen.values()]
    return NodeScore(
        feature,
        magnitudes[strongest],
        max(means),
        max(map(abs, means)),
        tuple(probe.name for probe in scored),
        success,
        few[strongest],
        there,
    )


def gate(
    scores: Scores,
    corpus: Corpus,
    noise_floor: Floor,
    options: SearchOptions,
    judged: Judged = UNJUDGED,
) -> list[GateOutcome]:
    """Choose the level-1 groups that enter the beam.

    Magnitude gate: the groups above the noise floor, the furthest above it first. Places that are left go to groups of
    whose edits never succeeded (of them nothing is known), then to those that moved the classifier, though not above
    the floor: an edit that is made is better than a place that stays empty.

    Args:
        scores: d of every feature of `level1_features`; features that are missing count as not scored.
        noise_floor: used by the magnitude gate.
        judged: features whose edits fail are passed over, and a feature is measured on the images that lack it; both
            by the magnitude gate alone.

    Returns:
        One outcome for each group, the strongest first, ties and groups without a score in the order of the corpus.
    """
    return _gate(dict.fromkeys(corpus.groups), scores, noise_floor, options, judged)


def _gate(
    nodes: Mapping[Feature, Feature | None],
    scores: Scores,
    noise_floor: Floor,
    options: SearchOptions,
    judged: Judged,
) -> list[GateOutcome]:
    """`gate` for nodes of any level, each with its parent."""
    signed, absolute = options.gate == "signed", options.gate == "absolute"
    measured: list[tuple[NodeScore, int, float, str]] = []  # node, kind (0 passes), rank within the kind, why
    unscored: list[GateOutcome] = []
    for node, parent in nodes.items():
        of_edits = (judged, noise_floor) if options.gate == "magnitude" else ()
        found = score_node(node, scores, options, *of_edits)
        if found is None:
            reason = "not scored" if competitors(node, options) else "neither it nor anything below it can be edited"
            unscored.append(GateOutcome(node.id, False, reason, None))
        elif signed:
            passes, why = _passes_signed(found, scores, options, parent)
            measured.append((found, 0 if passes else _OUT, found.signed, why))
        elif absolute:
            measured.append((found, 0, found.absolute, f"|mean d| {_said(found.absolute)[0]}"))
        else:
            kind, why = _passes_magnitude(found, noise_floor)
            measured.append((found, kind, found.magnitude - floor_of(noise_floor, len(found.by), found.images), why))

    places: list[str] = []
    for kind in (0, _UNKNOWN, _BELOW):
        of_kind = [each for each in measured if each[1] == kind]
        of_kind.sort(key=lambda each: each[2], reverse=True)  # stable: ties keep corpus order
        places += [found.feature.id for found, *_ in of_kind]
    kept = set(places[: options.places])

    outcomes = []
    for found, kind, _, why in sorted(measured, key=lambda each: each[2], reverse=True):
        feature = found.feature
        if feature.id in kept and kind != 0:
            why += ", but the beam had a free place" if options.places else ", but there is a place for every group"
        elif kind == 0 and feature.id not in kept:
            why += f", but the beam of {options.places} was full"
        if found.by != (feature.name,):
            why += f" (measured on {', '.join(found.by)})"
        floor = floor_of(noise_floor, len(found.by), found.images) if options.gate == "magnitude" else None
        outcomes.append(GateOutcome(feature.id, feature.id in kept, why, found.magnitude, floor))
    return outcomes + unscored


_UNKNOWN, _BELOW, _OUT = 1, 2, 3  # what a node that does not pass the gate is: unknown, weak, out for good


def _passes_magnitude(node: NodeScore, noise_floor: Floor) -> tuple[int, str]:
    """0 where the node passes, or why not."""
    if node.success is not None:
        return _UNKNOWN, f"at most {node.success:.0%} of its edits show it, so that they say nothing of it"
    if node.there is not None:
        return _UNKNOWN, f"{node.there:.0%} of the images show it already, so that its edits say nothing of it"
    if node.magnitude == 0.0:
        return _OUT, "no image moved"
    floor = floor_of(noise_floor, len(node.by), node.images)
    passes = node.magnitude > floor
    where = "above" if passes else "not above"
    on = "" if node.images is None else f" on the {node.images} images without it"
    magnitude, limit = _said(node.magnitude, floor)
    return 0 if passes else _BELOW, f"mean |d| {magnitude}{on} {where} the noise floor {limit}"


def _passes_signed(node: NodeScore, scores: Scores, options: SearchOptions, parent: Feature | None) -> tuple[bool, str]:
    mean, threshold = _said(node.signed, options.delta, signed=True)
    if node.signed < options.delta:
        return False, f"mean d {mean} below the threshold {threshold}"
    why = f"mean d {mean} at or above the threshold {threshold}"
    if parent is not None and parent.id in scores:
        of_parent = float(np.mean(scores[parent.id]))
        mean, above = _said(node.signed, of_parent, signed=True)
        if node.signed <= of_parent:
            return False, f"mean d {mean} does not beat its parent's {above}"
        why += f" and above its parent's {above}"
    return True, why


def _said(*values: float, signed: bool = False) -> list[str]:
    """Numbers in as many decimals as the largest of them deserves."""
    at = decimals(values)
    return [f"{value:+.{at}f}" if signed else f"{value:.{at}f}" for value in values]


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
    scores: Scores,
    nodes: Mapping[Feature, Feature],
    noise_floor: Floor,
    options: SearchOptions,
    judged: Judged = UNJUDGED,
) -> list[GateOutcome]:
    """Refill the beam for a deeper level, among the nodes of that level whose parents were expanded.

    Args:
        scores: d of every feature scored so far.
        nodes: as of `unexpanded`.
        noise_floor, judged: as for `gate`.

    Returns:
        One outcome for each candidate, the strongest first. Published Algorithm 1 does not refill its beam; a strong
        child of a weak sibling would be lost.
    """
    return _gate(nodes, scores, noise_floor, options, judged)


def candidates(
    corpus: Corpus, expanded: Sequence[str], options: SearchOptions, level: int
) -> dict[str, tuple[Feature, ...]]:
    """What `next_level` chooses from, with the features that each is scored by."""
    return {child.id: competitors(child, options) for child in unexpanded(corpus, expanded, level)}


def unexpanded(corpus: Corpus, expanded: Sequence[str], level: int) -> dict[Feature, Feature]:
    """What may be expanded next: nodes of a level with children of their own -> their parents, which were expanded.

    Args:
        expanded: ids of all nodes expanded so far.
        level: of the nodes, 2 or more.
    """
    done = set(expanded)
    return {
        child: parent
        for parent in corpus.walk()
        if parent.id in done
        for child in parent.children
        if child.children and child.level == level
    }


def survivors(
    scores: Scores,
    corpus: Corpus,
    expanded: Sequence[str],
    noise_floor: Floor,
    options: SearchOptions,
    failed: Failed | None = None,
) -> list[Feature]:
    """The single features that a joint combination may use: editable, scored, and past the gate.

    A survivor belongs to an expanded node (or is a kept node itself). Magnitude gate: mean |d| above the noise floor,
    by edits that succeeded.
    Signed gate: f >= delta, and above its parent where the parent was edited. Absolute gate: all of them. In the order
    of the corpus.
    """
    done = set(expanded)
    alive: list[Feature] = []

    def visit(feature: Feature, parent: Feature | None, reached: bool) -> None:
        reached = reached or feature.id in done
        if feature.editable and reached and feature.id in scores:
            d = scores[feature.id]
            mean = float(np.mean(d))
            node = NodeScore(feature, float(np.mean(np.abs(d))), mean, abs(mean), (feature.name,))
            if options.gate == "signed":
                passes, _ = _passes_signed(node, scores, options, parent)
            elif options.gate == "absolute":
                passes = True
            else:
                passes = feature.id not in (failed or {}) and _passes_magnitude(node, noise_floor)[0] == 0
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
