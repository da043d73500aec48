"""What flips single pictures: sets of edits, made where the search asks for them, and what they are held against."""

from __future__ import annotations

from collections.abc import Generator
from math import comb

from diffex_dagster.classifying.target import decision_threshold
from diffex_dagster.search.flipping import Answers, Flips, Outcome, smallest_flips
from diffex_dagster.search.joint import Combination, key
from diffex_dagster.stages.control_words import control_sets
from diffex_dagster.stages.edits import Concepts, EditCounts, concepts_of, edit_requests, make_edits
from diffex_dagster.stages.picture_edits import Asked, Seen, add, hold_sets


def most_controls(asked: Asked) -> int:
    """The most edits of several control prompts that sets of features are held against, of a picture and a seed."""
    study, flips, most = asked.subject.study, asked.wishes.flips, 0
    for size in range(2, flips.most + 1):
        alike = comb(len(study.control_settings) + size - 1, size)  # ways to take so many options, in any order
        most += min(alike, flips.tries) * len(control_sets(study, asked.corpus, [""] * size))
    return most


def search_flips(asked: Asked, seen: Seen, images: list[str]) -> tuple[list[Flips], EditCounts]:
    """Search the smallest sets of all pictures in step, so that what they ask for is edited together."""
    if not decides(asked):
        return [Flips((), (), len(asked.features), 1)] * len(images), EditCounts()
    found: dict[int, Flips] = {}
    searches: dict[int, Generator[list[Combination], Answers, Flips]] = {}
    wanted: dict[int, list[Combination]] = {}
    counts = EditCounts()

    def step(i: int, answers: Answers | None) -> None:
        try:
            wanted[i] = searches[i].send(answers)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as stop:
            found[i] = stop.value
            wanted.pop(i, None)

    for i in range(len(images)):
        singles = {f.id: _outcome(asked, seen, concepts_of([f]), i) for f in asked.features}
        usable = [f for f in asked.features if not seen.there(f, i) and seen.succeeded(asked, concepts_of([f]), i)]
        searches[i] = smallest_flips(usable, singles, asked.wishes.flips)
        step(i, None)
    while wanted:
        wanted = {i: _made(asked, seen.images[i], some) for i, some in wanted.items()}
        sets = dict.fromkeys(c for some in wanted.values() for c in some)
        on = {c: [images[i] for i, some in wanted.items() if c in some] for c in sets}
        requests = [r for c in sets for r in edit_requests(on[c], [concepts_of(c)], asked.subject.study.seeds)]
        counts += make_edits(asked.subject, requests, "edits of sets") if requests else EditCounts()
        for some in dict.fromkeys(tuple(of) for of in on.values()):
            add(asked, seen, [concepts_of(c) for c in sets if tuple(on[c]) == some], some)
        flipping = {i: [concepts_of(c) for c in some if would_count(asked, seen, concepts_of(c), i)]
                    for i, some in wanted.items()}  # fmt: skip
        counts += hold_sets(asked, seen, flipping)
        for i, some_of in list(wanted.items()):
            step(i, {key(c): _outcome(asked, seen, concepts_of(c), i) for c in some_of})
    return [found[i] for i in range(len(images))], counts


def _made(asked: Asked, image: str, sets: list[Combination]) -> list[Combination]:
    """Those of a picture's sets that can be edited: where another tool makes the edits, those that it made."""
    if asked.made_before is None:
        return sets
    name = asked.subject.samples.get(image, image)
    absent = {concepts for _, concepts in asked.made_before.missing([name], [frozenset(concepts_of(c)) for c in sets])}
    return [c for c in sets if frozenset(concepts_of(c)) not in absent]


def decides(asked: Asked) -> bool:
    """Whether the target has a decision that can flip: a class among several, or a threshold."""
    subject = asked.subject
    return len(subject.classifier.labels) > 1 or decision_threshold(subject.study.target) is not None


def _outcome(asked: Asked, seen: Seen, concepts: Concepts, i: int) -> Outcome:
    paired = seen.paired[concepts]
    effect = float(paired.beyond_control[i])
    moved = abs(effect) if seen.inside is None else -effect if seen.inside[i] else effect
    counts = would_count(asked, seen, concepts, i) and _outside(asked, seen, concepts, i)
    return Outcome(moved, bool(paired.turned[i]), counts, 1.0 - seen.metrics[concepts][i].ssim)


def would_count(asked: Asked, seen: Seen, concepts: Concepts, i: int) -> bool:
    """Whether an edit flips the picture and shows all that it was asked for: then it is held against control edits."""
    return bool(seen.paired[concepts].turned[i]) and seen.succeeded(asked, concepts, i)


def _outside(asked: Asked, seen: Seen, concepts: Concepts, i: int) -> bool:
    """Whether control edits of as many words lie less far out; where there are few, all of them.

    One alone says nothing of noise: it and the edit are equally far from their mean, whatever they are.
    """
    controls = len(asked.controls(concepts))
    furthest = max(asked.subject.study.effects.level, 1.0 / (controls + 1) + 1e-12)
    return controls < 2 or seen.p(asked, concepts, i) <= furthest
