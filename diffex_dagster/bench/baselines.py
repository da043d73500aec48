"""What other readings of DiffEx say of the same images and edits, so that each choice of this project can be weighed.

The *paper* is Algorithm 1 of Kazimi et al. (arXiv 2412.18604) as published: f(edit) against f of the original file, no
null edit; groups by mean f, the best B of them with f ≥ δ; a child is kept when it beats its parent; what is kept
raises the class. The *released* procedure is that of the authors' code: |mean| decides, the best eight groups, whatever
their size. The others change one thing at a time.

None but the paper's (its reading by single features, and Algorithm 1 with its combinations) makes claims: a list is no
test. Its claims are all that it keeps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.classifying.target import measure
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.editing.vocabulary import Vocabulary
from diffex_dagster.search.algorithm1 import algorithm1
from diffex_dagster.search.joint import key
from diffex_dagster.search.levels import kept_ids, stand_ins
from diffex_dagster.search.options import Gate
from diffex_dagster.search.run import Score, SearchResult, search
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.edits import concepts_of, edit_requests, make_edits
from diffex_dagster.stages.scores import paired_scores
from diffex_dagster.study import Study

Base = Literal["original", "null"]


@dataclass(frozen=True)
class Baseline:
    """One way to read the method.

    Attributes:
        title: for tables.
        gate: how groups enter the beam; "random" draws them.
        base: what f(edit) is held against: f of the original file, or of the null edit.
        beam: how many groups; the study's own number, or `BEAM`, unless given.
        one_image: look at the study's first image only.
        draw: number of a random beam.
        combinations: a beam over combinations, in which sub-features are edited together with their parents.
    """

    title: str
    gate: Gate | Literal["random"]
    base: Base
    beam: int | None = None
    one_image: bool = False
    draw: int = 0
    combinations: bool = False


PAPER = Baseline("the paper's reading", "signed", "original")
COMBINATIONS = "Algorithm 1"  # the one whose edits no other reading shares: hundreds for each classifier
BEAM = 6  # of readings of a study that has none
NOTHING = 1e-6  # a mean change up to this is rounding: the same picture is scored in batches of several sizes
DRAWS = 5  # random beams, whose marks are averaged
BASELINES: dict[str, tuple[Baseline, ...]] = {
    "paper": (PAPER,),
    COMBINATIONS: (Baseline("Algorithm 1 as published", "signed", "original", combinations=True),),
    "released": (Baseline("authors' released procedure", "absolute", "original", beam=8),),
    "released, one image": (Baseline("the same, one image", "absolute", "original", beam=8, one_image=True),),
    "|mean| top B": (Baseline("|mean d| top B", "absolute", "null"),),
    "random beam": tuple(Baseline("random beam", "random", "null", draw=draw) for draw in range(DRAWS)),
}


@dataclass(frozen=True)
class Reading:
    """What a baseline reports.

    Attributes:
        effects: feature -> mean of f(edit) − f(base) over the images, for every feature that was edited.
        claims: what survived the paper's gate, each "raises"; None for readings that only list.
        kept: ids of the groups in the beam.
    """

    effects: dict[str, float]
    claims: dict[str, str] | None
    kept: list[str]


def read(baseline: Baseline, subject: Subject) -> Reading:
    """Search as a baseline does; edits that the pipeline has not made are made."""
    none = subject.study.effects.model_copy(update={"control_prompts": ()})  # the paper has none
    subject = subject.changed(subject.study.changed(effects=none))
    study, classifier, corpus = subject.study, subject.classifier, subject.corpus
    images = list(subject.samples)[: 1 if baseline.one_image else None]
    originals = list(subject.store.images(images).values())
    before = measure(classifier(originals), classifier.labels, study.target, study.folder)

    def score(combinations: Sequence[tuple[Feature, ...]]) -> dict[tuple[str, ...], NDArray[np.float64]]:
        asked = {key(features): concepts_of(features) for features in combinations}
        make_edits(subject, edit_requests(images, [(), *asked.values()], study.seeds))
        paired, _ = paired_scores(subject, list(asked.values()), images)
        if baseline.base == "original":
            return {ids: paired[concepts].edit - before for ids, concepts in asked.items()}
        return {ids: paired[concepts].effect for ids, concepts in asked.items()}

    beam = baseline.beam or study.search.beam or BEAM
    if baseline.gate == "random":
        return _random_beam(corpus, score, study, beam, baseline.draw)
    if baseline.combinations:
        return _combinations(corpus, score, study)
    changes = {"gate": baseline.gate, "beam": beam, "joint_size": 1, "allocation": "exhaustive"}
    result = search(corpus, score, study.search.replaced(**changes))
    return _reading(result, claims=baseline.gate == "signed")


def _reading(result: SearchResult, claims: bool) -> Reading:
    effects = {feature: float(np.mean(d)) for feature, d in result.scores.items()}
    claimed = _claims([feature.id for feature in result.survivors], effects) if claims else None
    return Reading(effects, claimed, kept_ids(result.gate))


def _claims(kept: Iterable[str], effects: Mapping[str, float]) -> dict[str, str]:
    """What is kept, but for an edit that changed nothing: it passes a threshold of 0 or not, as rounding has it."""
    return {feature: "raises" for feature in kept if abs(effects[feature]) > NOTHING}


def _combinations(corpus: Corpus, score: Score, study: Study) -> Reading:
    """Algorithm 1: a feature is reported by the first combination that it was tried in, claimed where one was kept."""
    beam, size = study.search.beam or BEAM, max(2, study.search.joint_size)
    options = study.search.replaced(gate="signed", beam=beam, joint_size=size)
    start = [feature for group in corpus.groups for feature in stand_ins(group, options)]
    single = score([(feature,) for feature in start])
    tried: dict[tuple[str, ...], NDArray[np.float64]] = dict(single)

    def noted(combinations: Sequence[tuple[Feature, ...]]) -> dict[tuple[str, ...], NDArray[np.float64]]:
        answers = score(combinations)
        tried.update(answers)
        return dict(answers)

    kept, _ = algorithm1(corpus, start, single, noted, options)
    effects: dict[str, float] = {}
    for ids, d in tried.items():
        for feature in ids:
            effects.setdefault(feature, float(np.mean(d)))
    found = dict.fromkeys(feature for ids in kept for feature in ids)
    return Reading(effects, _claims(found, effects), list(dict.fromkeys(f.split("/")[0] for f in found)))


def _random_beam(corpus: Corpus, score: Score, study: Study, beam: int, draw: int) -> Reading:
    """Everything in `beam` groups that are drawn without looking at any score."""
    chosen = random.Random(f"{study.seed} {draw}").sample([group.id for group in corpus.groups], k=len(corpus.groups))
    kept = chosen[:beam]
    below = [f for f in corpus.walk() if f.editable and f.id.split("/")[0] in kept]
    answers = score([(feature,) for feature in below])
    return Reading({ids[0]: float(np.mean(d)) for ids, d in answers.items()}, None, kept)


def variants(study: Study) -> dict[str, Study]:
    """The pipeline itself with one of its choices undone, title -> study; graded as the pipeline is."""
    beam = BEAM if study.search.beam is None else None
    other = study.search.model_copy(update={"beam": beam})
    no_words = study.effects.model_copy(update={"control_prompts": ()})
    return {
        f"ours, beam of {beam}" if beam else "ours, no gate": study.changed(search=other),
        "ours, no placebo": study.changed(effects=no_words),
    }


UNDESCRIBED = "ours, no describe"


def undescribed(subject: Subject) -> Subject | None:
    """The pipeline with an editor that does not describe pictures before it edits them, judged by the same judge.

    Returns:
        None where the editor describes none anyhow.
    """
    told: Callable[[Vocabulary], Editor] | None = getattr(subject.editor, "with_source_prompts", None)
    plain = told({}) if told else None
    if plain is None or plain.fingerprint == subject.editor.fingerprint:
        return None
    return subject.editing_with(plain)
