"""The whole search, driven by a callback: the stages run the same functions level by level."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.search.algorithm1 import grow_published
from diffex_dagster.search.joint import JointResult, grow_joint
from diffex_dagster.search.levels import (
    UNJUDGED,
    Floor,
    GateOutcome,
    Judged,
    candidates,
    depth,
    expand,
    floor_of,
    gate,
    kept_ids,
    level1_features,
    next_level,
    survivors,
    unexpanded,
)
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.search.racing import Kind, Need, Race

Answers = Mapping[tuple[str, ...], NDArray[np.float64]]
Score = Callable[..., Answers]  # (feature sets) or, under racing, (feature sets, images)


@dataclass(frozen=True)
class SearchResult:
    """What a search found, and what it asked for on the way.

    Attributes:
        scores: feature id -> d of shape (images,), for every single feature that was edited. Under racing, of fewer
            images (the first of the race's order) for those in `race.left`.
        gate: what the gate made of each level-1 group.
        deeper: what the refilled beam made of the nodes below, one list for each level.
        expanded: ids of the nodes that were expanded, in order.
        survivors: the features that a joint combination may use.
        joint: the best joint combination, if any beats its best member.
        asked: how many feature sets were edited.
        edits: how many edits that succeeded: one a feature set and image.
        race: how the images were spent, under racing.
    """

    scores: dict[str, NDArray[np.float64]]
    gate: tuple[GateOutcome, ...]
    deeper: tuple[tuple[GateOutcome, ...], ...]
    expanded: tuple[str, ...]
    survivors: tuple[Feature, ...]
    joint: JointResult | None
    asked: int
    edits: int = 0
    race: Race | None = None


def search(
    corpus: Corpus,
    score: Score,
    options: SearchOptions | None = None,
    *,
    noise_floor: Floor = 0.0,
    judged: Callable[[Sequence[Feature]], Judged] | None = None,
    race: Race | None = None,
) -> SearchResult:
    """DiffEx: level-1 scores, gate, expansion of the beam level by level, joint combination.

    Args:
        score: edits and scores feature sets (the features of one set are edited together); the answer maps the ids of
            each set, in canonical order, to d of shape (images,). Every set is asked for once. Under racing it is also
            called as `score(feature sets, images)` with the numbers of the images that d is wanted of, and each set is
            asked for once an image.
        noise_floor: mean |d| that editing noise alone reaches, in the unit of d.
        judged: says of scored features which of them have edits that do not show them, and which images lack them;
            asked for what the magnitude gate chooses from. None where nobody judges edits.
        race: under racing, a new one (`new_race`), which the search runs.

    Raises:
        ValueError: the options ask for racing, and there is no race; or there is one, and they do not.
    """
    options = options or SearchOptions()
    if (options.allocation == "racing") != (race is not None):
        raise ValueError("racing needs a race (new_race), and no other allocation has one")
    scores: dict[str, NDArray[np.float64]] = {}
    known = UNJUDGED
    asked = edits = 0

    def ask(features: Sequence[Feature], gated: Mapping[str, tuple[Feature, ...]]) -> None:
        """Score new features; `gated` are the nodes that a gate will choose from, with what they are scored by."""
        nonlocal asked, edits
        new = list({feature.id: feature for feature in features if feature.id not in scores}.values())
        if not new:
            return
        asked += len(new)
        if race:
            race.run([feature.id for feature in new], _beam_need(gated, noise_floor, options), score_on)
            scores.update(race.result())
            return
        answers = score([(feature,) for feature in new])
        scores.update({feature.id: answers[(feature.id,)] for feature in new})
        edits += sum(len(scores[feature.id]) for feature in new)

    def score_on(ids: Sequence[str], images: Sequence[int]) -> Mapping[str, NDArray[np.float64]]:
        answers = score([(corpus[feature_id],) for feature_id in ids], images)
        return {feature_id: answers[(feature_id,)] for feature_id in ids}

    def ask_joint(combinations: Sequence[tuple[Feature, ...]]) -> Answers:
        nonlocal asked, edits
        answers = score(combinations)
        asked += len(combinations)
        edits += sum(len(d) for d in answers.values())
        return answers

    def judge(nodes: Mapping[str, tuple[Feature, ...]]) -> Judged:
        nonlocal known
        by = {feature.id: feature for features in nodes.values() for feature in features if feature.id in scores}
        if judged and by and options.gate == "magnitude":
            new = judged(list(by.values()))
            known = Judged({**known.failed, **new.failed}, {**known.without, **new.without}, new.level)
        return known

    def probes_of(level: int) -> list[Feature]:
        """What the nodes of a level compete by, besides themselves."""
        nodes = candidates(corpus, expanded, options, level)
        return [feature for features in nodes.values() for feature in features]

    # 1. Score the groups.
    groups = level1_features(corpus, options)
    ask([feature for probes in groups.values() for feature in probes], groups)
    # 2. Gate them, expand the beam.
    level1 = gate(scores, corpus, noise_floor, options, judge(groups))
    expanded = kept_ids(level1)
    ask([*expand(corpus, expanded, options), *probes_of(2)], candidates(corpus, expanded, options, 2))
    # 3. Refill the beam at every deeper level.
    deeper = []
    for level in range(2, depth(corpus)):
        judge(candidates(corpus, expanded, options, level))
        outcomes = next_level(scores, unexpanded(corpus, expanded, level), noise_floor, options, known)
        kept = kept_ids(outcomes)
        if outcomes:
            deeper.append(tuple(outcomes))
        expanded += kept
        below = candidates(corpus, expanded, options, level + 1)
        ask([*expand(corpus, kept, options), *probes_of(level + 1)], below)
    if race:  # which are strongest is asked over all levels at once
        race.run([], [_top_need(race.seen, options)], score_on)
        scores.update(race.result())
    # 4. Grow the joint combination.
    alive = survivors(scores, corpus, expanded, noise_floor, options, known.failed)
    if race:  # a combination is compared with its members, on the same images
        measured = set(race.finalists())
        alive = [feature for feature in alive if feature.id in measured]
    if options.joint_search == "published":
        joint = grow_published(corpus, alive, scores, ask_joint, options)
    else:
        joint = grow_joint(alive, scores, ask_joint, options)
    edits += race.spent if race else 0
    return SearchResult(scores, tuple(level1), tuple(deeper), tuple(expanded), tuple(alive), joint, asked, edits, race)


def new_race(
    corpus: Corpus,
    order: Sequence[int],
    options: SearchOptions,
    reach: tuple[float, float] = (-1.0, 1.0),
    before: Sequence[float] = (),
) -> Race | None:
    """A race of all editable features of a corpus, for one search; None where the options ask for no racing.

    Args:
        order: the numbers of all images in the random order in which they are spent.
        reach, before: what d cannot leave, and the measure of the null edits; see `Race`.

    Raises:
        ValueError: racing without the order of the images.
    """
    if options.allocation != "racing":
        return None
    if not order:
        raise ValueError("racing needs the order of the images")
    return Race(order, sum(feature.editable for feature in corpus.walk()), options, *reach, before)


def _top_need(ids: Iterable[str], options: SearchOptions) -> Need:
    """The strongest features of all that were measured."""
    competitors = {feature_id: (feature_id,) for feature_id in ids}
    return Need(competitors, options.racing_top, "effect", finish=True, tolerance=options.racing_tolerance)


def _beam_need(gated: Mapping[str, tuple[Feature, ...]], noise_floor: Floor, options: SearchOptions) -> list[Need]:
    """The features of the next beam; nothing to find out where there is a place for each."""
    beam = {node: tuple(feature.id for feature in features) for node, features in gated.items() if features}
    if options.places is None or len(beam) <= options.places:
        return []
    kinds: dict[str, Kind] = {"signed": "signed", "absolute": "effect", "magnitude": "magnitude"}
    floors = {"signed": options.delta, "absolute": -math.inf, "magnitude": floor_of(noise_floor, 1)}
    kind, floor = kinds[options.gate], floors[options.gate]
    tolerance = options.racing_gate_tolerance
    return [Need(beam, options.places, kind, finish=False, tolerance=tolerance, floor=floor)]
