"""What a classifier's scores of the user's own pictures say of how it is used, where something looks wrong.

A network that gets pixels in another form than in training still returns scores; only a person who knows the model can
say that they are wrong. So these are hints, never errors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffex_dagster.classifying.parts import Target
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.classifying.target import predicted

FEW = 4  # images; fewer may be alike
ALIKE = 0.05  # probabilities that differ by no more over all images
NEVER, ALWAYS = 0.01, 0.99  # a probability that no image exceeds, or that each does
COMMON = "{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}"


def unsaid_preparation(classifier: Classifier) -> str:
    """A sentence where nobody says how pixels become the model's input: the study, a manifest, nor the model file."""
    if getattr(classifier, "says_preparation", True):
        return ""
    return (
        "Neither the study, nor a file beside the model, nor the model says how pixels become its input: it gets RGB "
        "from 0 to 1. A model that was trained on normalised pictures scores these wrong without an error. Write its "
        f"preprocessing, often {COMMON}, or {{mean: 0, std: 1}} if 0 to 1 is right."
    )


def hints_of_scores(outputs: NDArray[np.float64], values: NDArray[np.float64], target: Target) -> list[str]:
    """What looks wrong about a classifier's scores of the sample images, a sentence each.

    Args:
        outputs: logits, (images, classes).
        values: the target measure, (images,).
        target: what is measured.
    """
    images = len(values)
    if images < FEW:
        return []
    what, least, most = target.describe(), float(values.min()), float(values.max())
    check = "check that its preprocessing is that of its training, and that these are pictures of the kind it knows"
    if np.ptp(outputs, axis=0).max() <= 1e-6 * max(1.0, float(abs(outputs).max())):
        return [f"The classifier says the same of all {images} images, to the last digit: {check}."]
    if target.bounded and most <= NEVER:
        return [
            f"On none of the {images} images is the {what} above {_short(most)}. Edits may move it too little to be "
            f"seen: {check}; else explain another class, or measure the logit."
        ]
    if target.bounded and least >= ALWAYS:
        return [
            f"On each of the {images} images the {what} is {_short(least)} or more, so that no edit can raise it: "
            "measure the logit, or a margin, where that matters."
        ]
    if target.bounded and most - least <= ALIKE:
        return [f"The {what} is nearly the same on all {images} images, {least:.2f} to {most:.2f}: {check}."]
    if not target.bounded and most - least <= 1e-3 * max(abs(least), abs(most)):
        return [f"The {what} is nearly the same on all {images} images, {least:.4g} to {most:.4g}: {check}."]
    return []


def predictions_in_words(outputs: NDArray[np.float64], labels: Sequence[str]) -> str:
    """How many images are predicted as each class, the most frequent first: `artist 15, office worker 4, student 1`."""
    counts = Counter(labels[number] for number in predicted(outputs))
    shown = [f"{label} {count}" for label, count in counts.most_common(5)]
    return ", ".join([*shown, *([f"{len(counts) - 5} more classes"] if len(counts) > 5 else [])])


def _short(probability: float) -> str:
    return f"{probability:.1g}" if probability < 0.5 else f"{probability:.3f}"
