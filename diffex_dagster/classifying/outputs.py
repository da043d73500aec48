"""What a model returned, as one row of numbers for each picture: the one place where every form is taken apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from diffex_dagster.errors import ClassifierError

Outputs = Literal["sigmoid", "logits", "probabilities"]
"""What a model returns: logits, probabilities of classes that compete (a row sums to 1), or one probability of its own
for each class (multi-label)."""

SMALLEST = 1e-12  # a probability below it is taken as this one, so that its logarithm exists
ROUNDED = 0.05  # how far a row of probabilities may be from a sum of 1: services round them
SUM_OF_HALF = 2e-3  # how far a softmax in half precision is from it
ENOUGH = 4  # rows that sum to 1 by chance so often do not exist


def rows_of(returned: Any, count: int, classes: int, name: str) -> np.ndarray:
    """What a model returned for a batch -> float64 of shape (count, columns).

    Tensors, arrays and lists; a dict, named tuple or object with `logits`; a dict or tuple with a single entry that can
    be the scores; axes of length 1 are dropped, so (N, C, 1, 1) is (N, C).

    Args:
        returned: by the model.
        count: pictures that it was given.
        classes: how many are named.
        name: of the classifier, for messages.

    Raises:
        ClassifierError: there are several entries that could be the scores, or the shape does not fit the pictures.
    """
    found = entry(returned, count, classes, name)
    array = _array(found)
    if array.dtype == object or array.dtype.kind in "USV":
        raise ClassifierError(
            f"{name}: the classifier returned {type(returned).__name__} with {array.dtype} in it for {count} pictures; "
            f"it must return one row of numbers for each picture, ({count}, {classes})"
        )
    rows = _two_axes(array, count)
    if rows is None:
        alone = (
            "; it looks at one picture at a time: set batch_size: 1" if array.shape[:1] == (1,) and count > 1 else ""
        )
        raise ClassifierError(
            f"{name}: the classifier returned an array of shape {array.shape} for {count} pictures; it must return one "
            f"row of outputs for each picture, ({count}, {classes}){alone}"
        )
    whole = array.dtype.kind in "iub"
    if whole and not isinstance(found, list) and (rows.shape[1] == 1 or array.dtype.itemsize == 1):
        what = "quantised scores" if rows.shape[1] > 1 else "class numbers"
        raise ClassifierError(
            f"{name}: the classifier returned whole numbers ({array.dtype}), which look like {what}; let it return its "
            "scores as floating-point numbers"
        )
    return rows.astype(np.float64)


def entry(returned: Any, count: int, classes: int, name: str) -> Any:
    """The scores in what was returned, which may be a dict, an object or a tuple of several things; see `rows_of`."""
    if isinstance(returned, Mapping):
        if "logits" in returned:
            return returned["logits"]
        entries = {str(key): value for key, value in returned.items()}
    elif getattr(returned, "logits", None) is not None:
        return returned.logits
    elif isinstance(returned, list | tuple) and returned and any(_is_array(each) for each in returned):
        if len(returned) == count and all(_is_array(each) and _dimensions(each) < 2 for each in returned):
            return np.stack([_array(each) for each in returned])  # a row of its own for each picture
        entries = {str(number): value for number, value in enumerate(returned)}
    else:
        return returned
    arrays = {key: value for key, value in entries.items() if _is_array(value)}
    fitting = {key: value for key, value in arrays.items() if _fits(value, count, classes)}
    for choice in (arrays, fitting):
        if len(choice) == 1:
            return next(iter(choice.values()))
    shown = ", ".join(f"{key} {tuple(_array(value).shape)}" for key, value in arrays.items()) or ", ".join(entries)
    raise ClassifierError(
        f"{name}: the classifier returned a {type(returned).__name__} with {shown}; which one holds the scores of "
        f"{classes} classes cannot be told: let it return that one alone, or call it logits"
    )


def _fits(value: Any, count: int, classes: int) -> bool:
    array = _array(value)
    rows = _two_axes(array, count) if array.dtype.kind == "f" else None
    return rows is not None and (rows.shape[1] == classes or (rows.shape[1] == 1 and classes == 2))


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _dimensions(value: Any) -> int:
    return len(value.shape)


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.double() if value.is_floating_point() else value).numpy()
    try:
        return np.asarray(value)
    except ValueError:  # rows of different lengths
        return np.asarray(value, dtype=object)


def _two_axes(array: np.ndarray, count: int) -> np.ndarray | None:
    """(count, columns), axes of length 1 dropped; None where the shape does not fit."""
    if array.ndim == 1 and len(array) == count:
        return array[:, None]
    while array.ndim > 2 and 1 in array.shape[1:]:
        array = np.squeeze(array, axis=1 + array.shape[1:].index(1))
    if array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    return array if array.ndim == 2 and len(array) == count else None


def as_logits(rows: np.ndarray, outputs: Outputs, classes: int, name: str) -> np.ndarray:
    """Rows as a model returned them -> logits (N, classes).

    Probabilities become their logarithms, whose softmax they are; probabilities of their own become their log-odds. One
    column for two classes is the log-odds (or the probability) of the second.

    Raises:
        ClassifierError: values that are not finite, that contradict `outputs`, or as many columns as no class has.
    """
    from scipy.special import logit

    if not np.isfinite(rows).all():
        raise ClassifierError(
            f"{name}: the classifier returned values that are not finite; check its weights and preprocessing"
        )
    single = rows.shape[1] == 1 and classes == 2
    if outputs != "logits" and rows.size and (rows.min() < -1e-3 or rows.max() > 1 + 1e-3):
        percent = rows.min() >= 0 and np.allclose(rows.sum(axis=1), 100, atol=5)
        remedy = "they look like percent: let it divide by 100" if percent else "write outputs: logits"
        raise ClassifierError(
            f"{name}: outputs: the classifier returned {rows.min():.3g} to {rows.max():.3g}, which are no "
            f"probabilities; {remedy}"
        )
    if not single and rows.shape[1] != classes:
        raise ClassifierError(
            f"{name}: labels: the classifier returns {rows.shape[1]} outputs but {classes} classes are named; name one "
            "for each output, in their order"
        )
    if outputs == "probabilities" and not single and classes > 1 and rows.size:
        sums = rows.sum(axis=1)
        if abs(sums - 1).max() > ROUNDED:
            raise ClassifierError(
                f"{name}: outputs: the rows sum to {sums.min():.3g} to {sums.max():.3g}, so these are no probabilities "
                "of classes that compete; write outputs: sigmoid where each output is a probability of its own"
            )
    if outputs != "logits":
        rows = np.clip(rows, SMALLEST, 1.0)
        own = single or outputs == "sigmoid"
        rows = logit(np.minimum(rows, 1 - SMALLEST)) if own else np.log(rows)
    return np.hstack([np.zeros_like(rows), rows]) if single else rows


def as_said(logits: np.ndarray, outputs: Outputs) -> np.ndarray:
    """Logits of `as_logits` -> what the study says that the outputs are, (N, classes)."""
    from scipy.special import expit, softmax

    if outputs == "probabilities":
        return np.asarray(softmax(logits, axis=1))
    return np.asarray(expit(logits)) if outputs == "sigmoid" else logits


def sums_to_one(rows: np.ndarray) -> np.ndarray:
    """Which rows are probabilities of classes that compete by their numbers: several, none negative, their sum 1."""
    if rows.shape[1] < 2:
        return np.zeros(len(rows), dtype=bool)
    return np.asarray((rows.min(axis=1) >= 0) & (abs(rows.sum(axis=1) - 1) < SUM_OF_HALF))


def between_zero_and_one(rows: np.ndarray) -> bool:
    """Whether every column varies and stays within [0, 1], as a sigmoid does."""
    varies = len(rows) > 1 and np.ptp(rows, axis=0).min() > 0
    return bool(varies and rows.min() >= 0 and rows.max() <= 1)


class UnsaidOutputs(ClassifierError):
    """The outputs are not what the study says they are; `outputs` holds what they seem to be, the best first."""

    def __init__(self, message: str, outputs: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.outputs = tuple(outputs)


def contradiction(name: str, said: str, seen: str, outputs: Sequence[str]) -> UnsaidOutputs:
    """The error for outputs that are not what the study (or nobody) says they are."""
    remedy = " or ".join(f"outputs: {each}" for each in outputs)
    return UnsaidOutputs(f"{name}: outputs: {seen}, and {said}; write {remedy}", outputs)
