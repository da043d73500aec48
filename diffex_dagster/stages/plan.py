"""What a materialization would do now: edits, scores and edit checks that are missing or reused. None is made."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.judging.vlm import QUESTIONS, VlmJudge
from diffex_dagster.search.algorithm1 import most_published
from diffex_dagster.search.joint import most_combinations
from diffex_dagster.search.levels import expand
from diffex_dagster.stages.calibration import planned_tries
from diffex_dagster.stages.context import StudyContext, Subject
from diffex_dagster.stages.edits import Concepts, concepts_of, edit_requests, level1_combinations, level1_requests
from diffex_dagster.stages.interactions import most_pair_edits
from diffex_dagster.stages.search import run_search
from diffex_dagster.stages.setup import know
from diffex_dagster.stages.source_prompts import most_tries, still_to_find
from diffex_dagster.stages.splits import image_split
from diffex_dagster.store import Store, edit_key
from diffex_dagster.study import Study
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


class NotThere:
    """In the place of an editor or a classifier whose weights are not on this machine: it has made nothing so far."""

    fingerprint = "not there"
    labels: tuple[str, ...] = ()

    def __call__(self, pictures: Sequence[Image.Image]) -> NDArray[np.float64]:
        """Never asked."""
        raise _UnknownYetError

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        """Never asked."""
        raise _UnknownYetError


class _UnknownYetError(Exception):
    """What a stage does next depends on something that does not exist yet."""


class _Recorder(Store):
    """A store as the next run will find it, which notes what is asked of it and stops who asks for what is missing.

    Stages run on it as they are, so that a plan cannot differ from the run that it speaks of.
    """

    planning = True

    def __init__(self, store: Store, corpus: Corpus, samples: Mapping[str, str]) -> None:
        super().__init__(store.folder, pictures=store.pictures.place, database=store.database)
        self.corpus, self.chosen = corpus, dict(samples)
        self.edits: dict[EditRequest, bool] = {}  # asked for -> whether it exists
        self.scores: dict[EditRequest, bool] = {}
        self.checks_missing = 0
        self.classifier: str | None = None

    def current_corpus(self, study: str, what: str = "corpus") -> Corpus:
        return self.corpus if what == "corpus" else super().current_corpus(study, what)

    def samples(self, study: str) -> dict[str, str]:
        return dict(self.chosen)

    def record(self, requests: Sequence[EditRequest], editor: str) -> dict[EditRequest, str]:
        """Note which of these exist and which are scored; nobody is stopped."""
        stored = super().stored_edits(requests, editor)
        self.edits |= {request: request in stored for request in requests}
        if self.classifier is not None:
            keys = {request: edit_key(request, editor) for request in requests}
            scored = super().stored_scores(keys.values(), self.classifier)
            self.scores |= {request: key in scored for request, key in keys.items()}
        return stored

    def stored_edits(self, requests: Sequence[EditRequest], editor: str) -> dict[EditRequest, str]:
        stored = self.record(requests, editor)
        if len(stored) < len(set(requests)):
            raise _UnknownYetError
        return stored

    def stored_scores(self, subjects: Iterable[str], classifier: str) -> dict[str, np.ndarray]:
        wanted = set(subjects)
        found = super().stored_scores(wanted, classifier)
        if len(found) < len(wanted):
            raise _UnknownYetError
        return found

    def stored_evidence(self, pairs: Iterable[tuple[str, str]], judge: str) -> dict[tuple[str, str], float]:
        wanted = set(pairs)
        found = super().stored_evidence(wanted, judge)
        if len(found) < len(wanted):
            self.checks_missing = len(wanted) - len(found)
            raise _UnknownYetError
        return found


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
        corpus = work.corpus if corpus is None else corpus
        samples = work.samples if samples is None else samples
        return _plan_edits(work, classifiers, corpus, samples)


def _plan_edits(
    work: StudyContext, classifiers: Sequence[str], corpus: Corpus, samples: Mapping[str, str]
) -> list[PlannedStage]:
    store, editor = work.store, work.editor.fingerprint
    pace = store.seconds_per_edit(editor)
    planned: set[EditRequest] = set()  # what an earlier stage of the same run makes is there for the later ones

    def stage(name: str, edits: Mapping[EditRequest, bool], scores: Collection[bool], note: str = "") -> PlannedStage:
        missing = [request for request, exists in edits.items() if not exists and request not in planned]
        planned.update(missing)
        seconds = None if pace is None else len(missing) * pace
        scored = sum(scores)
        return PlannedStage(name, len(missing), len(edits) - len(missing), len(scores) - scored, scored, seconds, note)

    recorder = _Recorder(store, corpus, samples)
    there = work.changed(store=recorder)
    level1 = level1_requests(there)
    searched_on = set(there.split.discovery)
    recorder.record(level1, editor)
    stages = [
        *_source_prompts(work, corpus, samples, pace),
        *_calibration(work, corpus, samples, pace),
        stage("level1_edits", recorder.edits, ()),
    ]
    for name in classifiers:
        recorder = _Recorder(store, corpus, samples)
        subject = work.subject(name)
        recorder.classifier = subject.classifier.fingerprint
        recorder.record([request for request in level1 if request.image in searched_on], editor)
        known = dict(recorder.scores)
        stages.append(stage(f"{name}/level1_scores", {}, known.values()))
        recorder.edits.clear()
        if isinstance(subject.classifier, NotThere) or isinstance(work.editor, NotThere):
            note = _may_follow(subject, recorder, editor, planned)
        else:
            note = _follow(subject, recorder, planned, all(known.values()))
        note = "; ".join(filter(None, (note, *_judges_asked(subject, recorder)))) if note else ""
        scores = [exists for request, exists in recorder.scores.items() if request not in known]
        stages.append(stage(f"{name}/level2_scores", recorder.edits, scores, note))
    return stages


def plan_of(work: StudyContext, stage: str) -> PlannedStage:
    """What one of the stages that edit for no classifier would do now (see `plan_edits`)."""
    return next(planned for planned in plan_edits(work, []) if planned.stage == stage)


def _source_prompts(
    work: StudyContext, corpus: Corpus, samples: Mapping[str, str], pace: float | None
) -> list[PlannedStage]:
    """Finding the words that pictures are described in, where they are not frozen yet."""
    if not work.study.finds_source_prompts:
        return []
    if not still_to_find(work):
        return [PlannedStage("source_prompts")]
    most = most_tries(work.study, corpus, len(samples))
    note = "at most, to find out whether the words of the corpus do harm"
    return [PlannedStage("source_prompts", most, seconds=None if pace is None else most * pace, note=note)]


def _calibration(
    work: StudyContext, corpus: Corpus, samples: Mapping[str, str], pace: float | None
) -> list[PlannedStage]:
    """Finding options for prompts that have none."""
    if not work.study.calibrates:
        return []
    prompts, most = planned_tries(work, corpus, samples)
    if not prompts:
        return [PlannedStage("editor_calibration")]
    note = f"at most, to find the options of {prompts} prompts; later stages are counted as if these were known"
    return [PlannedStage("editor_calibration", most, seconds=None if pace is None else most * pace, note=note)]


def _follow(subject: Subject, recorder: _Recorder, planned: Collection[EditRequest], gate_known: bool) -> str:
    """Search as far as the store knows what the search asks for; returns what remains unknown."""
    try:
        run_search(subject.changed(store=recorder, report=silent))
    except _UnknownYetError:
        if recorder.checks_missing:
            return f"and {recorder.checks_missing} checks of whether edits show their attribute"
        if gate_known:
            joint, pairs = _joint_most(subject.study, recorder), _pairs_most(subject.study, recorder)
            of_pairs = f"up to {pairs} of pairs, " if pairs else ""
            return (
                f"and what the scores of these lead to (deeper levels, up to {joint} edits of joint combinations, "
                f"{of_pairs}confirmation)"
            )
        return _may_follow(subject, recorder, subject.editor.fingerprint, planned)
    return ""


def _may_follow(subject: Subject, recorder: _Recorder, editor: str, planned: Collection[EditRequest]) -> str:
    """How many edits a search may ask for, where nothing is known of its scores."""
    there = subject.changed(store=recorder).calibrated()
    study, corpus = there.study, there.corpus
    joint, pairs = _joint_most(study, recorder), _pairs_most(study, recorder)
    most = _most(study, corpus, recorder, editor, planned) + joint + pairs
    other = ", and a tenth more the other way where edits are judged" if study.effects.absence else ""
    of_pairs = f" and {pairs} of pairs" if pairs else ""
    return f"and up to {most} edits of the groups it keeps, {joint} of them of joint combinations{of_pairs}{other}"


def _judges_asked(subject: Subject, recorder: _Recorder) -> Iterator[str]:
    """How often judges behind a server are asked about the whole study, with the price where it is known.

    Every edited picture is one request. A null edit is asked about in rounds (control prompts, groups, their children,
    what is looked for beside the strongest), and the edits of the strongest about every other feature.
    """
    study, images = subject.study, len(recorder.samples(subject.study.kept_as)) * len(subject.study.seeds)
    features = sum(feature.editable for feature in recorder.corpus.walk())
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


def _pairs_most(study: Study, recorder: _Recorder) -> int:
    """The most edits of pairs of features, on every image that the report speaks of."""
    return most_pair_edits(study, len(recorder.corpus.groups), len(image_split(study, recorder).reported))


def _joint_most(study: Study, recorder: _Recorder) -> int:
    """The most edits of joint combinations on every image."""
    options, images = study.search, len(recorder.samples(study.kept_as))
    if options.joint_search == "published":
        most = most_published(sum(feature.editable for feature in recorder.corpus.walk()), options)
    else:
        groups = len(recorder.corpus.groups)
        most = most_combinations(min(options.places or groups, groups), options)
    return most * images * len(study.seeds)


def _most(study: Study, corpus: Corpus, recorder: _Recorder, editor: str, planned: Collection[EditRequest]) -> int:
    """The most edits, besides those planned already, of a full beam's single features on every image.

    Args:
        study, corpus: as they are edited (`calibrated`).
    """
    options, images = study.search, list(recorder.samples(study.kept_as))

    def missing(combinations: Iterable[Concepts]) -> int:
        requests = [r for r in edit_requests(images, combinations, study.seeds) if r not in planned]
        return len(requests) - len(Store.stored_edits(recorder, requests, editor))

    groups = (expand(corpus, [group.id], options) for group in corpus.groups)
    of_groups = [missing(concepts_of([child]) for child in children) for children in groups]
    return missing(level1_combinations(study, corpus)) + sum(sorted(of_groups, reverse=True)[: options.places])
