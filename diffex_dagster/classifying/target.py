"""The target measure f: what an effect is measured in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from diffex_dagster.errors import ClassifierError


def measure(
    outputs: np.ndarray, labels: Sequence[str], label: str, kind: str, against: str | None = None
) -> np.ndarray:
    """Logits -> the study's target measure.

    Args:
        outputs: logits, shape (N, classes).
        labels: names of the columns.
        label: the class that is explained.
        kind: "probability" (softmax), "logit", or "margin" (logit minus that of `against`).

    Returns:
        f for each picture, shape (N,).

    Raises:
        ClassifierError: an unknown class name; the message lists the known ones.
    """
    column = class_index(labels, label)
    if kind == "probability":
        return np.asarray(softmax(outputs, axis=1)[:, column])
    if kind == "margin":
        assert against is not None
        return np.asarray(outputs[:, column] - outputs[:, class_index(labels, against)])
    return np.asarray(outputs[:, column])


def class_index(labels: Sequence[str], label: str) -> int:
    """Column of a class; raises ClassifierError naming the known classes."""
    if label not in labels:
        shown = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        raise ClassifierError(f"target.label: the classifier has no class {label!r}; it knows {shown}")
    return list(labels).index(label)


def predicted(outputs: np.ndarray) -> np.ndarray:
    """The predicted class of each picture, shape (N,)."""
    return np.asarray(outputs.argmax(axis=1))
