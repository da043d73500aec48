"""The target measure f: what an effect is measured in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffex_dagster.classifying.outputs import Outputs, as_said
from diffex_dagster.classifying.parts import Target
from diffex_dagster.errors import ClassifierError
from diffex_dagster.utils.imports import at_own_code, load_object


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
    from scipy.special import expit, softmax

    if target.measure == "function":
        assert target.function is not None
        own = load_object(target.function, folder, "target.function")
        doing = f"target.function: {target.function} fails on the outputs of {len(outputs)} pictures"
        with at_own_code(doing, "mend it: no edit or score is lost", ClassifierError):
            values = np.asarray(own(as_said(outputs, said), tuple(labels)), dtype=np.float64)
        if values.shape != (len(outputs),) or not np.isfinite(values).all():
            raise ClassifierError(
                f"target.function: {target.function} returned an array of shape {values.shape} for {len(outputs)} "
                f"pictures; it must return one finite number for each, ({len(outputs)},)"
            )
        return values
    if target.measure == "expected":
        return np.asarray(softmax(outputs, axis=1) @ class_values(labels, target))
    columns = [class_index(labels, label) for label in target.labels or (_label(labels, target),)]
    column = outputs[:, columns[0]]
    match target.measure:
        case "probability":
            return np.asarray(softmax(outputs, axis=1)[:, columns].sum(axis=1))
        case "sigmoid":
            return np.asarray(expit(column))
        case "margin":
            assert target.against is not None
            return np.asarray(column - outputs[:, class_index(labels, target.against)])
        case "logit" if said == "probabilities":  # log-odds: the logarithm alone is none
            others = np.delete(outputs, columns[0], axis=1)
            return np.asarray(column - np.logaddexp.reduce(others, axis=1))
        case "value":
            return np.asarray(as_said(outputs, said)[:, columns[0]])
        case _:
            return np.asarray(column)


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
    threshold = decision_threshold(target)
    if threshold is not None:
        was, is_now = (measure(outputs, labels, target, folder, said) > threshold for outputs in (before, after))
    else:
        columns = [number for number, label in enumerate(labels) if label in target.members]
        was, is_now = (np.isin(predicted(outputs), columns) for outputs in (before, after))
    return np.asarray(~was & is_now), np.asarray(was & ~is_now)


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
    if target.measure == "expected":
        class_values(labels, target)
    elif target.measure != "function":
        for label in target.labels or (_label(labels, target),):
            class_index(labels, label, "labels" if target.labels else "label")
    if target.against is not None:
        class_index(labels, target.against, "against")
    competing = target.measure in ("probability", "margin", "expected")
    if competing and len(labels) == 1:
        raise ClassifierError(
            f"target.measure: the classifier has one output, {labels[0]!r}, and {_a(target.measure)} of it is the same "
            "for every picture; write measure: value for a regression, or measure: sigmoid for a yes-or-no score"
        )
    if task == "labels" and target.measure in ("probability", "expected"):
        raise ClassifierError(
            f"target.measure: the classifier's labels do not compete (it is multi-label), and {_a(target.measure)} by "
            "softmax has no meaning; write measure: sigmoid"
        )
    if task == "values" and target.measure in ("probability", "expected", "sigmoid"):
        raise ClassifierError(
            f"target.measure: the classifier is a regression, and {_a(target.measure)} of its output has no meaning; "
            "write measure: value"
        )


def class_index(labels: Sequence[str], label: str, field: str = "label") -> int:
    """Column of a class; raises ClassifierError naming the known classes, or where several have the name."""
    if label not in labels:
        shown = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        raise ClassifierError(f"target.{field}: the classifier has no class {label!r}; it knows {shown}")
    if list(labels).count(label) > 1:
        numbers = " and ".join(str(number) for number, name in enumerate(labels) if name == label)
        raise ClassifierError(
            f"target.{field}: the classifier calls several classes {label!r} (numbers {numbers}); rename one of them "
            "where its labels come from"
        )
    return list(labels).index(label)


def class_values(labels: Sequence[str], target: Target) -> np.ndarray:
    """What each class stands for under measure: expected, shape (classes,)."""
    values = target.values
    if values is None:
        try:
            return np.array([float(label) for label in labels])
        except ValueError as error:
            raise ClassifierError(
                f"target.values: the classes {', '.join(labels[:5])}{', …' if len(labels) > 5 else ''} are no numbers; "
                "write what each of them stands for, as in values: {young: 20, old: 70}"
            ) from error
    for label in values:
        class_index(labels, label, "values")
    missing = [label for label in labels if label not in values]
    if missing:
        raise ClassifierError(f"target.values: the class {missing[0]!r} has no value; give each class one")
    return np.array([values[label] for label in labels])


def predicted(outputs: np.ndarray) -> np.ndarray:
    """The predicted class of each picture, shape (N,)."""
    return np.asarray(outputs.argmax(axis=1))


def _label(labels: Sequence[str], target: Target) -> str:
    """The label that is explained; a regression with one output need not name it."""
    if target.label or len(labels) != 1:
        return target.label
    return labels[0]


def decision_threshold(target: Target) -> float | None:
    """What the measure is above for a picture of the explained class; None where the predicted class decides."""
    return 0.5 if target.threshold is None and target.measure == "sigmoid" else target.threshold


def _a(name: str) -> str:
    return {"expected": "an expected value", "sigmoid": "a sigmoid"}.get(name, f"a {name}")
