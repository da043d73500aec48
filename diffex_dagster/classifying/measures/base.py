"""What every target measure has; see `measures.kinds`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diffex_dagster.classifying.measures.fields import TargetFields
from diffex_dagster.classifying.outputs import Outputs
from diffex_dagster.errors import ClassifierError


@dataclass(frozen=True)
class Scored:
    """What a classifier said of N pictures.

    Attributes:
        outputs: logits, shape (N, classes).
        labels: names of the columns.
        folder: where a function's module may be, besides the installed ones.
        said: what the classifier returns: logits, or what they were made from.
    """

    outputs: np.ndarray
    labels: Sequence[str]
    folder: Path = Path()
    said: Outputs = "logits"


class Measure:
    """A target measure. A kind is a subclass with `name`, `values` and `quantity`, and one line in `measures.kinds`."""

    name: ClassVar[str]
    bounded: ClassVar[bool] = False  # a probability: no effect leaves [−1, 1], and it is said in percentage points
    of_a_class: ClassVar[bool] = True  # the target has to name a class
    competing: ClassVar[bool] = False  # compares classes: of a single output it is the same for every picture
    task: ClassVar[frozenset[str]] = frozenset({"classes", "labels", "values"})
    """What outputs may stand for: classes that compete, labels of their own, or values of a regression."""
    of_one_logit: ClassVar[bool] = False  # reads a single class's logit: always 0 where one output stands for two
    exclusive: ClassVar[bool] = True  # a picture is of one class, the predicted one
    takes_what_is_said: ClassVar[bool] = False  # is made from what the classifier returns, not from logits
    threshold: ClassVar[float | None] = None  # above it a picture is of the explained class; None: the prediction says

    def own_fields(self, target: TargetFields, chosen: bool) -> None:
        """Raise ValueError where fields that belong to this measure are set, and it is not chosen, or the reverse."""

    def quantity(self, target: TargetFields) -> str:
        """What an effect is measured in, in words without its unit: `probability of "senior"`, `age`."""
        raise NotImplementedError

    def unit(self, target: TargetFields) -> str:
        """The unit of an effect, which stands behind its numbers: `years`; "" of a measure that has none."""
        return ""

    def called(self, target: TargetFields) -> str:
        """What is compared with a threshold: "the margin", "age"."""
        return target.name or f"the {target.label or 'measure'}"

    def values(self, scored: Scored, target: TargetFields) -> np.ndarray:
        """The measure of each picture, shape (N,).

        Raises:
            ClassifierError: the classifier has no such class.
        """
        raise NotImplementedError

    def boundary(self, scored: Scored, target: TargetFields) -> np.ndarray | None:
        """The value of the measure at which each picture's predicted class changes to or from the explained one, (N,).

        None of a measure of which that cannot be said.
        """
        return None

    def check(self, labels: Sequence[str], target: TargetFields) -> None:
        """Raise ClassifierError where a classifier of these classes lacks what the target names."""
        for label in target.labels or (only_label(labels, target),):
            class_index(labels, label, "labels" if target.labels else "label")
        if target.against is not None:
            class_index(labels, target.against, "against")

    def score(self, logits: Any, labels: Sequence[str], target: TargetFields) -> Any:
        """What an attribution map is of: torch logits (N, classes) -> (N,), with gradients; the class's logit.

        Raises:
            ClassifierError: it has no gradient.
        """
        return logits[:, list(labels).index(target.label) if target.label else 0]

    def has_gradient(self) -> bool:
        """Whether `score` can be asked."""
        return True

    def column(self, scored: Scored, target: TargetFields) -> int:
        """The column of the class that is explained."""
        return class_index(scored.labels, only_label(scored.labels, target))

    def highest_other(self, scored: Scored, target: TargetFields) -> np.ndarray | None:
        """The highest logit of any class but the explained one, (N,); None where there is no other."""
        others = np.delete(scored.outputs, self.column(scored, target), axis=1)
        return np.asarray(others.max(axis=1)) if others.shape[1] else None


def with_article(name: str) -> str:
    """A measure's name inside a sentence."""
    return {"expected": "an expected value", "sigmoid": "a sigmoid"}.get(name, f"a {name}")


def only_label(labels: Sequence[str], target: TargetFields) -> str:
    """The label that is explained; a regression with one output need not name it."""
    if target.label or len(labels) != 1:
        return target.label
    return labels[0]


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
