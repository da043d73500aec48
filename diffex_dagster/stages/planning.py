"""What a materialization would do now: edits and scores that are missing or reused, found without making any."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import flips, measure
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.search.joint import key
from diffex_dagster.search.levels import expand
from diffex_dagster.search.run import search
from diffex_dagster.stages.edits import Concepts, concepts_of, edit_requests, level1_combinations
from diffex_dagster.stages.scores import Paired
from diffex_dagster.stages.searching import measure_noise
from diffex_dagster.store import Store, edit_key
from diffex_dagster.study import Study

PAUSE_S = 300.0  # commits further apart than this were not made by one run: the time between them says nothing


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


@dataclass
class _Looked:
    """What a search has asked for so far."""

    edits: dict[EditRequest, bool] = field(default_factory=dict)  # whether it exists
    scores: dict[EditRequest, bool] = field(default_factory=dict)


class _UnknownYetError(Exception):
    """The search needs an edit or a score that does not exist."""


def seconds_per_edit(store: Store, editor: str) -> float | None:
    """The pace at which the edits of an editor (fingerprint) were committed; None with fewer than two batches."""
    frame = store.query(
        """SELECT sum(gap) AS seconds, sum(n) AS edits FROM (
            SELECT n, epoch(created) - lag(epoch(created)) OVER (ORDER BY created) AS gap FROM (
                SELECT created, count(*) AS n FROM edits WHERE editor = $1 GROUP BY created))
        WHERE gap < $2""",
        [editor, PAUSE_S],
    )
    seconds, edits = frame["seconds"][0], frame["edits"][0]
    return float(seconds) / float(edits) if edits and edits > 0 else None


def plan_edits(
    study: Study,
    store: Store,
    editor: str,
    classifiers: Mapping[str, Classifier],
    corpus: Corpus,
    images: Sequence[str],
) -> list[PlannedStage]:
    """Every stage that edits or scores, in the order in which they would run.

    A search decides by its scores what to edit next, so that a stage whose scores are missing is known up to there; its
    note says how much may follow.

    Args:
        editor: fingerprint.
        corpus: as it would be merged now.
        images: keys of the sample images as they are now.
    """
    pace = seconds_per_edit(store, editor)
    planned: set[EditRequest] = set()  # what an earlier stage of the same run makes is there for the later ones

    def stage(name: str, looked: _Looked, note: str = "") -> PlannedStage:
        missing = [request for request, exists in looked.edits.items() if not exists and request not in planned]
        planned.update(missing)
        scored = sum(looked.scores.values())
        return PlannedStage(
            name,
            len(missing),
            len(looked.edits) - len(missing),
            len(looked.scores) - scored,
            scored,
            None if pace is None else len(missing) * pace,
            note,
        )

    level1 = edit_requests(images, level1_combinations(study, corpus), study.seed)
    stages = [stage("level1_edits", _look(store, editor, level1, None))]
    for name, classifier in classifiers.items():
        only_scores = _Looked({}, _look(store, editor, level1, classifier.fingerprint).scores)
        stages.append(stage(f"{name}/level1_scores", only_scores))
        looked, note = _search(study.for_classifier(name), store, editor, classifier, corpus, images, planned)
        looked.scores = {request: known for request, known in looked.scores.items() if request not in set(level1)}
        stages.append(stage(f"{name}/level2_scores", looked, note))
    return stages


def _look(store: Store, editor: str, requests: Sequence[EditRequest], classifier: str | None) -> _Looked:
    stored = store.stored_edits(requests, editor)
    looked = _Looked({request: request in stored for request in requests})
    if classifier is not None:
        keys = {request: edit_key(request, editor) for request in requests}
        scored = store.stored_scores(keys.values(), classifier)
        looked.scores = {request: key in scored for request, key in keys.items()}
    return looked


def _search(
    study: Study,
    store: Store,
    editor: str,
    classifier: Classifier,
    corpus: Corpus,
    images: Sequence[str],
    planned: Collection[EditRequest],
) -> tuple[_Looked, str]:
    """Follow the search as far as the store knows the scores that it asks for."""
    seen = _Looked()

    def paired(combinations: Sequence[Concepts]) -> dict[Concepts, Paired]:
        requests = edit_requests(images, [(), *combinations], study.seed)
        looked = _look(store, editor, requests, classifier.fingerprint)
        seen.edits |= looked.edits
        seen.scores |= looked.scores
        if not (all(looked.edits.values()) and all(looked.scores.values())):
            raise _UnknownYetError
        outputs = store.stored_scores((edit_key(request, editor) for request in requests), classifier.fingerprint)

        def stack(concepts: Concepts) -> NDArray[np.float64]:
            return np.stack([outputs[edit_key(EditRequest(i, concepts, study.seed), editor)] for i in images])

        def target(logits: NDArray[np.float64]) -> NDArray[np.float64]:
            return measure(logits, classifier.labels, study.target, study.folder)

        null = stack(())
        return {
            concepts: Paired(
                target(null), target(edit), flips(null, edit, classifier.labels, study.target, study.folder)
            )
            for concepts, edit in ((concepts, stack(concepts)) for concepts in combinations)
        }

    levels = 0

    def score(combinations: Sequence[tuple[Feature, ...]]) -> dict[tuple[str, ...], NDArray[np.float64]]:
        nonlocal levels
        found = paired([concepts_of(features) for features in combinations])
        levels += 1
        return {key(features): found[concepts_of(features)].effect for features in combinations}

    try:
        noise = measure_noise(study, paired([(Concept(text),) for text in study.effects.nonsense]))
        search(corpus, score, study.search.options(), noise_floor=noise.floor)
    except _UnknownYetError:
        if levels == 0:
            most = _most(study, store, editor, corpus, images, planned)
            return seen, f"and up to {most} edits of the groups it keeps"
        return seen, "and what the scores of these lead to (deeper levels, joint combinations)"
    return seen, ""


def _most(
    study: Study, store: Store, editor: str, corpus: Corpus, images: Sequence[str], planned: Collection[EditRequest]
) -> int:
    """The most edits, besides those planned already, that expanding a full beam could need."""
    options = study.search.options()
    of_groups = []
    for group in corpus.groups:
        children = [concepts_of([child]) for child in expand(corpus, [group.id], options)]
        looked = _look(store, editor, edit_requests(images, children, study.seed), None)
        of_groups.append(sum(not exists and request not in planned for request, exists in looked.edits.items()))
    return sum(sorted(of_groups, reverse=True)[: options.beam])
