"""Stage: edit the strongest features the other way, on the pictures that their own edits cannot change.

An edit that adds an attribute says nothing of the pictures that show it already: from those it is taken away. Both arms
together are do(1) − do(0) (`effects.presence.both_arms`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.effects.presence import Mask, enough
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.edits import Concepts, EditCounts, edit_requests, make_edits
from diffex_dagster.stages.judging import chance_of, gains, strengths_on
from diffex_dagster.stages.scores import paired_scores
from diffex_dagster.study import Study

SHARE = 0.1
"""Of the search's own edits: no more are made the other way."""


@dataclass(frozen=True)
class OtherWay:
    """A feature's edit the other way, on the images that its own edit cannot change, in their order.

    Attributes:
        effect: d, (those images,).
        succeeded: whether each of these edits does what it was meant to.
    """

    effect: NDArray[np.float64]
    succeeded: Mask


def other_way(concepts: Concepts) -> Concepts:
    """What is added is removed, and the other way round."""
    return tuple(replace(c, direction="remove" if c.direction == "add" else "add") for c in concepts)


def chosen_features(
    study: Study,
    effects: Mapping[str, NDArray[np.float64]],
    without: Mapping[str, Mask],
    succeeded: Mapping[str, float],
    searched_edits: int,
) -> list[str]:
    """The features to edit the other way: the strongest, then those that too few pictures lack.

    Args:
        effects: feature -> D, (images,), in an order that settles ties.
        without: the images that its own edit can change.
        succeeded: share of its own edits on these that show it.
        searched_edits: how many edits the search asked for; `SHARE` of them is what these may cost.
    """
    if not study.editor_part.makes_edits:
        return []  # what another tool did not make cannot be made
    level, most = study.effects.level, study.effects.absence
    tested = [f for f in effects if enough(without[f], level) and succeeded[f] >= study.effects.min_edit_success]
    strongest = sorted(tested, key=lambda f: -abs(float(effects[f][without[f]].mean())))[:most]
    common = [f for f in effects if not enough(without[f], level)][:most]
    left, found = int(SHARE * searched_edits), []
    for feature in [*strongest, *common]:
        cost = int((~without[feature]).sum()) * len(study.seeds)
        if 0 < cost <= left:
            found.append(feature)
            left -= cost
    return found


def edit_other_way(
    subject: Subject, chosen: Mapping[str, Concepts], images: Mapping[str, Sequence[str]], chances: Mapping[str, float]
) -> tuple[dict[str, OtherWay], EditCounts, int]:
    """Edit, score and judge these features the other way.

    Args:
        chosen: feature -> its own edit.
        images: feature -> keys of the images that show it already.
        chances: setting -> gain in evidence that an edit has to exceed to count (`judging.control_gains`).

    Returns:
        Feature -> what the edits did; what they cost; how many pictures were scored now.
    """
    asked = [r for f, of in chosen.items() for r in edit_requests(images[f], [other_way(of)], subject.seeds)]
    counts, scored, found = make_edits(subject, asked, "edits the other way"), 0, {}
    for feature, of in chosen.items():
        concepts, on = other_way(of), images[feature]
        paired, count = paired_scores(subject, [concepts], on)
        gain = gains(subject, [(concepts, concepts[0])], on)
        strength = strengths_on(subject, [concepts], on)[concepts]
        rose = gain[concepts, concepts[0]] > chance_of(chances, concepts[0])
        succeeded = rose & (strength >= subject.study.effects.min_edit_strength)
        found[feature] = OtherWay(paired[concepts].effect, succeeded)
        scored += count
    return found, counts, scored
