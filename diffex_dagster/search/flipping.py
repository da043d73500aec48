"""The smallest set of edits that flips the decision about one picture.

A beam search over sets of features of different groups. All single features are known; where none flips the picture,
sets of two are tried, then of three: each of the best sets so far is extended by features that push the picture the
same way, those first whose effects add up to most. The first size at which a set counts is the answer, and of the sets
of that size that were tried the one whose picture is closest to the picture before it.

What is promised: with single features it is exhaustive, so that no smaller set exists where one feature is enough. From
two on it is a beam: a set that works only because its members mean something together that none means alone may be
missed. A set that is found is no guess: it was edited, and the classifier's decision about that very picture differs.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from diffex_dagster.corpus.tree import Feature
from diffex_dagster.search.joint import Combination, combination, key


@dataclass(frozen=True)
class Outcome:
    """What one set of edits did to the picture.

    Attributes:
        moved: how far it moved the measure towards the other decision; below zero away from it.
        flips: the decision is another one.
        counts: so it is, the edit shows every attribute of the set, and it lies outside the noise.
        distance: from the picture before the edit; the closest of equal sets is preferred.
    """

    moved: float
    flips: bool
    counts: bool
    distance: float


@dataclass(frozen=True)
class FlipOptions:
    """How far the search goes.

    Attributes:
        most: features of a set, at most.
        beam: sets that are extended.
        tries: sets that are edited for each size above one, at most.
    """

    most: int = 3
    beam: int = 4
    tries: int = 16

    def most_sets(self) -> int:
        """Sets of more than one feature that are edited for one picture, at most."""
        return self.tries * max(0, self.most - 1)


@dataclass(frozen=True)
class Flips:
    """What the search found.

    Attributes:
        sets: the smallest sets that count, the closest picture first; empty where nothing that was tried does.
        unseen: sets that flip the decision and do not count, the closest first: of any size that was tried.
        tried: sets that were edited, single features included.
        size: features of the largest set that was tried.
        left: sets that were asked for and could not be made.
    """

    sets: tuple[tuple[str, ...], ...]
    unseen: tuple[tuple[str, ...], ...]
    tried: int
    size: int
    left: int = 0


Answers = Mapping[tuple[str, ...], Outcome]


def smallest_flips(
    features: Sequence[Feature], singles: Mapping[str, Outcome], options: FlipOptions
) -> Generator[list[Combination], Answers, Flips]:
    """Search for the smallest sets that flip one picture.

    A generator, so that the sets of many pictures are edited together: it yields the combinations that it wants to
    know about, is sent what each of them did (by `search.joint.key`; without those that cannot be made), and returns
    what it found.

    Args:
        features: that may be part of a set: those whose own edits do what they are meant to.
        singles: feature id -> what it does alone; of every feature that was edited.
    """
    known: dict[tuple[str, ...], Outcome] = {(feature,): outcome for feature, outcome in singles.items()}
    pushing = [feature for feature in features if singles[feature.id].moved > 0.0]
    beam: list[Combination] = [(feature,) for feature in pushing]
    size, left = 1, 0
    while not (found := _that(known, size)) and size < options.most:
        best = sorted(beam, key=lambda c: -known[key(c)].moved)[: options.beam]  # stable: ties keep the corpus's order
        asked = _extensions(best, pushing, singles, known)[: options.tries]
        if not asked:
            break
        answers = yield asked
        left += len(asked) - len(answers)
        if not answers:
            break
        known |= answers
        beam, size = [c for c in asked if key(c) in answers], size + 1
    unseen = [k for k, outcome in known.items() if outcome.flips and not outcome.counts]
    closest = tuple(sorted(unseen, key=lambda k: (len(k), known[k].distance, k)))
    return Flips(tuple(found), closest, len(known), size, left)


def _that(known: Answers, size: int) -> list[tuple[str, ...]]:
    """The sets of this size that count, the closest picture first."""
    counting = [k for k, outcome in known.items() if len(k) == size and outcome.counts]
    return sorted(counting, key=lambda k: (known[k].distance, k))


def _extensions(
    best: Sequence[Combination], pushing: Sequence[Feature], singles: Mapping[str, Outcome], known: Answers
) -> list[Combination]:
    """Sets with one more feature, of a group that is not in them yet, those first that should push furthest."""
    wanted: dict[tuple[str, ...], tuple[float, Combination]] = {}
    for present in best:
        used = {feature.group for feature in present}
        for feature in pushing:
            if feature.group not in used:
                grown = combination((*present, feature))
                hope = known[key(present)].moved + singles[feature.id].moved
                if key(grown) not in known:
                    wanted[key(grown)] = max(wanted.get(key(grown), (hope, grown)), (hope, grown), key=lambda x: x[0])
    return [grown for _, grown in sorted(wanted.values(), key=lambda x: (-x[0], key(x[1])))]
