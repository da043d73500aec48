"""Trying a classifier out on made-up pictures, before anything costs time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from diffex_dagster.classifying.base import BatchedClassifier
from diffex_dagster.classifying.measures.base import class_index
from diffex_dagster.classifying.outputs import Outputs, between_zero_and_one, contradiction
from diffex_dagster.classifying.parts import Target
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import check_labels
from diffex_dagster.errors import ClassifierError
from diffex_dagster.utils.imports import at_own_code

PORTION = 128  # pictures that are read and scored at a time


def said_outputs(classifier: Classifier) -> Outputs:
    """What a classifier returns, as the study or the model says; logits for one that says nothing of it."""
    return classifier.outputs if isinstance(classifier, BatchedClassifier) else "logits"


def outputs_of(classifier: Classifier, pictures: Sequence[Image.Image]) -> np.ndarray:
    """What a classifier, which may be anybody's, says of pictures.

    Returns:
        Logits, float64 of shape (pictures, classes), finite.

    Raises:
        ClassifierError: it fails, or returns something else.
    """
    it = f"the classifier {classifier.__class__.__name__}"
    doing, remedy = f"{it} fails on {len(pictures)} pictures", "mend it: what it scored before is kept"
    with at_own_code(doing, remedy, ClassifierError):
        outputs = np.asarray(classifier(pictures), dtype=np.float64)
    if outputs.shape != (len(pictures), len(classifier.labels)):
        raise ClassifierError(
            f"{it} returned an array of shape {outputs.shape} for {len(pictures)} pictures; it must return "
            f"one row of outputs for each, ({len(pictures)}, {len(classifier.labels)})"
        )
    if not np.isfinite(outputs).all():
        raise ClassifierError(f"{it} returned values that are not finite; check its weights and preprocessing")
    return outputs


def made_up_pictures(side: int, count: int) -> list[Image.Image]:
    """Pictures that differ much from each other: grey, dark and bright noise, two halves of different colours.

    Args:
        side: in pixels.
        count: up to 5.
    """
    random = np.random.default_rng(0)
    halves = np.full((side, side, 3), (40, 40, 200), dtype=np.uint8)
    halves[:, : side // 2] = (200, 40, 40)
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    green = np.stack([np.tile(ramp, (side, 1)), np.full((side, side), 200, np.uint8), np.tile(ramp[:, None], side)], -1)
    pixels = [
        np.full((side, side, 3), 127, dtype=np.uint8),
        random.integers(0, 60, (side, side, 3)).astype(np.uint8),
        random.integers(195, 256, (side, side, 3)).astype(np.uint8),
        halves,
        green,
    ]
    return [Image.fromarray(each) for each in pixels[:count]]


def try_out(classifier: Classifier, side: int, target: Target) -> np.ndarray:
    """A classifier's outputs on a few made-up pictures, after a look at whether they are what they are said to be.

    Several pictures, since rows that sum to 1 by chance, outputs that do not depend on the picture, and a model that
    takes one picture at a time, show in several only; and never as many as there are classes.

    Returns:
        Logits, shape (pictures, classes).

    Raises:
        ClassifierError: the classifier cannot score them, its outputs may be probabilities and nobody says so, or the
            target's measure cannot vary.
    """
    pictures = made_up_pictures(side, 5 if len(classifier.labels) == 4 else 4)
    outputs = outputs_of(classifier, pictures)
    if isinstance(classifier, BatchedClassifier):
        _unsaid(classifier, outputs, target)
        check_labels(
            classifier.labels, target, classifier.task
        )  # once more: now it is known how many outputs there are
    _varies(classifier, outputs, target)
    return outputs


def _unsaid(classifier: BatchedClassifier, outputs: np.ndarray, target: Target) -> None:
    """Raise ClassifierError for outputs that all lie in [0, 1] where nobody says whether they are probabilities."""
    unsaid = classifier.given_outputs is None and classifier.outputs == "logits" and classifier.task is None
    own = outputs[:, -1:] if classifier.columns == 1 else outputs  # a zero stands for the first of two classes
    if unsaid and not target.kind.takes_what_is_said and between_zero_and_one(own):
        fitting = ["sigmoid"] if classifier.columns == len(classifier.labels) else ["probabilities"]
        seen = f"the outputs of {len(outputs)} different pictures are all between 0 and 1, as a sigmoid's are"
        raise contradiction(classifier.name, "nothing says what they are", seen, [*fitting, "logits"])


def _varies(classifier: Classifier, outputs: np.ndarray, target: Target) -> None:
    """Raise ClassifierError where one output stands for two classes and the target is the one that has none."""
    one_of_two = len(classifier.labels) == 2 and target.kind.of_one_logit and target.label
    if not one_of_two or said_outputs(classifier) == "probabilities":
        return
    column = class_index(classifier.labels, target.label)
    if not outputs[:, column].any() and np.ptp(outputs[:, 1 - column]) > 0:
        other = classifier.labels[1 - column]
        raise ClassifierError(
            f"target.measure: the classifier has one output, the log-odds of {other!r}: the {target.measure} of "
            f"{target.label!r} is the same for every picture; explain {other!r}, or write measure: probability"
        )
