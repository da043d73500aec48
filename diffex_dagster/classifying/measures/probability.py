"""Probabilities: by softmax of classes that compete, by sigmoid of labels that do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from diffex_dagster.classifying.measures.base import Measure, Scored, class_index, only_label
from diffex_dagster.classifying.measures.fields import TargetFields


class Probability(Measure):
    """Softmax; of several classes the sum."""

    name, bounded, competing, task = "probability", True, True, frozenset({"classes"})

    def own_fields(self, target: TargetFields, chosen: bool) -> None:
        """Several classes are summed."""
        if target.labels and not chosen:
            raise ValueError("several 'labels' are summed as probabilities; leave 'measure' out, or name one 'label'")

    def quantity(self, target: TargetFields) -> str:
        """Of the class."""
        return f'probability of "{target.label}"'

    def values(self, scored: Scored, target: TargetFields) -> np.ndarray:
        """Σ softmax(z) over the classes."""
        from scipy.special import softmax

        return np.asarray(softmax(scored.outputs, axis=1)[:, self._columns(scored, target)].sum(axis=1))

    def boundary(self, scored: Scored, target: TargetFields) -> np.ndarray | None:
        """Where the class is as probable as the most probable other one: ½ of two classes.

        What the explained classes gain, the others lose in proportion, and the other way round. With u the largest
        share of one explained class in their sum and q that of one other class in the rest, it is q / (u + q).
        """
        from scipy.special import softmax

        columns = self._columns(scored, target)
        own, others = scored.outputs[:, columns], np.delete(scored.outputs, columns, axis=1)
        if not others.shape[1]:
            return None
        u, q = softmax(own, axis=1).max(axis=1), softmax(others, axis=1).max(axis=1)
        return np.asarray(q / (u + q))

    def _columns(self, scored: Scored, target: TargetFields) -> list[int]:
        return [class_index(scored.labels, each) for each in target.labels or (only_label(scored.labels, target),)]

    def score(self, logits: Any, labels: Sequence[str], target: TargetFields) -> Any:
        """The class's logit, as Grad-CAM does; of several the logarithm of their summed exponentials."""
        if target.labels:
            return logits[:, [list(labels).index(label) for label in target.labels]].logsumexp(dim=1)
        return super().score(logits, labels, target)


class Sigmoid(Measure):
    """The probability of one label, whatever the others are."""

    name, bounded, task = "sigmoid", True, frozenset({"classes", "labels"})
    of_one_logit, exclusive = True, False
    threshold: ClassVar[float | None] = 0.5

    def quantity(self, target: TargetFields) -> str:
        """Of the label."""
        return f'probability of "{target.label}" (sigmoid)'

    def values(self, scored: Scored, target: TargetFields) -> np.ndarray:
        """σ(z)."""
        from scipy.special import expit

        return np.asarray(expit(scored.outputs[:, self.column(scored, target)]))
