"""What a classifier is: a callable from pictures to outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image


class Classifier(Protocol):
    """Scores pictures. `labels` name the columns of its output; `fingerprint` covers weights and preprocessing.

    Attributes:
        labels: class names, in the order of the output's columns.
        fingerprint: hash of all that changes an output: two classifiers of one fingerprint share their scores.

    One that asks a server says so by `networked = True`: with workers, it still scores in the process in charge.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the output's columns."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of weights, preprocessing and library versions."""
        ...

    def __call__(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Score pictures.

        Args:
            pictures: RGB pictures, N of any size.

        Returns:
            Logits, float64 of shape (N, classes), a column for each of `labels`. What returns something else says so by
            an attribute `outputs`: "probabilities" (rows sum to 1), "sigmoid" (one for each label), or "values" of a
            regression in the target's unit.

        Raises:
            ClassifierError: the weights cannot be loaded, or the service does not answer.
        """
        ...
