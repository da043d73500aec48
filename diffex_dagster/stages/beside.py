"""Stage: look for every other feature of the corpus in the edits of the features that a report may claim."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.effects.confounding import HALF, STRONG, is_yardstick, side_effects
from diffex_dagster.effects.presence import Mask, enough
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import concepts_of
from diffex_dagster.stages.judging import gains
from diffex_dagster.stages.searched import Searched
from diffex_dagster.study import Study

Crossed = dict[tuple[str, str], NDArray[np.float64]]


def look_beside(work: StudyContext, corpus: Corpus, searched: Searched, show: Collection[str]) -> Crossed:
    """The gain in evidence for other features in the edits of the strongest (`effects.side_effects` of them).

    A feature whose edits are a yardstick for it can be no more of another's effect than its own is: where that is less
    than half, it is not asked for, unless both are among the strongest. What has no such edits, or the search did not
    reach, always is.
    Where one edit contains much of the other feature, the edit of the other is asked for the first as well.

    Args:
        searched: judged, but for this.
        show: the features that their own edits show.

    Returns:
        (edited, looked for) -> gain, (images,).
    """
    images = searched.split.reported
    concept = {f.id: concepts_of([f]) for f in corpus.walk() if f.editable}
    effects = {f: searched.paired[concept[f]].beyond_control for f in searched.gains}
    on = _enough(work.study, searched)

    def ask(pairs: Sequence[tuple[str, str]]) -> Crossed:
        found = gains(work, [(concept[edited], concept[seen][0]) for edited, seen in pairs], images)
        return {(edited, seen): found[concept[edited], concept[seen][0]] for edited, seen in pairs}

    top = looked_into(work.study, corpus, searched, show)
    gained = {f: gain[on[f]] if f in on else gain for f, gain in searched.gains.items()}
    yardsticks = {f for f, gain in gained.items() if is_yardstick(gain)}
    crossed = ask(pairs_to_ask(top, list(concept), effects, yardsticks, on))
    known = {(f, f): gain for f, gain in searched.gains.items()} | crossed
    first = side_effects(effects, known, on=on)
    much = [(x.looked_for, x.edited) for x in first if abs(x.leak) >= STRONG]
    return crossed | ask([pair for pair in much if pair not in crossed])


def looked_into(study: Study, corpus: Corpus, searched: Searched, show: Collection[str]) -> list[str]:
    """The features in whose edits others are looked for: the strongest that may be claimed, as many as the study says.

    Args:
        searched: judged.
        show: the features that their own edits show.
    """
    effects = {f: searched.paired[concepts_of([corpus[f]])].beyond_control for f in searched.gains}
    return strongest_to_claim(effects, show, _enough(study, searched))[: study.effects.side_effects]


def _enough(study: Study, searched: Searched) -> dict[str, Mask]:
    """Feature -> the images that its edits can change, where these are as many as a claim takes."""
    return {f: mask for f, mask in searched.without.items() if enough(mask, study.effects.level)}


def strongest_to_claim(
    effects: Mapping[str, NDArray[np.float64]], show: Collection[str], on: Mapping[str, Mask]
) -> list[str]:
    """The features that a report may claim an effect of, the strongest first.

    An effect within 1.5 standard errors of none cannot be claimed at any level up to 10%.

    Args:
        effects: D of the features, (images,).
        show: those of them that their own edits show.
        on: feature -> the images that its effect is over; all of one that is missing.
    """
    means = {}
    for feature in (f for f in effects if f in show):
        d = effects[feature][on[feature]] if feature in on else effects[feature]
        if d.size > 1 and abs(d.mean()) > 1.5 * d.std(ddof=1) / math.sqrt(d.size):
            means[feature] = abs(float(d.mean()))
    return sorted(means, key=lambda f: -means[f])


def pairs_to_ask(
    top: Sequence[str],
    every: Sequence[str],
    effects: Mapping[str, NDArray[np.float64]],
    yardsticks: Collection[str],
    on: Mapping[str, Mask],
) -> list[tuple[str, str]]:
    """(edited, looked for) of different groups: within a group one feature replaces another.

    Args:
        top: the features in whose edits others are looked for.
        every: all features of the corpus that can be edited.
        effects: D of those that the search reached, (images,).
        yardsticks: those of them whose own edits are one (`effects.confounding.is_yardstick`).
        on: as in `strongest_to_claim`.
    """
    asked = []
    for edited in top:
        of = on.get(edited, np.ones(len(effects[edited]), dtype=bool))
        total = abs(float(effects[edited][of].mean()))
        for seen in every:
            if seen.split("/")[0] == edited.split("/")[0]:
                continue
            if seen in yardsticks and seen not in top:
                other = effects[seen][of]
                most = abs(float(other.mean())) + 2.0 * float(other.std()) / math.sqrt(other.size)
                if most < HALF * total:
                    continue
            asked.append((edited, seen))
    return asked
