"""Stage: let the classifier score edits, and pair every edit with the null edit of the same image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from diffex_dagster.classifying.asking import PORTION, outputs_of, said_outputs, try_out
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import (
    becomes,
    check_labels,
    decision_threshold,
    flips,
    has_class,
    measure,
    of_class,
    predicted,
)
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.effects.paired import paired_effects
from diffex_dagster.errors import ClassifierError, StoreError
from diffex_dagster.report.wording import plain
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.edits import Concepts, control_edits, controls_like, edit_requests
from diffex_dagster.store import InOrder, Store, StoredPicture, StoredPictures, edit_key
from diffex_dagster.utils.imports import load_object
from diffex_dagster.utils.progress import Reporter, silent


@dataclass(frozen=True)
class Paired:
    """One combination of concepts on some sample images, in their order; every array has shape (images,).

    The control edits that a claim is held against are those under the same options of the editor.

    Where a study edits under several seeds, each number is the mean over the image's seeds: the seeds of one image are
    not independent images.
    """

    null: np.ndarray  # target measure of the null edit
    edit: np.ndarray  # target measure of the edit
    flipped: np.ndarray  # share of the seeds under which the predicted class differs: 0 or 1 for a single one
    placebo: np.ndarray | None = None  # mean target measure of the control edits; None where the study has none
    became: np.ndarray | None = None  # share of the seeds under which the edit makes it the explained class
    left: np.ndarray | None = None  # share under which it stops being that; both None where no class is explained

    @property
    def effect(self) -> np.ndarray:
        """d = f(edit) − f(null): what is reported."""
        return paired_effects(self.edit, self.null)

    @property
    def base(self) -> np.ndarray:
        """What a test holds the edit against: the control edits, or the null edit where there are none."""
        return self.null if self.placebo is None else self.placebo

    @property
    def beyond_control(self) -> np.ndarray:
        """D = f(edit) − mean over control prompts of f(control edit), what is tested; d where there are none."""
        return paired_effects(self.edit, self.base)

    def on(self, images: np.ndarray) -> Paired:
        """The same of some of the images, (images,) booleans."""
        kept = {name: None if value is None else value[images] for name, value in vars(self).items()}
        return Paired(**kept)  # type: ignore[arg-type]

    @property
    def flips(self) -> np.ndarray:
        """Whether the predicted class differs under at least half of the seeds."""
        return np.asarray(self.flipped >= 0.5)

    @property
    def turns(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Whether it becomes the explained class, and whether it stops being it, under at least half of the seeds."""
        return None if self.became is None or self.left is None else (self.became >= 0.5, self.left >= 0.5)

    @property
    def turned(self) -> np.ndarray:
        """Whether it becomes the explained class or stops being it; where none is explained, changes its class."""
        return self.flips if self.turns is None else np.asarray(self.turns[0] | self.turns[1])

    @property
    def turn_counts(self) -> tuple[int, int] | tuple[None, None]:
        """On how many images it becomes the explained class, and on how many it stops being it."""
        return (None, None) if self.turns is None else (int(self.turns[0].sum()), int(self.turns[1].sum()))

    def turn_of(self, image: int) -> tuple[bool, bool] | tuple[None, None]:
        """The same of one image."""
        return (None, None) if self.turns is None else (bool(self.turns[0][image]), bool(self.turns[1][image]))


def check_target(subject: Subject) -> None:
    """Raise ClassifierError, before any edit is made, when the classifier lacks a class that the study names."""
    try:
        check_labels(subject.classifier.labels, subject.study.target, getattr(subject.classifier, "task", None))
    except ClassifierError as error:
        raise ClassifierError(f"{subject.study.file}: {error}") from error


def check_classifier(subject: Subject, ask: bool = False) -> None:
    """Find out, before any edit is made, whether a classifier can be used: its class names, and what it says of a few
    made-up pictures.

    A classifier that has scored pictures of this study before is not asked again, so that a run whose results are all
    stored needs no weights and no service.

    Args:
        ask: ask it all the same, and leave the results alone.

    Raises:
        ClassifierError: it lacks a class of its target, cannot be loaded, or does not return what it must.
    """
    check_target(subject)
    study, classifier = subject.study, subject.classifier
    if study.target.function is not None:
        load_object(study.target.function, study.folder, "target.function")
    if not ask and subject.store.has_scores(classifier.fingerprint):
        return
    try:
        outputs = try_out(classifier, study.images.size, study.target)
        measure(outputs, classifier.labels, study.target, study.folder, said_outputs(classifier))
    except ClassifierError as error:
        raise ClassifierError(f"{study.file}: classifiers.{subject.name}: {error}") from error


def ensure_scores(subject: Subject, requests: Sequence[EditRequest]) -> tuple[dict[EditRequest, np.ndarray], int]:
    """The classifier's outputs on stored edits, scoring those that it has not seen.

    Returns:
        request -> logits of shape (classes,), and how many were scored now.

    Raises:
        StoreError: an edit does not exist, or was made by another editor (other weights, options, libraries, device).
    """
    requests, store, editor = list(dict.fromkeys(requests)), subject.store, subject.editor.fingerprint
    files = store.stored_edits(requests, editor)
    if len(files) < len(requests):
        raise StoreError(
            f"{store.place}: {len(requests) - len(files)} of {len(requests)} edits are missing (lost, altered), "
            "or were made before the editor changed: level1_edits is missing or stale, materialize it first"
        )
    keys = {request: edit_key(request, editor) for request in requests}
    pictures = StoredPictures({key: StoredPicture(store.pictures, files[request]) for request, key in keys.items()})
    scores, scored = _scores(store, subject.classifier, pictures, subject.report)
    return {request: scores[key] for request, key in keys.items()}, scored


