"""Stage: search the corpus tree for one classifier, editing and scoring what the search asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.editing.protocol import Editor, EditRequest
from diffex_dagster.effects.noise import image_noise, noise_floor
from diffex_dagster.effects.presence import Mask
from diffex_dagster.errors import StoreError
from diffex_dagster.judging.protocol import Judge, traits_of
from diffex_dagster.search.joint import key
from diffex_dagster.search.levels import Judged, gate, level1_features
from diffex_dagster.search.run import new_race, search
from diffex_dagster.stages.absence import chosen_features, edit_other_way
from diffex_dagster.stages.beside import look_beside
from diffex_dagster.stages.context import StudyContext, Subject
from diffex_dagster.stages.deciding import measure_reach, noise_warning
from diffex_dagster.stages.edits import (
    Concepts,
    concepts_of,
    control_edits,
    edit_requests,
    first_raced,
    make_edits,
    race_order,
)
from diffex_dagster.stages.interactions import chosen_pairs, edit_pairs
from diffex_dagster.stages.judging import (
    Sight,
    changeable,
    edits_that_show,
    failed_edits,
    gains,
    judge_name,
    shown_before,
    sight_of,
)
from diffex_dagster.stages.scores import Paired, check_target, paired_scores, tested_effects
from diffex_dagster.stages.searched import Level1, Noise, Searched
from diffex_dagster.study import Study
from diffex_dagster.utils.progress import silent

GATES = ("feature", "kept", "reason", "magnitude")
"""What the database keeps of what a gate made of a group."""


def measure_noise(study: Study, paired: Mapping[Concepts, Paired]) -> Noise:
    """The noise of a study, from edits towards words that mean nothing, each against the others.

    Of a single control prompt it is the difference to the null edits. Where features are edited with several settings
    of the editor, it is the noise of the one under which control prompts move the score most.

    Null edits under other seeds would say less: an inversion that keeps its own noise maps reproduces the image under
    every seed, so that they differ by rounding only.
    """
    words = control_edits(study)
    if not words:
        return Noise(0.0, 0.0)
    tables = [
        np.stack([paired[concepts].beyond_control for concepts in words if concepts[0].setting == setting], axis=1)
        for setting in study.control_settings
    ]
    table = max(tables, key=lambda each: float(np.abs(each).mean()))
    return Noise(noise_floor(table), image_noise(table), table)


def level1_scores(subject: Subject) -> Level1:
    """Score the level-1 edits and decide which groups enter the beam."""
    check_target(subject)
    subject.know()
    with subject.store.hold():
        subject = subject.calibrated()
        study, corpus, options = subject.study, subject.corpus, subject.study.search
        features = [feature for stand_ins in level1_features(corpus, options).values() for feature in stand_ins]
        images = subject.split.discovery
        paired, scored = paired_scores(subject, control_edits(study), images)
        noise = measure_noise(study, paired)
        combinations = [concepts_of([feature]) for feature in features]
        if options.allocation == "racing":  # this gate sees what a race begins with
            images = first_raced(study, images)
        new, count = paired_scores(subject, combinations, images)
        paired, scored = paired | new, scored + count
        effects = {feature.id: paired[concepts_of([feature])].beyond_control for feature in features}
        lacking = Lacking(subject, images)(features)
        failed = failed_edits(subject, features, images, lacking)
        racing = options.allocation == "racing"  # which measures each feature on images of its own
        judged = Judged(failed, {} if racing else lacking, study.effects.level)
        outcomes = gate(effects, corpus, noise.floor_of, options, judged)
        subject.store.put_gates(
            _identity(subject, corpus), [{name: getattr(outcome, name) for name in GATES} for outcome in outcomes]
        )
        margin = measure_reach(study, paired).still
        warning = noise_warning(study, outcomes, margin)
        return Level1(effects, noise, outcomes, scored, warning)


class Lacking:
    """Which of some images the edit of a feature can change, as the study's judge sees it; asked once a feature.

    Called with features, it gives feature -> those images, (images,) booleans. Without those of which it is not known,
    and without any where nobody judges.
    """

    def __init__(self, work: StudyContext, images: Sequence[str]) -> None:
        self._work, self._images = work, images
        self._sight: Sight | None = None
        self._known: dict[str, Mask | None] = {}

    def __call__(self, features: Sequence[Feature]) -> dict[str, Mask]:
        if self._work.judge is None:
            return {}
        self._sight = self._sight or sight_of(self._work, self._images)
        if new := [feature for feature in features if feature.id not in self._known]:
            shown = shown_before(self._work, new, self._images, self._sight)
            self._known |= {f.id: changeable(f, shown[f.id]) if f.id in shown else None for f in new}
        return {f.id: mask for f in features if (mask := self._known[f.id]) is not None}


def run_search(subject: Subject) -> Searched:
    """Run the whole search: what exists is read, what does not is edited and scored.

    Deterministic in what the store holds and the study says, so that asking again costs nothing and gives the same
    answer.
    """
    check_target(subject)
    subject.know()
    with subject.store.hold():
        return _search(subject)


def replay_search(subject: Subject, judging: bool = False) -> Searched:
    """The answer of a search that has been run, read from the store: nothing is edited, scored or judged.

    Args:
        judging: ask the judge what it has not said of these edits yet, and keep it.

    Raises:
        StoreError: something that the search asks for is not in the store; it says which stage is missing.
    """
    check_target(subject)
    subject.know()
    stage = f"{subject.name}/level2_scores"
    missing = StoreError(f"{subject.store.place}: {stage} is missing or stale: materialize it first")
    stored = subject.changed(
        report=silent,
        editor=Stored(subject.editor, missing),
        classifier=Stored(subject.classifier, missing),
        judge=Stored(subject.judge, missing) if subject.judge and not judging else subject.judge,
        second_judge=Stored(subject.second_judge, missing) if subject.second_judge else None,
    )
    with subject.store.hold():
        return _search(stored)


class Stored:
    """An editor, classifier or judge whose results are all stored: it is known, and cannot be asked for more."""

    def __init__(self, of: Editor | Classifier | Judge, missing: StoreError) -> None:
        self.fingerprint: str = of.fingerprint
        self.labels: tuple[str, ...] = tuple(getattr(of, "labels", ()))
        traits = traits_of(of)  # of a judge: what its evidence means
        self.absolute, self.binary = traits.absolute, traits.binary
        self.name: str = judge_name(of)
        self._missing = missing

    def __call__(self, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
        raise self._missing

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        raise self._missing

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[tuple[str, str]]
    ) -> Iterator[list[tuple[tuple[str, str], float]]]:
        raise self._missing


def _search(subject: Subject) -> Searched:
    subject = subject.calibrated()
    study, corpus, of = subject.study, subject.corpus, subject.split
    images, controls = of.discovery, control_edits(study)
    counts = make_edits(subject, edit_requests(images, [(), *controls], study.seeds), "null edits")
    paired, scored = paired_scores(subject, controls, images)
    noise = measure_noise(study, paired)
    searched = Searched(None, noise, of, paired, edits=counts, scored=scored)  # type: ignore[arg-type]  # filled in below

    def score(
        combinations: Sequence[tuple[Feature, ...]], wanted: Sequence[int] | None = None
    ) -> dict[tuple[str, ...], NDArray[np.float64]]:
        on = images if wanted is None else [images[i] for i in wanted]
        asked = {key(features): concepts_of(features) for features in combinations}
        searched.edits += make_edits(subject, edit_requests(on, asked.values(), study.seeds))
        new, count = paired_scores(subject, list(asked.values()), on)
        searched.paired |= new
        searched.scored += count
        effects = tested_effects(new)
        return {ids: effects[concepts] for ids, concepts in asked.items()}

    options = study.search
    judged_on = first_raced(study, images) if options.allocation == "racing" else images
    without = Lacking(subject, judged_on)

    def judged(features: Sequence[Feature]) -> Judged:
        lacking = without(features)
        racing = options.allocation == "racing"  # which measures each on images of its own
        failed = failed_edits(subject, features, judged_on, lacking)
        return Judged(failed, {} if racing else lacking, study.effects.level)

    reach = (-1.0, 1.0) if study.target.bounded else (-math.inf, math.inf)
    race = new_race(corpus, race_order(images, study.seed), options, reach, paired[()].base.tolist())
    searched.result = search(corpus, score, options, noise_floor=noise.floor_of, judged=judged, race=race)
    if race := searched.result.race:
        # What left the race is not reported; what finished was scored a few images at a time, and all is in the store.
        finalists = {feature: searched.result.scores[feature] for feature in race.finalists()}
        searched.result = replace(searched.result, scores=finalists)
        singles = [concepts_of([corpus[feature]]) for feature in finalists]
        whole, _ = paired_scores(subject.changed(report=silent), [*controls, *singles], images)
        searched.paired |= whole
    if of.held_out:
        _confirm(subject, corpus, searched)
    searched.judged = subject.judge is not None
    if subject.judge:
        _judge(subject, corpus, searched)
    if study.search.interactions > 1:
        _in_pairs(subject, corpus, searched)
    return searched


def _confirm(subject: Subject, corpus: Corpus, searched: Searched) -> None:
    """Edit and score what the search found on the images that it has not seen, and keep those numbers instead."""
    joint = searched.result.joint
    found = [concepts_of([corpus[feature]]) for feature in searched.result.scores]
    found += [concepts_of(joint.features)] if joint else []
    images = searched.split.reported
    requests = edit_requests(images, [(), *control_edits(subject.study), *found], subject.seeds)
    searched.edits += make_edits(subject, requests, "confirmation edits")
    searched.paired, count = paired_scores(subject, found, images)
    searched.scored += count


def _judge(subject: Subject, corpus: Corpus, searched: Searched) -> None:
    """What the judge says of the edits that are reported: own gains, presence, the other way, side effects."""
    images, own = searched.split.reported, {f: concepts_of([corpus[f]]) for f in searched.result.scores}
    searched.sight = sight_of(subject, searched.split.discovery)
    found = gains(subject, [(c, c[0]) for c in own.values()], images)
    searched.chance = {feature: searched.sight.chance(concepts[0]) for feature, concepts in own.items()}
    searched.gains = {feature: found[concepts, concepts[0]] for feature, concepts in own.items()}
    reached = [corpus[feature] for feature in own]
    searched.shown = shown_before(subject, reached, images, searched.sight)
    searched.without = {f.id: changeable(f, searched.shown[f.id]) for f in reached if f.id in searched.shown}
    if subject.second_judge:
        second = subject.changed(judge=subject.second_judge)
        searched.second_sight = sight_of(second, searched.split.discovery)
        searched.second = edits_that_show(second, own, images, searched.second_sight)
    _other_way(subject, searched, own)
    searched.crossed = look_beside(subject, corpus, searched, shown_by_their_edits(subject.study, searched))


def _other_way(subject: Subject, searched: Searched, own: Mapping[str, Concepts]) -> None:
    """Edit the strongest features the other way where they are already; see `stages.absence`."""
    without, images = searched.without, searched.split.reported
    effects = {f: searched.paired[concepts].beyond_control for f, concepts in own.items() if f in without}
    chosen = chosen_features(subject.study, effects, without, _success(searched), searched.result.edits)
    there = {f: [image for image, lacks in zip(images, without[f], strict=True) if not lacks] for f in chosen}
    searched.reversed, counts, scored = edit_other_way(
        subject, {f: own[f] for f in chosen}, there, searched.sight.chances
    )
    searched.edits += counts
    searched.scored += scored


def _in_pairs(subject: Subject, corpus: Corpus, searched: Searched) -> None:
    """Edit the strongest features in pairs; see `stages.interactions`."""
    pairs = chosen_pairs(subject.study, searched.result.scores, _success(searched))
    images, chances = searched.split.reported, searched.sight.chances
    searched.pairs, counts, scored = edit_pairs(subject, corpus, pairs, images, chances)
    searched.edits += counts
    searched.scored += scored


def shown_by_their_edits(study: Study, searched: Searched) -> set[str]:
    """The features that so many of their own edits show as the study asks for (`effects.min_edit_success`)."""
    return {f for f, share in _success(searched).items() if share >= study.effects.min_edit_success}


def _success(searched: Searched) -> dict[str, float]:
    """Feature -> the share of its edits, on the images that they can change, in which the judge sees it."""
    chance, without = searched.chance, searched.without
    every = np.ones(len(searched.split.reported), dtype=bool)
    seen = {f: (gain > chance[f])[without.get(f, every)] for f, gain in searched.gains.items()}
    return {f: float(np.mean(of)) if of.size else 0.0 for f, of in seen.items()}


def _identity(subject: Subject, corpus: Corpus) -> dict[str, str]:
    return {
        "study": subject.study.kept_as,
        "classifier": subject.study.subject(subject.classifier.fingerprint),
        "editor": subject.editor.fingerprint,
        "corpus_version": corpus.version,
    }
