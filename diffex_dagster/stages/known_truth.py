"""What a study's world says of itself, where it knows the truth (`truth` of a study file).

No other stage asks it, and nothing that is decided depends on it: it grades what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from diffex_dagster.classifying.asking import said_outputs
from diffex_dagster.classifying.target import measure
from diffex_dagster.effects.completeness import LEAST
from diffex_dagster.errors import DiffExError, StudyError
from diffex_dagster.results import Completeness
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.scores import picture_scores
from diffex_dagster.store import image_key
from diffex_dagster.study import Study
from diffex_dagster.utils.imports import at_own_code, load_object
from diffex_dagster.utils.secrets import logger

TOP = 10
"""Attributes of a world with the largest true effects, of which a corpus should name as many as it can."""

NOT_ASKED = "its classifier is a service, which is not asked to score drawings of every attribute"
FAILS = "what the study’s truth names fails; the log of the run says how"

log = logger(__name__)

Prompt = tuple[str, str]  # with its direction


class TruthError(DiffExError):
    """What a study's `truth` names cannot be imported, or fails by itself, not by what it asks."""


def true_effects(subject: Subject, prompts: Sequence[Prompt]) -> dict[Prompt, float]:
    """The true mean effect of each prompt on the reported images, by the world that the study names.

    Raises:
        TruthError: it fails.
        DiffExError: the classifier that it asks fails, or the store of its answers.
    """
    study, model, store = subject.study, subject.classifier, subject.store
    assert study.truth is not None
    truth_of, failed = _truth_of(subject), list[Exception]()

    def scores(pictures: list[Image.Image]) -> np.ndarray:
        keys = [image_key(picture) for picture in pictures]
        known = picture_scores(store, model, dict(zip(keys, pictures, strict=True)))
        outputs = np.stack([known[key] for key in keys])
        return measure(outputs, model.labels, study.target, study.folder, said_outputs(model))

    def score(pictures: list[Image.Image]) -> np.ndarray:
        try:
            return scores(pictures)
        except Exception as error:
            failed.append(error)
            raise

    samples = subject.samples
    names = [samples[image] for image in subject.split.reported]
    try:
        with _asking(study):
            found = truth_of(study.folder, list(dict.fromkeys(prompts)), score, names, store.folder / "drawings")
            return {prompt: float(found[prompt]) for prompt in prompts}
    except DiffExError as error:
        if failed:
            raise failed[0] from None
        raise TruthError(str(error)) from error


def _asking(study: Study) -> AbstractContextManager[None]:
    """Around a call of what the study's `truth` names."""
    remedy = "mend it, or leave truth out of the study"
    return at_own_code(f"{study.file}: truth: {study.truth} fails", remedy, TruthError)


def _truth_of(subject: Subject) -> Any:
    study = subject.study
    assert study.truth is not None
    try:
        return load_object(study.truth, study.folder, "truth")
    except StudyError as error:
        raise TruthError(str(error)) from error


def with_corpus_recall(found: Completeness, subject: Subject, margin: float) -> Completeness:
    """The same with how many of the attributes that matter most in truth the corpus names.

    As it is where the study's world does not say which attributes there are (`attributes` of the object that `truth`
    names), and of fewer images than completeness takes. A report does not depend on it: where the truth fails, the log
    says how and the report that it did. A classifier behind a service is not asked: it may cost what nobody agreed to.

    Args:
        margin: true effects up to it do not matter.

    Raises:
        DiffExError: the classifier fails on what the world draws, or the store of its answers.
    """
    try:
        knows = _knows_attributes(subject)
        if knows is None:
            return found
        if subject.study.classifiers[subject.name].service:
            return replace(found, recall_why=NOT_ASKED)
        named = _named(subject, knows)
        true = {name: abs(effect) for (name, _), effect in true_effects(subject, [(n, "add") for n in named]).items()}
    except TruthError as error:
        log.warning("%s: corpus recall is not known: %s", subject.name, error)
        return replace(found, recall_why=FAILS)
    strongest = sorted((name for name in named if true[name] > margin), key=lambda name: -true[name])[:TOP]
    if not strongest:
        return replace(found, recall_why="no attribute of its world moves it by more than the margin, in truth")
    missing = tuple(name for name in strongest if not named[name])
    share = 1 - len(missing) / len(strongest)
    return replace(found, recall=share, recall_of=len(strongest), missing=missing)


def recall_cost(subject: Subject) -> tuple[int, int]:
    """What corpus recall takes of a classifier at most: (attributes of the world, drawings that are made and scored).

    Each reported image is drawn as it is, and once with each attribute. Nothing where `with_corpus_recall` asks for
    nothing, or the truth cannot be asked: the run says how it fails.
    """
    try:
        knows = None if subject.study.classifiers[subject.name].service else _knows_attributes(subject)
        named = _named(subject, knows) if knows else {}
    except TruthError:
        named = {}
    return (len(named), (len(named) + 1) * len(subject.split.reported)) if named else (0, 0)


def _knows_attributes(subject: Subject) -> Any:
    """What says which attributes the study's world has; None where nothing does, and of too few images.

    Raises:
        TruthError: the truth cannot be imported.
    """
    if subject.study.truth is None or len(subject.split.reported) < LEAST:
        return None
    return getattr(_truth_of(subject), "attributes", None)


def _named(subject: Subject, knows: Any) -> dict[str, bool]:
    """Every attribute of the study's world, and whether the corpus names it.

    Raises:
        TruthError: the truth fails.
    """
    with _asking(subject.study):
        return dict(knows([f.prompt for f in subject.corpus.walk() if f.editable and f.direction == "add"]))
