"""The target measure f: what an effect is measured in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax

from diffex_dagster.classifying.parts import Target
from diffex_dagster.errors import ClassifierError
from diffex_dagster.utils.imports import load_object


def measure(outputs: np.ndarray, labels: Sequence[str], target: Target, folder: Path = Path()) -> np.ndarray:
    """Logits -> the target measure.

    Args:
        outputs: logits, shape (N, classes).
        labels: names of the columns.
        target: what is measured: "probability" (softmax), "sigmoid" (of one logit, for multi-label classifiers),
            "logit", "margin" (logit minus that of `against`), "value" (the output as it is) or "function".
        folder: where a function's module may be, besides the installed ones.

    Returns:
        f for each picture, shape (N,).

    Raises:
        ClassifierError: an unknown class name (the message lists the known ones), or a function that returns something
            else than one number a picture.
    """
    if target.measure == "function":
        assert target.function is not None
        values = np.asarray(
            load_object(target.function, folder, "target.function")(outputs, tuple(labels)), dtype=np.float64
        )
        if values.shape != (len(outputs),) or not np.isfinite(values).all():
            raise ClassifierError(
                f"target.function: {target.function} returned an array of shape {values.shape} for {len(outputs)} "
                f"pictures; it must return one finite number for each, ({len(outputs)},)"
            )
        return values
    column = outputs[:, class_index(labels, _label(labels, target))]
    match target.measure:
        case "probability":
            return np.asarray(softmax(outputs, axis=1)[:, class_index(labels, target.label)])
        case "sigmoid":
            return np.asarray(expit(column))
        case "margin":
            assert target.against is not None
            return np.asarray(column - outputs[:, class_index(labels, target.against)])
        case _:
            return np.asarray(column)


def flips(before: np.ndarray, after: np.ndarray, labels: Sequence[str], target: Target, folder: Path) -> np.ndarray:
    """Which pictures an edit flips: the measure crosses the target's threshold, else the predicted class changes.

    A sigmoid's threshold is 0.5 where the target names none, since its classes do not compete.

    Args:
        before, after: logits of the null edits and of the edits, shape (N, classes).

    Returns:
        Booleans of shape (N,).
    """
    threshold = target.threshold
    if threshold is None and target.measure == "sigmoid":
        threshold = 0.5
    if threshold is None:
        return np.asarray(predicted(before) != predicted(after))
    above = [measure(outputs, labels, target, folder) > threshold for outputs in (before, after)]
    return np.asarray(above[0] != above[1])


def check_labels(labels: Sequence[str], target: Target) -> None:
    """Raise ClassifierError when the classifier lacks a class that the target names."""
    if target.measure != "function":
        class_index(labels, _label(labels, target))
    if target.against is not None:
        class_index(labels, target.against, "against")


def class_index(labels: Sequence[str], label: str, field: str = "label") -> int:
    """Column of a class; raises ClassifierError naming the known classes."""
    if label not in labels:
        shown = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        raise ClassifierError(f"target.{field}: the classifier has no class {label!r}; it knows {shown}")
    return list(labels).index(label)


def predicted(outputs: np.ndarray) -> np.ndarray:
    """The predicted class of each picture, shape (N,)."""
    return np.asarray(outputs.argmax(axis=1))


def _label(labels: Sequence[str], target: Target) -> str:
    """The label that is explained; a regression with one output need not name it."""
    if target.label or len(labels) != 1:
        return target.label
    return labels[0]
