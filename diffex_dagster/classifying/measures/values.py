"""Values: an output as it is, and the mean that ordered classes stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffex_dagster.classifying.measures.base import Measure, Scored, class_index
from diffex_dagster.classifying.measures.fields import TargetFields
from diffex_dagster.classifying.outputs import as_said
from diffex_dagster.errors import ClassifierError


class Value(Measure):
    """An output as the classifier returns it: of a regression."""

    name, of_a_class, takes_what_is_said = "value", False, True

    def quantity(self, target: TargetFields) -> str:
        """What the output is called."""
        return f'value of "{target.label}"' if target.label else (target.name or "value of the output")

    def unit(self, target: TargetFields) -> str:
        """That of the output, as the target says it."""
        return target.unit or ""

    def values(self, scored: Scored, target: TargetFields) -> np.ndarray:
        """The output."""
        return np.asarray(as_said(scored.outputs, scored.said)[:, self.column(scored, target)])


class Expected(Measure):
    """The mean of the classes' values, weighted with their probabilities."""

    name, of_a_class, competing, task = "expected", False, True, frozenset({"classes"})

    def own_fields(self, target: TargetFields, chosen: bool) -> None:
        """It has `values`, and is of all classes."""
        if target.values is not None and not chosen:
            raise ValueError("'values' belong to measure: expected, which is their mean; add it, or leave them out")
        if chosen and target.label:
            raise ValueError("measure: expected is of all classes; leave 'label' out, and call it with 'name'")

    def quantity(self, target: TargetFields) -> str:
        """What is expected."""
        return f"expected {target.name or 'value'}"

    def unit(self, target: TargetFields) -> str:
        """That of the classes' values, as the target says it."""
        return target.unit or ""

    def values(self, scored: Scored, target: TargetFields) -> np.ndarray:
        """Σ p_k v_k."""
        from scipy.special import softmax

        return np.asarray(softmax(scored.outputs, axis=1) @ class_values(scored.labels, target))

    def check(self, labels: Sequence[str], target: TargetFields) -> None:
        """Each class has a value."""
        class_values(labels, target)

    def score(self, logits: Any, labels: Sequence[str], target: TargetFields) -> Any:
        """Itself."""
        import torch

        values = torch.as_tensor(class_values(labels, target), dtype=logits.dtype, device=logits.device)
        return logits.softmax(dim=1) @ values


def class_values(labels: Sequence[str], target: TargetFields) -> np.ndarray:
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
