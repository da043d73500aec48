"""What the adapters share: the loop over batches, and one look at what comes back."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image
from scipy.special import logit

from diffex_dagster.errors import ClassifierError

if TYPE_CHECKING:
    from diffex_dagster.classifying.gradcam import Differentiable

SMALLEST = 1e-12  # a probability below it is taken as this one, so that its logarithm exists


class BatchedClassifier:
    """A classifier that scores a batch at a time. A kind of classifier overrides `_labels`, `_identity`, `_outputs`.

    Args:
        name: how messages call it: its file, address or checkpoint.
        batch_size: pictures at a time.
        outputs: whether the model returns logits or probabilities.
    """

    def __init__(self, name: str, batch_size: int = 32, outputs: Literal["logits", "probabilities"] = "logits") -> None:
        self.name, self.batch_size, self.outputs = name, batch_size, outputs

    def _labels(self) -> tuple[str, ...]:
        """Class names, without loading the weights."""
        raise NotImplementedError

    def _identity(self) -> Any:
        """Everything that changes an output, as JSON-serialisable data, without loading the weights."""
        raise NotImplementedError

    def _outputs(self, pictures: list[Image.Image]) -> np.ndarray:
        """RGB pictures -> the model's outputs, shape (N, C) or (N,)."""
        raise NotImplementedError

    def differentiable(self) -> Differentiable | None:
        """The model for gradients, loading its weights; None where it is no torch module that can be looked into."""
        return None

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the output's columns."""
        return self._labels()

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of weights, preprocessing and library versions."""
        parts = json.dumps([type(self).__name__, self.outputs, self._identity()], sort_keys=True, default=str)
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """RGB pictures -> logits, float64 of shape (len(pictures), len(labels)).

        Probabilities come back as their logarithms, whose softmax they are; one number for two classes is the
        log-odds (or the probability) of the second.

        Raises:
            ClassifierError: the model cannot be loaded or asked, or what it returns fits neither pictures nor labels.
        """
        parts = [np.empty((0, len(self.labels)))]
        for start in range(0, len(pictures), self.batch_size):
            batch = [picture.convert("RGB") for picture in pictures[start : start + self.batch_size]]
            parts.append(self._checked(np.asarray(self._outputs(batch), dtype=np.float64), len(batch)))
        return np.concatenate(parts)

    def _checked(self, outputs: np.ndarray, count: int) -> np.ndarray:
        if outputs.ndim == 1 and len(outputs) == count:
            outputs = outputs[:, None]
        if outputs.ndim != 2 or len(outputs) != count:
            raise ClassifierError(
                f"{self.name}: the classifier returned an array of shape {outputs.shape} for {count} pictures; it must "
                f"return one row of outputs for each picture, ({count}, {len(self.labels)})"
            )
        if not np.isfinite(outputs).all():
            raise ClassifierError(
                f"{self.name}: the classifier returned values that are not finite; check its weights and preprocessing"
            )
        if self.outputs == "probabilities":
            if outputs.min() < -1e-3 or outputs.max() > 1 + 1e-3:
                raise ClassifierError(
                    f"{self.name}: outputs: the classifier returned {outputs.min():.3g} to {outputs.max():.3g}, which "
                    "are no probabilities; write outputs: logits"
                )
            outputs = np.clip(outputs, SMALLEST, 1.0)
            single = outputs.shape[1] == 1 and len(self.labels) == 2
            outputs = logit(np.minimum(outputs, 1 - SMALLEST)) if single else np.log(outputs)
        if outputs.shape[1] == 1 and len(self.labels) == 2:
            outputs = np.hstack([np.zeros_like(outputs), outputs])
        if outputs.shape[1] != len(self.labels):
            raise ClassifierError(
                f"{self.name}: labels: the classifier returns {outputs.shape[1]} outputs but {len(self.labels)} "
                "classes are named; name one for each output, in their order"
            )
        return outputs
