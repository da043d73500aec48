"""What does the gate cost, and what does it save? Ways to choose the groups, on rules that the exam does not use.

`python -m diffex_dagster.bench.gates` searches the demo's corpus (and the same with groups of things that the world
does not have) for random rules (`worlds.rules`, from seed `FIRST` on), once with edits that are exact and once with
edits that often fail. Nothing is drawn: a rule answers for the state of a picture. For each way it says how many of
the corpus's features are edited and how many of the truly strongest are among them. The development classifiers,
which have to see pictures, are asked with exact edits (`--classifiers`).

It is development: the default of `search.beam` was chosen on these figures (docs/decisions/0027-gate.md).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.bench.pages import table
from diffex_dagster.bench.truth import subjects, world_of
from diffex_dagster.classifying.parts import Target
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import measure
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.corpus.vlm.answers import read_answer, saved_answer, tree_from_raw
from diffex_dagster.effects.grading import RELEVANT, grade
from diffex_dagster.effects.noise import noise_floor
from diffex_dagster.effects.presence import Mask, enough
from diffex_dagster.search.joint import key
from diffex_dagster.search.levels import Judged
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.search.run import SearchResult, search
from diffex_dagster.stages.context import at_work
from diffex_dagster.stages.corpus import merged
from diffex_dagster.study import Study, load_study
from diffex_dagster.worlds.base import State, World
from diffex_dagster.worlds.redrawing import SEED, redraw, sample_states
from diffex_dagster.worlds.rules import Rule, draw_rule

Effects = NDArray[np.float64]
FIRST, RULES, IMAGES, CONTROLS = 1000, 100, 24, 3  # the exam's rules are those of seeds 0 to 39
TOP = 10
HARD = ("eyes", "eyebrows", "skin", "background")  # what the demo editor draws seldom
SUCCEEDS, SELDOM = 0.8, 0.2  # share of its edits that succeed, elsewhere and there
NOISE = 0.3  # of an edit, in logits
JUDGE = (0.75, 0.075)  # seen by a judge in pictures with an attribute, and without: docs/validity.md; or `--judge`
CHANCE = 0.25  # how often it does in failed edits
LEAST = 0.4  # share of edits that have to show their attribute, as in the demo


@dataclass(frozen=True)
class Way:
    """How groups are chosen.

    Attributes:
        beam: how many groups are expanded; None for all.
        probes: edits that a group competes by.
        above: leave out groups that are not above the noise floor, whatever places there are.
        budget: expand the next best group while no more than this share of the features is edited.
    """

    title: str
    beam: int | None
    probes: int = 2
    above: bool = False
    budget: float | None = None


WAYS = (
    Way("beam 4, 2 probes", 4),
    Way("beam 6, 3 probes", 6, 3),
    Way("beam 8, 2 probes", 8),
    Way("beam 8, 3 probes", 8, 3),
    Way("beam 10, 2 probes", 10),
    Way("beam 10, 3 probes", 10, 3),
    Way("above the noise floor, 2 probes", None, 2, above=True),
    Way("above the noise floor, 3 probes", None, 3, above=True),
    Way("80% of the features, 2 probes", None, 2, budget=0.8),
    Way("90% of the features, 2 probes", None, 2, budget=0.9),
    Way("90% of the features, 3 probes", None, 3, budget=0.9),
    Way("everything", None),
)


@dataclass(frozen=True)
class Subject:
    """What a search sees of one classifier: feature id -> effects, (images,), and what is true of them.

    Attributes:
        effects: D, f(edit) less the mean of the control prompts' edits, which a search goes by.
        controls: of each control prompt against the others, (images, control prompts).
        without, lacking: images without the feature, as the judge sees them and as they are.
        failed: features of whose edits too few show them -> the share that does.
        truth: mean effects of the exact change over the images that lack a feature.
    """

    effects: Mapping[str, Effects]
    controls: Effects
    without: Mapping[str, Mask]
    failed: Mapping[str, float]
    truth: Mapping[str, float]
    _floors: dict[tuple[int, int | None], float] = field(default_factory=dict)

    def floor(self, edits: int, images: int | None = None) -> float:
        """The noise floor of the strongest of so many edits, as `stages.searched.Noise.floor_of`."""
        if (edits, images) not in self._floors:
            found = noise_floor(self.controls, strongest_of=edits, over=images, resamples=500)
            self._floors[edits, images] = found
        return self._floors[edits, images]


@dataclass(frozen=True)
class Found:
    """Of one way and classifier: share of the features edited, of the strongest ones edited, and precision@5."""

    edited: float
    recall: float
    precision: float


@dataclass(frozen=True)
class Answers:
    """What a classifier says of every state: `base` as it is, (images,), and feature id -> with the feature changed."""

    base: Effects
    changed: Mapping[str, Effects]


@dataclass(frozen=True)
class Hand:
    """How edits are made: `exact` ones change what they should and nothing else, and their judge knows.

    Attributes:
        rng: what the others are drawn with.
        judge: as `JUDGE`, of the others.
    """

    exact: bool
    rng: np.random.Generator
    judge: tuple[float, float] = JUDGE


def seen(world: World, corpus: Corpus, states: Sequence[State], answers: Answers, hand: Hand) -> Subject:
    """What edits show of a classifier whose every answer, a probability, is known."""
    base, changed, exact, rng = answers.base, answers.changed, hand.exact, hand.rng
    moved = (lambda p: p) if exact else (lambda p: _sigmoid(_logit(p) + rng.normal(0.0, NOISE, p.shape)))
    words = np.stack([moved(base) for _ in range(CONTROLS)], axis=1)
    placebo = words.mean(axis=1)
    others = (words.sum(axis=1, keepdims=True) - words) / (CONTROLS - 1)
    sees, imagines = hand.judge
    effects, without, failed, truth = {}, {}, {}, {}
    for feature in (each for each in corpus.walk() if each.editable):
        shown = np.array([world.has_feature(state, feature.prompt) for state in states], dtype=bool)
        lacks = ~shown if feature.direction == "add" else shown
        d = changed[feature.id] - base
        truth[feature.id] = float(d[lacks].mean()) if lacks.any() else 0.0
        if exact:
            made, without[feature.id] = np.ones(len(base), dtype=bool), lacks
        else:
            made = rng.random(len(base)) < _success(world, feature)
            seen_there = np.where(shown, rng.random(len(base)) < sees, rng.random(len(base)) < imagines)
            without[feature.id] = ~seen_there if feature.direction == "add" else seen_there
        effects[feature.id] = moved(np.where(made, changed[feature.id], base)) - placebo
        shows = np.where(made, rng.random(len(base)) < sees, rng.random(len(base)) < CHANCE)
        on = without[feature.id] if enough(without[feature.id]) else np.ones(len(base), dtype=bool)
        share = 1.0 if exact and world.meaning(feature.prompt) else float(shows[on].mean())
        if share < LEAST:
            failed[feature.id] = share
    return Subject(effects, words - others, without, failed, truth)


def tried(way: Way, corpus: Corpus, subject: Subject) -> Found:
    """Search by a way and mark what was edited."""
    editable = sum(feature.editable for feature in corpus.walk())
    result = _searched(way, corpus, subject, way.beam or len(corpus.groups))
    if way.above:
        weak = sum(
            "not above the noise floor" in each.reason or "no image moved" in each.reason for each in result.gate
        )
        result = _searched(way, corpus, subject, len(result.gate) - weak)
    if way.budget:
        sizes = (
            (len(found.scores), found)
            for count in range(len(corpus.groups), 0, -1)
            for found in (_searched(way, corpus, subject, count),)
        )
        result = next((found for size, found in sizes if size <= way.budget * editable), result)
    strong = {name: abs(value) for name, value in subject.truth.items() if abs(value) > RELEVANT}
    strongest = sorted(strong, key=lambda name: -strong[name])[:TOP]
    recall = float(np.mean([name in result.scores for name in strongest])) if strongest else math.nan
    lacking = {name: mask if enough(mask) else np.ones(len(mask), bool) for name, mask in subject.without.items()}
    said = {n: float(d[lacking[n]].mean()) if n not in subject.failed else 0.0 for n, d in result.scores.items()}
    marks = grade(dict.fromkeys(subject.truth, 0.0) | said, subject.truth)
    return Found(len(result.scores) / editable, recall, marks.precision_at_5)


def _searched(way: Way, corpus: Corpus, subject: Subject, beam: int) -> SearchResult:
    options = SearchOptions(beam=max(1, beam), probes=way.probes, joint_size=1)
    return search(
        corpus,
        lambda sets: {key(features): subject.effects[features[0].id] for features in sets},
        options,
        noise_floor=subject.floor,
        judged=lambda features: Judged(
            {f.id: subject.failed[f.id] for f in features if f.id in subject.failed},
            {f.id: subject.without[f.id] for f in features},
        ),
    )


def with_unknown(corpus: Corpus, share: float = 1 / 3) -> Corpus:
    """The corpus with further groups of things that no world has, until they are `share` of its groups."""
    count = round(len(corpus.groups) * share / (1 - share))
    more = tuple(
        Feature(f"unknown{i}", f"Unknown {i}", f"unknown thing {i}", editable=False, children=tuple(
            Feature(f"unknown{i}/{j}", f"Unknown {i} {j}", f"unknown thing {i} {j}") for j in range(5)
        ))
        for i in range(count)
    )  # fmt: skip
    return Corpus((*corpus.groups, *more))


def of_rules(
    world: World, corpus: Corpus, rules: int, exact: bool, judge: tuple[float, float] = JUDGE
) -> list[list[Found]]:
    """A row a rule, what each of `WAYS` finds of it."""
    rows = []
    for seed in range(FIRST, FIRST + rules):
        rule, states = draw_rule(world, seed), sample_states(IMAGES, seed, world)
        answers = _answers(partial(_probability, rule, world), world, corpus, states)
        subject = seen(world, corpus, states, answers, Hand(exact, np.random.default_rng(seed), judge))
        rows.append([tried(way, corpus, subject) for way in WAYS])
    return rows


def _probability(rule: Rule, world: World, state: State) -> float:
    return float(_sigmoid(rule.log_odds(world, state)))


def _answers(f: Callable[[State], float], world: World, corpus: Corpus, states: Sequence[State]) -> Answers:
    changed = {
        each.id: np.array([f(world.set_feature(s, each.prompt, each.direction == "remove")) for s in states])
        if world.meaning(each.prompt)
        else np.array([f(state) for state in states])
        for each in corpus.walk()
        if each.editable
    }
    return Answers(np.array([f(state) for state in states]), changed)


def of_classifiers(study: Study, corpus: Corpus) -> list[list[Found]]:
    """A row a development classifier, with exact edits of the study's own images."""
    world = world_of(study)
    states = sample_states(study.images.limit or IMAGES, SEED, world)
    features = [(each.id, (each.prompt, each.direction == "remove")) for each in corpus.walk() if each.editable]
    cache = study.results_folder / "drawings"
    drawn = redraw(
        states, sorted({name for _, name in features if world.meaning(name[0])}), study.images.size, cache, world
    )
    rows = []
    for examinee in subjects(study):
        one = study.changed(classifiers={examinee.name: examinee.part}, target=examinee.target)
        classifier = at_work(one).subject(examinee.name).classifier

        def score(
            pictures: list[Image.Image], of: Classifier = classifier, target: Target = examinee.target
        ) -> Effects:
            return measure(of(pictures), of.labels, target)

        base = score([Image.fromarray(each) for each in drawn.base])
        moved = drawn.effects(score)
        changed = {feature: base + moved.get(name, 0.0) for feature, name in features}
        subject = seen(world, corpus, states, Answers(base, changed), Hand(True, np.random.default_rng(0)))
        rows.append([tried(way, corpus, subject) for way in WAYS])
    return rows


