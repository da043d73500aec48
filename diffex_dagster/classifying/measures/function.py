"""A measure of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffex_dagster.classifying.measures.base import Measure, Scored
from diffex_dagster.classifying.measures.fields import TargetFields
from diffex_dagster.classifying.outputs import as_said
from diffex_dagster.errors import ClassifierError
from diffex_dagster.utils.imports import at_own_code, load_object


class Function(Measure):
    """`module:function` from outputs (N, classes), as the classifier returns them, and labels to the measure."""

    name, of_a_class, takes_what_is_said = "function", False, True

    def own_fields(self, target: TargetFields, chosen: bool) -> None:
        """It has `function`."""
        if chosen != (target.function is not None):
            raise ValueError("measure: function needs 'function' (module:function), and nothing else does")

    def quantity(self, target: TargetFields) -> str:
        """Its name."""
        of = f' of "{target.label}"' if target.label else ""
        return (target.name or f"{target.function}") + of

    def unit(self, target: TargetFields) -> str:
        """What the target says."""
        return target.unit or ""

    def values(self, scored: Scored, target: TargetFields) -> np.ndarray:
        """What it returns.

        Raises:
            ClassifierError: it fails, or returns something else than one finite number a picture.
        """
        assert target.function is not None
        own = load_object(target.function, scored.folder, "target.function")
        pictures = len(scored.outputs)
        doing = f"target.function: {target.function} fails on the outputs of {pictures} pictures"
        with at_own_code(doing, "mend it: no edit or score is lost", ClassifierError):
            values = np.asarray(own(as_said(scored.outputs, scored.said), tuple(scored.labels)), dtype=np.float64)
        if values.shape != (pictures,) or not np.isfinite(values).all():
            raise ClassifierError(
                f"target.function: {target.function} returned an array of shape {values.shape} for {pictures} "
                f"pictures; it must return one finite number for each, ({pictures},)"
            )
        return values

    def check(self, labels: Sequence[str], target: TargetFields) -> None:
        """Nothing is known of it."""

    def has_gradient(self) -> bool:
        """It is no torch code."""
        return False

    def score(self, logits: Any, labels: Sequence[str], target: TargetFields) -> Any:
        """Raise ClassifierError."""
        raise ClassifierError("Grad-CAM needs a target with a class; a function of your own has no gradient")
