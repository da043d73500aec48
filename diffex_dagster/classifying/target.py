"""The target measure f: what an effect is measured in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffex_dagster.classifying.measures.base import Scored, with_article
from diffex_dagster.classifying.outputs import Outputs
from diffex_dagster.classifying.parts import Target
from diffex_dagster.errors import ClassifierError


def measure(
    outputs: np.ndarray, labels: Sequence[str], target: Target, folder: Path = Path(), said: Outputs = "logits"
) -> np.ndarray:
    """Logits -> the target measure.

    Args:
        outputs: logits, shape (N, classes).
        labels: names of the columns.
        target: what is measured: "probability" (softmax; of several classes the sum), "sigmoid" (of one logit, for
            multi-label classifiers), "logit", "margin" (logit minus that of `against`), "value" (the output as it is),
            "expected" (the mean of the classes' values, weighted with their probabilities) or "function".
        folder: where a function's module may be, besides the installed ones.
        said: what the classifier returns: a value or a function sees that, not logits.

    Returns:
        f for each picture, shape (N,).

    Raises:
        ClassifierError: an unknown class name (the message lists the known ones), or a function that returns something
            else than one number a picture.
    """
    return target.kind.values(Scored(outputs, labels, folder, said), target)


def flips(
    before: np.ndarray,
    after: np.ndarray,
    labels: Sequence[str],
    target: Target,
    folder: Path,
    said: Outputs = "logits",
) -> np.ndarray:
    """Which pictures an edit flips: the measure crosses the target's threshold, else the predicted class changes.

    A sigmoid's threshold is 0.5 where the target names none, since its classes do not compete.

    Args:
        before, after: logits of the null edits and of the edits, shape (N, classes).

    Returns:
        Booleans of shape (N,).
    """
    if decision_threshold(target) is None:
        return np.asarray(predicted(before) != predicted(after))
    gained, lost = becomes(before, after, labels, target, folder, said)
    return np.asarray(gained | lost)


def becomes(
    before: np.ndarray,
    after: np.ndarray,
    labels: Sequence[str],
    target: Target,
    folder: Path = Path(),
    said: Outputs = "logits",
) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures an edit makes the explained class, and which it makes another one.

    A picture is of the explained class when its measure is above the target's threshold, else when that class (one of
    them, where several are explained) is the predicted one. A change between two other classes is neither. A value or a
    function without a threshold has no class: nothing becomes it.

    Args:
        before, after: logits of the null edits and of the edits, shape (N, classes).

    Returns:
        Booleans of shape (N,): became it, and stopped being it.
    """
    was, is_now = (of_class(outputs, labels, target, folder, said) for outputs in (before, after))
    return np.asarray(~was & is_now), np.asarray(was & ~is_now)


def of_class(
    outputs: np.ndarray, labels: Sequence[str], target: Target, folder: Path = Path(), said: Outputs = "logits"
) -> np.ndarray:
    """Which pictures are of the explained class, see `becomes`: booleans of shape (N,) of logits (N, classes)."""
    threshold = decision_threshold(target)
    if threshold is not None:
        return np.asarray(measure(outputs, labels, target, folder, said) > threshold)
    columns = [number for number, label in enumerate(labels) if label in target.members]
    return np.isin(predicted(outputs), columns)


def boundary(
    outputs: np.ndarray, labels: Sequence[str], target: Target, folder: Path = Path(), said: Outputs = "logits"
) -> np.ndarray | None:
    """The value of the measure above which a picture is of the explained class (`of_class`), shape (N,).

    The target's threshold; where the predicted class decides, it depends on how probable the other classes are.
    None where nothing is decided, or the measure cannot say where.
    """
    threshold = decision_threshold(target)
    if threshold is not None:
        return np.full(len(outputs), float(threshold))
    return target.kind.boundary(Scored(outputs, labels, folder, said), target) if has_class(labels, target) else None


def has_class(labels: Sequence[str], target: Target) -> bool:
    """Whether "becomes it" means something: there is a threshold, or a class among several that is explained."""
    return decision_threshold(target) is not None or (
        len(labels) > 1 and any(label in labels for label in target.members)
    )


def check_labels(labels: Sequence[str], target: Target, task: str | None = None) -> None:
    """Find out whether a target can be measured on a classifier.

    Args:
        labels: of the classifier.
        target: what is to be measured.
        task: what the outputs stand for, where the classifier says it: "classes", "labels" or "values".

    Raises:
        ClassifierError: the classifier lacks a class that the target names, or its outputs are not what the measure is
            made for: a softmax over labels that do not compete, a probability of a regression.
    """
    kind, a_measure = target.kind, with_article(target.measure)
    kind.check(labels, target)
    if kind.competing and len(labels) == 1:
        raise ClassifierError(
            f"target.measure: the classifier has one output, {labels[0]!r}, and {a_measure} of it is the same for "
            "every picture; write measure: value for a regression, or measure: sigmoid for a yes-or-no score"
        )
    if task == "labels" and task not in kind.task:
        raise ClassifierError(
            f"target.measure: the classifier's labels do not compete (it is multi-label), and {a_measure} by softmax "
            "has no meaning; write measure: sigmoid"
        )
    if task == "values" and task not in kind.task:
        raise ClassifierError(
            f"target.measure: the classifier is a regression, and {a_measure} of its output has no meaning; write "
            "measure: value"
        )


def predicted(outputs: np.ndarray) -> np.ndarray:
    """The predicted class of each picture, shape (N,)."""
    return np.asarray(outputs.argmax(axis=1))


def decision_threshold(target: Target) -> float | None:
    """What the measure is above for a picture of the explained class; None where the predicted class decides."""
    return target.kind.threshold if target.threshold is None else target.threshold