def _success(world: World, feature: Feature) -> float:
    named = world.meaning(feature.prompt)
    return 0.0 if named is None else SELDOM if named[0] in HARD else SUCCEEDS


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def _logit(p: Effects) -> Effects:
    kept = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(kept / (1 - kept))


def as_markdown(tables: Mapping[str, Sequence[Sequence[Found]]]) -> str:
    """Setting -> a row a rule, as a table: a line a way; of each setting what is edited, recall and precision@5."""
    lines = []
    for i, way in enumerate(WAYS):
        cells = [
            f"{np.mean([row[i].edited for row in rows]):.0%}, {_mean(row[i].recall for row in rows):.3f}, "
            f"{_mean(row[i].precision for row in rows):.2f}"
            for rows in tables.values()
        ]
        lines.append([way.title, *cells])
    return table(["edited, recall, P@5", *tables], lines)


def _mean(values: Iterable[float]) -> float:
    """Over the rules that there is something to find of."""
    return float(np.nanmean(np.array(list(values), dtype=float)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what each way to choose groups costs and saves."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("study", type=Path, nargs="?", default=Path("studies/avatars"))
    parser.add_argument("--rules", type=int, default=RULES)
    parser.add_argument("--classifiers", action="store_true", help="ask the development classifiers, by drawing")
    parser.add_argument("--judge", type=float, nargs=2, metavar="SHARE", default=JUDGE, help="seen with and without")
    options = parser.parse_args(arguments)
    study = load_study(options.study)
    world = world_of(study)
    answer = (study.folder / "proposal.json").read_text("utf-8")
    own = merged(tree_from_raw(read_answer(saved_answer(answer))), study.path(study.corpus.overrides))
    corpora = {"the demo's corpus": own, "a third unknown": with_unknown(own)}
    if options.classifiers:
        print(as_markdown({name: of_classifiers(study, corpus) for name, corpus in corpora.items()}))
        return 0
    tables = {
        f"{name}, {'exact' if exact else 'imperfect'} edits": of_rules(
            world, corpus, options.rules, exact, tuple(options.judge)
        )
        for name, corpus in corpora.items()
        for exact in (True, False)
    }
    print(as_markdown(tables))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
