"""What a materialization would do now: edits, scores and edit checks that are missing or reused. None is made."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.editing.protocol import Editor, EditRequest
from diffex_dagster.errors import StoreError
from diffex_dagster.judging.protocol import Judge
from diffex_dagster.judging.vlm import QUESTIONS, VlmJudge
from diffex_dagster.search.algorithm1 import most_published
from diffex_dagster.search.joint import most_combinations
from diffex_dagster.search.levels import expand
from diffex_dagster.stages.context import Planned, StudyContext, Subject
from diffex_dagster.stages.edits import Concepts, concepts_of, edit_requests, level1_combinations, level1_requests
from diffex_dagster.stages.interactions import most_pair_edits
from diffex_dagster.stages.known_truth import recall_cost
from diffex_dagster.stages.search import Stored, run_search
from diffex_dagster.stages.setup import know
from diffex_dagster.stages.tried_first import most_tried
from diffex_dagster.store import edit_key
from diffex_dagster.utils.progress import silent


@dataclass(frozen=True)
class PlannedStage:
    """What one stage would do.

    Attributes:
        stage: asset key below the study: "level1_edits", "persona_v1/level2_scores".
        edits_missing, edits_reused: edited pictures to make, and those that are there.
        scores_missing, scores_reused: pictures to score, and those that have been scored.
        seconds: expected for the edits, from the pace of the edits in the store; None where nothing is known.
        note: what the figures leave out.
    """

    stage: str
    edits_missing: int = 0
    edits_reused: int = 0
    scores_missing: int = 0
    scores_reused: int = 0
    seconds: float | None = None
    note: str = ""


class _UnknownYetError(StoreError):
    """What a stage does next depends on something that does not exist yet."""


_UNKNOWN = _UnknownYetError("what follows depends on edits, scores or edit checks that do not exist yet")


class NotThere:
    """In the place of an editor or a classifier whose weights are not on this machine: it has made nothing so far."""

    fingerprint = "not there"
    labels: tuple[str, ...] = ()

    def __call__(self, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
        """Never asked."""
        raise _UNKNOWN

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        """Never asked."""
        raise _UNKNOWN


class _Editor(Stored):
    """Records what it is asked for, and stops a stage that asks for what does not exist.

    Attributes:
        asked: request -> whether it exists.
    """

    def __init__(self, of: Editor) -> None:
        super().__init__(of, _UNKNOWN)
        self.asked: dict[EditRequest, bool] = {}

    def asked_for(self, requests: Sequence[EditRequest], stored: Collection[EditRequest]) -> None:
        self.asked |= {request: request in stored for request in requests}
        if not all(request in stored for request in requests):
            raise _UNKNOWN


class _Classifier(Stored):
    """Stops a stage that wants a score that does not exist. What there is to score is what the editor is asked for."""

    portions = 1  # pictures are named to it, and none is read

    def __init__(self, of: Classifier) -> None:
        super().__init__(of, _UNKNOWN)


class _Judge(Stored):
    """Records how many edit checks do not exist, and stops a stage that asks for one.

    Attributes:
        missing: pairs of an edit and a prompt.
    """

    portions = 1 << 20  # it is asked for all of them at once

    def __init__(self, of: Judge) -> None:
        super().__init__(of, _UNKNOWN)
        self.missing = 0

    def evidence(
        self, pictures: Mapping[str, Image.Image], pairs: Sequence[tuple[str, str]]
    ) -> Iterator[list[tuple[tuple[str, str], float]]]:
        self.missing = len(pairs)
        raise _UNKNOWN


def plan_edits(
    work: StudyContext,
    classifiers: Sequence[str],
    corpus: Corpus | None = None,
    samples: Mapping[str, str] | None = None,
) -> list[PlannedStage]:
    """Every stage that edits or scores, in the order in which they would run.

    A search decides by its scores what to edit next, so that a stage whose scores are missing is known up to there; its
    note says how much may follow.

    Args:
        classifiers: names in the study.
        corpus: as it would be merged now; the store's when left out.
        samples: image key -> name of the sample images as they are now; the store's when left out.
    """
    know(work.editor, *(work.subject(name).classifier for name in classifiers))
    with work.store.hold():
        at = Planned(work.corpus if corpus is None else corpus, work.samples if samples is None else samples)
        return _plan_edits(replace(work.changed(), planned=at), at, classifiers)


def _plan_edits(work: StudyContext, at: Planned, classifiers: Sequence[str]) -> list[PlannedStage]:
    store, editor = work.store, work.editor.fingerprint
    pace = store.seconds_per_edit(editor)
    planned: set[EditRequest] = set()  # what an earlier stage of the same run makes is there for the later ones

    def stage(name: str, edits: Mapping[EditRequest, bool], scores: Collection[bool], note: str = "") -> PlannedStage:
        missing = [request for request, exists in edits.items() if not exists and request not in planned]
        planned.update(missing)
        seconds = None if pace is None else len(missing) * pace
        scored = sum(scores)
        return PlannedStage(name, len(missing), len(edits) - len(missing), len(scores) - scored, scored, seconds, note)

    level1 = level1_requests(work)
    searched_on = set(work.split.discovery)
    stored = store.stored_edits(level1, editor)
    stages = [
        *_tried_first(work, at, pace),
        stage("level1_edits", {request: request in stored for request in level1}, ()),
    ]
    for name in classifiers:
        subject = work.subject(name)
        known = _scored(subject, [request for request in level1 if request.image in searched_on])
        stages.append(stage(f"{name}/level1_scores", {}, known.values()))
        edits, note = _follow(subject, planned, all(known.values()))
        scores = [exists for request, exists in _scored(subject, list(edits)).items() if request not in known]
        stages.append(stage(f"{name}/level2_scores", edits, scores, note))
        stages += _corpus_recall(subject)
    return stages


def _corpus_recall(subject: Subject) -> list[PlannedStage]:
    """What a report draws and scores to grade its corpus, where the study names a truth that can."""
    attributes, drawings = recall_cost(subject)
    if not drawings:
        return []
    note = (
        f"and up to {drawings:,} drawings for corpus recall (`truth`: {attributes} attributes of the images’ world), "
        "each scored by the classifier; drawings and scores are kept"
    )
    return [PlannedStage(f"{subject.name}/ranked_report", note=note)]


def _scored(subject: Subject, requests: Sequence[EditRequest]) -> dict[EditRequest, bool]:
    """Whether the classifier has scored these edits."""
    keys = {request: edit_key(request, subject.editor.fingerprint) for request in requests}
    scored = subject.store.stored_scores(keys.values(), subject.classifier.fingerprint)
    return {request: key in scored for request, key in keys.items()}


def plan_of(work: StudyContext, stage: str, classifiers: Sequence[str] = ()) -> PlannedStage:
    """What one stage would do now (see `plan_edits`): one that edits for no classifier, or one of these classifiers."""
    return next(planned for planned in plan_edits(work, classifiers) if planned.stage == stage)


def _tried_first(work: StudyContext, at: Planned, pace: float | None) -> Iterator[PlannedStage]:
    """Finding the words that pictures are described in, and options for prompts that have none."""
    tries = most_tried(work, at.corpus, len(at.samples), list(at.samples))

    def stage(name: str, most: int, what: str) -> PlannedStage:
        seconds = None if pace is None else most * pace
        return PlannedStage(name, most, seconds=seconds, note=f"at most, {what}") if most else PlannedStage(name)

    if work.study.finds_source_prompts:
        yield stage("source_prompts", tries.words, "to find out whether the words of the corpus do harm")
    if work.study.calibrates:
        what = f"to find the options of {tries.prompts} prompts; later stages are counted as if these were known"
        yield stage("editor_calibration", tries.options, what)


def _follow(
    subject: Subject, planned: Collection[EditRequest], gate_known: bool
) -> tuple[dict[EditRequest, bool], str]:
    """Search as far as the store knows what the search asks for.

    Returns:
        The edits that it asks for, each with whether it exists, and what remains unknown.
    """
    if isinstance(subject.classifier, NotThere) or isinstance(subject.editor, NotThere):
        return {}, _unknown(subject, _may_follow(subject, planned))
    editor = _Editor(subject.editor)
    first, second = (_Judge(each) if each else None for each in (subject.judge, subject.second_judge))
    asking = subject.changed(
        report=silent, editor=editor, classifier=_Classifier(subject.classifier), judge=first, second_judge=second
    )
    try:
        run_search(asking)
    except _UnknownYetError:
        if checks := sum(each.missing for each in (first, second) if each):
            return editor.asked, _unknown(subject, f"and {checks} checks of whether edits show their attribute")
        if not gate_known:
            return editor.asked, _unknown(subject, _may_follow(subject, planned))
        joint, pairs = _joint_most(subject), _pairs_most(subject)
        of_pairs = f"up to {pairs} of pairs, " if pairs else ""
        note = (
            f"and what the scores of these lead to (deeper levels, up to {joint} edits of joint combinations, "
            f"{of_pairs}confirmation)"
        )
        return editor.asked, _unknown(subject, note)
    return editor.asked, ""


def _unknown(subject: Subject, note: str) -> str:
    return "; ".join((note, *_judges_asked(subject)))


def _may_follow(subject: Subject, planned: Collection[EditRequest]) -> str:
    """How many edits a search may ask for, where nothing is known of its scores."""
    there = subject.calibrated()
    joint, pairs = _joint_most(there), _pairs_most(there)
    most = _most(there, planned) + joint + pairs
    other = ", and a tenth more the other way where edits are judged" if there.study.effects.absence else ""
    of_pairs = f" and {pairs} of pairs" if pairs else ""
    return f"and up to {most} edits of the groups it keeps, {joint} of them of joint combinations{of_pairs}{other}"


def _judges_asked(subject: Subject) -> Iterator[str]:
    """How often judges behind a server are asked about the whole study, with the price where it is known.

    Every edited picture is one request. A null edit is asked about in rounds (control prompts, groups, their children,
    what is looked for beside the strongest), and the edits of the strongest about every other feature.
    """
    study, images = subject.study, len(subject.samples) * len(subject.study.seeds)
    features = sum(feature.editable for feature in subject.corpus.walk())
    controls, top = len(study.effects.control_prompts), min(study.effects.side_effects, features)
    rounds = math.ceil((features + controls) / QUESTIONS)
    edited = features + controls + min(study.effects.absence, features)
    for judge in (subject.judge, subject.second_judge):
        if isinstance(judge, VlmJudge):
            first = judge is subject.judge  # the second is asked about presence and each feature's own edits only
            beside = top * rounds if first else 0
            requests = images * (edited + rounds + 4 + beside)
            questions = images * (edited + features + controls + (top * features if first else 0))
            price = judge.expected(requests, questions)
            cost = "" if price is None else f" (about ${price:.2f})"
            yield f"{judge.name} is asked about all edits, up to some {requests} requests{cost}; its answers are kept"


def _pairs_most(subject: Subject) -> int:
    """The most edits of pairs of features, on every image that the report speaks of."""
    return most_pair_edits(subject.study, len(subject.corpus.groups), len(subject.split.reported))


def _joint_most(subject: Subject) -> int:
    """The most edits of joint combinations on every image."""
    options, corpus = subject.study.search, subject.corpus
    if options.joint_search == "published":
        most = most_published(sum(feature.editable for feature in corpus.walk()), options)
    else:
        groups = len(corpus.groups)
        most = most_combinations(min(options.places or groups, groups), options)
    return most * len(subject.samples) * len(subject.seeds)


def _most(subject: Subject, planned: Collection[EditRequest]) -> int:
    """The most edits, besides those planned already, of a full beam's single features on every image.

    Args:
        subject: as its features are edited (`calibrated`).
    """
    options, corpus, images = subject.study.search, subject.corpus, list(subject.samples)

    def missing(combinations: Iterable[Concepts]) -> int:
        requests = [r for r in edit_requests(images, combinations, subject.seeds) if r not in planned]
        return len(requests) - len(subject.store.stored_edits(requests, subject.editor.fingerprint))

    groups = (expand(corpus, [group.id], options) for group in corpus.groups)
    of_groups = [missing(concepts_of([child]) for child in children) for children in groups]
    return missing(level1_combinations(subject.study, corpus)) + sum(sorted(of_groups, reverse=True)[: options.places])
