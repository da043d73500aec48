"""Logits: of a class, and the margin between two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffex_dagster.classifying.measures.base import Measure, Scored, class_index
from diffex_dagster.classifying.measures.fields import TargetFields


class Logit(Measure):
    """The logit of a class; its log-odds where the classifier returns probabilities."""

    name, of_one_logit = "logit", True

    def quantity(self, target: TargetFields) -> str:
        """Of the class."""
        return f'logit of "{target.label}"'

    def values(self, scored: Scored, target: TargetFields) -> np.ndarray:
        """z, or log p − log(1 − p)."""
        column = self.column(scored, target)
        logit = scored.outputs[:, column]
        if scored.said == "probabilities":  # log-odds: the logarithm alone is none
            return np.asarray(logit - np.logaddexp.reduce(np.delete(scored.outputs, column, axis=1), axis=1))
        return np.asarray(logit)

    def boundary(self, scored: Scored, target: TargetFields) -> np.ndarray | None:
        """Where it is the highest of all logits, if the others stay as they are."""
        highest = self.highest_other(scored, target)
        if highest is None or scored.said != "probabilities":
            return highest
        return highest - np.logaddexp.reduce(np.delete(scored.outputs, self.column(scored, target), axis=1), axis=1)


class Margin(Measure):
    """The logit of a class less that of another."""

    name, competing = "margin", True

    def own_fields(self, target: TargetFields, chosen: bool) -> None:
        """It has `against`."""
        if chosen != (target.against is not None):
            raise ValueError("a margin needs 'against', the class it is measured from, and nothing else does")

    def quantity(self, target: TargetFields) -> str:
        """Of one class over the other."""
        return f'margin of "{target.label}" over "{target.against}"'

    def unit(self, target: TargetFields) -> str:
        """Logits, where the target says nothing else."""
        return target.unit or "logits"

    def called(self, target: TargetFields) -> str:
        """The margin."""
        return target.name or "the margin"

    def values(self, scored: Scored, target: TargetFields) -> np.ndarray:
        """z − z of the other."""
        assert target.against is not None
        own, other = self.column(scored, target), class_index(scored.labels, target.against)
        return np.asarray(scored.outputs[:, own] - scored.outputs[:, other])

    def boundary(self, scored: Scored, target: TargetFields) -> np.ndarray | None:
        """Where the class's logit is the highest of all, if the others stay as they are: 0 of two classes."""
        assert target.against is not None
        highest = self.highest_other(scored, target)
        return None if highest is None else highest - scored.outputs[:, class_index(scored.labels, target.against)]

    def score(self, logits: Any, labels: Sequence[str], target: TargetFields) -> Any:
        """The difference of the two logits."""
        return super().score(logits, labels, target) - logits[:, list(labels).index(str(target.against))]