def picture_scores(store: Store, classifier: Classifier, pictures: Mapping[str, Image.Image]) -> dict[str, np.ndarray]:
    """The classifier's outputs on pictures by image key, each of shape (classes,), scoring those it has not seen."""
    return _scores(store, classifier, pictures, silent)[0]


def _scores(
    store: Store, classifier: Classifier, pictures: Mapping[str, Image.Image], report: Reporter
) -> tuple[dict[str, np.ndarray], int]:
    """Outputs by key, and how many were scored now; only those are read, a portion at a time."""
    scores = store.stored_scores(pictures, classifier.fingerprint)
    missing = [key for key in pictures if key not in scores]
    reused = len(pictures) - len(missing)
    report("scores", 0, len(missing), reused)
    named = bool(missing) and isinstance(pictures, StoredPictures)
    portions = getattr(classifier, "portions", None) if named else None  # of one that has workers score
    at_once = PORTION * (portions or 1)
    for start in range(0, len(missing), at_once):
        batch = missing[start : start + at_once]
        outputs = outputs_of(classifier, _pictures_of(pictures, batch, portions is not None))
        new = dict(zip(batch, outputs, strict=True))
        store.put_scores(new, classifier.fingerprint)
        scores |= new
        report("scores", start + len(batch), len(missing), reused)
    return scores, len(missing)


def _pictures_of(pictures: Mapping[str, Image.Image], keys: Sequence[str], named: bool) -> Sequence[Image.Image]:
    """Some of the pictures in order, decoded; or only named, to be read by others."""
    if named and isinstance(pictures, StoredPictures):
        return InOrder([pictures.stored[key] for key in keys])
    if isinstance(pictures, StoredPictures):
        return pictures.several(keys)
    return [pictures[key] for key in keys]


def decisions_in_words(subject: Subject, logits: np.ndarray) -> list[str]:
    """What each picture is taken for: the predicted class, or the side of the threshold; "" of a number.

    Args:
        logits: shape (N, classes).
    """
    classifier, study = subject.classifier, subject.study
    threshold, labels = decision_threshold(study.target), classifier.labels
    if threshold is None:
        named = len(labels) > 1
        return [f"“{plain(labels[int(each)], 40)}”" if named else "" for each in predicted(logits)]
    above = of_class(logits, labels, study.target, study.folder, said_outputs(classifier))
    return [f"{'above' if each else 'not above'} {threshold:g}" for each in above]


def paired_scores(
    subject: Subject, combinations: Sequence[Concepts], images: Sequence[str]
) -> tuple[dict[Concepts, Paired], int]:
    """Score stored edits of each image under each combination, paired with the null edits and the control edits.

    The edits towards the study's control prompts are scored too and are in the answer, each held against the others.

    Args:
        images: keys of the sample images.

    Returns:
        combination -> paired scores, and how many pictures were scored now.
    """
    study, classifier = subject.study, subject.classifier
    controls = control_edits(study)
    wanted = list(dict.fromkeys([(), *controls, *combinations]))
    outputs, scored = ensure_scores(subject, edit_requests(images, wanted, study.seeds))

    def stack(concepts: Concepts) -> np.ndarray:
        """Logits (images · seeds, classes)."""
        return np.stack([outputs[request] for request in edit_requests(images, [concepts], study.seeds)])

    def by_image(values: np.ndarray) -> np.ndarray:
        return values.reshape(len(images), len(study.seeds)).mean(axis=1)

    def target(logits: np.ndarray) -> np.ndarray:
        return by_image(measure(logits, classifier.labels, study.target, study.folder, said))

    said = said_outputs(classifier)
    null = stack(())
    logits = {concepts: stack(concepts) for concepts in wanted}
    measured = {concepts: target(of) for concepts, of in logits.items()}

    def placebo(concepts: Concepts) -> np.ndarray | None:
        of_others = [measured[control] for control in controls_like(study, concepts) if control != concepts]
        return np.mean(of_others, axis=0) if of_others else None

    paired = {}
    for concepts in wanted:
        edit, labels, folder = logits[concepts], classifier.labels, study.folder
        flipped = flips(null, edit, labels, study.target, folder, said)
        turns: list[np.ndarray | None] = [None, None]
        if has_class(labels, study.target):
            turns = [by_image(each) for each in becomes(null, edit, labels, study.target, folder, said)]
        paired[concepts] = Paired(measured[()], measured[concepts], by_image(flipped), placebo(concepts), *turns)
    return paired, scored


def tested_effects(paired: Mapping[Concepts, Paired]) -> dict[Concepts, np.ndarray]:
    """Only D, which searches and tests go by."""
    return {concepts: scores.beyond_control for concepts, scores in paired.items()}
