"""What a classifier is: a callable from pictures to outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image


class Classifier(Protocol):
    """Scores pictures. `labels` name the columns of its output; `fingerprint` covers weights and preprocessing.

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
        """RGB pictures -> logits, float64 of shape (len(pictures), len(labels))."""
        ...
